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

mod channel;
mod counters;
mod driver;
mod outcome;
mod pinger;
mod proto;
mod scraper;
mod stats;
mod sweep;
mod sys;

pub use counters::Counters;
pub use outcome::{Outcome, ProbeError, Reason, Reply};
pub use pe_scrape::Family;
pub use pinger::{Closed, OpenError, Pinger, PingerBuilder, SocketInfo, SocketKind};
pub use proto::pacer::Pacer;
pub use proto::{control, packet};
pub use scraper::{DEFAULT_BUCKETS, PingScraper, PingScraperFactory};
pub use stats::Stats;
pub use sweep::{EventKind, ProbeEvent, Sweep, SweepResult};
