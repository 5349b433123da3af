//! The words that all of PingExporter's crates share, and the trait to implement for a scraper of your own.
//!
//! A [`Scraper`] measures [`Target`]s and writes what it saw into the rows of a [`Table`], one column for each of
//! its [`MetricDescriptor`]s. Finished tables are frozen into [`Frame`]s, which [`exposition`] turns into text or
//! protobuf and which a [`Sink`] carries away. A [`ScraperRegistry`] maps the names that appear in configuration
//! files to factories of scrapers.
//!
//! The shortest useful scraper:
//!
//! ```
//! use pe_scrape::{MetricDescriptor, Row, ScrapeError, Scraper, ScraperRegistry, Target, async_trait};
//! use std::sync::Arc;
//!
//! struct NameLength([MetricDescriptor; 1]);
//!
//! #[async_trait]
//! impl Scraper for NameLength {
//!     fn descriptors(&self) -> &[MetricDescriptor] {
//!         &self.0
//!     }
//!     async fn scrape(&self, target: &Target, row: Row<'_>) -> Result<(), ScrapeError> {
//!         row.set(0, target.device().len() as f64);
//!         Ok(())
//!     }
//! }
//!
//! let mut registry = ScraperRegistry::new();
//! registry
//!     .register("name_length", |_settings: &pe_scrape::ScraperSettings| {
//!         let length = MetricDescriptor::gauge("device_name_length", "Characters in the device's name");
//!         Ok(Arc::new(NameLength([length])) as Arc<dyn Scraper>)
//!     })
//!     .expect("the name is free");
//! assert_eq!(registry.names(), ["name_length"]);
//! ```

mod address;
mod descriptor;
mod diagnostic;
pub mod exposition;
mod frame;
mod labels;
mod registry;
mod report;
pub mod resolve;
mod scraper;
mod secret;
pub mod settings;
mod sink;
mod table;
mod target;

pub use address::{Address, Family, FamilyChoice};
pub use async_trait::async_trait;
pub use descriptor::{
    HistogramSpec, MetricDescriptor, MetricKind, NativeBuckets, Schema, SchemaError, Unit,
};
pub use diagnostic::{Diagnostic, Diagnostics, Severity};
pub use frame::{Cell, Frame, FrameBuilder};
pub use labels::{Label, LabelError, LabelSet, is_label_name, is_metric_name};
pub use registry::{RegistryError, ScraperFactory, ScraperRegistry, ScraperSettings};
pub use report::CycleReport;
pub use scraper::{Batch, BatchStats, ScrapeError, Scraper};
pub use secret::Secret;
#[doc(hidden)]
pub use serde_json::{Map, Value};
pub use settings::SettingsError;
pub use sink::Sink;
pub use table::{ABSENT, Row, Table, is_absent};
pub use target::Target;
