//! Where PingExporter's samples go: a Pushgateway.
//!
//! [`Pushgateway`] is a client for the gateway's HTTP API, for programs with something to push now and then;
//! [`PushgatewaySink`] keeps a gateway up to date with the results of an engine.
//!
//! ```no_run
//! use pe_push::{GroupingKey, Pushgateway};
//! use pe_scrape::{FrameBuilder, LabelSet, MetricDescriptor, exposition::Block};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let gateway = Pushgateway::new("http://127.0.0.1:9091")?;
//! let backup = FrameBuilder::new(&[MetricDescriptor::gauge("backup_bytes", "Size of the latest backup")])?
//!     .row(LabelSet::empty(), &[1.5e9])
//!     .build();
//! gateway.put(&GroupingKey::new("backup")?, &[Block::new(&backup)]).await?;
//! # Ok(())
//! # }
//! ```

mod client;
mod error;
mod groups;
mod key;
mod outcome;
mod sink;
mod tally;

pub use client::Pushgateway;
pub use error::PushError;
pub use key::GroupingKey;
pub use outcome::ResultKind;
pub use sink::{Grouping, PushgatewaySink, SinkOptions};
