//! Remote write: what leaves for Prometheus, VictoriaMetrics, Mimir or Thanos.
//!
//! What decides does no I/O: `blocks` makes sample blocks of reports, `selection` says which series are taken, and `stale` adds the markers
//! of series that have ended; `feed` does so once for all sinks.
//! `wire` encodes blocks, `work` cuts them into requests, `verdict` says what an answer means, `clock` which times can be
//! believed, `doubt` what the receiver may have already, and `pace` how fast to send. `store` keeps what outlives a sink, and `reading` what a sink
//! reads of it. The driver is [`RemoteWriteSink`] with its `sender`.

mod blocks;
mod clock;
mod doubt;
mod factory;
mod feed;
mod metrics;
mod pace;
mod peer;
mod reading;
mod selection;
mod sender;
mod settings;
mod sink;
mod stale;
mod store;
#[cfg(test)]
mod testing;
mod verdict;
mod wire;
mod work;

pub use factory::RemoteWriteFactory;
pub use settings::{RemoteWriteSettings, SendOrder};
pub use sink::{ClockProbe, RemoteWriteSink};
pub use store::queue_directories;
pub use wire::Protocol;
#[doc(hidden)]
pub use wire::WireBench;
