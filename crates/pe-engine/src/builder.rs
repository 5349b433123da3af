//! How an engine is put together.

use std::sync::Arc;
use std::time::Duration;

use pe_config::Config;
use pe_scrape::{Frame, ScraperRegistry, Sink};

use crate::EngineError;
use crate::engine::{Engine, FrameSource};

/// Puts an [`Engine`] together. Made by [`Engine::builder`].
#[must_use]
pub struct EngineBuilder {
    pub(crate) config: Config,
    pub(crate) registry: ScraperRegistry,
    pub(crate) sinks: Vec<Arc<dyn Sink>>,
    pub(crate) sources: Vec<FrameSource>,
    pub(crate) options: Options,
}

/// Limits that hold for all cycles.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Options {
    pub(crate) grace: Duration,
    pub(crate) concurrency: usize,
}

impl EngineBuilder {
    pub(crate) fn new(config: Config, registry: ScraperRegistry) -> Self {
        let options = Options {
            grace: Duration::from_secs(5),
            concurrency: 256,
        };
        Self {
            config,
            registry,
            sinks: Vec::new(),
            sources: Vec::new(),
            options,
        }
    }

    /// Adds a place for finished cycles to go, beside the Pushgateway that the configuration may name.
    pub fn sink(mut self, sink: impl Sink) -> Self {
        self.sinks.push(Arc::new(sink));
        self
    }

    /// Adds metrics of the program itself to [`EngineHandle::exposition`](crate::EngineHandle::exposition).
    pub fn metrics(mut self, source: impl Fn() -> Vec<Frame> + Send + Sync + 'static) -> Self {
        self.sources.push(Arc::new(source));
        self
    }

    /// How long running measurements may go on after the shutdown signal, and pending pushes after that. 5 seconds each
    /// unless set.
    pub fn shutdown_grace(mut self, grace: Duration) -> Self {
        self.options.grace = grace;
        self
    }

    /// How many targets of one scraper are measured at once, at the most, where each costs a task or a connection.
    /// 256 unless set; the bundled `ping` needs no such bound.
    pub fn concurrency(mut self, targets: usize) -> Self {
        self.options.concurrency = targets.max(1);
        self
    }

    /// Sets up all scrapers and sinks. Nothing is measured before [`Engine::run`] or [`Engine::once`].
    ///
    /// # Errors
    /// [`EngineError`] when the configuration names an unknown scraper, or one that cannot be set up.
    pub fn build(self) -> Result<Engine, EngineError> {
        Engine::build(self)
    }
}
