//! What a queue promises, kept beside it while random things happen to both.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use pe_push::queue::{BlockId, DropReason, Order, Queue, QueueCounters, QueueLimits};
use pe_push::{SampleBlock, SampleMetric, SampleTime};
use pe_scrape::{ABSENT, LabelSet, Unit};

use crate::disk::{Failure, SimulatedDisk};

/// Prints what happens where `QUEUE_TRACE` is set, to look into one seed.
macro_rules! trace {
    ($($what:tt)*) => {
        if std::env::var_os("QUEUE_TRACE").is_some() {
            println!($($what)*);
        }
    };
}

const SINKS: [(&str, Order); 2] = [("strict", Order::Strict), ("fresh", Order::FreshFirst)];

/// Runs one schedule.
///
/// # Panics
/// When a promise is broken.
pub(crate) fn run(seed: u64) {
    let mut model = Model::new(seed);
    let steps = 20 + model.rng.usize(..80);
    for _ in 0..steps {
        model.step();
        if model.settling.u8(..8) == 0 {
            model.settle();
        }
    }
    model.drain();
}

struct Model {
    rng: Rng,
    /// Decides what is settled, apart from the rest.
    settling: Rng,
    disk: SimulatedDisk,
    limits: QueueLimits,
    queue: Queue,
    counters: QueueCounters,
    blocks: BTreeMap<u64, SampleBlock>,
    sinks: BTreeMap<&'static str, Sink>,
    shapes: Vec<Shape>,
    clock: u64,
    /// Files with flipped bits, and how many blocks that may cost.
    flipped: BTreeMap<String, u32>,
    /// What that has cost so far.
    lost: BTreeSet<u64>,
    /// Blocks that were dropped, and whose numbers were used again. A crash brings a file back whose removal was not certain.
    dropped: BTreeMap<u64, Vec<SampleBlock>>,
    /// Blocks of which an attempt to write may have failed.
    attempted: Vec<SampleBlock>,
    /// Final times, which hold for all sinks: certain to survive, told in this run, and told in earlier ones.
    times: BTreeMap<u64, i64>,
    told: BTreeMap<u64, i64>,
    told_before: BTreeSet<(u64, i64)>,
}

#[derive(Default)]
struct Sink {
    /// Appended, and not certain to survive.
    pending: BTreeSet<u64>,
    /// To be given until it is acknowledged.
    promised: BTreeSet<u64>,
    given: BTreeSet<u64>,
    /// Numbers below were given, in strict order.
    position: u64,
    acknowledged: BTreeSet<u64>,
    /// Never to come again.
    finished: BTreeSet<u64>,
}

impl Model {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let disk = SimulatedDisk::new(rng.u64(..));
        let small = rng.u8(..3) == 0;
        let limits = QueueLimits {
            bytes: if small { 12_000 } else { 10_000_000 },
            age: Duration::from_secs(1_000_000),
            segment_bytes: rng.u64(500..6_000),
        };
        let (queue, _) = Queue::open(Box::new(disk.clone()), limits).unwrap();
        let shapes = (0..3)
            .map(|number| shape(number, 1 + rng.usize(..90)))
            .collect();
        let mut model = Self {
            rng,
            settling: Rng::with_seed(seed),
            disk,
            limits,
            queue,
            counters: QueueCounters::default(),
            blocks: BTreeMap::new(),
            sinks: SINKS
                .iter()
                .map(|(name, _)| (*name, Sink::default()))
                .collect(),
            shapes,
            clock: 1_000,
            flipped: BTreeMap::new(),
            lost: BTreeSet::new(),
            dropped: BTreeMap::new(),
            attempted: Vec::new(),
            times: BTreeMap::new(),
            told: BTreeMap::new(),
            told_before: BTreeSet::new(),
        };
        model.attach();
        model
    }

    fn step(&mut self) {
        match self.rng.u8(..100) {
            0..40 => self.append(),
            40..55 => self.sync(),
            55..70 => self.read(),
            70..82 => self.acknowledge(),
            82..85 => self.rewind(),
            85..90 => self.restart(Restart::Crash),
            90..92 => self.restart(Restart::Kill),
            92..94 => self.restart(Restart::Flip),
            94..96 => {
                let failures = [Failure::Append, Failure::Sync, Failure::Create];
                self.disk.fail(self.rng.choice(failures).unwrap());
            }
            96..98 => self.disk.set_room(Some(self.rng.usize(..3_000))),
            _ => self.disk.set_room(None),
        }
        self.see_drops();
    }

    fn append(&mut self) {
        self.clock += self.rng.u64(..40);
        let shape = self.rng.usize(..self.shapes.len());
        let (metrics, rows) = self.shapes[shape].clone();
        let mut column = |_: &SampleMetric| {
            let kind = self.rng.u8(..4);
            let mut value = |_: &LabelSet| match kind {
                0 => 1.0,
                1 => f64::from(self.rng.u32(..50_000)) / 1e9,
                2 => self.rng.f64(),
                _ if self.rng.bool() => ABSENT,
                _ => f64::from(self.rng.u8(..)),
            };
            rows.iter().map(&mut value).collect::<Vec<_>>()
        };
        let columns = metrics.iter().map(&mut column).collect();
        let time = SampleTime {
            wall_ms: i64::try_from(self.clock).unwrap() * 1_000,
            boot_ns: self.clock * 1_000_000_000,
            boot_id: 5,
            is_final: false,
        };
        let block = SampleBlock {
            time,
            metrics,
            rows,
            columns,
            natives: Vec::new(),
        };
        // What could not be written is counted, and no promise.
        let appended = self.queue.append(&block);
        trace!("append {appended:?}");
        // Whether a first attempt failed is not told.
        self.attempted.push(block.clone());
        let Ok(id) = appended else {
            return;
        };
        let BlockId(number) = id.expect("there are sinks");
        if let Some(former) = self.blocks.insert(number, block) {
            self.dropped.entry(number).or_default().push(former);
        }
        for (name, sink) in &mut self.sinks {
            if sink.promised.remove(&number) {
                // Nothing of it is left, and nobody acknowledged it.
                assert!(!self.flipped.is_empty(), "{number} used again for {name}");
                self.lost.insert(number);
            }
            for set in [&mut sink.acknowledged, &mut sink.finished, &mut sink.given] {
                set.remove(&number);
            }
            sink.pending.insert(number);
        }
        let told = self.told.remove(&number).is_some() | self.times.remove(&number).is_some();
        assert!(!told || !self.flipped.is_empty(), "{number} used again");
    }

    fn sync(&mut self) {
        let done = self.queue.sync();
        trace!("sync {done:?}");
        let done = done.is_ok();
        for sink in self.sinks.values_mut() {
            // After a failure, a later success says nothing of what was written before.
            let pending = std::mem::take(&mut sink.pending);
            if done {
                let new = pending.difference(&sink.acknowledged);
                sink.promised.extend(new.copied());
                sink.finished.extend(&sink.acknowledged);
            }
        }
        if done {
            self.times.append(&mut self.told.clone());
        }
    }

    fn read(&mut self) {
        let (name, _) = self.rng.choice(SINKS).unwrap();
        for _ in 0..self.rng.usize(1..12) {
            if !self.read_one(name) {
                break;
            }
        }
    }

    fn read_one(&mut self, name: &'static str) -> bool {
        let next = self.queue.next(name).expect("reading does not fail here");
        let Some((BlockId(number), block)) = next else {
            return false;
        };
        trace!("{name} gets {number}");
        self.see_return(number, &block);
        if !self.blocks.contains_key(&number)
            && self
                .attempted
                .iter()
                .any(|attempted| is_same(attempted, &block))
        {
            // Writing it failed, and yet it is there. It comes before or instead of what was written in its place.
            self.queue.acknowledge(name, [BlockId(number)]);
            return true;
        }
        let known = self.blocks.get(&number);
        let known = known.unwrap_or_else(|| panic!("{name} got {number}, which nobody appended"));
        let sink = self.sinks.get_mut(name).unwrap();
        let damaged = self.flipped.keys().any(|file| file.starts_with("cursors"));
        let mut block = block;
        let final_time = block.time.is_final.then_some(block.time.wall_ms);
        let in_run = self.told.get(&number);
        let certain = in_run.or_else(|| self.times.get(&number).filter(|_| !damaged));
        if let Some(time) = final_time {
            let is_told = self.times.get(&number) == Some(&time)
                || in_run == Some(&time)
                || self.told_before.contains(&(number, time));
            assert!(is_told, "{name} got {number} with a time that nobody told");
            (block.time.wall_ms, block.time.is_final) = (known.time.wall_ms, false);
        }
        if let Some(certain) = certain {
            assert_eq!(final_time, Some(*certain), "time of {number} for {name}");
        }
        assert!(is_same(known, &block), "{name} got another block {number}");
        if damaged && sink.finished.remove(&number) {
            // An older copy of the cursors was in order.
            sink.acknowledged.remove(&number);
            sink.given.remove(&number);
        }
        let again = sink.finished.contains(&number);
        assert!(!again, "{name} got {number} again");
        assert!(sink.given.insert(number), "{name} got {number} twice");
        if name == "strict" {
            assert!(
                number >= sink.position,
                "{number} came after {}",
                sink.position
            );
            sink.position = number + 1;
        }
        true
    }

    /// Takes in that a block is another than was last appended under its number: one that was dropped, or whose writing failed,
    /// has come back in place of one that was not certain.
    fn see_return(&mut self, number: u64, block: &SampleBlock) {
        let is_it = |known: &SampleBlock| {
            let mut block = block.clone();
            if block.time.is_final {
                block.time = known.time;
            }
            is_same(known, &block)
        };
        if self.blocks.get(&number).is_none_or(is_it) {
            return;
        }
        let is_promised = |sink: &Sink| sink.promised.contains(&number);
        let promised = self.sinks.values().any(is_promised);
        assert!(!promised, "another block came back for {number}");
        let dropped = self.dropped.entry(number).or_default();
        if let Some(found) = dropped.iter().position(is_it) {
            let former = dropped.swap_remove(found);
            let lost = self.blocks.insert(number, former);
            dropped.extend(lost);
        } else if self.attempted.iter().any(is_it) {
            dropped.extend(self.blocks.remove(&number));
        }
    }

    fn acknowledge(&mut self) {
        let (name, _) = self.rng.choice(SINKS).unwrap();
        let all = self.rng.bool();
        let sink = self.sinks.get_mut(name).unwrap();
        let waiting: Vec<u64> = sink.given.difference(&sink.acknowledged).copied().collect();
        let chosen: Vec<u64> = waiting
            .into_iter()
            .filter(|_| all || self.rng.bool())
            .collect();
        for number in &chosen {
            sink.acknowledged.insert(*number);
            sink.promised.remove(number);
        }
        self.queue
            .acknowledge(name, chosen.into_iter().map(BlockId));
    }

    /// Makes the times of some blocks final that wait for an acknowledgement, and tries to change some that are final.
    fn settle(&mut self) {
        let (name, _) = self.settling.choice(SINKS).unwrap();
        let sink = &self.sinks[name];
        let mut times = Vec::new();
        let mut is_another = false;
        for number in sink.given.difference(&sink.acknowledged) {
            let before = self.told_before.range((*number, i64::MIN)..);
            let before = before.take_while(|told| told.0 == *number).count();
            let is_told = self.told.contains_key(number);
            let may_be_told = self.times.contains_key(number) || before > 0;
            if self.settling.bool() || (may_be_told && !is_told) {
                continue;
            }
            let time = self.blocks[number].time.wall_ms + self.settling.i64(-90_000..90_000);
            times.push((BlockId(*number), time));
            if is_told {
                is_another = true;
            } else {
                self.told.insert(*number, time);
            }
        }
        trace!("{name} settles {times:?}");
        let are_equal = self.queue.settle(name, times);
        assert!(are_equal || is_another, "a time stands that nobody settled");
    }

    fn rewind(&mut self) {
        let (name, _) = self.rng.choice(SINKS).unwrap();
        trace!("{name} rewinds");
        self.queue.rewind(name);
        let sink = self.sinks.get_mut(name).unwrap();
        sink.position = 0;
        sink.given = sink.acknowledged.clone();
    }

    fn restart(&mut self, restart: Restart) {
        match &restart {
            Restart::Kill => {}
            Restart::Crash => self.disk.crash(),
            Restart::Flip => {
                self.disk.crash();
                if let Some(file) = self.disk.flip() {
                    *self.flipped.entry(file).or_default() += 1;
                }
            }
        }
        let opened = Queue::open(Box::new(self.disk.clone()), self.limits);
        let recovery;
        (self.queue, recovery) = opened.expect("it opens by itself");
        trace!(
            "{restart:?} {recovery:?} {:?} {:?}",
            self.queue, self.flipped
        );
        self.counters = QueueCounters::default();
        self.told_before.extend(std::mem::take(&mut self.told));
        for sink in self.sinks.values_mut() {
            sink.pending.clear();
            sink.position = 0;
            sink.given.clear();
            // What of it reached the disk is open.
            let finished = &sink.finished;
            sink.acknowledged.retain(|number| finished.contains(number));
        }
        self.attach();
    }

    fn attach(&mut self) {
        for (name, order) in SINKS {
            self.queue.attach(name, order).unwrap();
        }
        self.queue
            .retain(|name| SINKS.iter().any(|sink| sink.0 == name));
    }

    /// What the queue says that it dropped is promised no more.
    fn see_drops(&mut self) {
        let now = self.queue.counters();
        let dropped = |counters: &QueueCounters| {
            let by_limit = [DropReason::Limit, DropReason::DiskFull, DropReason::Age];
            by_limit
                .map(|reason| counters.dropped(reason).0)
                .iter()
                .sum::<u64>()
        };
        if dropped(&now) > dropped(&self.counters) {
            let oldest = self.queue.oldest();
            for sink in self.sinks.values_mut() {
                for set in [&mut sink.promised, &mut sink.pending] {
                    set.retain(|number| BlockId(*number) >= oldest);
                }
            }
        }
        self.counters = now;
    }

    /// With a disk that is in order again, each sink gets all that it was promised.
    fn drain(&mut self) {
        self.disk.set_room(None);
        self.restart(Restart::Crash);
        let mut lost = self.lost.clone();
        for (name, _) in SINKS {
            while self.read_one(name) {}
            let sink = &self.sinks[name];
            lost.extend(sink.promised.difference(&sink.given).copied());
            let backlog = self.queue.backlog(name).unwrap();
            let waiting = sink.given.iter().map(|number| &self.blocks[number]);
            let samples: usize = waiting.map(samples).sum();
            if self.flipped.is_empty() {
                assert_eq!(backlog.samples, samples as u64, "backlog of {name}");
            }
        }
        let flips: u32 = self.flipped.values().sum();
        // Two flips in one file may hit both copies of a shape, which many blocks need.
        let twice = self.flipped.values().any(|flips| *flips > 1);
        assert!(
            twice || lost.len() <= flips as usize,
            "lost {lost:?}, with {flips} flips"
        );
        // It goes on as if nothing had happened.
        self.append();
        self.sync();
        for (name, _) in SINKS {
            assert!(self.read_one(name), "{name} gets nothing new");
            let given = self.sinks[name].given.iter().copied().map(BlockId);
            self.queue.acknowledge(name, given);
            assert_eq!(self.queue.backlog(name).unwrap().samples, 0);
        }
        self.queue.sync().unwrap();
        let segments = self.disk.names();
        let segments = segments
            .iter()
            .filter(|name| name.ends_with(".segment"))
            .count();
        assert!(segments <= 2, "{segments} segments are left of nothing");
    }
}

#[derive(Debug)]
enum Restart {
    /// The program ends; what it wrote is in the system's memory.
    Kill,
    /// The power goes.
    Crash,
    /// The power goes, and a bit flips.
    Flip,
}

type Shape = (Arc<[SampleMetric]>, Arc<[LabelSet]>);

fn shape(number: usize, rows: usize) -> Shape {
    let metric = |metric| SampleMetric {
        name: format!("metric_{metric}").into(),
        labels: LabelSet::empty(),
        family: format!("metric_{metric}").into(),
        kind: "gauge",
        help: "Help".into(),
        unit: Unit::Seconds,
    };
    let labels = |row| {
        LabelSet::new([
            ("device", format!("d{row}")),
            ("group", format!("g{}", number / 2)),
        ])
    };
    let metrics = (0..1 + number * 2).map(metric).collect();
    (metrics, (0..rows).map(|row| labels(row).unwrap()).collect())
}

fn is_same(one: &SampleBlock, other: &SampleBlock) -> bool {
    let bits = |block: &SampleBlock| -> Vec<u64> {
        block
            .columns
            .iter()
            .flatten()
            .map(|value| value.to_bits())
            .collect()
    };
    one.time == other.time
        && one.metrics == other.metrics
        && one.rows == other.rows
        && one.columns.len() == other.columns.len()
        && bits(one) == bits(other)
}

fn samples(block: &SampleBlock) -> usize {
    let cells = block.columns.iter().flatten();
    cells.filter(|value| !pe_scrape::is_absent(**value)).count()
}
