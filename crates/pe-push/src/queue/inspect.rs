//! Looking at a queue from outside: what is in it, whether it is in order, and dropping it.
//!
//! Looking writes nothing and takes no lock: beside a running agent it sees what was written so far, of which the last record may be
//! half there. Dropping is for when no agent runs; the caller has the lock.

use std::time::SystemTime;

use pe_scrape::Backlog;

use super::block::read_block;
use super::cursor::{COPIES, Ranges};
use super::disk::Disk;
use super::format::{parse_segment_name, segment_name};
use super::segment::{Index, Segment, read_payload};
use super::{Queue, QueueError, QueueLimits, read_error, recovery, time_of};

/// What is in a queue.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct QueueReport {
    /// Segments, oldest first.
    pub segments: Vec<SegmentReport>,
    /// Sinks by name, with what waits for each.
    pub sinks: Vec<(String, Backlog)>,
    /// Segments of a later version.
    pub later_versions: usize,
    /// Copies of the cursors that are damaged, out of two. With both, sinks begin with the oldest block.
    pub damaged_cursors: usize,
}

/// What is in a segment.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct SegmentReport {
    /// The file's name.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// Blocks.
    pub blocks: u64,
    /// Samples of all blocks.
    pub samples: u64,
    /// When its oldest block was measured.
    pub oldest: SystemTime,
    /// When its newest block was measured.
    pub newest: SystemTime,
}

/// Whether all of a queue can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Verification {
    /// Blocks that are in order.
    pub blocks: u64,
    /// Their samples.
    pub samples: u64,
    /// Blocks that are there and cannot be read.
    pub damaged_blocks: u64,
    /// Places where there should be a record and is none, what is torn at an end among them.
    pub damages: u64,
    /// Bytes at the ends of segments that are no whole record: what was being written when an agent stopped.
    pub torn_bytes: u64,
    /// Segments of a later version, which were not looked at.
    pub later_versions: usize,
    /// Copies of the cursors that are damaged, out of two.
    pub damaged_cursors: usize,
}

impl Verification {
    /// Whether nothing is damaged. What is torn at the end of a segment is in order: that is how a crash looks.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.damaged_blocks == 0 && self.damages == 0 && self.damaged_cursors < 2
    }
}

/// Tells what is in a queue. Reads as much as a start does.
///
/// # Errors
/// When the disk cannot be read.
pub fn inspect(disk: &mut dyn Disk) -> Result<QueueReport, QueueError> {
    let found = recovery::find(disk)?;
    let mut sinks = Vec::new();
    for (name, done) in found.cursors.unwrap_or_default().done {
        let mut backlog = Backlog::default();
        for segment in found.segments.values() {
            add_waiting(disk, segment, &done, &mut backlog)?;
        }
        sinks.push((name, backlog));
    }
    let report = |segment: &Segment| SegmentReport {
        name: segment_name(segment.first),
        bytes: segment.length,
        blocks: segment.blocks,
        samples: segment.samples,
        oldest: time_of(segment.oldest_ms),
        newest: time_of(segment.newest_ms),
    };
    Ok(QueueReport {
        segments: found.segments.values().map(report).collect(),
        sinks,
        later_versions: found.recovery.later_versions,
        damaged_cursors: found.recovery.damaged_cursors,
    })
}

/// Reads all of a queue.
///
/// # Errors
/// When the disk cannot be read.
pub fn verify(disk: &mut dyn Disk) -> Result<Verification, QueueError> {
    let found = recovery::find(disk)?;
    let mut told = Verification {
        later_versions: found.recovery.later_versions,
        damaged_cursors: found.recovery.damaged_cursors,
        ..Verification::default()
    };
    for segment in found.segments.values() {
        let name = segment_name(segment.first);
        let index = Index::scan(disk, &name, segment.first, segment.length)?;
        told.torn_bytes += index.torn;
        // The torn end is counted as a damage by the scan.
        told.damages += index.damages.saturating_sub(u64::from(index.torn > 0));
        told.damaged_blocks += segment.blocks.saturating_sub(index.blocks.len() as u64);
        for entry in &index.blocks {
            let payload = read_payload(disk, &name, entry.offset, &entry.header)?;
            let shape = |number| index.shapes.get(number);
            let block = payload.and_then(|p| read_block(&p, entry.header.wall_ms, shape).ok());
            if block.is_some() {
                told.blocks += 1;
                told.samples += u64::from(entry.header.samples);
            } else {
                told.damaged_blocks += 1;
            }
        }
    }
    Ok(told)
}

/// Forgets a sink, and drops what waits for it alone; returns whether it was known.
///
/// # Errors
/// When the disk cannot be read or written.
pub fn drop_sink(disk: Box<dyn Disk>, sink: &str) -> Result<bool, QueueError> {
    let (mut queue, _) = Queue::open(disk, QueueLimits::unlimited())?;
    let is_known = queue.sinks().any(|name| name == sink);
    if is_known {
        queue.retain(|name| name != sink);
        queue.sync()?;
    }
    Ok(is_known)
}

/// Drops all blocks and forgets all sinks.
///
/// # Errors
/// When a file cannot be removed.
pub fn drop_all(disk: &mut dyn Disk) -> Result<(), QueueError> {
    let files = disk.list().map_err(read_error("."))?;
    for (name, _) in files {
        if parse_segment_name(&name).is_some() || COPIES.contains(&&*name) {
            disk.remove(&name).map_err(|source| QueueError::Io {
                action: "remove",
                file: name,
                source,
            })?;
        }
    }
    disk.sync_directory().map_err(|source| QueueError::Io {
        action: "synchronise",
        file: ".".to_owned(),
        source,
    })
}

/// Adds what waits in a segment.
fn add_waiting(
    disk: &mut dyn Disk,
    segment: &Segment,
    done: &Ranges,
    backlog: &mut Backlog,
) -> Result<(), QueueError> {
    if done.covers(segment.first, segment.end) {
        return Ok(());
    }
    if done.is_clear(segment.first, segment.end) {
        backlog.samples += segment.samples;
        backlog.bytes += segment.block_bytes;
        backlog.oldest.get_or_insert(time_of(segment.oldest_ms));
        return Ok(());
    }
    let name = segment_name(segment.first);
    let index = Index::scan(disk, &name, segment.first, segment.length)?;
    for entry in &index.blocks {
        if !done.contains(entry.header.number) {
            backlog.samples += u64::from(entry.header.samples);
            backlog.bytes += entry.header.record_length();
            backlog.oldest.get_or_insert(time_of(entry.header.wall_ms));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::block;
    use super::super::{MemoryDisk, Order};
    use super::*;

    fn filled() -> MemoryDisk {
        let disk = MemoryDisk::new();
        let limits = QueueLimits {
            segment_bytes: 5_000,
            ..QueueLimits::default()
        };
        let (mut queue, _) = Queue::open(Box::new(disk.clone()), limits).unwrap();
        for sink in ["one", "two"] {
            queue.attach(sink, Order::Strict).unwrap();
        }
        for time in 0..300 {
            queue
                .append(&block(time, 70, &["a", "b"], f64::from(time)))
                .unwrap();
        }
        for _ in 0..100 {
            let next = queue.next("one").unwrap();
            queue.acknowledge("one", next.map(|(id, _)| id));
        }
        queue.sync().unwrap();
        disk
    }

    #[test]
    fn a_report_tells_what_waits_for_each_sink() {
        let mut disk = filled();
        let before = disk.clone().list().unwrap();
        let report = inspect(&mut disk).unwrap();
        let samples: Vec<_> = report
            .sinks
            .iter()
            .map(|(_, backlog)| backlog.samples)
            .collect();
        assert_eq!(samples, [200 * 140, 300 * 140]);
        assert_eq!(report.sinks[0].1.oldest, Some(time_of(100_000)));
        assert_eq!(
            report
                .segments
                .iter()
                .map(|segment| segment.blocks)
                .sum::<u64>(),
            300
        );
        let verified = verify(&mut disk).unwrap();
        assert!(verified.is_ok());
        assert_eq!((verified.blocks, verified.samples), (300, 300 * 140));
        assert_eq!(disk.list().unwrap(), before);
    }

    #[test]
    fn verifying_finds_each_damage() {
        let disk = filled();
        let (name, length) = disk.clone().list().unwrap().swap_remove(1);
        disk.flip(&name, usize::try_from(length / 2).unwrap());
        let verified = verify(&mut disk.clone()).unwrap();
        assert!(!verified.is_ok(), "{verified:?}");
        assert_eq!(verified.blocks, 299);
    }

    #[test]
    fn dropping_a_sink_keeps_what_waits_for_others() {
        let mut disk = filled();
        assert!(!drop_sink(Box::new(disk.clone()), "three").unwrap());
        assert!(drop_sink(Box::new(disk.clone()), "two").unwrap());
        let report = inspect(&mut disk).unwrap();
        assert_eq!(report.sinks.len(), 1);
        assert_eq!(report.sinks[0].1.samples, 200 * 140);
        assert!(
            report
                .segments
                .iter()
                .map(|segment| segment.blocks)
                .sum::<u64>()
                < 300
        );
        drop_all(&mut disk).unwrap();
        assert_eq!(inspect(&mut disk).unwrap(), QueueReport::default());
    }
}
