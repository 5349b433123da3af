//! What can go wrong when an engine is set up.

use std::path::PathBuf;
use std::sync::Arc;

use pe_push::PushError;
use pe_scrape::{LabelError, RegistryError, SchemaError};
use thiserror::Error;

/// Why a configuration cannot be run. Nothing that runs already is changed by an error.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EngineError {
    /// A scraper cannot be set up.
    #[error("{}: {source}", file.display())]
    Scraper {
        /// The configuration file.
        file: PathBuf,
        /// What the registry said.
        source: RegistryError,
    },
    /// A scraper's descriptors contradict each other.
    #[error("scraper {scraper:?} describes its metrics wrongly: {source}")]
    Schema {
        /// The scraper's name.
        scraper: Arc<str>,
        /// What is wrong.
        source: SchemaError,
    },
    /// A device's labels are not allowed.
    #[error("{}: device {device:?}: {source}", file.display())]
    Labels {
        /// The configuration file.
        file: PathBuf,
        /// The device.
        device: Arc<str>,
        /// What is wrong.
        source: LabelError,
    },
    /// The push target cannot be used.
    #[error("cannot set up the push to {url}: {source}")]
    Push {
        /// The configured URL, without credentials.
        url: String,
        /// What is wrong.
        source: PushError,
    },
    /// The same `prom_id` in two groups.
    #[error("prom_id {0:?} is used by two configurations; each needs its own")]
    DuplicateConfig(Arc<str>),
    /// The engine has stopped.
    #[error("the engine is not running any more")]
    Stopped,
}
