//! What an engine, its handles and its tasks share. Each lock is held for a copy or a replacement only.

use std::collections::{BTreeMap, HashSet};
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use pe_scrape::exposition::{Block, Format, encode_to};
use pe_scrape::{AGENT_JOB, Config, CycleReport, Frame, LabelSet, ScraperRegistry, SinkRegistry};
use tokio::sync::Notify;
use tracing::info;

use crate::Results;
use crate::metrics::{EngineMetrics, GroupMetrics};
use crate::process;
use crate::reload::ReloadState;
use crate::results::{Latest, blocks};
use crate::schedule::now;
use crate::sinks::Sinks;
use crate::staleness;

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
    /// Held while something is published, so that results and all sinks get the reports of a group in one order.
    pub(crate) publishing: Mutex<()>,
    /// Reports of the agent's own metrics so far.
    pub(crate) own_reports: AtomicU64,
    /// Wakes the task that publishes them.
    pub(crate) config_changed: Notify,
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

    /// Hands a finished cycle on, which is stale at `stale_at` unless something is measured before.
    pub(crate) fn publish(
        &self,
        mut report: Arc<CycleReport>,
        stale_at: Instant,
        metrics: &Arc<GroupMetrics>,
    ) {
        if now() >= stale_at {
            report = Arc::new(metrics.stale(&report));
        }
        let latest = Latest {
            report: report.clone(),
            stale_at,
            metrics: metrics.clone(),
        };
        let publishing = self.publishing();
        let former = self.results.store(latest);
        self.sinks.publish(&report);
        drop(publishing);
        // Last, since logging may panic.
        let was_stale = former.is_some_and(|former| former.report.is_stale);
        let group = &*report.group;
        match (was_stale, report.is_stale) {
            (false, true) => staleness::tell(group),
            (true, false) => info!(group, "the group has results again"),
            _ => {}
        }
    }

    /// Withholds what has gone stale. Returns when the next goes stale.
    pub(crate) fn withhold_stale(&self) -> Option<Instant> {
        let publishing = self.publishing();
        let withheld = self.results.withhold_stale();
        for report in &withheld.stale {
            self.sinks.publish(report);
        }
        drop(publishing);
        drop(withheld.former);
        for report in &withheld.stale {
            staleness::tell(&report.group);
        }
        withheld.next
    }

    fn publishing(&self) -> MutexGuard<'_, ()> {
        let publishing = self.publishing.lock();
        publishing.unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes the configuration that is in force from now on, and forgets what came from groups that are not in it.
    pub(crate) fn change_config(&self, config: Arc<Config>) {
        let names = group_names(&config);
        *self.config.lock().unwrap_or_else(PoisonError::into_inner) = config;
        let publishing = self.publishing();
        let gone = self.results.retain(&names);
        self.sinks.retain(&names);
        drop(publishing);
        drop(gone);
        let known: HashSet<&str> = names.iter().map(|name| &**name).collect();
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        groups.retain(|group, _| known.contains(&**group));
    }

    /// What is in force, as sinks are told it: the groups, and the agent itself.
    pub(crate) fn group_names(&self) -> Arc<[Arc<str>]> {
        group_names(&self.config())
    }

    /// Hands the metrics of engine, process, scrapers, sinks and program to the sinks.
    pub(crate) fn publish_own(&self) {
        let tick = self.own_reports.fetch_add(1, Ordering::Relaxed);
        let mut report = CycleReport::new(AGENT_JOB, tick, SystemTime::now());
        report.is_agent = true;
        report.exporter = self.own_frames();
        let label: Arc<str> = "sink".into();
        for slot in &*self.sinks.all() {
            let frames = slot.metrics().into_iter();
            let labelled = frames.map(|frame| frame.with_label(&label, &slot.name));
            report.exporter.extend(labelled);
        }
        self.sinks.publish(&Arc::new(report));
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

fn group_names(config: &Config) -> Arc<[Arc<str>]> {
    let groups = config.groups.iter();
    let names = groups.map(|group| group.name().into());
    names.chain([AGENT_JOB.into()]).collect()
}
