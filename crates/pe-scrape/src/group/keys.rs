//! The keys of a group of devices, and of a device, and which of them every scraper gets: the one place where each is
//! declared.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::time::Duration;

use serde_json::Value;

use super::ScraperList;
use super::check::refuse_agent_name;
use super::spec::{Exclusion, TargetSpec, parse_exclusion, parse_target};
use crate::registry::own_keys;
use crate::settings::{Bounds, Key, Kind, Node, Problems, Setting, View, show_duration};
use crate::{FamilyChoice, Labels};

/// Most probes of a device in a cycle.
pub const MAX_COUNT: f64 = 10_000.0;

/// The time to wait for a reply where nothing else is said, unless half the interval is shorter.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(1);

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

/// Declares what every scraper gets: the value of a key of the group, with that of the device over it where the row ends
/// with `device`. A row has the name of its key.
macro_rules! scraper_settings {
    ($(#[doc = $about:literal])+ pub struct $name:ident { $(
        $(#[doc = $doc:literal])+ $field:ident: $type:ty = $of_group:expr $(, $device:ident)?;
    )+ }) => {
        $(#[doc = $about])+
        #[derive(Clone, PartialEq)]
        #[non_exhaustive]
        pub struct $name {
            $($(#[doc = $doc])+ pub $field: $type,)+
            /// The scraper's own settings as the user wrote them: an object, or `null` for none. They may hold secrets.
            pub own: Value,
        }

        impl $name {
            fn of_group(group: &GroupSettings) -> Self {
                // Gives the closures of the rows their type.
                fn read<T>(group: &GroupSettings, of: impl FnOnce(&GroupSettings) -> T) -> T {
                    of(group)
                }
                Self { $($field: read(group, $of_group),)+ own: Value::Null }
            }

            fn overlay(&mut self, entry: &DeviceEntry) {
                $($(scraper_settings!(@$device self, entry, $field);)?)+
            }

            /// Checks the values by the bounds of their keys, wherever they come from.
            pub(super) fn check(&self, problems: &mut Problems) {
                $(if let Some(key) = key_of(stringify!($field)) {
                    problems.within(key.name, |problems| {
                        Setting::check(&self.$field, &key.bounds, problems);
                    });
                })+
            }

            #[cfg(test)]
            pub(super) const KEYS: &[&str] = &[$(stringify!($field)),+];
        }

        /// By the values in which the devices of a group may differ.
        impl Hash for $name {
            fn hash<H: Hasher>(&self, state: &mut H) {
                $($(scraper_settings!(@hash $device self, $field, state);)?)+
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                // Whole but for values that may be secret, since the engine tells settings apart by it.
                f.debug_struct(stringify!($name))
                    $(.field(stringify!($field), &self.$field))+
                    .field("own", &own_keys(&self.own))
                    .finish()
            }
        }
    };
    (@hash device $of:expr, $field:ident, $state:ident) => {
        $of.$field.hash($state);
    };
    (@device $to:expr, $entry:ident, $field:ident) => {
        if let Some(value) = &$entry.$field {
            $to.$field = value.clone();
        }
    };
}

scraper_settings! {
    /// What a factory is told about the scraper to make: the values of the configuration that hold for all scrapers of a
    /// device, and the scraper's own settings.
    ///
    /// The defaults are those of a group with an interval of a minute.
    pub struct ScraperSettings {
        /// How long to wait for an answer to one probe.
        timeout: Duration = GroupSettings::timeout_or_default, device;
        /// The time from the start of one cycle to the start of the next.
        interval: Duration = |group| group.interval;
        /// What `dev_ping` shows when the device is down, in milliseconds.
        // One division, so that no digits appear that nobody wrote.
        value_dev_down: f64 = |group| group
            .value_dev_down
            .unwrap_or_else(|| group.timeout_or_default().as_micros() as f64 / 1e3);
        /// Whether a device of which nothing could be learned, because this machine could not ask or hear, counts as down. False
        /// unless set.
        unknown_is_down: bool = |group| group.unknown_is_down;
        /// Probes for each device in a cycle.
        count: u32 = |group| group.count, device;
        /// The time between two probes of one device.
        probe_interval: Duration = |group| group.probe_interval, device;
        /// Probes a second that the devices of one cycle may cause together; `None` leaves it to the scraper.
        rate: Option<f64> = |group| group.pacer.as_ref()?.rate;
        /// Probes that may leave back to back; `None` leaves it to the scraper.
        burst: Option<u32> = |group| group.pacer.as_ref()?.burst;
    }
}

/// The row of a key that scrapers get.
pub(super) fn key_of(name: &str) -> Option<&'static Key> {
    let pacer = || PacerSettings::TABLE.key(name);
    GroupSettings::TABLE.key(name).or_else(pacer)
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

impl GroupSettings {
    /// What every scraper of the group gets where a device says nothing else: defaults are filled in, and values that do
    /// not go together are reported.
    pub fn common(&self, problems: &mut Problems) -> Option<ScraperSettings> {
        let common = ScraperSettings::of_group(self);
        refuse_agent_name(&self.prom_id, problems)?;
        refuse_long_timeout(&common, problems)?;
        warn_overrun(&common, "count", problems);
        Some(common)
    }

    fn timeout_or_default(&self) -> Duration {
        let default = || DEFAULT_TIMEOUT.min(self.interval / 2);
        self.timeout.unwrap_or_else(default)
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
        common.overlay(self);
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

pub(super) fn refuse_long_timeout(common: &ScraperSettings, problems: &mut Problems) -> Option<()> {
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
