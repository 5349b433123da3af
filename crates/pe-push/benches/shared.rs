//! What several sinks cost while their receivers are away: CPU time and bytes on the disk.
//!
//! ```sh
//! cargo bench -p pe-push --features remote-write --bench shared
//! ```

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fastrand::Rng;
use pe_push::RemoteWriteFactory;
use pe_scrape::{
    Columns, CycleReport, Frame, LabelSet, Metric, MetricDescriptor, Sink, SinkFactory,
    SinkSettings, Table,
};
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;

const DEVICES: usize = 10_000;
const METRICS: usize = 12;
const CYCLES: u64 = 60;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    println!("| sinks | queues | CPU ns a sample | bytes a sample on disk |");
    println!("| ---: | ---: | ---: | ---: |");
    for (sinks, queues) in [(1, 1), (2, 2), (2, 1), (4, 4), (4, 1)] {
        let (cpu, bytes) = runtime.block_on(measure(sinks, queues));
        println!("| {sinks} | {queues} | {cpu:.1} | {bytes:.2} |");
    }
}

/// So many sinks that share so many queues: each queue has a state directory.
async fn measure(sinks: usize, queues: usize) -> (f64, f64) {
    let states: Vec<_> = (0..queues).map(|_| tempfile::tempdir().unwrap()).collect();
    let factories = states
        .iter()
        .map(|state| RemoteWriteFactory::new().state_dir(Some(state.path().to_owned())));
    let factories: Vec<_> = factories.collect();
    // Nobody listens there.
    let own = json!({"url": "http://127.0.0.1:9/api/v1/write"});
    let sinks = (0..sinks).map(|sink| {
        let settings = SinkSettings::new(format!("sink-{sink}"), own.clone());
        factories[sink % queues].create(&settings).unwrap()
    });
    let sinks: Vec<Arc<dyn Sink>> = sinks.collect();
    let reports = reports();
    let before = cpu_time();
    for report in reports {
        let report = Arc::new(report);
        for sink in &sinks {
            sink.publish(report.clone());
        }
        // As between two cycles: what is in the thread's hands is bounded.
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    for sink in &sinks {
        // It says that the samples did not arrive.
        let _ = sink.flush().await;
    }
    let took = cpu_time().checked_sub(before).unwrap();
    let samples = DEVICES as f64 * METRICS as f64 * CYCLES as f64;
    let bytes: u64 = states.iter().map(|state| bytes(state.path())).sum();
    (took.as_nanos() as f64 / samples, bytes as f64 / samples)
}

/// Round-trip times of a network, log-normal around 20 ms, in whole microseconds.
fn reports() -> Vec<CycleReport> {
    let mut rng = Rng::with_seed(7);
    let mut columns = Columns::builder();
    let metrics: Vec<Metric> = (0..METRICS)
        .map(|metric| {
            let name = format!("ping_{metric}_seconds");
            columns.add(MetricDescriptor::gauge(name, "What it is"))
        })
        .collect();
    let table = Table::new(columns.build().unwrap(), DEVICES);
    let rows: Arc<[LabelSet]> = (0..DEVICES)
        .map(|device| {
            let ip = format!("10.0.{}.{}", device / 256, device % 256);
            LabelSet::new([("device", format!("switch-{device}")), ("ip", ip)]).unwrap()
        })
        .collect();
    let start = SystemTime::now() - Duration::from_secs(CYCLES);
    (0..CYCLES)
        .map(|cycle| {
            for device in 0..DEVICES {
                let normal: f64 = (0..12).map(|_| rng.f64()).sum::<f64>() - 6.0;
                let rtt = (20_000.0 * (0.5 * normal).exp()).round() / 1e6;
                for (place, metric) in metrics.iter().enumerate() {
                    let value = match place {
                        0..4 => rtt,
                        4 => cycle as f64,
                        _ => 1.0,
                    };
                    table.row(device).set(*metric, value);
                }
            }
            let mut report = CycleReport::new("plant", cycle, SystemTime::now());
            let time = start + Duration::from_secs(cycle);
            report.devices = vec![Arc::new(Frame::freeze(&table, rows.clone(), time))];
            report
        })
        .collect()
}

fn bytes(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).unwrap();
    let entries = entries.map(|entry| entry.unwrap());
    entries
        .map(|entry| match entry.file_type().unwrap().is_dir() {
            true => bytes(&entry.path()),
            false => entry.metadata().unwrap().len(),
        })
        .sum()
}

/// CPU time of the whole process.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}
