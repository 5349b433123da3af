//! Takes blocks from the queue and sends them: the driver of this module's parts.
//!
//! One window of blocks is under way at a time. Its requests hold no series twice, so several may leave at once; the next window
//! begins when all are answered, and then the queue is told. A sender that is stopped loses nothing: what was not acknowledged is
//! read again, and what was sent already arrives again with equal times and values.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures_util::StreamExt;
use futures_util::future::{Either, select};
use futures_util::stream::FuturesUnordered;
use pe_scrape::{Backoff, LabelSet, with_causes};
use tokio::time::sleep;
use tracing::{debug, info, warn};

use super::clock::{ClockTruth, Correction, Steady, correct, has_stepped};
use super::doubt::{Doubts, Start};
use super::metrics::Lost;
use super::pace::Pace;
use super::peer::Reply;
use super::reading::Place;
use super::settings::SMALLEST_REQUEST;
use super::sink::Shared;
use super::verdict::{Verdict, receiver_time};
use super::wire::{Batch, Encoder, Excluded, Form, Part, Protocol, series_hash};
use super::work::{
    Cut, Half, Overlaps, ShapeId, SplitBudget, Window, Work, WorkKind, cut, cut_doubted, labels_of,
    shape, single_blocks,
};
use crate::clocks::{Now, now, wall_ms};
use crate::delivery::{Change, Outage};
use crate::queue::Order;
use crate::{PushError, SampleBlock, SampleMetric};

/// Bytes of a request before compression: some thousand samples. Receivers take ten times that.
const REQUEST_BYTES: usize = 1 << 20;

/// Cells of a window after which no further block is taken in: 8 MB. One block may be larger.
const WINDOW_CELLS: usize = 1 << 20;

/// Most blocks of one shape in a window: what was sent and not noted when the program is killed is not more than this.
const WINDOW_DEPTH: usize = 256;

/// For so long after a start, what an earlier sender had sent may still arrive.
const ARRIVING_FOR: Duration = Duration::from_secs(60);

/// Requests under way with blocks that the receiver may have already.
const DOUBTED_CONNECTIONS: usize = 8;

/// How often types, help texts and units are sent by 1.0.
const METADATA_PERIOD: Duration = Duration::from_secs(60);

/// How often the system is asked whether its clock is synchronised, while samples are held back.
const CLOCK_PERIOD: Duration = Duration::from_secs(1);

/// After an empty request was taken, what is refused is refused for itself for so long.
const OPEN_PERIOD: Duration = Duration::from_secs(60);

/// A series that was refused twice within this time is left out for as long.
const REFUSED_PERIOD: Duration = Duration::from_secs(600);

/// Most series that are left out.
const MOST_REFUSED: usize = 1000;

/// Most refused series that are named in the log at one time.
const MOST_NAMED: usize = 20;

/// Longest pause between tries, unless the receiver asks for more: what is new is to arrive within two cycles of ten seconds.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// After times were settled on a slow disk, it gets so much rest at most, in which blocks gather.
const SETTLING_PAUSE: Duration = Duration::from_millis(200);

/// Most shapes whose latest time is remembered.
const MOST_SHAPES: usize = 10_000;

/// A delivery was broken off, since something newer may go first.
struct Interrupted;

/// Why nothing is sent for a while.
enum Pause {
    /// A request failed; the receiver may have asked for a time.
    Retry {
        error: PushError,
        asked: Option<Duration>,
    },
    /// The receiver lets nothing in.
    Closed(Reply),
}

/// The sender of a sink.
pub(super) struct Sender {
    shared: Arc<Shared>,
    encoder: Encoder,
    /// What is under way, in the order in which it is taken up: with fresh samples first, older ones wait behind.
    deliveries: VecDeque<Delivery>,
    /// Blocks that were read and must wait for a later window.
    carried: VecDeque<(Place, Arc<SampleBlock>)>,
    overlaps: Overlaps,
    protocol: Protocol,
    request_bytes: usize,
    metadata_sent: Option<Instant>,
    backoff: Backoff,
    pace: Pace,
    outage: Outage,
    truth: ClockTruth,
    steady: Steady,
    splits: SplitBudget,
    refused: HashMap<u64, Refusal>,
    excluded: Excluded,
    /// The latest time that was sent of each shape, with a block that keeps the shape's addresses its own.
    latest: HashMap<ShapeId, (i64, Arc<SampleBlock>)>,
    started: Start,
    began: Instant,
    /// What may have arrived before that.
    doubts: Doubts,
    /// The highest block that was read.
    newest: Option<Place>,
    /// When samples were last dropped since they were refused.
    last_refusal: Option<Instant>,
    /// When samples were last dropped since the clock was set back.
    last_step: Option<Instant>,
    /// Whether that happened to samples that it may have.
    has_refused_doubted: bool,
    /// Whether the receiver let nothing in and then took an empty request.
    was_closed: bool,
    openness: Openness,
    /// Until when nothing is settled.
    settles_after: Instant,
}

/// Whether the receiver takes empty requests, as far as that is known: one that refuses them refuses everything.
#[derive(Debug, Default)]
struct Openness {
    /// When it last took an empty request.
    took_empty: Option<Instant>,
    /// Whether it took samples.
    took_samples: bool,
}

impl Openness {
    /// Takes the answer to an empty request; whether it was taken.
    fn note_empty(&mut self, reply: &Reply) -> bool {
        let is_taken = reply.verdict(Protocol::V1) == Verdict::Sent;
        if is_taken {
            self.took_empty = Some(Instant::now());
        }
        is_taken
    }

    /// Whether an empty request would tell anything: not right after one, and not where samples are taken and empty requests are
    /// not.
    fn is_worth_asking(&self, now: Instant) -> bool {
        match self.took_empty {
            Some(taken) => now.duration_since(taken) >= OPEN_PERIOD,
            None => !self.took_samples,
        }
    }
}

/// Blocks that are being sent.
struct Delivery {
    /// Whether it gives way to fresh blocks between requests.
    gives_way: bool,
    ids: Vec<Place>,
    /// When it was read, until its times are settled.
    read: Option<Now>,
    /// Blocks whose times were corrected, and those of an earlier boot.
    corrected: u64,
    of_earlier_boot: u64,
    /// Times that are not final yet.
    times: Vec<(Place, i64)>,
    pending: VecDeque<Work>,
    /// Whether the receiver may have them already.
    is_doubted: bool,
    /// The first half of a doubted request, if it was refused.
    refused_half: Vec<Part>,
}

/// A series that was refused alone.
struct Refusal {
    times: u32,
    latest: Instant,
}

/// A request that ended.
struct Exchange {
    batch: Batch,
    kind: WorkKind,
    result: Result<Reply, PushError>,
    took: Duration,
}

impl Sender {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let settings = &shared.settings;
        let started = Start::at(now());
        Self {
            encoder: Encoder::default(),
            deliveries: VecDeque::new(),
            carried: VecDeque::new(),
            overlaps: Overlaps::default(),
            protocol: settings.protocol,
            request_bytes: settings.most_bytes.min(REQUEST_BYTES),
            metadata_sent: None,
            backoff: Backoff::default(),
            pace: Pace::default(),
            outage: Outage::default(),
            truth: ClockTruth::new(settings.clock_wait, false),
            steady: Steady::default(),
            splits: SplitBudget::default(),
            refused: HashMap::new(),
            excluded: Excluded::new(),
            latest: HashMap::new(),
            started,
            began: Instant::now(),
            doubts: Doubts::since(started),
            newest: None,
            last_refusal: None,
            last_step: None,
            has_refused_doubted: false,
            was_closed: false,
            openness: Openness::default(),
            settles_after: Instant::now(),
            shared,
        }
    }

    /// Sends what there is, and what comes.
    pub(super) async fn run(mut self) {
        let store = self.shared.store.clone();
        let _lease = store.lease.lock().await;
        self.shared.rewind().await;
        self.truth = ClockTruth::new(self.shared.settings.clock_wait, store.was_synchronized());
        (self.started, self.began) = (Start::at(now()), Instant::now());
        self.doubts = Doubts::since(self.started);
        loop {
            let appended = self.shared.appended();
            self.take_blocks().await;
            if self.deliveries.is_empty() {
                self.shared.leave_former().await;
                self.shared.done(appended);
                self.shared.wait_for_blocks().await;
                continue;
            }
            if self.ask_for_time().await || self.hold_back().await {
                self.read_again().await;
                continue;
            }
            self.deliver().await;
        }
    }

    /// Reads blocks into a delivery: when there is none under way, and always those that are newer than what is, where these go
    /// first.
    async fn take_blocks(&mut self) {
        let is_fresh_first = self.shared.settings.order == Order::FreshFirst;
        let is_fresh = self.shared.take_fresh();
        let is_free = self.deliveries.is_empty() || (is_fresh_first && is_fresh);
        if !is_free {
            return;
        }
        self.forgive();
        sleep(self.settles_after.saturating_duration_since(Instant::now())).await;
        let mut window = Window::default();
        let now = now();
        let mut delivery = Delivery {
            gives_way: false,
            ids: Vec::new(),
            read: Some(now),
            corrected: 0,
            of_earlier_boot: 0,
            times: Vec::new(),
            pending: VecDeque::new(),
            is_doubted: false,
            refused_half: Vec::new(),
        };
        let seen = self.newest;
        let cells = match is_fresh_first {
            true => WINDOW_CELLS / 8,
            false => WINDOW_CELLS,
        };
        while window.cells() < cells && window.depth() < WINDOW_DEPTH {
            let carried = match self.deliveries.is_empty() {
                true => self.carried.pop_front(),
                false => None,
            };
            let next = match carried {
                Some(carried) => Some(carried),
                None => self.shared.next_block().await,
            };
            let Some((id, block)) = next else { break };
            let is_old = match seen {
                Some(seen) => id <= seen,
                None => self.started.is_after(&block),
            };
            if is_fresh_first
                && is_old
                && !(self.deliveries.is_empty() && delivery.ids.is_empty())
                && !delivery.gives_way
            {
                // What waits from before is taken up when nothing else is left.
                self.carried.push_back((id, block));
                break;
            }
            delivery.gives_way = is_fresh_first && is_old;
            self.newest = self.newest.max(Some(id));
            let Some((admitted, correction)) = self.admit(&block, now) else {
                self.shared.acknowledge([id]).await;
                continue;
            };
            let is_doubted = self.is_doubted(&admitted);
            if window.is_empty() {
                delivery.is_doubted = is_doubted;
            }
            let is_next =
                is_doubted != delivery.is_doubted || (is_doubted && window.has_shape_of(&admitted));
            let (time, is_final) = (admitted.time.wall_ms, admitted.time.is_final);
            if is_next || window.add(admitted, &mut self.overlaps).is_err() {
                self.carried.push_front((id, block));
                break;
            }
            delivery.ids.push(id);
            if is_doubted {
                self.doubts.may_send(1);
            }
            if !is_final {
                delivery.times.push((id, time));
            }
            match correction {
                Correction::None => {}
                Correction::Stepped(_) => delivery.corrected += 1,
                Correction::EarlierBoot => delivery.of_earlier_boot += 1,
            }
        }
        if window.is_empty() {
            return;
        }
        let parts = window.into_parts();
        delivery.pending = match delivery.is_doubted {
            true => {
                let alone = |part| Work {
                    parts: [part].into(),
                    kind: WorkKind::Doubted,
                };
                parts.into_iter().map(alone).collect()
            }
            false => {
                let kind = WorkKind::First;
                [Work { parts, kind }].into()
            }
        };
        self.deliveries.push_front(delivery);
    }

    /// Whether a block must go alone, since the receiver may have it. Of what is refused, 2.0 writes the rest.
    fn is_doubted(&self, block: &SampleBlock) -> bool {
        self.shared.settings.order == Order::Strict
            && self.protocol == Protocol::V1
            && self.doubts.is_doubted(block)
    }

    /// The block with its time corrected; `None` where it cannot be sent any more.
    fn admit(
        &mut self,
        block: &Arc<SampleBlock>,
        now: Now,
    ) -> Option<(Arc<SampleBlock>, Correction)> {
        let shared = &self.shared;
        let mut time = block.time;
        let mut block = block.clone();
        let correction = correct(&mut time, now);
        if let Correction::Stepped(step) = correction {
            time.wall_ms = block.time.wall_ms.saturating_add(self.steady.step(step));
            Arc::make_mut(&mut block).time = time;
        }
        let age_ms = wall_ms(now.wall).saturating_sub(block.time.wall_ms);
        let is_too_old = shared.settings.max_age.is_some_and(|most| {
            u64::try_from(age_ms).is_ok_and(|age| u128::from(age) > most.as_millis())
        });
        if is_too_old {
            shared.metrics.lost(Lost::TooOld, present(&block));
            return None;
        }
        if shared.settings.order == Order::Strict
            && let Some((latest, _)) = self.latest.get(&shape(&block))
            && block.time.wall_ms < *latest
        {
            shared.metrics.lost(Lost::ClockStep, present(&block));
            let now = Instant::now();
            let is_new = self
                .last_step
                .is_none_or(|last| now.duration_since(last) >= REFUSED_PERIOD);
            if is_new {
                warn!(
                    sink = &*shared.name,
                    seconds = (latest - block.time.wall_ms) / 1000,
                    "the clock was set back: samples that are not later than what was sent are dropped and counted"
                );
            }
            self.last_step = Some(now);
            return None;
        }
        Some((block, correction))
    }

    /// Makes the times of a delivery final, and certain to stay so over a power cut; whether they are those of now. After a step
    /// of the clock, and where another sink was faster, they have to be read again.
    async fn settle(&mut self, delivery: &mut Delivery) -> bool {
        let Some(read) = delivery.read else {
            return true;
        };
        if has_stepped(read, now()) {
            return false;
        }
        delivery.read = None;
        if !delivery.times.is_empty() {
            let started = Instant::now();
            let times = std::mem::take(&mut delivery.times);
            let are_as_sent = self.shared.settle(times).await;
            let pause = (started.elapsed() * 9).min(SETTLING_PAUSE);
            self.settles_after = Instant::now() + pause;
            // Also where they are read again: those that nobody had settled are final then, and count nowhere else.
            let metrics = &self.shared.metrics;
            metrics.corrected(delivery.corrected, delivery.of_earlier_boot);
            if !are_as_sent {
                // Another sink settled other times meanwhile.
                return false;
            }
        }
        if self.shared.settings.order == Order::Strict {
            let parts = delivery.pending.iter().flat_map(|work| &work.parts);
            for block in parts.filter_map(|part| part.blocks.last()) {
                if self.latest.len() >= MOST_SHAPES {
                    self.latest.clear();
                }
                let latest = self.latest.entry(shape(block));
                let (latest, _) = latest.or_insert_with(|| (i64::MIN, labels_of(block)));
                *latest = block.time.wall_ms.max(*latest);
            }
        }
        true
    }

    /// Reads again what is not acknowledged, with the times of now.
    async fn read_again(&mut self) {
        self.deliveries.clear();
        self.carried.clear();
        self.newest = None;
        self.shared.rewind().await;
    }

    /// Asks the receiver for its time before the first samples are sent; whether that took more than one try.
    async fn ask_for_time(&mut self) -> bool {
        let mut has_waited = false;
        while self.truth.wants_answer() {
            let body = self.encoder.empty(Protocol::V1);
            let started = Instant::now();
            let result = self.shared.peer.post(Protocol::V1, body).await;
            self.note_exchange(&result, started.elapsed());
            match result {
                // Any answer tells the time.
                Ok(reply) => {
                    self.openness.note_empty(&reply);
                    break;
                }
                Err(error) => self.pause_after(&error, None).await,
            }
            has_waited = true;
        }
        has_waited
    }

    /// Waits while the clock is in doubt; whether it waited. Times are corrected after it.
    async fn hold_back(&mut self) -> bool {
        let mut has_waited = false;
        loop {
            let synchronized = self.shared.settings.synchronized();
            if self.truth.note_synchronized(synchronized) {
                let store = self.shared.store.clone();
                let noted = tokio::task::spawn_blocking(move || store.note_synchronized());
                // It is noted or logged there.
                let _ = noted.await;
            }
            self.shared.metrics.synchronized(synchronized);
            let Some(rest) = self.truth.hold(now()) else {
                break;
            };
            if !has_waited {
                warn!(
                    sink = &*self.shared.name,
                    ahead_seconds = self.truth.ahead_seconds(),
                    "the clock is in doubt: samples wait for it"
                );
            }
            has_waited = true;
            sleep(rest.min(CLOCK_PERIOD)).await;
        }
        if has_waited {
            info!(
                sink = &*self.shared.name,
                "samples no longer wait for the clock"
            );
        }
        has_waited
    }

    /// Sends the delivery at the front. It stays there when it is broken off.
    async fn deliver(&mut self) {
        let Some(mut delivery) = self.deliveries.pop_front() else {
            return;
        };
        if !self.settle(&mut delivery).await {
            return self.read_again().await;
        }
        match self.send_all(&mut delivery).await {
            Ok(()) => {
                self.shared.acknowledge(delivery.ids).await;
                let waiting = self.shared.backlog().await.samples;
                self.pace.note(Instant::now(), waiting);
                self.shared.metrics.connections(self.pace.connections());
            }
            Err(Interrupted) => {
                // By the time it goes on, there is something newer.
                delivery.gives_way = true;
                self.deliveries.push_front(delivery);
                if self.deliveries.len() > 4 {
                    // Not more than this is held in memory; the queue has it.
                    self.deliveries.clear();
                    self.carried.clear();
                    self.shared.rewind().await;
                }
            }
        }
    }

    async fn send_all(&mut self, delivery: &mut Delivery) -> Result<(), Interrupted> {
        let shared = self.shared.clone();
        let mut running = FuturesUnordered::new();
        let mut is_alone = false;
        loop {
            let connections = match delivery.is_doubted {
                true => DOUBTED_CONNECTIONS,
                false => self.pace.connections(),
            };
            let must_wait = delivery.gives_way && shared.has_fresh();
            while !is_alone
                && !must_wait
                && running.len() < connections
                && let Some((batch, kind)) = self.next_batch(delivery, !running.is_empty())
            {
                is_alone = !kind.is_together();
                running.push(exchange(&shared, batch, kind));
            }
            let Some(ended) = running.next().await else {
                return if must_wait { Err(Interrupted) } else { Ok(()) };
            };
            is_alone = false;
            if let Some(pause) = self.conclude(ended, delivery).await {
                // Whatever else is under way has its own answer.
                while let Some(ended) = running.next().await {
                    self.conclude(ended, delivery).await;
                }
                self.pause(pause).await;
                if self.shared.settings.order == Order::FreshFirst {
                    return Err(Interrupted);
                }
            }
        }
    }

    /// The next request of a delivery. Pieces of what was refused are sent alone.
    fn next_batch(&mut self, delivery: &mut Delivery, is_busy: bool) -> Option<(Batch, WorkKind)> {
        loop {
            let work = delivery.pending.front_mut()?;
            let kind = work.kind;
            if !kind.is_together() && is_busy {
                return None;
            }
            let with_metadata = self.protocol == Protocol::V1
                && self
                    .metadata_sent
                    .is_none_or(|sent| sent.elapsed() >= METADATA_PERIOD);
            let form = Form {
                protocol: self.protocol,
                bytes: self.request_bytes,
                with_metadata,
                excluded: (!self.excluded.is_empty()).then_some(&self.excluded),
            };
            let Some(batch) = self.encoder.next_batch(&mut work.parts, form) else {
                delivery.pending.pop_front();
                continue;
            };
            if batch.excluded > 0 {
                self.shared.metrics.lost(Lost::Refused, batch.excluded);
            }
            if batch.samples == 0 {
                continue;
            }
            if with_metadata && delivery.pending.len() == 1 {
                self.metadata_sent = Some(Instant::now());
            }
            let is_search = !kind.is_together() && !kind.is_doubted();
            if is_search && !self.splits.take(Instant::now()) {
                self.lose(&batch.parts);
                continue;
            }
            return Some((batch, kind));
        }
    }

    async fn pause(&mut self, pause: Pause) {
        match pause {
            Pause::Retry { error, asked } => self.pause_after(&error, asked).await,
            Pause::Closed(reply) => self.wait_until_open(reply).await,
        }
    }

    /// Does what an answer says. Returns why sending must pause, where it must.
    async fn conclude(&mut self, ended: Exchange, delivery: &mut Delivery) -> Option<Pause> {
        let Exchange {
            batch,
            kind,
            result,
            took,
        } = ended;
        self.note_exchange(&result, took);
        let reply = match result {
            Ok(reply) => reply,
            Err(error) => {
                delivery.again(batch, kind);
                return Some(Pause::Retry { error, asked: None });
            }
        };
        let verdict = match reply.verdict(batch.protocol) {
            Verdict::Split | Verdict::Drop if self.refuses_everything(&reply).await => {
                Verdict::Closed
            }
            verdict => verdict,
        };
        match verdict {
            Verdict::Sent => {
                self.was_closed = false;
                self.openness.took_samples = true;
                self.note_taken(&batch.parts, kind, delivery);
                self.succeeded(batch.samples, took).await;
            }
            Verdict::Retry(asked) => {
                delivery.again(batch, kind);
                let error = reply.into_error()?;
                return Some(Pause::Retry { error, asked });
            }
            Verdict::FallBack => {
                if self.protocol == Protocol::V2 {
                    info!(
                        sink = &*self.shared.name,
                        "the receiver does not speak remote write 2.0; 1.0 is used"
                    );
                }
                self.protocol = Protocol::V1;
                delivery.again(batch, kind);
            }
            Verdict::Smaller => self.make_smaller(batch, kind, &reply, delivery),
            Verdict::Split if kind.is_doubted() => {
                self.split_doubted(batch, kind, &reply, delivery);
            }
            Verdict::Split => self.split(batch, kind, &reply, delivery),
            Verdict::Closed if self.was_closed => {
                // It takes empty requests, yet not this one.
                self.refuse(&batch.parts, &reply);
            }
            Verdict::Closed => {
                delivery.again(batch, kind);
                return Some(Pause::Closed(reply));
            }
            Verdict::Drop => self.refuse(&batch.parts, &reply),
        }
        None
    }

    async fn succeeded(&mut self, samples: u64, took: Duration) {
        self.backoff.reset();
        let now = SystemTime::now();
        self.shared.metrics.sent(samples, now);
        self.shared.arrived(now);
        if let Some(Change::Recovered { after, failed }) = self.outage.note(Instant::now(), 0, None)
        {
            self.pace.recovered();
            info!(
                sink = &*self.shared.name,
                failed,
                outage_seconds = after.as_secs_f64(),
                "samples arrive again"
            );
        }
        let pause = self.pace.pause(took);
        if !pause.is_zero() {
            sleep(pause).await;
        }
    }

    fn note_exchange(&mut self, result: &Result<Reply, PushError>, took: Duration) {
        let kind = match result {
            Ok(reply) => reply.kind(),
            Err(error) => error.kind(),
        };
        self.shared.metrics.request(kind, took);
        if let Ok(reply) = result {
            let receiver = receiver_time(reply.headers()).map(wall_ms);
            self.truth.note_answer(receiver, now());
            self.shared.metrics.clock_ahead(self.truth.ahead_seconds());
        }
    }

    /// Notes a failure, and waits before the next try.
    async fn pause_after(&mut self, error: &PushError, asked: Option<Duration>) {
        let shared = self.shared.clone();
        let (name, kind) = (&*shared.name, error.kind());
        let words = with_causes(error);
        if self.outage.note(Instant::now(), 1, Some(kind)) == Some(Change::Fails) {
            warn!(sink = name, error = words, "samples do not arrive");
        } else {
            debug!(sink = name, error = words, "samples do not arrive yet");
        }
        self.backoff.failed();
        let pause = self.backoff.pause(rand::random()).unwrap_or_default();
        let pause = pause.min(LONGEST_PAUSE).max(asked.unwrap_or_default());
        shared.failed(words, pause);
        let hurry = std::pin::pin!(shared.hurry.notified());
        if let Either::Right(_) = select(std::pin::pin!(sleep(pause)), hurry).await {
            debug!(sink = name, "the last samples are tried at once");
        }
    }

    /// Whether an answer to samples is not about them: an empty request gets the same. So answers a proxy that wants another
    /// client certificate, with a 400.
    async fn refuses_everything(&mut self, reply: &Reply) -> bool {
        if self.was_closed || !self.openness.is_worth_asking(Instant::now()) {
            return false;
        }
        let body = self.encoder.empty(Protocol::V1);
        let started = Instant::now();
        let result = self.shared.peer.post(Protocol::V1, body).await;
        self.note_exchange(&result, started.elapsed());
        match result {
            Ok(empty) => {
                let is_taken = self.openness.note_empty(&empty);
                let is_same = empty.status() == reply.status() && empty.words() == reply.words();
                !is_taken && is_same
            }
            Err(_) => false,
        }
    }

    /// Sends empty requests until one is taken.
    async fn wait_until_open(&mut self, reply: Reply) {
        let Some(mut error) = reply.into_error() else {
            return;
        };
        loop {
            self.pause_after(&error, None).await;
            let body = self.encoder.empty(Protocol::V1);
            let started = Instant::now();
            let result = self.shared.peer.post(Protocol::V1, body).await;
            self.note_exchange(&result, started.elapsed());
            match result {
                Ok(reply) if self.openness.note_empty(&reply) => {
                    self.was_closed = true;
                    return;
                }
                Ok(reply) => error = reply.into_error().unwrap_or(error),
                Err(failure) => error = failure,
            }
        }
    }

    /// Makes requests smaller, unless this one is as small as can be.
    fn make_smaller(
        &mut self,
        batch: Batch,
        kind: WorkKind,
        reply: &Reply,
        delivery: &mut Delivery,
    ) {
        let series: usize = batch.parts.iter().map(|part| part.series.len()).sum();
        if self.request_bytes > SMALLEST_REQUEST {
            self.request_bytes = (self.request_bytes / 2).max(SMALLEST_REQUEST);
            info!(
                sink = &*self.shared.name,
                bytes = self.request_bytes,
                "the receiver wants smaller requests"
            );
            delivery.again(batch, kind);
        } else if series > 1 {
            self.split(batch, kind, reply, delivery);
        } else {
            self.refuse(&batch.parts, reply);
        }
    }

    fn split(&mut self, batch: Batch, kind: WorkKind, reply: &Reply, delivery: &mut Delivery) {
        if kind == WorkKind::Older {
            let blocks = batch.parts.iter().map(|part| part.blocks.len()).sum();
            if self.began.elapsed() < ARRIVING_FOR && self.doubts.may_send(blocks) {
                for work in single_blocks(batch.parts).into_iter().rev() {
                    delivery.pending.push_front(work);
                }
            } else {
                self.refuse(&batch.parts, reply);
            }
            return;
        }
        match cut(batch.parts) {
            Cut::Pieces([first, second]) => {
                delivery.pending.push_front(second);
                delivery.pending.push_front(first);
            }
            Cut::Culprit(part) => {
                let (row, metric) = part.series(part.series.start);
                let hash = series_hash(row, metric);
                self.note_culprit(hash, name_of(row, metric), reply);
                self.lose(&[part]);
            }
        }
    }

    /// Notes that what was doubted was new to the receiver.
    fn note_taken(&mut self, parts: &[Part], kind: WorkKind, delivery: &mut Delivery) {
        if !kind.is_doubted() {
            return;
        }
        for block in parts.iter().filter_map(|part| part.blocks.first()) {
            self.doubts.taken(block);
        }
        if kind == WorkKind::DoubtedHalf(Half::Second) && !delivery.refused_half.is_empty() {
            // The receiver does not have it, so that something is wrong in the first half.
            let parts = std::mem::take(&mut delivery.refused_half).into();
            let kind = WorkKind::Piece;
            delivery.pending.push_front(Work { parts, kind });
        }
    }

    /// Finds out whether what was refused is there already, or has something wrong in it: then one of its halves is taken.
    fn split_doubted(
        &mut self,
        batch: Batch,
        kind: WorkKind,
        reply: &Reply,
        delivery: &mut Delivery,
    ) {
        match kind {
            WorkKind::DoubtedHalf(Half::First) => delivery.refused_half.extend(batch.parts),
            WorkKind::DoubtedHalf(Half::Second) if delivery.refused_half.is_empty() => {
                self.split(batch, WorkKind::Piece, reply, delivery);
            }
            WorkKind::DoubtedHalf(Half::Second) => {
                let mut parts = std::mem::take(&mut delivery.refused_half);
                parts.extend(batch.parts);
                self.refuse_doubted(&parts, reply);
            }
            _ => match cut_doubted(batch.parts) {
                Cut::Pieces([first, second]) => {
                    delivery.pending.push_front(second);
                    delivery.pending.push_front(first);
                }
                Cut::Culprit(part) => self.refuse_doubted(&[part], reply),
            },
        }
    }

    /// Counts a refusal of one series, and leaves it out where that is usual.
    fn note_culprit(&mut self, series: u64, name: String, reply: &Reply) {
        let now = Instant::now();
        let is_new = !self.refused.contains_key(&series);
        match self.refused.len() {
            _ if !is_new => {}
            0..MOST_NAMED => warn!(
                sink = &*self.shared.name,
                series = name,
                error = reply.words(),
                "the receiver refuses a series"
            ),
            MOST_NAMED => warn!(
                sink = &*self.shared.name,
                "the receiver refuses further series, which are counted and not named"
            ),
            _ => debug!(
                sink = &*self.shared.name,
                series = name,
                error = reply.words(),
                "the receiver refuses a further series"
            ),
        }
        if self.refused.len() >= MOST_REFUSED && is_new {
            return;
        }
        let refusal = self.refused.entry(series).or_insert(Refusal {
            times: 0,
            latest: now,
        });
        refusal.times += 1;
        refusal.latest = now;
        if refusal.times > 1 {
            self.excluded.insert(series);
        }
    }

    /// Drops what the receiver refused.
    fn refuse(&mut self, parts: &[Part], reply: &Reply) {
        let now = Instant::now();
        let is_new = self
            .last_refusal
            .is_none_or(|last| now.duration_since(last) >= REFUSED_PERIOD);
        if is_new {
            warn!(
                sink = &*self.shared.name,
                status = reply.status(),
                error = reply.words(),
                "the receiver refuses samples; they are dropped and counted"
            );
        }
        self.last_refusal = Some(now);
        self.lose(parts);
    }

    /// Drops what the receiver refused and may have already.
    fn refuse_doubted(&mut self, parts: &[Part], reply: &Reply) {
        if !self.has_refused_doubted {
            info!(
                sink = &*self.shared.name,
                status = reply.status(),
                error = reply.words(),
                "the receiver refuses samples from before the start: it may have them, or they are too old for it"
            );
        }
        self.has_refused_doubted = true;
        self.lose(parts);
    }

    /// Sends series again that were left out for long enough.
    fn forgive(&mut self) {
        if self.refused.is_empty() {
            return;
        }
        let now = Instant::now();
        self.refused
            .retain(|_, refusal| now.duration_since(refusal.latest) < REFUSED_PERIOD);
        let refused = &self.refused;
        self.excluded.retain(|series| refused.contains_key(series));
    }

    fn lose(&mut self, parts: &[Part]) {
        let samples = parts
            .iter()
            .flat_map(|part| part.series.clone().map(|series| part.samples_of(series)));
        self.shared.metrics.lost(Lost::Refused, samples.sum());
    }
}

impl Delivery {
    /// Puts a request back, to be made again.
    fn again(&mut self, batch: Batch, kind: WorkKind) {
        self.pending.push_front(Work {
            parts: batch.parts.into(),
            kind,
        });
    }
}

async fn exchange(shared: &Shared, batch: Batch, kind: WorkKind) -> Exchange {
    let started = Instant::now();
    let result = shared.peer.post(batch.protocol, batch.body.clone()).await;
    Exchange {
        batch,
        kind,
        result,
        took: started.elapsed(),
    }
}

/// A series as queries write it.
fn name_of(row: &LabelSet, metric: &SampleMetric) -> String {
    let labels = row.iter().chain(metric.labels.iter());
    let labels: Vec<String> = labels
        .map(|label| format!("{}={:?}", label.name(), label.value()))
        .collect();
    format!("{}{{{}}}", metric.name, labels.join(", "))
}

/// How many samples a block has.
fn present(block: &SampleBlock) -> u64 {
    let cells = block.columns.values().iter();
    cells.filter(|value| !pe_scrape::is_absent(**value)).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remote_write::testing::{block, metric};

    #[test]
    fn a_refused_series_is_named_as_queries_write_it() {
        let row = &[("device", "the \"big\" one"), ("ip", "::1")][..];
        let metric = metric("ping_errors_total", &[("reason", "dns")]);
        let block = block(&[metric], &[row], &[&[1.0]], 0);
        assert_eq!(
            name_of(&block.rows[0], &block.metrics[0]),
            r#"ping_errors_total{device="the \"big\" one", ip="::1", reason="dns"}"#
        );
    }
}
