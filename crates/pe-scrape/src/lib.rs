//! The words that all of PingExporter's crates share, and the traits for scrapers and sinks of your own.
//!
//! A [`Scraper`] measures [`Target`]s and writes what it saw into the rows of a [`Table`], one column or more for each of
//! its metrics. Finished tables are frozen into [`Frame`]s, which [`exposition`] turns into text or protobuf and which a
//! [`Sink`] carries away in a [`CycleReport`]. A [`ScraperRegistry`] and a [`SinkRegistry`] map the names that appear in
//! configuration files to factories; [`mod@settings`] declares what may be set. A [`Config`] holds [`Group`]s of devices and
//! the sinks in force, whether it was read from files or made in code.
//!
//! The shortest useful scraper:
//!
//! ```
//! use pe_scrape::{Columns, Metric, Row, ScrapeError, Scraper, ScraperRegistry, Target, async_trait, scraper_factory};
//! use std::sync::Arc;
//!
//! pe_scrape::settings! {
//!     /// Settings of `name_length`.
//!     struct Settings("") {
//!         /// Counted beside the characters of the name.
//!         extra: u32 = 0;
//!     }
//! }
//!
//! struct NameLength { columns: Arc<Columns>, length: Metric, extra: u32 }
//!
//! #[async_trait]
//! impl Scraper for NameLength {
//!     fn columns(&self) -> &Arc<Columns> {
//!         &self.columns
//!     }
//!     async fn scrape(&self, target: &Target, row: Row<'_>) -> Result<(), ScrapeError> {
//!         row.set(self.length, target.device().len() as f64 + f64::from(self.extra));
//!         Ok(())
//!     }
//! }
//!
//! let factory = scraper_factory(|settings: Settings, _common| {
//!     let mut columns = Columns::builder();
//!     let length = columns.gauge("device_name_length", "Characters in the device's name");
//!     Ok(NameLength { columns: columns.build()?, length, extra: settings.extra })
//! });
//! let mut registry = ScraperRegistry::new();
//! registry.register("name_length", factory)?;
//! assert_eq!(registry.names(), ["name_length"]);
//! # Ok::<(), pe_scrape::RegistryError>(())
//! ```
//!
//! # Permissions
//!
//! None: traits and values. What a scraper or a sink needs is its own matter, and it says so by [`ScrapeError::Local`] where it
//! lacks it.
//!
//! # Runtime
//!
//! Scrapers and sinks are called within a tokio runtime with its timer, of either flavour: a batch has deadlines and a
//! [`Pacer`] that sleeps. Values, settings and [`exposition`] need none. [`SystemResolver`](resolve::SystemResolver) asks the
//! C library on a thread for blocking calls.
//!
//! # Features
//!
//! None is on by default. `testkit`: [`testkit::check`](https://docs.rs/pe-scrape/latest/pe_scrape/testkit/fn.check.html), which
//! checks any scraper, and a scraper for tests. `tls`: whom to trust in TLS, for scrapers and sinks that connect.
//!
//! # Defaults and limits
//!
//! | what | value |
//! | --- | --- |
//! | devices that the default batch measures at one time | 64 ([`Batch::concurrency`]) |
//! | timeout of a device | 1 second, or half of the interval where that is shorter |
//! | probes of a device in a cycle, time between them | 1, 1 second; at most 10,000 probes |
//! | addresses of a subnet or a range | at most 65,536 unless set ([`GroupBuilder::max_targets`]), 16,777,216 in any case |
//! | durations | from 1 ms to 366 days |
//! | a file that holds one secret; one of certificates or keys | at most 64 KiB; 16 MiB |

mod address;
mod backoff;
mod causes;
mod columns;
mod diagnostic;
pub mod exposition;
mod file_backed;
mod filter;
mod frame;
mod group;
mod labels;
mod metrics;
mod pacer;
mod registry;
mod report;
pub mod resolve;
mod rtt_codes;
mod scraper;
mod secret;
mod secret_text;
pub mod settings;
mod sink;
mod supervise;
mod table;
mod target;
#[cfg(any(test, feature = "testkit"))]
pub mod testkit;
#[cfg(feature = "tls")]
pub mod tls;
mod up_states;

pub use address::{Address, Family, FamilyChoice};
pub use async_trait::async_trait;
pub use backoff::Backoff;
pub use causes::{panic_message, with_causes};
pub use columns::{
    Columns, ColumnsBuilder, ColumnsError, HistogramSpec, Metric, MetricDescriptor, MetricKind,
    NativeBuckets, SummarySpec, Unit,
};
pub use diagnostic::{Diagnostic, Diagnostics, Severity, printable};
pub use file_backed::FileBacked;
pub use filter::Filter;
pub use frame::{Cell, Frame, FrameBuilder};
pub use group::{
    Checks, Config, Device, DeviceEntry, DeviceList, Exclusion, Exclusions, Expansion, Group,
    GroupBuilder, GroupSettings, IP_PLACEHOLDER, Interval, MAX_COUNT, PacerSettings, ScraperConfig,
    ScraperList, ScraperSettings, TargetError, TargetSpec, Template, Unfit, check_address,
    is_agent_metric, parse_target, refuse_frame,
};
pub use labels::{
    AGENT_LABELS, Label, LabelError, LabelSet, Labels, REPLICA_LABEL, RESERVED_LABELS,
    is_label_name, is_metric_name, refuse_label_name,
};
pub use metrics::{Counter, Counters, Gauge, Gauges, unix_seconds};
#[doc(hidden)]
pub use metrics::{labelled as labelled_metric, single as single_metric};
pub use pacer::Pacer;
pub use registry::{
    OnlyFamily, Registry, RegistryError, Remark, ScraperFactory, ScraperRegistry, SinkConfig,
    SinkFactory, SinkRegistry, SinkSettings, scraper_factory, sink_factory,
};
pub use report::{AGENT_JOB, CycleReport, DeviceStates};
pub use rtt_codes::{push_rtt_code, rtt_code, rtt_codes, rtt_of_code};
pub use scraper::{Batch, Progress, ScrapeError, Scraper};
pub use secret::Secret;
pub use secret_text::SecretText;
#[doc(hidden)]
pub use serde_json::{Map, Value};
pub use settings::SettingsError;
pub use sink::{Backlog, CloseReason, Dropped, Sink, SinkOutage, SinkStatus};
pub use supervise::{TaskFailure, supervise};
pub use table::{ABSENT, Row, Table, is_absent};
pub use target::Target;
pub use up_states::UpStates;
