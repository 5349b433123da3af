//! The keys of a group of devices, and of a device: the one place where each is declared.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::check::refuse_agent_name;
use super::spec::{Exclusion, TargetSpec, parse_exclusion, parse_target};
use crate::registry::ScraperSettings;
use crate::settings::{Bounds, Kind, Node, Problems, Setting, View, show_duration};
use crate::{FamilyChoice, Labels};

/// Most probes of a device in a cycle.
pub const MAX_COUNT: f64 = 10_000.0;

/// The time to wait for a reply where nothing else is said, unless half the interval is shorter.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(1);

/// The scraper where nothing else is said.
const DEFAULT_SCRAPER: &str = "ping";

crate::settings! {
    /// How fast the probes of a cycle may leave.
    pub struct PacerSettings("pacer") {
        /// Probes a second, for all devices of the group together.
        rate: Option<f64>, above(0.0);
        /// Probes that may leave back to back.
        burst: Option<u32>, range(1.0, 65_536.0);
    }
}

crate::settings! {
    /// Settings of a group of devices.
    pub struct GroupSettings("conf") {
        /// Name of the group, unique among all files. The `job` of the exporter's own series
        /// (`exporter_duration`, `exporter_jobs`), and of all its series with `"grouping": "config"`.
        prom_id: String, file_only();
        /// Time between the starts of two cycles.
        interval: Duration;
        /// How long a probe waits for its answer; below `interval`.
        timeout: Option<Duration>, otherwise("`1`, or half of `interval` where that is shorter");
        /// Value of `dev_ping` for a device that is down, in milliseconds.
        value_dev_down: Option<f64>, otherwise("`timeout` in milliseconds");
        /// Whether a device of which nothing could be learned, because this machine could not ask or hear, gets the values of
        /// one that is down. Otherwise its values are absent.
        unknown_is_down: bool = false;
        /// Probes for each device and cycle.
        count: u32 = 1, range(1.0, MAX_COUNT);
        /// Time between two probes of one device within a cycle.
        probe_interval: Duration = Duration::from_secs(1);
        /// Most addresses that one subnet or range of `jobs` may stand for.
        max_targets: u32 = 65_536, range(1.0, 16_777_216.0);
        /// Which addresses of a host name to measure.
        family: FamilyChoice = FamilyChoice::Any;
        /// How fast the probes of a cycle may leave.
        pacer: Option<PacerSettings>, otherwise("chosen by the scraper");
        /// Labels for every device of the group.
        labels: Labels;
        /// What to measure on devices that have no `metrics` of their own.
        metrics: Option<ScraperList>, otherwise("`[\"ping\"]`");
        /// Addresses, subnets, ranges and host names that are never measured.
        exclude: Vec<Exclusion>;
    }
}

crate::settings! {
    /// A device, or several that are alike.
    pub struct DeviceEntry("this job") {
        /// Name of the device: its `device` label. `{ip}` stands for the address.
        job: Option<String>, otherwise("`\"{ip}\"` beside `targets_files`");
        /// Address of the device: IPv4, IPv6 or a host name (a port is dropped), a subnet such as
        /// `10.1.0.0/22`, or a range such as `10.1.0.10-10.1.0.50`.
        ip: Option<TargetSpec>;
        /// Prometheus `file_sd` files with devices, in place of `ip`: paths relative to this file, with
        /// `*` and `?` allowed in the file name.
        targets_files: Option<Vec<String>>;
        /// Which addresses of a host name to measure.
        family: Option<FamilyChoice>, otherwise("that of `conf`");
        /// Addresses, subnets, ranges and host names to leave out, beside those of `conf`.
        exclude: Vec<Exclusion>;
        /// Labels for these devices, laid over those of `conf`.
        labels: Labels;
        /// What to measure, instead of what `conf` says.
        metrics: Option<ScraperList>, otherwise("that of `conf`");
        /// How long a probe waits for its answer; below `interval`.
        timeout: Option<Duration>, otherwise("that of `conf`");
        /// Probes in each cycle.
        count: Option<u32>, range(1.0, MAX_COUNT), otherwise("that of `conf`");
        /// Time between two of these probes.
        probe_interval: Option<Duration>, otherwise("that of `conf`");
    }
}

/// Reads text with `parse`; reports what it is not.
fn parsed<'v, T, N: Node<'v>>(
    node: N,
    parse: impl FnOnce(&str) -> Result<T, super::TargetError>,
    problems: &mut Problems,
) -> Option<T> {
    let text = match node.view() {
        View::Text(text) if !text.trim().is_empty() => text,
        _ => {
            String::decode(node, &Bounds::NONE, problems);
            return None;
        }
    };
    match parse(text) {
        Ok(value) => Some(value),
        Err(error) => {
            problems.error(error.message, error.hint);
            None
        }
    }
}

impl Setting for TargetSpec {
    const KIND: Kind = Kind::Text;

    fn decode<'v, N: Node<'v>>(node: N, _: &Bounds, problems: &mut Problems) -> Option<Self> {
        parsed(node, parse_target, problems)
    }

    fn encode(&self) -> Value {
        self.to_string().into()
    }
}

impl Setting for Exclusion {
    const KIND: Kind = Kind::Text;

    fn decode<'v, N: Node<'v>>(node: N, _: &Bounds, problems: &mut Problems) -> Option<Self> {
        parsed(node, parse_exclusion, problems)
    }

    fn encode(&self) -> Value {
        self.to_string().into()
    }
}

/// What to measure: the names of scrapers, each with its own settings.
#[derive(Clone, PartialEq, Default)]
pub struct ScraperList(Vec<(Arc<str>, Value)>);

impl ScraperList {
    /// Names, and settings: an object, or `null` where none were given.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Value)> {
        self.0.iter().map(|(name, own)| (name, own))
    }

    /// Adds a scraper with settings of its own; `null` for none.
    pub fn push(&mut self, name: impl Into<Arc<str>>, own: Value) {
        self.0.push((name.into(), own));
    }

    /// What is measured where nothing is said: `ping`.
    #[must_use]
    pub fn ping() -> Self {
        Self(vec![(DEFAULT_SCRAPER.into(), Value::Null)])
    }
}

impl std::fmt::Debug for ScraperList {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Settings may hold secrets.
        f.debug_list()
            .entries(self.0.iter().map(|(name, _)| name))
            .finish()
    }
}

impl Setting for ScraperList {
    const KIND: Kind = Kind::Scrapers;

    fn decode<'v, N: Node<'v>>(node: N, _: &Bounds, problems: &mut Problems) -> Option<Self> {
        if node.view() != View::List {
            let found = node.view().describe();
            problems.refuse(format_args!("found {found}, expected an array"));
            return None;
        }
        let entries: Vec<Option<_>> = node
            .items()
            .enumerate()
            .map(|(index, item)| problems.within(index, |problems| scraper_entry(item, problems)))
            .collect();
        if entries.is_empty() {
            let hint = "leave `metrics` out to measure `ping`";
            problems.error("metrics is empty", hint.to_owned());
            return None;
        }
        entries.into_iter().collect::<Option<_>>().map(Self)
    }

    fn encode(&self) -> Value {
        let entries = self.0.iter();
        entries
            .map(|(name, own)| match own {
                Value::Null => Value::from(&**name),
                own => Value::Object([(name.to_string(), own.clone())].into_iter().collect()),
            })
            .collect()
    }
}

/// Name and settings of one entry of a list of scrapers.
fn scraper_entry<'v, N: Node<'v>>(node: N, problems: &mut Problems) -> Option<(Arc<str>, Value)> {
    match node.view() {
        View::Text(name) if name.trim().is_empty() => {
            problems.error("metric is empty", None);
            None
        }
        View::Text(name) => Some((name.into(), Value::Null)),
        View::Object => {
            let mut fields = node.fields();
            let (Some((name, settings)), None) = (fields.next(), fields.next()) else {
                let message = "a metric with settings is an object with one key, its name";
                let hint = "such as {\"ping\": {\"count\": 5}}";
                problems.error(message, hint.to_owned());
                return None;
            };
            if settings.view() != View::Object {
                let found = settings.view().describe();
                let message =
                    format!("settings of metric `{name}`: found {found}, expected an object");
                problems.within(name, |problems| problems.error(message, None));
                return None;
            }
            Some((name.into(), settings.to_json()))
        }
        other => {
            let message = format!(
                "metric: found {}, expected a name or an object with settings",
                other.describe()
            );
            problems.error(message, None);
            None
        }
    }
}

impl GroupSettings {
    /// What every scraper of the group gets where a device says nothing else: defaults are filled in, and values that do
    /// not go together are reported.
    pub fn common(&self, problems: &mut Problems) -> Option<ScraperSettings> {
        let timeout = self
            .timeout
            .unwrap_or_else(|| DEFAULT_TIMEOUT.min(self.interval / 2));
        let pacer = self.pacer.as_ref();
        let common = ScraperSettings {
            interval: self.interval,
            timeout,
            value_dev_down: self
                .value_dev_down
                // One division, so that no digits appear that nobody wrote.
                .unwrap_or(timeout.as_micros() as f64 / 1e3),
            unknown_is_down: self.unknown_is_down,
            count: self.count,
            probe_interval: self.probe_interval,
            rate: pacer.and_then(|pacer| pacer.rate),
            burst: pacer.and_then(|pacer| pacer.burst),
            own: Value::Null,
        };
        refuse_agent_name(&self.prom_id, problems)?;
        refuse_long_timeout(&common, problems)?;
        warn_overrun(&common, "count", problems);
        Some(common)
    }
}

impl DeviceEntry {
    /// What the scrapers of these devices get: the settings of the group with those of the entry over them. Values that
    /// do not go together are reported.
    pub fn common(
        &self,
        group: &ScraperSettings,
        problems: &mut Problems,
    ) -> Option<ScraperSettings> {
        let mut common = group.clone();
        common.timeout = self.timeout.unwrap_or(group.timeout);
        common.count = self.count.unwrap_or(group.count);
        common.probe_interval = self.probe_interval.unwrap_or(group.probe_interval);
        let said = [
            ("count", self.count.is_some()),
            ("probe_interval", self.probe_interval.is_some()),
            ("timeout", self.timeout.is_some()),
        ];
        refuse_long_timeout(&common, problems)?;
        if let Some((key, _)) = said.iter().find(|(_, said)| *said) {
            warn_overrun(&common, key, problems);
        }
        Some(common)
    }
}

fn refuse_long_timeout(common: &ScraperSettings, problems: &mut Problems) -> Option<()> {
    if common.timeout < common.interval {
        return Some(());
    }
    let message = format!(
        "timeout ({}) must be below interval ({})",
        show_duration(common.timeout),
        show_duration(common.interval)
    );
    let hint = "a cycle starts every interval and has to end before the next one";
    problems.within("timeout", |problems| {
        problems.error(message, hint.to_owned());
    });
    None
}

/// Warns, at `key`, of a cycle that is longer than its interval.
fn warn_overrun(common: &ScraperSettings, key: &str, problems: &mut Problems) {
    if let Some((message, hint)) = common.overrun() {
        problems.within(key, |problems| problems.warn(message, hint));
    }
}
