//! The queue on a file system that is too small for it, in a mount namespace of its own.

#![cfg(feature = "remote-write")]
#![allow(clippy::unwrap_used)]

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fastrand::Rng;
use pe_push::queue::{
    BlockId, Directory, DropReason, Order, QueueHandle, QueueLimits, QueueReader,
};
use pe_push::{SampleBlock, SampleMetric, SampleTime};
use pe_scrape::{LabelSet, Unit};
use pe_testkit::require;

/// Where the inner test finds the file system.
const DIRECTORY: &str = "QUEUE_TMPFS";

/// Rows of a block of random values, which take 8 kB.
const ROWS: usize = 1_000;

#[test]
fn on_a_small_file_system_the_oldest_is_dropped_and_the_rest_goes_on() {
    require!(Root, Program("unshare"));
    let directory = tempfile::tempdir().unwrap();
    let script = r#"mount -t tmpfs -o size=10m queue "$0" && exec "$1" --exact on_ten_megabytes --ignored --nocapture"#;
    let status = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", script])
        .arg(directory.path())
        .arg(std::env::current_exe().unwrap())
        .env(DIRECTORY, directory.path())
        .status()
        .unwrap();
    assert!(status.success());
    // Nothing of it was outside of the namespace.
    assert_eq!(directory.path().read_dir().unwrap().count(), 0);
}

#[tokio::test]
#[ignore = "run by the test above"]
async fn on_ten_megabytes() {
    let directory = std::env::var_os(DIRECTORY).expect("it is run by the test above");
    let directory = Path::new(&directory);
    let disk = Box::new(Directory::open(directory.join("queue")).unwrap());
    let (queue, _) = QueueHandle::open(disk, QueueLimits::default()).unwrap();
    let mut reader = queue.reader("central", Order::Strict);
    let mut source = Source::new();

    // Twice as much as there is room for.
    append(&queue, &mut source, 2_500).await;
    let (dropped, samples) = queue.counters().dropped(DropReason::DiskFull);
    assert!(dropped > 0 && samples == dropped * ROWS as u64, "{dropped}");
    let read = read_all(&mut reader).await;
    let seconds: Vec<u64> = read.iter().map(|(_, second)| *second).collect();
    assert_eq!(seconds, (dropped..2_500).collect::<Vec<_>>());
    reader.acknowledge(read.into_iter().map(|(id, _)| id));
    queue.flush().await;

    // Another program takes all the room: what cannot be written is counted.
    let filler = directory.join("filler");
    fill(&filler);
    append(&queue, &mut source, 1_500).await;
    let (more, _) = queue.counters().dropped(DropReason::DiskFull);
    assert!(more > dropped, "{more}");
    let read = read_all(&mut reader).await;
    reader.acknowledge(read.into_iter().map(|(id, _)| id));
    queue.flush().await;

    // It gives it back.
    std::fs::remove_file(filler).unwrap();
    append(&queue, &mut source, 100).await;
    assert_eq!(queue.counters().dropped(DropReason::DiskFull).0, more);
    let read = read_all(&mut reader).await;
    let seconds: Vec<u64> = read.iter().map(|(_, second)| *second).collect();
    assert_eq!(seconds, (4_000..4_100).collect::<Vec<_>>());
}

async fn append(queue: &QueueHandle, source: &mut Source, blocks: usize) {
    for number in 1..=blocks {
        queue.append(source.block());
        if number % 100 == 0 {
            queue.flush().await;
        }
    }
    // Counters are told after each round of the thread.
    queue.flush().await;
    queue.flush().await;
}

/// All that waits, with the seconds of the blocks.
async fn read_all(reader: &mut QueueReader) -> Vec<(BlockId, u64)> {
    let mut all = Vec::new();
    while let Some((id, block)) = reader.try_next().await {
        all.push((id, block.time.boot_ns / 1_000_000_000));
    }
    all
}

fn fill(path: &Path) {
    let mut file = File::create(path).unwrap();
    let mut size = 1 << 20;
    while size > 0 {
        match file.write(&vec![7; size]) {
            Ok(written) if written > 0 => {}
            _ => size /= 2,
        }
    }
}

struct Source {
    rng: Rng,
    start_ms: i64,
    second: u64,
    metrics: Arc<[SampleMetric]>,
    rows: Arc<[LabelSet]>,
}

impl Source {
    fn new() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let start = now - Duration::from_secs(10_000);
        let labels = |row| LabelSet::new([("device", format!("d{row}"))]).unwrap();
        let metric = SampleMetric {
            name: "ping_rtt_best_seconds".into(),
            labels: LabelSet::empty(),
            family: "ping_rtt_best_seconds".into(),
            kind: "gauge",
            help: "Shortest".into(),
            unit: Unit::Seconds,
        };
        Self {
            rng: Rng::with_seed(3),
            start_ms: i64::try_from(start.as_millis()).unwrap(),
            second: 0,
            metrics: Arc::new([metric]),
            rows: (0..ROWS).map(labels).collect(),
        }
    }

    /// The block of the next second.
    fn block(&mut self) -> Arc<SampleBlock> {
        let second = self.second;
        self.second += 1;
        Arc::new(SampleBlock {
            time: SampleTime {
                wall_ms: self.start_ms + i64::try_from(second).unwrap() * 1_000,
                boot_ns: second * 1_000_000_000,
                boot_id: 1,
                is_final: false,
            },
            metrics: self.metrics.clone(),
            rows: self.rows.clone(),
            columns: [(0..ROWS).map(|_| self.rng.f64())].into_iter().collect(),
            natives: Vec::new(),
        })
    }
}
