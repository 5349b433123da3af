//! The scheduler of PingExporter, to be used inside any program.
//!
//! An [`Engine`] runs one fixed-rate cycle for each configuration file: at each tick the scrapers of a
//! [`ScraperRegistry`] measure their targets, and the finished results go to the sinks and into [`Results`]. A slow
//! cycle, scraper or sink delays no other.
//!
//! ```
//! use std::time::Duration;
//! use pe_engine::{Engine, ScraperRegistry};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let config = pe_config::Config { push: None, groups: Vec::new() };
//! let registry = ScraperRegistry::new(); // register scrapers here
//! let engine = Engine::builder(config, registry).build()?;
//! let results = engine.results();
//! engine.run(tokio::time::sleep(Duration::from_millis(10))).await;
//! for report in results.latest() {
//!     println!("{}: {} devices in {:?}", report.config, report.jobs, report.duration);
//! }
//! # Ok(())
//! # }
//! ```

mod builder;
mod catalog;
mod collector;
mod cycle;
mod engine;
mod error;
mod metrics;
mod plan;
mod process;
mod push;
mod results;
mod schedule;

pub use builder::EngineBuilder;
pub use catalog::RegistryCatalog;
pub use engine::{Engine, EngineHandle, FlushErrors, ReloadSummary};
pub use error::EngineError;
pub use pe_scrape::{ScraperRegistry, Sink};
pub use results::Results;
