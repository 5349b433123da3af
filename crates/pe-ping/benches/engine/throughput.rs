//! Table one: what a ping costs, 100,000 of them as fast as they go.

use std::fmt::Write as _;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::process::{Command, Stdio};
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use nix::sys::resource::UsageWho;
use pe_ping::{Pinger, Sweep};
use surge_ping::{Client, Config, PingIdentifier, PingSequence};

use crate::bare::{BATCH, Bare};
use crate::process::{self, Measurement, Spread};
use crate::report::{Goal, Table, median, number};

/// Targets of each case but surge-ping's, which needs too long for so many.
pub(crate) const TARGETS: u32 = 100_000;
const SURGE_TARGETS: u32 = 20_000;
/// How many `Pinger::ping` and surge-ping have in flight.
const IN_FLIGHT: [usize; 3] = [100, 1_000, 20_000];
const TIMEOUT: Duration = Duration::from_secs(1);
const PAYLOAD: usize = 56;

/// fping 5.1 has 65,535 sequence numbers for ten seconds and gives up when it needs more: its targets are split.
const FPING_PART: usize = 50_000;

/// The `number`-th loopback device.
pub(crate) fn device(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x7f01_0001 + number)
}

pub(crate) fn devices(count: u32) -> Vec<IpAddr> {
    (0..count).map(|number| device(number).into()).collect()
}

/// Runs a case of this table, in its own process.
pub(crate) fn case(name: &str, argument: &str) -> Option<Measurement> {
    let in_flight = argument.parse().unwrap_or(0);
    Some(match name {
        "bare" => bare(),
        "sweep" => sweep(),
        "ping" => ping(in_flight),
        "surge" => surge(in_flight),
        "fping" => fping(),
        _ => return None,
    })
}

fn bare() -> Measurement {
    let targets: Vec<Ipv4Addr> = (0..TARGETS).map(device).collect();
    let mut bare = Bare::open(targets.len()).expect("a raw socket");
    for (batch, targets) in targets.chunks(BATCH).enumerate() {
        bare.request(batch * BATCH, targets).expect("sendmmsg");
        let wanted = batch * BATCH + targets.len();
        while bare.rtts.len() < wanted && bare.receive().expect("recvmmsg") > 0 {}
    }
    bare.finish(targets.len()).expect("recvmmsg");
    let rtts: Vec<f64> = bare.rtts.iter().map(|rtt| *rtt as f64 / 1e3).collect();
    answered(targets.len(), rtts)
}

/// `rtts` in microseconds.
fn answered(pings: usize, rtts: Vec<f64>) -> Measurement {
    let measurement = Measurement {
        pings: pings as u64,
        missing: (pings - rtts.len()) as u64,
        ..Measurement::default()
    };
    // The statistics are not part of what is measured.
    let used = measurement.used_by_this_process();
    Measurement {
        rtt: Spread::of(rtts),
        ..used
    }
}

fn pinger() -> Pinger {
    let builder = Pinger::builder().unlimited_rate().timeout(TIMEOUT);
    builder.payload_size(PAYLOAD).build().expect("a raw socket")
}

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(future)
}

fn sweep() -> Measurement {
    let targets = devices(TARGETS);
    let pinger = pinger();
    let result = block_on(pinger.sweep(Sweep::new(targets))).expect("the engine runs");
    let rtts = result.stats.iter().filter_map(pe_ping::Stats::mean);
    let rtts: Vec<f64> = rtts.map(|seconds| seconds * 1e6).collect();
    answered(result.stats.len(), rtts)
}

/// Pings all with so many in flight, and collects the round-trip times.
async fn all<F: Future<Output = Option<Duration>>>(
    targets: Vec<IpAddr>,
    in_flight: usize,
    ping: impl FnMut((usize, IpAddr)) -> F,
) -> Vec<f64> {
    stream::iter(targets.into_iter().enumerate())
        .map(ping)
        .buffer_unordered(in_flight)
        .filter_map(|rtt| async move { rtt.map(|rtt| rtt.as_secs_f64() * 1e6) })
        .collect()
        .await
}

fn ping(in_flight: usize) -> Measurement {
    let targets = devices(TARGETS);
    let pinger = pinger();
    let ping = |(_, target)| {
        let pinger = &pinger;
        async move { pinger.ping(target).await.ok().map(|reply| reply.rtt) }
    };
    answered(
        targets.len(),
        block_on(all(targets.clone(), in_flight, ping)),
    )
}

fn surge(in_flight: usize) -> Measurement {
    let targets = devices(SURGE_TARGETS);
    let rtts = block_on(async {
        let client = Client::new(&Config::default()).expect("a raw socket");
        let payload = [0; PAYLOAD];
        let ping = |(number, target)| {
            let client = &client;
            async move {
                let mut pinger = client.pinger(target, PingIdentifier(number as u16)).await;
                pinger.timeout(TIMEOUT);
                let reply = pinger.ping(PingSequence(0), &payload).await;
                reply.ok().map(|(_, rtt)| rtt)
            }
        };
        all(targets.clone(), in_flight, ping).await
    });
    answered(targets.len(), rtts)
}

fn fping() -> Measurement {
    let run = |arguments: &[&str], targets: &[IpAddr]| {
        let mut list = tempfile::NamedTempFile::new().expect("a temporary file");
        let lines = targets.iter().fold(String::new(), |mut text, target| {
            writeln!(text, "{target}").expect("writing to a string");
            text
        });
        std::io::Write::write_all(&mut list, lines.as_bytes()).expect("room for a file");
        let output = Command::new("fping")
            .args(["-q", "-i0", "-r0", "-t1000"])
            .args(arguments)
            .arg("-f")
            .arg(list.path())
            .stdin(Stdio::null())
            .output()
            .expect("fping starts");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let targets = devices(TARGETS);
    let mut measurement = Measurement {
        pings: targets.len() as u64,
        ..Measurement::default()
    };
    // Without a line for each target it is fastest.
    let mut alive = 0;
    for part in targets.chunks(FPING_PART) {
        let text = run(&["-s"], part);
        let count = text
            .lines()
            .find_map(|line| line.trim().strip_suffix(" alive"));
        alive += count
            .and_then(|count| count.parse::<u64>().ok())
            .unwrap_or_else(|| panic!("fping -s: {text}"));
    }
    measurement.missing = measurement.pings - alive;
    measurement.cpu = process::cpu(UsageWho::RUSAGE_CHILDREN);
    measurement.peak = process::peak_of_children();
    // And once more to learn its round-trip times.
    let mut rtts = Vec::new();
    for part in targets.chunks(FPING_PART) {
        let text = run(&["-C1"], part);
        let told = text.lines().filter_map(|line| line.split_once(" : "));
        rtts.extend(told.filter_map(|(_, rtt)| rtt.trim().parse::<f64>().ok()));
    }
    rtts.iter_mut().for_each(|rtt| *rtt *= 1e3);
    measurement.rtt = Spread::of(rtts);
    measurement
}

/// Runs all cases `rounds` times in turn and prints the table. Returns whether all goals were reached.
pub(crate) fn table(rounds: usize) -> bool {
    let mut cases = vec![("bare loop (the floor)".to_owned(), vec!["bare".to_owned()])];
    cases.push(("pe-ping, Pinger::sweep".into(), vec!["sweep".into()]));
    for (label, name) in [("pe-ping, Pinger::ping", "ping"), ("surge-ping", "surge")] {
        for in_flight in IN_FLIGHT {
            cases.push((
                format!("{label}, {} in flight", number(in_flight)),
                vec![name.into(), in_flight.to_string()],
            ));
        }
    }
    if pe_testkit::find_program("fping").is_some() {
        cases.push(("fping -q -i0".into(), vec!["fping".into()]));
    } else {
        pe_testkit::skip("engine", "needs the program `fping` for one of its rows");
    }
    let mut results: Vec<Vec<Measurement>> = vec![Vec::new(); cases.len()];
    for _ in 0..rounds {
        for ((_, arguments), results) in cases.iter().zip(&mut results) {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            results.push(process::run(&arguments));
        }
    }

    println!(
        "\n## {} loopback devices as fast as they go ({} for surge-ping), medians of {rounds} rounds\n",
        number(TARGETS as usize),
        number(SURGE_TARGETS as usize)
    );
    let mut table = Table::new(&[
        "case",
        "CPU µs a ping",
        "(least to most)",
        "to the floor",
        "to fping",
        "falsely missing",
        "RTT median µs",
        "RTT p99 µs",
        "peak MB",
    ]);
    let cpu = |at: usize| -> Vec<f64> {
        let results = &results[at];
        results.iter().map(Measurement::cpu_per_ping).collect()
    };
    // Ratios within a round, so that what slows a whole round down does not count.
    let ratio = |at: usize, to: usize| -> f64 {
        let pairs = cpu(at).into_iter().zip(cpu(to));
        median(pairs.map(|(this, that)| this / that).collect())
    };
    let fping = cases
        .iter()
        .position(|(_, arguments)| arguments[0] == "fping");
    for (at, (label, _)) in cases.iter().enumerate() {
        let results = &results[at];
        let of = |value: fn(&Measurement) -> f64| median(results.iter().map(value).collect());
        let mut spread = cpu(at);
        spread.sort_unstable_by(f64::total_cmp);
        table.row(vec![
            label.clone(),
            format!("{:.2}", median(cpu(at))),
            format!("{:.2} to {:.2}", spread[0], spread[spread.len() - 1]),
            format!("{:.2}", ratio(at, 0)),
            fping.map_or_else(|| "-".into(), |fping| format!("{:.2}", ratio(at, fping))),
            format!(
                "{:.2} %",
                of(|result| result.missing as f64 / result.pings as f64) * 100.0
            ),
            format!(
                "{:.1}",
                of(|result| result.rtt.map_or(f64::NAN, |rtt| rtt.median))
            ),
            format!(
                "{:.1}",
                of(|result| result.rtt.map_or(f64::NAN, |rtt| rtt.p99))
            ),
            format!("{:.1}", of(|result| result.peak as f64 / 1e6)),
        ]);
    }
    table.print();
    let mut goals = vec![Goal::at_most(
        "Pinger::sweep to the floor",
        ratio(1, 0),
        1.2,
    )];
    if let Some(fping) = fping {
        goals.push(Goal::at_most(
            "Pinger::sweep to fping",
            ratio(1, fping),
            0.75,
        ));
    }
    for (at, in_flight) in IN_FLIGHT.iter().enumerate() {
        let label = format!(
            "Pinger::ping to the floor, {} in flight",
            number(*in_flight)
        );
        goals.push(Goal::at_most(&label, ratio(2 + at, 0), 1.5));
    }
    let missing: u64 = results[1..5]
        .iter()
        .flatten()
        .map(|result| result.missing)
        .sum();
    goals.push(Goal::at_most(
        "replies that pe-ping missed, all rounds",
        missing as f64,
        0.0,
    ));
    let peak = results[1].iter().map(|result| result.peak).max();
    goals.push(Goal::at_most(
        "peak memory of the sweep's process, MB",
        peak.unwrap_or(0) as f64 / 1e6,
        60.0,
    ));
    Goal::print(&goals)
}
