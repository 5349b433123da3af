//! Table three: many in flight, a storm of foreign replies, and the memory that a probe takes.

use std::net::{IpAddr, Ipv4Addr};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::sys::resource::UsageWho;
use pe_ping::{EventKind, Pinger, Reason, Sweep};
use pe_testkit::{Family, Need, Scenario, Simnet, in_namespace};
use serde_json::json;

use crate::bare::{BATCH, Bare};
use crate::process::{self, Measurement, Spread};
use crate::report::{Goal, number};
use crate::steady;
use crate::throughput::{block_on, devices};

const ANSWERING: u32 = 20_000;
const SILENT: u32 = 200_000;
const STORM_RATE: u32 = 100_000;
const STORM_SECONDS: u32 = 5;
/// Devices a second that are probed in the storm.
const IN_STORM: u32 = 10_000;

/// Runs a case of this table, in its own process.
pub(crate) fn case(name: &str) -> Option<Measurement> {
    Some(match name {
        "slow" => slow(),
        "silent" => silent(),
        "in-storm" => steady::engine(IN_STORM, STORM_SECONDS),
        "storm" => storm(),
        "program" => program(),
        _ => return None,
    })
}

/// A simulated network on which each of 20,000 devices answers after 1.5 seconds.
fn slow() -> Measurement {
    let scenario = json!({
        "about": "slow devices",
        "devices": [{ "hosts": format!("1-{ANSWERING}"), "delay": 1500 }],
    });
    let scenario: Scenario = serde_json::from_value(scenario).expect("a scenario");
    in_namespace(|namespace| {
        let network = Simnet::start(namespace, &scenario, Family::V4);
        let targets: Vec<IpAddr> = (1..=ANSWERING).map(|host| network.address(host)).collect();
        flight(targets, 0, Duration::from_secs(10))
    })
}

/// 200,000 devices that never answer, and while all of these are in flight, 20,000 that do.
fn silent() -> Measurement {
    in_namespace(|namespace| {
        namespace.add_route("10.0.0.0/8 dev lo");
        let silent = (0..SILENT).map(|number| Ipv4Addr::from_bits(0x0a00_0001 + number).into());
        let targets: Vec<IpAddr> = silent.chain(devices(ANSWERING)).collect();
        flight(targets, SILENT, Duration::from_secs(5))
    })
}

/// Sweeps the targets, of which the first `silent` do not answer. `extra` is how many were in flight at most.
fn flight(targets: Vec<IpAddr>, silent: u32, timeout: Duration) -> Measurement {
    let builder = Pinger::builder().timeout(timeout).unlimited_rate();
    let pinger = builder.build().expect("a raw socket");
    let pings = targets.len() as u64 - u64::from(silent);
    let probes = targets.len();
    let (tell, told) = mpsc::channel();
    let sweep = Sweep::new(targets);
    let mut lives = Vec::with_capacity(probes);
    // The pages of the list are not the engine's.
    lives.resize(probes, (0.0_f32, 0.0_f32));
    lives.clear();
    let before = process::memory("VmRSS");
    let observer = move |event: pe_ping::ProbeEvent| {
        let sent = event.sent.unwrap_or_default().as_secs_f32();
        lives.push(match event.kind {
            EventKind::Reply(reply) => (sent, reply.rtt.as_secs_f32()),
            _ => (sent, timeout.as_secs_f32()),
        });
        if lives.len() == probes {
            tell.send(std::mem::take(&mut lives))
                .expect("somebody waits");
        }
    };
    let result = block_on(pinger.sweep_with(sweep, observer)).expect("the engine runs");
    let measurement = Measurement::default().used_by_this_process();
    let answered = result.stats[silent as usize..].iter();
    let answered = answered.filter(|stats| stats.is_up()).count() as u64;
    let told_silent = result.stats[..silent as usize].iter();
    let told_silent = told_silent.filter(|stats| stats.errors(Reason::Timeout) == 1);
    assert_eq!(
        told_silent.count(),
        silent as usize,
        "silent devices that timed out"
    );
    let lives = told.recv().expect("all probes have ended");
    let rtts = lives.iter().map(|life| f64::from(life.1));
    let rtts = rtts.filter(|rtt| *rtt < timeout.as_secs_f64());
    Measurement {
        pings,
        missing: pings - answered,
        rtt: Spread::of(rtts.map(|rtt| rtt * 1e6).collect()),
        // What grew while the sweep ran.
        wall: measurement.peak.saturating_sub(before) as f64,
        extra: most_in_flight(&lives) as f64,
        ..measurement
    }
}

/// How many of these (start, length) lie over each other at most.
fn most_in_flight(lives: &[(f32, f32)]) -> usize {
    let mut ends: Vec<(f64, i32)> = lives
        .iter()
        .flat_map(|(start, length)| {
            let start = f64::from(*start);
            [(start, 1), (start + f64::from(*length), -1)]
        })
        .collect();
    ends.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let (mut now, mut most) = (0_i64, 0);
    for (_, step) in ends {
        now += i64::from(step);
        most = most.max(now);
    }
    most as usize
}

/// Sends echo replies that nobody asked for, and tells how many.
fn storm() -> Measurement {
    let mut bare = Bare::open(0).expect("a raw socket");
    let start = Instant::now();
    let mut sent = 0_u64;
    let wall = loop {
        let elapsed = start.elapsed().as_secs_f64();
        // It begins before the sweep and ends after it.
        if elapsed > f64::from(STORM_SECONDS) + 2.0 {
            break elapsed;
        }
        if (elapsed * f64::from(STORM_RATE)) as u64 > sent {
            bare.foreign_replies(BATCH).expect("sendmmsg");
            sent += BATCH as u64;
        } else {
            std::thread::sleep(Duration::from_micros(200));
        }
    };
    Measurement {
        extra: sent as f64 / wall,
        ..Measurement::default()
    }
}

/// The program, if it was built: 131,070 targets as fast as they go.
fn program() -> Measurement {
    let program = std::env::args().next_back().expect("the program's path");
    let output = Command::new(program)
        .args(["ping", "127.0.0.0/15", "--rate", "0"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .status();
    assert!(
        output.is_ok_and(|status| status.success()),
        "the program failed"
    );
    Measurement {
        pings: 131_070,
        cpu: process::cpu(UsageWho::RUSAGE_CHILDREN),
        peak: process::peak_of_children(),
        ..Measurement::default()
    }
}

/// Runs all cases and prints what they found out. Returns whether all goals were reached.
pub(crate) fn table() -> bool {
    println!("\n## Many in flight, storms, memory\n");
    let mut goals = Vec::new();
    if pe_testkit::require_needs("engine, slow devices", &[Need::Tun]) {
        let slow = process::run(&["slow"]);
        let what = format!(
            "falsely missing of {} in flight at once ({} pings)",
            number(slow.extra as usize),
            number(slow.pings as usize)
        );
        goals.push(Goal::at_most(&what, slow.missing as f64, 0.0));
        goals.push(Goal::at_least(
            "in flight at once",
            slow.extra,
            f64::from(ANSWERING),
        ));
    }
    if pe_testkit::require_needs("engine, silent devices", &[Need::Namespaces]) {
        let silent = process::run(&["silent"]);
        let what = format!(
            "falsely missing of {} with {} in flight to silent devices",
            number(silent.pings as usize),
            number(SILENT as usize)
        );
        goals.push(Goal::at_most(&what, silent.missing as f64, 0.0));
        goals.push(Goal::at_least(
            "in flight at once, silent ones included",
            silent.extra,
            f64::from(SILENT),
        ));
        let what = "bytes for each probe in flight, its target's statistics included";
        goals.push(Goal::at_most(what, silent.wall / silent.extra, 200.0));
    }
    let background = std::thread::spawn(|| process::run(&["storm"]));
    std::thread::sleep(Duration::from_millis(300));
    let in_storm = process::run(&["in-storm"]);
    let storm = background.join().expect("the storm ended");
    let what = format!(
        "falsely missing of {} with {} foreign echo replies a second",
        number(in_storm.pings as usize),
        number(storm.extra as usize)
    );
    goals.push(Goal::at_most(&what, in_storm.missing as f64, 0.0));
    goals.push(Goal::at_least(
        "foreign echo replies a second",
        storm.extra,
        f64::from(STORM_RATE) * 0.99,
    ));
    let this = std::env::current_exe().unwrap_or_default();
    let program = this
        .ancestors()
        .nth(2)
        .map(|path| path.join("pingexporter"));
    if let Some(program) = program.filter(|program| program.is_file()) {
        let result = process::run(&["program", &program.to_string_lossy()]);
        let peak = result.peak as f64 / 1e6;
        goals.push(Goal::at_most(
            "peak memory of `pingexporter ping 127.0.0.0/15`, MB",
            peak,
            60.0,
        ));
    }
    Goal::print(&goals)
}
