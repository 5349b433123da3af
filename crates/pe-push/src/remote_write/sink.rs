//! The sink: reports in, a task that sends, and what pages want to know.

use std::error::Error;
use std::fmt;
use std::future::pending;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use futures_util::future::{Either, select};
use pe_scrape::resolve::{Resolve, SystemResolver};
use pe_scrape::{
    AGENT_JOB, Backlog, CloseReason, CycleReport, Frame, Labels, SettingsError, Sink, SinkOutage,
    SinkStatus, TaskFailure, supervise,
};
use tokio::sync::{Mutex as AsyncMutex, Notify, watch};
use tokio::task::JoinHandle;
use tracing::{debug, error};

use super::RemoteWriteSettings;
use super::blocks::BlockMaker;
use super::metrics::{TASK, WriteMetrics};
use super::peer::Peer;
use super::sender::Sender;
use super::store::{Store, Stores};
use super::system::now;
use super::verdict::Verdict;
use super::wire::{Encoder, Protocol};
use crate::SampleBlock;
use crate::host::host_name;
use crate::queue::{BlockId, Order, QueueReader};

/// Says whether the system's clock is synchronised; `None` where it does not say.
pub type ClockProbe = Arc<dyn Fn() -> Option<bool> + Send + Sync>;

/// A sink that is new takes nothing that was measured before it, and is new for so long.
const NEW_FOR: Duration = Duration::from_secs(5);

/// Sends every sample of every group to a receiver of Prometheus remote write.
///
/// Samples carry the time of their cycle, `job` with the group's name, and the agent's external labels. They wait in a queue while
/// the receiver is out of reach, and arrive once it is back. A series that ends gets a staleness marker.
///
/// ```no_run
/// # fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use pe_push::{RemoteWriteSettings, RemoteWriteSink};
///
/// let settings = RemoteWriteSettings::new("http://127.0.0.1:9090/api/v1/write");
/// let sink = RemoteWriteSink::new("central", &settings)?;
/// # Ok(())
/// # }
/// ```
///
/// # Panics
/// [`publish`](Sink::publish) and [`retain`](Sink::retain) panic outside a tokio runtime, where the sink's task cannot start.
pub struct RemoteWriteSink {
    shared: Arc<Shared>,
    input: Mutex<Input>,
    worker: OnceLock<Worker>,
}

/// What a sink is made of, beside its settings.
pub(super) struct Parts {
    pub(super) external_labels: Labels,
    pub(super) resolver: Arc<dyn Resolve>,
    pub(super) clock: ClockProbe,
    pub(super) store: Arc<Store>,
}

/// From reports to blocks.
struct Input {
    maker: BlockMaker,
    created: SystemTime,
}

/// What the sender needs of the settings.
pub(super) struct SendSettings {
    pub(super) order: Order,
    pub(super) protocol: Protocol,
    pub(super) max_age: Option<Duration>,
    pub(super) clock_wait: Duration,
    /// Most bytes of a request before compression.
    pub(super) most_bytes: usize,
    clock: ClockProbe,
}

/// What the sink and its task share.
pub(super) struct Shared {
    /// The sink's name, for logs.
    pub(super) name: Arc<str>,
    pub(super) peer: Peer,
    pub(super) settings: SendSettings,
    pub(super) store: Arc<Store>,
    pub(super) metrics: WriteMetrics,
    /// Wakes a sender that waits before its next try.
    pub(super) hurry: Notify,
    /// There once the sender has the store to itself.
    reader: AsyncMutex<Option<QueueReader>>,
    appended: Notify,
    /// Blocks that were appended since the sender last looked.
    fresh: AtomicU64,
    backlog: Mutex<Backlog>,
    status: Mutex<Status>,
    /// How far the sender is.
    progress: watch::Sender<Progress>,
}

#[derive(Default)]
struct Status {
    last_success: Option<SystemTime>,
    outage: Option<SinkOutage>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Progress {
    /// Times that blocks were appended, and how many of these were dealt with.
    appended: u64,
    done: u64,
    /// Tries that failed.
    failures: u64,
}

/// The sink's task, which ends with the sink.
struct Worker(JoinHandle<()>);

impl Drop for Worker {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl RemoteWriteSink {
    /// A sink for the receiver of `settings`; `name` is what its log lines call it. Nothing is sent yet, and its task starts with
    /// the first results.
    ///
    /// # Errors
    /// [`SettingsError`] with every problem, when the settings make no sense.
    pub fn new(
        name: impl Into<Arc<str>>,
        settings: &RemoteWriteSettings,
    ) -> Result<Self, SettingsError> {
        let name = name.into();
        let parts = Parts {
            external_labels: Labels::default(),
            resolver: Arc::new(SystemResolver),
            clock: Arc::new(|| None),
            store: Stores::default().store(&name),
        };
        Self::with_parts(name, settings, parts)
    }

    pub(super) fn with_parts(
        name: Arc<str>,
        settings: &RemoteWriteSettings,
        parts: Parts,
    ) -> Result<Self, SettingsError> {
        let (client, filter) = settings.prepare(parts.resolver)?;
        let order = settings.order.into();
        let shared = Shared {
            peer: Peer::new(client),
            settings: SendSettings {
                order,
                protocol: settings.protocol,
                max_age: settings.max_age,
                clock_wait: settings.clock_wait,
                most_bytes: settings.most_bytes(),
                clock: parts.clock,
            },
            store: parts.store,
            metrics: WriteMetrics::new(),
            hurry: Notify::new(),
            reader: AsyncMutex::default(),
            appended: Notify::new(),
            fresh: AtomicU64::new(0),
            backlog: Mutex::default(),
            status: Mutex::default(),
            progress: watch::Sender::new(Progress::default()),
            name,
        };
        Ok(Self {
            shared: Arc::new(shared),
            input: Mutex::new(Input {
                maker: BlockMaker::new(parts.external_labels, &host_name(), filter)
                    .with_natives(settings.native_histograms)
                    .since(now()),
                created: SystemTime::now(),
            }),
            worker: OnceLock::new(),
        })
    }

    /// Starts the sink's task, once.
    fn start(&self) {
        self.worker.get_or_init(|| {
            let shared = self.shared.clone();
            shared.store.queue();
            if let Ok(_lease) = shared.store.lease.try_lock() {
                // So that nothing is appended before there is a reader.
                shared.take_reader();
            }
            Worker(tokio::spawn(async move {
                let start = || {
                    let sender = Sender::new(shared.clone());
                    let (shared, store) = (shared.clone(), shared.store.clone());
                    async move {
                        let (sending, moving) = (pin!(sender.run()), pin!(store.move_to_disk()));
                        match select(sending, moving).await {
                            Either::Left(_) => {}
                            Either::Right(((), sending)) => {
                                // There may be something to send that was not appended now.
                                shared.appended.notify_one();
                                sending.await;
                            }
                        }
                        Ok(())
                    }
                };
                supervise(start, |failure| shared.panicked(failure), pending()).await;
            }))
        });
    }

    fn input(&self) -> MutexGuard<'_, Input> {
        self.input.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Sink for RemoteWriteSink {
    fn publish(&self, report: Arc<CycleReport>) {
        self.start();
        let mut input = self.input();
        let now = now();
        if input.is_from_before(&report, now.wall) {
            return;
        }
        let blocks = input.maker.make(&report, now);
        let mut tracker = self.shared.store.tracker();
        let blocks = tracker.track(&report, blocks, now);
        // In the order of reports: the locks are held.
        self.shared.append(blocks);
    }

    fn retain(&self, groups: &[Arc<str>]) {
        self.start();
        let is_wanted = |group: &str| group == AGENT_JOB || groups.iter().any(|it| &**it == group);
        self.input().maker.retain(is_wanted);
        let mut tracker = self.shared.store.tracker();
        let blocks = tracker.retain(is_wanted, now());
        self.shared.append(blocks);
    }

    async fn flush(&self) -> Result<(), Box<dyn Error + Send + Sync>> {
        self.start();
        let sent = self.shared.drained().await;
        self.shared.store.queue().flush().await;
        sent.map_err(Into::into)
    }

    async fn close(&self, reason: CloseReason) {
        // A successor has the store too, and goes on with the series.
        let has_successor = Arc::strong_count(&self.shared.store) > 1;
        if reason == CloseReason::Removed && has_successor {
            return;
        }
        self.start();
        {
            let mut tracker = self.shared.store.tracker();
            let blocks = tracker.end(now());
            self.shared.append(blocks);
        }
        let sent = self.shared.drained().await;
        let queue = self.shared.store.queue();
        match reason {
            CloseReason::Removed => queue.retain(&[]),
            _ => queue.flush().await,
        }
        if let Err(error) = sent {
            debug!(sink = &*self.shared.name, error, "the last samples wait");
        }
    }

    fn metrics(&self) -> Vec<Frame> {
        let now = SystemTime::now();
        let queue = self.shared.store.counters();
        let backlog = self.shared.backlog_now();
        self.shared.metrics.frames(backlog, queue, now)
    }

    fn status(&self) -> SinkStatus {
        let known = self.shared.status();
        let mut status = SinkStatus::default();
        status.destination = self.shared.peer.url().to_owned();
        status.last_success = known.last_success;
        status.outage.clone_from(&known.outage);
        status.backlog = Some(self.shared.backlog_now());
        let queue = self.shared.store.counters();
        status.dropped = self.shared.metrics.dropped(queue);
        status
    }

    async fn check_peer(&self) -> Result<(), Box<dyn Error + Send + Sync>> {
        let body = Encoder::default().empty(Protocol::V1);
        let reply = self.shared.peer.post(Protocol::V1, body).await?;
        match reply.verdict(Protocol::V1) {
            Verdict::Sent => Ok(()),
            _ => Err(reply
                .into_error()
                .map_or_else(|| "no answer".into(), Into::into)),
        }
    }
}

impl Input {
    /// Whether a report was made before this sink. An engine hands a new sink what it knows; the sink before it had that.
    fn is_from_before(&self, report: &CycleReport, now: SystemTime) -> bool {
        let age = now.duration_since(self.created).unwrap_or(NEW_FOR);
        age < NEW_FOR && report.started < self.created
    }
}

impl SendSettings {
    /// Whether the system says that its clock is synchronised.
    pub(super) fn synchronized(&self) -> Option<bool> {
        (self.clock)()
    }
}

impl Shared {
    fn append(&self, blocks: Vec<SampleBlock>) {
        if blocks.is_empty() {
            return;
        }
        let count = blocks.len() as u64;
        for block in blocks {
            self.store.queue().append(Arc::new(block));
        }
        // Last: a sender that finds no more blocks takes what is counted for done.
        self.fresh.fetch_add(count, Ordering::Relaxed);
        self.progress.send_modify(|progress| progress.appended += 1);
        self.appended.notify_one();
    }

    /// Whether blocks were appended since this was last asked.
    pub(super) fn take_fresh(&self) -> bool {
        self.fresh.swap(0, Ordering::Relaxed) > 0
    }

    /// Whether blocks were appended since [`take_fresh`](Self::take_fresh).
    pub(super) fn has_fresh(&self) -> bool {
        self.fresh.load(Ordering::Relaxed) > 0
    }

    pub(super) async fn wait_for_blocks(&self) {
        self.appended.notified().await;
    }

    /// The reader, which there is while the sender runs.
    pub(super) fn take_reader(&self) {
        if let Ok(mut reader) = self.reader.try_lock() {
            let queue = self.store.queue();
            *reader = Some(queue.reader(&self.name, self.settings.order));
        }
    }

    /// Reads again what was not acknowledged.
    pub(super) async fn rewind(&self) {
        let mut reader = self.reader.lock().await;
        match &mut *reader {
            Some(reader) => reader.rewind(),
            None => {
                let queue = self.store.queue();
                *reader = Some(queue.reader(&self.name, self.settings.order));
            }
        }
    }

    pub(super) async fn next_block(&self) -> Option<(BlockId, Arc<SampleBlock>)> {
        self.reader.lock().await.as_mut()?.try_next().await
    }

    pub(super) async fn acknowledge(&self, ids: impl IntoIterator<Item = BlockId>) {
        if let Some(reader) = &*self.reader.lock().await {
            reader.acknowledge(ids);
        }
    }

    /// Settles the times of blocks that are about to be sent, certain to survive a power cut.
    pub(super) async fn settle(&self, times: Vec<(BlockId, i64)>) {
        let reader = self.reader.lock().await;
        let settled = reader.as_ref().map(|reader| reader.settle(times));
        drop(reader);
        if let Some(settled) = settled {
            settled.await;
        }
    }

    /// What waits, and keeps it for pages that ask while the reader is at work.
    pub(super) async fn backlog(&self) -> Backlog {
        let reader = self.reader.lock().await;
        let backlog = reader.as_ref().map(QueueReader::backlog);
        self.keep_backlog(backlog)
    }

    fn backlog_now(&self) -> Backlog {
        let reader = self.reader.try_lock();
        let backlog = reader
            .ok()
            .and_then(|it| it.as_ref().map(QueueReader::backlog));
        self.keep_backlog(backlog)
    }

    fn keep_backlog(&self, backlog: Option<Backlog>) -> Backlog {
        let mut known = self.backlog.lock().unwrap_or_else(PoisonError::into_inner);
        *known = backlog.unwrap_or(*known);
        *known
    }

    /// How often blocks were appended.
    pub(super) fn appended(&self) -> u64 {
        self.progress.borrow().appended
    }

    /// Notes that everything was dealt with that had been appended by then.
    pub(super) fn done(&self, appended: u64) {
        self.progress
            .send_modify(|progress| progress.done = appended);
    }

    /// Notes that samples arrived.
    pub(super) fn arrived(&self, now: SystemTime) {
        let mut status = self.status();
        status.last_success = Some(now);
        status.outage = None;
    }

    /// Notes that a try failed, and that the next follows after a pause.
    pub(super) fn failed(&self, error: String, pause: Duration) {
        let mut status = self.status();
        let now = SystemTime::now();
        SinkOutage::note(&mut status.outage, now, error).next_try = now.checked_add(pause);
        drop(status);
        self.progress.send_modify(|progress| progress.failures += 1);
    }

    /// Waits until everything was sent, or a try that began after this call failed.
    async fn drained(&self) -> Result<(), String> {
        let mut progress = self.progress.subscribe();
        let before = *progress.borrow_and_update();
        self.hurry.notify_one();
        let is_done = |progress: &Progress| progress.done >= before.appended;
        // One may be under way that began before, so the second failure counts.
        let ended = progress
            .wait_for(|progress| is_done(progress) || progress.failures > before.failures + 1)
            .await;
        match ended {
            Ok(progress) if is_done(&progress) => Ok(()),
            _ => {
                let outage = self.status().outage.clone();
                Err(outage.map_or_else(String::new, |outage| outage.error))
            }
        }
    }

    fn status(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn panicked(&self, failure: &TaskFailure<'_>) {
        self.metrics.restarted();
        error!(
            sink = &*self.name,
            task = TASK,
            error = failure.reason,
            pause = ?failure.pause,
            "a task panicked; it is started again after a pause"
        );
    }
}

impl fmt::Debug for RemoteWriteSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteWriteSink")
            .field("name", &self.shared.name)
            .field("url", &self.shared.peer.url())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remote_write::testing::{block, metric};

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_counted_as_appended_can_be_read() {
        const TIMES: u64 = 500;
        let settings = RemoteWriteSettings::new("http://127.0.0.1:9/");
        let sink = RemoteWriteSink::new("central", &settings).unwrap();
        let shared = sink.shared.clone();
        shared.take_reader();
        let row: &[(&str, &str)] = &[("device", "x")];
        let block = block(&[metric("rtt", &[])], &[row], &[&[1.0]], 10);
        let blocks = vec![SampleBlock::clone(&block); 20];
        let appending = {
            let shared = shared.clone();
            std::thread::spawn(move || (0..TIMES).for_each(|_| shared.append(blocks.clone())))
        };
        let (mut appended, mut read) = (0, 0);
        while appended < TIMES {
            appended = shared.appended();
            while shared.next_block().await.is_some() {
                read += 1;
            }
            assert!(read >= appended * 20, "{read} blocks of {appended} times");
        }
        appending.join().unwrap();
    }
}
