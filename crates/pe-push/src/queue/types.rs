//! Words of the queue's interface: identifiers, orders, limits, errors.

use std::io;
use std::time::Duration;

use thiserror::Error;

/// What a queue may hold. What is above is dropped, oldest first, and counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueLimits {
    /// Bytes in all segments together; 1 GB by default, 64 MB is fit for memory.
    pub bytes: u64,
    /// Age of the newest block of a segment, by the wall clock; 30 days by default.
    pub age: Duration,
    /// Bytes of one segment, which is what is dropped at once: 4 MB by default, never more than an eighth of `bytes`.
    pub segment_bytes: u64,
}

impl Default for QueueLimits {
    fn default() -> Self {
        Self {
            bytes: 1_000_000_000,
            age: Duration::from_secs(30 * 24 * 60 * 60),
            segment_bytes: 4_000_000,
        }
    }
}

impl QueueLimits {
    /// No limits: for looking at a queue.
    pub(crate) fn unlimited() -> Self {
        Self {
            bytes: u64::MAX,
            age: Duration::MAX,
            ..Self::default()
        }
    }

    /// The limits of a queue that is kept in memory: 64 MB.
    #[must_use]
    pub fn in_memory() -> Self {
        Self {
            bytes: 64_000_000,
            ..Self::default()
        }
    }
}

/// In which order a reader gets blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// As they were appended.
    #[default]
    Strict,
    /// The newest first; when there is none, what waits from before, oldest first.
    FreshFirst,
}

/// Names a block for as long as the queue exists: numbers rise with each block that is appended, also over restarts, and none
/// that a sink has acknowledged is used twice. Those of blocks that were dropped may be, where a crash or a full disk left no trace
/// of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockId(pub u64);

/// What a queue could not do. A full disk and damaged records are none of it: they are counted, and the queue goes on.
#[derive(Error)]
#[non_exhaustive]
pub enum QueueError {
    /// An operation on a file failed.
    #[error("cannot {action} {file:?} of the queue")]
    Io {
        /// What was being done: `read`, `write`, …
        action: &'static str,
        /// The name of the file, without its directory.
        file: String,
        /// Why it failed.
        source: io::Error,
    },
    /// A file is of a later version than this program knows.
    #[error(
        "{file:?} was written by a later version (format {found}, this program knows up to {known}): \
         use that version, or remove the file and lose what it holds"
    )]
    Version {
        /// The name of the file, without its directory.
        file: String,
        /// Its version.
        found: u16,
        /// The latest version that is known here.
        known: u16,
    },
}

pe_scrape::debug_with_causes!(QueueError);

impl QueueError {
    /// Whether there was no room on the disk.
    #[must_use]
    pub fn is_full(&self) -> bool {
        let Self::Io { source, .. } = self else {
            return false;
        };
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        matches!(source.kind(), StorageFull | QuotaExceeded)
    }
}

/// Why blocks were dropped before all sinks had them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum DropReason {
    /// The queue had more bytes than it may.
    Limit,
    /// They were older than the limit.
    Age,
    /// The disk was full.
    DiskFull,
    /// Writing failed.
    WriteFailed,
    /// What was read is not what was written.
    Damaged,
    /// They came faster than they could be written.
    TooFast,
}

impl DropReason {
    /// All, in the order of [`QueueCounters::dropped`].
    pub const ALL: [Self; 6] = [
        Self::Limit,
        Self::Age,
        Self::DiskFull,
        Self::WriteFailed,
        Self::Damaged,
        Self::TooFast,
    ];

    /// The name for metrics and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Limit => "limit",
            Self::Age => "age",
            Self::DiskFull => "disk_full",
            Self::WriteFailed => "write_failed",
            Self::Damaged => "damaged",
            Self::TooFast => "too_fast",
        }
    }
}

/// Samples that were dropped before a sink had them, by reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Drops([u64; DropReason::ALL.len()]);

impl Drops {
    pub(crate) fn get(&self, reason: DropReason) -> u64 {
        self.0[reason as usize]
    }

    pub(crate) fn add(&mut self, reason: DropReason, samples: u64) {
        self.0[reason as usize] += samples;
    }

    pub(crate) fn add_all(&mut self, other: &Self) {
        for (own, other) in self.0.iter_mut().zip(other.0) {
            *own += other;
        }
    }
}

/// What happened since a queue was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct QueueCounters {
    /// Blocks that were appended.
    pub appended_blocks: u64,
    /// Their samples.
    pub appended_samples: u64,
    /// Dropped blocks and samples by reason, in the order of [`DropReason::ALL`]. A segment that is dropped counts with all its
    /// blocks, and with the samples that the sink which is furthest behind had not acknowledged.
    pub dropped: [(u64, u64); DropReason::ALL.len()],
    /// Damaged places in segments that were read.
    pub damages: u64,
}

impl QueueCounters {
    /// Blocks and samples that were dropped for this reason.
    #[must_use]
    pub fn dropped(&self, reason: DropReason) -> (u64, u64) {
        self.dropped[reason as usize]
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.appended_blocks += other.appended_blocks;
        self.appended_samples += other.appended_samples;
        self.damages += other.damages;
        for (own, (blocks, samples)) in self.dropped.iter_mut().zip(other.dropped) {
            own.0 += blocks;
            own.1 += samples;
        }
    }

    pub(crate) fn drop(&mut self, reason: DropReason, blocks: u64, samples: u64) {
        let dropped = &mut self.dropped[reason as usize];
        dropped.0 += blocks;
        dropped.1 += samples;
    }
}
