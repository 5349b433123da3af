//! Making ping scrapers that share sockets where they can.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use pe_scrape::{Frame, LabelSet, Scraper, ScraperFactory, ScraperSettings, SettingsError};

use super::PingScraper;
use super::settings::{Settings, SocketSettings};
use pe_scrape::resolve::{Resolve, SystemResolver};

use crate::{Counters, Pinger};

/// Makes [`PingScraper`]s, to be registered under the name `ping`.
///
/// Scrapers with the same socket options share one [`Pinger`], which is opened for the first of them and closed with the
/// last. Cloning is cheap; clones share the pingers.
///
/// ```
/// let mut registry = pe_scrape::ScraperRegistry::new();
/// registry.register("ping", pe_ping::PingScraperFactory::default())?;
/// # Ok::<(), pe_scrape::RegistryError>(())
/// ```
#[derive(Clone)]
pub struct PingScraperFactory {
    hub: Arc<Hub>,
    resolver: Arc<dyn Resolve>,
}

impl PingScraperFactory {
    /// A factory whose scrapers resolve host names with `resolver`.
    pub fn new(resolver: impl Resolve) -> Self {
        Self {
            hub: Arc::default(),
            resolver: Arc::new(resolver),
        }
    }

    /// Makes a scraper.
    ///
    /// # Errors
    /// [`SettingsError`] when a setting is unknown or makes no sense, or the sockets cannot be opened.
    pub fn scraper(&self, settings: &ScraperSettings) -> Result<PingScraper, SettingsError> {
        let settings = Settings::new(settings)?;
        let group = self.hub.group(&settings.socket)?;
        Ok(PingScraper::new(settings, group, self.resolver.clone()))
    }
}

impl Default for PingScraperFactory {
    fn default() -> Self {
        Self::new(SystemResolver)
    }
}

impl fmt::Debug for PingScraperFactory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PingScraperFactory").finish_non_exhaustive()
    }
}

impl ScraperFactory for PingScraperFactory {
    fn create(&self, settings: &ScraperSettings) -> Result<Arc<dyn Scraper>, SettingsError> {
        Ok(Arc::new(self.scraper(settings)?))
    }

    fn check(&self, settings: &ScraperSettings) -> Result<(), SettingsError> {
        // Without opening sockets: a configuration can be checked where it could not run.
        Settings::new(settings).map(drop)
    }
}

/// The pingers of one factory, and what they count together.
#[derive(Default)]
struct Hub {
    state: Mutex<HubState>,
}

#[derive(Default)]
struct HubState {
    groups: HashMap<SocketSettings, Weak<Group>>,
    /// What pingers counted that are gone.
    past: Counters,
    /// The one scraper that reports the counters of all.
    reporter: Weak<()>,
}

/// A pinger that scrapers share.
pub(super) struct Group {
    pub(super) pinger: Pinger,
    hub: Arc<Hub>,
}

impl Hub {
    fn state(&self) -> MutexGuard<'_, HubState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn group(self: &Arc<Self>, socket: &SocketSettings) -> Result<Arc<Group>, SettingsError> {
        let mut state = self.state();
        if let Some(group) = state.groups.get(socket).and_then(Weak::upgrade) {
            return Ok(group);
        }
        let pinger = socket
            .builder()
            .build()
            .map_err(|error| SettingsError::new(error.to_string()))?;
        let group = Arc::new(Group {
            pinger,
            hub: self.clone(),
        });
        state.groups.retain(|_, group| group.strong_count() > 0);
        state.groups.insert(socket.clone(), Arc::downgrade(&group));
        Ok(group)
    }
}

impl Group {
    /// The counters of all pingers of the factory, if the scraper that lives as long as `life` is the one to report them.
    pub(super) fn report(&self, life: &Arc<()>) -> Option<Frame> {
        let mut state = self.hub.state();
        match state.reporter.upgrade() {
            Some(reporter) if !Arc::ptr_eq(&reporter, life) => return None,
            Some(_) => {}
            None => state.reporter = Arc::downgrade(life),
        }
        // A group must not be dropped while the state is locked, as that locks it too.
        let living: Vec<_> = state.groups.values().filter_map(Weak::upgrade).collect();
        let past = state.past;
        drop(state);
        let counters = living
            .iter()
            .fold(past, |sum, group| sum + group.pinger.counters());
        Some(counters.frame(LabelSet::empty()))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let counters = self.pinger.counters();
        let mut state = self.hub.state();
        state.past = state.past + counters;
    }
}
