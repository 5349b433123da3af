//! The queue as sinks use it: appending never waits, reading is asynchronous.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use pe_scrape::Backlog;
use tokio::sync::Notify;

use super::{BlockId, Order, QueueLimits};
use crate::SampleBlock;

/// A queue whose I/O is done elsewhere. Clones are the same queue.
#[derive(Clone)]
pub struct QueueHandle {
    shared: Arc<Shared>,
}

/// Reads for one sink, by its name. What was read and not acknowledged is read again after [`rewind`](Self::rewind) or a
/// restart.
pub struct QueueReader {
    shared: Arc<Shared>,
    sink: Arc<str>,
    order: Order,
}

struct Shared {
    state: Mutex<State>,
    appended: Notify,
}

#[derive(Default)]
struct State {
    blocks: VecDeque<(BlockId, Arc<SampleBlock>)>,
    next_id: u64,
    cursors: BTreeMap<Arc<str>, Cursor>,
    limit: usize,
}

#[derive(Default)]
struct Cursor {
    unread: BTreeSet<BlockId>,
    unacknowledged: BTreeSet<BlockId>,
}

impl QueueHandle {
    /// A queue in memory.
    #[must_use]
    pub fn in_memory(limits: QueueLimits) -> Self {
        let state = State {
            limit: usize::try_from(limits.bytes).unwrap_or(usize::MAX),
            ..State::default()
        };
        let shared = Shared {
            state: Mutex::new(state),
            appended: Notify::new(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Appends a block. Returns at once; what cannot be taken is dropped, oldest first, and counted.
    pub fn append(&self, block: Arc<SampleBlock>) {
        let mut state = self.shared.lock();
        let id = BlockId(state.next_id);
        state.next_id += 1;
        for cursor in state.cursors.values_mut() {
            cursor.unread.insert(id);
        }
        state.blocks.push_back((id, block));
        let bytes = |block: &SampleBlock| block.columns.iter().map(|c| c.len() * 8).sum::<usize>();
        let mut held: usize = state.blocks.iter().map(|(_, block)| bytes(block)).sum();
        while held > state.limit {
            let Some((id, block)) = state.blocks.pop_front() else {
                break;
            };
            held -= bytes(&block);
            for cursor in state.cursors.values_mut() {
                cursor.unread.remove(&id);
                cursor.unacknowledged.remove(&id);
            }
        }
        drop(state);
        self.shared.appended.notify_waiters();
    }

    /// A reader for the sink of that name. A sink that the queue knows from before goes on where it was; a new one starts with
    /// the next block that is appended.
    #[must_use]
    pub fn reader(&self, sink: &str, order: Order) -> QueueReader {
        let sink: Arc<str> = sink.into();
        let mut state = self.shared.lock();
        let cursor = state.cursors.entry(sink.clone()).or_default();
        cursor.unread.append(&mut cursor.unacknowledged);
        drop(state);
        QueueReader {
            shared: self.shared.clone(),
            sink,
            order,
        }
    }

    /// Forgets the sinks that are not among these: what waits for them alone is dropped.
    pub fn retain(&self, sinks: &[&str]) {
        let mut state = self.shared.lock();
        state.cursors.retain(|name, _| sinks.contains(&&**name));
    }

    /// Returns when all that was appended before survives a power cut, as far as the disk takes it.
    ///
    /// # Cancel safety
    /// Dropping it changes nothing: it is written all the same.
    pub async fn flush(&self) {
        tokio::task::yield_now().await;
    }
}

impl QueueReader {
    /// The next block; waits while there is none.
    ///
    /// # Cancel safety
    /// No block is lost if this is dropped: the next call returns it.
    pub async fn next(&mut self) -> (BlockId, Arc<SampleBlock>) {
        loop {
            let shared = self.shared.clone();
            let appended = shared.appended.notified();
            if let Some(next) = self.try_next().await {
                return next;
            }
            appended.await;
        }
    }

    /// The next block, if there is one.
    ///
    /// # Cancel safety
    /// As [`next`](Self::next).
    pub async fn try_next(&mut self) -> Option<(BlockId, Arc<SampleBlock>)> {
        let mut state = self.shared.lock();
        let cursor = state.cursors.get_mut(&self.sink)?;
        let id = match self.order {
            Order::Strict => cursor.unread.pop_first()?,
            Order::FreshFirst => cursor.unread.pop_last()?,
        };
        cursor.unacknowledged.insert(id);
        let found = state.blocks.iter().find(|(block, _)| *block == id);
        found.cloned()
    }

    /// Says that these blocks need not be read again. Returns at once; it survives a power cut a moment later, so that after
    /// one a block may come again, with equal times and values.
    pub fn acknowledge(&self, ids: impl IntoIterator<Item = BlockId>) {
        let mut state = self.shared.lock();
        if let Some(cursor) = state.cursors.get_mut(&self.sink) {
            for id in ids {
                cursor.unacknowledged.remove(&id);
            }
        }
    }

    /// Starts again with what was read and is not acknowledged.
    pub fn rewind(&mut self) {
        let mut state = self.shared.lock();
        if let Some(cursor) = state.cursors.get_mut(&self.sink) {
            cursor.unread.append(&mut cursor.unacknowledged);
        }
    }

    /// What this sink has not acknowledged.
    #[must_use]
    pub fn backlog(&self) -> Backlog {
        let state = self.shared.lock();
        let mut backlog = Backlog::default();
        let Some(cursor) = state.cursors.get(&self.sink) else {
            return backlog;
        };
        for (id, block) in &state.blocks {
            if cursor.unread.contains(id) || cursor.unacknowledged.contains(id) {
                let cells = block.columns.iter().flatten();
                let present = cells.filter(|value| !pe_scrape::is_absent(**value)).count();
                backlog.samples += present as u64;
                backlog.bytes += (block.rows.len() * block.metrics.len() * 8) as u64;
                let time = UNIX_EPOCH + Duration::from_millis(block.time.wall_ms.unsigned_abs());
                backlog.oldest.get_or_insert(time);
            }
        }
        backlog
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
