//! From the names in configuration files to scrapers and sinks.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use thiserror::Error;

use crate::settings::{Kind, Problem, Setting, Table, decode, show_duration};
use crate::{Columns, Frame, Group, Labels, Scraper, SettingsError, Sink, is_label_name};

/// What a factory is told about the scraper to make: the values of the configuration that hold for all scrapers of a
/// device, and the scraper's own settings.
///
/// The defaults are those of a group with an interval of a minute.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct ScraperSettings {
    /// How long to wait for an answer to one probe.
    pub timeout: Duration,
    /// The time from the start of one cycle to the start of the next.
    pub interval: Duration,
    /// What `dev_ping` shows when the device is down, in milliseconds.
    pub value_dev_down: f64,
    /// Probes for each device in a cycle.
    pub count: u32,
    /// The time between two probes of one device.
    pub probe_interval: Duration,
    /// Probes a second that the devices of one cycle may cause together; `None` leaves it to the scraper.
    pub rate: Option<f64>,
    /// Probes that may leave back to back; `None` leaves it to the scraper.
    pub burst: Option<u32>,
    /// The scraper's own settings as the user wrote them: an object, or `null` for none. They may hold secrets.
    pub own: Value,
}

impl Default for ScraperSettings {
    fn default() -> Self {
        let timeout = Duration::from_secs(1);
        Self {
            timeout,
            interval: Duration::from_secs(60),
            value_dev_down: timeout.as_secs_f64() * 1000.0,
            count: 1,
            probe_interval: Duration::from_secs(1),
            rate: None,
            burst: None,
            own: Value::Null,
        }
    }
}

impl fmt::Debug for ScraperSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let own: Vec<&String> = self
            .own
            .as_object()
            .into_iter()
            .flat_map(|o| o.keys())
            .collect();
        f.debug_struct("ScraperSettings")
            .field("timeout", &self.timeout)
            .field("interval", &self.interval)
            .field("value_dev_down", &self.value_dev_down)
            .field("count", &self.count)
            .field("probe_interval", &self.probe_interval)
            .field("rate", &self.rate)
            .field("burst", &self.burst)
            .field("own", &own)
            .finish()
    }
}

impl ScraperSettings {
    /// The same with other settings of the scraper's own.
    #[must_use]
    pub fn with_own(&self, own: Value) -> Self {
        Self {
            own,
            ..self.clone()
        }
    }

    /// Decodes the scraper's own settings.
    ///
    /// # Errors
    /// [`SettingsError`] with every problem.
    pub fn parse<T: Setting>(&self) -> Result<T, SettingsError> {
        decode(&self.own)
    }

    /// How long all probes of a device take at most: the last one leaves after (count − 1) × probe_interval and may take
    /// `timeout` to be answered.
    #[must_use]
    pub fn longest_cycle(&self) -> Duration {
        let probes = self
            .probe_interval
            .checked_mul(self.count.saturating_sub(1));
        probes
            .and_then(|probes| probes.checked_add(self.timeout))
            .unwrap_or(Duration::MAX)
    }

    /// What to say of a cycle that is longer than its interval, with a hint.
    #[must_use]
    pub fn overrun(&self) -> Option<(String, String)> {
        let cycle = self.longest_cycle();
        if cycle <= self.interval {
            return None;
        }
        let message = format!(
            "a cycle of {} probes, {} apart, with a timeout of {} takes {}, longer than the interval of {}",
            self.count,
            show_duration(self.probe_interval),
            show_duration(self.timeout),
            show_duration(cycle),
            show_duration(self.interval),
        );
        let hint = "use fewer probes, a shorter probe_interval or a longer interval; else ticks are skipped";
        Some((message, hint.to_owned()))
    }
}

/// Makes scrapers of one name. Closures of the right form are factories; [`scraper_factory`] makes one that declares its
/// settings.
pub trait ScraperFactory: Send + Sync {
    /// Makes a scraper.
    ///
    /// This is called for each distinct combination of settings in the configuration, and again on reload. Unless
    /// [`describe`](Self::describe) is overridden it is also called to check a configuration, so it should be cheap and
    /// must not measure anything.
    ///
    /// # Errors
    /// [`SettingsError`] when the settings make no sense, or what it measures with cannot be set up.
    fn create(&self, settings: &ScraperSettings) -> Result<Arc<dyn Scraper>, SettingsError>;

    /// Checks settings, and says what a scraper with them would yield, without making one. By default one is made and
    /// dropped.
    ///
    /// # Errors
    /// [`SettingsError`] when the settings make no sense.
    fn describe(&self, settings: &ScraperSettings) -> Result<Arc<Columns>, SettingsError> {
        self.create(settings)
            .map(|scraper| scraper.columns().clone())
    }

    /// What is unwise about settings that are in order: warnings, which `check` tells.
    fn review(&self, settings: &ScraperSettings) -> Vec<Problem> {
        let _ = settings;
        Vec::new()
    }

    /// The keys that the scraper's own settings may have, for the JSON Schema and the reference; `None` where they are not
    /// declared.
    fn table(&self) -> Option<&'static Table> {
        None
    }

    /// What all scrapers of the factory count together, named `pingexporter_…`: packets sent, replies dropped. Such
    /// counters outlive any single scraper.
    fn metrics(&self) -> Vec<Frame> {
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

/// A factory from a function that takes settings declared by [`settings!`](macro@crate::settings), decoded, and the settings
/// that all scrapers share.
pub fn scraper_factory<T, S, F>(make: F) -> impl ScraperFactory + use<T, S, F>
where
    T: Setting + 'static,
    S: Scraper,
    F: Fn(T, &ScraperSettings) -> Result<S, SettingsError> + Send + Sync,
{
    struct Typed<T, F>(F, PhantomData<fn(T)>);

    impl<T, S, F> ScraperFactory for Typed<T, F>
    where
        T: Setting,
        S: Scraper,
        F: Fn(T, &ScraperSettings) -> Result<S, SettingsError> + Send + Sync,
    {
        fn create(&self, settings: &ScraperSettings) -> Result<Arc<dyn Scraper>, SettingsError> {
            Ok(Arc::new((self.0)(settings.parse()?, settings)?))
        }

        fn table(&self) -> Option<&'static Table> {
            table_of::<T>()
        }
    }

    Typed(make, PhantomData)
}

/// What a factory is told about the sink to make.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct SinkSettings {
    /// The sink's name, for its logs.
    pub name: Arc<str>,
    /// Labels of the agent, which everything that leaves it carries.
    pub external_labels: Labels,
    /// The sink's own settings: an object. They may hold secrets.
    pub own: Value,
}

impl SinkSettings {
    /// Settings of a sink of that name, without external labels.
    pub fn new(name: impl Into<Arc<str>>, own: Value) -> Self {
        Self {
            name: name.into(),
            external_labels: Labels::default(),
            own,
        }
    }

    /// Decodes the sink's own settings.
    ///
    /// # Errors
    /// [`SettingsError`] with every problem.
    pub fn parse<T: Setting>(&self) -> Result<T, SettingsError> {
        decode(&self.own)
    }
}

impl fmt::Debug for SinkSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let own: Vec<&String> = self
            .own
            .as_object()
            .into_iter()
            .flat_map(|o| o.keys())
            .collect();
        f.debug_struct("SinkSettings")
            .field("name", &self.name)
            .field("external_labels", &self.external_labels)
            .field("own", &own)
            .finish()
    }
}

/// A sink of the configuration: which kind, and its settings.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct SinkConfig {
    /// The sink's name in the registry, such as `pushgateway`.
    pub kind: Arc<str>,
    /// Its settings, with a name that no other sink has.
    pub settings: SinkSettings,
}

impl SinkConfig {
    /// A sink of the kind `kind`, called `name`, with its own settings.
    pub fn new(kind: impl Into<Arc<str>>, name: impl Into<Arc<str>>, own: Value) -> Self {
        Self {
            kind: kind.into(),
            settings: SinkSettings::new(name, own),
        }
    }
}

/// Makes sinks of one kind. Closures of the right form are factories.
pub trait SinkFactory: Send + Sync {
    /// Makes a sink. It must not connect to anything yet.
    ///
    /// # Errors
    /// [`SettingsError`] when the settings make no sense.
    fn create(&self, settings: &SinkSettings) -> Result<Arc<dyn Sink>, SettingsError>;

    /// Checks settings without keeping a sink. By default one is made and dropped.
    ///
    /// # Errors
    /// [`SettingsError`] when the settings make no sense.
    fn check(&self, settings: &SinkSettings) -> Result<(), SettingsError> {
        self.create(settings).map(drop)
    }

    /// What is unwise about these settings, alone or together with the groups in force: a warning each. `check` tells them.
    fn review(&self, settings: &SinkSettings, groups: &[Group]) -> Vec<Remark> {
        let _ = (settings, groups);
        Vec::new()
    }

    /// The keys that the sink's own settings may have, for the JSON Schema and the reference; `None` where they are not
    /// declared.
    fn table(&self) -> Option<&'static Table> {
        None
    }
}

/// Something unwise about a sink, and perhaps about a group.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Remark {
    /// Position of the group it is about; `None` where it is about the sink's settings.
    pub group: Option<usize>,
    /// What is unwise. Its path leads to one of the sink's settings.
    pub problem: Problem,
}

impl Remark {
    /// A remark about the sink's settings.
    #[must_use]
    pub fn new(problem: Problem) -> Self {
        Self {
            group: None,
            problem: problem.warning(),
        }
    }

    /// A remark about the group at a position.
    #[must_use]
    pub fn of_group(group: usize, problem: Problem) -> Self {
        Self {
            group: Some(group),
            ..Self::new(problem)
        }
    }
}

impl<F> SinkFactory for F
where
    F: Fn(&SinkSettings) -> Result<Arc<dyn Sink>, SettingsError> + Send + Sync,
{
    fn create(&self, settings: &SinkSettings) -> Result<Arc<dyn Sink>, SettingsError> {
        self(settings)
    }
}

/// The table of a type made by [`settings!`](macro@crate::settings).
fn table_of<T: Setting>() -> Option<&'static Table> {
    match T::KIND {
        Kind::Object(table) => Some(table),
        _ => None,
    }
}

/// Why a registry refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
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
    #[error("cannot set up {what} {name:?}: {source}")]
    Create {
        /// `scraper` or `sink`.
        what: &'static str,
        /// The name.
        name: String,
        /// Why.
        source: SettingsError,
    },
}

/// Factories by name.
struct Factories<F: ?Sized> {
    what: &'static str,
    by_name: BTreeMap<String, Arc<F>>,
}

impl<F: ?Sized> Clone for Factories<F> {
    fn clone(&self) -> Self {
        Self {
            what: self.what,
            by_name: self.by_name.clone(),
        }
    }
}

impl<F: ?Sized> Factories<F> {
    fn new(what: &'static str) -> Self {
        Self {
            what,
            by_name: BTreeMap::new(),
        }
    }

    fn register(&mut self, name: String, factory: Arc<F>) -> Result<(), RegistryError> {
        let what = self.what;
        if !is_label_name(&name) {
            return Err(RegistryError::Name { what, name });
        }
        if self.by_name.contains_key(&name) {
            return Err(RegistryError::Duplicate { what, name });
        }
        self.by_name.insert(name, factory);
        Ok(())
    }

    fn names(&self) -> Vec<&str> {
        self.by_name.keys().map(String::as_str).collect()
    }

    /// Runs `run` on the factory of that name. A panic of it is an error like others.
    fn with<T>(
        &self,
        name: &str,
        run: impl FnOnce(&F) -> Result<T, SettingsError>,
    ) -> Result<T, RegistryError> {
        let what = self.what;
        let factory = self
            .by_name
            .get(name)
            .ok_or_else(|| RegistryError::Unknown {
                what,
                name: name.to_owned(),
                known: self.by_name.keys().cloned().collect(),
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

/// The words of a panic.
#[must_use]
pub fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let words = panic.downcast_ref::<&str>().copied();
    words
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

/// The scrapers that configurations may name.
#[derive(Clone)]
pub struct ScraperRegistry(Factories<dyn ScraperFactory>);

impl Default for ScraperRegistry {
    fn default() -> Self {
        Self(Factories::new("scraper"))
    }
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
        self.0.register(name.into(), Arc::new(factory))
    }

    /// All names, in order.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        self.0.names()
    }

    /// The keys of the settings of the scraper `name`; `None` where they are not declared.
    #[must_use]
    pub fn table(&self, name: &str) -> Option<&'static Table> {
        self.0.by_name.get(name)?.table()
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
        self.0.with(name, |factory| factory.create(settings))
    }

    /// Checks settings, and says what a scraper with them would yield.
    ///
    /// # Errors
    /// [`RegistryError::Unknown`] or [`RegistryError::Create`].
    pub fn describe(
        &self,
        name: &str,
        settings: &ScraperSettings,
    ) -> Result<Arc<Columns>, RegistryError> {
        self.0.with(name, |factory| factory.describe(settings))
    }

    /// What is unwise about settings that are in order; nothing for a scraper that is not registered.
    #[must_use]
    pub fn review(&self, name: &str, settings: &ScraperSettings) -> Vec<Problem> {
        self.0
            .with(name, |factory| Ok(factory.review(settings)))
            .unwrap_or_default()
    }

    /// What the scrapers count together, factory by factory. One that panics is left out.
    #[must_use]
    pub fn metrics(&self) -> Vec<Frame> {
        let factories = self.0.by_name.values();
        let metrics = factories.map(|factory| {
            catch_unwind(AssertUnwindSafe(|| factory.metrics())).unwrap_or_default()
        });
        metrics.flatten().collect()
    }
}

impl fmt::Debug for ScraperRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

/// The sinks that configurations may name.
#[derive(Clone)]
pub struct SinkRegistry(Factories<dyn SinkFactory>);

impl Default for SinkRegistry {
    fn default() -> Self {
        Self(Factories::new("sink"))
    }
}

impl SinkRegistry {
    /// A registry without sinks.
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
        factory: impl SinkFactory + 'static,
    ) -> Result<(), RegistryError> {
        self.0.register(name.into(), Arc::new(factory))
    }

    /// All names, in order.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        self.0.names()
    }

    /// The keys of the settings of sinks of the kind `name`; `None` where they are not declared.
    #[must_use]
    pub fn table(&self, name: &str) -> Option<&'static Table> {
        self.0.by_name.get(name)?.table()
    }

    /// Makes a sink.
    ///
    /// # Errors
    /// [`RegistryError::Unknown`] or [`RegistryError::Create`].
    pub fn create(&self, config: &SinkConfig) -> Result<Arc<dyn Sink>, RegistryError> {
        self.0
            .with(&config.kind, |factory| factory.create(&config.settings))
    }

    /// Checks settings without keeping a sink.
    ///
    /// # Errors
    /// [`RegistryError::Unknown`] or [`RegistryError::Create`].
    pub fn check(&self, config: &SinkConfig) -> Result<(), RegistryError> {
        self.0
            .with(&config.kind, |factory| factory.check(&config.settings))
    }

    /// What is unwise about a sink; nothing for one that is not registered.
    #[must_use]
    pub fn review(&self, config: &SinkConfig, groups: &[Group]) -> Vec<Remark> {
        self.0
            .with(&config.kind, |factory| {
                Ok(factory.review(&config.settings, groups))
            })
            .unwrap_or_default()
    }
}

impl fmt::Debug for SinkRegistry {
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

    fn panics(_: &ScraperSettings) -> Result<Arc<dyn Scraper>, SettingsError> {
        panic!("as always")
    }

    #[test]
    fn names_are_unique_and_unknown_ones_are_told() {
        let mut registry = ScraperRegistry::new();
        registry.register("ping", refuse).unwrap();
        let message = |result: Result<(), RegistryError>| result.unwrap_err().to_string();
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
            error.to_string(),
            r#"cannot set up scraper "wild": it panicked: as always"#
        );
    }

    #[test]
    fn settings_never_show_their_values() {
        let own = serde_json::json!({"password": "hunter2"});
        let scraper = ScraperSettings::default().with_own(own.clone());
        let shown = format!("{scraper:?} {:?}", SinkConfig::new("pushgateway", "g", own));
        assert!(
            shown.contains("password") && !shown.contains("hunter2"),
            "{shown}"
        );
    }
}
