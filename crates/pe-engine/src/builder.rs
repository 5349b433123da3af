//! How an engine is put together.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pe_scrape::{Config, Frame, Group, ScraperRegistry, Sink, SinkRegistry};

use crate::engine::{Engine, Timing};
use crate::metrics::EngineMetrics;
use crate::prepare::{Prepared, Running, prepare};
use crate::reload::ReloadState;
use crate::shared::{FrameSource, Shared};
use crate::sinks::{SinkSlot, Sinks};
use crate::{EngineError, Results};

/// How long running measurements may go on after the shutdown signal, and sinks after that, unless set.
const DEFAULT_GRACE: Duration = Duration::from_secs(5);

/// Puts an [`Engine`] together. Made by [`Engine::builder`].
#[must_use]
pub struct EngineBuilder {
    config: Config,
    scrapers: ScraperRegistry,
    sink_registry: SinkRegistry,
    sinks: Vec<Arc<SinkSlot>>,
    sources: Vec<FrameSource>,
    grace: Duration,
    own_interval: Option<Duration>,
}

impl EngineBuilder {
    pub(crate) fn new(scrapers: ScraperRegistry) -> Self {
        Self {
            config: Config::default(),
            scrapers,
            sink_registry: SinkRegistry::new(),
            sinks: Vec::new(),
            sources: Vec::new(),
            grace: DEFAULT_GRACE,
            own_interval: None,
        }
    }

    /// Adds the groups and sinks of a configuration, for instance one that `pe-config` has read from files.
    pub fn config(mut self, config: Config) -> Self {
        self.config.groups.extend(config.groups);
        self.config.sinks.extend(config.sinks);
        self
    }

    /// Adds a group of devices.
    pub fn group(mut self, group: Group) -> Self {
        self.config.groups.push(group);
        self
    }

    /// The sinks that configurations may name. None unless set.
    pub fn sinks(mut self, registry: SinkRegistry) -> Self {
        self.sink_registry = registry;
        self
    }

    /// Adds a place for finished cycles to go, beside those that the configuration names. It stays over reloads. The name is
    /// the label `sink` of its metrics, and appears in logs.
    ///
    /// ```no_run
    /// # fn example(scrapers: pe_engine::ScraperRegistry, my_sink: impl pe_engine::Sink) -> Result<(), pe_engine::EngineError> {
    /// use std::sync::Arc;
    ///
    /// let sink = Arc::new(my_sink);
    /// let engine = pe_engine::Engine::builder(scrapers).sink("mine", sink.clone()).build()?;
    /// // `sink` can still be talked to.
    /// # Ok(())
    /// # }
    /// ```
    pub fn sink(mut self, name: impl Into<Arc<str>>, sink: Arc<dyn Sink>) -> Self {
        self.sinks
            .push(Arc::new(SinkSlot::new(name.into(), None, sink)));
        self
    }

    /// Adds metrics of the program itself to [`EngineHandle::exposition`](crate::EngineHandle::exposition). A panic of the
    /// function is contained: its metrics are missing then. They go to the sinks, too.
    pub fn metrics(mut self, source: impl Fn() -> Vec<Frame> + Send + Sync + 'static) -> Self {
        self.sources.push(Arc::new(source));
        self
    }

    /// How long running measurements may go on after the shutdown signal, and sinks may take for their last results after
    /// that. 5 seconds each unless set.
    pub fn shutdown_grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// How often the agent's own metrics go to the sinks: those that
    /// [`EngineHandle::exposition`](crate::EngineHandle::exposition) shows beside the results, in a report of their own
    /// ([`CycleReport::is_agent`](pe_scrape::CycleReport::is_agent)). As often as the group with the shortest interval is measured,
    /// but at most every 15 seconds, unless set.
    pub fn own_metrics_interval(mut self, interval: Duration) -> Self {
        self.own_interval = Some(interval);
        self
    }

    /// Checks everything and sets up all scrapers and sinks. Nothing is measured before [`Engine::run`] or
    /// [`Engine::once`]. What is only risky, or without effect, is in
    /// [`EngineHandle::last_reload`](crate::EngineHandle::last_reload).
    ///
    /// # Errors
    /// [`EngineError::Config`] with every problem of the groups: unknown scrapers, settings that are refused, names and
    /// labels that clash, a name or a device that is there twice. [`EngineError::Sink`] for a sink that cannot be set up. A
    /// factory that panics is refused like one that returns an error.
    pub fn build(self) -> Result<Engine, EngineError> {
        let running = Running {
            sinks: self.sinks,
            ..Running::default()
        };
        let Prepared {
            config,
            plans,
            sinks,
            warnings,
        } = prepare(self.config, &self.scrapers, &self.sink_registry, &running)?;
        let metrics = EngineMetrics::default();
        metrics.build_info.of(env!("CARGO_PKG_VERSION")).set(1.0);
        // The counter exists from the start, at 0.
        metrics.restarts.of("cycle");
        let shared = Shared {
            scrapers: self.scrapers,
            sink_registry: self.sink_registry,
            results: Results::default(),
            sinks: Sinks::new(sinks),
            sources: self.sources,
            reloads: ReloadState::new(warnings, &metrics),
            metrics,
            groups: Mutex::new(BTreeMap::new()),
            config: Mutex::new(config),
            publishing: Mutex::default(),
            own_reports: AtomicU64::new(0),
            config_changed: tokio::sync::Notify::new(),
        };
        let timing = Timing {
            grace: self.grace,
            own_interval: self.own_interval,
        };
        Ok(Engine::new(Arc::new(shared), plans, timing))
    }
}
