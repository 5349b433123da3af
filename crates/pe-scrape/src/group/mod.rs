//! Groups of devices: what is measured together in one cycle.
//!
//! [`keys`](GroupSettings) declares what files say of a group and of a device. Files and code go the same way from
//! there: values are checked by the same bounds, subnets and ranges expand to the same devices, and [`Checks`] refuses
//! what would make a Prometheus refuse everything.

mod check;
mod devices;
mod exclusions;
mod keys;
mod scraper_list;
mod spec;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use check::{Checks, is_agent_metric, refuse_frame};
pub use devices::{DeviceList, Expansion, IP_PLACEHOLDER, Template};
pub use exclusions::Exclusions;
pub use keys::{DeviceEntry, GroupSettings, MAX_COUNT, PacerSettings, ScraperSettings};
pub use scraper_list::ScraperList;
pub(crate) use spec::parse_exclusion;
pub use spec::{Exclusion, Interval, TargetError, TargetSpec, Unfit, check_address, parse_target};

use serde_json::Value;

use crate::settings::{Bounds, Problem, Problems, Setting, show_duration};
use crate::{Diagnostic, Diagnostics, FamilyChoice, Severity, SinkConfig, Target};

/// Everything in force: groups of devices, and the sinks that their results go to.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct Config {
    /// The groups, each with a name of its own.
    pub groups: Vec<Group>,
    /// The sinks, each with a name of its own.
    pub sinks: Vec<SinkConfig>,
}

impl Config {
    /// A configuration of groups and sinks.
    #[must_use]
    pub fn new(groups: Vec<Group>, sinks: Vec<SinkConfig>) -> Self {
        Self { groups, sinks }
    }

    /// How many devices all groups have together.
    #[must_use]
    pub fn device_count(&self) -> usize {
        self.groups.iter().map(|group| group.devices.len()).sum()
    }
}

/// Devices that are measured together in one cycle.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Group {
    /// The file this came from; `None` for a group made in code.
    pub file: Option<PathBuf>,
    /// What was set for the group.
    pub settings: GroupSettings,
    /// What the scrapers of the group get where a device says nothing else.
    pub common: ScraperSettings,
    /// The devices, subnets and ranges expanded.
    pub devices: Vec<Device>,
    /// What [`GroupBuilder::build`] found risky, or without effect. What was wrong with a file is told by whoever reads it.
    pub warnings: Diagnostics,
}

/// A device: a target, and what to measure there.
///
/// Devices that are alike share all but their target, so a device costs little more than its labels.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Device {
    /// Name, address and labels.
    pub target: Target,
    /// What to measure, in order.
    pub scrapers: Arc<[ScraperConfig]>,
}

/// A scraper of a device, with all settings that it gets.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ScraperConfig {
    /// The scraper's name in the registry.
    pub name: Arc<str>,
    /// Its settings.
    pub settings: ScraperSettings,
}

impl ScraperConfig {
    /// The scrapers of `list`, each with the settings `common` beside its own.
    #[must_use]
    pub fn all(list: &ScraperList, common: &ScraperSettings) -> Arc<[Self]> {
        let scrapers = list.iter().map(|(name, own)| Self {
            name: name.clone(),
            settings: common.with_own(own.clone()),
        });
        scrapers.collect()
    }
}

impl Group {
    /// Starts to put a group together in code.
    ///
    /// ```
    /// use std::time::Duration;
    /// use pe_scrape::Group;
    ///
    /// let group = Group::builder("plant", Duration::from_secs(10))
    ///     .device("router", "10.0.0.1")
    ///     .device("rack-{ip}", "10.1.0.0/29")
    ///     .build()?;
    /// assert_eq!(group.devices.len(), 7);
    /// # Ok::<(), pe_scrape::Diagnostics>(())
    /// ```
    pub fn builder(name: impl Into<String>, interval: Duration) -> GroupBuilder {
        GroupBuilder::new(name.into(), interval)
    }

    /// A group of a file, whose parts were checked already.
    #[must_use]
    pub fn from_parts(
        file: PathBuf,
        settings: GroupSettings,
        common: ScraperSettings,
        devices: Vec<Device>,
    ) -> Self {
        Self {
            file: Some(file),
            settings,
            common,
            devices,
            warnings: Diagnostics::default(),
        }
    }

    /// The group's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.settings.prom_id
    }

    /// Time between the starts of two cycles.
    #[must_use]
    pub fn interval(&self) -> Duration {
        self.settings.interval
    }

    /// What messages call the group: its file, else its name.
    #[must_use]
    pub fn origin(&self) -> String {
        match &self.file {
            Some(file) => file.display().to_string(),
            None => format!("group {:?}", self.name()),
        }
    }

    /// What to say where the pacer cannot let the probes of a cycle out within the interval, with a hint.
    #[must_use]
    pub fn slow_pacer(&self) -> Option<(String, String)> {
        let rate = self.common.rate?;
        let counts = self.devices.iter().map(|device| {
            let first = device.scrapers.first();
            first.map_or(0, |scraper| u64::from(scraper.settings.count))
        });
        let probes: u64 = counts.sum();
        let needed = probes as f64 / self.interval().as_secs_f64();
        if needed <= rate {
            return None;
        }
        let message = format!(
            "a cycle of {probes} probes every {} needs {needed:.0} probes a second, and the pacer lets {rate} out",
            show_duration(self.interval())
        );
        let hint = "raise `pacer.rate`, or use fewer probes or a longer interval";
        Some((message, hint.to_owned()))
    }

    /// Adds the devices of an entry, as [`GroupBuilder::entry`] does, and returns what is risky in it, or without effect.
    ///
    /// # Errors
    /// Every problem of the entry; the group is as it was then.
    pub fn add(&mut self, entry: &DeviceEntry) -> Result<Diagnostics, Diagnostics> {
        let mut devices = DeviceList::new(
            self.settings.max_targets.into(),
            self.settings.exclude.iter().cloned().collect(),
        );
        let mut problems = Problems::default();
        expand(
            entry,
            &self.settings,
            &self.common,
            &mut devices,
            0,
            &mut problems,
        );
        let devices = devices.into_devices();
        let known: std::collections::HashSet<_> = self
            .devices
            .iter()
            .map(|device| device.target.identity())
            .collect();
        for device in &devices {
            if known.contains(&device.target.identity()) {
                problems.error(already_there(&device.target), None);
            }
        }
        let diagnostics = told(&self.origin(), problems);
        if diagnostics.has_errors() {
            return Err(diagnostics);
        }
        self.devices.extend(devices);
        Ok(diagnostics)
    }

    /// Removes all devices of that name. Returns how many there were.
    pub fn remove(&mut self, device: &str) -> usize {
        let before = self.devices.len();
        self.devices.retain(|known| known.target.device() != device);
        before - self.devices.len()
    }
}

fn already_there(target: &Target) -> String {
    format!(
        "device `{}` at {} is there already",
        target.device(),
        target.ip()
    )
}

/// Problems of what was set in code, in the name of `origin`.
fn told(origin: &str, problems: Problems) -> Diagnostics {
    diagnostics(origin, problems.into_vec()).collect()
}

fn diagnostics(origin: &str, problems: Vec<Problem>) -> impl Iterator<Item = Diagnostic> {
    problems.into_iter().map(move |problem| {
        Diagnostic::named(problem.severity, origin, problem.message, problem.hint)
    })
}

/// Adds the devices of `entry`, the one at `index`, to `devices`.
fn expand(
    entry: &DeviceEntry,
    settings: &GroupSettings,
    common: &ScraperSettings,
    devices: &mut DeviceList<usize>,
    index: usize,
    problems: &mut Problems,
) {
    let errors = problems.error_count();
    entry.check(&Bounds::NONE, problems);
    let own = entry.common(common, problems);
    let (Some(own), Some(spec)) = (own, &entry.ip) else {
        return;
    };
    if problems.error_count() > errors {
        return;
    }
    let ping = ScraperList::ping();
    let list = entry.metrics.as_ref().or(settings.metrics.as_ref());
    let labels = entry.labels.iter();
    let template = Template {
        name: entry.job.as_deref().unwrap_or(IP_PLACEHOLDER).into(),
        family: entry.family.unwrap_or(settings.family),
        exclude: Arc::new(entry.exclude.iter().cloned().collect()),
        labels: settings
            .labels
            .overlaid(labels.map(|(name, value)| (name.clone(), value.clone()))),
        scrapers: ScraperConfig::all(list.unwrap_or(&ping), &own),
    };
    match devices.expand(&template, spec, index) {
        Expansion::Added => {}
        Expansion::Repeated { device, .. } => {
            problems.error(format!("device {device} is there already"), None);
        }
        Expansion::Excluded => {
            problems.warn(format!("all addresses of {spec} are excluded"), None);
        }
        Expansion::TooMany => {
            let most = settings.max_targets;
            problems.error(
                format!("{spec} stands for more than {most} addresses"),
                "raise `max_targets` if that is meant".to_owned(),
            );
        }
    }
}

/// Puts a [`Group`] together in code. Made by [`Group::builder`].
#[derive(Debug, Clone)]
#[must_use]
pub struct GroupBuilder {
    settings: GroupSettings,
    entries: Vec<DeviceEntry>,
    problems: Vec<Problem>,
}

impl GroupBuilder {
    fn new(name: String, interval: Duration) -> Self {
        Self {
            settings: GroupSettings::new(name, interval),
            entries: Vec::new(),
            problems: Vec::new(),
        }
    }

    /// How long a probe waits for its answer, below the interval; a second, or half the interval, unless set.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.settings.timeout = Some(timeout);
        self
    }

    /// Value of `dev_ping` for a device that is down, in milliseconds; the timeout unless set.
    pub fn value_dev_down(mut self, milliseconds: f64) -> Self {
        self.settings.value_dev_down = Some(milliseconds);
        self
    }

    /// Probes for each device and cycle; 1 unless set.
    pub fn count(mut self, count: u32) -> Self {
        self.settings.count = count;
        self
    }

    /// Time between two probes of one device within a cycle; a second unless set.
    pub fn probe_interval(mut self, interval: Duration) -> Self {
        self.settings.probe_interval = interval;
        self
    }

    /// Most addresses that one subnet or range may stand for; 65,536 unless set.
    pub fn max_targets(mut self, most: u32) -> Self {
        self.settings.max_targets = most;
        self
    }

    /// Probes a second that all devices of the group may cause together; the scrapers choose unless set.
    pub fn rate(mut self, rate: f64) -> Self {
        self.pacer().rate = Some(rate);
        self
    }

    /// Probes that may leave back to back; the scrapers choose unless set.
    pub fn burst(mut self, burst: u32) -> Self {
        self.pacer().burst = Some(burst);
        self
    }

    fn pacer(&mut self) -> &mut PacerSettings {
        self.settings.pacer.get_or_insert(PacerSettings {
            rate: None,
            burst: None,
        })
    }

    /// Adds a label to every device of the group.
    pub fn label(mut self, name: impl Into<Arc<str>>, value: impl Into<Arc<str>>) -> Self {
        self.settings.labels = self.settings.labels.overlaid([(name, value)]);
        self
    }

    /// Measures devices that say nothing else with the scraper `name`; `own` are its own settings, `null` for none. May be
    /// called for several scrapers. `ping` unless set.
    pub fn scraper(mut self, name: impl Into<Arc<str>>, own: Value) -> Self {
        self.settings
            .metrics
            .get_or_insert_default()
            .push(name, own);
        self
    }

    /// Leaves out an address, a subnet, a range or a host name.
    pub fn exclude(mut self, text: &str) -> Self {
        match parse_exclusion(text) {
            Ok(exclusion) => self.settings.exclude.push(exclusion),
            Err(error) => self.refuse(error),
        }
        self
    }

    fn refuse(&mut self, error: TargetError) {
        self.problems
            .push(Problem::error(error.message).hint(error.hint));
    }

    /// Adds a device by its name and its address: IPv4, IPv6, a host name, a subnet or a range, as in files.
    pub fn device(mut self, name: impl Into<String>, address: impl ToString) -> Self {
        match DeviceEntry::new(name, address) {
            Ok(entry) => self.entries.push(entry),
            Err(error) => self.refuse(error),
        }
        self
    }

    /// Adds a device, or several that are alike, with settings of their own.
    pub fn entry(mut self, entry: DeviceEntry) -> Self {
        self.entries.push(entry);
        self
    }

    /// Checks everything and expands subnets and ranges. What is only risky, or without effect, is in
    /// [`Group::warnings`].
    ///
    /// # Errors
    /// Every problem: values out of bounds, labels and addresses that are not allowed, the same device twice.
    pub fn build(self) -> Result<Group, Diagnostics> {
        let mut problems = Problems::default();
        problems.extend(self.problems);
        let settings = self.settings;
        settings.check(&Bounds::NONE, &mut problems);
        let origin = format!("group {:?}", settings.prom_id);
        let common = settings.common(&mut problems);
        let mut devices = DeviceList::new(
            settings.max_targets.into(),
            settings.exclude.iter().cloned().collect(),
        );
        if let Some(common) = &common {
            for (index, entry) in self.entries.iter().enumerate() {
                expand(entry, &settings, common, &mut devices, index, &mut problems);
            }
        }
        let Some(common) = common.filter(|_| !problems.has_errors()) else {
            return Err(told(&origin, problems));
        };
        let mut group = Group {
            file: None,
            settings,
            common,
            devices: devices.into_devices(),
            warnings: Diagnostics::default(),
        };
        if let Some((message, hint)) = group.slow_pacer() {
            problems.warn(message, hint);
        }
        group.warnings = told(&origin, problems);
        Ok(group)
    }
}

impl GroupSettings {
    /// The defaults, for a group of that name and interval.
    #[must_use]
    pub fn new(prom_id: String, interval: Duration) -> Self {
        let written = serde_json::json!({"prom_id": "x", "interval": 1});
        let mut settings: Self =
            crate::settings::decode(&written).expect("two keys are required, and both are there");
        settings.prom_id = prom_id;
        settings.interval = interval;
        settings
    }
}

impl DeviceEntry {
    /// A device, or several that are alike: its name, where `{ip}` stands for the address, and its address: IPv4, IPv6, a
    /// host name, a subnet or a range.
    ///
    /// # Errors
    /// [`TargetError`] when the address is none of these.
    pub fn new(name: impl Into<String>, address: impl ToString) -> Result<Self, TargetError> {
        let mut entry: Self = crate::settings::decode(&serde_json::json!({}))
            .expect("no key of a device is required by itself");
        entry.job = Some(name.into());
        entry.ip = Some(parse_target(&address.to_string())?);
        Ok(entry)
    }

    /// Adds a label.
    #[must_use]
    pub fn label(mut self, name: impl Into<Arc<str>>, value: impl Into<Arc<str>>) -> Self {
        self.labels = self.labels.overlaid([(name, value)]);
        self
    }

    /// Measures with the scraper `name`, instead of what the group says; `own` are its own settings, `null` for none. May
    /// be called for several scrapers.
    #[must_use]
    pub fn scraper(mut self, name: impl Into<Arc<str>>, own: Value) -> Self {
        self.metrics.get_or_insert_default().push(name, own);
        self
    }

    /// How long a probe waits for its answer, instead of what the group says.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Probes in each cycle, instead of what the group says.
    #[must_use]
    pub fn count(mut self, count: u32) -> Self {
        self.count = Some(count);
        self
    }

    /// Time between two of these probes, instead of what the group says.
    #[must_use]
    pub fn probe_interval(mut self, interval: Duration) -> Self {
        self.probe_interval = Some(interval);
        self
    }

    /// Which addresses of a host name to measure.
    #[must_use]
    pub fn family(mut self, family: FamilyChoice) -> Self {
        self.family = Some(family);
        self
    }
}

impl Config {
    /// Problems that show only when all groups are seen together: a name used twice.
    #[must_use]
    pub fn duplicate_groups(&self) -> Diagnostics {
        let mut seen = std::collections::HashSet::new();
        let twice = self
            .groups
            .iter()
            .filter(|group| !seen.insert(group.name()));
        twice
            .map(|group| {
                let message = format!("the name {:?} is used by two groups", group.name());
                let hint = "each group needs a name of its own".to_owned();
                Diagnostic::named(Severity::Error, &group.origin(), message, Some(hint))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests;
