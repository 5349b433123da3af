//! A queue of [`SampleBlock`](crate::SampleBlock)s between cycles and sinks, each of which reads at its own pace.

mod handle;
mod types;

pub use handle::{QueueHandle, QueueReader};
pub use types::{BlockId, Order, QueueError, QueueLimits};
