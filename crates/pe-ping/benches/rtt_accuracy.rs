//! How true are the RTTs? Each RTT that a prober tells, against the times at which tcpdump saw the
//! request and the reply on `lo`, while all cores are busy: pe-ping and, where it is installed, fping.
//!
//! `cargo bench -p pe-ping --bench rtt_accuracy [-- ROUNDS]`; needs root, tcpdump and iproute2. Everything
//! happens in a network namespace of its own.

#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pcap_parser::PcapCapture;
use pe_ping::{EventKind, Family, Pinger, Sweep};
use pe_testkit::{Namespace, Need, in_namespace, wait};

/// Devices in one cycle.
const DEVICES: u32 = 5_000;
/// The pace for the probers that are given one: a cycle takes half a second.
const RATE: f64 = 10_000.0;

type Rtts = HashMap<IpAddr, f64>;

fn main() {
    let needs = [Need::Namespaces, Need::Program("tcpdump")];
    // `cargo test --benches` only proves that it builds.
    let testing = std::env::args().any(|argument| argument == "--test");
    if testing || !pe_testkit::require_needs("rtt_accuracy", &needs) {
        return;
    }
    let rounds = std::env::args()
        .filter_map(|argument| argument.parse().ok())
        .next()
        .unwrap_or(5);
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    println!("{DEVICES} devices in one cycle, {rounds} cycles, {cores} cores busy; errors in µs");
    println!(
        "{:<28} {:>7} {:>8} {:>8} {:>8} {:>8} {:>8}",
        "", "RTTs", "median", "p90", "p99", "max", "signed"
    );
    let fping = pe_testkit::find_program("fping").is_some();
    for family in Family::ALL {
        let addresses: Vec<IpAddr> = (1..=DEVICES).map(|number| device(family, number)).collect();
        let paced = |pinger: pe_ping::PingerBuilder| pinger.rate(RATE);
        measure(&format!("pe-ping, {RATE}/s, {family}"), rounds, |file| {
            with_pe_ping(paced(Pinger::builder()), &addresses, file)
        });
        measure(&format!("pe-ping, unlimited, {family}"), rounds, |file| {
            with_pe_ping(Pinger::builder().unlimited_rate(), &addresses, file)
        });
        if fping {
            let interval = format!("{}", 1e3 / RATE);
            measure(&format!("fping -i {interval}, {family}"), rounds, |file| {
                with_fping(&interval, &addresses, file)
            });
            measure(&format!("fping -i 0, {family}"), rounds, |file| {
                with_fping("0", &addresses, file)
            });
        }
    }
}

fn device(family: Family, number: u32) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::from_bits(0x7f01_0000 + number).into(),
        Family::V6 => Ipv6Addr::from_bits((0xfd00_0001 << 96) + u128::from(number)).into(),
    }
}

/// Runs a prober in a namespace with all cores busy, and prints how far its RTTs are off.
fn measure(name: &str, rounds: usize, prober: impl Fn(&Path) -> Rtts + Send + Sync) {
    let mut errors = Vec::new();
    for _ in 0..rounds {
        in_namespace(|namespace| {
            namespace.ip("-6 route add local fd00:1::/64 dev lo");
            let directory = tempfile::tempdir().unwrap();
            let capture = Capture::start(namespace, directory.path());
            let told = busy(|| prober(directory.path()));
            let seen = capture.finish(&told);
            errors.extend(told.iter().map(|(device, rtt)| (rtt - seen[device]) * 1e6));
        });
    }
    let mut absolute: Vec<f64> = errors.iter().map(|error| error.abs()).collect();
    absolute.sort_unstable_by(f64::total_cmp);
    errors.sort_unstable_by(f64::total_cmp);
    let of = |sorted: &[f64], share: f64| sorted[((sorted.len() - 1) as f64 * share) as usize];
    println!(
        "{name:<28} {:>7} {:>8.2} {:>8.2} {:>8.2} {:>8.1} {:>+8.2}",
        absolute.len(),
        of(&absolute, 0.5),
        of(&absolute, 0.9),
        of(&absolute, 0.99),
        of(&absolute, 1.0),
        of(&errors, 0.5),
    );
}

/// Keeps every core busy while `work` runs.
fn busy<T>(work: impl FnOnce() -> T) -> T {
    let stop = AtomicBool::new(false);
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                let mut x = 1u64;
                while !stop.load(Ordering::Relaxed) {
                    x = std::hint::black_box(x.wrapping_mul(6_364_136_223_846_793_005));
                }
            });
        }
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        stop.store(true, Ordering::Relaxed);
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn with_pe_ping(builder: pe_ping::PingerBuilder, addresses: &[IpAddr], _: &Path) -> Rtts {
    let pinger = builder.timeout(Duration::from_secs(5)).build().unwrap();
    let events = Arc::new(Mutex::new(Vec::new()));
    let record = Arc::clone(&events);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let result = runtime
        .block_on(pinger.sweep_with(Sweep::new(addresses), move |event| {
            record.lock().unwrap().push(event);
        }))
        .unwrap();
    assert_eq!(result.up(), addresses.len(), "devices that answered");
    let events = events.lock().unwrap();
    events
        .iter()
        .filter_map(|event| match event.kind {
            EventKind::Reply(reply) => {
                Some((addresses[event.target as usize], reply.rtt.as_secs_f64()))
            }
            _ => None,
        })
        .collect()
}

fn with_fping(interval: &str, addresses: &[IpAddr], directory: &Path) -> Rtts {
    let list = directory.join("addresses");
    let lines: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    std::fs::write(&list, lines.join("\n")).unwrap();
    let mut command = pe_testkit::command("fping");
    command
        .args(["-q", "-C1", "-t5000", "-i", interval, "-f"])
        .arg(&list)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let output = pe_testkit::start(command)
        .unwrap()
        .wait_with_output()
        .unwrap();
    String::from_utf8(output.stderr)
        .unwrap()
        .lines()
        .filter_map(|line| line.split_once(" : "))
        .filter_map(|(address, rtt)| {
            let rtt: f64 = rtt.trim().parse().ok()?;
            Some((address.trim().parse().ok()?, rtt / 1e3))
        })
        .collect()
}

/// A tcpdump that writes what passes on `lo` to a file, with nanoseconds.
struct Capture {
    tcpdump: Child,
    file: std::path::PathBuf,
    log: std::path::PathBuf,
}

impl Capture {
    fn start(_: &Namespace, directory: &Path) -> Self {
        let (file, log) = (
            directory.join("capture.pcap"),
            directory.join("tcpdump.log"),
        );
        let mut command = pe_testkit::command("tcpdump");
        command
            .args([
                "-i", "lo", "-n", "-s", "96", "-B", "65536", "-Z", "root", "-U",
            ])
            .args(["--time-stamp-precision=nano", "-w"])
            .arg(&file)
            .arg("icmp or icmp6")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap());
        let tcpdump = pe_testkit::start(command).unwrap();
        let capture = Self { tcpdump, file, log };
        wait::until_true("tcpdump to listen", || {
            capture.said().contains("listening on")
        });
        capture
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The time from request to reply on the wire, in seconds, by the device's address, when that of all
    /// `devices` is known. tcpdump gets packets from the kernel by the block, late.
    fn finish(mut self, devices: &Rtts) -> Rtts {
        let trips = wait::until("tcpdump to write everything", || {
            let trips = round_trips(&std::fs::read(&self.file).unwrap_or_default())?;
            devices
                .keys()
                .all(|device| trips.contains_key(device))
                .then_some(trips)
        });
        self.tcpdump.kill().unwrap();
        self.tcpdump.wait().unwrap();
        trips
    }
}

/// `None` while the file is half written.
fn round_trips(bytes: &[u8]) -> Option<Rtts> {
    let capture = PcapCapture::from_file(bytes).ok()?;
    assert!(capture.header.is_nanosecond_precision());
    let mut requests: HashMap<(IpAddr, u16, u16), i128> = HashMap::new();
    let mut trips = Rtts::new();
    for packet in &capture.blocks {
        let time = i128::from(packet.ts_sec) * 1_000_000_000 + i128::from(packet.ts_usec);
        // Behind the Ethernet header that `lo` has.
        let Some((reply, device, id, sequence)) = packet.data.get(14..).and_then(echo) else {
            continue;
        };
        if reply {
            if let Some(sent) = requests.get(&(device, id, sequence)) {
                trips.entry(device).or_insert((time - sent) as f64 / 1e9);
            }
        } else {
            requests.entry((device, id, sequence)).or_insert(time);
        }
    }
    Some(trips)
}

/// Of an echo packet: whether it is a reply, the device that it is to or from, identifier, sequence.
fn echo(packet: &[u8]) -> Option<(bool, IpAddr, u16, u16)> {
    let word = |at: usize| Some(u16::from_be_bytes([*packet.get(at)?, *packet.get(at + 1)?]));
    let (header, source, destination): (usize, IpAddr, IpAddr) = if packet.first()? >> 4 == 6 {
        let address = |at: usize| -> Option<IpAddr> {
            Some(IpAddr::from(
                <[u8; 16]>::try_from(packet.get(at..at + 16)?).ok()?,
            ))
        };
        (40, address(8)?, address(24)?)
    } else {
        let address = |at: usize| -> Option<IpAddr> {
            Some(IpAddr::from(
                <[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?,
            ))
        };
        (
            usize::from(packet.first()? & 15) * 4,
            address(12)?,
            address(16)?,
        )
    };
    let reply = match packet.get(header)? {
        0 | 129 => true,
        8 | 128 => false,
        _ => return None,
    };
    let device = if reply { source } else { destination };
    Some((reply, device, word(header + 4)?, word(header + 6)?))
}
