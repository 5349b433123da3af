//! How the latest attempt to change the configuration went.

use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use pe_scrape::{Diagnostics, unix_seconds};

use crate::metrics::EngineMetrics;

/// How the latest attempt to load a configuration went. The one that the engine starts with counts as the first.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct LastReload {
    /// Whether the configuration is in force.
    pub successful: bool,
    /// When that was.
    pub at: SystemTime,
    /// Its problems: the errors for which it was refused, or warnings.
    pub diagnostics: Diagnostics,
}

/// The latest attempt, and its metrics.
#[derive(Debug)]
pub(crate) struct ReloadState(Mutex<LastReload>);

impl ReloadState {
    /// The configuration that the engine starts with.
    pub(crate) fn new(diagnostics: Diagnostics, metrics: &EngineMetrics) -> Self {
        let state = Self(Mutex::new(LastReload {
            successful: true,
            at: SystemTime::now(),
            diagnostics: Diagnostics::default(),
        }));
        state.note(true, diagnostics, metrics);
        state
    }

    pub(crate) fn note(&self, successful: bool, diagnostics: Diagnostics, metrics: &EngineMetrics) {
        let at = SystemTime::now();
        metrics
            .reload_successful
            .set(f64::from(u8::from(successful)));
        if successful {
            metrics.reloaded.set(unix_seconds(at));
        }
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *last = LastReload {
            successful,
            at,
            diagnostics,
        };
    }

    pub(crate) fn last(&self) -> LastReload {
        let last = self.0.lock();
        last.unwrap_or_else(PoisonError::into_inner).clone()
    }
}
