//! Which series belong to which group on the gateway. No I/O.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use pe_scrape::exposition::Block;
use pe_scrape::{CycleReport, Frame};

use crate::Grouping;

/// The latest report of every configuration, by `prom_id`.
pub(crate) type Reports = BTreeMap<Arc<str>, Arc<CycleReport>>;

/// The rows of some frames that make up one group.
#[derive(Debug, Default)]
pub(crate) struct Group<'a> {
    /// Rows of device frames; no rows stands for all of them.
    rows: Vec<(&'a Frame, Vec<usize>)>,
    whole: Vec<&'a Frame>,
}

impl Group<'_> {
    pub(crate) fn blocks(&self) -> Vec<Block<'_>> {
        let rows = self
            .rows
            .iter()
            .map(|(frame, rows)| Block::new(frame).rows(rows));
        rows.chain(self.whole.iter().map(|frame| Block::new(frame)))
            .collect()
    }
}

/// The names of all groups that `reports` make up.
pub(crate) fn names(reports: &Reports, grouping: Grouping) -> BTreeSet<String> {
    let mut names: BTreeSet<String> = reports.keys().map(ToString::to_string).collect();
    if grouping == Grouping::Device {
        for frame in reports.values().flat_map(|report| &report.devices) {
            names.extend(
                frame
                    .rows()
                    .iter()
                    .filter_map(|row| row.get("device"))
                    .map(str::to_owned),
            );
        }
    }
    names
}

/// The groups that reports of the configurations `changed` have a part in, complete with what other configurations
/// add to them: a group is replaced as a whole.
///
/// Reports that finished later come first in a group: where two hold the same series, the later one's value stands.
pub(crate) fn changed_groups<'a>(
    reports: &'a Reports,
    changed: &BTreeSet<Arc<str>>,
    grouping: Grouping,
) -> BTreeMap<&'a str, Group<'a>> {
    let mut groups: BTreeMap<&str, Group<'_>> = BTreeMap::new();
    let is_changed = |report: &CycleReport| changed.contains(&report.config);
    for report in reports.values().filter(|report| is_changed(report)) {
        groups.entry(&report.config).or_default();
        if grouping == Grouping::Device {
            for frame in &report.devices {
                for device in frame.rows().iter().filter_map(|row| row.get("device")) {
                    groups.entry(device).or_default();
                }
            }
        }
    }
    let mut newest_first: Vec<&Arc<CycleReport>> = reports.values().collect();
    newest_first.sort_by_key(|report| std::cmp::Reverse(report.started + report.duration));
    for report in newest_first {
        for frame in &report.devices {
            match grouping {
                Grouping::Config => {
                    if let Some(group) = groups.get_mut(&*report.config) {
                        group.whole.push(frame);
                    }
                }
                Grouping::Device => {
                    for (device, rows) in rows_by_device(frame) {
                        if let Some(group) = groups.get_mut(device) {
                            group.rows.push((frame, rows));
                        }
                    }
                }
            }
        }
        if let Some(group) = groups.get_mut(&*report.config) {
            group.whole.extend(&report.exporter);
        }
    }
    groups
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

    fn report(config: &str, age: u64, devices: &[(&str, &str, f64)]) -> Arc<CycleReport> {
        let started = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 - age);
        let mut report = CycleReport::new(config, 0, started);
        let mut frame = FrameBuilder::new(&[MetricDescriptor::gauge("up", "")]).unwrap();
        for (device, ip, value) in devices {
            frame = frame.row(
                LabelSet::new([("device", *device), ("ip", *ip)]).unwrap(),
                &[*value],
            );
        }
        report.devices = vec![Arc::new(frame.build())];
        let jobs = FrameBuilder::new(&[MetricDescriptor::gauge("exporter_jobs", "")]).unwrap();
        report.exporter = vec![jobs.row(LabelSet::empty(), &[devices.len() as f64]).build()];
        Arc::new(report)
    }

    fn reports(all: &[Arc<CycleReport>]) -> Reports {
        all.iter()
            .map(|report| (report.config.clone(), report.clone()))
            .collect()
    }

    fn text(group: &Group<'_>) -> Vec<String> {
        let text = String::from_utf8(encode(&group.blocks(), Format::Text)).unwrap();
        text.lines()
            .filter(|line| !line.starts_with('#'))
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn a_device_group_is_the_union_over_all_configurations() {
        let reports = reports(&[
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
        let changed = BTreeSet::from(["a".into()]);
        let groups = changed_groups(&reports, &changed, Grouping::Device);
        assert_eq!(
            groups.keys().copied().collect::<Vec<_>>(),
            ["a", "own", "shared"]
        );
        // The same series in two configurations is told once, with the newest value.
        assert_eq!(
            text(&groups["shared"]),
            [
                r#"up{device="shared",ip="127.0.0.3"} 0"#,
                r#"up{device="shared",ip="127.0.0.1"} 0.5"#
            ]
        );
        // A device that is named like a configuration shares its group.
        assert_eq!(
            text(&groups["a"]),
            [r#"up{device="a",ip="127.0.0.9"} 1"#, "exporter_jobs 2"]
        );
        assert_eq!(
            names(&reports, Grouping::Device)
                .into_iter()
                .collect::<Vec<_>>(),
            ["a", "b", "own", "shared"]
        );
    }

    #[test]
    fn a_config_group_holds_everything_of_its_configuration() {
        let reports = reports(&[
            report("a", 5, &[("x", "127.0.0.1", 1.0)]),
            report("b", 1, &[("x", "127.0.0.1", 0.0)]),
        ]);
        let changed = BTreeSet::from(["a".into(), "b".into()]);
        let groups = changed_groups(&reports, &changed, Grouping::Config);
        assert_eq!(
            text(&groups["a"]),
            [r#"up{device="x",ip="127.0.0.1"} 1"#, "exporter_jobs 1"]
        );
        assert_eq!(names(&reports, Grouping::Config).len(), 2);
    }
}
