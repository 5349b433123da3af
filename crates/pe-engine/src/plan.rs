//! From a group to what its runner runs: lanes, each with a scraper, its targets and their table.
//!
//! A lane is one scraper with one set of settings. Devices that are alike share their list of scrapers, so lists are known
//! by their place in memory, and each is looked at once.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use pe_scrape::{
    Columns, Diagnostic, Group, LabelSet, Scraper, ScraperConfig, ScraperRegistry, ScraperSettings,
    Severity, Table, Target, panic_message, with_causes,
};

use crate::staleness::stale_after;

/// Probes that may leave back to back where a rate is set and no burst.
const DEFAULT_BURST: u32 = 64;

/// A batch that has not ended after so many intervals is stopped.
const LONGEST_RUN: u32 = 3;

/// What a target may take beyond its probes: for a name to resolve, and for scheduling delay.
const TARGET_MARGIN: Duration = Duration::from_secs(1);

/// What a group's runner runs.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) group: Arc<str>,
    pub(crate) interval: Duration,
    /// Rate and burst that hold for all lanes together, if a rate is set.
    pub(crate) pace: Option<(f64, u32)>,
    pub(crate) device_count: usize,
    pub(crate) lanes: Vec<Arc<LanePlan>>,
    /// What the scrapers' tables hold, each kind once: names that no learned frame may take.
    pub(crate) columns: Vec<Arc<Columns>>,
}

/// One scraper with one set of settings, and the targets it measures.
pub(crate) struct LanePlan {
    pub(crate) name: Arc<str>,
    pub(crate) settings: ScraperSettings,
    pub(crate) scraper: Arc<dyn Scraper>,
    pub(crate) targets: Arc<[Target]>,
    /// The labels of each target.
    pub(crate) rows: Arc<[LabelSet]>,
    /// The position of each target's device in the group.
    pub(crate) devices: Box<[u32]>,
    pub(crate) table: Arc<Table>,
}

/// The scraper of a lane, with targets still to be added.
struct Draft {
    config: ScraperConfig,
    targets: Vec<Target>,
    devices: Vec<u32>,
}

impl Plan {
    /// Plans `group`, which was checked. Scrapers of `running` are used again where name and settings are the same.
    ///
    /// Fails with every problem of setting scrapers up.
    pub(crate) fn build(
        group: &Group,
        registry: &ScraperRegistry,
        running: Option<&Self>,
    ) -> Result<Self, Vec<Diagnostic>> {
        let known: HashMap<String, &Arc<LanePlan>> = running
            .iter()
            .flat_map(|plan| &plan.lanes)
            .map(|lane| (lane_key(&lane.name, &lane.settings), lane))
            .collect();
        let mut problems = Vec::new();
        let mut lanes = Vec::new();
        for draft in drafts(group) {
            let (name, settings) = (&draft.config.name, &draft.config.settings);
            let again = known
                .get(&lane_key(name, settings))
                .map(|lane| lane.scraper.clone());
            let made = again.map_or_else(|| make(registry, &draft.config), Ok);
            match made.and_then(|scraper| LanePlan::new(draft, scraper)) {
                Ok(lane) => lanes.push(Arc::new(lane)),
                Err(message) => problems.push(Diagnostic::named(
                    Severity::Error,
                    &group.origin(),
                    message,
                    None,
                )),
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let mut columns: Vec<Arc<Columns>> = Vec::new();
        for lane in &lanes {
            if !columns.contains(lane.table.columns()) {
                columns.push(lane.table.columns().clone());
            }
        }
        let pacer = group.settings.pacer.as_ref();
        let rate = pacer.and_then(|pacer| pacer.rate);
        let burst = pacer.and_then(|pacer| pacer.burst);
        Ok(Self {
            group: group.name().into(),
            interval: group.interval(),
            pace: rate.map(|rate| (rate, burst.unwrap_or(DEFAULT_BURST))),
            device_count: group.devices.len(),
            lanes,
            columns,
        })
    }

    /// Whether running `other` instead would make no difference.
    pub(crate) fn same_as(&self, other: &Self) -> bool {
        self.interval == other.interval
            && self.pace == other.pace
            && self.device_count == other.device_count
            && self.lanes.len() == other.lanes.len()
            && self.lanes.iter().zip(&other.lanes).all(|(a, b)| {
                a.name == b.name
                    && a.settings == b.settings
                    && a.targets == b.targets
                    && a.devices == b.devices
            })
    }

    /// How long after the latest measurement the group's results are stale.
    pub(crate) fn stale_after(&self) -> Duration {
        let lanes = self.lanes.iter().map(|lane| lane.target_timeout());
        stale_after(self.interval, lanes.max().unwrap_or_default())
    }

    /// How long a batch of a lane may take.
    pub(crate) fn batch_timeout(&self, lane: &LanePlan) -> Duration {
        let intervals = self.interval.saturating_mul(LONGEST_RUN);
        intervals.max(lane.target_timeout())
    }
}

/// The lanes of a group in the order of their first device.
fn drafts(group: &Group) -> Vec<Draft> {
    let mut drafts: Vec<Draft> = Vec::new();
    let mut by_key: HashMap<String, usize> = HashMap::new();
    let mut by_list: HashMap<*const ScraperConfig, Vec<usize>> = HashMap::new();
    for (index, device) in group.devices.iter().enumerate() {
        let list = by_list.entry(device.scrapers.as_ptr()).or_insert_with(|| {
            let lane_of = |config: &ScraperConfig| {
                let key = lane_key(&config.name, &config.settings);
                *by_key.entry(key).or_insert_with(|| {
                    drafts.push(Draft {
                        config: config.clone(),
                        targets: Vec::new(),
                        devices: Vec::new(),
                    });
                    drafts.len() - 1
                })
            };
            device.scrapers.iter().map(lane_of).collect()
        });
        for &lane in list.iter() {
            drafts[lane].targets.push(device.target.clone());
            drafts[lane].devices.push(index as u32);
        }
    }
    drafts
}

/// A text that is equal for equal names and settings. It may hold secrets, and is never shown.
fn lane_key(name: &str, settings: &ScraperSettings) -> String {
    // `Debug` has all but the values of the scraper's own settings.
    format!("{name} {settings:?} {}", settings.own)
}

fn make(registry: &ScraperRegistry, config: &ScraperConfig) -> Result<Arc<dyn Scraper>, String> {
    registry
        .create(&config.name, &config.settings)
        .map_err(|error| with_causes(&error))
}

impl LanePlan {
    fn new(draft: Draft, scraper: Arc<dyn Scraper>) -> Result<Self, String> {
        let Draft {
            config: ScraperConfig { name, settings, .. },
            targets,
            devices,
        } = draft;
        let columns = catch_unwind(AssertUnwindSafe(|| scraper.columns().clone()));
        let columns = columns.map_err(|panic| {
            let words = panic_message(&*panic);
            format!("metric `{name}`: the scraper panicked: {words}")
        })?;
        Ok(Self {
            rows: targets
                .iter()
                .map(|target| target.labels().clone())
                .collect(),
            table: Arc::new(Table::new(columns, targets.len())),
            targets: targets.into(),
            devices: devices.into(),
            name,
            settings,
            scraper,
        })
    }

    /// How long the scraper may take for one target.
    pub(crate) fn target_timeout(&self) -> Duration {
        self.settings.longest_cycle().saturating_add(TARGET_MARGIN)
    }
}

impl std::fmt::Debug for LanePlan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LanePlan")
            .field("name", &self.name)
            .field("settings", &self.settings)
            .field("targets", &self.targets.len())
            .finish_non_exhaustive()
    }
}
