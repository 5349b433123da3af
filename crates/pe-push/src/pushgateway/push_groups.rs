//! Which series belong to which push group on the gateway. No I/O.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use pe_scrape::exposition::{Block, SeriesFilter, families};
use pe_scrape::{CycleReport, Frame};

use super::Grouping;

/// The latest report of every group of devices, by its name.
pub(super) type Reports = BTreeMap<Arc<str>, Arc<CycleReport>>;

/// What a push group is known by in the agent: its job, and whether it holds the series of devices' own, which have push groups of
/// their own: what a gateway refuses of them then costs nothing that was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Name<'a> {
    pub(super) job: &'a str,
    pub(super) is_passed_on: bool,
}

impl<'a> Name<'a> {
    fn measured(job: &'a str) -> Self {
        Self {
            job,
            is_passed_on: false,
        }
    }

    fn passed_on(job: &'a str) -> Self {
        Self {
            job,
            is_passed_on: true,
        }
    }

    /// The same, to be remembered.
    pub(super) fn owned(&self) -> (String, bool) {
        (self.job.to_owned(), self.is_passed_on)
    }
}

/// The rows of some frames that make up one push group.
#[derive(Debug, Default)]
pub(super) struct PushGroup<'a> {
    rows: Vec<(&'a Frame, Vec<usize>)>,
    whole: Vec<&'a Frame>,
}

impl PushGroup<'_> {
    /// Whether `only` says no to all of its series.
    pub(super) fn is_empty(&self, only: Option<&SeriesFilter<'_>>) -> bool {
        let blocks = self.blocks(only);
        let families = families(&blocks);
        families
            .iter()
            .all(|family| family.series().next().is_none())
    }

    /// The series of the push group that `only` says yes to.
    pub(super) fn blocks<'b>(&'b self, only: Option<&'b SeriesFilter<'b>>) -> Vec<Block<'b>> {
        let rows = self.rows.iter();
        let rows = rows.map(|(frame, rows)| Block::new(frame).rows(rows));
        let blocks = rows.chain(self.whole.iter().map(|frame| Block::new(frame)));
        blocks
            .map(|block| match only {
                Some(only) => block.only(only),
                None => block,
            })
            .collect()
    }
}

/// The names of all push groups that `reports` have a part in.
pub(super) fn names<'a>(
    reports: impl IntoIterator<Item = &'a Arc<CycleReport>>,
    grouping: Grouping,
) -> BTreeSet<Name<'a>> {
    let reports = reports.into_iter();
    reports
        .flat_map(|report| names_of(report, grouping))
        .collect()
}

/// The push groups `due`, each complete with what all reports add to it: a push group is replaced as a whole.
///
/// Reports that finished later come first in a push group: where two hold the same series, the later one's value stands.
pub(super) fn push_groups<'a>(
    reports: &'a Reports,
    due: &BTreeSet<Name<'a>>,
    grouping: Grouping,
) -> BTreeMap<Name<'a>, PushGroup<'a>> {
    let names = due.iter();
    let mut groups: BTreeMap<Name<'_>, PushGroup<'_>> =
        names.map(|name| (*name, PushGroup::default())).collect();
    let mut newest_first: Vec<&Arc<CycleReport>> = reports.values().collect();
    newest_first.sort_by_key(|report| std::cmp::Reverse(report.started + report.duration));
    for report in newest_first {
        match grouping {
            Grouping::Config => {
                if let Some(group) = groups.get_mut(&Name::measured(&report.group)) {
                    group.whole.extend(report.frames().map(|frame| &**frame));
                }
            }
            Grouping::Device => {
                for frame in report.frames() {
                    for (device, rows) in rows_by_device(frame) {
                        if let Some(group) = groups.get_mut(&Name::measured(device)) {
                            group.rows.push((frame, rows));
                        }
                    }
                }
            }
        }
        if let Some(group) = groups.get_mut(&Name::measured(&report.group)) {
            group.whole.extend(&report.exporter);
        }
        if let Some(group) = groups.get_mut(&Name::passed_on(&report.group)) {
            let passed_on = report.passed_on.iter();
            group.whole.extend(passed_on.map(|frame| &**frame));
        }
    }
    groups
}

/// The names of the push groups that a report has a part in, some perhaps more than once.
fn names_of(report: &CycleReport, grouping: Grouping) -> impl Iterator<Item = Name<'_>> {
    let by_device = grouping == Grouping::Device;
    let frames = report.frames().filter(move |_| by_device);
    let devices = frames.flat_map(|frame| frame.rows().iter().filter_map(|row| row.get("device")));
    let measured = std::iter::once(&*report.group).chain(devices);
    let is_any = !report.passed_on.is_empty();
    let passed_on = is_any.then(|| Name::passed_on(&report.group));
    measured.map(Name::measured).chain(passed_on)
}

fn rows_by_device(frame: &Frame) -> HashMap<&str, Vec<usize>> {
    let mut rows: HashMap<&str, Vec<usize>> = HashMap::new();
    for (row, labels) in frame.rows().iter().enumerate() {
        if let Some(device) = labels.get("device") {
            rows.entry(device).or_default().push(row);
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use pe_scrape::exposition::{Format, encode};
    use pe_scrape::{FrameBuilder, LabelSet, MetricDescriptor};

    use super::*;

    fn frame(devices: &[(&str, &str, f64)]) -> Arc<Frame> {
        let frame = FrameBuilder::new(&[MetricDescriptor::gauge("up", "")]).unwrap();
        let frame = devices.iter().fold(frame, |frame, (device, ip, value)| {
            let labels = LabelSet::new([("device", *device), ("ip", *ip)]).unwrap();
            frame.row(labels, &[*value])
        });
        Arc::new(frame.build())
    }

    fn report(group: &str, age: u64, devices: &[(&str, &str, f64)]) -> CycleReport {
        let started = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 - age);
        let mut report = CycleReport::new(group, 0, started);
        report.devices = vec![frame(devices)];
        let jobs = FrameBuilder::new(&[MetricDescriptor::gauge("exporter_jobs", "")]).unwrap();
        report.exporter = vec![jobs.row(LabelSet::empty(), &[devices.len() as f64]).build()];
        report
    }

    fn reports<const N: usize>(all: [CycleReport; N]) -> Reports {
        let all = all.map(|report| (report.group.clone(), Arc::new(report)));
        Reports::from(all)
    }

    fn text(group: &PushGroup<'_>) -> Vec<String> {
        let text = String::from_utf8(encode(&group.blocks(None), Format::Text)).unwrap();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines.map(str::to_owned).collect()
    }

    #[test]
    fn a_push_group_of_a_device_is_the_union_over_all_groups() {
        let reports = reports([
            report(
                "a",
                5,
                &[("shared", "127.0.0.1", 1.0), ("own", "127.0.0.2", 1.0)],
            ),
            report(
                "b",
                1,
                &[
                    ("shared", "127.0.0.3", 0.0),
                    ("shared", "127.0.0.1", 0.5),
                    ("a", "127.0.0.9", 1.0),
                ],
            ),
        ]);
        let due = names([&reports["a"]], Grouping::Device);
        let groups = push_groups(&reports, &due, Grouping::Device);
        let keys: Vec<_> = groups.keys().map(|name| name.job).collect();
        assert_eq!(keys, ["a", "own", "shared"]);
        // The same series in two groups is told once, with the newest value.
        assert_eq!(
            text(&groups[&Name::measured("shared")]),
            [
                r#"up{device="shared",ip="127.0.0.3"} 0"#,
                r#"up{device="shared",ip="127.0.0.1"} 0.5"#
            ]
        );
        // A device that is named like a group shares its push group.
        assert_eq!(
            text(&groups[&Name::measured("a")]),
            [r#"up{device="a",ip="127.0.0.9"} 1"#, "exporter_jobs 2"]
        );
        let names: Vec<_> = super::names(reports.values(), Grouping::Device)
            .into_iter()
            .map(|name| name.job)
            .collect();
        assert_eq!(names, ["a", "b", "own", "shared"]);
    }

    #[test]
    fn grouping_config_keeps_everything_of_a_group_together() {
        let reports = reports([
            report("a", 5, &[("x", "127.0.0.1", 1.0)]),
            report("b", 1, &[("x", "127.0.0.1", 0.0)]),
        ]);
        let due = names(reports.values(), Grouping::Config);
        let groups = push_groups(&reports, &due, Grouping::Config);
        assert_eq!(
            text(&groups[&Name::measured("a")]),
            [r#"up{device="x",ip="127.0.0.1"} 1"#, "exporter_jobs 1"]
        );
        assert_eq!(names(reports.values(), Grouping::Config).len(), 2);
    }

    #[test]
    fn kept_frames_of_slow_scrapers_are_pushed_too() {
        let mut slow = report("a", 1, &[("x", "127.0.0.1", 1.0)]);
        slow.kept = vec![frame(&[("x", "127.0.0.1", 0.0), ("y", "127.0.0.2", 0.5)])];
        let reports = reports([slow]);
        let due = names([&reports["a"]], Grouping::Device);
        let groups = push_groups(&reports, &due, Grouping::Device);
        assert_eq!(
            text(&groups[&Name::measured("x")]),
            [r#"up{device="x",ip="127.0.0.1"} 1"#]
        );
        assert_eq!(
            text(&groups[&Name::measured("y")]),
            [r#"up{device="y",ip="127.0.0.2"} 0.5"#]
        );
        let due = names([&reports["a"]], Grouping::Config);
        let groups = push_groups(&reports, &due, Grouping::Config);
        assert_eq!(text(&groups[&Name::measured("a")]).len(), 3);
    }
}
