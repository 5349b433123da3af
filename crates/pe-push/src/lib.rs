//! Where PingExporter's samples go: a Prometheus Pushgateway, or any receiver of remote write.
//!
//! [`Pushgateway`] is a client for the gateway's HTTP API, for programs with something to push now and then;
//! [`PushgatewaySink`] keeps a gateway up to date with the results of an engine, and [`PushgatewayFactory`] makes one from
//! what a configuration says ([`PushgatewaySettings`]). With the feature `remote-write`, `RemoteWriteSink` sends every sample to a
//! receiver, from the durable queue of the module `queue`.
//!
//! ```no_run
//! use pe_push::Pushgateway;
//!
//! # async fn example() -> Result<(), pe_push::PushError> {
//! let gateway = Pushgateway::new("http://127.0.0.1:9091")?;
//! gateway.push_value("backup", "backup_bytes", 1.5e9).await?;
//! # Ok(())
//! # }
//! ```
//!
//! Several series, with labels and HELP texts, under a grouping key of more than a job:
//!
//! ```no_run
//! use pe_push::{GroupingKey, Pushgateway};
//! use pe_scrape::{FrameBuilder, LabelSet, MetricDescriptor, exposition::Block};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let sizes = FrameBuilder::new(&[MetricDescriptor::gauge("backup_bytes", "Size of the latest backup")])?
//!     .row(LabelSet::new([("volume", "home")])?, &[1.5e9])
//!     .row(LabelSet::new([("volume", "mail")])?, &[2.5e8])
//!     .build();
//! let key = GroupingKey::new("backup")?.label("site", "Plant A/1")?;
//! Pushgateway::new("http://127.0.0.1:9091")?.put(&key, &[Block::new(&sizes)]).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Permissions
//!
//! None: it opens TCP connections to the gateway, and nothing else.
//!
//! # Runtime
//!
//! tokio, with time and I/O enabled. A sink runs one task, which starts with the first results, is started again when it
//! panics, and ends with the sink.
//!
//! # Features
//!
//! `remote-write`: [`RemoteWriteSink`](https://docs.rs/pe-push/latest/pe_push/struct.RemoteWriteSink.html) and its durable queue, which
//! writes below a directory that it is given and holds a lock there.
//!
//! `tls` (default): `https://` URLs, by rustls with the certificates that the system trusts; [`TlsSettings`] or the environment
//! variables `SSL_CERT_FILE` and `SSL_CERT_DIR` name others. Without it such URLs are refused. `remote-write`: the sink for
//! remote write, and its queue.
//!
//! # Defaults and limits
//!
//! | what | value |
//! | --- | --- |
//! | time for one request, from connecting to the end of the answer | 10 seconds unless set |
//! | requests of a sink under way at one time | 8 unless set, 1 to 1024 |
//! | pause after a delivery that failed, unless new results come | 1 second, doubled each time, up to 60, of which a random part is waited |
//! | requests in a row without connection, answer or access, after which a delivery is broken off | 3 |
//! | what is read of an answer that is an error | 500 bytes are told, at most 32,000 read |
//! | connection without traffic | closed after 45 seconds |
//! | results kept for a gateway that is down | the latest of each group |
//! | tries to clear a gateway that is no longer configured | 30, a minute to an hour apart |
//! | bodies that are compressed with gzip | those above 1,200 bytes, unless the gateway refuses |
//! | addresses of a host | at most 16 are tried, a quarter of a second apart |
//!
//! Requests go through the proxy that `HTTPS_PROXY` or `HTTP_PROXY` names, except to `NO_PROXY` and loopback addresses. Redirects are
//! not followed.

#[cfg(feature = "remote-write")]
mod clocks;
mod delivery;
mod error;
mod host;
mod http;
mod metrics;
#[cfg_attr(not(feature = "remote-write"), allow(dead_code))]
mod native;
mod pushgateway;
#[cfg(feature = "remote-write")]
pub mod queue;
#[cfg(feature = "remote-write")]
mod remote_write;
mod samples;
mod state;

pub use error::PushError;
pub use http::{Headers, TlsSettings};
pub use metrics::ResultKind;
pub use native::NativeColumn;
pub use pushgateway::{
    Compression, Grouping, GroupingKey, Pushgateway, PushgatewayFactory, PushgatewaySettings,
    PushgatewaySink,
};
#[cfg(feature = "remote-write")]
#[doc(hidden)]
pub use remote_write::WireBench;
#[cfg(feature = "remote-write")]
pub use remote_write::{
    ClockProbe, Protocol, RemoteWriteFactory, RemoteWriteSettings, RemoteWriteSink, SendOrder,
    queue_directories,
};
pub use samples::{SampleBlock, SampleColumns, SampleMetric, SampleTime};
pub use state::{StateDir, StateError};
