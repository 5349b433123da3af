//! A durable queue of [`SampleBlock`](crate::SampleBlock)s between cycles and sinks, each of which reads at its own pace.
//!
//! ```no_run
//! use pe_push::queue::{Directory, Order, QueueHandle, QueueLimits};
//! # async fn example(block: std::sync::Arc<pe_push::SampleBlock>) -> Result<(), Box<dyn std::error::Error>> {
//! let disk = Box::new(Directory::open("queue")?);
//! let (queue, recovery) = QueueHandle::open(disk, QueueLimits::default())?;
//! println!("{} blocks are there", recovery.blocks);
//!
//! let mut reader = queue.reader("central", Order::Strict);
//! queue.append(block);
//! let (id, block) = reader.next().await;
//! // … send it …
//! reader.acknowledge([id]);
//! # Ok(())
//! # }
//! ```
//!
//! | for | use |
//! | --- | --- |
//! | appending and reading from async code | [`QueueHandle`], [`QueueReader`] |
//! | the same without a thread, on any disk | [`Queue`] |
//! | looking from outside | [`inspect`], [`verify`], [`drop_sink`], [`drop_all`] |
//! | where the bytes are | [`Directory`], [`MemoryDisk`], any other [`Disk`] |
//!
//! # Promises
//!
//! - What was synchronised survives the end of the process and a power cut. [`QueueHandle`] synchronises within a second after a change.
//! - Each sink gets each block until it acknowledges it: at least once, with equal times and values.
//! - Beyond its limits, and where the disk is full, the queue drops the oldest blocks and goes on. What was damaged on the disk costs
//!   the blocks that it hit. All that is dropped is counted by reason ([`QueueCounters`]).
//! - Labels are those of the time of measurement; nothing of the configuration is looked up later.
//! - Memory does not grow with what waits on a disk.
//!
//! The format of the files is told in the head of `queue/format.rs`. A queue takes no lock: one program at a time.

mod block;
mod column;
mod core;
mod cursor;
mod disk;
mod drop_log;
mod format;
mod handle;
mod inspect;
#[cfg(test)]
mod lagging;
mod recovery;
mod segment;
mod settled;
mod shape;
#[cfg(test)]
mod testing;
mod types;

use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use self::core::Queue;
pub use disk::{Directory, Disk, MemoryDisk};
pub use handle::{QueueHandle, QueueReader};
pub use inspect::{QueueReport, SegmentReport, Verification, drop_all, drop_sink, inspect, verify};
pub use recovery::Recovery;
pub use types::{BlockId, DropReason, Order, QueueCounters, QueueError, QueueLimits};

/// Tells that `file` cannot be read.
fn read_error(file: &str) -> impl FnOnce(io::Error) -> QueueError {
    move |source| QueueError::Io {
        action: "read",
        file: file.to_owned(),
        source,
    }
}

/// The time of so many milliseconds since 1970.
fn time_of(wall_ms: i64) -> SystemTime {
    let distance = Duration::from_millis(wall_ms.unsigned_abs());
    let time = if wall_ms < 0 {
        UNIX_EPOCH.checked_sub(distance)
    } else {
        UNIX_EPOCH.checked_add(distance)
    };
    time.unwrap_or(UNIX_EPOCH)
}
