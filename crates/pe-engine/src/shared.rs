//! What an engine, its handles and its tasks share. Each lock is held for a copy or a replacement only.

use std::collections::{BTreeMap, HashSet};
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use pe_scrape::exposition::{Block, Format, encode_to};
use pe_scrape::{Config, CycleReport, Frame, LabelSet, ScraperRegistry, SinkRegistry};

use crate::Results;
use crate::metrics::{EngineMetrics, GroupMetrics};
use crate::process;
use crate::reload::ReloadState;
use crate::results::blocks;
use crate::sinks::Sinks;

/// Metrics of the program, asked for at each exposition.
pub(crate) type FrameSource = Arc<dyn Fn() -> Vec<Frame> + Send + Sync>;

pub(crate) struct Shared {
    pub(crate) scrapers: ScraperRegistry,
    pub(crate) sink_registry: SinkRegistry,
    pub(crate) results: Results,
    pub(crate) sinks: Sinks,
    pub(crate) sources: Vec<FrameSource>,
    pub(crate) metrics: EngineMetrics,
    pub(crate) reloads: ReloadState,
    pub(crate) groups: Mutex<BTreeMap<Arc<str>, Arc<GroupMetrics>>>,
    pub(crate) config: Mutex<Arc<Config>>,
}

impl Shared {
    /// The configuration in force.
    pub(crate) fn config(&self) -> Arc<Config> {
        let config = self.config.lock();
        config.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What the group counts, over reloads.
    pub(crate) fn group_metrics(&self, group: &Arc<str>) -> Arc<GroupMetrics> {
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        groups.entry(group.clone()).or_default().clone()
    }

    /// Hands a finished cycle on.
    pub(crate) fn publish(&self, report: Arc<CycleReport>) {
        self.results.store(&report);
        self.sinks.publish(&report);
    }

    /// Notes the configuration that is in force from now on, and forgets what came from groups that are not in it.
    pub(crate) fn change_config(&self, config: Arc<Config>) {
        let names: Arc<[Arc<str>]> = config
            .groups
            .iter()
            .map(|group| group.name().into())
            .collect();
        *self.config.lock().unwrap_or_else(PoisonError::into_inner) = config;
        self.results.retain(&names);
        let known: HashSet<&str> = names.iter().map(|name| &**name).collect();
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        groups.retain(|group, _| known.contains(&**group));
        drop(groups);
        self.sinks.retain(&names);
    }

    /// All latest results, labelled with `exporter`, and all metrics of engine, scrapers, sinks and program.
    pub(crate) fn exposition(&self, format: Format, out: &mut dyn Write) -> io::Result<()> {
        let reports = self.results.latest();
        let own = self.own_frames();
        let sinks = self.sinks.all();
        let of_sinks: Vec<(LabelSet, Vec<Frame>)> = sinks
            .iter()
            .map(|slot| {
                let labels = LabelSet::new([("sink", slot.name.clone())]).unwrap_or_default();
                (labels, slot.metrics())
            })
            .collect();
        let mut all = blocks(&reports);
        all.extend(own.iter().map(Block::new));
        for (labels, frames) in &of_sinks {
            let frames = frames.iter().map(Block::new);
            all.extend(frames.map(|block| block.labels(labels.clone())));
        }
        encode_to(&all, format, out)
    }

    /// Metrics of engine, process, scrapers and program.
    fn own_frames(&self) -> Vec<Frame> {
        let mut frames = self.metrics.frames();
        frames.extend(process::frame());
        frames.extend(self.scrapers.metrics());
        for source in &self.sources {
            // What the program gives to be asked may panic; everything else is shown all the same.
            let found = catch_unwind(AssertUnwindSafe(|| source()));
            frames.extend(found.unwrap_or_default());
        }
        frames
    }
}
