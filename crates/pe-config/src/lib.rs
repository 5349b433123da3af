//! Typed configuration of PingExporter: JSON files, layers, validation with source locations.
//!
//! [`load`] reads a directory of group files and perhaps a push configuration, lays environment variables and flags over
//! them, and gives either a checked [`Config`](pe_scrape::Config) or every problem of every file at once, each with its
//! place. It does no network I/O, starts nothing and keeps no state; [`Watched`] says what to watch for changes.
//!
//! What files may say is declared in pe-scrape and by the scrapers and sinks themselves; the JSON Schemas
//! ([`schemas`]), the [`reference()`] page and the names of environment variables follow from there.
//!
//! ```
//! use pe_config::{Environment, Sources, load};
//! use pe_scrape::{ScraperRegistry, SinkRegistry};
//! # use pe_scrape::{scraper_factory, testkit::Yields};
//! # pe_scrape::settings! {
//! #     /// Settings of `ping`.
//! #     struct Settings("") {
//! #         /// Bytes.
//! #         size: u16 = 56;
//! #     }
//! # }
//! # let ping = scraper_factory(|_: Settings, _: &_| Yields::new(&[]));
//!
//! let mut scrapers = ScraperRegistry::new();
//! scrapers.register("ping", ping)?;
//! let sinks = SinkRegistry::new();
//! # let directory = tempfile::tempdir()?;
//! # let group = r#"{"conf": {"prom_id": "office", "interval": "30s"},
//! #                 "jobs": [{"job": "router", "ip": "127.0.0.1"}]}"#;
//! # std::fs::write(directory.path().join("office.json"), group)?;
//! # let directory = directory.path();
//! let mut sources = Sources::new(directory, &scrapers, &sinks);
//! # sources.env = Environment::empty();
//! let loaded = load(&sources)?;
//! for warning in &loaded.warnings {
//!     eprintln!("{warning}");
//! }
//! let group = &loaded.config.groups[0];
//! assert_eq!((group.name(), group.interval().as_secs()), ("office", 30));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Permissions and runtime
//!
//! It reads the files that it is given and those that they name, and needs no runtime: [`load`] works on the calling thread, and
//! waits for a file system that is slow. Within async code it belongs on a thread for blocking calls.
//!
//! # Defaults and limits
//!
//! Defaults of keys are declared where the keys are; the [`reference()`] lists them.
//!
//! | what | value |
//! | --- | --- |
//! | a group file, push configuration or targets file | at most 256 MiB, some 1.5 million devices; regular files only |
//! | a file that holds one secret | at most 64 KiB |
//! | values that anchors and aliases of a YAML file stand for | at most 1,000,000 |
//! | lists and objects within each other | at most 64 levels in YAML, some hundred in JSON |

mod load;

// The disk, text, trees, and problems at their places.
mod file;
// Defaults < files < environment variables < flags.
mod layers;

// The two kinds of files.
mod group;
mod push;

// What files may say, for editors and readers.
mod reference;
mod schema;

pub use file::{Fingerprint, Watched};
pub use group::TargetFiles;
#[doc(hidden)]
pub use group::try_targets;
pub use layers::{Environment, Overrides};
pub use load::{LoadError, Loaded, Sources, load};
pub use push::sink_kinds;
pub use reference::{fill_reference, reference};
pub use schema::{group_schema, push_schema, schemas, targets_schema};
