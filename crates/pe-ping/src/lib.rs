//! A batched ICMP echo engine over raw sockets, with kernel timestamps.
//!
//! ```no_run
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let reply = pe_ping::Pinger::new()?.ping([127, 0, 0, 1]).await?;
//! println!("{:?}", reply.rtt);
//! # Ok(())
//! # }
//! ```
//!
//! [`Pinger::sweep`] probes many devices together, at no task, timer or channel for each; [`PingScraperFactory`] makes
//! scrapers for `pe-engine`.
//!
//! ```no_run
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use pe_ping::{Pinger, Sweep};
//!
//! let result = Pinger::new()?.sweep(Sweep::subnet("127.0.0.0/29")?).await?;
//! for (address, stats) in result.iter() {
//!     println!("{address}: {:?}", stats.mean_rtt());
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Permissions
//!
//! Linux only. A raw socket needs CAP_NET_RAW: root, `setcap cap_net_raw+ep` on the program's file, or the capability from
//! whatever starts the program. Without it, datagram ICMP sockets are used (`icmp(7)`), for which a group of the process must
//! lie in `net.ipv4.ping_group_range`; that holds for IPv6 too. With neither, [`PingerBuilder::build`] fails with
//! [`OpenError::Permission`], which says what to grant. CAP_NET_ADMIN lets the receive buffer grow beyond
//! `net.core.rmem_max`.
//!
//! # Threads and runtime
//!
//! Each [`Pinger`] has one thread, named `icmp`, that owns its sockets and does all the work; it ends with the last clone
//! of the pinger. The futures only wait for it and can be awaited on any executor. [`PingScraper`] needs a tokio runtime
//! with its timer. Sockets belong to the network namespace of the thread that calls [`PingerBuilder::build`].
//!
//! # Defaults
//!
//! | setting | default |
//! | --- | --- |
//! | [timeout](PingerBuilder::timeout) | 1 s |
//! | [payload](PingerBuilder::payload_size) | 56 bytes |
//! | [rate](PingerBuilder::rate), [burst](PingerBuilder::burst) | 10,000 requests a second, 64 of them back to back |
//! | [receive buffer](PingerBuilder::receive_buffer) | 32 MiB, as far as the kernel gives it |
//! | send buffer | 4 MiB, likewise; further ones while neighbours that do not answer fill them |
//! | [TTL](PingerBuilder::ttl), [DSCP](PingerBuilder::dscp), [mark](PingerBuilder::mark) | the system's, 0, none |
//! | [families](PingerBuilder::ipv4) | both, as far as the machine has them |
//! | [probes of a target](Sweep::count), [time between them](Sweep::probe_interval) | 1, 1 s |
//!
//! # Limits
//!
//! - 4,194,304 probes in flight for each pinger, 65,536 with datagram sockets; what is beyond waits to be sent. Each takes 64
//!   bytes, and each target of a sweep some 120 more.
//! - 65,507 bytes of payload. Below 12 bytes a late reply cannot be told from one to a later probe of the same sequence
//!   number.
//! - 1,048,576 addresses of a [subnet](Sweep::subnet); lists may be longer.
//! - A probe that times out is told so some 12 ms after its timeout, so that a reply which arrived in time is not missed on a
//!   busy machine.
//! - To send few large batches instead of many small ones, due probes of a sweep are gathered for up to 25 ms; single pings
//!   are sent at once.
//!
//! # How exact the RTTs are
//!
//! An RTT is the time from the request's departure to the reply's arrival, never to the moment at which a thread woke up.
//!
//! - The arrival is the kernel's time stamp of the packet (`SO_TIMESTAMPNS`, `socket(7)`). It is of the wall clock and is
//!   translated to the monotonic one; a step of the wall clock between request and reply does no harm and is
//!   [counted](Counters::clock_steps).
//! - The departure is told from readings of the monotonic clock around the system call that sends two packets, or four of a
//!   full batch. Where the thread was interrupted during the call, the reply decides which of the two possible moments it
//!   was.
//!
//! Compared with captures on the loopback interface of a machine with four busy cores, half of the RTTs were off by at most
//! 0.25 µs (IPv6: 1.25 µs), and 99 % by less than 8 µs (IPv6: 15 µs). After a wrong decision, an RTT is off by as much as the
//! interruption took, some milliseconds; where there is more to run than cores, that can be one RTT in a hundred. The
//! figures, and the command that measures them again, are in the repository's `docs/performance.md`.
//!
//! A reply that this machine dropped itself is no loss of the device: see [`ProbeError::DroppedLocally`].

mod channel;
mod counters;
mod driver;
mod opener;
mod outcome;
mod pinger;
mod proto;
mod scraper;
mod stats;
mod subnet;
mod sweep;
mod sys;

pub use counters::Counters;
pub use opener::{OpenSocket, OwnRights, SocketHelper, SocketRequest, serve as serve_sockets};
pub use outcome::{Outcome, ProbeError, Reason, Reply};
pub use pe_scrape::Family;
pub use pe_scrape::Pacer;
pub use pinger::{Closed, OpenError, Pinger, PingerBuilder, SocketInfo, SocketKind};
pub use proto::{control, packet};
pub use scraper::{
    Histogram, HistogramShape, OneFamily, PingScraper, PingScraperFactory, PingSettings,
};
pub use stats::Stats;
pub use subnet::SubnetError;
pub use sweep::zone_index;
pub use sweep::{EventKind, ProbeEvent, Sweep, SweepResult};

/// Keeps the descriptors that this process has open, its first three aside, from the programs that it starts. What it opens later
/// is closed there anyway, if it is opened by Rust's means. Linux 5.11 or newer.
///
/// # Errors
/// That of the system call: an older kernel does not know it.
pub fn keep_descriptors_from_programs() -> std::io::Result<()> {
    sys::keep_descriptors()
}

/// Whether the kernel says that the machine's wall clock is synchronised; `None` where it does not say. Source: adjtimex(2).
#[must_use]
pub fn clock_is_synchronized() -> Option<bool> {
    sys::is_synchronized()
}

/// Makes the allocator return memory of 1 MiB and more to the system when it is freed, and lets all threads share two heaps, for
/// the whole process and for good.
///
/// For programs with many devices, at their start and before they have other threads: results of 100,000 devices are some 26 MB a
/// cycle, of which glibc keeps several times as much otherwise. Nothing happens with another C library.
pub fn keep_less_memory() {
    sys::keep_less_memory();
}
