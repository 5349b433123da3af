//! What is known of each device, and what was told of it. No I/O.
//!
//! A device is up, down or unknown as [`UpStates`] has it. The reason is that of the counter `…_errors_total{reason}` that
//! rose most in the cycle of the change. What differs from what was told is to be told; a device that is as it was told again
//! is not. A device that is up from the start is nothing new, nor is one that was never measured. A row whose results come
//! later, in a report of its own, says nothing until then.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use pe_scrape::{Columns, CycleReport, Frame, LabelSet, Metric, MetricKind, UpStates};

/// What a device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum State {
    Down,
    Unknown,
    Up,
}

/// A device that is not as it was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) group: Arc<str>,
    labels: LabelSet,
    pub(super) state: State,
    pub(super) reason: Option<Arc<str>>,
}

impl Change {
    pub(super) fn label(&self, name: &str) -> Option<&str> {
        self.labels.get(name)
    }
}

/// All groups.
#[derive(Debug, Default)]
pub(super) struct States {
    groups: BTreeMap<Arc<str>, Group>,
    /// The words for reasons, in the order in which they are met.
    reasons: Vec<Arc<str>>,
}

#[derive(Debug, Default)]
struct Group {
    devices: Vec<Device>,
    ids: HashMap<u64, usize>,
    rows: Vec<Rows>,
    /// How often each reason was counted for a device; devices without errors are not there.
    errors: HashMap<(u32, u16), f64>,
    /// Devices that are not as they were told.
    pending: BTreeSet<usize>,
}

/// The labels of a frame's rows, and the devices they are of.
type Rows = (Arc<[LabelSet]>, Arc<[usize]>);

#[derive(Debug)]
struct Device {
    labels: LabelSet,
    state: Option<State>,
    reason: Option<u16>,
    told: State,
}

impl States {
    /// Takes a finished cycle in. Results that are withheld say nothing about devices.
    pub(super) fn note(&mut self, report: &CycleReport) {
        if report.is_agent || report.is_stale {
            return;
        }
        let group = self.groups.entry(report.group.clone()).or_default();
        group.arrange(report);
        let mut found = UpStates::new(group.devices.len());
        let mut heard = vec![false; group.devices.len()];
        for frame in report.frames() {
            let (columns, devices) = (frame.columns(), group.rows_of(frame));
            let Some(up) = columns.up() else { continue };
            for (row, &device) in devices.iter().enumerate() {
                let value = frame.get(row, up);
                if value.is_some() || !is_left_out(frame, row) {
                    heard[device] = true;
                    found.note_value(device, columns, value);
                }
            }
        }
        let mut rises = vec![(0.0, None); group.devices.len()];
        for frame in &report.devices {
            group.note_errors(frame, &found, &mut self.reasons, &mut rises);
        }
        group.settle(&found, &rises, &heard);
    }

    /// Forgets all other groups.
    pub(super) fn retain(&mut self, groups: &[Arc<str>]) {
        self.groups.retain(|name, _| groups.contains(name));
    }

    /// How many devices are not as they were told.
    pub(super) fn pending(&self) -> usize {
        self.groups.values().map(|group| group.pending.len()).sum()
    }

    /// The devices that are not as they were told, which counts as told from now on.
    pub(super) fn take(&mut self) -> Vec<Change> {
        let mut changes = Vec::with_capacity(self.pending());
        for (name, group) in &mut self.groups {
            for index in std::mem::take(&mut group.pending) {
                let device = &mut group.devices[index];
                let Some(state) = device.state else {
                    continue;
                };
                device.told = state;
                let reason = device.reason.filter(|_| state != State::Up);
                changes.push(Change {
                    group: name.clone(),
                    labels: device.labels.clone(),
                    state,
                    reason: reason.map(|number| self.reasons[usize::from(number)].clone()),
                });
            }
        }
        changes
    }
}

impl Group {
    fn rows_of(&self, frame: &Frame) -> Arc<[usize]> {
        let known = self
            .rows
            .iter()
            .find(|(labels, _)| Arc::ptr_eq(labels, frame.rows()));
        known.map_or_else(|| Arc::from([]), |(_, devices)| devices.clone())
    }

    /// Knows the devices of the report's frames, and forgets others.
    fn arrange(&mut self, report: &CycleReport) {
        let mut frames = report
            .frames()
            .filter(|frame| frame.columns().up().is_some());
        let is_known = |frame: &Arc<Frame>| {
            let mut rows = self.rows.iter();
            rows.any(|(labels, _)| Arc::ptr_eq(labels, frame.rows()))
        };
        if frames.all(is_known) {
            return;
        }
        let mut former = std::mem::take(self);
        let mut moved: HashMap<u32, u32> = HashMap::new();
        let frames = report
            .frames()
            .filter(|frame| frame.columns().up().is_some());
        for frame in frames {
            let rows = frame.rows().iter().map(|labels| {
                let id = id(labels);
                *self.ids.entry(id).or_insert_with(|| {
                    let index = self.devices.len();
                    let mut device = Device {
                        labels: labels.clone(),
                        state: None,
                        reason: None,
                        told: State::Up,
                    };
                    if let Some(&known) = former.ids.get(&id) {
                        let known_device = &former.devices[known];
                        device.state = known_device.state;
                        device.reason = known_device.reason;
                        device.told = known_device.told;
                        moved.insert(known as u32, index as u32);
                        if former.pending.remove(&known) {
                            self.pending.insert(index);
                        }
                    }
                    self.devices.push(device);
                    index
                })
            });
            let devices: Arc<[usize]> = rows.collect();
            self.rows.push((frame.rows().clone(), devices));
        }
        let errors = former.errors.into_iter();
        self.errors = errors
            .filter_map(|((device, reason), total)| Some(((*moved.get(&device)?, reason), total)))
            .collect();
    }

    /// Finds the reason that rose most for each device: how much, and which.
    fn note_errors(
        &mut self,
        frame: &Frame,
        found: &UpStates,
        reasons: &mut Vec<Arc<str>>,
        rises: &mut [(f64, Option<u16>)],
    ) {
        if frame.columns().up().is_none() {
            return;
        }
        let counters = error_counters(frame.columns(), reasons);
        for (row, &device) in self.rows_of(frame).iter().enumerate() {
            for &(reason, metric) in &counters {
                let Some(total) = frame.get(row, metric) else {
                    continue;
                };
                let known = self.errors.entry((device as u32, reason)).or_default();
                let rise = total - *known;
                *known = total;
                if rise > rises[device].0 && found.counts(device, frame.columns()) {
                    rises[device] = (rise, Some(reason));
                }
            }
        }
    }

    fn settle(&mut self, found: &UpStates, rises: &[(f64, Option<u16>)], heard: &[bool]) {
        let devices = self.devices.iter_mut().zip(rises);
        for (index, (device, (_, reason))) in devices.enumerate() {
            if !heard[index] {
                continue;
            }
            let state = match found.get(index) {
                Some(true) => State::Up,
                Some(false) => State::Down,
                // Not measured yet, rather than in vain.
                None if device.state.is_none() && reason.is_none() => continue,
                None => State::Unknown,
            };
            if device.state != Some(state) || reason.is_some() {
                device.reason = *reason;
            }
            device.state = Some(state);
            match state == device.told {
                true => self.pending.remove(&index),
                false => self.pending.insert(index),
            };
        }
    }
}

/// Whether a row is not in this frame but will be in a later one: without its counters, which one that was measured in vain
/// has.
fn is_left_out(frame: &Frame, row: usize) -> bool {
    let mut counters = frame
        .columns()
        .metrics()
        .filter(|(descriptor, _)| *descriptor.kind() == MetricKind::Counter)
        .peekable();
    counters.peek().is_some() && counters.all(|(_, metric)| frame.get(row, metric).is_none())
}

/// The same for a device whatever its other labels are.
fn id(labels: &LabelSet) -> u64 {
    let mut hasher = DefaultHasher::new();
    ["device", "ip", "family"]
        .map(|name| labels.get(name))
        .hash(&mut hasher);
    hasher.finish()
}

/// The counters of errors with the numbers of their reasons.
fn error_counters(columns: &Columns, reasons: &mut Vec<Arc<str>>) -> Vec<(u16, Metric)> {
    let mut counters = Vec::new();
    for (descriptor, metric) in columns.metrics() {
        let is_counter = *descriptor.kind() == MetricKind::Counter;
        if !is_counter || !descriptor.name().ends_with("_errors_total") {
            continue;
        }
        let mut labels = descriptor.labels();
        let Some((_, word)) = labels.find(|(label, _)| *label == "reason") else {
            continue;
        };
        let known = reasons.iter().position(|reason| **reason == *word);
        let number = known.unwrap_or_else(|| {
            reasons.push(word.into());
            reasons.len() - 1
        });
        if let Ok(number) = u16::try_from(number) {
            counters.push((number, metric));
        }
    }
    counters
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::SystemTime;

    use pe_scrape::{ABSENT, FrameBuilder, MetricDescriptor};

    use super::*;

    /// What a device's cycle gave: up, total of time-outs, total of missing routes.
    pub(in super::super) type Row = (f64, f64, f64);

    pub(in super::super) const UP: Row = (1.0, ABSENT, ABSENT);

    /// The rows of devices `d0`, `d1` … stay the same from report to report, as those of the engine do.
    pub(in super::super) struct Reports {
        group: &'static str,
        rows: Frame,
    }

    fn columns() -> Arc<Columns> {
        let errors = |reason: &'static str| {
            MetricDescriptor::counter("ping_errors_total", "").with_label("reason", reason)
        };
        let descriptors = [
            MetricDescriptor::gauge("ping_up", "").up(),
            errors("timeout"),
            errors("no_route"),
        ];
        Columns::new(&descriptors).unwrap()
    }

    impl Reports {
        pub(in super::super) fn new(group: &'static str, devices: usize) -> Self {
            let mut rows = FrameBuilder::with_columns(columns());
            for device in 0..devices {
                let (name, ip) = (format!("d{device}"), format!("127.0.0.{device}"));
                let labels = LabelSet::new([("device", &*name), ("ip", &*ip)]).unwrap();
                rows = rows.row(labels, &[ABSENT; 3]);
            }
            Self {
                group,
                rows: rows.build(),
            }
        }

        pub(in super::super) fn report(&self, row: impl Fn(usize) -> Row) -> CycleReport {
            let table = pe_scrape::Table::new(columns(), self.rows.rows().len());
            let metrics: Vec<Metric> = table.columns().metrics().map(|(_, m)| m).collect();
            for index in 0..self.rows.rows().len() {
                let (up, timeouts, no_routes) = row(index);
                for (metric, value) in metrics.iter().zip([up, timeouts, no_routes]) {
                    if value.is_finite() {
                        table.row(index).set(*metric, value);
                    }
                }
            }
            let time = SystemTime::UNIX_EPOCH;
            let frame = Frame::freeze(&table, self.rows.rows().clone(), time);
            let mut report = CycleReport::new(self.group, 1, time);
            report.devices.push(Arc::new(frame));
            report
        }
    }

    fn told(states: &mut States) -> Vec<String> {
        let changes = states.take();
        let words = changes.iter().map(|change| {
            let device = change.label("device").unwrap();
            let reason = change.reason.as_deref().unwrap_or("-");
            format!("{device} {:?} {reason}", change.state)
        });
        words.collect()
    }

    const NOTHING: [&str; 0] = [];

    #[test]
    fn a_change_is_told_once_with_its_reason() {
        let (mut states, reports) = (States::default(), Reports::new("g", 3));
        states.note(&reports.report(|_| UP));
        assert_eq!(told(&mut states), NOTHING);
        let bad = |device| [UP, (0.0, 4.0, 1.0), (ABSENT, ABSENT, 1.0)][device];
        for _ in 0..2 {
            states.note(&reports.report(bad));
        }
        assert_eq!(
            told(&mut states),
            ["d1 Down timeout", "d2 Unknown no_route"]
        );
        states.note(&reports.report(bad));
        assert_eq!(told(&mut states), NOTHING);
        states.note(&reports.report(|_| (1.0, 9.0, 9.0)));
        assert_eq!(told(&mut states), ["d1 Up -", "d2 Up -"]);
    }

    #[test]
    fn a_device_that_is_down_from_the_start_is_told_and_one_that_was_never_measured_is_not() {
        let (mut states, reports) = (States::default(), Reports::new("g", 2));
        let rows = [(0.0, 1.0, ABSENT), (ABSENT, ABSENT, ABSENT)];
        states.note(&reports.report(|device| rows[device]));
        assert_eq!(told(&mut states), ["d0 Down timeout"]);
    }

    #[test]
    fn a_device_that_is_back_before_it_was_told_is_not_told() {
        let (mut states, reports) = (States::default(), Reports::new("g", 1));
        states.note(&reports.report(|_| (0.0, 1.0, ABSENT)));
        assert_eq!(states.pending(), 1);
        states.note(&reports.report(|_| (1.0, 1.0, ABSENT)));
        assert_eq!(states.pending(), 0);
    }

    #[test]
    fn a_row_that_comes_with_a_later_report_says_nothing() {
        let (mut states, reports) = (States::default(), Reports::new("g", 3));
        let part = |bad: fn(usize) -> Row, wanted: fn(usize) -> bool| {
            let mut report = reports.report(bad);
            let frame = Frame::clone(&report.devices[0]).only_rows(wanted);
            report.devices = vec![Arc::new(frame)];
            report
        };
        states.note(&reports.report(|row| [UP, UP, (0.0, 1.0, ABSENT)][row]));
        assert_eq!(told(&mut states), ["d2 Down timeout"]);
        states.note(&part(|_| UP, |row| row == 0));
        assert_eq!(told(&mut states), NOTHING);
        // What was measured in vain has its counters.
        states.note(&part(|_| (ABSENT, 1.0, 1.0), |row| row == 1));
        assert_eq!(told(&mut states), ["d1 Unknown timeout"]);
    }

    #[test]
    fn what_was_told_stays_known_over_a_reload() {
        let mut states = States::default();
        let down = |_| (0.0, 5.0, ABSENT);
        states.note(&Reports::new("g", 2).report(down));
        assert_eq!(states.take().len(), 2);
        // The same devices and one more.
        let reports = Reports::new("g", 3);
        states.note(&reports.report(down));
        assert_eq!(told(&mut states), ["d2 Down timeout"]);
        states.retain(&["h".into()]);
        states.note(&reports.report(down));
        assert_eq!(states.take().len(), 3);
    }

    #[test]
    fn withheld_results_and_the_agents_own_say_nothing() {
        let (mut states, reports) = (States::default(), Reports::new("g", 1));
        states.note(&reports.report(|_| UP));
        let mut stale = CycleReport::new("g", 2, SystemTime::UNIX_EPOCH);
        stale.is_stale = true;
        states.note(&stale);
        let mut own = CycleReport::new("pingexporter", 2, SystemTime::UNIX_EPOCH);
        own.is_agent = true;
        states.note(&own);
        assert_eq!(states.pending(), 0);
    }
}
