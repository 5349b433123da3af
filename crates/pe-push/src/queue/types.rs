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

/// Names a block for as long as the queue exists: numbers rise by one with each block that is appended, also over restarts,
/// and are never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockId(pub u64);

/// What a queue could not do. A full disk and damaged records are none of it: they are counted, and the queue goes on.
#[derive(Debug, Error)]
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
