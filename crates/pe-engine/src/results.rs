//! The latest results of all groups, to be read at any time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::time::Instant;

use pe_scrape::exposition::Block;
use pe_scrape::{CycleReport, LabelSet};

use crate::Finished;
use crate::metrics::GroupMetrics;
use crate::queue::{Item, ReportQueue};
use crate::schedule::now;

/// The latest finished cycle of each group. Cloning is cheap; all clones show the same, also after the engine has ended.
///
/// Values are withheld when nothing was measured in the group for three intervals, or three times as long as its settings let
/// a device take, at least for a minute: see [`CycleReport::is_stale`]. Those of [`Engine::once`](crate::Engine::once) stay.
///
/// It is a collector for a registry of the `prometheus-client` crate too.
#[derive(Debug, Clone, Default)]
pub struct Results {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    latest: RwLock<BTreeMap<Arc<str>, Latest>>,
    readers: Mutex<Readers>,
}

/// The latest report of a group, and when it goes stale.
#[derive(Debug)]
pub(crate) struct Latest {
    pub(crate) report: Arc<CycleReport>,
    pub(crate) stale_at: Instant,
    /// What the group counts: a report that stands in for a stale one tells it.
    pub(crate) metrics: Arc<GroupMetrics>,
}

impl Latest {
    fn is_stale(&self, now: Instant) -> bool {
        self.report.is_stale || now >= self.stale_at
    }

    /// The report to show now.
    fn shown(&self, now: Instant) -> Arc<CycleReport> {
        if self.is_stale(now) && !self.report.is_stale {
            return Arc::new(self.metrics.stale(&self.report));
        }
        self.report.clone()
    }
}

#[derive(Debug, Default)]
struct Readers {
    queues: Vec<Weak<ReportQueue>>,
    /// Whether the engine is gone.
    closed: bool,
}

/// Reports that went stale, which take time to free, and those that stand in for them.
#[derive(Default)]
pub(crate) struct Withheld {
    pub(crate) former: Vec<Arc<CycleReport>>,
    pub(crate) stale: Vec<Arc<CycleReport>>,
    /// When the next group goes stale.
    pub(crate) next: Option<Instant>,
}

impl Results {
    /// The latest report of every group that has finished a cycle, ordered by name. One that is older than a few intervals
    /// has no values: [`CycleReport::is_stale`].
    #[must_use]
    pub fn latest(&self) -> Vec<Arc<CycleReport>> {
        let now = now();
        self.read(|latest| latest.values().map(|latest| latest.shown(now)).collect())
    }

    /// The latest report of one group.
    #[must_use]
    pub fn get(&self, group: &str) -> Option<Arc<CycleReport>> {
        let now = now();
        self.read(|latest| latest.get(group).map(|latest| latest.shown(now)))
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

    /// Puts a report in the place of the group's former one, which is returned.
    pub(crate) fn store(&self, latest: Latest) -> Option<Latest> {
        let report = latest.report.clone();
        let former = self.write().insert(report.group.clone(), latest);
        let mut readers = self.readers();
        readers.queues.retain(|queue| {
            let queue = queue.upgrade();
            if let Some(queue) = &queue {
                queue.push(Item::Report(report.clone()));
            }
            queue.is_some()
        });
        former
    }

    /// Forgets all groups but these. Returns what was there of others, which takes time to free.
    pub(crate) fn retain(&self, groups: &[Arc<str>]) -> Vec<Latest> {
        let groups: std::collections::HashSet<&str> = groups.iter().map(|name| &**name).collect();
        let mut latest = self.write();
        let gone = latest.extract_if(.., |group, _| !groups.contains(&**group));
        gone.map(|(_, latest)| latest).collect()
    }

    /// Puts reports without values in the place of those that have gone stale.
    pub(crate) fn withhold_stale(&self) -> Withheld {
        let now = now();
        let mut withheld = Withheld::default();
        for latest in self.write().values_mut() {
            if latest.report.is_stale {
                continue;
            }
            if latest.is_stale(now) {
                let stale = latest.shown(now);
                let former = std::mem::replace(&mut latest.report, stale.clone());
                withheld.former.push(former);
                withheld.stale.push(stale);
            } else {
                let next = withheld.next.get_or_insert(latest.stale_at);
                *next = latest.stale_at.min(*next);
            }
        }
        withheld
    }

    /// Whether each of these groups has finished a cycle, and none is stale.
    pub(crate) fn are_fresh<'n>(&self, mut groups: impl Iterator<Item = &'n str>) -> bool {
        let now = now();
        let is_fresh = |latest: &Latest| !latest.is_stale(now);
        self.read(|latest| groups.all(|group| latest.get(group).is_some_and(is_fresh)))
    }

    /// Ends all subscriptions.
    pub(crate) fn close(&self) {
        let mut readers = self.readers();
        readers.closed = true;
        for queue in readers.queues.drain(..).filter_map(|queue| queue.upgrade()) {
            queue.close();
        }
    }

    fn read<T>(&self, read: impl FnOnce(&BTreeMap<Arc<str>, Latest>) -> T) -> T {
        let latest = self.inner.latest.read();
        read(&latest.unwrap_or_else(PoisonError::into_inner))
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, BTreeMap<Arc<str>, Latest>> {
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
            let frames = report.frames().chain(&report.passed_on);
            frames
                .map(|frame| &**frame)
                .chain(&report.exporter)
                .map(move |frame| Block::new(frame).labels(exporter.clone()))
        })
        .collect()
}
