//! The sinks in force, and the tasks that hand reports to them.
//!
//! A report is put into a queue for each sink; a task takes it out and calls the sink in the blocking pool. So a sink that
//! blocks or panics costs its own reports only.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use pe_scrape::{
    CloseReason, CycleReport, Frame, Sink, SinkConfig, SinkStatus, panic_message, with_causes,
};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{debug, error, warn};

use crate::error::FlushErrors;
use crate::queue::{Item, ReportQueue};
use crate::results::Results;
use crate::shared::Shared;
use crate::tasks::{TaskName, keep_running};

/// What kind of task hands reports to a sink, in logs and metrics.
const TASK: &str = "sink";

/// A sink in force.
pub(crate) struct SinkSlot {
    pub(crate) name: Arc<str>,
    /// What it was made from; `None` for one that the embedding program passed in.
    pub(crate) config: Option<SinkConfig>,
    sink: Arc<dyn Sink>,
    queue: ReportQueue,
    /// Whether it has been told that it is slow, and that it panicked.
    slow: AtomicBool,
    panicked: AtomicBool,
}

impl SinkSlot {
    pub(crate) fn new(name: Arc<str>, config: Option<SinkConfig>, sink: Arc<dyn Sink>) -> Self {
        Self {
            name,
            config,
            sink,
            queue: ReportQueue::new(),
            slow: AtomicBool::new(false),
            panicked: AtomicBool::new(false),
        }
    }

    fn push(&self, item: Item) {
        let dropped = self.queue.push(item);
        if dropped && !self.slow.swap(true, Ordering::Relaxed) {
            warn!(
                sink = &*self.name,
                "the sink takes reports too slowly; it misses some"
            );
        }
    }

    /// Its own metrics; none while it panics.
    pub(crate) fn metrics(&self) -> Vec<Frame> {
        self.contain(|| self.sink.metrics()).unwrap_or_default()
    }

    /// How it fares; nothing is known while it panics.
    pub(crate) fn status(&self) -> SinkStatus {
        self.contain(|| self.sink.status()).unwrap_or_default()
    }

    /// Hands on what comes until the queue is closed and empty.
    async fn deliver(self: Arc<Self>) {
        while let Some(item) = self.queue.next().await {
            let slot = self.clone();
            let delivery = tokio::task::spawn_blocking(move || slot.hand_over(item));
            if delivery.await.is_err() {
                debug!(sink = &*self.name, "the runtime is shutting down");
                return;
            }
        }
    }

    fn hand_over(&self, item: Item) {
        self.contain(|| match item {
            Item::Report(report) => self.sink.publish(report),
            Item::Retain(groups) => self.sink.retain(&groups),
        });
    }

    /// Calls the sink; a panic of it is told once.
    fn contain<T>(&self, call: impl FnOnce() -> T) -> Option<T> {
        let result = catch_unwind(AssertUnwindSafe(call));
        result
            .map_err(|panic| self.note(panic_message(&*panic)))
            .ok()
    }

    fn note(&self, panic: &str) {
        let sink = &*self.name;
        if self.panicked.swap(true, Ordering::Relaxed) {
            debug!(sink, error = panic, "the sink panicked");
        } else {
            error!(sink, error = panic, "the sink panicked; this is told once");
        }
    }

    /// Lets everything that was published arrive.
    async fn flush(&self, grace: Duration) -> Result<(), String> {
        let name = &*self.name;
        let flush = async {
            self.queue.drained().await;
            let flush = AssertUnwindSafe(async { self.sink.flush().await });
            flush.catch_unwind().await
        };
        match timeout(grace, flush).await {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(error))) => Err(format!(
                "{name}: the latest results did not arrive: {}",
                with_causes(&*error)
            )),
            Ok(Err(panic)) => Err(format!(
                "{name}: the sink panicked: {}",
                panic_message(&*panic)
            )),
            Err(_) => Err(format!(
                "{name}: the latest results could not be handed on within {grace:?}"
            )),
        }
    }
}

impl SinkSlot {
    /// Ends the sink.
    async fn close(&self, reason: CloseReason, grace: Duration) {
        let close = AssertUnwindSafe(async { self.sink.close(reason).await });
        match timeout(grace, close.catch_unwind()).await {
            Ok(Ok(())) => {}
            Ok(Err(panic)) => self.note(panic_message(&*panic)),
            Err(_) => warn!(
                sink = &*self.name,
                "what a peer keeps could not be withdrawn within the grace time"
            ),
        }
    }
}

/// The sinks in force. Readers get a copy of the list, so that none waits for another.
#[derive(Default)]
pub(crate) struct Sinks(Mutex<Arc<[Arc<SinkSlot>]>>);

impl Sinks {
    pub(crate) fn new(slots: Vec<Arc<SinkSlot>>) -> Self {
        Self(Mutex::new(slots.into()))
    }

    pub(crate) fn all(&self) -> Arc<[Arc<SinkSlot>]> {
        let slots = self.0.lock();
        slots.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn replace(&self, wanted: Arc<[Arc<SinkSlot>]>) -> Arc<[Arc<SinkSlot>]> {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *slots, wanted)
    }

    pub(crate) fn publish(&self, report: &Arc<CycleReport>) {
        for slot in &*self.all() {
            slot.push(Item::Report(report.clone()));
        }
    }

    /// Tells all sinks which groups are in force.
    pub(crate) fn retain(&self, groups: &Arc<[Arc<str>]>) {
        for slot in &*self.all() {
            slot.push(Item::Retain(groups.clone()));
        }
    }

    /// Lets everything that was published arrive, at all sinks at once.
    pub(crate) async fn flush(&self, grace: Duration) -> Result<(), FlushErrors> {
        let slots = self.all();
        let flushed = join_all(slots.iter().map(|slot| slot.flush(grace))).await;
        let errors: Vec<String> = flushed.into_iter().filter_map(Result::err).collect();
        if errors.is_empty() {
            return Ok(());
        }
        Err(FlushErrors(errors))
    }
}

impl Sinks {
    /// Ends all sinks at the end of the program.
    pub(crate) async fn close(&self, grace: Duration) {
        let slots = self.all();
        let closed = slots
            .iter()
            .map(|slot| slot.close(CloseReason::Shutdown, grace));
        join_all(closed).await;
    }
}

/// The tasks of the sinks. They end when this is dropped.
pub(crate) struct SinkTasks {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
    /// Sinks that are gone, until they have handed on what they had.
    leaving: JoinSet<()>,
    stop: watch::Receiver<bool>,
    grace: Duration,
}

impl SinkTasks {
    /// Starts the tasks of the sinks in force.
    pub(crate) fn start(shared: Arc<Shared>, stop: watch::Receiver<bool>, grace: Duration) -> Self {
        let mut tasks = Self {
            shared,
            tasks: JoinSet::new(),
            leaving: JoinSet::new(),
            stop,
            grace,
        };
        let groups = tasks.shared.group_names();
        for slot in &*tasks.shared.sinks.all() {
            slot.push(Item::Retain(groups.clone()));
            tasks.spawn(slot.clone());
        }
        tasks
    }

    fn spawn(&mut self, slot: Arc<SinkSlot>) {
        let (shared, stop) = (self.shared.clone(), self.stop.clone());
        self.tasks.spawn(async move {
            let name = TaskName {
                kind: TASK,
                group: None,
                sink: Some(&slot.name),
            };
            keep_running(name, &shared.metrics, stop, || slot.clone().deliver()).await;
        });
    }

    /// Puts other sinks in force. New ones get the latest reports at once; those that are gone hand on what they have in the
    /// background, within the grace time.
    pub(crate) fn change(&mut self, wanted: Vec<Arc<SinkSlot>>, results: &Results) {
        let wanted: Arc<[Arc<SinkSlot>]> = wanted.into();
        let former = self.shared.sinks.replace(wanted.clone());
        let is_in = |slot: &Arc<SinkSlot>, list: &[Arc<SinkSlot>]| {
            list.iter().any(|other| Arc::ptr_eq(slot, other))
        };
        for slot in wanted.iter().filter(|slot| !is_in(slot, &former)) {
            // Its task starts later, so that nothing older comes after what is published meanwhile.
            slot.queue.push_older(results.latest());
            slot.push(Item::Retain(self.shared.group_names()));
            self.spawn(slot.clone());
        }
        for slot in former.iter().filter(|slot| !is_in(slot, &wanted)) {
            let (slot, grace) = (slot.clone(), self.grace);
            slot.queue.close();
            self.leaving.spawn(async move {
                if let Err(error) = slot.flush(grace).await {
                    warn!(
                        sink = &*slot.name,
                        error, "results did not arrive at a sink that is no longer configured"
                    );
                }
                slot.close(CloseReason::Removed, grace).await;
            });
        }
    }

    /// Waits until a task has ended.
    ///
    /// # Cancel safety
    /// No end is missed when the future is dropped.
    pub(crate) async fn join_next(&mut self) -> Option<()> {
        tokio::select! {
            Some(_) = self.tasks.join_next() => Some(()),
            Some(_) = self.leaving.join_next() => Some(()),
            else => None,
        }
    }

    /// Waits until sinks that are gone have handed on what they had, which each of them does within two grace times.
    pub(crate) async fn left(&mut self) {
        while self.leaving.join_next().await.is_some() {}
    }
}
