//! The ICMP engine without I/O: bytes and instants go in, values come out.

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
pub(crate) mod timebase;
pub(crate) mod wheel;

/// Nanoseconds of the monotonic clock (`CLOCK_MONOTONIC`), the one base of all deadlines.
pub(crate) type Nanos = u64;
