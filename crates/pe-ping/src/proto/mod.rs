//! The ICMP engine without I/O: bytes and instants go in, values come out.

use std::time::Duration;

mod checksum;
pub mod control;
pub(crate) mod corruption;
pub(crate) mod departure;
pub(crate) mod drops;
pub(crate) mod filter;
pub(crate) mod icmp;
pub(crate) mod inflight;
pub(crate) mod pacer;
pub mod packet;
pub(crate) mod rtnetlink;
pub(crate) mod timebase;
pub(crate) mod wheel;
pub(crate) mod zone;

/// Nanoseconds of the monotonic clock (`CLOCK_MONOTONIC`), the one base of all deadlines.
pub(crate) type Nanos = u64;

/// A duration in nanoseconds, or the longest there is.
pub(crate) fn nanos(duration: Duration) -> Nanos {
    Nanos::try_from(duration.as_nanos()).unwrap_or(Nanos::MAX)
}
