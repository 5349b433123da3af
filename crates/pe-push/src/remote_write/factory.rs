//! Making sinks from what a configuration says.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use pe_scrape::resolve::{Resolve, SystemResolver};
use pe_scrape::settings::Table;
use pe_scrape::{Group, Remark, SettingsError, Sink, SinkFactory, SinkSettings};

use super::sink::{Parts, RemoteWriteSink};
use super::store::Stores;
use super::{ClockProbe, RemoteWriteSettings};

/// Makes [`RemoteWriteSink`]s, to be registered under the name `remote_write`.
///
/// ```
/// let mut registry = pe_scrape::SinkRegistry::new();
/// registry.register("remote_write", pe_push::RemoteWriteFactory::new())?;
/// # Ok::<(), pe_scrape::RegistryError>(())
/// ```
#[derive(Clone)]
pub struct RemoteWriteFactory {
    resolver: Arc<dyn Resolve>,
    clock: ClockProbe,
    stores: Arc<Stores>,
}

impl RemoteWriteFactory {
    /// The factory, with the system's resolver and a clock of which is not known whether it is synchronised.
    #[must_use]
    pub fn new() -> Self {
        Self {
            resolver: Arc::new(SystemResolver),
            clock: Arc::new(|| None),
            stores: Arc::default(),
        }
    }

    /// Keeps what waits to be sent in a [`StateDir`](crate::StateDir), in one queue for all sinks of this factory. It is opened with the
    /// first results, and what waits for sinks that were not made by then is dropped. While it cannot be used, 64 MB of samples are kept in
    /// memory. `None` is memory only.
    #[must_use]
    pub fn state_dir(mut self, path: Option<PathBuf>) -> Self {
        self.stores = Arc::new(Stores::in_directory(path));
        self
    }

    /// Resolves the names of receivers and proxies with `resolver`.
    #[must_use]
    pub fn resolver(mut self, resolver: Arc<dyn Resolve>) -> Self {
        self.resolver = resolver;
        self
    }

    /// Asks `clock` whether the system says that its clock is synchronised; `None` where it does not say.
    #[must_use]
    pub fn clock(mut self, clock: impl Fn() -> Option<bool> + Send + Sync + 'static) -> Self {
        self.clock = Arc::new(clock);
        self
    }
}

impl Default for RemoteWriteFactory {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for RemoteWriteFactory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteWriteFactory").finish_non_exhaustive()
    }
}

impl SinkFactory for RemoteWriteFactory {
    fn create(&self, settings: &SinkSettings) -> Result<Arc<dyn Sink>, SettingsError> {
        let own: RemoteWriteSettings = settings.parse()?;
        let sink = RemoteWriteSink::with_parts(
            settings.name.clone(),
            &own,
            Parts {
                external_labels: settings.external_labels.clone(),
                resolver: self.resolver.clone(),
                clock: self.clock.clone(),
                store: self.stores.store(&settings.name),
            },
        )?;
        Ok(Arc::new(sink))
    }

    fn check(&self, settings: &SinkSettings) -> Result<(), SettingsError> {
        let own: RemoteWriteSettings = settings.parse()?;
        own.prepare(self.resolver.clone()).map(drop)
    }

    fn review(&self, settings: &SinkSettings, _: &[Group]) -> Vec<Remark> {
        let own: Result<RemoteWriteSettings, _> = settings.parse();
        let remark = own.ok().and_then(|own| own.common().exposed_credentials());
        remark.into_iter().collect()
    }

    fn table(&self) -> Option<&'static Table> {
        Some(RemoteWriteSettings::TABLE)
    }

    fn keeps_state() -> bool {
        true
    }
}
