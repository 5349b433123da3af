//! The queue as sinks use it: appending never waits, reading is asynchronous. All I/O is done by one thread.
//!
//! The thread synchronises at most once a second, and within a second after something was appended or acknowledged: a power cut costs
//! what was appended within the latest second, the end of the process nothing that reached the thread. A block that cannot be taken at
//! once waits in a list of bounded size, from which the oldest is dropped when the disk is too slow.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use pe_scrape::{Backlog, panic_message, with_causes};
use tokio::sync::{Notify, oneshot};
use tracing::{error, info, warn};

use super::block::count_samples;
use super::drop_log::{DropChange, DropLog, Dropped};
use super::types::Drops;
use super::{
    BlockId, Disk, DropReason, Order, Queue, QueueCounters, QueueError, QueueLimits, Recovery,
};
use crate::SampleBlock;
use crate::clocks::now;

/// How long after a change it is made certain to survive a power cut.
const SYNC_DELAY: Duration = Duration::from_secs(1);
/// How often old blocks are looked for.
const EXPIRE_INTERVAL: Duration = Duration::from_secs(60);
/// Cells of the blocks that wait for the thread (64 MB).
const WAITING_CELLS: usize = 8 << 20;
/// A reader is given blocks of so many cells at once: each answer wakes two threads, and the blocks of single devices are small.
const CELLS_AT_ONCE: usize = 1 << 16;

type Next = Vec<(BlockId, Arc<SampleBlock>)>;

/// A queue whose I/O is done by a thread of its own. Clones are the same queue; the thread ends, after a last synchronisation, when
/// all of them and all readers are dropped.
#[derive(Clone)]
pub struct QueueHandle {
    owner: Arc<Owner>,
}

/// Reads for one sink, by its name. What was read and not acknowledged is read again after [`rewind`](Self::rewind) or a
/// restart.
pub struct QueueReader {
    owner: Arc<Owner>,
    sink: Arc<str>,
    /// A block that was asked for, and not waited for to the end.
    pending: Option<oneshot::Receiver<Next>>,
    /// What came with the latest answer and was not asked for yet.
    read: VecDeque<(BlockId, Arc<SampleBlock>)>,
}

/// Tells the thread to end when the last of those who use the queue is dropped.
struct Owner(Arc<Shared>);

struct Shared {
    inbox: Mutex<Inbox>,
    wake: Condvar,
    appended: Notify,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Inbox {
    requests: VecDeque<Request>,
    /// Cells of the blocks among the requests.
    cells: usize,
    too_fast: (u64, u64),
    is_closed: bool,
}

/// What the thread tells, after each round.
#[derive(Default)]
struct Seen {
    backlogs: BTreeMap<Arc<str>, Backlog>,
    dropped: BTreeMap<Arc<str>, Drops>,
    counters: QueueCounters,
    bytes: u64,
}

enum Request {
    Append(Arc<SampleBlock>),
    Attach(Arc<str>, Order),
    Retain(Vec<String>),
    Next(Arc<str>, oneshot::Sender<Next>),
    Acknowledge(Arc<str>, Vec<BlockId>),
    Settle(Arc<str>, Vec<(BlockId, i64)>, oneshot::Sender<bool>),
    Close(Arc<str>),
    Forget(Arc<str>),
    IsDone(Arc<str>, oneshot::Sender<bool>),
    Rewind(Arc<str>),
    Flush(oneshot::Sender<()>),
    Latest(oneshot::Sender<Vec<SampleBlock>>),
    MoveTo(
        Box<dyn Disk>,
        QueueLimits,
        oneshot::Sender<Result<Recovery, QueueError>>,
    ),
}

impl QueueHandle {
    /// Opens the queue on `disk`, and starts its thread. Reads a little of each segment: under a second for 30 days.
    ///
    /// # Errors
    /// When the disk cannot be read, or a thread cannot be started.
    pub fn open(disk: Box<dyn Disk>, limits: QueueLimits) -> Result<(Self, Recovery), QueueError> {
        let (queue, recovery) = Queue::open(disk, limits)?;
        let handle = Self::start(queue).map_err(|source| QueueError::Io {
            action: "start the thread for",
            file: "queue".to_owned(),
            source,
        })?;
        Ok((handle, recovery))
    }

    /// A queue in memory.
    ///
    /// # Panics
    /// When a thread cannot be started.
    #[must_use]
    pub fn in_memory(limits: QueueLimits) -> Self {
        let started = Self::start(Queue::in_memory(limits));
        started.expect("the system starts a thread")
    }

    fn start(queue: Queue) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            inbox: Mutex::default(),
            wake: Condvar::new(),
            appended: Notify::new(),
            seen: Mutex::default(),
        });
        let worker = Worker {
            queue,
            shared: shared.clone(),
            sinks: BTreeMap::new(),
            changed: None,
            expired: None,
            flushes: Vec::new(),
            settlings: Vec::new(),
            is_failing: false,
            drops: DropLog::default(),
        };
        thread::Builder::new()
            .name("queue".to_owned())
            .spawn(|| worker.run())?;
        Ok(Self {
            owner: Arc::new(Owner(shared)),
        })
    }

    /// Appends a block. Returns at once; what cannot be taken is dropped, oldest first, and counted.
    pub fn append(&self, block: Arc<SampleBlock>) {
        let shared = &self.owner.0;
        let mut inbox = shared.inbox();
        inbox.cells += cells(&block);
        inbox.requests.push_back(Request::Append(block));
        while inbox.cells > WAITING_CELLS {
            let is_block = |request: &Request| matches!(request, Request::Append(_));
            let Some(oldest) = inbox.requests.iter().position(is_block) else {
                break;
            };
            if let Some(Request::Append(block)) = inbox.requests.remove(oldest) {
                inbox.cells = inbox.cells.saturating_sub(cells(&block));
                inbox.too_fast.0 += 1;
                inbox.too_fast.1 += u64::from(count_samples(&block));
            }
        }
        drop(inbox);
        shared.wake.notify_one();
    }

    /// A reader for the sink of that name. A sink that the queue knows from before goes on where it was; a new one starts with
    /// the next block that is appended.
    #[must_use]
    pub fn reader(&self, sink: &str, order: Order) -> QueueReader {
        let sink: Arc<str> = sink.into();
        self.owner.0.ask(Request::Attach(sink.clone(), order));
        QueueReader {
            owner: self.owner.clone(),
            sink,
            pending: None,
            read: VecDeque::new(),
        }
    }

    /// Forgets the sinks that are not among these: what waits for them alone is dropped.
    pub fn retain(&self, sinks: &[&str]) {
        let sinks = sinks.iter().map(|sink| (*sink).to_owned()).collect();
        self.owner.0.ask(Request::Retain(sinks));
    }

    /// Appends nothing more for a sink, until there is a new reader for it. What waits for it stays.
    pub fn close(&self, sink: &str) {
        self.owner.0.ask(Request::Close(sink.into()));
    }

    /// Forgets one sink: what waits for it alone is dropped.
    pub fn forget(&self, sink: &str) {
        self.owner.0.ask(Request::Forget(sink.into()));
    }

    /// Returns when all that was appended and acknowledged before survives a power cut, as far as the disk takes it.
    ///
    /// # Cancel safety
    /// Dropping it changes nothing: it is written all the same.
    pub async fn flush(&self) {
        let (reply, done) = oneshot::channel();
        self.owner.0.ask(Request::Flush(reply));
        // No answer: the thread is gone, and there is nothing to wait for.
        let _ = done.await;
    }

    /// The newest block of each shape in the newest segment that was finished: asked for after a start, before anything is
    /// appended, the last that is known of each series.
    ///
    /// # Cancel safety
    /// It changes nothing.
    pub async fn latest(&self) -> Vec<SampleBlock> {
        let (reply, latest) = oneshot::channel();
        self.owner.0.ask(Request::Latest(reply));
        latest.await.unwrap_or_default()
    }

    /// Goes on on another disk: what waits is appended to what is there. Readers go on, and get again what they have not
    /// acknowledged. For a queue that began in memory since a directory was not to be had.
    ///
    /// # Errors
    /// When that disk cannot be read; the queue stays where it is.
    ///
    /// # Cancel safety
    /// Dropping it changes nothing: the move takes place all the same.
    pub async fn move_to(
        &self,
        disk: Box<dyn Disk>,
        limits: QueueLimits,
    ) -> Result<Recovery, QueueError> {
        let (reply, moved) = oneshot::channel();
        self.owner.0.ask(Request::MoveTo(disk, limits, reply));
        moved.await.unwrap_or_else(|_| Ok(Recovery::default()))
    }

    /// What happened since the start, as of a moment ago.
    #[must_use]
    pub fn counters(&self) -> QueueCounters {
        let shared = &self.owner.0;
        let mut counters = shared.seen().counters;
        let too_fast = shared.inbox().too_fast;
        counters.drop(DropReason::TooFast, too_fast.0, too_fast.1);
        counters
    }

    /// Samples that were dropped for this reason before `sink` had acknowledged them, as of a moment ago.
    #[must_use]
    pub fn dropped_samples(&self, sink: &str, reason: DropReason) -> u64 {
        let shared = &self.owner.0;
        if reason == DropReason::TooFast {
            return shared.inbox().too_fast.1;
        }
        let seen = shared.seen();
        seen.dropped.get(sink).map_or(0, |drops| drops.get(reason))
    }

    /// Bytes of all segments, as of a moment ago.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.owner.0.seen().bytes
    }
}

impl QueueReader {
    /// The next block; waits while there is none.
    ///
    /// # Cancel safety
    /// No block is lost if this is dropped: the next call returns it.
    pub async fn next(&mut self) -> (BlockId, Arc<SampleBlock>) {
        let shared = self.owner.0.clone();
        loop {
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
        if let Some(next) = self.read.pop_front() {
            return Some(next);
        }
        let next = match &mut self.pending {
            Some(next) => next,
            None => {
                let (reply, next) = oneshot::channel();
                self.owner.0.ask(Request::Next(self.sink.clone(), reply));
                self.pending.insert(next)
            }
        };
        let next = next.await;
        self.pending = None;
        self.read = next.unwrap_or_default().into();
        self.read.pop_front()
    }

    /// Says that these blocks need not be read again. Returns at once; it survives a power cut a second later, so that after
    /// one a block may come again, with equal times and values.
    pub fn acknowledge(&self, ids: impl IntoIterator<Item = BlockId>) {
        let ids = ids.into_iter().collect();
        self.owner
            .0
            .ask(Request::Acknowledge(self.sink.clone(), ids));
    }

    /// Settles the times of blocks that are about to be sent, in wall-clock milliseconds. Returns when they survive a power cut,
    /// as far as the disk takes it: until they are acknowledged, these blocks are read with these times, by all sinks.
    ///
    /// A time that was settled before stands. Returns whether all are as asked for; where not, what was read is to be read again.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing: they are settled all the same.
    pub fn settle(&self, times: Vec<(BlockId, i64)>) -> impl Future<Output = bool> + use<> {
        let (reply, done) = oneshot::channel();
        self.owner
            .0
            .ask(Request::Settle(self.sink.clone(), times, reply));
        // No answer: the thread is gone, and there is nothing to wait for.
        async { done.await.unwrap_or(true) }
    }

    /// Starts again with what was read and is not acknowledged.
    pub fn rewind(&mut self) {
        self.pending = None;
        self.read.clear();
        self.owner.0.ask(Request::Rewind(self.sink.clone()));
    }

    /// Whether this sink has acknowledged all that was appended before.
    ///
    /// # Cancel safety
    /// It changes nothing.
    pub async fn is_done(&self) -> bool {
        let (reply, is_done) = oneshot::channel();
        self.owner.0.ask(Request::IsDone(self.sink.clone(), reply));
        is_done.await.unwrap_or(false)
    }

    /// What this sink has not acknowledged, as of a moment ago.
    #[must_use]
    pub fn backlog(&self) -> Backlog {
        let backlogs = &self.owner.0.seen().backlogs;
        backlogs.get(&self.sink).copied().unwrap_or_default()
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.inbox().is_closed = true;
        self.0.wake.notify_one();
    }
}

impl Shared {
    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask(&self, request: Request) {
        self.inbox().requests.push_back(request);
        self.wake.notify_one();
    }

    /// Requests, in order, or none when it is time for something else; `None` when no more will come.
    fn wait(&self, until: Option<Instant>) -> Option<VecDeque<Request>> {
        let mut inbox = self.inbox();
        loop {
            if !inbox.requests.is_empty() {
                inbox.cells = 0;
                return Some(std::mem::take(&mut inbox.requests));
            }
            if inbox.is_closed {
                return None;
            }
            let left = until.map_or(EXPIRE_INTERVAL, |until| {
                until.saturating_duration_since(Instant::now())
            });
            if left.is_zero() {
                return Some(VecDeque::new());
            }
            let waited = self.wake.wait_timeout(inbox, left);
            let timed_out;
            (inbox, timed_out) = waited
                .map(|(inbox, wait)| (inbox, wait.timed_out()))
                .unwrap_or_else(|poisoned| (poisoned.into_inner().0, true));
            if timed_out && inbox.requests.is_empty() && !inbox.is_closed {
                return Some(VecDeque::new());
            }
        }
    }
}

/// What the thread works with.
struct Worker {
    queue: Queue,
    shared: Arc<Shared>,
    /// Sinks with a reader.
    sinks: BTreeMap<Arc<str>, Order>,
    /// When something changed that is not synchronised yet.
    changed: Option<Instant>,
    expired: Option<Instant>,
    flushes: Vec<oneshot::Sender<()>>,
    /// Those who wait for times that were settled, and whether these are as they wanted them.
    settlings: Vec<(oneshot::Sender<bool>, bool)>,
    /// Whether the latest operation on the disk failed: that is logged when it begins and when it ends.
    is_failing: bool,
    drops: DropLog,
}

impl Worker {
    fn run(mut self) {
        while let Some(requests) = self.shared.wait(self.changed.map(|at| at + SYNC_DELAY)) {
            for request in requests {
                self.guard(|worker| worker.handle(request));
            }
            self.guard(Self::sync_when_due);
            self.guard(Self::expire_when_due);
            self.guard(Self::note_drops);
            self.guard(Self::tell);
            self.guard(Self::answer_flushes);
        }
        self.guard(Self::sync);
    }

    /// A panic ends what is done just now, and not the thread.
    fn guard(&mut self, work: impl FnOnce(&mut Self)) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| work(self))) {
            error!(
                panic = panic_message(&*panic),
                "the queue panicked; it goes on"
            );
        }
    }

    fn handle(&mut self, request: Request) {
        match request {
            Request::Append(block) => {
                let appended = self.queue.append(&block);
                if appended.as_ref().is_ok_and(Option::is_some) {
                    self.change();
                }
                self.note(appended.map(drop));
                self.shared.appended.notify_waiters();
            }
            Request::Attach(sink, order) => {
                let attached = self.queue.attach(&sink, order);
                self.note(attached);
                self.sinks.insert(sink, order);
                self.change();
            }
            Request::Retain(sinks) => {
                self.sinks
                    .retain(|name, _| sinks.iter().any(|sink| **sink == **name));
                self.queue
                    .retain(|name| sinks.iter().any(|sink| sink == name));
                self.change();
            }
            Request::Next(sink, reply) => self.next(&sink, reply),
            Request::Acknowledge(sink, ids) => {
                self.queue.acknowledge(&sink, ids);
                self.change();
            }
            Request::Settle(sink, times, reply) => {
                let are_equal = self.queue.settle(&sink, times);
                self.settlings.push((reply, are_equal));
                self.change();
            }
            Request::IsDone(sink, reply) => {
                let is_done = self.queue.is_done(&sink);
                let _ = reply.send(is_done.unwrap_or(false));
            }
            Request::Close(sink) => self.queue.close(&sink),
            Request::Forget(sink) => {
                self.sinks.remove(&sink);
                self.queue.retain(|name| *name != *sink);
                self.change();
            }
            Request::Rewind(sink) => {
                self.queue.rewind(&sink);
                self.shared.appended.notify_waiters();
            }
            Request::Flush(reply) => {
                self.flushes.push(reply);
                self.change();
            }
            Request::Latest(reply) => {
                let latest = self.queue.latest();
                // Whoever asked may be gone.
                let _ = reply.send(latest.unwrap_or_default());
            }
            Request::MoveTo(disk, limits, reply) => {
                let moved = self.move_to(disk, limits);
                let _ = reply.send(moved);
            }
        }
    }

    fn next(&mut self, sink: &str, reply: oneshot::Sender<Next>) {
        if reply.is_closed() {
            return;
        }
        // Where fresh blocks go first, one may come while older ones would be taken along.
        let most = match self.sinks.get(sink) {
            Some(Order::Strict) => CELLS_AT_ONCE,
            _ => 1,
        };
        let (mut blocks, mut weight) = (Vec::new(), 0);
        while weight < most {
            match self.queue.next(sink) {
                Ok(Some((id, block))) => {
                    weight += 1 + cells(&block);
                    blocks.push((id, Arc::new(block)));
                }
                Ok(None) => break,
                Err(error) => {
                    self.note(Err(error));
                    break;
                }
            }
        }
        for (id, _) in reply.send(blocks).err().into_iter().flatten() {
            self.queue.give_back(sink, id);
        }
    }

    fn move_to(
        &mut self,
        disk: Box<dyn Disk>,
        limits: QueueLimits,
    ) -> Result<Recovery, QueueError> {
        let (mut queue, recovery) = Queue::open(disk, limits)?;
        for (sink, order) in &self.sinks {
            queue.attach(sink, *order)?;
        }
        self.queue.move_into(&mut queue)?;
        self.queue = queue;
        self.change();
        self.shared.appended.notify_waiters();
        Ok(recovery)
    }

    fn change(&mut self) {
        self.changed.get_or_insert_with(Instant::now);
    }

    fn sync_when_due(&mut self) {
        let is_due = self.changed.is_some_and(|at| at.elapsed() >= SYNC_DELAY);
        if is_due || !self.flushes.is_empty() || !self.settlings.is_empty() {
            self.sync();
        }
    }

    fn sync(&mut self) {
        self.changed = None;
        let synced = self.queue.sync();
        self.note(synced);
        for (settling, are_equal) in self.settlings.drain(..) {
            let _ = settling.send(are_equal);
        }
    }

    /// Comes last in a round: whoever flushes finds what was told of it.
    fn answer_flushes(&mut self) {
        for flush in self.flushes.drain(..) {
            let _ = flush.send(());
        }
    }

    fn expire_when_due(&mut self) {
        if self
            .expired
            .is_some_and(|at| at.elapsed() < EXPIRE_INTERVAL)
        {
            return;
        }
        self.expired = Some(Instant::now());
        self.queue.expire(now().time());
    }

    /// Logs that the disk fails, and that it does no more.
    fn note(&mut self, result: Result<(), QueueError>) {
        match (result, self.is_failing) {
            (Err(error), false) => {
                self.is_failing = true;
                let causes = with_causes(&error);
                warn!(
                    error = causes,
                    "the queue's disk fails; what it does not take is dropped"
                );
            }
            (Ok(()), true) => {
                self.is_failing = false;
                info!("the queue's disk works again");
            }
            _ => {}
        }
    }

    /// Logs that samples are dropped, and that they are no more.
    fn note_drops(&mut self) {
        let counters = self.queue.counters();
        let mut dropped: Dropped = counters.dropped.map(|(_, samples)| samples);
        dropped[DropReason::TooFast as usize] += self.shared.inbox().too_fast.1;
        for change in self.drops.note(Instant::now(), &dropped) {
            match change {
                DropChange::Begins(reason) => warn!(
                    reason = reason.as_str(),
                    "samples that wait to be sent are dropped"
                ),
                DropChange::Ended(reason, samples) => info!(
                    reason = reason.as_str(),
                    samples, "no samples are dropped any more"
                ),
            }
        }
    }

    fn tell(&mut self) {
        let (mut backlogs, mut dropped) = (BTreeMap::new(), BTreeMap::new());
        for sink in self.sinks.keys() {
            // What cannot be read now keeps what is known of it.
            let backlog = self.queue.backlog(sink);
            let known = || self.shared.seen().backlogs.get(sink).copied();
            let backlog = backlog.ok().or_else(known).unwrap_or_default();
            backlogs.insert(sink.clone(), backlog);
            dropped.insert(sink.clone(), self.queue.drops(sink));
        }
        *self.shared.seen() = Seen {
            backlogs,
            dropped,
            counters: self.queue.counters(),
            bytes: self.queue.bytes(),
        };
    }
}

fn cells(block: &SampleBlock) -> usize {
    block.columns.values().len()
}
