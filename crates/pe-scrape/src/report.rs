//! What a finished cycle hands on.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::Frame;

/// The results of one cycle of one configuration file. Shared with sinks as an `Arc`, never changed.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct CycleReport {
    /// The file's `prom_id`.
    pub config: Arc<str>,
    /// How many cycles of this configuration were started before this one, skipped ones included.
    pub tick: u64,
    /// When the cycle started.
    pub started: SystemTime,
    /// How long its measurements took.
    pub duration: Duration,
    /// How many jobs (devices) the configuration has.
    pub jobs: usize,
    /// One frame for each scraper: the devices' series, with the labels `device` and `ip`. A scraper that has not
    /// finished in this cycle is here with its latest finished results.
    pub devices: Vec<Arc<Frame>>,
    /// The cycle's own metrics: `exporter_duration`, `exporter_jobs` and `pingexporter_cycle_*`, without labels.
    pub exporter: Vec<Frame>,
}

impl CycleReport {
    /// A report without results, to be filled in.
    #[must_use]
    pub fn new(config: impl Into<Arc<str>>, tick: u64, started: SystemTime) -> Self {
        Self {
            config: config.into(),
            tick,
            started,
            duration: Duration::ZERO,
            jobs: 0,
            devices: Vec::new(),
            exporter: Vec::new(),
        }
    }
}
