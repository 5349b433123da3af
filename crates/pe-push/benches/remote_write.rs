//! What it takes to make remote-write requests of blocks: time a sample, with and without compression, and allocations.
//!
//! `cargo bench -p pe-push --features remote-write --bench remote_write`. It exits with 1 when a goal is missed.

use std::hint::black_box;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use pe_push::{Protocol, SampleBlock, SampleMetric, SampleTime, WireBench};
use pe_scrape::{LabelSet, Unit};
use rustix::time::{ClockId, clock_gettime};

/// Time for a sample, which both protocols are to keep.
const GOAL: Duration = Duration::from_nanos(200);

/// Devices and metrics of a cycle.
const DEVICES: usize = 100_000;
const METRICS: usize = 11;

/// Bytes of a request before compression, as the sink has it.
const REQUEST: usize = 1 << 20;

/// Times that each measurement is made; the median counts.
const TURNS: usize = 5;

fn main() -> ExitCode {
    let block = block();
    let samples = (DEVICES * METRICS) as u64;
    println!("{DEVICES} devices × {METRICS} metrics; median of {TURNS} turns");
    println!("protocol  CPU ns/sample  bytes/sample  allocations/1000 samples");
    let mut is_met = true;
    for protocol in [Protocol::V1, Protocol::V2] {
        let mut bench = WireBench::default();
        let mut bytes = 0;
        let mut times: Vec<Duration> = (0..TURNS)
            .map(|_| {
                let start = cpu_time();
                bytes = black_box(bench.encode(&block, protocol, REQUEST));
                cpu_time() - start
            })
            .collect();
        times.sort();
        let allocations = allocation_counter::measure(|| {
            black_box(bench.encode(&block, protocol, REQUEST));
        });
        let per_sample = times[TURNS / 2].as_nanos() as f64 / samples as f64;
        let per_thousand = allocations.count_total as f64 * 1000.0 / samples as f64;
        println!(
            "{protocol:?}        {per_sample:13.1}  {:12.1}  {per_thousand:24.2}",
            bytes as f64 / samples as f64
        );
        is_met &= per_sample <= GOAL.as_nanos() as f64 && per_thousand < 10.0;
    }
    if is_met {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// What this thread has used, so that other work on the machine counts little.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        time.tv_sec.unsigned_abs(),
        time.tv_nsec.unsigned_abs() as u32,
    )
}

/// A cycle of devices whose round-trip times differ.
fn block() -> Arc<SampleBlock> {
    let names = [
        "ping_up",
        "ping_rtt_seconds",
        "ping_rtt_min_seconds",
        "ping_rtt_max_seconds",
        "ping_rtt_stddev_seconds",
        "ping_rtt_jitter_seconds",
        "ping_loss_ratio",
        "ping_sent_total",
        "ping_received_total",
        "ping_lost_total",
        "dev_ping",
    ];
    let metrics = names.map(|name| SampleMetric {
        name: name.into(),
        labels: LabelSet::empty(),
        family: name.into(),
        kind: if name.ends_with("_total") {
            "counter"
        } else {
            "gauge"
        },
        help: "A help text of some length".into(),
        unit: Unit::None,
    });
    let rows = (0..DEVICES).map(|device| {
        let ip = format!("10.{}.{}.{}", device >> 16, device >> 8 & 255, device & 255);
        let name = format!("device-{device}");
        let labels = [
            ("device", &*name),
            ("ip", &*ip),
            ("job", "plant"),
            ("site", "north"),
        ];
        LabelSet::new(labels).expect("names are literals")
    });
    let mut random = 0x9e37_79b9_u64;
    let mut value = || {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (random >> 40) as f64 * 1e-9
    };
    Arc::new(SampleBlock {
        time: SampleTime {
            wall_ms: 1_700_000_000_123,
            boot_ns: 0,
            boot_id: 0,
            is_final: false,
        },
        metrics: metrics.into(),
        rows: rows.collect(),
        columns: (0..METRICS)
            .map(|_| (0..DEVICES).map(|_| value()).collect::<Vec<_>>())
            .collect(),
        natives: Vec::new(),
    })
}
