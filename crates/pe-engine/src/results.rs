//! The latest results of all groups, to be read at any time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};

use pe_scrape::exposition::Block;
use pe_scrape::{CycleReport, LabelSet};

use crate::Finished;
use crate::queue::{Item, ReportQueue};

/// The latest finished cycle of each group. Cloning is cheap; all clones show the same, also after the engine has ended.
///
/// It is a collector for a registry of the `prometheus-client` crate too.
#[derive(Debug, Clone, Default)]
pub struct Results {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    latest: RwLock<BTreeMap<Arc<str>, Arc<CycleReport>>>,
    readers: Mutex<Readers>,
}

#[derive(Debug, Default)]
struct Readers {
    queues: Vec<Weak<ReportQueue>>,
    /// Whether the engine is gone.
    closed: bool,
}

impl Results {
    /// The latest report of every group that has finished a cycle, ordered by name.
    #[must_use]
    pub fn latest(&self) -> Vec<Arc<CycleReport>> {
        self.read(|latest| latest.values().cloned().collect())
    }

    /// The latest report of one group.
    #[must_use]
    pub fn get(&self, group: &str) -> Option<Arc<CycleReport>> {
        self.read(|latest| latest.get(group).cloned())
    }

    /// The latest value of a gauge or counter of a device, by name: the first one where several series have it. `None` while
    /// there is none.
    #[must_use]
    pub fn value(&self, group: &str, device: &str, metric: &str) -> Option<f64> {
        self.get(group)?.value(device, metric)
    }

    /// Tells of every cycle that finishes from now on.
    ///
    /// ```no_run
    /// # async fn example(results: pe_engine::Results) {
    /// let mut finished = results.subscribe();
    /// while let Some(report) = finished.next().await {
    ///     println!("{}: {} of {} devices are up", report.group, report.states.up, report.device_count);
    /// }
    /// # }
    /// ```
    #[must_use]
    pub fn subscribe(&self) -> Finished {
        let queue = Arc::new(ReportQueue::new());
        let mut readers = self.readers();
        if readers.closed {
            queue.close();
        } else {
            readers.queues.push(Arc::downgrade(&queue));
        }
        drop(readers);
        Finished::new(queue)
    }

    pub(crate) fn store(&self, report: &Arc<CycleReport>) {
        let mut latest = self.write();
        let former = latest.insert(report.group.clone(), report.clone());
        drop(latest);
        drop(former);
        let mut readers = self.readers();
        readers.queues.retain(|queue| {
            let queue = queue.upgrade();
            if let Some(queue) = &queue {
                queue.push(Item::Report(report.clone()));
            }
            queue.is_some()
        });
    }

    pub(crate) fn retain(&self, groups: &[Arc<str>]) {
        let groups: std::collections::HashSet<&str> = groups.iter().map(|name| &**name).collect();
        let mut latest = self.write();
        let gone: Vec<_> = latest
            .extract_if(.., |group, _| !groups.contains(&**group))
            .collect();
        drop(latest);
        drop(gone);
    }

    /// Whether each of these groups has finished a cycle.
    pub(crate) fn has_all<'n>(&self, mut groups: impl Iterator<Item = &'n str>) -> bool {
        self.read(|latest| groups.all(|group| latest.contains_key(group)))
    }

    /// Ends all subscriptions.
    pub(crate) fn close(&self) {
        let mut readers = self.readers();
        readers.closed = true;
        for queue in readers.queues.drain(..).filter_map(|queue| queue.upgrade()) {
            queue.close();
        }
    }

    fn read<T>(&self, read: impl FnOnce(&BTreeMap<Arc<str>, Arc<CycleReport>>) -> T) -> T {
        let latest = self.inner.latest.read();
        read(&latest.unwrap_or_else(PoisonError::into_inner))
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, BTreeMap<Arc<str>, Arc<CycleReport>>> {
        let latest = self.inner.latest.write();
        latest.unwrap_or_else(PoisonError::into_inner)
    }

    fn readers(&self) -> MutexGuard<'_, Readers> {
        let readers = self.inner.readers.lock();
        readers.unwrap_or_else(PoisonError::into_inner)
    }
}

/// All series of `reports`, labelled with the group they come from.
pub(crate) fn blocks(reports: &[Arc<CycleReport>]) -> Vec<Block<'_>> {
    reports
        .iter()
        .flat_map(|report| {
            let exporter = LabelSet::new([("exporter", report.group.clone())]).unwrap_or_default();
            let frames = report.frames().map(|frame| &**frame);
            frames
                .chain(&report.exporter)
                .map(move |frame| Block::new(frame).labels(exporter.clone()))
        })
        .collect()
}
