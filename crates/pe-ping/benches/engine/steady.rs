//! Table two: so many devices a second, each second anew, for ten seconds.

use std::net::Ipv4Addr;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use pe_ping::{EventKind, Pinger, Sweep};

use crate::bare::{BATCH, Bare};
use crate::process::{self, Background, Measurement, Spread};
use crate::report::{Goal, Table, number};
use crate::throughput::{block_on, device, devices};

const RATES: [u32; 3] = [1_000, 10_000, 100_000];
const SECONDS: u32 = 10;

/// How long a prober may sleep to gather work: as long as the engine does. Getting up is what few packets cost most.
const QUANTUM: Duration = Duration::from_millis(25);

/// Runs a case of this table, in its own process: the devices a second, then the core to stay on, if any.
pub(crate) fn case(name: &str, rate: &str, core: Option<&str>) -> Option<Measurement> {
    if let Some(core) = core.and_then(|core| core.parse().ok()) {
        process::pin(core);
    }
    Some(match name {
        "steady" => engine(rate.parse().ok()?, SECONDS),
        "steady-bare" => bare(rate.parse().ok()?),
        "burn" => burn(),
        _ => return None,
    })
}

/// Keeps a core busy, for long enough.
fn burn() -> Measurement {
    let start = Instant::now();
    let mut x = 1_u64;
    while start.elapsed() < Duration::from_secs(3 * u64::from(SECONDS)) {
        for _ in 0..100_000 {
            x = std::hint::black_box(x.wrapping_mul(6_364_136_223_846_793_005));
        }
    }
    Measurement::default()
}

/// A sweep of `rate` devices that begins each second and takes all of it.
pub(crate) fn engine(rate: u32, seconds: u32) -> Measurement {
    let targets = devices(rate);
    let pinger = Pinger::builder()
        .unlimited_rate()
        .timeout(Duration::from_secs(1))
        .build()
        .expect("a raw socket");
    let second = Duration::from_secs(1);
    let sweep = Sweep::new(targets)
        .count(seconds)
        .probe_interval(second)
        .spread(second);
    let probes = sweep.probes() as usize;
    let (tell, told) = mpsc::channel();
    let mut late = Vec::with_capacity(probes);
    let mut rtts = Vec::with_capacity(probes);
    let mut ended = 0;
    let observer = move |event: pe_ping::ProbeEvent| {
        let planned = f64::from(event.round) + f64::from(event.target) / f64::from(rate);
        if let Some(sent) = event.sent {
            late.push(((sent.as_secs_f64() - planned) * 1e6) as f32);
        }
        match event.kind {
            EventKind::Reply(reply) => rtts.push(reply.rtt.as_nanos() as f32 / 1e3),
            EventKind::Failed(_) => {}
            _ => return,
        }
        ended += 1;
        if ended == probes {
            let lists = (std::mem::take(&mut late), std::mem::take(&mut rtts));
            tell.send(lists).expect("somebody waits");
        }
    };
    let start = Instant::now();
    let result = block_on(pinger.sweep_with(sweep, observer)).expect("the engine runs");
    let measurement = Measurement {
        pings: probes as u64,
        wall: start.elapsed().as_secs_f64(),
        extra: pinger.counters().receive_drops as f64,
        ..Measurement::default()
    }
    .used_by_this_process();
    let (late, rtts) = told.recv().expect("all probes have ended");
    let answered: u64 = result
        .stats
        .iter()
        .map(|stats| u64::from(stats.replies()))
        .sum();
    let spread = |values: Vec<f32>| Spread::of(values.into_iter().map(f64::from).collect());
    Measurement {
        missing: probes as u64 - answered,
        rtt: spread(rtts),
        jitter: spread(late),
        ..measurement
    }
}

/// The same with the bare loop: it sleeps until 64 packets are due, or for the quantum.
fn bare(rate: u32) -> Measurement {
    let targets: Vec<Ipv4Addr> = (0..rate).map(device).collect();
    let probes = (rate * SECONDS) as usize;
    let mut bare = Bare::open(probes).expect("a raw socket");
    let quantum = (f64::from(rate) * QUANTUM.as_secs_f64()) as usize;
    let batch = quantum.clamp(1, BATCH);
    let start = Instant::now();
    let mut late = Vec::with_capacity(probes);
    let mut sent = 0;
    while sent < probes {
        let from = sent % targets.len();
        let count = batch.min(targets.len() - from);
        let due = Duration::from_secs_f64((sent + count - 1) as f64 / f64::from(rate));
        std::thread::sleep(due.saturating_sub(start.elapsed()));
        let now = start.elapsed().as_secs_f64();
        bare.request(sent, &targets[from..from + count])
            .expect("sendmmsg");
        late.extend((sent..sent + count).map(|probe| (now - probe as f64 / f64::from(rate)) * 1e6));
        sent += count;
        while bare.rtts.len() < sent && bare.receive().expect("recvmmsg") > 0 {}
    }
    bare.finish(probes).expect("recvmmsg");
    let measurement = Measurement {
        pings: probes as u64,
        missing: (probes - bare.rtts.len()) as u64,
        wall: start.elapsed().as_secs_f64(),
        ..Measurement::default()
    }
    .used_by_this_process();
    Measurement {
        rtt: Spread::of(bare.rtts.iter().map(|rtt| *rtt as f64 / 1e3).collect()),
        jitter: Spread::of(late),
        ..measurement
    }
}

/// Who probes, as what case, and whether another core is kept busy.
const CASES: [(&str, &str, bool); 3] = [
    ("bare loop", "steady-bare", false),
    ("pe-ping", "steady", false),
    ("pe-ping", "steady", true),
];

/// Runs a case on the core that has the least to do. `None` where it wants another core and there is none.
fn run(name: &str, rate: u32, busy: bool) -> Option<Measurement> {
    let cores = process::idle_cores();
    let _burner = if busy {
        let other = cores.get(1)?.to_string();
        Some(Background::start(&["burn", "0", &other]))
    } else {
        None
    };
    let core = cores.first()?.to_string();
    Some(process::run(&[name, &rate.to_string(), &core]))
}

/// The run whose CPU time is in the middle.
fn middle(mut runs: Vec<Measurement>) -> Option<Measurement> {
    runs.sort_unstable_by(|a, b| a.cpu.total_cmp(&b.cpu));
    let lost = runs.iter().map(|run| run.missing).sum();
    let middle = runs.len() / 2;
    let run = runs.into_iter().nth(middle)?;
    // What any of them lost counts.
    Some(Measurement {
        missing: lost,
        ..run
    })
}

/// Runs all cases and prints the table. Returns whether all goals were reached.
pub(crate) fn table() -> bool {
    println!("\n## The same devices each second, for {SECONDS} seconds, on one core\n");
    let mut table = Table::new(&[
        "devices a second",
        "by",
        "another core",
        "CPU",
        "falsely missing",
        "local drops",
        "sent late by µs: median",
        "p99",
        "RTT median µs",
        "p99 ",
        "peak MB",
    ]);
    let mut goals = Vec::new();
    for rate in RATES {
        // Where there is little to do, what little disturbs weighs more.
        let rounds = if rate == RATES[0] { 3 } else { 1 };
        let mut results = [const { Vec::new() }; CASES.len()];
        for _ in 0..rounds {
            for (results, (_, name, busy)) in results.iter_mut().zip(CASES) {
                results.extend(run(name, rate, busy));
            }
        }
        let mut floor = f64::NAN;
        for (results, (label, name, busy)) in results.into_iter().zip(CASES) {
            let Some(result) = middle(results) else {
                continue;
            };
            let spread = |spread: Option<Spread>| {
                spread.map_or((f64::NAN, f64::NAN), |spread| (spread.median, spread.p99))
            };
            let (rtt, jitter) = (spread(result.rtt), spread(result.jitter));
            table.row(vec![
                number(rate as usize),
                label.into(),
                if busy { "busy" } else { "left alone" }.into(),
                format!("{:.2} %", result.cpu_share() * 100.0),
                result.missing.to_string(),
                format!("{:.0}", result.extra),
                format!("{:.0}", jitter.0),
                format!("{:.0}", jitter.1),
                format!("{:.1}", rtt.0),
                format!("{:.1}", rtt.1),
                format!("{:.1}", result.peak as f64 / 1e6),
            ]);
            let label = format!(
                "{} devices a second{}",
                number(rate as usize),
                if busy { ", another core busy" } else { "" }
            );
            if name == "steady-bare" {
                floor = result.cpu_share() * 100.0;
                continue;
            }
            goals.push(Goal::at_most(
                &format!("falsely missing at {label}"),
                result.missing as f64,
                0.0,
            ));
            if rate == RATES[2] {
                // A second of work must not take more than a second of the core.
                let what = format!("seconds for {SECONDS} seconds of {label}");
                goals.push(Goal::at_most(&what, result.wall, f64::from(SECONDS) + 1.0));
            }
            if rate == RATES[0] && !busy {
                let what = format!("per cent of a core at {label} (the floor needs {floor:.2})");
                goals.push(Goal::at_most(
                    &what,
                    result.cpu_share() * 100.0,
                    floor.max(1.0),
                ));
            }
        }
    }
    table.print();
    Goal::print(&goals)
}
