//! From configuration to what a cycle runs: scrapers, their targets and their tables.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use pe_config::{GroupConfig, JobConfig};
use pe_scrape::{
    Address, FamilyChoice, LabelSet, Schema, Scraper, ScraperRegistry, ScraperSettings, Table,
    Target,
};

use crate::EngineError;

/// What one configuration's cycle runs.
pub(crate) struct Plan {
    pub(crate) prom_id: Arc<str>,
    pub(crate) interval: Duration,
    pub(crate) jobs: usize,
    pub(crate) lanes: Vec<LanePlan>,
}

/// What decides which lanes a device belongs to: its list of metrics, known by its place in memory, and its overrides.
type Combination = (
    *const pe_config::MetricConfig,
    Option<Duration>,
    Option<u32>,
    Option<Duration>,
);

/// One scraper with one set of settings, and the targets it measures.
pub(crate) struct LanePlan {
    pub(crate) name: Arc<str>,
    pub(crate) settings: ScraperSettings,
    pub(crate) scraper: Arc<dyn Scraper>,
    pub(crate) targets: Arc<[Target]>,
    pub(crate) rows: Arc<[LabelSet]>,
    pub(crate) table: Arc<Table>,
}

impl Plan {
    /// Builds what `group` asks for. Scrapers of `running` are used again where name and settings are the same.
    pub(crate) fn build(
        group: &GroupConfig,
        registry: &ScraperRegistry,
        running: Option<&Self>,
    ) -> Result<Self, EngineError> {
        let mut drafts: Vec<(Arc<str>, ScraperSettings, Vec<Target>)> = Vec::new();
        // Devices of one file mostly share their metrics: look at each distinct combination once.
        let mut known: HashMap<Combination, Vec<usize>> = HashMap::new();
        for job in &group.jobs {
            let target = target(group, job)?;
            let combination = (
                job.metrics.as_ptr(),
                job.timeout,
                job.count,
                job.probe_interval,
            );
            let lanes = known.entry(combination).or_insert_with(|| {
                let lane_of = |metric: &pe_config::MetricConfig| {
                    let settings = settings(group, job, metric.settings.clone());
                    let same = |(name, known, _): &(Arc<str>, ScraperSettings, _)| {
                        *name == metric.scraper && *known == settings
                    };
                    drafts.iter().position(same).unwrap_or_else(|| {
                        drafts.push((metric.scraper.clone(), settings.clone(), Vec::new()));
                        drafts.len() - 1
                    })
                };
                job.metrics.iter().map(lane_of).collect()
            });
            for &lane in lanes.iter() {
                drafts[lane].2.push(target.clone());
            }
        }
        let lanes = drafts
            .into_iter()
            .map(|(name, settings, targets)| {
                let again = running.and_then(|plan| plan.scraper(&name, &settings));
                let scraper = match again {
                    Some(scraper) => scraper,
                    None => registry.create(&name, &settings).map_err(|source| {
                        EngineError::Scraper {
                            file: group.file.clone(),
                            source,
                        }
                    })?,
                };
                LanePlan::new(name, settings, scraper, targets)
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            prom_id: group.prom_id.clone(),
            interval: group.interval,
            jobs: group.jobs.len(),
            lanes,
        })
    }

    /// Takes over the counters and histograms of devices that `old` measured already.
    pub(crate) fn adopt(&self, old: &Self) {
        for lane in &self.lanes {
            let same = |candidate: &&LanePlan| {
                candidate.name == lane.name && candidate.table.schema() == lane.table.schema()
            };
            for old in old.lanes.iter().filter(same) {
                let rows: HashMap<_, usize> = old
                    .targets
                    .iter()
                    .enumerate()
                    .map(|(row, target)| (identity(target), row))
                    .collect();
                for (row, target) in lane.targets.iter().enumerate() {
                    if let Some(&old_row) = rows.get(&identity(target)) {
                        lane.table.adopt_row(row, &old.table, old_row);
                    }
                }
            }
        }
    }

    /// Whether running `other` instead would make no difference.
    pub(crate) fn same_as(&self, other: &Self) -> bool {
        self.interval == other.interval
            && self.jobs == other.jobs
            && self.lanes.len() == other.lanes.len()
            && self.lanes.iter().zip(&other.lanes).all(|(a, b)| {
                a.name == b.name && a.settings == b.settings && a.targets == b.targets
            })
    }

    fn scraper(&self, name: &str, settings: &ScraperSettings) -> Option<Arc<dyn Scraper>> {
        let lane = self
            .lanes
            .iter()
            .find(|lane| *lane.name == *name && lane.settings == *settings)?;
        Some(lane.scraper.clone())
    }
}

impl LanePlan {
    fn new(
        name: Arc<str>,
        settings: ScraperSettings,
        scraper: Arc<dyn Scraper>,
        targets: Vec<Target>,
    ) -> Result<Self, EngineError> {
        let schema = Schema::new(scraper.descriptors()).map_err(|source| EngineError::Schema {
            scraper: name.clone(),
            source,
        })?;
        Ok(Self {
            rows: targets
                .iter()
                .map(|target| target.labels().clone())
                .collect(),
            table: Arc::new(Table::new(schema, targets.len())),
            targets: targets.into(),
            name,
            settings,
            scraper,
        })
    }

    /// How long the scraper may take for one target: all its probes, and a second for a name to resolve and a scheduler
    /// to breathe.
    pub(crate) fn target_timeout(&self) -> Duration {
        let settings = &self.settings;
        let probes = settings
            .probe_interval
            .max(settings.timeout)
            .saturating_mul(settings.count.max(1));
        probes.saturating_add(Duration::from_secs(1))
    }
}

/// What makes a target the same one after a reload. A host name of which both addresses are measured is there twice,
/// told apart by its `family` label.
fn identity(target: &Target) -> (&str, &str, Option<&str>) {
    (target.device(), target.ip(), target.labels().get("family"))
}

fn target(group: &GroupConfig, job: &JobConfig) -> Result<Target, EngineError> {
    let address = match &job.address {
        pe_config::Address::Ip(ip) => Address::Ip(*ip),
        pe_config::Address::Name { host, family } => Address::Name {
            host: host.clone(),
            family: match family {
                pe_config::Family::V4 => FamilyChoice::V4,
                pe_config::Family::V6 => FamilyChoice::V6,
                pe_config::Family::Any => FamilyChoice::Any,
            },
        },
    };
    let labels = job
        .labels
        .iter()
        .map(|(name, value)| (name.clone(), value.clone()));
    Target::new(job.job.clone(), job.ip.clone(), address, labels).map_err(|source| {
        EngineError::Labels {
            file: group.file.clone(),
            device: job.job.clone(),
            source,
        }
    })
}

fn settings(group: &GroupConfig, job: &JobConfig, own: serde_json::Value) -> ScraperSettings {
    ScraperSettings {
        timeout: group.timeout_of(job),
        interval: group.interval,
        value_dev_down: group.value_dev_down,
        count: group.count_of(job),
        probe_interval: group.probe_interval_of(job),
        rate: group.pacer.rate,
        burst: group.pacer.burst,
        own,
    }
}
