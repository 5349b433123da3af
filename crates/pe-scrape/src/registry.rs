//! From the names in configuration files to scrapers.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;
use thiserror::Error;

use crate::{Scraper, SettingsError, is_label_name};

/// What a factory is told about the scraper to make: the values of the configuration file that hold for all its scrapers,
/// and the scraper's own settings.
#[derive(Debug, Clone, PartialEq)]
pub struct ScraperSettings {
    /// How long to wait for an answer to one probe.
    pub timeout: Duration,
    /// The time from the start of one cycle to the start of the next.
    pub interval: Duration,
    /// What a gauge for humans shows when the device is down, in the metric's own unit.
    pub value_dev_down: f64,
    /// Probes for each device in a cycle.
    pub count: u32,
    /// The time between two probes of one device.
    pub probe_interval: Duration,
    /// Probes a second that the devices of one cycle may cause together; `None` leaves it to the scraper.
    pub rate: Option<f64>,
    /// Probes that may leave back to back; `None` leaves it to the scraper.
    pub burst: Option<u32>,
    /// The scraper's own settings as the user wrote them: an object, or `null` for none.
    pub own: Value,
}

impl Default for ScraperSettings {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(3),
            interval: Duration::from_secs(60),
            value_dev_down: 3000.0,
            count: 1,
            probe_interval: Duration::from_secs(1),
            rate: None,
            burst: None,
            own: Value::Null,
        }
    }
}

impl ScraperSettings {
    /// Reads the scraper's own settings into a type with `#[serde(deny_unknown_fields, default)]`.
    ///
    /// # Errors
    /// [`SettingsError`] with serde's message.
    pub fn parse<T: DeserializeOwned + Default>(&self) -> Result<T, SettingsError> {
        match &self.own {
            Value::Null => Ok(T::default()),
            own => T::deserialize(own).map_err(|error| SettingsError::new(error.to_string())),
        }
    }
}

/// Makes scrapers of one name. Closures of the right form are factories.
pub trait ScraperFactory: Send + Sync {
    /// Makes a scraper.
    ///
    /// This is called for each distinct combination of settings in the configuration, and again on reload. It is also
    /// called to check a configuration, so it should be cheap and must not measure anything.
    ///
    /// # Errors
    /// [`SettingsError`] when the settings make no sense, or what it measures with cannot be set up.
    fn create(&self, settings: &ScraperSettings) -> Result<Arc<dyn Scraper>, SettingsError>;

    /// Checks settings without making a scraper. By default a scraper is made and dropped.
    ///
    /// # Errors
    /// [`SettingsError`] when the settings make no sense.
    fn check(&self, settings: &ScraperSettings) -> Result<(), SettingsError> {
        self.create(settings).map(drop)
    }

    /// Names of the labels that some of the scraper's series carry beside those of the device, such as `reason`. A
    /// configuration cannot give a device a label of that name.
    fn label_names(&self) -> Vec<String> {
        Vec::new()
    }
}

impl<F> ScraperFactory for F
where
    F: Fn(&ScraperSettings) -> Result<Arc<dyn Scraper>, SettingsError> + Send + Sync,
{
    fn create(&self, settings: &ScraperSettings) -> Result<Arc<dyn Scraper>, SettingsError> {
        self(settings)
    }
}

/// Why the registry refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// Names are used in metric labels and configuration keys.
    #[error("scraper name {0:?} is not allowed: use letters, digits and '_'")]
    Name(String),
    /// The name is taken.
    #[error("a scraper named {0:?} is registered already")]
    Duplicate(String),
    /// No scraper has this name.
    #[error("there is no scraper named {name:?}; there are: {}", known.join(", "))]
    Unknown {
        /// The name that was asked for.
        name: String,
        /// The names that are known.
        known: Vec<String>,
    },
    /// The factory refused.
    #[error("cannot set up scraper {name:?}: {source}")]
    Create {
        /// The scraper's name.
        name: String,
        /// Why.
        source: SettingsError,
    },
}

/// The scrapers that configuration files may name.
#[derive(Clone, Default)]
pub struct ScraperRegistry {
    factories: BTreeMap<String, Arc<dyn ScraperFactory>>,
}

impl ScraperRegistry {
    /// A registry without scrapers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a factory under `name`.
    ///
    /// # Errors
    /// [`RegistryError::Name`] or [`RegistryError::Duplicate`].
    pub fn register(
        &mut self,
        name: impl Into<String>,
        factory: impl ScraperFactory + 'static,
    ) -> Result<(), RegistryError> {
        let name = name.into();
        if !is_label_name(&name) {
            return Err(RegistryError::Name(name));
        }
        if self.factories.contains_key(&name) {
            return Err(RegistryError::Duplicate(name));
        }
        self.factories.insert(name, Arc::new(factory));
        Ok(())
    }

    /// All names, in order.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        self.factories.keys().map(String::as_str).collect()
    }

    /// Makes a scraper.
    ///
    /// # Errors
    /// [`RegistryError::Unknown`] or [`RegistryError::Create`].
    pub fn create(
        &self,
        name: &str,
        settings: &ScraperSettings,
    ) -> Result<Arc<dyn Scraper>, RegistryError> {
        self.with(name, |factory| factory.create(settings))
    }

    /// Checks settings without keeping a scraper.
    ///
    /// # Errors
    /// [`RegistryError::Unknown`] or [`RegistryError::Create`].
    pub fn check(&self, name: &str, settings: &ScraperSettings) -> Result<(), RegistryError> {
        self.with(name, |factory| factory.check(settings))
    }

    /// Names of the labels that series of the scraper `name` carry beside those of the device; none for an unknown one.
    #[must_use]
    pub fn label_names(&self, name: &str) -> Vec<String> {
        self.factories
            .get(name)
            .map_or_else(Vec::new, |factory| factory.label_names())
    }

    fn with<T>(
        &self,
        name: &str,
        run: impl FnOnce(&dyn ScraperFactory) -> Result<T, SettingsError>,
    ) -> Result<T, RegistryError> {
        let factory = self
            .factories
            .get(name)
            .ok_or_else(|| RegistryError::Unknown {
                name: name.to_owned(),
                known: self.factories.keys().cloned().collect(),
            })?;
        run(&**factory).map_err(|source| RegistryError::Create {
            name: name.to_owned(),
            source,
        })
    }
}

impl fmt::Debug for ScraperRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refuse(_: &ScraperSettings) -> Result<Arc<dyn Scraper>, SettingsError> {
        Err(SettingsError::at("size", "must be small"))
    }

    #[test]
    fn names_are_unique_and_unknown_ones_are_told() {
        let mut registry = ScraperRegistry::new();
        registry.register("ping", refuse).unwrap();
        assert_eq!(
            registry.register("ping", refuse),
            Err(RegistryError::Duplicate("ping".into()))
        );
        assert_eq!(
            registry.register("a-b", refuse),
            Err(RegistryError::Name("a-b".into()))
        );
        let message = |result: Result<(), RegistryError>| result.unwrap_err().to_string();
        let settings = ScraperSettings::default();
        assert_eq!(
            message(registry.check("pong", &settings)),
            r#"there is no scraper named "pong"; there are: ping"#
        );
        assert_eq!(
            message(registry.check("ping", &settings)),
            r#"cannot set up scraper "ping": must be small"#
        );
    }
}
