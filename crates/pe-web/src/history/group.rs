//! The history of one group's devices.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::SystemTime;

use pe_scrape::{
    Columns, CycleReport, Frame, LabelSet, Metric, MetricKind, UpStates, rtt_code, rtt_codes,
    rtt_of_code,
};

use super::ring::Ring;
use super::sketch::Sketch;
use super::{Kind, Reasons, State, seconds};

/// The share of lost requests of the latest cycles from which on a device that is up is losing.
const LOSING: f64 = 0.02;

/// What a lost share is multiplied with to fit into a byte.
const LOSS_SCALE: f64 = 250.0;

/// Minutes for which overruns are counted.
const OVERRUN_MINUTES: u64 = 60;

/// Changes of state that are kept of a device, of one among many devices.
const CHANGES: usize = 20;
const FEW_CHANGES: usize = 6;
const MANY_DEVICES: usize = 20_000;

/// What a device costs beside its records: running sketches, state, labels, row and, with what a hash table keeps free, index.
const FIXED_BYTES: usize = 152;
/// An entry of the index and its control byte, where a quarter of the hash table is free.
const INDEX_BYTES: usize = 24;
const _: () = assert!(
    size_of::<(Running<10>, Running<14>)>()
        + size_of::<Now>()
        + size_of::<LabelSet>()
        + size_of::<u32>()
        + INDEX_BYTES
        <= FIXED_BYTES
);
// What is told of the memory of a device.
const _: () = assert!(Spans::CHOICES[0].bytes() <= 1024);
const _: () = assert!(Spans::CHOICES[4].bytes() == 252);

/// How many records there are of each device, and how long slots are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spans {
    pub(crate) cycles: usize,
    /// Slots and their length in seconds: about three hours.
    pub(crate) short: (usize, u64),
    /// About a day.
    pub(crate) long: (usize, u64),
}

impl Spans {
    const CHOICES: [Self; 5] = [
        Self::new(30, (36, 300), (36, 2400)),
        Self::new(20, (24, 450), (28, 3000)),
        Self::new(12, (18, 600), (18, 4800)),
        Self::new(8, (12, 900), (12, 7200)),
        Self::new(4, (4, 2700), (4, 21_600)),
    ];

    const fn new(cycles: usize, short: (usize, u64), long: (usize, u64)) -> Self {
        Self {
            cycles,
            short,
            long,
        }
    }

    const fn bytes(self) -> usize {
        FIXED_BYTES
            + self.cycles * size_of::<Cycle>()
            + (self.short.0 + self.long.0) * size_of::<Slot>()
    }

    /// The most that fits into `bytes`.
    pub(super) fn for_devices(devices: usize, bytes: usize) -> Self {
        let mut choices = Self::CHOICES.into_iter();
        let fitting = choices.find(|spans| spans.bytes().saturating_mul(devices) <= bytes);
        fitting.unwrap_or(Self::CHOICES[Self::CHOICES.len() - 1])
    }
}

/// One cycle of one device: codes of round-trip times, see [`pe_scrape::rtt_code`]; 0 for none.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cycle {
    pub(crate) middle: u8,
    pub(crate) best: u8,
    pub(crate) worst: u8,
    loss: u8,
    pub(crate) state: State,
}

impl Cycle {
    pub(crate) fn loss(self) -> f64 {
        f64::from(self.loss) / LOSS_SCALE
    }
}

/// A stretch of time of one device.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Slot {
    median: u16,
    /// The codes of the 2, 10, 25, 75, 90 and 98 % quantiles; the outermost are best and worst where there are few replies.
    quantiles: [u8; 6],
    loss: u8,
    pub(crate) state: State,
}

impl Slot {
    /// Seconds; `None` without replies.
    pub(crate) fn median(self) -> Option<f64> {
        (self.median > 0).then(|| rtt_of_code(f64::from(self.median) / 256.0))
    }

    /// The quantiles in seconds.
    pub(crate) fn quantiles(self) -> Option<[f64; 6]> {
        (self.median > 0).then(|| self.quantiles.map(|code| rtt_of_code(code.into())))
    }

    pub(crate) fn loss(self) -> f64 {
        f64::from(self.loss) / LOSS_SCALE
    }

    /// How much the quantiles say: 0 for fewer than 4 replies, 1 for fewer than 10, 2 for fewer than 50, else 3.
    pub(crate) fn depth(self) -> u8 {
        self.state.reason() >> 3
    }
}

/// What a slot is made of while it lasts.
#[derive(Debug, Clone, Copy, Default)]
struct Running<const N: usize> {
    sketch: Sketch<N>,
    sent: u16,
    lost: u16,
    kind: u8,
}

impl<const N: usize> Running<N> {
    fn note(&mut self, sent: u16, lost: u16, kind: Kind) {
        self.sent = self.sent.saturating_add(sent);
        self.lost = self.lost.saturating_add(lost);
        let weight = |kind: Kind| match kind {
            Kind::Up | Kind::Losing => 3,
            Kind::Down => 2,
            Kind::Unknown => 1,
            Kind::Waiting => 0,
        };
        self.kind = self.kind.max(weight(kind));
    }

    fn kind(&self) -> Kind {
        match self.kind {
            3 => Kind::Up,
            2 => Kind::Down,
            1 => Kind::Unknown,
            _ => Kind::Waiting,
        }
    }

    fn slot(&self) -> Slot {
        let replies = self.sketch.total();
        let depth = match replies {
            0..4 => 0,
            4..10 => 1,
            10..50 => 2,
            _ => 3,
        };
        let mut slot = Slot {
            loss: match self.sent {
                0 => 0,
                sent => loss_byte(f64::from(self.lost) / f64::from(sent)),
            },
            // The reason's bits tell the depth; the reasons of a slot are those of its changes.
            state: State::new(self.kind(), depth << 3),
            ..Slot::default()
        };
        let Some((best, worst)) = self.sketch.ends() else {
            return slot;
        };
        let code = |share| self.sketch.quantile(share).unwrap_or_default();
        let (low, high) = match replies {
            0..50 => (f64::from(best), f64::from(worst)),
            _ => (code(0.02), code(0.98)),
        };
        slot.median = (code(0.5) * 256.0).round() as u16;
        slot.quantiles = [low, code(0.1), code(0.25), code(0.75), code(0.9), high]
            .map(|code| code.round() as u8);
        slot
    }
}

/// What a device is now.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    pub(crate) state: State,
    /// Seconds since 1970.
    pub(crate) since: u32,
    /// The share of lost requests of the latest cycles.
    pub(crate) loss: f32,
    /// Mean and jitter of the latest cycle in seconds; NaN for none.
    pub(crate) rtt: f32,
    pub(crate) jitter: f32,
}

impl Default for Now {
    fn default() -> Self {
        Self {
            state: State::default(),
            since: 0,
            loss: f32::NAN,
            rtt: f32::NAN,
            jitter: f32::NAN,
        }
    }
}

/// A change of state.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Change {
    pub(crate) at: u32,
    pub(crate) state: State,
}

/// How often a reason was counted for a device.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ErrorCount {
    pub(crate) reason: u8,
    pub(crate) total: f64,
    /// In the latest cycle in which it was counted, and when that was.
    pub(crate) latest: f64,
    pub(crate) at: u32,
}

/// The labels of a frame's rows, and the devices they are of.
type Rows = (Arc<[LabelSet]>, Arc<[u32]>);

/// The history of a group.
#[derive(Debug)]
pub(crate) struct GroupHistory {
    pub(crate) spans: Spans,
    pub(crate) labels: Vec<LabelSet>,
    ids: HashMap<u64, u32>,
    /// The devices of the rows of each frame.
    rows: Vec<Rows>,
    pub(crate) now: Vec<Now>,
    cycles: Ring<Cycle>,
    /// Number, tick and start of each cycle.
    ticks: VecDeque<(u64, u64, SystemTime)>,
    short: Ring<Slot>,
    long: Ring<Slot>,
    running: Vec<(Running<10>, Running<14>)>,
    /// The numbers of the running slots.
    numbers: Option<(u64, u64)>,
    errors: HashMap<u32, Vec<ErrorCount>>,
    /// Of devices whose state has changed since it was first known.
    changes: HashMap<u32, VecDeque<Change>>,
    /// The most requests that a device was sent in a cycle.
    probes: u16,
    counts: [u32; 5],
    /// Minutes with overruns and how many; and how many there were in all at the latest cycle.
    overruns: VecDeque<(u64, u64)>,
    all_overruns: u64,
}

impl Default for GroupHistory {
    fn default() -> Self {
        let spans = Spans::CHOICES[0];
        Self {
            spans,
            labels: Vec::new(),
            ids: HashMap::new(),
            rows: Vec::new(),
            now: Vec::new(),
            cycles: Ring::new(spans.cycles, 0),
            ticks: VecDeque::new(),
            short: Ring::new(spans.short.0, 0),
            long: Ring::new(spans.long.0, 0),
            running: Vec::new(),
            numbers: None,
            errors: HashMap::new(),
            changes: HashMap::new(),
            probes: 1,
            counts: [0; 5],
            overruns: VecDeque::new(),
            all_overruns: 0,
        }
    }
}

/// The id of a device, the same after a restart: from group, name, address and family (FNV-1a, 64 bits).
pub(crate) fn device_id(group: &str, labels: &LabelSet) -> u64 {
    let parts = ["device", "ip", "family"].map(|name| labels.get(name).unwrap_or_default());
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for part in [group].into_iter().chain(parts) {
        for byte in part.bytes().chain([0xff]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    hash
}

impl GroupHistory {
    pub(crate) fn len(&self) -> usize {
        self.labels.len()
    }

    pub(crate) fn device(&self, id: u64) -> Option<usize> {
        self.ids.get(&id).map(|device| *device as usize)
    }

    /// The latest cycles of a device with their starts, oldest first.
    pub(crate) fn cycles(
        &self,
        device: usize,
    ) -> impl DoubleEndedIterator<Item = (SystemTime, Cycle)> {
        let started = |number| {
            let found = self.ticks.iter().find(|(known, _, _)| *known == number);
            found.map_or(SystemTime::UNIX_EPOCH, |(_, _, started)| *started)
        };
        self.cycles
            .of(device)
            .map(move |(number, cycle)| (started(number), cycle))
    }

    /// The slots of about three hours, oldest first, each with the second in which it began; the last one is running.
    pub(crate) fn short_slots(&self, device: usize) -> Vec<(u64, Slot)> {
        let (running, _) = self.running[device];
        let number = self.numbers.map(|(short, _)| short);
        with_running(
            &self.short,
            device,
            number,
            running.slot(),
            self.spans.short.1,
        )
    }

    /// The same for about a day.
    pub(crate) fn long_slots(&self, device: usize) -> Vec<(u64, Slot)> {
        let (short, mut long) = self.running[device];
        add_short(&mut long, &short);
        let number = self.numbers.map(|(_, long)| long);
        with_running(&self.long, device, number, long.slot(), self.spans.long.1)
    }

    /// How a device's state changed, oldest first.
    pub(crate) fn changes(&self, device: usize) -> impl DoubleEndedIterator<Item = Change> {
        let listed = self.changes.get(&(device as u32));
        let now = self.now[device];
        let only = Change {
            at: now.since,
            state: now.state,
        };
        let only = (listed.is_none() && only.at > 0).then_some(only);
        listed.into_iter().flatten().copied().chain(only)
    }

    pub(crate) fn errors(&self, device: usize) -> &[ErrorCount] {
        let errors = self.errors.get(&(device as u32));
        errors.map_or(&[], Vec::as_slice)
    }

    /// Ticks of the hour before `now` that brought no full measurement, because an earlier cycle was still running.
    pub(crate) fn overruns(&self, now: SystemTime) -> u64 {
        let first = (seconds(now) / 60).saturating_sub(OVERRUN_MINUTES - 1);
        let counted = self.overruns.iter().filter(|(minute, _)| *minute >= first);
        counted.map(|(_, count)| count).sum()
    }

    fn note_overruns(&mut self, report: &CycleReport) {
        let mut values = report.exporter.iter();
        let all = values.find_map(|frame| frame.value(0, "pingexporter_cycle_overruns_total"));
        let Some(all) = all.map(|all| all as u64) else {
            return;
        };
        // Less than before: it is counted anew.
        let new = all.checked_sub(self.all_overruns).unwrap_or(all);
        self.all_overruns = all;
        if new == 0 {
            return;
        }
        let minute = seconds(report.started) / 60;
        match self.overruns.back_mut() {
            Some((last, count)) if *last == minute => *count += new,
            _ => self.overruns.push_back((minute, new)),
        }
        if self.overruns.len() > OVERRUN_MINUTES as usize {
            self.overruns.pop_front();
        }
    }

    /// Devices by kind.
    pub(crate) fn counts(&self) -> [u32; 5] {
        self.counts
    }

    /// Takes a finished cycle in, and returns the devices whose state changed.
    pub(super) fn note(
        &mut self,
        report: &Arc<CycleReport>,
        spans: Spans,
        reasons: &mut Reasons,
    ) -> Vec<(u64, LabelSet, State)> {
        self.arrange(report, spans);
        self.advance(report.started);
        self.note_overruns(report);
        let cycle = self.cycle_of(report);
        let mut states = UpStates::new(self.len());
        for frame in report.frames() {
            let devices = self.rows_of(frame);
            states.note(frame, devices.iter().map(|device| *device as usize));
        }
        let mut why = vec![0_u8; self.len()];
        for frame in &report.devices {
            self.take_frame(frame, cycle, &states, &mut why, reasons);
        }
        self.settle(report, &states, &why)
    }

    fn rows_of(&self, frame: &Frame) -> Arc<[u32]> {
        let known = self
            .rows
            .iter()
            .find(|(labels, _)| Arc::ptr_eq(labels, frame.rows()));
        known.map_or_else(|| Arc::from([]), |(_, devices)| devices.clone())
    }

    /// Takes what one scraper measured in this cycle.
    fn take_frame(
        &mut self,
        frame: &Frame,
        cycle: Option<u64>,
        states: &UpStates,
        why: &mut [u8],
        reasons: &mut Reasons,
    ) {
        let Some(known) = Known::of(frame.columns(), reasons) else {
            return;
        };
        let at = seconds(frame.time()) as u32;
        let rows = self.rows_of(frame);
        for (row, device) in rows.iter().enumerate() {
            let index = *device as usize;
            // What another scraper says of the device counts in place of this.
            let is_deciding = states.counts(index, frame.columns());
            for &(reason, metric) in &known.errors {
                let Some(total) = frame.get(row, metric) else {
                    continue;
                };
                let counts = self.errors.entry(*device).or_default();
                let place = counts.iter().position(|count| count.reason == reason);
                let place = place.unwrap_or_else(|| {
                    // Most devices have one reason, and in an outage all have it.
                    counts.reserve_exact(1);
                    counts.push(ErrorCount {
                        reason,
                        total: 0.0,
                        latest: 0.0,
                        at: 0,
                    });
                    counts.len() - 1
                });
                let count = &mut counts[place];
                if total > count.total {
                    count.latest = total - count.total;
                    count.at = at;
                    if is_deciding {
                        why[index] = reason;
                    }
                }
                count.total = total;
            }
            if !is_deciding {
                continue;
            }
            let gauge = |metric: Option<Metric>| metric.and_then(|metric| frame.get(row, metric));
            let Some(is_up) = gauge(frame.columns().up()) else {
                continue;
            };
            let kind = Kind::from(states.get(index));
            if is_up <= 0.0 && kind == Kind::Up {
                // Another scraper that counts as much found it up.
                continue;
            }
            let rtt = gauge(known.rtt);
            let mut codes = [0_u8; 48];
            let mut used = 0;
            for metric in &known.codes {
                for code in frame.get(row, *metric).into_iter().flat_map(rtt_codes) {
                    if used < codes.len() {
                        codes[used] = code;
                        used += 1;
                    }
                }
            }
            if used == 0
                && let Some(rtt) = rtt
                && known.codes.is_empty()
            {
                codes[0] = rtt_code(rtt);
                used = 1;
            }
            let codes = &mut codes[..used];
            let loss = gauge(known.loss).unwrap_or(1.0 - is_up.clamp(0.0, 1.0));
            let sent = if loss < 1.0 {
                ((used as f64) / (1.0 - loss)).round().max(1.0) as u16
            } else {
                self.probes
            };
            self.probes = self.probes.max(sent);
            let lost = (f64::from(sent) * loss).round() as u16;
            let (short, _) = &mut self.running[index];
            for code in codes.iter() {
                short.sketch.add(*code, 1);
            }
            short.note(sent, lost, kind);
            let now = &mut self.now[index];
            now.rtt = rtt.map_or(f32::NAN, |rtt| rtt as f32);
            now.jitter = gauge(known.jitter).map_or(f32::NAN, |jitter| jitter as f32);
            codes.sort_unstable();
            let record = Cycle {
                middle: median(codes),
                best: codes.first().copied().unwrap_or_default(),
                worst: codes.last().copied().unwrap_or_default(),
                loss: loss_byte(loss),
                state: State::new(kind, why[index]),
            };
            if let Some(slot) = cycle.and_then(|number| self.cycles.slot_mut(number)) {
                slot[index] = record;
            }
        }
    }

    /// Settles what each device is now.
    fn settle(
        &mut self,
        report: &CycleReport,
        states: &UpStates,
        why: &[u8],
    ) -> Vec<(u64, LabelSet, State)> {
        let at = seconds(report.started) as u32;
        let newest = self.ticks.back().map(|(number, _, _)| *number);
        let most = match self.len() {
            ..MANY_DEVICES => CHANGES,
            _ => FEW_CHANGES,
        };
        let mut changed = Vec::new();
        for index in 0..self.len() {
            let kind = Kind::from(states.get(index));
            if kind == Kind::Unknown {
                let (short, _) = &mut self.running[index];
                short.note(0, 0, Kind::Unknown);
                let slot = newest.and_then(|number| self.cycles.slot_mut(number));
                if let Some(slot) = slot {
                    slot[index].state = State::new(Kind::Unknown, why[index]);
                }
                self.now[index].rtt = f32::NAN;
                self.now[index].jitter = f32::NAN;
            }
            let asked = self
                .cycles
                .of(index)
                .filter(|(_, cycle)| matches!(cycle.state.kind(), Kind::Up | Kind::Down));
            let (count, sum) = asked.fold((0.0, 0.0), |(count, sum), (_, cycle)| {
                (count + 1.0, sum + cycle.loss())
            });
            let loss = sum / count;
            let now = &mut self.now[index];
            now.loss = loss as f32;
            let kind = match kind {
                Kind::Up if loss >= LOSING => Kind::Losing,
                other => other,
            };
            // A device that loses now and then keeps the reason of the latest loss.
            let reason = match (kind, why[index]) {
                (Kind::Up, _) => 0,
                (_, 0) => now.state.reason(),
                (_, reason) => reason,
            };
            let state = State::new(kind, reason);
            let before = Change {
                at: now.since,
                state: now.state,
            };
            now.state = state;
            if state.kind() != before.state.kind() {
                now.since = at;
                if before.at > 0 {
                    let changes = self.changes.entry(index as u32).or_default();
                    if changes.is_empty() {
                        changes.push_back(before);
                    }
                    changes.push_back(Change { at, state });
                    if changes.len() > most {
                        changes.pop_front();
                    }
                }
                let labels = self.labels[index].clone();
                changed.push((device_id(&report.group, &labels), labels, state));
            }
        }
        self.counts = [0; 5];
        for now in &self.now {
            self.counts[now.state.kind() as usize] += 1;
        }
        changed
    }

    /// The number of the report's cycle; `None` for one that is too old to be shown.
    fn cycle_of(&mut self, report: &CycleReport) -> Option<u64> {
        let known = self.ticks.iter().find(|(_, tick, _)| *tick == report.tick);
        if let Some((number, _, _)) = known {
            return Some(*number);
        }
        let newest = self.ticks.back().copied();
        // The engine counts ticks of a group from 0 again when the group was changed.
        if newest.is_some_and(|(_, tick, started)| tick > report.tick && started >= report.started)
        {
            return None;
        }
        let number = newest.map_or(0, |(number, _, _)| number + 1);
        self.cycles.start(number);
        self.ticks.push_back((number, report.tick, report.started));
        if self.ticks.len() > self.spans.cycles {
            self.ticks.pop_front();
        }
        Some(number)
    }

    /// Ends the slots that are over at `time`.
    fn advance(&mut self, time: SystemTime) {
        let second = seconds(time);
        let wanted = (second / self.spans.short.1, second / self.spans.long.1);
        let Some((short, long)) = self.numbers else {
            self.short.start(wanted.0);
            self.long.start(wanted.1);
            self.numbers = Some(wanted);
            return;
        };
        // A clock that was set back goes on in the slot that is running.
        if wanted.0 > short {
            if let Some(records) = self.short.slot_mut(short) {
                for (record, (running, _)) in records.iter_mut().zip(&self.running) {
                    *record = running.slot();
                }
            }
            for (short, long) in &mut self.running {
                add_short(long, short);
                *short = Running::default();
            }
            start_all(&mut self.short, short, wanted.0, self.spans.short.0);
        }
        if wanted.1 > long {
            if let Some(records) = self.long.slot_mut(long) {
                for (record, (_, running)) in records.iter_mut().zip(&self.running) {
                    *record = running.slot();
                }
            }
            for (_, long) in &mut self.running {
                *long = Running::default();
            }
            start_all(&mut self.long, long, wanted.1, self.spans.long.0);
        }
        self.numbers = Some((wanted.0.max(short), wanted.1.max(long)));
    }

    /// Knows the devices of the report's frames, and forgets others.
    fn arrange(&mut self, report: &CycleReport, spans: Spans) {
        let is_known = |frame: &Arc<Frame>| {
            frame.columns().up().is_none()
                || self
                    .rows
                    .iter()
                    .any(|(labels, _)| Arc::ptr_eq(labels, frame.rows()))
        };
        if report.frames().all(is_known) && self.spans == spans {
            return;
        }
        let mut ids: HashMap<u64, u32> = HashMap::new();
        let mut labels: Vec<LabelSet> = Vec::new();
        let mut rows: Vec<Rows> = Vec::new();
        let frames = report
            .frames()
            .filter(|frame| frame.columns().up().is_some());
        for frame in frames {
            if rows
                .iter()
                .any(|(known, _)| Arc::ptr_eq(known, frame.rows()))
            {
                continue;
            }
            let devices = frame.rows().iter().map(|row| {
                *ids.entry(device_id(&report.group, row)).or_insert_with(|| {
                    labels.push(row.clone());
                    labels.len() as u32 - 1
                })
            });
            let devices: Arc<[u32]> = devices.collect();
            rows.push((frame.rows().clone(), devices));
        }
        let mut former: Vec<Option<usize>> = vec![None; labels.len()];
        for (id, device) in &ids {
            former[*device as usize] = self.device(*id);
        }
        fn moved<T: Copy + Default>(all: &[T], former: &[Option<usize>]) -> Vec<T> {
            let each = former.iter();
            each.map(|former| former.map_or_else(T::default, |former| all[former]))
                .collect()
        }
        self.now = moved(&self.now, &former);
        let mut errors = HashMap::new();
        let mut changes = HashMap::new();
        for (device, former) in former.iter().enumerate() {
            let Some(former) = former else { continue };
            let (device, former) = (device as u32, *former as u32);
            errors.extend(self.errors.remove(&former).map(|found| (device, found)));
            changes.extend(self.changes.remove(&former).map(|found| (device, found)));
        }
        (self.errors, self.changes) = (errors, changes);
        if self.spans == spans {
            self.cycles = self.cycles.rearranged(&former);
            self.short = self.short.rearranged(&former);
            self.long = self.long.rearranged(&former);
            self.running = moved(&self.running, &former);
        } else {
            // Slots of another length say nothing of these.
            self.cycles = Ring::new(spans.cycles, labels.len());
            self.short = Ring::new(spans.short.0, labels.len());
            self.long = Ring::new(spans.long.0, labels.len());
            self.running = vec![Default::default(); labels.len()];
            self.ticks.clear();
            self.numbers = None;
            self.spans = spans;
        }
        (self.ids, self.labels, self.rows) = (ids, labels, rows);
    }
}

/// What of a scraper's columns the history takes.
struct Known {
    rtt: Option<Metric>,
    loss: Option<Metric>,
    jitter: Option<Metric>,
    /// Cells with the codes of all round-trip times of the cycle.
    codes: Vec<Metric>,
    /// Counters by reason, each with the reason's number.
    errors: Vec<(u8, Metric)>,
}

impl Known {
    fn of(columns: &Arc<Columns>, reasons: &mut Reasons) -> Option<Self> {
        columns.up()?;
        let mut known = Self {
            rtt: None,
            loss: None,
            jitter: None,
            codes: Vec::new(),
            errors: Vec::new(),
        };
        for (descriptor, metric) in columns.metrics() {
            let name = descriptor.name();
            let gauge = *descriptor.kind() == MetricKind::Gauge;
            if descriptor.is_hidden() {
                known.codes.push(metric);
            } else if gauge
                && (name.ends_with("_rtt_mean_seconds") || name.ends_with("_duration_seconds"))
            {
                known.rtt.get_or_insert(metric);
            } else if gauge && name.ends_with("_loss_ratio") {
                known.loss.get_or_insert(metric);
            } else if gauge && name.ends_with("_rtt_jitter_seconds") {
                known.jitter.get_or_insert(metric);
            } else if *descriptor.kind() == MetricKind::Counter && name.ends_with("_errors_total") {
                let reason = descriptor.labels().find(|(label, _)| *label == "reason");
                let number = reason.map(|(_, word)| reasons.number(word));
                known.errors.extend(number.map(|number| (number, metric)));
            }
        }
        Some(known)
    }
}

/// The median of ascending codes, 0 without any.
fn median(codes: &[u8]) -> u8 {
    let half = codes.len() / 2;
    match (codes.get(half), codes.len() % 2) {
        (None, _) => 0,
        (Some(middle), 1) => *middle,
        (Some(upper), _) => codes[half - 1].midpoint(*upper),
    }
}

fn loss_byte(share: f64) -> u8 {
    let byte = (share.clamp(0.0, 1.0) * LOSS_SCALE).round() as u8;
    // Something lost is never nothing.
    if share > 0.0 { byte.max(1) } else { 0 }
}

fn add_short<const N: usize, const M: usize>(long: &mut Running<N>, short: &Running<M>) {
    long.sketch.merge(&short.sketch);
    long.note(short.sent, short.lost, short.kind());
}

/// Starts the slots after `last` up to `wanted`: those in which nothing was measured too.
fn start_all(ring: &mut Ring<Slot>, last: u64, wanted: u64, slots: usize) {
    let first = (last + 1).max(wanted.saturating_sub(slots as u64 - 1));
    for number in first..=wanted {
        ring.start(number);
    }
}

fn with_running(
    ring: &Ring<Slot>,
    device: usize,
    running: Option<u64>,
    slot: Slot,
    length: u64,
) -> Vec<(u64, Slot)> {
    ring.of(device)
        .map(|(number, record)| match Some(number) == running {
            true => (number * length, slot),
            false => (number * length, record),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pe_scrape::{FrameBuilder, MetricDescriptor};

    use super::*;

    #[test]
    fn the_median_lies_between_the_two_in_the_middle() {
        let medians = [&[][..], &[7], &[7, 11], &[7, 11, 12], &[1, 200, 250, 255]].map(median);
        assert_eq!(medians, [0, 7, 9, 11, 225]);
    }

    #[test]
    fn overruns_are_those_of_the_latest_hour() {
        let mut group = GroupHistory::default();
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let at = |minutes: u64| start + Duration::from_secs(60 * minutes);
        let mut note = |minutes: u64, all: f64| {
            let mut report = CycleReport::new("plant", 0, at(minutes));
            let name = "pingexporter_cycle_overruns_total";
            let columns = Columns::new(&[MetricDescriptor::counter(name, "Overruns")]).unwrap();
            let frame = FrameBuilder::with_columns(columns).row(LabelSet::default(), &[all]);
            report.exporter.push(frame.build());
            group.note_overruns(&report);
        };
        note(0, 2.0);
        note(0, 3.0);
        note(30, 7.0);
        // The group was loaded anew, and counts from 0.
        note(50, 1.0);
        assert_eq!(group.overruns(at(50)), 8);
        assert_eq!(group.overruns(at(75)), 5);
        assert_eq!(group.overruns(at(200)), 0);
    }
}
