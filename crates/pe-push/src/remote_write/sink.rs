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
    Backlog, CloseReason, CycleReport, Frame, Labels, SettingsError, Sink, SinkOutage, SinkStatus,
    TaskFailure, supervise,
};
use tokio::sync::{Mutex as AsyncMutex, Notify, watch};
use tokio::task::JoinHandle;
use tracing::{debug, error, info};

use super::RemoteWriteSettings;
use super::feed::Content;
use super::metrics::{TASK, WriteMetrics};
use super::peer::Peer;
use super::reading::{Place, Reading};
use super::selection::{Reduce, Selection};
use super::sender::Sender;
use super::store::{Store, Stores};
use super::verdict::Verdict;
use super::wire::{Encoder, Protocol};
use crate::SampleBlock;
use crate::clocks::now;
use crate::queue::{Order, QueueHandle, QueueLimits};

/// Says whether the system's clock is synchronised; `None` where it does not say.
pub type ClockProbe = Arc<dyn Fn() -> Option<bool> + Send + Sync>;

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
    created: SystemTime,
    worker: OnceLock<Worker>,
}

/// What a sink is made of, beside its settings.
pub(super) struct Parts {
    pub(super) external_labels: Labels,
    pub(super) resolver: Arc<dyn Resolve>,
    pub(super) clock: ClockProbe,
    pub(super) store: Arc<Store>,
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
    /// What it wants to be stored.
    content: Content,
    pub(super) metrics: WriteMetrics,
    /// Wakes a sender that waits before its next try.
    pub(super) hurry: Notify,
    /// There once the sender has the store to itself.
    reading: AsyncMutex<Option<Reading>>,
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
            content: Content {
                external_labels: parts.external_labels,
                selection: Selection::new(filter, settings.native_histograms),
            },
            metrics: WriteMetrics::new(),
            hurry: Notify::new(),
            reading: AsyncMutex::default(),
            appended: Notify::new(),
            fresh: AtomicU64::new(0),
            backlog: Mutex::default(),
            status: Mutex::default(),
            progress: watch::Sender::new(Progress::default()),
            name,
        };
        let shared = Arc::new(shared);
        let queue = &shared.store.shared;
        queue.join(&shared);
        queue.feed().start(&shared.content, now());
        Ok(Self {
            shared,
            created: SystemTime::now(),
            worker: OnceLock::new(),
        })
    }

    /// Starts the sink's task, once.
    fn start(&self) {
        self.worker.get_or_init(|| {
            let shared = self.shared.clone();
            shared.store.shared.queue();
            // Opened here, where it may block.
            shared.store.former();
            if let Ok(_lease) = shared.store.lease.try_lock() {
                // So that nothing is appended before there is a reader.
                shared.begin_reading();
            }
            Worker(tokio::spawn(async move {
                let start = || {
                    let sender = Sender::new(shared.clone());
                    let (shared, queue) = (shared.clone(), shared.store.shared.clone());
                    async move {
                        let (sending, moving) = (pin!(sender.run()), pin!(queue.move_to_disk()));
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
}

#[async_trait]
impl Sink for RemoteWriteSink {
    fn publish(&self, report: Arc<CycleReport>) {
        self.start();
        let queue = &self.shared.store.shared;
        let members = queue.members();
        let mut content = self.shared.content.clone();
        for member in &members {
            content.selection.add(&member.content.selection);
        }
        let mut feed = queue.feed();
        let blocks = feed.take(&report, content, self.created, now());
        // In the order of reports: the feed is held.
        queue.append(blocks);
    }

    fn retain(&self, groups: &[Arc<str>]) {
        self.start();
        let queue = &self.shared.store.shared;
        let mut feed = queue.feed();
        let blocks = feed.retain(groups, now());
        queue.append(blocks);
    }

    async fn flush(&self) -> Result<(), Box<dyn Error + Send + Sync>> {
        self.start();
        let sent = self.shared.drained().await;
        self.shared.store.shared.queue().flush().await;
        sent.map_err(Into::into)
    }

    async fn close(&self, reason: CloseReason) {
        let (name, store) = (&*self.shared.name, &self.shared.store);
        let queue = &store.shared;
        if reason == CloseReason::Removed {
            if queue.has_successor(&self.shared) {
                // It goes on with the series.
                return;
            }
            self.start();
            store.set_removed(true);
            let markers = {
                let feed = queue.feed();
                queue.queue().close(name);
                feed.tracker.farewell(now())
            };
            self.shared.say_farewell(markers).await;
        } else {
            self.start();
            // The first one ends the series for all.
            let mut feed = queue.feed();
            let blocks = feed.tracker.end(now());
            queue.append(blocks);
        }
        let sent = self.shared.drained().await;
        match reason {
            CloseReason::Removed if store.is_removed() => {
                queue.queue().forget(name);
                store.remove_former().await;
            }
            _ => queue.queue().flush().await,
        }
        if let Err(error) = sent {
            debug!(sink = name, error, "the last samples wait");
        }
    }

    fn metrics(&self) -> Vec<Frame> {
        let now = SystemTime::now();
        let backlog = self.shared.backlog_now();
        let dropped = |reason| self.shared.store.dropped_samples(reason);
        self.shared.metrics.frames(backlog, dropped, now)
    }

    fn status(&self) -> SinkStatus {
        let known = self.shared.status();
        let mut status = SinkStatus::default();
        status.destination = self.shared.peer.url().to_owned();
        status.last_success = known.last_success;
        status.outage.clone_from(&known.outage);
        status.backlog = Some(self.shared.backlog_now());
        let dropped = |reason| self.shared.store.dropped_samples(reason);
        status.dropped = self.shared.metrics.dropped(dropped);
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

impl SendSettings {
    /// Whether the system says that its clock is synchronised.
    pub(super) fn synchronized(&self) -> Option<bool> {
        (self.clock)()
    }
}

impl Shared {
    /// Notes that so many blocks were appended, which can be read: a sender that finds no more takes what is counted for done.
    pub(super) fn note_appended(&self, blocks: u64) {
        self.fresh.fetch_add(blocks, Ordering::Relaxed);
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

    /// Takes the place of a reader, before the sender is there.
    fn begin_reading(&self) {
        if let Ok(mut reading) = self.reading.try_lock() {
            *reading = Some(self.new_reading());
        }
    }

    fn new_reading(&self) -> Reading {
        let queue = self.store.shared.queue();
        let reduce = Reduce::to(self.content.selection.clone());
        Reading::new(&self.name, self.settings.order, queue, reduce)
    }

    /// Reads again what was not acknowledged.
    pub(super) async fn rewind(&self) {
        let mut reading = self.reading.lock().await;
        match &mut *reading {
            Some(reading) => reading.rewind(),
            None => *reading = Some(self.new_reading()),
        }
    }

    /// The next block of which the sink takes something.
    pub(super) async fn next_block(&self) -> Option<(Place, Arc<SampleBlock>)> {
        let mut reading = self.reading.lock().await;
        let reading = reading.as_mut()?;
        if !reading.has_former()
            && let Some(former) = self.store.former()
        {
            reading.add_former(&self.name, former);
        }
        let is_alone = self.store.shared.is_alone();
        loop {
            match reading.next(is_alone).await? {
                (place, Some(block)) => return Some((place, block)),
                (place, None) => reading.acknowledge([place]),
            }
        }
    }

    pub(super) async fn acknowledge(&self, places: impl IntoIterator<Item = Place>) {
        if let Some(reading) = &*self.reading.lock().await {
            reading.acknowledge(places);
        }
    }

    /// Settles the times of blocks that are about to be sent, certain to survive a power cut. Returns whether they are as wanted;
    /// another sink may have settled others.
    pub(super) async fn settle(&self, times: Vec<(Place, i64)>) -> bool {
        let reading = self.reading.lock().await;
        let settled = reading.as_ref().map(|reading| reading.settle(times));
        drop(reading);
        match settled {
            Some(settled) => settled.await,
            None => true,
        }
    }

    /// Removes the queue that an earlier version wrote, once it was sent.
    pub(super) async fn leave_former(&self) {
        let mut reading = self.reading.lock().await;
        let Some(reading) = reading.as_mut() else {
            return;
        };
        if reading.leave_former().await {
            self.store.remove_former().await;
            info!(sink = &*self.name, "what an earlier version left was sent");
        }
    }

    /// Sends the markers that end all series for this receiver, after what waits.
    async fn say_farewell(&self, markers: Vec<SampleBlock>) {
        let queue = QueueHandle::in_memory(QueueLimits::in_memory());
        let reader = queue.reader(&self.name, self.settings.order);
        let count = markers.len() as u64;
        for block in markers {
            queue.append(Arc::new(block));
        }
        let mut reading = self.reading.lock().await;
        if let Some(reading) = reading.as_mut() {
            reading.add_farewell(reader);
        }
        drop(reading);
        self.note_appended(count);
    }

    /// What waits, and keeps it for pages that ask while the reader is at work.
    pub(super) async fn backlog(&self) -> Backlog {
        let reading = self.reading.lock().await;
        let backlog = reading.as_ref().map(Reading::backlog);
        self.keep_backlog(backlog)
    }

    fn backlog_now(&self) -> Backlog {
        let reading = self.reading.try_lock();
        let backlog = reading
            .ok()
            .and_then(|it| it.as_ref().map(Reading::backlog));
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
        shared.begin_reading();
        let row: &[(&str, &str)] = &[("device", "x")];
        // Of now: the queue looks for what is too old when it begins.
        let wall_ms = now().time().wall_ms;
        let block = block(&[metric("rtt", &[])], &[row], &[&[1.0]], wall_ms);
        let blocks = vec![SampleBlock::clone(&block); 20];
        let appending = {
            let shared = shared.clone();
            std::thread::spawn(move || {
                (0..TIMES).for_each(|_| shared.store.shared.append(blocks.clone()));
            })
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
