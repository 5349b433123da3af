//! Which series have ended, and the markers that say so. No I/O; takes every time as an argument.
//!
//! A series lives from its first sample until a marker. A marker is written
//!
//! - where a metric of a device is absent that was there before, with the time of the cycle in which it is missing;
//! - where a device, a scraper or a group is gone;
//! - for everything at the end of the agent.
//!
//! A row without any value may follow in a second frame of the same time, since an engine publishes what is done at a tick and the
//! rest when it is. Its markers wait until the next frame of another time. What a second frame repeats of the first is left out.
//!
//! Source: <https://prometheus.io/docs/specs/prw/remote_write_spec/#stale-markers>.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;
use std::sync::Arc;

use pe_scrape::{ABSENT, CycleReport, LabelSet, is_absent};

use super::blocks::{ReportBlocks, Shape, Shaped};
use crate::clocks::{Now, wall_ms};
use crate::{SampleBlock, SampleColumns, SampleTime};

/// The value that ends a series.
pub(crate) const STALE: f64 = f64::from_bits(0x7ff0_0000_0000_0002);

/// Whether a value ends its series.
pub(crate) fn is_stale(value: f64) -> bool {
    value.to_bits() == STALE.to_bits()
}

/// The living series of all groups.
#[derive(Debug, Default, Clone)]
pub(crate) struct StaleTracker {
    groups: HashMap<Arc<str>, Living>,
}

/// The living series of a group, by shape.
#[derive(Debug, Default, Clone)]
struct Living {
    shapes: HashMap<usize, LivingShape>,
}

/// A shape that was not there before.
struct Arrived {
    shape: Arc<Shape>,
    /// Whether a frame of it came, or it only stands.
    has_values: bool,
}

#[derive(Debug, Clone)]
struct LivingShape {
    shape: Arc<Shape>,
    /// The time of the latest frame.
    time: SampleTime,
    /// Cells, row by row: those that live, and those that were written with `time`.
    living: Bits,
    written: Bits,
    is_of_earlier_run: bool,
    /// Rows that were without any value in the latest frame, though some of their cells live.
    pending: Vec<u32>,
}

impl StaleTracker {
    /// The blocks of a report with the markers that it calls for, in the order in which they are to be sent.
    pub(crate) fn track(
        &mut self,
        report: &CycleReport,
        blocks: ReportBlocks,
        now: Now,
    ) -> Vec<SampleBlock> {
        let group = self.groups.entry(report.group.clone()).or_default();
        let mut out = Vec::with_capacity(blocks.fresh.len());
        let fresh = blocks.fresh.iter().map(|shaped| &shaped.shape);
        let standing: HashSet<usize> = fresh.chain(&blocks.kept).map(id).collect();
        let fresh = blocks.fresh.iter().map(|shaped| (&shaped.shape, true));
        let kept = blocks.kept.iter().map(|shape| (shape, false));
        let arrived: Vec<Arrived> = fresh
            .chain(kept)
            .filter(|(shape, _)| !group.shapes.contains_key(&id(shape)))
            .map(|(shape, has_values)| Arrived {
                shape: shape.clone(),
                has_values,
            })
            .collect();
        for shaped in blocks.fresh {
            group.add(shaped, &mut out);
        }
        let gone: Vec<usize> = group
            .shapes
            .keys()
            .filter(|id| !standing.contains(id))
            .copied()
            .collect();
        if !gone.is_empty() {
            let started = SampleTime {
                wall_ms: wall_ms(report.started),
                ..now.time()
            };
            group.replace(&gone, &arrived, [started, now.time()], &mut out);
        }
        out
    }

    /// Ends all series of groups that are not wanted.
    pub(crate) fn retain(
        &mut self,
        is_wanted: impl Fn(&str) -> bool,
        now: Now,
    ) -> Vec<SampleBlock> {
        let gone: Vec<Arc<str>> = self
            .groups
            .keys()
            .filter(|group| !is_wanted(group))
            .cloned()
            .collect();
        let gone = gone.iter().filter_map(|group| self.groups.remove(group));
        gone.flat_map(|group| group.end(now)).collect()
    }

    /// Ends all series, at the end of the agent.
    pub(crate) fn end(&mut self, now: Now) -> Vec<SampleBlock> {
        let groups = std::mem::take(&mut self.groups).into_values();
        groups.flat_map(|group| group.end(now)).collect()
    }

    /// The markers that would end all series, which live on: for a receiver that gets no more of them.
    pub(crate) fn farewell(&self, now: Now) -> Vec<SampleBlock> {
        self.clone().end(now)
    }

    /// Takes over what an earlier run left: the latest blocks of its series. Those that do not go on get markers a millisecond
    /// after their last samples.
    pub(crate) fn adopt(&mut self, blocks: Vec<SampleBlock>) {
        for block in blocks {
            let Some(group) = block.rows.first().and_then(|row| row.get("job")) else {
                continue;
            };
            let group = self.groups.entry(group.into()).or_default();
            let is_known = |former: &LivingShape| {
                former.shape.metrics == block.metrics && former.shape.rows == block.rows
            };
            if group.shapes.values().any(is_known) {
                continue;
            }
            let width = block.metrics.len();
            let shape = Arc::new(Shape::of(&block));
            let mut former = LivingShape::new(shape.clone(), block.time);
            former.time = block.time;
            former.is_of_earlier_run = true;
            for (column, values) in block.columns.iter().enumerate() {
                for (row, value) in values.iter().enumerate() {
                    if !is_absent(*value) && !is_stale(*value) {
                        former.living.set(row * width + column);
                    }
                }
            }
            group.shapes.insert(id(&shape), former);
        }
    }
}

impl Living {
    /// Takes in a frame, and writes its block with markers.
    fn add(&mut self, shaped: Shaped, out: &mut Vec<SampleBlock>) {
        let Shaped { shape, mut block } = shaped;
        let width = shape.metrics.len();
        let this = self
            .shapes
            .entry(id(&shape))
            .or_insert_with(|| LivingShape::new(shape, block.time));
        let is_second = this.time.wall_ms == block.time.wall_ms;
        if !is_second {
            out.extend(this.end_pending());
            this.written.clear();
            this.time = block.time;
        }
        this.pending.clear();
        let mut is_anything = false;
        for row in 0..block.rows.len() {
            let is_empty = block.columns.iter().all(|column| is_absent(column[row]));
            let first = row * width;
            if is_empty && !is_second {
                if this.living.any(first..first + width) {
                    this.pending.push(row as u32);
                }
                continue;
            }
            for (column, values) in block.columns.iter_mut().enumerate() {
                let (cell, value) = (first + column, &mut values[row]);
                if this.written.get(cell) {
                    *value = ABSENT;
                    continue;
                }
                if !is_absent(*value) {
                    this.living.set(cell);
                } else if this.living.get(cell) {
                    *value = STALE;
                    this.living.unset(cell);
                } else {
                    continue;
                }
                this.written.set(cell);
                is_anything = true;
            }
        }
        if is_anything {
            out.push(block);
        }
    }

    /// Ends the series of shapes that are gone, unless one of those that arrived has them. `times` are those at which they are
    /// missed: the first that is later than the last sample counts.
    fn replace(
        &mut self,
        gone: &[usize],
        arrived: &[Arrived],
        times: [SampleTime; 2],
        out: &mut Vec<SampleBlock>,
    ) {
        let mut rows: HashMap<u64, Vec<(usize, usize)>> = HashMap::new();
        for (index, arrived) in arrived.iter().enumerate() {
            for (row, labels) in arrived.shape.rows.iter().enumerate() {
                rows.entry(hash(labels)).or_default().push((index, row));
            }
        }
        for gone in gone {
            let Some(mut former) = self.shapes.remove(gone) else {
                continue;
            };
            out.extend(former.end_pending());
            // Only for those that have a row in common: there may be as many shapes as there are devices.
            let mut columns: HashMap<usize, Vec<Option<usize>>> = HashMap::new();
            let width = former.shape.metrics.len();
            for row in 0..former.shape.rows.len() {
                let labels = &former.shape.rows[row];
                let found = rows.get(&hash(labels)).map_or(&[][..], Vec::as_slice);
                for &(index, new_row) in found {
                    let shape = &arrived[index].shape;
                    if shape.rows[new_row] != *labels {
                        continue;
                    }
                    let new = self
                        .shapes
                        .entry(id(shape))
                        .or_insert_with(|| LivingShape::new(shape.clone(), former.time));
                    let new_first = new_row * shape.metrics.len();
                    let columns = columns
                        .entry(index)
                        .or_insert_with(|| matching(&former.shape, shape));
                    for (column, new_column) in columns.iter().enumerate() {
                        let cell = row * width + column;
                        let Some(new_column) = new_column else {
                            continue;
                        };
                        if !former.living.get(cell) {
                            continue;
                        }
                        let new_cell = new_first + new_column;
                        if !arrived[index].has_values {
                            new.living.set(new_cell);
                        }
                        if new.living.get(new_cell) {
                            former.living.unset(cell);
                        }
                    }
                }
            }
            out.extend(former.end(times));
        }
    }

    fn end(self, now: Now) -> Vec<SampleBlock> {
        let shapes = self.shapes.into_values();
        let mut ended: Vec<SampleBlock> = shapes
            .flat_map(|mut shape| {
                let pending = shape.end_pending();
                pending.into_iter().chain(shape.end([now.time(); 2]))
            })
            .collect();
        ended.sort_by_key(|block| block.time.wall_ms);
        ended
    }
}

impl LivingShape {
    fn new(shape: Arc<Shape>, time: SampleTime) -> Self {
        let cells = shape.rows.len() * shape.metrics.len();
        Self {
            shape,
            time: SampleTime {
                wall_ms: i64::MIN,
                ..time
            },
            living: Bits::new(cells),
            written: Bits::new(cells),
            is_of_earlier_run: false,
            pending: Vec::new(),
        }
    }

    /// Ends the living cells of rows that came without any value, at the time at which they did.
    fn end_pending(&mut self) -> Option<SampleBlock> {
        let pending = std::mem::take(&mut self.pending);
        let rows = pending.into_iter().map(|row| row as usize);
        self.markers(rows, self.time)
    }

    /// Ends all living cells, at the first of `times` that is later than the last sample.
    fn end(&mut self, times: [SampleTime; 2]) -> Option<SampleBlock> {
        let last = self.time.wall_ms;
        let mut later = times.into_iter().filter(|_| !self.is_of_earlier_run);
        let later = later.find(|time| time.wall_ms > last);
        let time = later.unwrap_or(SampleTime {
            wall_ms: last.saturating_add(1),
            ..if self.is_of_earlier_run {
                self.time
            } else {
                times[1]
            }
        });
        self.markers(0..self.shape.rows.len(), time)
    }

    fn markers(
        &mut self,
        rows: impl Iterator<Item = usize>,
        time: SampleTime,
    ) -> Option<SampleBlock> {
        let width = self.shape.metrics.len();
        let mut block: Option<SampleBlock> = None;
        for row in rows {
            for column in 0..width {
                let cell = row * width + column;
                if !self.living.get(cell) {
                    continue;
                }
                self.living.unset(cell);
                let shape = &self.shape;
                let block = block.get_or_insert_with(|| SampleBlock {
                    time,
                    metrics: shape.metrics.clone(),
                    rows: shape.rows.clone(),
                    columns: SampleColumns::filled(shape.rows.len(), width, ABSENT),
                    natives: Vec::new(),
                });
                block.columns[column][row] = STALE;
            }
        }
        block
    }
}

/// For each metric of `former`, where it is in `new`.
fn matching(former: &Shape, new: &Shape) -> Vec<Option<usize>> {
    let at: HashMap<(&str, &LabelSet), usize> = new
        .metrics
        .iter()
        .enumerate()
        .map(|(index, metric)| ((&*metric.name, &metric.labels), index))
        .collect();
    let former = former.metrics.iter();
    former
        .map(|metric| at.get(&(&*metric.name, &metric.labels)).copied())
        .collect()
}

fn id(shape: &Arc<Shape>) -> usize {
    Arc::as_ptr(shape).addr()
}

fn hash(labels: &LabelSet) -> u64 {
    let mut hasher = DefaultHasher::new();
    labels.hash(&mut hasher);
    hasher.finish()
}

/// A set of cells.
#[derive(Debug, Clone)]
struct Bits(Vec<u64>);

impl Bits {
    fn new(cells: usize) -> Self {
        Self(vec![0; cells.div_ceil(64)])
    }

    fn get(&self, cell: usize) -> bool {
        self.0[cell / 64] & (1 << (cell % 64)) != 0
    }

    fn set(&mut self, cell: usize) {
        self.0[cell / 64] |= 1 << (cell % 64);
    }

    fn unset(&mut self, cell: usize) {
        self.0[cell / 64] &= !(1 << (cell % 64));
    }

    fn any(&self, mut cells: Range<usize>) -> bool {
        cells.any(|cell| self.get(cell))
    }

    fn clear(&mut self) {
        self.0.fill(0);
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use pe_scrape::{Frame, FrameBuilder, Labels, MetricDescriptor};

    use super::*;
    use crate::remote_write::blocks::BlockMaker;
    use crate::remote_write::selection::Selection;
    use crate::remote_write::testing::{now, report, series};

    struct Agent {
        maker: BlockMaker,
        tracker: StaleTracker,
    }

    impl Agent {
        fn new() -> Self {
            Self {
                maker: BlockMaker::new(Labels::default(), "host", Selection::default()),
                tracker: StaleTracker::default(),
            }
        }

        /// What is sent of a cycle at a second: `metric device value@second`.
        fn cycle(&mut self, second: u64, fresh: &[&Frame], kept: &[&Frame]) -> Vec<String> {
            let frames = fresh.iter().map(|frame| (*frame).clone());
            let mut report = report("plant", frames);
            report.kept = kept
                .iter()
                .map(|frame| Arc::new((*frame).clone()))
                .collect();
            report.started = UNIX_EPOCH + Duration::from_secs(second);
            report.tick = second;
            let now = now(second * 1000 + 400);
            let blocks = self.maker.make(&report, now);
            series(&self.tracker.track(&report, blocks, now))
        }

        fn end(&mut self, second: u64) -> Vec<String> {
            series(&self.tracker.end(now(second * 1000)))
        }
    }

    /// Rows of `(device, rtt, sent)`; NaN is absent.
    fn frame(second: u64, rows: &[(&str, f64, f64)]) -> Frame {
        let columns = [
            MetricDescriptor::gauge("rtt", "RTT"),
            MetricDescriptor::counter("sent_total", "Sent"),
        ];
        let builder = FrameBuilder::new(&columns).unwrap();
        let value = |value: f64| if value.is_nan() { ABSENT } else { value };
        rows.iter()
            .fold(builder, |builder, (device, rtt, sent)| {
                let labels = LabelSet::new([("device", *device)]).unwrap();
                builder.row(labels, &[value(*rtt), value(*sent)])
            })
            .time(UNIX_EPOCH + Duration::from_secs(second))
            .build()
    }

    const NONE: f64 = f64::NAN;

    #[test]
    fn a_metric_that_becomes_absent_gets_a_marker_once() {
        let mut agent = Agent::new();
        let sent = agent.cycle(1, &[&frame(1, &[("a", 0.5, 1.0)])], &[]);
        assert_eq!(sent, ["rtt a 0.5@1000", "sent_total a 1@1000"]);
        let sent = agent.cycle(2, &[&frame(2, &[("a", NONE, 2.0)])], &[]);
        assert_eq!(sent, ["rtt a stale@2000", "sent_total a 2@2000"]);
        let sent = agent.cycle(3, &[&frame(3, &[("a", NONE, 3.0)])], &[]);
        assert_eq!(sent, ["sent_total a 3@3000"]);
        let sent = agent.cycle(4, &[&frame(4, &[("a", 0.5, 4.0)])], &[]);
        assert_eq!(sent, ["rtt a 0.5@4000", "sent_total a 4@4000"]);
    }

    #[test]
    fn a_device_that_is_gone_gets_markers_at_the_cycle_that_misses_it() {
        let mut agent = Agent::new();
        agent.cycle(1, &[&frame(1, &[("a", 0.5, 1.0), ("b", 0.5, 1.0)])], &[]);
        let sent = agent.cycle(2, &[&frame(2, &[("b", 0.7, 2.0)])], &[]);
        assert_eq!(
            sent,
            [
                "rtt b 0.7@2000",
                "sent_total b 2@2000",
                "rtt a stale@2000",
                "sent_total a stale@2000"
            ]
        );
    }

    #[test]
    fn a_reload_that_shows_kept_results_ends_only_devices_that_are_gone() {
        let mut agent = Agent::new();
        agent.cycle(1, &[&frame(1, &[("a", 0.5, 1.0), ("b", 0.5, 1.0)])], &[]);
        // The engine shows what it knows of those that stay, with the time of their cycle.
        let kept = frame(1, &[("b", 0.5, 1.0), ("new", NONE, NONE)]);
        let sent = agent.cycle(1, &[], &[&kept]);
        assert_eq!(sent, ["rtt a stale@1400", "sent_total a stale@1400"]);
        let next = frame(2, &[("b", NONE, 2.0), ("new", 1.0, 1.0)]);
        let sent = agent.cycle(2, &[&next], &[]);
        assert_eq!(
            sent,
            [
                "rtt b stale@2000",
                "sent_total b 2@2000",
                "rtt new 1@2000",
                "sent_total new 1@2000"
            ]
        );
    }

    #[test]
    fn a_metric_that_is_absent_in_the_first_frame_of_a_new_shape_gets_its_marker() {
        let mut agent = Agent::new();
        agent.cycle(1, &[&frame(1, &[("a", 0.5, 1.0)])], &[]);
        let next = frame(2, &[("a", NONE, 2.0), ("b", 0.5, 1.0)]);
        let mut sent = agent.cycle(2, &[&next], &[]);
        sent.sort();
        assert_eq!(
            sent,
            [
                "rtt a stale@2000",
                "rtt b 0.5@2000",
                "sent_total a 2@2000",
                "sent_total b 1@2000"
            ]
        );
    }

    #[test]
    fn a_slow_scraper_is_not_taken_for_gone() {
        let mut agent = Agent::new();
        let slow = frame(1, &[("slow", 0.5, 1.0)]);
        agent.cycle(1, &[&frame(1, &[("a", 0.5, 1.0)]), &slow], &[]);
        let sent = agent.cycle(2, &[&frame(2, &[("a", 0.6, 2.0)])], &[&slow]);
        assert_eq!(sent, ["rtt a 0.6@2000", "sent_total a 2@2000"]);
    }

    #[test]
    fn rows_that_follow_with_the_same_time_are_sent_once_and_not_ended() {
        let mut agent = Agent::new();
        agent.cycle(1, &[&frame(1, &[("a", 0.5, 1.0), ("b", 0.5, 1.0)])], &[]);
        let done = frame(2, &[("a", 0.6, 2.0), ("b", NONE, NONE)]);
        let sent = agent.cycle(2, &[&done], &[]);
        assert_eq!(sent, ["rtt a 0.6@2000", "sent_total a 2@2000"]);
        let all = frame(2, &[("a", 0.6, 2.0), ("b", NONE, 2.0)]);
        let sent = agent.cycle(2, &[&all], &[]);
        assert_eq!(sent, ["rtt b stale@2000", "sent_total b 2@2000"]);
        // A row that never follows ends with the time at which it was missing.
        let sent = agent.cycle(3, &[&frame(3, &[("a", 0.7, 3.0), ("b", NONE, NONE)])], &[]);
        assert_eq!(sent, ["rtt a 0.7@3000", "sent_total a 3@3000"]);
        let sent = agent.cycle(4, &[&frame(4, &[("a", 0.7, 4.0), ("b", NONE, NONE)])], &[]);
        assert_eq!(
            sent,
            [
                "sent_total b stale@3000",
                "rtt a 0.7@4000",
                "sent_total a 4@4000"
            ]
        );
    }

    #[test]
    fn series_of_an_earlier_run_go_on_or_end_just_after_their_last_sample() {
        let mut maker = BlockMaker::new(Labels::default(), "host", Selection::default());
        let mut before = |group: &str, frame: Frame| {
            let made = maker.make(&report(group, [frame]), now(1_000));
            made.fresh[0].block.clone()
        };
        let latest = vec![
            before("plant", frame(1, &[("a", 0.5, 1.0), ("b", STALE, 1.0)])),
            before("gone", frame(1, &[("c", 0.5, 1.0)])),
        ];
        let mut agent = Agent::new();
        agent.tracker.adopt(latest);
        let mut sent = agent.cycle(90, &[&frame(90, &[("a", 0.6, 1.0)])], &[]);
        sent.sort();
        assert_eq!(
            sent,
            [
                "rtt a 0.6@90000",
                "sent_total a 1@90000",
                "sent_total b stale@1001"
            ]
        );
        let ended = agent.tracker.retain(|group| group == "plant", now(91_000));
        assert_eq!(
            series(&ended),
            ["rtt c stale@1001", "sent_total c stale@1001"]
        );
    }

    #[test]
    fn all_series_end_with_the_agent_and_with_their_group() {
        let mut agent = Agent::new();
        agent.cycle(1, &[&frame(1, &[("a", 0.5, 1.0)])], &[]);
        agent.cycle(2, &[&frame(2, &[("a", NONE, 1.0)])], &[]);
        assert_eq!(agent.end(5), ["sent_total a stale@5000"]);
        assert!(agent.end(6).is_empty());
        agent.cycle(7, &[&frame(7, &[("a", 0.5, 1.0)])], &[]);
        let stays = agent.tracker.retain(|group| group == "plant", now(8_000));
        assert!(stays.is_empty());
        // The clock was set back: still later than the last sample.
        let ended = agent.tracker.retain(|_| false, now(3_000));
        assert_eq!(
            series(&ended),
            ["rtt a stale@7001", "sent_total a stale@7001"]
        );
    }
}
