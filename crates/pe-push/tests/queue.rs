//! The queue as sinks use it: a thread on a real directory, and in memory.

#![cfg(feature = "remote-write")]
#![allow(clippy::unwrap_used)]

use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pe_push::queue::{
    BlockId, Directory, DropReason, MemoryDisk, Order, Queue, QueueHandle, QueueLimits, QueueReader,
};
use pe_push::{SampleBlock, SampleMetric, SampleTime};
use pe_scrape::{LabelSet, Unit};

/// Longer than anything here takes.
const BOUND: Duration = Duration::from_secs(30);

/// A block of so many seconds after [`start`].
fn block(second: u32, rows: usize) -> Arc<SampleBlock> {
    block_at(start() + i64::from(second) * 1_000, second, rows)
}

/// The second of `block`.
fn second(block: &SampleBlock) -> i64 {
    (block.time.wall_ms - start()) / 1_000
}

/// An hour ago: blocks must not be old.
fn start() -> i64 {
    static START: LazyLock<i64> = LazyLock::new(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        i64::try_from(now.as_millis()).unwrap() - 3_600_000
    });
    *START
}

fn block_at(wall_ms: i64, second: u32, rows: usize) -> Arc<SampleBlock> {
    let metric = SampleMetric {
        name: "ping_rtt_best_seconds".into(),
        labels: LabelSet::empty(),
        family: "ping_rtt_best_seconds".into(),
        kind: "gauge",
        help: "Shortest".into(),
        unit: Unit::Seconds,
    };
    let labels = |row| LabelSet::new([("device", format!("d{row}")), ("job", "plant".into())]);
    Arc::new(SampleBlock {
        time: SampleTime {
            wall_ms,
            boot_ns: u64::from(second) * 1_000_000_000,
            boot_id: 1,
            is_final: false,
        },
        metrics: Arc::new([metric]),
        rows: (0..rows).map(|row| labels(row).unwrap()).collect(),
        columns: [(0..rows).map(|row| (row * 7 % 1_000) as f64 / 1e9)]
            .into_iter()
            .collect(),
        natives: Vec::new(),
    })
}

async fn next(reader: &mut QueueReader) -> (BlockId, Arc<SampleBlock>) {
    tokio::time::timeout(BOUND, reader.next())
        .await
        .expect("a block in time")
}

#[tokio::test]
async fn each_sink_reads_at_its_own_pace() {
    let queue = QueueHandle::in_memory(QueueLimits::in_memory());
    let mut one = queue.reader("one", Order::Strict);
    let mut two = queue.reader("two", Order::Strict);
    queue.append(block(1, 3));
    queue.append(block(2, 3));
    let (first, read) = next(&mut one).await;
    assert_eq!(*read, *block(1, 3));
    one.acknowledge([first]);
    assert_eq!(second(&next(&mut one).await.1), 2);
    queue.flush().await;
    assert_eq!((one.backlog().samples, two.backlog().samples), (3, 6));
    let oldest = |reader: &QueueReader| reader.backlog().oldest.unwrap();
    assert_eq!(
        oldest(&one).duration_since(oldest(&two)).unwrap(),
        Duration::from_secs(1)
    );
    // What was not acknowledged comes again.
    one.rewind();
    assert_eq!(second(&next(&mut one).await.1), 2);
    assert_eq!(second(&next(&mut two).await.1), 1);
    // A new sink begins with what comes.
    let mut late = queue.reader("late", Order::Strict);
    queue.append(block(3, 3));
    assert_eq!(second(&next(&mut late).await.1), 3);
}

#[tokio::test]
async fn fresh_blocks_overtake_a_backlog() {
    let queue = QueueHandle::in_memory(QueueLimits::in_memory());
    let mut reader = queue.reader("central", Order::FreshFirst);
    for second in 0..200 {
        queue.append(block(second * 30, 3));
    }
    let mut order = Vec::new();
    for _ in 0..4 {
        order.push(second(&next(&mut reader).await.1) / 30);
    }
    queue.append(block(6_000, 3));
    order.push(second(&next(&mut reader).await.1) / 30);
    order.push(second(&next(&mut reader).await.1) / 30);
    // Those of the latest minute, in order; then the oldest; then what came meanwhile.
    assert_eq!(order, [197, 198, 199, 0, 200, 1]);
}

#[tokio::test]
async fn a_time_that_was_settled_is_final_until_it_is_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let open = || {
        let disk = Box::new(Directory::open(directory.path()).unwrap());
        QueueHandle::open(disk, QueueLimits::default()).unwrap().0
    };
    let queue = open();
    let mut one = queue.reader("one", Order::Strict);
    let mut two = queue.reader("two", Order::Strict);
    for second in 0..2 {
        queue.append(block(second, 3));
    }
    let (first, block) = next(&mut one).await;
    assert!(!block.time.is_final);
    assert!(one.settle(vec![(first, start() + 77_000)]).await);
    // What is final stays as it is, and another sink is told so.
    assert!(!one.settle(vec![(first, start() + 99_000)]).await);
    let (_, read_before) = next(&mut two).await;
    assert!(read_before.time.is_final);
    assert!(!two.settle(vec![(first, start())]).await);
    assert!(two.settle(vec![(first, start() + 77_000)]).await);
    drop((queue, one, two));

    let queue = open();
    let one = queue.reader("one", Order::Strict);
    let two = queue.reader("two", Order::Strict);
    for mut reader in [one, two] {
        for is_again in [false, true] {
            let (id, block) = next(&mut reader).await;
            assert_eq!((id, second(&block)), (first, 77), "{is_again}");
            assert!(block.time.is_final);
            assert!(!next(&mut reader).await.1.time.is_final);
            reader.rewind();
        }
    }
}

#[tokio::test]
async fn what_was_flushed_is_there_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let open = || {
        let disk = Box::new(Directory::open(directory.path()).unwrap());
        QueueHandle::open(disk, QueueLimits::default()).unwrap()
    };
    let (queue, _) = open();
    let mut reader = queue.reader("central", Order::Strict);
    for second in 0..5 {
        queue.append(block(second, 2_000));
    }
    let (first, _) = next(&mut reader).await;
    reader.acknowledge([first]);
    queue.flush().await;
    drop((queue, reader));

    let (queue, recovery) = open();
    assert_eq!((recovery.blocks, recovery.damages), (5, 0));
    let latest = queue.latest().await;
    assert_eq!(latest, [(*block(4, 2_000)).clone()]);
    let mut reader = queue.reader("central", Order::Strict);
    for second in 1..5 {
        assert_eq!(*next(&mut reader).await.1, *block(second, 2_000));
    }
    assert!(reader.try_next().await.is_none());
}

#[tokio::test]
async fn a_reader_that_is_dropped_while_it_waits_loses_no_block() {
    let queue = QueueHandle::in_memory(QueueLimits::in_memory());
    let mut reader = queue.reader("central", Order::Strict);
    for second in 0..50 {
        queue.append(block(second, 1));
    }
    for expected in 0..50 {
        // Polled once, which asks for the block, and dropped.
        let asked = tokio::time::timeout(Duration::ZERO, reader.next()).await;
        let got = match asked {
            Ok(got) => got,
            Err(_) => next(&mut reader).await,
        };
        assert_eq!(second(&got.1), expected);
    }
}

#[tokio::test]
async fn a_queue_in_memory_moves_to_a_disk_that_has_a_backlog() {
    let disk = MemoryDisk::new();
    let (before, _) = QueueHandle::open(Box::new(disk.clone()), QueueLimits::default()).unwrap();
    let _waiting = before.reader("central", Order::Strict);
    before.append(block(1, 4));
    before.flush().await;

    let queue = QueueHandle::in_memory(QueueLimits::in_memory());
    let mut central = queue.reader("central", Order::Strict);
    let mut other = queue.reader("other", Order::Strict);
    queue.append(block(2, 4));
    queue.append(block(3, 4));
    let (sent, _) = next(&mut central).await;
    let (under_way, _) = next(&mut central).await;
    central.acknowledge([sent]);
    let moved = queue.move_to(Box::new(disk), QueueLimits::default()).await;
    assert_eq!(moved.unwrap().blocks, 1);
    // Acknowledged too late: it comes again rather than another being taken for it.
    central.acknowledge([under_way]);
    queue.append(block(4, 4));
    for expected in [1, 3, 4] {
        assert_eq!(second(&next(&mut central).await.1), expected);
    }
    for expected in [2, 3, 4] {
        assert_eq!(second(&next(&mut other).await.1), expected);
    }
}

#[tokio::test]
async fn beyond_its_limit_the_oldest_is_dropped_and_counted() {
    let limits = QueueLimits {
        bytes: 100_000,
        ..QueueLimits::in_memory()
    };
    let queue = QueueHandle::in_memory(limits);
    let mut reader = queue.reader("central", Order::Strict);
    for second in 0..400 {
        queue.append(block(second, 500));
    }
    queue.flush().await;
    let dropped = queue.counters().dropped(DropReason::Limit);
    assert!(
        dropped.0 > 100 && dropped.1 == dropped.0 * 500,
        "{dropped:?}"
    );
    assert!(queue.bytes() <= limits.bytes);
    let (_, oldest) = next(&mut reader).await;
    assert_eq!(second(&oldest), i64::try_from(dropped.0).unwrap());
    assert_eq!(reader.backlog().samples, (400 - dropped.0) * 500);
}

#[tokio::test]
async fn old_blocks_are_dropped_by_age() {
    let disk = MemoryDisk::new();
    let (first, _) = QueueHandle::open(Box::new(disk.clone()), QueueLimits::default()).unwrap();
    let _reader = first.reader("central", Order::Strict);
    // The thread looks at its start, and each minute.
    first.flush().await;
    first.append(block_at(1_000, 1, 4));
    first.flush().await;
    let (queue, _) = QueueHandle::open(Box::new(disk), QueueLimits::default()).unwrap();
    let mut reader = queue.reader("central", Order::Strict);
    queue.flush().await;
    assert_eq!(queue.counters().dropped(DropReason::Age), (1, 4));
    assert!(reader.try_next().await.is_none());
}

#[test]
fn blocks_of_this_boot_are_as_old_as_its_clock_says() {
    const DAY: u64 = 24 * 60 * 60 * 1_000_000_000;
    let disk = MemoryDisk::new();
    let open = || {
        Queue::open(Box::new(disk.clone()), QueueLimits::default())
            .unwrap()
            .0
    };
    let mut queue = open();
    queue.attach("central", Order::Strict).unwrap();
    // Measured an hour after the start of a machine that has no clock of its own.
    for second in 3_600..3_610 {
        let block = block_at(i64::from(second) * 1_000, second, 4);
        queue.append(&block).unwrap();
    }
    // The clock is set.
    let now = |boot_ns, boot_id| SampleTime {
        wall_ms: start(),
        boot_ns,
        boot_id,
        is_final: false,
    };
    queue.expire(now(DAY, 1));
    assert_eq!(queue.counters().dropped(DropReason::Age), (0, 0));
    queue.sync().unwrap();
    drop(queue);
    let mut queue = open();
    queue.expire(now(29 * DAY, 1));
    assert_eq!(queue.counters().dropped(DropReason::Age), (0, 0));
    assert!(queue.next("central").unwrap().is_some());
    queue.expire(now(31 * DAY, 1));
    assert_eq!(queue.counters().dropped(DropReason::Age), (10, 40));

    // Of another boot nothing better than the wall clock is known.
    queue.append(&block_at(3_600_000, 3_600, 4)).unwrap();
    queue.expire(now(DAY, 2));
    assert_eq!(queue.counters().dropped(DropReason::Age), (11, 44));
}
