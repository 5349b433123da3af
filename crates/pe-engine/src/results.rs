//! The latest results of all configurations, to be read at any time.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use pe_scrape::exposition::Block;
use pe_scrape::{CycleReport, LabelSet};
use tokio::sync::watch;

/// The latest finished cycle of each configuration. Cloning is cheap; all clones show the same.
#[derive(Debug, Clone)]
pub struct Results {
    latest: Arc<RwLock<BTreeMap<Arc<str>, Arc<CycleReport>>>>,
    version: watch::Sender<u64>,
}

impl Results {
    pub(crate) fn new() -> Self {
        Self {
            latest: Arc::default(),
            version: watch::Sender::new(0),
        }
    }

    /// The latest report of every configuration that has finished a cycle, ordered by `prom_id`.
    #[must_use]
    pub fn latest(&self) -> Vec<Arc<CycleReport>> {
        self.read(|latest| latest.values().cloned().collect())
    }

    /// The latest report of one configuration.
    #[must_use]
    pub fn get(&self, prom_id: &str) -> Option<Arc<CycleReport>> {
        self.read(|latest| latest.get(prom_id).cloned())
    }

    /// Tells of every finished cycle: the value is the number of reports so far.
    ///
    /// ```no_run
    /// # async fn example(results: pe_engine::Results) -> Result<(), tokio::sync::watch::error::RecvError> {
    /// let mut finished = results.subscribe();
    /// finished.changed().await?;
    /// println!("{} configurations have results", results.latest().len());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    pub(crate) fn store(&self, report: Arc<CycleReport>) {
        let mut latest = self.latest.write().unwrap_or_else(PoisonError::into_inner);
        latest.insert(report.config.clone(), report);
        drop(latest);
        self.version.send_modify(|version| *version += 1);
    }

    pub(crate) fn retain(&self, configs: &[Arc<str>]) {
        let mut latest = self.latest.write().unwrap_or_else(PoisonError::into_inner);
        latest.retain(|config, _| configs.contains(config));
    }

    fn read<T>(&self, read: impl FnOnce(&BTreeMap<Arc<str>, Arc<CycleReport>>) -> T) -> T {
        read(&self.latest.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// All series of `reports`, labelled with the configuration they come from.
pub(crate) fn blocks(reports: &[Arc<CycleReport>]) -> Vec<Block<'_>> {
    reports
        .iter()
        .flat_map(|report| {
            let exporter = LabelSet::new([("exporter", report.config.clone())]).unwrap_or_default();
            let frames = report
                .devices
                .iter()
                .map(|frame| &**frame)
                .chain(&report.exporter);
            frames.map(move |frame| Block::new(frame).labels(exporter.clone()))
        })
        .collect()
}
