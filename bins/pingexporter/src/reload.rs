//! Loading the configuration again while the program runs.

use pe_config::{TargetFiles, Watched};
use pe_engine::{EngineHandle, ScraperRegistry};
use tokio::signal::unix::Signal;
use tracing::{error, info};

use crate::cli::FileArgs;
use crate::load::{self, Failure};
use crate::watch::Watcher;

/// Loads the configuration again on SIGHUP and when its files change.
pub(crate) struct Reloader {
    files: FileArgs,
    registry: ScraperRegistry,
    engine: EngineHandle,
    watcher: Watcher,
    target_files: TargetFiles,
    refused: Option<String>,
}

impl Reloader {
    pub(crate) fn new(
        files: FileArgs,
        registry: ScraperRegistry,
        engine: EngineHandle,
        watched: &Watched,
        target_files: TargetFiles,
    ) -> Self {
        let watcher = Watcher::new(watched);
        Self {
            files,
            registry,
            engine,
            watcher,
            target_files,
            refused: None,
        }
    }

    pub(crate) async fn run(mut self, mut hangup: Signal) {
        loop {
            tokio::select! {
                _ = hangup.recv() => {
                    info!("SIGHUP received: loading the configuration again");
                    // Someone wants to hear about it, even for the second time.
                    self.refused = None;
                    self.watcher.mark();
                }
                () = self.watcher.changed() => {}
            }
            self.reload().await;
        }
    }

    /// A configuration that is out of order is told of and changes nothing.
    async fn reload(&mut self) {
        match self.try_reload().await {
            Ok(()) => self.refused = None,
            Err(refused) => {
                self.engine.reload_failed();
                if self.refused.as_ref() != Some(&refused) {
                    error!(
                        "the new configuration is not in order; the one before stays in force:\n{refused}"
                    );
                }
                self.refused = Some(refused);
            }
        }
    }

    async fn try_reload(&mut self) -> Result<(), String> {
        let (files, registry) = (self.files.clone(), self.registry.clone());
        let previous = self.target_files.clone();
        let loading =
            tokio::task::spawn_blocking(move || load::load(&files, &registry, Some(previous)));
        let loaded = match loading.await.map_err(|panic| panic.to_string())? {
            Ok(loaded) => loaded,
            Err(failure) => {
                if let Failure::Config(diagnostics) = &failure {
                    self.watcher.follow(diagnostics.watched());
                }
                return Err(failure.to_string());
            }
        };
        load::warn_about(&loaded);
        self.engine
            .reload(loaded.config)
            .await
            .map_err(|error| error.to_string())?;
        self.target_files = loaded.target_files;
        self.watcher.follow(&loaded.watched);
        Ok(())
    }
}
