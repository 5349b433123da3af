//! The scheduler of PingExporter, to be used inside any program.
//!
//! An [`Engine`] runs one fixed-rate cycle for each [`Group`] of devices: at each tick the scrapers of a
//! [`ScraperRegistry`] measure their targets, and the finished results go to the sinks and into [`Results`]. A slow
//! device, cycle, scraper or sink delays no other. Groups come from code, or from files by the crate `pe-config`.
//!
//! ```
//! use std::time::Duration;
//! use pe_engine::{Engine, Group, ScraperRegistry};
//! # use std::sync::Arc;
//! # use pe_scrape::{Columns, Metric, Row, ScrapeError, Scraper, SettingsError, Target, async_trait};
//! # struct Greeting(Arc<Columns>, Metric);
//! # #[async_trait]
//! # impl Scraper for Greeting {
//! #     fn columns(&self) -> &Arc<Columns> { &self.0 }
//! #     async fn scrape(&self, _: &Target, row: Row<'_>) -> Result<(), ScrapeError> { row.set(self.1, 1.0); Ok(()) }
//! # }
//! # fn greeting(_: &pe_scrape::ScraperSettings) -> Result<Arc<dyn Scraper>, SettingsError> {
//! #     let mut columns = Columns::builder();
//! #     let up = columns.gauge("greeting_up", "Whether the service greets");
//! #     Ok(Arc::new(Greeting(columns.build()?, up)))
//! # }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut scrapers = ScraperRegistry::new();
//! scrapers.register("greeting", greeting)?;
//! let group = Group::builder("plant", Duration::from_secs(10))
//!     .scraper("greeting", serde_json::Value::Null)
//!     .device("router", "10.0.0.1")
//!     .build()?;
//! let engine = Engine::builder(scrapers).group(group).build()?;
//! let results = engine.results();
//! engine.run(tokio::time::sleep(Duration::from_millis(50))).await?;
//! assert_eq!(results.value("plant", "router", "greeting_up"), Some(1.0));
//! # Ok(())
//! # }
//! ```
//!
//! # Permissions
//!
//! None of its own: what scrapers need is told by them. `pe-ping` needs raw or datagram ICMP sockets.
//!
//! # Runtime
//!
//! A tokio runtime with its timer, of either flavour. Each group and each sink has a task, which is started again when it
//! panics; a change of the configuration is prepared on a thread for blocking calls. The engine has no global state and
//! installs no signal handler, and several engines may run in one process. It logs by `tracing`.
//!
//! # Defaults and limits
//!
//! | what | value |
//! | --- | --- |
//! | first cycles | spread over one interval, at most a second |
//! | a cycle that is longer than its interval | costs ticks, which are counted; a batch is stopped after three intervals, or the time that its settings need, and a second |
//! | results of a group in which nothing is measured | withheld after three intervals, at least a minute |
//! | reports of a group that wait for a slow sink | 4; then the oldest is left out |
//! | time to finish measurements at the end, and for sinks after that | 5 seconds each ([`EngineBuilder::shutdown_grace`]) |
//! | the agent's own metrics go to sinks | as often as the fastest group is measured, at most every 15 seconds |
//! | changes of the configuration that wait for the one before | 4; then whoever asks for another waits |

mod builder;
mod changes;
mod collector;
mod engine;
mod episode;
mod error;
mod finished;
mod groups;
mod handle;
mod lane;
mod metrics;
mod own;
mod plan;
mod prepare;
mod process;
mod queue;
mod reload;
mod results;
mod runner;
mod schedule;
mod shared;
mod sinks;
mod staleness;
mod staying;
mod tasks;
mod tick;

pub use builder::EngineBuilder;
pub use changes::ReloadSummary;
pub use engine::Engine;
pub use error::{EngineError, FlushErrors};
pub use finished::Finished;
pub use handle::EngineHandle;
pub use pe_scrape::{
    Config, CycleReport, DeviceEntry, DeviceStates, Diagnostics, Group, ScraperRegistry, Sink,
    SinkRegistry,
};
pub use reload::LastReload;
pub use results::Results;
