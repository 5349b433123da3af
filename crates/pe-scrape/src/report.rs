//! What a finished cycle hands on.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::Frame;

/// The value of `job` that the agent's own metrics leave with. No group may have it as its name.
pub const AGENT_JOB: &str = "pingexporter";

/// The results of one cycle of one group. Shared with sinks as an `Arc`, never changed.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct CycleReport {
    /// The group's name, its `prom_id`; [`AGENT_JOB`] for the agent's own metrics.
    pub group: Arc<str>,
    /// Whether this is the agent itself: no devices, and in [`exporter`](Self::exporter) the metrics of engine, scrapers,
    /// sinks and process, with labels. They leave with `job="pingexporter"` and the label `instance`.
    pub is_agent: bool,
    /// Whether nothing was measured for so long that the group's results are withheld: there are no frames, and all devices
    /// are unknown. `tick` and `started` are those of the latest cycle that had results. What was handed on before is to be
    /// withdrawn where a peer keeps it.
    pub is_stale: bool,
    /// How many cycles of this group were started before this one, skipped ones included. Results of a scraper that is
    /// slower than the interval come in a report of their own, with the number and time of the cycle in which it began,
    /// perhaps after reports of later cycles.
    pub tick: u64,
    /// When the cycle started: the time of all frames in [`devices`](Self::devices).
    pub started: SystemTime,
    /// From the start of the cycle to its last result.
    pub duration: Duration,
    /// How many devices the group has.
    pub device_count: usize,
    /// How many of them are up, down or unknown.
    pub states: DeviceStates,
    /// The devices' series, with the labels `device` and `ip`: a frame for each scraper that has results of this cycle, and
    /// those that scrapers learned while they ran. This is what a sink that keeps a history takes.
    pub devices: Vec<Arc<Frame>>,
    /// Series of the devices' own, of this cycle and of scrapers that have none of this cycle; those of this cycle have the time
    /// [`started`](Self::started). Their labels, `device` among them, may be the devices' own too.
    pub passed_on: Vec<Arc<Frame>>,
    /// The latest frames of scrapers that have none of this cycle, each with the time at which it was measured. They were in
    /// [`devices`](Self::devices) of another report of the group. A sink that shows the latest state takes
    /// [`frames`](Self::frames).
    pub kept: Vec<Arc<Frame>>,
    /// The cycle's own metrics: `exporter_duration`, `exporter_jobs`, `pingexporter_devices` and `pingexporter_cycle_*`,
    /// without labels that say whose they are.
    pub exporter: Vec<Frame>,
}

/// How many devices are in which state, each device counted once.
///
/// A device is up when one of its scrapers says so, down when one says so and none says that it is up, and unknown
/// otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct DeviceStates {
    /// Answered.
    pub up: usize,
    /// Asked in vain.
    pub down: usize,
    /// Could not be asked, or was not yet.
    pub unknown: usize,
}

impl DeviceStates {
    /// Counts the states of devices: `Some(true)` for up, `Some(false)` for down, `None` for unknown.
    #[must_use]
    pub fn count(states: impl IntoIterator<Item = Option<bool>>) -> Self {
        let mut counts = Self::default();
        for state in states {
            match state {
                Some(true) => counts.up += 1,
                Some(false) => counts.down += 1,
                None => counts.unknown += 1,
            }
        }
        counts
    }
}

impl CycleReport {
    /// A report without results, to be filled in.
    #[must_use]
    pub fn new(group: impl Into<Arc<str>>, tick: u64, started: SystemTime) -> Self {
        Self {
            group: group.into(),
            is_agent: false,
            is_stale: false,
            tick,
            started,
            duration: Duration::ZERO,
            device_count: 0,
            states: DeviceStates::default(),
            devices: Vec::new(),
            passed_on: Vec::new(),
            kept: Vec::new(),
            exporter: Vec::new(),
        }
    }

    /// The latest frames of all scrapers of the group: those of this cycle and those that are kept.
    pub fn frames(&self) -> impl Iterator<Item = &Arc<Frame>> {
        self.devices.iter().chain(&self.kept)
    }

    /// The series of devices' own that are of this cycle.
    pub fn passed_on_now(&self) -> impl Iterator<Item = &Arc<Frame>> {
        let of_now = |frame: &&Arc<Frame>| frame.time() == self.started;
        self.passed_on.iter().filter(of_now)
    }

    /// The latest value of a gauge or counter of a device, by name: the first one where several series have it.
    #[must_use]
    pub fn value(&self, device: &str, metric: &str) -> Option<f64> {
        self.frames().find_map(|frame| {
            frame.columns().metric(metric)?;
            let mut rows = frame.rows().iter().enumerate();
            rows.find_map(|(row, labels)| {
                let found = labels.get("device") == Some(device);
                found.then(|| frame.value(row, metric)).flatten()
            })
        })
    }
}
