//! The factories of sinks, and their registry.

use std::marker::PhantomData;
use std::sync::Arc;

use super::{Kind, Registry, RegistryError, SinkConfig, SinkSettings, table_of};
use crate::settings::{Problem, Setting, Table};
use crate::{Group, SettingsError, Sink};

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

    /// What is unwise about these settings, alone or together with the groups in force: a warning each, or a note. `check` tells
    /// them.
    fn review(&self, settings: &SinkSettings, groups: &[Group]) -> Vec<Remark> {
        let _ = (settings, groups);
        Vec::new()
    }

    /// The keys that the sink's own settings may have, for the JSON Schema and the reference; `None` where they are not
    /// declared.
    fn table(&self) -> Option<&'static Table> {
        None
    }

    /// Whether sinks of this kind keep on disk what must survive a restart, so that a program that runs one provides a
    /// directory even where none is asked for.
    fn keeps_state() -> bool
    where
        Self: Sized,
    {
        false
    }
}

/// Something to tell about a sink, and perhaps about a group.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Remark {
    /// Position of the group it is about; `None` where it is about the sink's settings.
    pub group: Option<usize>,
    /// What there is to tell. Its path leads to one of the sink's settings.
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

    /// A note about the sink's settings: nothing is unwise about them, and `check` tells it all the same.
    #[must_use]
    pub fn note(problem: Problem) -> Self {
        Self {
            group: None,
            problem: problem.note(),
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

/// A factory from a function that takes settings declared by [`settings!`](macro@crate::settings), decoded, and the settings
/// that all sinks share.
pub fn sink_factory<T, S, F>(make: F) -> impl SinkFactory + use<T, S, F>
where
    T: Setting + 'static,
    S: Sink,
    F: Fn(T, &SinkSettings) -> Result<S, SettingsError> + Send + Sync,
{
    struct Typed<T, F>(F, PhantomData<fn(T)>);

    impl<T, S, F> SinkFactory for Typed<T, F>
    where
        T: Setting,
        S: Sink,
        F: Fn(T, &SinkSettings) -> Result<S, SettingsError> + Send + Sync,
    {
        fn create(&self, settings: &SinkSettings) -> Result<Arc<dyn Sink>, SettingsError> {
            Ok(Arc::new((self.0)(settings.parse()?, settings)?))
        }

        fn table(&self) -> Option<&'static Table> {
            table_of::<T>()
        }
    }

    Typed(make, PhantomData)
}

/// The sinks that configurations may name.
pub type SinkRegistry = Registry<dyn SinkFactory>;

impl Kind for dyn SinkFactory {
    const WHAT: &'static str = "sink";

    fn keys(&self) -> Option<&'static Table> {
        self.table()
    }
}

impl SinkRegistry {
    /// Adds a factory under `name`.
    ///
    /// # Errors
    /// [`RegistryError::Name`] or [`RegistryError::Duplicate`].
    pub fn register(
        &mut self,
        name: impl Into<String>,
        factory: impl SinkFactory + 'static,
    ) -> Result<(), RegistryError> {
        self.insert(name.into(), Arc::new(factory))
    }

    /// Makes a sink.
    ///
    /// # Errors
    /// [`RegistryError::Unknown`] or [`RegistryError::Create`].
    pub fn create(&self, config: &SinkConfig) -> Result<Arc<dyn Sink>, RegistryError> {
        self.with(&config.kind, |factory| factory.create(&config.settings))
    }

    /// Checks settings without keeping a sink.
    ///
    /// # Errors
    /// [`RegistryError::Unknown`] or [`RegistryError::Create`].
    pub fn check(&self, config: &SinkConfig) -> Result<(), RegistryError> {
        self.with(&config.kind, |factory| factory.check(&config.settings))
    }

    /// What is unwise about a sink; nothing for one that is not registered.
    #[must_use]
    pub fn review(&self, config: &SinkConfig, groups: &[Group]) -> Vec<Remark> {
        self.with(&config.kind, |factory| {
            Ok(factory.review(&config.settings, groups))
        })
        .unwrap_or_default()
    }
}
