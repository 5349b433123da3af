//! From reports to sample blocks. No I/O; takes every time as an argument.
//!
//! The labels of a series are put together when its frame is first seen: those of the row, `job`, and the external labels of the
//! agent, sorted, without empty values. Frames that share rows and columns share the result, so that a cycle makes no label.
//! A frame that was built anew with the same content, as the agent's own are, gets the labels of the former one.

use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use pe_scrape::{
    ABSENT, AGENT_JOB, Cell, Columns, CycleReport, Frame, LabelSet, Labels, MetricDescriptor,
    MetricKind, is_absent,
};

use super::selection::{Flat, Selection, Taken, metrics_of, without_others};
use crate::clocks::Now;
use crate::{NativeColumn, SampleBlock, SampleColumns, SampleMetric};

/// The one NaN that stands for a measured NaN; others have a meaning on the wire.
///
/// Source: Prometheus, `model/value`.
const NORMAL_NAN: f64 = f64::from_bits(0x7ff8_0000_0000_0001);

/// Reports in a row without a frame after which its labels are forgotten. A scraper that is slower than its interval is missing
/// from some.
const FORGOTTEN_AFTER: u64 = 64;

/// What the frames of one shape have in common. Two shapes are the same when their pointers are.
#[derive(Debug)]
pub(crate) struct Shape {
    pub(crate) metrics: Arc<[SampleMetric]>,
    pub(crate) rows: Arc<[LabelSet]>,
    /// Which of the flat columns are taken: some rows of them, or all.
    taken: Arc<[Taken]>,
    /// Of the frames: kept so that their addresses stay theirs.
    columns: Arc<Columns>,
    frame_rows: Arc<[LabelSet]>,
}

/// A frame's block and shape.
#[derive(Debug, Clone)]
pub(crate) struct Shaped {
    pub(crate) shape: Arc<Shape>,
    pub(crate) block: SampleBlock,
}

/// A report as blocks.
#[derive(Debug)]
pub(crate) struct ReportBlocks {
    /// What was measured in this cycle, and the cycle's own metrics.
    pub(crate) fresh: Vec<Shaped>,
    /// Shapes of frames that were in another report and still stand.
    pub(crate) kept: Vec<Arc<Shape>>,
}

/// Makes blocks from the reports of one agent.
#[derive(Debug)]
pub(crate) struct BlockMaker {
    external: Labels,
    instance: Arc<str>,
    selection: Selection,
    groups: HashMap<Arc<str>, Shapes>,
    steps: Steps,
}

/// Steps of the wall clock, as two readings of the clocks show them.
#[derive(Debug, Default)]
struct Steps {
    latest: Option<Now>,
    /// When one was noticed, in nanoseconds since boot.
    noticed: Option<u64>,
}

/// Below this two readings are the same clock: it may be slewed, and the clocks are read one after the other.
const SMALLEST_STEP: Duration = Duration::from_millis(20);

/// How late a report may come after its cycle has ended.
const LATEST_REPORT: Duration = Duration::from_secs(10);

impl Steps {
    /// Notes a reading.
    fn note(&mut self, now: Now) {
        if let Some(latest) = self.latest.replace(now) {
            let boot = Duration::from_nanos(now.boot_ns.saturating_sub(latest.boot_ns));
            let expected = latest.wall.checked_add(boot).unwrap_or(latest.wall);
            let ahead = now.wall.duration_since(expected);
            let step = ahead.unwrap_or_else(|behind| behind.duration());
            if step >= SMALLEST_STEP {
                self.noticed = Some(now.boot_ns);
            }
        } else {
            // What was before is not known.
            self.noticed = Some(now.boot_ns);
        }
    }

    /// Whether the clock may have been set since a cycle that took so long began.
    fn are_within(&self, duration: Duration, now: Now) -> bool {
        let reach = u64::try_from((duration + LATEST_REPORT).as_nanos()).unwrap_or(u64::MAX);
        self.noticed
            .is_some_and(|noticed| now.boot_ns.saturating_sub(reach) < noticed)
    }
}

/// The shapes of a group.
#[derive(Debug, Default)]
struct Shapes {
    report: u64,
    by_address: HashMap<(usize, usize), (Arc<Shape>, u64)>,
    by_content: HashMap<u64, Arc<Shape>>,
    /// A shape for each address of columns, whose metrics others share.
    by_columns: HashMap<usize, Arc<Shape>>,
}

impl BlockMaker {
    /// `host` is the agent's `instance` unless an external label says otherwise.
    pub(crate) fn new(external: Labels, host: &str, selection: Selection) -> Self {
        Self {
            instance: instance(&external, host),
            external,
            selection,
            groups: HashMap::new(),
            steps: Steps::default(),
        }
    }

    /// Goes on with other labels and other series, if these are others.
    pub(crate) fn adapt(&mut self, external: &Labels, host: &str, selection: Selection) {
        if self.external != *external || self.selection != selection {
            self.instance = instance(external, host);
            self.external = external.clone();
            self.selection = selection;
            self.groups.clear();
        }
    }

    /// With a reading of the clocks, from before anything is measured.
    pub(crate) fn since(mut self, now: Now) -> Self {
        self.steps.latest = Some(now);
        self
    }

    /// Forgets the labels of groups that are not in force.
    pub(crate) fn retain(&mut self, is_wanted: impl Fn(&str) -> bool) {
        self.groups.retain(|group, _| is_wanted(group));
    }

    /// The blocks of a report that has just ended.
    pub(crate) fn make(&mut self, report: &CycleReport, now: Now) -> ReportBlocks {
        let own = self.labels_of(report);
        self.steps.note(now);
        let may_be_set = self.steps.are_within(report.duration, now);
        if !self.groups.contains_key(&report.group) {
            self.groups.insert(report.group.clone(), Shapes::default());
        }
        let Some(shapes) = self.groups.get_mut(&report.group) else {
            return ReportBlocks {
                fresh: Vec::new(),
                kept: Vec::new(),
            };
        };
        shapes.report += 1;
        let devices = report.devices.iter().chain(report.passed_on_now());
        let fresh = devices
            .map(|frame| &**frame)
            .chain(&report.exporter)
            .filter(|frame| !frame.rows().is_empty())
            .map(|frame| {
                let shape = shapes.shape(frame, &own, &self.selection);
                let time = now.time_of(frame.time(), age(report, frame, now, may_be_set));
                let flat = flatten(frame, self.selection.with_natives, shape.taken.len());
                let (columns, natives) = without_others(&shape.taken, flat);
                let block = SampleBlock {
                    time,
                    metrics: shape.metrics.clone(),
                    rows: shape.rows.clone(),
                    columns,
                    natives,
                };
                Shaped { shape, block }
            })
            .collect();
        let not_now = |frame: &&Arc<Frame>| frame.time() != report.started;
        let kept = report.kept.iter();
        let kept = kept.chain(report.passed_on.iter().filter(not_now));
        let kept = kept.map(|frame| shapes.shape(frame, &own, &self.selection));
        let kept = kept.collect();
        shapes.forget();
        ReportBlocks { fresh, kept }
    }

    /// The labels that all series of a report get.
    fn labels_of(&self, report: &CycleReport) -> Vec<(Arc<str>, Arc<str>)> {
        let external = self.external.iter();
        let mut own: Vec<_> = external
            .filter(|(name, _)| !report.is_agent || &***name != "instance")
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        if report.is_agent {
            own.push(("job".into(), AGENT_JOB.into()));
            own.push(("instance".into(), self.instance.clone()));
        } else {
            own.push(("job".into(), report.group.clone()));
        }
        own
    }
}

/// How long ago a frame was measured. Where the clock may have been set since its cycle began, the cycle's duration, which does not
/// depend on that, goes before a difference of times. It ends with the cycle, and so is short where reports are late; for a frame of
/// an earlier cycle it is short too, and counts only where the difference is longer than this machine has been up.
fn age(report: &CycleReport, frame: &Frame, now: Now, may_be_set: bool) -> Duration {
    let by_wall = now.wall.duration_since(frame.time()).unwrap_or_default();
    let is_possible = by_wall <= Duration::from_nanos(now.boot_ns);
    if may_be_set && (frame.time() == report.started || !is_possible) {
        return report.duration;
    }
    by_wall
}

impl Shapes {
    fn shape(
        &mut self,
        frame: &Frame,
        own: &[(Arc<str>, Arc<str>)],
        selection: &Selection,
    ) -> Arc<Shape> {
        let address = (
            Arc::as_ptr(frame.columns()).addr(),
            frame.rows().as_ptr().addr(),
        );
        if let Some((shape, used)) = self.by_address.get_mut(&address) {
            *used = self.report;
            return shape.clone();
        }
        let content = content(frame);
        let known = self.by_content.get(&content).filter(|shape| {
            *shape.columns == **frame.columns() && *shape.frame_rows == **frame.rows()
        });
        let shape = match known {
            Some(known) => {
                // The former address may belong to somebody else soon: its frame is not held.
                let former = known.address();
                let known = known.clone();
                if let Some((_, used)) = self.by_address.get_mut(&former) {
                    *used = self.report;
                }
                return known;
            }
            None => {
                let like = self.by_columns.get(&address.0);
                let shape = Arc::new(Shape::new(frame, own, selection, like.map(|it| &**it)));
                self.by_columns.insert(address.0, shape.clone());
                shape
            }
        };
        self.by_address
            .insert(address, (shape.clone(), self.report));
        self.by_content.insert(content, shape.clone());
        shape
    }

    fn forget(&mut self) {
        let before = self.by_address.len();
        let report = self.report;
        self.by_address
            .retain(|_, (_, used)| report - *used < FORGOTTEN_AFTER);
        if self.by_address.len() < before {
            let known = &self.by_address;
            self.by_content
                .retain(|_, shape| known.contains_key(&shape.address()));
            self.by_columns
                .retain(|_, shape| known.contains_key(&shape.address()));
        }
    }
}

impl Shape {
    /// `like` is a shape of the same columns.
    fn new(
        frame: &Frame,
        own: &[(Arc<str>, Arc<str>)],
        selection: &Selection,
        like: Option<&Shape>,
    ) -> Self {
        let rows = frame.rows().iter().map(|row| full_labels(row, own));
        let rows: Arc<[LabelSet]> = rows.collect();
        if let Some(like) = like
            && selection.takes_all()
        {
            return Self {
                metrics: like.metrics.clone(),
                rows,
                taken: like.taken.clone(),
                columns: frame.columns().clone(),
                frame_rows: frame.rows().clone(),
            };
        }
        let mut metrics = metrics(frame.columns(), selection.with_natives);
        if frame.is_passed_on() {
            rename_clashes(&mut metrics, own);
        }
        let taken: Arc<[Taken]> = selection.of(&metrics, &rows).into();
        Self {
            metrics: metrics_of(&taken, &metrics),
            rows,
            taken,
            columns: frame.columns().clone(),
            frame_rows: frame.rows().clone(),
        }
    }

    /// The shape of a block that was made before.
    pub(crate) fn of(block: &SampleBlock) -> Self {
        Self {
            metrics: block.metrics.clone(),
            rows: block.rows.clone(),
            taken: Arc::new([]),
            columns: Columns::new(&[]).expect("no column contradicts another"),
            frame_rows: block.rows.clone(),
        }
    }

    fn address(&self) -> (usize, usize) {
        (
            Arc::as_ptr(&self.columns).addr(),
            self.frame_rows.as_ptr().addr(),
        )
    }
}

fn instance(external: &Labels, host: &str) -> Arc<str> {
    external.get("instance").unwrap_or(host).into()
}

fn content(frame: &Frame) -> u64 {
    let mut hasher = DefaultHasher::new();
    for descriptor in frame.columns().descriptors() {
        descriptor.name().hash(&mut hasher);
        for label in descriptor.labels() {
            label.hash(&mut hasher);
        }
    }
    frame.rows().hash(&mut hasher);
    hasher.finish()
}

/// A row's labels with those of the agent, sorted. A name that both have keeps the row's value: the configuration refuses such
/// external labels, and metrics that were learned from a device must not change whose they are.
fn full_labels(row: &LabelSet, own: &[(Arc<str>, Arc<str>)]) -> LabelSet {
    let mut labels: Vec<(Arc<str>, Arc<str>)> = row
        .iter()
        .map(|label| (label.name().into(), label.value().into()))
        .collect();
    for (name, value) in own {
        if row.get(name).is_none() {
            labels.push((name.clone(), value.clone()));
        }
    }
    labels.retain(|(_, value)| !value.is_empty());
    labels.sort();
    LabelSet::new(labels).unwrap_or_else(|_| row.clone())
}

/// Renames the labels of a device's own series that the agent gives too, as Prometheus does: a series has one label of a name.
fn rename_clashes(metrics: &mut [SampleMetric], own: &[(Arc<str>, Arc<str>)]) {
    let clashes = |name: &str| own.iter().any(|(own, _)| **own == *name);
    for metric in metrics {
        if !metric.labels.iter().any(|label| clashes(label.name())) {
            continue;
        }
        let labels = metric.labels.iter().map(|label| {
            let mut name = label.name().to_owned();
            while clashes(&name) || (name != label.name() && metric.labels.get(&name).is_some()) {
                name.insert_str(0, "exported_");
            }
            (Arc::from(name), Arc::from(label.value()))
        });
        let mut labels: Vec<(Arc<str>, Arc<str>)> = labels.collect();
        labels.sort();
        if let Ok(labels) = LabelSet::new(labels) {
            metric.labels = labels;
        }
    }
}

/// The flat columns of a frame's columns.
fn metrics(columns: &Columns, with_natives: bool) -> Vec<SampleMetric> {
    let mut metrics = Vec::new();
    for descriptor in columns
        .descriptors()
        .iter()
        .filter(|descriptor| !descriptor.is_hidden())
    {
        match descriptor.kind() {
            MetricKind::Gauge | MetricKind::Counter | MetricKind::Untyped => {
                metrics.push(metric(descriptor, "", None));
            }
            MetricKind::Summary(spec) => {
                for index in 0..spec.quantiles.len() {
                    let quantile = ("quantile", spec.label(index));
                    metrics.push(metric(descriptor, "", Some(quantile)));
                }
                metrics.push(metric(descriptor, "_sum", None));
                metrics.push(metric(descriptor, "_count", None));
            }
            MetricKind::Histogram(spec) => {
                for index in 0..=spec.bounds.len() {
                    let bound = ("le", spec.label(index));
                    metrics.push(metric(descriptor, "_bucket", Some(bound)));
                }
                metrics.push(metric(descriptor, "_sum", None));
                metrics.push(metric(descriptor, "_count", None));
                if with_natives && spec.native.is_some() {
                    metrics.push(metric(descriptor, "", None));
                }
            }
        }
    }
    metrics
}

fn metric(
    descriptor: &MetricDescriptor,
    suffix: &str,
    part: Option<(&str, Cow<'_, str>)>,
) -> SampleMetric {
    let mut labels: Vec<(Arc<str>, Arc<str>)> = descriptor
        .labels()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| (name.into(), value.into()))
        .collect();
    labels.extend(part.map(|(name, value)| (name.into(), value.into())));
    labels.sort();
    SampleMetric {
        name: format!("{}{suffix}", descriptor.name()).into(),
        labels: LabelSet::new(labels).unwrap_or_default(),
        family: descriptor.name().into(),
        kind: descriptor.kind().as_str(),
        help: descriptor.help().into(),
        unit: descriptor.unit(),
    }
}

/// The values of a frame, column by column.
fn flatten(frame: &Frame, with_natives: bool, width: usize) -> Flat {
    let rows = frame.rows().len();
    let mut columns = SampleColumns::with_capacity(rows, width);
    let mut natives = Vec::new();
    let descriptors = frame.columns().descriptors().iter().enumerate();
    for (index, descriptor) in descriptors.filter(|(_, descriptor)| !descriptor.is_hidden()) {
        match descriptor.kind() {
            MetricKind::Gauge | MetricKind::Counter | MetricKind::Untyped => {
                let cells = (0..rows).map(|row| frame.cell(row, index));
                columns.push(cells.map(|cell| match cell {
                    Some(Cell::Value(value)) => sound(value),
                    _ => ABSENT,
                }));
            }
            MetricKind::Summary(spec) => {
                let first = columns.len();
                columns.push_absent(spec.quantiles.len() + 2);
                let cells = (0..rows).map(|row| frame.cell(row, index));
                for (row, cell) in cells.enumerate() {
                    let Some(Cell::Summary {
                        quantiles,
                        sum,
                        count,
                        ..
                    }) = cell
                    else {
                        continue;
                    };
                    let values = quantiles.iter().copied().chain([sum, count]);
                    for (column, value) in values.enumerate() {
                        columns[first + column][row] = sound(value);
                    }
                }
            }
            MetricKind::Histogram(spec) => {
                let first = columns.len();
                let buckets = spec.bounds.len() + 1;
                columns.push_absent(buckets + 2);
                let cells = (0..rows).map(|row| frame.cell(row, index));
                for (row, cell) in cells.enumerate() {
                    let Some(Cell::Histogram { buckets, sum, .. }) = cell else {
                        continue;
                    };
                    let mut count = 0.0;
                    for (bucket, observed) in buckets.iter().enumerate() {
                        count += observed;
                        columns[first + bucket][row] = count;
                    }
                    columns[first + buckets.len()][row] = sound(sum);
                    columns[first + buckets.len() + 1][row] = count;
                }
                if let Some(layout) = spec.native.filter(|_| with_natives) {
                    let mut native = NativeColumn::new(columns.len(), layout);
                    let cells = (0..rows).map(|row| frame.cell(row, index));
                    let counts = cells.map(|cell| match cell {
                        Some(Cell::Histogram {
                            sum,
                            native: counts,
                            ..
                        }) => native.push(sum, counts),
                        _ => {
                            native.push_none();
                            ABSENT
                        }
                    });
                    columns.push(counts);
                    natives.push(native);
                }
            }
        }
    }
    (columns, natives)
}

/// A value as it may be sent: no NaN that means something else there.
fn sound(value: f64) -> f64 {
    if value.is_nan() && !is_absent(value) {
        NORMAL_NAN
    } else {
        value
    }
}

#[cfg(test)]
mod tests {
    use pe_scrape::{FrameBuilder, HistogramSpec, Table};

    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::remote_write::testing::{labels, now, report};
    use pe_scrape::Filter;

    fn names(block: &SampleBlock, row: usize) -> Vec<String> {
        let row = block.rows[row].iter();
        row.map(|label| format!("{}={}", label.name(), label.value()))
            .collect()
    }

    fn frame(device: &str, value: f64) -> Frame {
        let columns = [MetricDescriptor::gauge("dev_ping", "Ping to device (ms)")];
        FrameBuilder::new(&columns)
            .unwrap()
            .row(
                LabelSet::new([("device", device), ("ip", "10.0.0.1"), ("site", "")]).unwrap(),
                &[value],
            )
            .time(UNIX_EPOCH + Duration::from_millis(5_000))
            .build()
    }

    #[test]
    fn rows_carry_job_and_external_labels_sorted_and_without_empty_values() {
        let external = labels(&[("zone", "b"), ("Area", "north"), ("empty", "")]);
        let mut maker = BlockMaker::new(external, "host", Selection::default());
        let made = maker.make(&report("plant", [frame("router", 2.5)]), now(9_000));
        let [shaped] = &made.fresh[..] else {
            panic!("one frame, one block")
        };
        let block = &shaped.block;
        assert_eq!(
            names(block, 0),
            [
                "Area=north",
                "device=router",
                "ip=10.0.0.1",
                "job=plant",
                "zone=b"
            ]
        );
        assert_eq!(
            (block.time.wall_ms, block.columns.values()),
            (5_000, &[2.5][..])
        );
        assert_eq!(&*block.metrics[0].name, "dev_ping");
    }

    #[test]
    fn the_agents_own_series_have_its_job_and_instance() {
        let own = FrameBuilder::new(&[MetricDescriptor::gauge("pingexporter_x", "X")])
            .unwrap()
            .row(LabelSet::new([("sink", "a")]).unwrap(), &[1.0])
            .build();
        let mut agent = CycleReport::new(AGENT_JOB, 0, UNIX_EPOCH);
        agent.is_agent = true;
        agent.exporter = vec![own];
        let of = |external: &[(&str, &str)]| {
            let mut maker = BlockMaker::new(labels(external), "host", Selection::default());
            let made = maker.make(&agent, now(0));
            names(&made.fresh[0].block, 0)
        };
        assert_eq!(of(&[]), ["instance=host", "job=pingexporter", "sink=a"]);
        assert_eq!(
            of(&[("instance", "north-1")]),
            ["instance=north-1", "job=pingexporter", "sink=a"]
        );
    }

    #[test]
    fn histograms_are_flat_and_cumulative() {
        let mut columns = Columns::builder();
        let spec = HistogramSpec::classic([0.5, 1.0]);
        let h = columns.add(MetricDescriptor::histogram("rtt_seconds", "RTT", spec));
        let table = Table::new(columns.build().unwrap(), 1);
        for value in [0.25, 0.75, 0.75, 8.0] {
            table.row(0).observe(h, value);
        }
        let rows: Arc<[LabelSet]> = [LabelSet::empty()].into();
        let frame = Frame::freeze(&table, rows, UNIX_EPOCH);
        let mut maker = BlockMaker::new(Labels::default(), "host", Selection::default());
        let made = maker.make(&report("plant", [frame]), now(0));
        let block = &made.fresh[0].block;
        let series: Vec<(&str, Option<&str>, f64)> = block
            .metrics
            .iter()
            .zip(&block.columns)
            .map(|(metric, column)| (&*metric.name, metric.labels.get("le"), column[0]))
            .collect();
        assert_eq!(
            series,
            [
                ("rtt_seconds_bucket", Some("0.5"), 1.0),
                ("rtt_seconds_bucket", Some("1"), 3.0),
                ("rtt_seconds_bucket", Some("+Inf"), 4.0),
                ("rtt_seconds_sum", None, 9.75),
                ("rtt_seconds_count", None, 4.0),
            ]
        );
        assert!(block.metrics.iter().all(|m| &*m.family == "rtt_seconds"));
    }

    #[test]
    fn what_the_filter_leaves_out_is_not_there() {
        let mut problems = pe_scrape::settings::Problems::default();
        let filter = |keep: &[&str], drop: &[&str]| {
            let texts = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
            Filter::new(&texts(keep), &texts(drop), &mut problems)
        };
        let columns = [
            MetricDescriptor::gauge("a", ""),
            MetricDescriptor::gauge("b", ""),
        ];
        let row = |device: &str| LabelSet::new([("device", device)]).unwrap();
        let frame = FrameBuilder::new(&columns)
            .unwrap()
            .row(row("x"), &[1.0, 2.0])
            .row(row("y"), &[3.0, 4.0])
            .build();
        let mut filter = filter;
        let mut made = |keep: &[&str], drop: &[&str]| {
            let mut maker = BlockMaker::new(
                Labels::default(),
                "host",
                Selection::new(filter(keep, drop), false),
            );
            let made = maker.make(&report("plant", [frame.clone()]), now(0));
            made.fresh[0].block.clone()
        };
        let names = |block: &SampleBlock| -> Vec<String> {
            block.metrics.iter().map(|it| it.name.to_string()).collect()
        };
        let block = made(&["b"], &[]);
        assert_eq!(
            (names(&block), block.columns.values()),
            (vec!["b".to_owned()], &[2.0, 4.0][..])
        );
        let block = made(&[], &["a{device=x,job=plant}"]);
        assert_eq!(names(&block), ["a", "b"]);
        assert!(is_absent(block.columns[0][0]) && block.columns[0][1] == 3.0);
        assert!(made(&[], &["*"]).metrics.is_empty());
    }

    #[test]
    fn frames_of_equal_content_share_their_labels() {
        let mut maker = BlockMaker::new(Labels::default(), "host", Selection::default());
        let mut make = |frame: Frame| {
            let made = maker.make(&report("plant", [frame]), now(0));
            made.fresh[0].block.rows.clone()
        };
        let first = make(frame("router", 1.0));
        assert!(Arc::ptr_eq(&first, &make(frame("router", 2.0))));
        for turn in 0..200 {
            make(frame(&format!("other-{turn}"), 1.0));
        }
        assert!(!Arc::ptr_eq(&first, &make(frame("router", 2.0))));
        assert!(maker.groups["plant"].by_content.len() <= FORGOTTEN_AFTER as usize);
    }

    #[test]
    fn a_report_that_comes_late_keeps_its_time_unless_the_clock_was_set() {
        let start = now(1_000);
        let mut maker =
            BlockMaker::new(Labels::default(), "host", Selection::default()).since(start);
        let mut cycle = report("plant", [frame("router", 1.0).at(start.wall)]);
        cycle.started = start.wall;
        cycle.duration = Duration::from_millis(50);
        let made = maker.make(&cycle, now(1_900));
        assert_eq!(made.fresh[0].block.time, start.time());
        // Another group notices a step; the next report may be of a cycle that began before it.
        let mut stepped = now(2_000);
        stepped.wall += Duration::from_secs(400_000);
        maker.make(&report("other", []), stepped);
        stepped.boot_ns += 1_000_000;
        stepped.wall += Duration::from_millis(1);
        let made = maker.make(&cycle, stepped);
        let ago = stepped.boot_ns - made.fresh[0].block.time.boot_ns;
        assert_eq!(ago, 50_000_000);
        // A frame of a cycle before cannot be as old as the clock has it.
        let earlier = frame("router", 1.0).at(start.wall - Duration::from_millis(10));
        cycle.devices = vec![Arc::new(earlier)];
        let made = maker.make(&cycle, stepped);
        let ago = stepped.boot_ns - made.fresh[0].block.time.boot_ns;
        assert_eq!(ago, 50_000_000);
    }

    #[test]
    fn the_time_since_boot_does_not_depend_on_a_step_of_the_wall_clock() {
        let mut maker = BlockMaker::new(Labels::default(), "host", Selection::default());
        let mut cycle = report("plant", [frame("router", f64::NAN)]);
        cycle.started = UNIX_EPOCH + Duration::from_millis(5_000);
        cycle.duration = Duration::from_millis(200);
        // The clock has been set forward by a year meanwhile.
        let made = maker.make(&cycle, now(31_536_000_000));
        let block = &made.fresh[0].block;
        assert_eq!(block.time.wall_ms, 5_000);
        let boot = now(31_536_000_000).boot_ns - block.time.boot_ns;
        assert_eq!(boot, 200_000_000);
        assert_eq!(block.columns[0][0].to_bits(), NORMAL_NAN.to_bits());
    }
}
