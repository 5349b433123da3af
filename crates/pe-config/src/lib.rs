//! Typed configuration of PingExporter: JSON files, layers, validation with source locations.
//!
//! [`load`] reads a directory of group files and perhaps a push configuration, lays environment variables
//! and flags over them, and gives either a validated [`Config`] or every problem of every file at once,
//! each with its place.
//!
//! ```
//! use pe_config::{CommonSettings, Environment, ScraperCatalog, SettingsProblem, Sources, load};
//!
//! /// The scrapers that this program knows.
//! struct OnlyPing;
//!
//! impl ScraperCatalog for OnlyPing {
//!     fn names(&self) -> Vec<String> {
//!         vec!["ping".to_owned()]
//!     }
//!
//!     fn check(
//!         &self,
//!         _name: &str,
//!         _settings: &serde_json::Value,
//!         _common: &CommonSettings,
//!     ) -> Result<(), SettingsProblem> {
//!         Ok(())
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! # let group = r#"{"conf": {"prom_id": "office", "interval": "30s"},
//! #                 "jobs": [{"job": "router", "ip": "127.0.0.1"}]}"#;
//! # std::fs::write(directory.path().join("office.json"), group)?;
//! # let directory = directory.path();
//! let mut sources = Sources::new(directory, &OnlyPing);
//! # sources.env = Environment::empty();
//! let loaded = load(&sources)?;
//! for warning in &loaded.warnings {
//!     eprintln!("{warning}");
//! }
//! let group = &loaded.config.groups[0];
//! assert_eq!(&*group.prom_id, "office");
//! assert_eq!(group.interval.as_secs(), 30);
//! # Ok(())
//! # }
//! ```

// The result.
mod config;
mod diagnostic;
mod identity;
mod secret;

// Where it comes from.
mod catalog;
mod environment;
mod layers;
mod load;
mod watched;

// Reading the files.
mod across;
mod devices;
mod document;
mod exclusions;
mod fields;
mod group;
mod interner;
mod jobs;
mod labels;
mod metrics;
mod push;
mod read;
mod report;
mod scalar;
mod settings;
mod suggest;
mod target;
mod targets_file;

// The shape of the files.
mod schema;
mod shape;

pub use catalog::{CommonSettings, ScraperCatalog, SettingsProblem};
pub use config::{
    Address, Config, Family, GroupConfig, Grouping, JobConfig, LabelPair, Labels, MetricConfig,
    PacerConfig, PushConfig,
};
pub use diagnostic::{Diagnostic, Diagnostics, Severity};
pub use environment::Environment;
pub use identity::{Changes, DeviceKey, changes};
pub use layers::Overrides;
pub use load::{Loaded, Sources, load};
pub use schema::{group_schema, push_schema, schemas, targets_schema};
pub use secret::Secret;
pub use targets_file::TargetFiles;
pub use watched::{Fingerprint, Watched};
