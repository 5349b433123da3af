//! The factories of scrapers, and their registry.

use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::{Kind, Registry, RegistryError, table_of};
use crate::settings::{Problem, Setting, Table};
use crate::{Columns, Family, Frame, Scraper, ScraperSettings, SettingsError};

/// The one family that a scraper can measure, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OnlyFamily {
    /// The family.
    pub family: Family,
    /// The key of the scraper's own settings that says so.
    pub key: &'static str,
    /// Whether the scraper's own settings choose the family of a host name's address, whatever the device says.
    pub chooses: bool,
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

    /// The only family of addresses that a scraper with these settings can measure; `None` for both. A device with an
    /// address of the other is refused.
    fn only_family(&self, settings: &ScraperSettings) -> Option<OnlyFamily> {
        let _ = settings;
        None
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

/// The scrapers that configurations may name.
pub type ScraperRegistry = Registry<dyn ScraperFactory>;

impl Kind for dyn ScraperFactory {
    const WHAT: &'static str = "scraper";

    fn keys(&self) -> Option<&'static Table> {
        self.table()
    }
}

impl ScraperRegistry {
    /// Adds a factory under `name`.
    ///
    /// # Errors
    /// [`RegistryError::Name`] or [`RegistryError::Duplicate`].
    pub fn register(
        &mut self,
        name: impl Into<String>,
        factory: impl ScraperFactory + 'static,
    ) -> Result<(), RegistryError> {
        self.insert(name.into(), Arc::new(factory))
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

    /// Checks settings, and says what a scraper with them would yield.
    ///
    /// # Errors
    /// [`RegistryError::Unknown`] or [`RegistryError::Create`].
    pub fn describe(
        &self,
        name: &str,
        settings: &ScraperSettings,
    ) -> Result<Arc<Columns>, RegistryError> {
        self.with(name, |factory| factory.describe(settings))
    }

    /// The only family that a scraper with these settings can measure, if it cannot measure both.
    #[must_use]
    pub fn only_family(&self, name: &str, settings: &ScraperSettings) -> Option<OnlyFamily> {
        let only = self.with(name, |factory| Ok(factory.only_family(settings)));
        only.ok().flatten()
    }

    /// What is unwise about settings that are in order; nothing for a scraper that is not registered.
    #[must_use]
    pub fn review(&self, name: &str, settings: &ScraperSettings) -> Vec<Problem> {
        self.with(name, |factory| Ok(factory.review(settings)))
            .unwrap_or_default()
    }

    /// What the scrapers count together, factory by factory. One that panics is left out.
    #[must_use]
    pub fn metrics(&self) -> Vec<Frame> {
        let metrics = self.factories().map(|factory| {
            catch_unwind(AssertUnwindSafe(|| factory.metrics())).unwrap_or_default()
        });
        metrics.flatten().collect()
    }
}
