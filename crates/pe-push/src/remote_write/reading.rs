//! What a sink reads: its part of the shared queue, and what lies beside it.

use std::sync::Arc;

use pe_scrape::Backlog;

use super::selection::Reduce;
use crate::SampleBlock;
use crate::queue::{BlockId, Order, QueueHandle, QueueReader};

/// Where a block was read. Later ones are greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    source: Source,
    id: BlockId,
}

/// The queues that a sink may read, in the order of what is in them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    /// A queue of its own, which an earlier version wrote.
    Former,
    Shared,
    /// Markers for the receiver of a sink that is removed.
    Farewell,
}

const STRICT: [Source; 3] = [Source::Former, Source::Shared, Source::Farewell];
const FRESH_FIRST: [Source; 3] = [Source::Farewell, Source::Shared, Source::Former];

/// The readers of a sink.
pub(super) struct Reading {
    order: Order,
    former: Option<Former>,
    shared: QueueReader,
    farewell: Option<QueueReader>,
    reduce: Reduce,
}

struct Former {
    reader: QueueReader,
    queue: QueueHandle,
}

impl Reading {
    pub(super) fn new(sink: &str, order: Order, shared: &QueueHandle, reduce: Reduce) -> Self {
        Self {
            order,
            former: None,
            shared: shared.reader(sink, order),
            farewell: None,
            reduce,
        }
    }

    pub(super) fn has_former(&self) -> bool {
        self.former.is_some()
    }

    /// Reads the queue that an earlier version wrote for the sink too.
    pub(super) fn add_former(&mut self, sink: &str, queue: QueueHandle) {
        let reader = queue.reader(sink, self.order);
        self.former = Some(Former { reader, queue });
    }

    /// Reads the last markers too.
    pub(super) fn add_farewell(&mut self, reader: QueueReader) {
        self.farewell = Some(reader);
    }

    /// The next block, reduced to what the sink takes; `None` where nothing is left of it.
    pub(super) async fn next(
        &mut self,
        all_markers: bool,
    ) -> Option<(Place, Option<Arc<SampleBlock>>)> {
        let sources = match self.order {
            Order::Strict => STRICT,
            Order::FreshFirst => FRESH_FIRST,
        };
        for source in sources {
            let Some(reader) = self.reader_mut(source) else {
                continue;
            };
            if let Some((id, block)) = reader.try_next().await {
                let reduced = self.reduce.reduce(block, all_markers);
                return Some((Place { source, id }, reduced));
            }
        }
        None
    }

    pub(super) fn acknowledge(&self, places: impl IntoIterator<Item = Place>) {
        let mut by_source = [const { Vec::new() }; STRICT.len()];
        for place in places {
            by_source[place.source as usize].push(place.id);
        }
        for (source, ids) in STRICT.into_iter().zip(by_source) {
            if let Some(reader) = self.reader(source).filter(|_| !ids.is_empty()) {
                reader.acknowledge(ids);
            }
        }
    }

    /// Settles times; the future says whether all are as wanted.
    pub(super) fn settle(&self, times: Vec<(Place, i64)>) -> impl Future<Output = bool> + use<> {
        let mut by_source = [const { Vec::new() }; STRICT.len()];
        for (place, time) in times {
            by_source[place.source as usize].push((place.id, time));
        }
        let sources = STRICT.into_iter().zip(by_source);
        let settled: Vec<_> = sources
            .filter(|(_, times)| !times.is_empty())
            .filter_map(|(source, times)| Some(self.reader(source)?.settle(times)))
            .collect();
        async {
            let mut are_equal = true;
            for settled in settled {
                are_equal &= settled.await;
            }
            are_equal
        }
    }

    pub(super) fn rewind(&mut self) {
        for source in STRICT {
            if let Some(reader) = self.reader_mut(source) {
                reader.rewind();
            }
        }
    }

    pub(super) fn backlog(&self) -> Backlog {
        let mut sum = Backlog::default();
        for reader in STRICT.into_iter().filter_map(|source| self.reader(source)) {
            let backlog = reader.backlog();
            sum.samples += backlog.samples;
            sum.bytes += backlog.bytes;
            sum.oldest = [sum.oldest, backlog.oldest].into_iter().flatten().min();
        }
        sum
    }

    /// Leaves the former queue if all of it was acknowledged; returns whether it did. All that asked for it before is done then.
    pub(super) async fn leave_former(&mut self) -> bool {
        let Some(former) = &self.former else {
            return false;
        };
        if former.reader.backlog().samples > 0 || !former.reader.is_done().await {
            return false;
        }
        former.queue.flush().await;
        self.former = None;
        true
    }

    fn reader(&self, source: Source) -> Option<&QueueReader> {
        match source {
            Source::Former => self.former.as_ref().map(|former| &former.reader),
            Source::Shared => Some(&self.shared),
            Source::Farewell => self.farewell.as_ref(),
        }
    }

    fn reader_mut(&mut self, source: Source) -> Option<&mut QueueReader> {
        match source {
            Source::Former => self.former.as_mut().map(|former| &mut former.reader),
            Source::Shared => Some(&mut self.shared),
            Source::Farewell => self.farewell.as_mut(),
        }
    }
}
