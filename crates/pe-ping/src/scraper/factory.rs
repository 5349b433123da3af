//! Making ping scrapers that share sockets where they can.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use pe_scrape::resolve::{Resolve, SystemResolver};
use pe_scrape::settings::{Problem, Table};
use pe_scrape::{
    Columns, Family, Frame, OnlyFamily, Scraper, ScraperFactory, ScraperSettings, SettingsError,
    with_causes,
};

use super::PingScraper;
use super::columns::PingColumns;
use super::settings::{PingSettings, Resolved, SocketKey};
use crate::{Counters, OpenSocket, OwnRights, Pinger};

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
    pingers: Arc<Pingers>,
    resolver: Arc<dyn Resolve>,
    opener: Arc<dyn OpenSocket>,
}

impl PingScraperFactory {
    /// A factory whose scrapers resolve host names with `resolver`.
    pub fn new(resolver: impl Resolve) -> Self {
        Self::shared(Arc::new(resolver))
    }

    /// A factory whose scrapers resolve host names with a resolver that others use too.
    pub fn shared(resolver: Arc<dyn Resolve>) -> Self {
        Self {
            pingers: Arc::default(),
            resolver,
            opener: Arc::new(OwnRights),
        }
    }

    /// The same with raw sockets that `opener` opens; the calling thread does if not set.
    #[must_use]
    pub fn opener(mut self, opener: Arc<dyn OpenSocket>) -> Self {
        self.opener = opener;
        self
    }

    /// Makes a scraper.
    ///
    /// # Errors
    /// [`SettingsError`] when a setting is unknown or makes no sense, or the sockets cannot be opened.
    pub fn scraper(&self, settings: &ScraperSettings) -> Result<PingScraper, SettingsError> {
        let settings = Resolved::new(settings)?;
        let pinger = self.pingers.shared(&settings.socket, &self.opener)?;
        Ok(PingScraper::new(settings, pinger, self.resolver.clone()))
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

    fn describe(&self, settings: &ScraperSettings) -> Result<Arc<Columns>, SettingsError> {
        // Without opening sockets: a configuration can be checked where it could not run.
        let settings = Resolved::new(settings)?;
        Ok(PingColumns::new(settings.histogram.as_ref(), settings.count).columns)
    }

    fn review(&self, settings: &ScraperSettings) -> Vec<Problem> {
        Resolved::review(settings)
    }

    fn only_family(&self, settings: &ScraperSettings) -> Option<OnlyFamily> {
        let own = settings.parse::<PingSettings>().ok()?;
        Some(OnlyFamily {
            family: Family::of(own.source?),
            key: "source",
            chooses: own.family.is_some(),
        })
    }

    fn table(&self) -> Option<&'static Table> {
        Some(PingSettings::TABLE)
    }

    fn metrics(&self) -> Vec<Frame> {
        let counted = self.pingers.counted();
        let threads = ThreadMetrics::default();
        threads.restarts.of("icmp").add(counted.restarts);
        let mut frames = counted.counters.frames();
        frames.extend(threads.frames());
        frames
    }
}

/// The pingers of one factory, and what they count together.
#[derive(Default)]
struct Pingers {
    state: Mutex<PingersState>,
}

#[derive(Default)]
struct PingersState {
    open: HashMap<SocketKey, Weak<SharedPinger>>,
    /// What pingers counted that are gone.
    past: Counted,
}

/// What pingers count.
#[derive(Clone, Copy, Default)]
struct Counted {
    counters: Counters,
    restarts: u64,
}

impl Counted {
    fn and(self, pinger: &Pinger) -> Self {
        Self {
            counters: self.counters + pinger.counters(),
            restarts: self.restarts + pinger.restarts(),
        }
    }
}

pe_scrape::metrics! {
    /// Of the threads of all pingers.
    struct ThreadMetrics {
        /// Restarts.
        restarts: counters["task"]("pingexporter_task_restarts_total", "Tasks that were started again after a panic"),
    }
}

/// A pinger that scrapers share.
pub(super) struct SharedPinger {
    pub(super) pinger: Pinger,
    all: Arc<Pingers>,
}

impl Pingers {
    fn state(&self) -> MutexGuard<'_, PingersState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shared(
        self: &Arc<Self>,
        socket: &SocketKey,
        opener: &Arc<dyn OpenSocket>,
    ) -> Result<Arc<SharedPinger>, SettingsError> {
        let mut state = self.state();
        if let Some(known) = state.open.get(socket).and_then(Weak::upgrade) {
            return Ok(known);
        }
        let pinger = socket
            .builder()
            .opener(opener.clone())
            .build()
            .map_err(|error| SettingsError::new(with_causes(&error)))?;
        let shared = Arc::new(SharedPinger {
            pinger,
            all: self.clone(),
        });
        state.open.retain(|_, pinger| pinger.strong_count() > 0);
        state.open.insert(socket.clone(), Arc::downgrade(&shared));
        Ok(shared)
    }

    /// What all pingers have counted, those that are gone included.
    fn counted(&self) -> Counted {
        let state = self.state();
        // A pinger must not be dropped while the state is locked, as that locks it too.
        let open: Vec<_> = state.open.values().filter_map(Weak::upgrade).collect();
        let past = state.past;
        drop(state);
        open.iter()
            .fold(past, |sum, shared| sum.and(&shared.pinger))
    }
}

impl Drop for SharedPinger {
    fn drop(&mut self) {
        let mut state = self.all.state();
        state.past = state.past.and(&self.pinger);
    }
}
