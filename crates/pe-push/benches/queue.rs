//! What the queue costs: bytes a sample, time a sample, memory and time of a start with 30 days of backlog.
//!
//! ```sh
//! cargo bench -p pe-push --features remote-write --bench queue
//! ```
//!
//! Frames are made here as pe-ping makes them, with all of its metrics: of loopback devices (RTTs log-normal around 25 µs) and of a real
//! network (log-normal around 20 ms, σ 0.5), with times of a
//! millisecond and more in whole microseconds. A goal that is missed is an exit status of 1.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use fastrand::Rng;
use pe_push::queue::{Directory, MemoryDisk, Order, Queue, QueueLimits};
use pe_push::{SampleBlock, SampleMetric, SampleTime};
use pe_scrape::{ABSENT, LabelSet, Unit};

/// Metrics of a device in the order of pe-ping's columns, errors by reason left out but for two.
const METRICS: [(&str, &str); 14] = [
    ("dev_ping", "gauge"),
    ("ping_up", "gauge"),
    ("ping_loss_ratio", "gauge"),
    ("ping_rtt_best_seconds", "gauge"),
    ("ping_rtt_worst_seconds", "gauge"),
    ("ping_rtt_mean_seconds", "gauge"),
    ("ping_rtt_std_deviation_seconds", "gauge"),
    ("ping_rtt_jitter_seconds", "gauge"),
    ("ping_reply_ttl", "gauge"),
    ("ping_requests_total", "counter"),
    ("ping_replies_total", "counter"),
    ("ping_duplicates_total", "counter"),
    ("ping_errors_total", "counter"),
    ("ping_errors_total", "counter"),
];
/// Bytes a sample at most: loopback devices with one probe and with five, a real network.
const GOAL_ONE: f64 = 1.0;
const GOAL_FIVE: f64 = 1.5;
const GOAL_NETWORK: f64 = 1.0;
/// Nanoseconds a sample at most, for encoding.
const GOAL_NS: f64 = 200.0;
/// Allocations for 1,000 samples at most: buffers that grow, and what is kept of a block.
const GOAL_ALLOCATIONS: f64 = 20.0;
/// Bytes that 30 days of backlog may add, and seconds for a start.
const GOAL_MEMORY_MB: f64 = 20.0;
const GOAL_START: f64 = 1.0;
/// Cycles of 30 s in 30 days.
const CYCLES: u32 = 86_400;

fn main() {
    let mut arguments = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench");
    match (arguments.next().as_deref(), arguments.next()) {
        (None, _) => measure(),
        (Some("fill"), Some(directory)) => fill(&directory),
        (Some("start"), Some(directory)) => start(&directory),
        _ => panic!("no arguments, or: fill DIRECTORY, start DIRECTORY"),
    }
}

fn measure() {
    let mut met = true;
    println!(
        "| frames of 10,000 devices | probes | bytes a sample | goal | write ns | read ns | allocations for 1,000 samples |"
    );
    println!("| --- | ---: | ---: | ---: | ---: | ---: | ---: |");
    for (name, network, probes, goal) in [
        ("loopback", Network::Loopback, 1, Some(GOAL_ONE)),
        ("loopback", Network::Loopback, 5, Some(GOAL_FIVE)),
        ("log-normal, 20 ms", Network::Real, 1, Some(GOAL_NETWORK)),
        ("log-normal, 20 ms", Network::Real, 5, Some(GOAL_NETWORK)),
        ("log-normal, 20 ms, 2 % down", Network::PartlyDown, 5, None),
    ] {
        let figures = encode(network, probes, 10_000, 30);
        let told = goal.map_or("".to_owned(), |goal| format!("{goal}"));
        println!(
            "| {name} | {probes} | {:.2} | {told} | {:.0} | {:.0} | {:.2} |",
            figures.bytes, figures.write_ns, figures.read_ns, figures.allocations
        );
        met &= goal.is_none_or(|goal| figures.bytes <= goal)
            && figures.write_ns <= GOAL_NS
            && figures.allocations <= GOAL_ALLOCATIONS;
    }
    for devices in [50, 1_000] {
        let figures = encode(Network::Real, 1, devices, 3_000);
        println!(
            "| log-normal, 20 ms, {devices} devices | 1 | {:.2} | | {:.0} | {:.0} | {:.2} |",
            figures.bytes, figures.write_ns, figures.read_ns, figures.allocations
        );
    }
    let directory = tempfile::tempdir().unwrap();
    let empty = tempfile::tempdir().unwrap();
    fill(directory.path().to_str().unwrap());
    let [base, _] = run_start(empty.path().to_str().unwrap());
    let [memory, seconds] = run_start(directory.path().to_str().unwrap());
    println!(
        "30 days of 1,000 devices each 30 s: {:.1} MB more, open after {seconds:.3} s",
        memory - base
    );
    met &= memory - base <= GOAL_MEMORY_MB && seconds <= GOAL_START;
    if !met {
        println!("a goal was missed");
        std::process::exit(1);
    }
}

struct Figures {
    bytes: f64,
    /// While writing, for 1,000 samples.
    allocations: f64,
    write_ns: f64,
    read_ns: f64,
}

fn encode(network: Network, probes: usize, devices: usize, cycles: u32) -> Figures {
    let mut source = Source::new(network, probes, devices);
    let blocks: Vec<SampleBlock> = (0..cycles).map(|cycle| source.cycle(cycle)).collect();
    let disk = Box::new(MemoryDisk::new());
    let (mut queue, _) = Queue::open(disk, QueueLimits::default()).unwrap();
    queue.attach("sink", Order::Strict).unwrap();
    let mut written = Duration::ZERO;
    let allocated = allocation_counter::measure(|| {
        let started = cpu_time();
        for block in &blocks {
            queue.append(block).unwrap();
        }
        written = cpu_time() - started;
    });
    let samples = queue.counters().appended_samples as f64;
    let bytes = queue.bytes() as f64;
    let started = cpu_time();
    let mut read = 0;
    while queue.next("sink").unwrap().is_some() {
        read += 1;
    }
    assert_eq!(read, cycles);
    Figures {
        bytes: bytes / samples,
        allocations: allocated.count_total as f64 * 1_000.0 / samples,
        write_ns: written.as_nanos() as f64 / samples,
        read_ns: (cpu_time() - started).as_nanos() as f64 / samples,
    }
}

/// What this thread has used, so that other work on the machine counts little.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        time.tv_sec.unsigned_abs(),
        u32::try_from(time.tv_nsec).unwrap(),
    )
}

/// Writes 30 days of 1,000 devices.
fn fill(directory: &str) {
    let disk = Box::new(Directory::open(directory).unwrap());
    let (mut queue, _) = Queue::open(disk, QueueLimits::default()).unwrap();
    queue.attach("sink", Order::Strict).unwrap();
    let mut source = Source::new(Network::Real, 1, 1_000);
    for cycle in 0..CYCLES {
        queue.append(&source.cycle(cycle)).unwrap();
    }
    queue.sync().unwrap();
    let samples = queue.counters().appended_samples;
    println!("{samples} samples, {} bytes on disk", queue.bytes());
}

/// Opens a queue in a process of its own: memory in MB, seconds.
fn run_start(directory: &str) -> [f64; 2] {
    let program = std::env::current_exe().unwrap();
    let output = std::process::Command::new(program)
        .args(["start", directory])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let numbers: Vec<f64> = text
        .split_whitespace()
        .map(|number| number.parse().unwrap())
        .collect();
    numbers.try_into().unwrap()
}

/// Opens, appends and reads some blocks; prints peak memory in MB, and how long opening took.
fn start(directory: &str) {
    let started = Instant::now();
    let disk = Box::new(Directory::open(directory).unwrap());
    let (mut queue, _) = Queue::open(disk, QueueLimits::default()).unwrap();
    queue.attach("sink", Order::FreshFirst).unwrap();
    let opened = started.elapsed();
    let mut source = Source::new(Network::Real, 1, 1_000);
    for cycle in 0..2_000 {
        queue.append(&source.cycle(CYCLES + cycle)).unwrap();
        let next = queue.next("sink").unwrap();
        queue.acknowledge("sink", next.map(|(id, _)| id));
        if cycle % 10 == 0 {
            let next = queue.next("sink").unwrap();
            queue.acknowledge("sink", next.map(|(id, _)| id));
            queue.sync().unwrap();
        }
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    let peak: f64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    println!("{} {}", peak / 1024.0, opened.as_secs_f64());
}

#[derive(Clone, Copy, PartialEq)]
enum Network {
    Loopback,
    Real,
    PartlyDown,
}

struct Source {
    rng: Rng,
    network: Network,
    probes: usize,
    metrics: Arc<[SampleMetric]>,
    rows: Arc<[LabelSet]>,
}

impl Source {
    fn new(network: Network, probes: usize, devices: usize) -> Self {
        let mut reasons = ["timeout", "host_unreachable"].into_iter();
        let metric = |(name, kind): (&str, &'static str)| {
            let reason = (name == "ping_errors_total").then(|| ("reason", reasons.next().unwrap()));
            SampleMetric {
                name: name.into(),
                labels: LabelSet::new(reason).unwrap(),
                family: name.into(),
                kind,
                help: "Round-trip time of the latest cycle".into(),
                unit: Unit::Seconds,
            }
        };
        let labels = |device: usize| {
            let [_, a, b, c] = u32::try_from(device).unwrap().to_be_bytes();
            let (name, address) = (format!("switch-{device:05}"), format!("10.{a}.{b}.{c}"));
            LabelSet::new([
                ("device", &*name),
                ("ip", &*address),
                ("job", "plant"),
                ("site", "Hamburg 4"),
            ])
        };
        Self {
            rng: Rng::with_seed(1),
            network,
            probes,
            metrics: METRICS.map(metric).into_iter().collect(),
            rows: (0..devices).map(|device| labels(device).unwrap()).collect(),
        }
    }

    fn cycle(&mut self, cycle: u32) -> SampleBlock {
        let mut columns = vec![Vec::with_capacity(self.rows.len()); METRICS.len()];
        for _ in 0..self.rows.len() {
            let is_down = self.network == Network::PartlyDown && self.rng.u8(..50) == 0;
            let row = if is_down {
                self.down(cycle)
            } else {
                self.up(cycle)
            };
            for (column, value) in columns.iter_mut().zip(row) {
                column.push(value);
            }
        }
        let second = u64::from(cycle) * 30;
        SampleBlock {
            time: SampleTime {
                wall_ms: 1_700_000_000_000
                    + i64::try_from(second).unwrap() * 1_000
                    + i64::from(self.rng.u8(..20)),
                boot_ns: second * 1_000_000_000 + self.rng.u64(..10_000_000),
                boot_id: 0x1234_5678_9abc_def0_1234_5678_9abc_def0,
                is_final: false,
            },
            metrics: self.metrics.clone(),
            rows: self.rows.clone(),
            columns: columns.into_iter().collect(),
            natives: Vec::new(),
        }
    }

    fn up(&mut self, cycle: u32) -> [f64; METRICS.len()] {
        let rtts: Vec<f64> = (0..self.probes).map(|_| self.rtt().round()).collect();
        let count = rtts.len() as f64;
        let mean = (rtts.iter().sum::<f64>() / count).round();
        let squares = rtts.iter().map(|rtt| (rtt - mean).powi(2)).sum::<f64>();
        let best = rtts.iter().copied().fold(f64::MAX, f64::min);
        let worst = rtts.iter().copied().fold(0.0, f64::max);
        let mut jitter = ABSENT;
        for pair in rtts.windows(2) {
            let difference = (pair[1] - pair[0]).abs();
            jitter = if jitter.is_nan() {
                difference
            } else {
                jitter + (difference - jitter) / 16.0
            };
        }
        let jitter = if self.probes > 1 {
            published(jitter) / 1e9
        } else {
            ABSENT
        };
        let probes = f64::from(cycle + 1) * count;
        let deviation = published((squares / count).sqrt()) / 1e9;
        let [mean, best, worst] = [mean, best, worst].map(published);
        [
            mean / 1e6,
            1.0,
            0.0,
            best / 1e9,
            worst / 1e9,
            mean / 1e9,
            deviation,
            jitter,
            64.0,
            probes,
            probes,
            0.0,
            ABSENT,
            ABSENT,
        ]
    }

    fn down(&mut self, cycle: u32) -> [f64; METRICS.len()] {
        let probes = f64::from(cycle + 1) * self.probes as f64;
        let none = ABSENT;
        [
            3000.0,
            0.0,
            1.0,
            none,
            none,
            none,
            none,
            none,
            none,
            probes,
            probes - 5.0,
            0.0,
            5.0,
            none,
        ]
    }

    /// Nanoseconds.
    fn rtt(&mut self) -> f64 {
        let (u, v) = (1.0 - self.rng.f64(), self.rng.f64());
        let normal = (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos();
        match self.network {
            Network::Loopback => 25e3 * (0.35 * normal).exp(),
            Network::Real | Network::PartlyDown => 20e6 * (0.5 * normal).exp(),
        }
    }
}

/// Nanoseconds as pe-ping publishes them: whole microseconds from a millisecond on.
fn published(nanos: f64) -> f64 {
    if nanos < 1e6 {
        nanos.round()
    } else {
        (nanos / 1e3).round() * 1e3
    }
}
