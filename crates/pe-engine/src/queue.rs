//! Reports on their way to one reader: bounded, and never waited for by the one who publishes.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pe_scrape::CycleReport;
use tokio::sync::{Notify, watch};

/// Reports of one group that wait for a reader, at the most. A report holds up to some 20 MB (100,000 devices), so this
/// bounds the memory that a reader who hangs can cost.
const WAITING_PER_GROUP: usize = 4;

/// What a reader gets.
#[derive(Debug, Clone)]
pub(crate) enum Item {
    /// A finished cycle.
    Report(Arc<CycleReport>),
    /// The groups in force after a reload.
    Retain(Arc<[Arc<str>]>),
}

/// A queue with one reader.
#[derive(Debug)]
pub(crate) struct ReportQueue {
    state: Mutex<State>,
    wake: Notify,
    /// Whether nothing waits and nothing is in the reader's hands.
    idle: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct State {
    items: VecDeque<Item>,
    /// Reports of each group that wait.
    waiting: HashMap<Arc<str>, usize>,
    skipped: u64,
    closed: bool,
}

impl ReportQueue {
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::default(),
            wake: Notify::new(),
            idle: watch::Sender::new(true),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an item, unless the queue is closed. Returns whether an older report was dropped for it.
    pub(crate) fn push(&self, item: Item) -> bool {
        let mut state = self.state();
        if state.closed {
            return false;
        }
        let dropped = match &item {
            Item::Report(report) => state.make_room(&report.group),
            Item::Retain(_) => {
                state.thin_out();
                None
            }
        };
        state.items.push_back(item);
        self.idle.send_replace(false);
        let skipped = dropped.is_some();
        state.skipped += u64::from(skipped);
        drop(state);
        self.wake.notify_one();
        skipped
    }

    /// Puts reports in front of all others, but for those of groups that have one already: what was published before the
    /// reader came.
    pub(crate) fn push_older(&self, reports: impl IntoIterator<Item = Arc<CycleReport>>) {
        let mut state = self.state();
        let mut any = false;
        for report in reports {
            if !state.closed && !state.waiting.contains_key(&report.group) {
                state.waiting.insert(report.group.clone(), 1);
                state.items.push_front(Item::Report(report));
                any = true;
            }
        }
        if any {
            self.idle.send_replace(false);
            self.wake.notify_one();
        }
    }

    /// The next item, once there is one; `None` when the queue is closed and empty. Whoever asks again is done with the one
    /// before.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub(crate) async fn next(&self) -> Option<Item> {
        loop {
            {
                let mut state = self.state();
                if let Some(item) = state.pop() {
                    return Some(item);
                }
                self.idle.send_replace(true);
                if state.closed {
                    return None;
                }
            }
            self.wake.notified().await;
        }
    }

    /// Takes no more items; those that wait may still be read.
    pub(crate) fn close(&self) {
        self.state().closed = true;
        self.wake.notify_one();
    }

    /// Returns when nothing waits and the reader asks for more.
    pub(crate) async fn drained(&self) {
        let mut idle = self.idle.subscribe();
        // The sender lives as long as `self`.
        let _ = idle.wait_for(|idle| *idle).await;
    }

    /// Reports that were dropped since the reader was too slow.
    pub(crate) fn skipped(&self) -> u64 {
        self.state().skipped
    }
}

impl State {
    fn pop(&mut self) -> Option<Item> {
        let item = self.items.pop_front()?;
        if let Item::Report(report) = &item
            && let Some(waiting) = self.waiting.get_mut(&report.group)
        {
            *waiting -= 1;
            if *waiting == 0 {
                self.waiting.remove(&report.group);
            }
        }
        Some(item)
    }

    /// Drops the oldest word on groups where many wait: what counts is the latest.
    fn thin_out(&mut self) {
        let is_word = |item: &Item| matches!(item, Item::Retain(_));
        let waiting = self.items.iter().filter(|item| is_word(item)).count();
        if waiting >= WAITING_PER_GROUP
            && let Some(oldest) = self.items.iter().position(is_word)
        {
            self.items.remove(oldest);
        }
    }

    /// Counts one more report of `group`; drops its oldest where there are too many.
    fn make_room(&mut self, group: &Arc<str>) -> Option<Item> {
        let waiting = self.waiting.entry(group.clone()).or_default();
        if *waiting < WAITING_PER_GROUP {
            *waiting += 1;
            return None;
        }
        let is_of = |item: &Item| matches!(item, Item::Report(report) if report.group == *group);
        let oldest = self.items.iter().position(is_of)?;
        self.items.remove(oldest)
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn report(group: &str, tick: u64) -> Arc<CycleReport> {
        Arc::new(CycleReport::new(group, tick, SystemTime::UNIX_EPOCH))
    }

    async fn rest(queue: &ReportQueue) -> Vec<String> {
        queue.close();
        let mut all = Vec::new();
        while let Some(item) = queue.next().await {
            all.push(match item {
                Item::Report(report) => format!("{}{}", report.group, report.tick),
                Item::Retain(groups) => format!("retain {}", groups.len()),
            });
        }
        all
    }

    #[tokio::test]
    async fn a_slow_reader_misses_the_oldest_reports_of_a_group() {
        let queue = ReportQueue::new();
        assert!(!queue.push(Item::Report(report("rare", 0))));
        for tick in 0..6 {
            let dropped = queue.push(Item::Report(report("often", tick)));
            assert_eq!(dropped, tick >= 4);
        }
        queue.push(Item::Retain(Arc::new([])));
        assert_eq!(queue.skipped(), 2);
        let expected = ["rare0", "often2", "often3", "often4", "often5", "retain 0"];
        assert_eq!(rest(&queue).await, expected);
    }

    #[tokio::test]
    async fn a_reader_that_hangs_over_many_reloads_costs_a_few_words() {
        let queue = ReportQueue::new();
        for reload in 0..100 {
            queue.push(Item::Retain([format!("g{reload}").into()].into()));
        }
        queue.close();
        let mut told = Vec::new();
        while let Some(Item::Retain(groups)) = queue.next().await {
            told.push(groups[0].to_string());
        }
        assert_eq!(told, ["g96", "g97", "g98", "g99"]);
    }

    #[tokio::test]
    async fn what_was_published_before_comes_first_and_never_after_newer_results() {
        let queue = ReportQueue::new();
        queue.push(Item::Report(report("a", 7)));
        queue.push_older([report("a", 6), report("b", 1)]);
        assert_eq!(rest(&queue).await, ["b1", "a7"]);
    }

    #[tokio::test]
    async fn a_queue_is_drained_when_the_reader_asks_for_more() {
        let queue = Arc::new(ReportQueue::new());
        queue.drained().await;
        queue.push(Item::Report(report("a", 0)));
        let drained = tokio::spawn({
            let queue = queue.clone();
            async move { queue.drained().await }
        });
        queue.next().await.unwrap();
        tokio::task::yield_now().await;
        assert!(!drained.is_finished());
        queue.close();
        assert!(queue.next().await.is_none());
        drained.await.unwrap();
    }
}
