//! Loading the configuration again while the program runs.

use std::sync::Arc;

use pe_config::{Loaded, TargetFiles};
use pe_engine::{EngineError, EngineHandle};
use pe_scrape::{Diagnostic, Diagnostics, Severity};
use tokio::signal::unix::Signal;
use tokio::sync::{Mutex, mpsc, oneshot};
use tracing::{debug, error, info};

use crate::load::{Loader, warn_about};
use crate::metrics::AgentMetrics;
use crate::service_manager::ServiceManager;
use crate::supervise::keep_running;
use crate::watch::{self, Change, Watcher};

/// Loads the configuration again on SIGHUP and when its files change.
pub(crate) struct Reloader {
    loader: Loader,
    engine: EngineHandle,
    watcher: Watcher,
    asked: Asked,
    target_files: TargetFiles,
    manager: ServiceManager,
    /// Why the configuration of the latest load is not in force.
    refused: Option<Diagnostics>,
}

/// Where somebody may ask for a reload.
pub(crate) struct Asked {
    pub(crate) hangup: Signal,
    /// Requests over HTTP, each with the place of its result.
    pub(crate) requests: mpsc::Receiver<oneshot::Sender<Result<(), String>>>,
    pub(crate) _sender: mpsc::Sender<oneshot::Sender<Result<(), String>>>,
}

/// Why the configuration is loaded again.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cause {
    Signal,
    Change(Change),
}

impl Reloader {
    pub(crate) fn new(
        loader: Loader,
        engine: EngineHandle,
        watcher: Watcher,
        target_files: TargetFiles,
        asked: Asked,
    ) -> Self {
        Self {
            loader,
            engine,
            watcher,
            asked,
            target_files,
            manager: ServiceManager::default(),
            refused: None,
        }
    }

    /// The same, with a service manager that is told of every reload.
    pub(crate) fn telling(mut self, manager: ServiceManager) -> Self {
        self.manager = manager;
        self
    }

    /// Reloads for ever. What is known stays known when a reload panics.
    pub(crate) async fn keep_running(self, metrics: Arc<AgentMetrics>) {
        let reloader = Arc::new(Mutex::new(self));
        keep_running("reloader", &metrics, move || {
            let reloader = reloader.clone();
            async move { reloader.lock().await.run().await }
        })
        .await;
    }

    async fn run(&mut self) {
        loop {
            let mut reply = None;
            let cause = tokio::select! {
                Some(()) = self.asked.hangup.recv() => {
                    info!(signal = "SIGHUP", "loading the configuration again");
                    Cause::Signal
                }
                Some(request) = self.asked.requests.recv() => {
                    info!(request = "/-/reload", "loading the configuration again");
                    reply = Some(request);
                    Cause::Signal
                }
                change = self.watcher.changed() => Cause::Change(change),
            };
            let reloading = self.manager.reloading();
            let result = self.reload(cause).await;
            drop(reloading);
            if let Some(reply) = reply {
                // Whoever asked may have gone.
                let _ = reply.send(result.clone().map_err(|problems| problems.to_string()));
            }
            match result {
                Ok(()) => self.refused = None,
                Err(diagnostics) => self.refuse(cause, diagnostics),
            }
        }
    }

    /// What is out of order is told once, and again to those who ask by a signal. Nothing else changes.
    fn refuse(&mut self, cause: Cause, problems: Diagnostics) {
        if cause == Cause::Signal || self.refused.as_ref() != Some(&problems) {
            error!(
                %problems,
                "the new configuration is not in order; the one before stays in force"
            );
        }
        self.refused = Some(problems);
    }

    async fn reload(&mut self, cause: Cause) -> Result<(), Diagnostics> {
        let loaded = self
            .load()
            .await
            .inspect_err(|problems| self.engine.reload_failed(problems.clone()))?;
        let is_same = self.refused.is_none() && *self.engine.config() == loaded.config;
        if cause == Cause::Change(Change::Unsure) && is_same {
            debug!("no file changed while the configuration was read");
            self.target_files = loaded.target_files;
            return Ok(());
        }
        warn_about(&loaded.warnings);
        match self.engine.reload(loaded.config).await {
            Ok(summary) => info!(
                added = summary.added,
                changed = summary.changed,
                unchanged = summary.unchanged,
                removed = summary.removed,
                "the configuration was reloaded"
            ),
            // Where the engine has stopped, the program is about to end.
            Err(EngineError::Stopped) => return Ok(()),
            Err(error) => return Err(error.diagnostics()),
        }
        self.target_files = loaded.target_files;
        Ok(())
    }

    async fn load(&mut self) -> Result<Loaded, Diagnostics> {
        let previous = Some(self.target_files.clone());
        let watched = Some(self.watcher.watched().clone());
        let (result, seen) = watch::read(self.loader.clone(), previous, watched)
            .await
            .map_err(|failure| told("reload", failure))?;
        self.watcher.follow(seen);
        result.map_err(|error| error.diagnostics)
    }
}

/// An error that is about no place in a file.
fn told(name: &str, error: impl std::fmt::Display) -> Diagnostics {
    let diagnostic = Diagnostic::named(Severity::Error, name, error.to_string(), None);
    [diagnostic].into_iter().collect()
}
