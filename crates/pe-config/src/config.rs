//! The validated configuration, as the rest of the program sees it.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::Secret;

/// Everything that was configured.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Where results are pushed; `None` when no push configuration was given.
    pub push: Option<PushConfig>,
    /// One group for each `*.json` file of the configuration directory, sorted by file name.
    pub groups: Vec<GroupConfig>,
}

impl Config {
    /// Number of devices in all groups.
    pub fn device_count(&self) -> usize {
        self.groups.iter().map(|group| group.jobs.len()).sum()
    }
}

/// One configuration file: devices that are measured together in one cycle.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupConfig {
    /// The file this came from.
    pub file: PathBuf,
    /// Name of the group, unique among all files; the `job` of the exporter's own series.
    pub prom_id: Arc<str>,
    /// Time between the starts of two cycles.
    pub interval: Duration,
    /// How long a probe waits for its answer; always below `interval`.
    pub timeout: Duration,
    /// Value of `dev_ping` for a device that is down, in milliseconds.
    pub value_dev_down: f64,
    /// Probes for each device and cycle.
    pub count: u32,
    /// Time between two probes of one device within a cycle.
    pub probe_interval: Duration,
    /// Limits on how fast a cycle's probes leave.
    pub pacer: PacerConfig,
    /// Labels for all devices of the group. They are already merged into [`JobConfig::labels`].
    pub labels: Labels,
    /// The devices, in the order of the file, ranges and subnets expanded.
    pub jobs: Vec<JobConfig>,
}

impl GroupConfig {
    /// How long a probe of `job` waits for its answer.
    pub fn timeout_of(&self, job: &JobConfig) -> Duration {
        job.timeout.unwrap_or(self.timeout)
    }

    /// Probes of `job` in each cycle.
    pub fn count_of(&self, job: &JobConfig) -> u32 {
        job.count.unwrap_or(self.count)
    }

    /// Time between two probes of `job` within a cycle.
    pub fn probe_interval_of(&self, job: &JobConfig) -> Duration {
        job.probe_interval.unwrap_or(self.probe_interval)
    }
}

/// How fast the probes of a cycle may leave. `None`: the prober chooses.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct PacerConfig {
    /// Probes a second.
    pub rate: Option<f64>,
    /// Probes that may leave back to back.
    pub burst: Option<u32>,
}

/// One device: a name, an address, and what to measure there.
///
/// Devices of one subnet, range or targets file share their labels and metrics, so a device costs
/// little more than its two strings.
#[derive(Debug, Clone, PartialEq)]
pub struct JobConfig {
    /// Name of the device; the value of its `device` label.
    pub job: Arc<str>,
    /// The address as configured, a port dropped; the value of the `ip` label.
    pub ip: Arc<str>,
    /// The address, parsed.
    pub address: Address,
    /// Labels of this device, those of the group included; without `device` and `ip`.
    pub labels: Labels,
    /// What to measure, in the order of the file. Never empty.
    pub metrics: Arc<[MetricConfig]>,
    /// Overrides [`GroupConfig::timeout`].
    pub timeout: Option<Duration>,
    /// Overrides [`GroupConfig::count`].
    pub count: Option<u32>,
    /// Overrides [`GroupConfig::probe_interval`].
    pub probe_interval: Option<Duration>,
}

/// One scraper of a device, with the settings given for it.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricConfig {
    /// Name of the scraper, known to the [`ScraperCatalog`](crate::ScraperCatalog) at load.
    pub scraper: Arc<str>,
    /// Settings for it: a JSON object, or `null` where none were given.
    pub settings: Value,
}

/// Where a device is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    /// An IPv4 or IPv6 unicast address.
    Ip(IpAddr),
    /// A host name that is to be resolved.
    Name {
        /// The name, without a port.
        host: Arc<str>,
        /// Which of its addresses to use.
        family: Family,
    },
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(ip) => ip.fmt(f),
            Self::Name { host, .. } => f.write_str(host),
        }
    }
}

/// Address family to use of a host name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Family {
    /// Only IPv4 addresses.
    V4,
    /// Only IPv6 addresses.
    V6,
    /// Whichever the resolver puts first.
    #[default]
    Any,
}

/// A sorted set of label names and values; cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Labels(Option<Arc<[LabelPair]>>);

/// Name and value of a label.
pub type LabelPair = (Arc<str>, Arc<str>);

impl Labels {
    /// The labels, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<str>)> {
        self.as_slice().iter().map(|(name, value)| (name, value))
    }

    /// The labels, sorted by name.
    pub fn as_slice(&self) -> &[LabelPair] {
        self.0.as_deref().unwrap_or_default()
    }

    /// The value of the label `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        let labels = self.as_slice();
        let index = labels
            .binary_search_by(|(known, _)| (**known).cmp(name))
            .ok()?;
        Some(&labels[index].1)
    }

    /// Number of labels.
    pub fn len(&self) -> usize {
        self.as_slice().len()
    }

    /// Whether there are no labels.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// These labels with `over` laid over them: a name in both takes the value of `over`, and an empty
    /// value removes the label, since to Prometheus the two are the same.
    pub(crate) fn overlaid<N, V>(&self, over: impl IntoIterator<Item = (N, V)>) -> Self
    where
        N: Into<Arc<str>>,
        V: Into<Arc<str>>,
    {
        let mut merged: std::collections::BTreeMap<Arc<str>, Arc<str>> =
            self.as_slice().iter().cloned().collect();
        for (name, value) in over {
            merged.insert(name.into(), value.into());
        }
        merged
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .collect()
    }
}

impl<N: Into<Arc<str>>, V: Into<Arc<str>>> FromIterator<(N, V)> for Labels {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(labels: I) -> Self {
        let mut labels: Vec<LabelPair> = labels
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        labels.sort();
        labels.dedup_by(|later, earlier| later.0 == earlier.0);
        Self(if labels.is_empty() {
            None
        } else {
            Some(labels.into())
        })
    }
}

/// Where and how results are pushed to a Pushgateway.
#[derive(Debug, Clone, PartialEq)]
pub struct PushConfig {
    /// The file this came from; `None` when it came from the environment or flags alone.
    pub file: Option<PathBuf>,
    /// Base URL of the Pushgateway, `http://host:port` and perhaps a path, without a slash at the end.
    pub url: String,
    /// User for HTTP basic authentication; present exactly when `password` is.
    pub username: Option<String>,
    /// Password for HTTP basic authentication; present exactly when `username` is.
    pub password: Option<Secret>,
    /// What makes up a group on the Pushgateway.
    pub grouping: Grouping,
    /// How long one push may take.
    pub timeout: Duration,
    /// Pushes that may be under way at one time.
    pub max_parallel_pushes: usize,
}

/// What makes up a group on the Pushgateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Grouping {
    /// One group for each device name, with the grouping key `job=<device>`, as the original does.
    #[default]
    Device,
    /// One group for each configuration file, with the grouping key `job=<prom_id>`.
    Config,
}
