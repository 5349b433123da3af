//! From the names in configuration files to scrapers and sinks.
//!
//! A [`Registry`] holds factories of one kind by name, and contains their panics. [`settings`] is what they are told,
//! [`scrapers`] and [`sinks`] what they make.

mod scrapers;
mod settings;
mod sinks;

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use thiserror::Error;

pub use scrapers::{OnlyFamily, ScraperFactory, ScraperRegistry, scraper_factory};
pub(crate) use settings::own_keys;
pub use settings::{SinkConfig, SinkSettings};
pub use sinks::{Remark, SinkFactory, SinkRegistry, sink_factory};

use crate::settings::{Setting, Table};
use crate::{SettingsError, is_label_name, panic_message};

/// Why a registry refused.
#[derive(Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// Names are used in metric labels and configuration keys.
    #[error("{what} name {name:?} is not allowed: use letters, digits and '_'")]
    Name {
        /// `scraper` or `sink`.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// The name is taken.
    #[error("a {what} named {name:?} is registered already")]
    Duplicate {
        /// `scraper` or `sink`.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// Nothing has this name.
    #[error("there is no {what} named {name:?}; there are: {}", known.join(", "))]
    Unknown {
        /// `scraper` or `sink`.
        what: &'static str,
        /// The name that was asked for.
        name: String,
        /// The names that are known.
        known: Vec<String>,
    },
    /// The factory refused, or panicked.
    #[error("cannot set up {what} {name:?}")]
    Create {
        /// `scraper` or `sink`.
        what: &'static str,
        /// The name.
        name: String,
        /// Why.
        source: SettingsError,
    },
}

crate::debug_with_causes!(RegistryError);

/// What a registry may hold: `dyn ScraperFactory` and `dyn SinkFactory`.
pub trait Kind {
    /// The word for what the factories make.
    const WHAT: &'static str;

    /// The keys that the settings may have, where they are declared.
    fn keys(&self) -> Option<&'static Table>;
}

/// Factories of one kind by name: a [`ScraperRegistry`] or a [`SinkRegistry`].
pub struct Registry<F: ?Sized>(BTreeMap<String, Arc<F>>);

impl<F: ?Sized> Default for Registry<F> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<F: ?Sized> Clone for Registry<F> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<F: ?Sized> fmt::Debug for Registry<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl<F: Kind + ?Sized> Registry<F> {
    /// A registry without factories.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// All names, in order.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }

    /// The keys that the settings of `name` may have; `None` where they are not declared.
    #[must_use]
    pub fn table(&self, name: &str) -> Option<&'static Table> {
        self.0.get(name)?.keys()
    }

    fn factories(&self) -> impl Iterator<Item = &F> {
        self.0.values().map(|factory| &**factory)
    }

    fn insert(&mut self, name: String, factory: Arc<F>) -> Result<(), RegistryError> {
        let what = F::WHAT;
        if !is_label_name(&name) {
            return Err(RegistryError::Name { what, name });
        }
        if self.0.contains_key(&name) {
            return Err(RegistryError::Duplicate { what, name });
        }
        self.0.insert(name, factory);
        Ok(())
    }

    /// Runs `run` on the factory of that name. A panic of it is an error like others.
    fn with<T>(
        &self,
        name: &str,
        run: impl FnOnce(&F) -> Result<T, SettingsError>,
    ) -> Result<T, RegistryError> {
        let what = F::WHAT;
        let factory = self.0.get(name).ok_or_else(|| RegistryError::Unknown {
            what,
            name: name.to_owned(),
            known: self.0.keys().cloned().collect(),
        })?;
        let result = catch_unwind(AssertUnwindSafe(|| run(factory))).unwrap_or_else(|panic| {
            let message = format!("it panicked: {}", panic_message(&*panic));
            Err(SettingsError::new(message))
        });
        result.map_err(|source| RegistryError::Create {
            what,
            name: name.to_owned(),
            source,
        })
    }
}

/// The table of a type made by [`settings!`](macro@crate::settings).
fn table_of<T: Setting>() -> Option<&'static Table> {
    match T::KIND {
        crate::settings::Kind::Object(table) => Some(table),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Scraper, ScraperSettings, with_causes};

    fn refuse(_: &ScraperSettings) -> Result<Arc<dyn Scraper>, SettingsError> {
        Err(SettingsError::at("size", "must be small"))
    }

    fn panics(_: &ScraperSettings) -> Result<Arc<dyn Scraper>, SettingsError> {
        panic!("as always")
    }

    #[test]
    fn names_are_unique_and_unknown_ones_are_told() {
        let mut registry = ScraperRegistry::new();
        registry.register("ping", refuse).unwrap();
        let message = |result: Result<(), RegistryError>| with_causes(&result.unwrap_err());
        assert_eq!(
            message(registry.register("ping", refuse)),
            r#"a scraper named "ping" is registered already"#
        );
        assert_eq!(
            message(registry.register("a-b", refuse)),
            r#"scraper name "a-b" is not allowed: use letters, digits and '_'"#
        );
        let settings = ScraperSettings::default();
        assert_eq!(
            message(registry.describe("pong", &settings).map(drop)),
            r#"there is no scraper named "pong"; there are: ping"#
        );
        assert_eq!(
            message(registry.describe("ping", &settings).map(drop)),
            r#"cannot set up scraper "ping": must be small"#
        );
    }

    #[test]
    fn a_factory_that_panics_is_refused() {
        let mut registry = ScraperRegistry::new();
        registry.register("wild", panics).unwrap();
        let error = registry
            .create("wild", &ScraperSettings::default())
            .map(drop)
            .unwrap_err();
        assert_eq!(
            with_causes(&error),
            r#"cannot set up scraper "wild": it panicked: as always"#
        );
    }
}
