//! A lane at work: its batches, and the results of the latest.
//!
//! What always holds:
//! - A row is in one batch at a time: the current one, or one that was left behind with the devices that hang in it.
//! - A row is published by the batch that measured it, with the time at which that batch's cycle started, or not at all.
//! - A frame that goes out is final for the series in it: no other frame has a value of the same series for that time.
//!
//! Starting tasks and publishing reports are left to the [runner](crate::runner).

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use pe_scrape::{
    Batch, Columns, Frame, MetricDescriptor, MetricKind, Pacer, Progress, ScrapeError,
    is_agent_metric, refuse_frame, with_causes,
};
use tokio::task::Id;
use tracing::{debug, error, info, warn};

use crate::episode::{Edge, Episode};
use crate::metrics::GroupMetrics;
use crate::plan::LanePlan;
use crate::schedule::{after, now};
use crate::tick::{BatchState, Blame, GIVE_UP_MARGIN, LaneStep};

/// Frames kept so that their allocation can be used again once no sink reads them.
const SPARE_FRAMES: usize = 3;

/// When a cycle started.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CycleStart {
    pub(crate) tick: u64,
    pub(crate) at: Instant,
    pub(crate) time: SystemTime,
}

/// How a batch's task ended.
#[derive(Debug)]
pub(crate) enum ScrapeEnd {
    /// The scraper returned.
    Finished(Result<(), ScrapeError>),
    /// The scraper panicked, with these words.
    Panicked(String),
    /// It did not return in time, and was stopped.
    Stopped,
}

/// What a lane does, or did, for which group.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LaneContext<'a> {
    pub(crate) group: &'a str,
    pub(crate) metrics: &'a GroupMetrics,
    /// Columns whose names no learned frame may take.
    pub(crate) taken: &'a [Arc<Columns>],
}

/// The state of one scraper of a plan.
pub(crate) struct Lane {
    pub(crate) plan: Arc<LanePlan>,
    current: Option<Running>,
    left: Vec<LeftBehind>,
    results: Option<LaneResults>,
    /// Whether the results have not been in a report yet.
    fresh: bool,
    /// When a device was measured last.
    measured_at: Option<Instant>,
    spare: VecDeque<Arc<Frame>>,
    hanging: Episode,
    failing: Episode,
    panicking: Episode,
}

/// The results of a lane in a cycle.
pub(crate) struct LaneResults {
    pub(crate) cycle: CycleStart,
    /// When they were taken.
    pub(crate) taken: Instant,
    pub(crate) frame: Arc<Frame>,
    /// Frames that the scraper learned, each with the row of its target.
    pub(crate) learned: Vec<(usize, Arc<Frame>)>,
    /// Whether each row was measured in that cycle.
    measured: Vec<bool>,
}

/// A batch, and what has been taken from it.
struct Running {
    task: Id,
    batch: Batch,
    cycle: CycleStart,
    counted: Counted,
    /// Rows that were in the latest frame.
    published: usize,
    learned: Vec<(usize, Arc<Frame>)>,
    /// Learned frames of rows that are not done.
    undecided: Vec<(usize, Frame)>,
    /// Why the first learned frame was refused, with the device.
    refused: Option<String>,
}

/// Errors and panics of a batch that are in the counters.
#[derive(Default)]
struct Counted {
    errors: u64,
    panics: u64,
}

/// A batch in which devices hang.
struct LeftBehind {
    running: Running,
    /// The rows that are in no other batch.
    rows: Vec<usize>,
}

/// Whether more of a batch is to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rest {
    /// The rows that are not done follow, with the same time.
    Follows,
    /// What is not done will never be published.
    Never,
}

/// Which batch of a lane has ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The current one, of this cycle.
    Current(CycleStart),
    /// One that was left behind.
    LeftBehind,
}

impl Lane {
    pub(crate) fn new(plan: Arc<LanePlan>, interval: Duration) -> Self {
        let episode = Episode::new(interval);
        Self {
            plan,
            current: None,
            left: Vec::new(),
            results: None,
            fresh: false,
            measured_at: None,
            spare: VecDeque::new(),
            hanging: episode.clone(),
            failing: episode.clone(),
            panicking: episode,
        }
    }

    /// Whether its current batch runs.
    pub(crate) fn is_busy(&self) -> bool {
        self.current.is_some()
    }

    /// Whether its current batch runs and is of this cycle.
    pub(crate) fn is_busy_in(&self, cycle: CycleStart) -> bool {
        let current = self.current.as_ref();
        current.is_some_and(|running| running.cycle.tick == cycle.tick)
    }

    /// When a device was measured last, by the batches of this plan.
    pub(crate) fn measured_at(&self) -> Option<Instant> {
        self.measured_at
    }

    pub(crate) fn results(&self) -> Option<&LaneResults> {
        self.results.as_ref()
    }

    /// The cycle of results that have not been in a report.
    pub(crate) fn fresh_cycle(&self) -> Option<CycleStart> {
        let results = self.results.as_ref().filter(|_| self.fresh);
        results.map(|results| results.cycle)
    }

    pub(crate) fn is_fresh_in(&self, cycle: CycleStart) -> bool {
        self.fresh_cycle()
            .is_some_and(|fresh| fresh.tick == cycle.tick)
    }

    /// Notes that the results are in a report.
    pub(crate) fn published(&mut self) {
        self.fresh = false;
    }

    /// A batch of all rows that hang in no other one; their gauges are cleared. `None` when there are none.
    pub(crate) fn batch(
        &mut self,
        start: Instant,
        timeout: Duration,
        pacer: Option<&Pacer>,
    ) -> Option<Batch> {
        let plan = &self.plan;
        for left in &mut self.left {
            let progress = left.running.batch.progress();
            left.rows.retain(|row| !progress.is_done(*row));
        }
        let hanging: HashSet<usize> = self
            .left
            .iter()
            .flat_map(|left| left.rows.iter().copied())
            .collect();
        let rows = 0..plan.targets.len();
        let mut batch = Batch::new(
            plan.targets.clone(),
            plan.table.clone(),
            after(start, timeout),
        );
        if !hanging.is_empty() {
            let free = rows.filter(|row| !hanging.contains(row));
            batch = batch.only(free.map(|row| row as u32).collect());
        }
        if batch.is_empty() {
            return None;
        }
        for (row, _) in batch.targets() {
            plan.table.row(row).clear_gauges();
        }
        // Whatever is there was learned by batches that were left behind.
        drop(plan.table.take_learned(|_| false));
        batch.target_timeout = Some(plan.target_timeout());
        batch.pacer = pacer.cloned();
        Some(batch)
    }

    /// Notes that `task` runs the batch.
    pub(crate) fn started(&mut self, task: Id, batch: Batch, cycle: CycleStart) {
        self.current = Some(Running {
            task,
            batch,
            cycle,
            counted: Counted::default(),
            published: 0,
            learned: Vec::new(),
            undecided: Vec::new(),
            refused: None,
        });
    }

    /// Decides what to do at a tick.
    pub(crate) fn step(&self, at: Instant, interval: Duration) -> LaneStep {
        let state = self.current.as_ref().map(|running| {
            let unfinished = running.batch.unfinished().count();
            BatchState {
                done: running.batch.len() - unfinished,
                unfinished,
                all_started: running.batch.all_started(),
                elapsed: at.duration_since(running.cycle.at),
                longest_cycle: self.plan.settings.longest_cycle(),
                is_stuck: at > after(running.batch.deadline, GIVE_UP_MARGIN),
            }
        });
        LaneStep::at_tick(state.as_ref(), interval)
    }

    /// Takes the rows that are done as the results of their cycle, while the others go on.
    pub(crate) fn take_done(&mut self, context: LaneContext<'_>) {
        let done = self.current.as_ref().map_or(0, |running| {
            running.batch.len() - running.batch.unfinished().count()
        });
        let published = self.current.as_ref().map_or(0, |running| running.published);
        if done > published {
            self.take(context, Rest::Follows, Progress::is_done);
        }
    }

    /// Takes the rows that are done as the results of their cycle. The others hang: they go on without being published.
    pub(crate) fn leave_behind(&mut self, context: LaneContext<'_>) {
        self.take(context, Rest::Never, Progress::is_done);
        if let Some(running) = self.current.take() {
            let rows = running.batch.unfinished().collect();
            self.left.push(LeftBehind { running, rows });
        }
    }

    /// Takes in that a task has ended; `None` when it runs no batch of this lane.
    pub(crate) fn ended(
        &mut self,
        task: Id,
        end: &ScrapeEnd,
        context: LaneContext<'_>,
    ) -> Option<Ended> {
        if self
            .current
            .as_ref()
            .is_some_and(|running| running.task == task)
        {
            // A scraper that keeps no account of its rows has written all of them when it returns in time.
            let finished = matches!(end, ScrapeEnd::Finished(Ok(())));
            self.take(context, Rest::Never, |progress, row| {
                progress.is_done(row) || (finished && !progress.overdue())
            });
            let mut running = self.current.take()?;
            self.conclude(&mut running, end, context);
            return Some(Ended::Current(running.cycle));
        }
        let is_it = |left: &LeftBehind| left.running.task == task;
        let mut left = self.left.swap_remove(self.left.iter().position(is_it)?);
        for row in left.rows {
            self.plan.table.row(row).clear_gauges();
        }
        self.conclude(&mut left.running, end, context);
        Some(Ended::LeftBehind)
    }

    /// Freezes the rows of the current batch that are `done`.
    fn take(
        &mut self,
        context: LaneContext<'_>,
        rest: Rest,
        done: impl Fn(&Progress, usize) -> bool,
    ) {
        let Some(running) = &mut self.current else {
            return;
        };
        let plan = &self.plan;
        let mut measured = vec![false; plan.targets.len()];
        for (row, _) in running.batch.targets() {
            measured[row] = done(running.batch.progress(), row);
        }
        running.published = measured.iter().filter(|measured| **measured).count();
        // A device that is down may be told as a failure; a panic tells nothing of it.
        if running.published > running.batch.progress().panics() {
            self.measured_at = Some(now());
        }
        running.learn(plan, &measured, rest, context);
        running.count(plan, context.metrics);

        let buffer = spare_buffer(&mut self.spare, self.results.take());
        let (rows, time) = (plan.rows.clone(), running.cycle.time);
        let mut frame = Frame::freeze_into(&plan.table, rows, time, |row| measured[row], buffer);
        if rest == Rest::Follows {
            frame = frame.only_rows(|row| measured[row]);
        }
        self.results = Some(LaneResults {
            cycle: running.cycle,
            taken: now(),
            frame: Arc::new(frame),
            learned: running.learned.clone(),
            measured,
        });
        self.fresh = true;
    }

    /// Counts what went wrong in a batch that has ended, and tells of it when that is new.
    fn conclude(&mut self, running: &mut Running, end: &ScrapeEnd, context: LaneContext<'_>) {
        let plan = &self.plan;
        running.count(plan, context.metrics);
        let progress = running.batch.progress();
        let failure = match end {
            ScrapeEnd::Finished(Ok(())) => progress.first().or(running.refused.take()),
            ScrapeEnd::Finished(Err(error)) => Some(with_causes(error)),
            ScrapeEnd::Panicked(words) => Some(format!("the scraper panicked: {words}")),
            ScrapeEnd::Stopped => Some("the scraper did not stop at its deadline".to_owned()),
        };
        let failure = failure.or_else(|| {
            let overdue = progress.overdue();
            overdue.then(|| "not all devices were measured before the deadline".to_owned())
        });
        let failed = matches!(end, ScrapeEnd::Finished(Err(_)) | ScrapeEnd::Stopped);
        let panicked = matches!(end, ScrapeEnd::Panicked(_));
        context.metrics.count(
            &plan.name,
            u64::from(failed) + u64::from(progress.overdue()),
            u64::from(panicked),
        );
        let panicked = panicked || progress.panics() > 0;
        let (group, scraper) = (context.group, &*plan.name);
        let error = failure.as_deref().unwrap_or_default();
        let panics = self.panicking.observe(panicked);
        let fails = self.failing.observe(failure.is_some());
        match (panics, fails) {
            (Some(Edge::Begins), _) => error!(group, scraper, error, "a measurement panicked"),
            (_, Some(Edge::Begins)) => {
                warn!(group, scraper, error, "not everything could be measured");
            }
            (_, Some(Edge::Ends)) => info!(group, scraper, "everything can be measured again"),
            _ if failure.is_some() => {
                debug!(group, scraper, error, "not everything could be measured");
            }
            _ => {}
        }
    }

    /// Tells of devices that hang in the scraper, once when that begins and once when it is over. `step` is what was done at
    /// this tick.
    pub(crate) fn tell_hanging(&mut self, step: LaneStep, group: &str) {
        let stuck = self
            .current
            .iter()
            .filter(|_| step == LaneStep::GoOn(Blame::Devices))
            .flat_map(|running| running.batch.unfinished());
        let left = self.left.iter().flat_map(|left| {
            let rows = left.rows.iter().copied();
            rows.filter(|row| !left.running.batch.progress().is_done(*row))
        });
        let mut hanging = left.chain(stuck);
        let first = hanging.next();
        let devices = first.map_or(0, |_| 1 + hanging.count());
        let scraper = &*self.plan.name;
        match (self.hanging.observe(first.is_some()), first) {
            (Some(Edge::Begins), Some(row)) => {
                let device = self.plan.targets[row].device();
                warn!(
                    group,
                    scraper,
                    device,
                    devices,
                    "a device hangs in its scraper; it has no results until that ends"
                );
            }
            (Some(_), _) => info!(group, scraper, "no device hangs in its scraper any more"),
            (None, Some(row)) => {
                let device = self.plan.targets[row].device();
                debug!(
                    group,
                    scraper, device, devices, "a device hangs in its scraper"
                );
            }
            (None, None) => {}
        }
    }

    /// Takes over the counters of the devices that stay, and what is known of them, from the lanes of another plan.
    pub(crate) fn adopt(&mut self, old: &OldLanes<'_>) {
        let plan = self.plan.clone();
        let mut measured = vec![false; plan.targets.len()];
        let mut learned = Vec::new();
        let mut cycle: Option<(CycleStart, Instant)> = None;
        let mut is_continued = false;
        for (row, target) in plan.targets.iter().enumerate() {
            let Some((lane, old_row)) = old.find(&plan, target.identity()) else {
                continue;
            };
            if !is_continued && lane.plan.settings == plan.settings {
                // What was told is not told again, and its end will be.
                is_continued = true;
                self.hanging = lane.hanging.clone();
                self.failing = lane.failing.clone();
                self.panicking = lane.panicking.clone();
            }
            plan.table.adopt_row(row, &lane.plan.table, old_row);
            let results = lane.results.as_ref();
            measured[row] = results.is_some_and(|results| results.measured[old_row]);
            if !measured[row] {
                plan.table.row(row).clear_gauges();
            }
            let Some(results) = results else {
                continue;
            };
            // One frame has one time: that of the oldest values.
            if cycle.is_none_or(|(cycle, _)| results.cycle.time < cycle.time) {
                cycle = Some((results.cycle, results.taken));
            }
            let own = results.learned.iter().filter(|(of, _)| *of == old_row);
            learned.extend(own.map(|(_, frame)| (row, frame.clone())));
        }
        self.results = cycle.map(|(cycle, taken)| {
            let wanted = |row: usize| measured[row];
            let rows = plan.rows.clone();
            let frame = Frame::freeze_into(&plan.table, rows, cycle.time, wanted, Vec::new());
            LaneResults {
                cycle,
                taken,
                frame: Arc::new(frame),
                learned,
                measured,
            }
        });
    }
}

impl Running {
    /// Takes in the frames that the scraper learned for rows that were measured.
    fn learn(&mut self, plan: &LanePlan, measured: &[bool], rest: Rest, context: LaneContext<'_>) {
        let mut frames = std::mem::take(&mut self.undecided);
        frames.extend(plan.table.take_learned(|_| true));
        if frames.is_empty() {
            return;
        }
        let unfinished: HashSet<usize> = match rest {
            Rest::Follows => self.batch.unfinished().collect(),
            Rest::Never => HashSet::new(),
        };
        let mut taken = None;
        for (row, frame) in frames {
            if !measured[row] {
                // What is not of this batch comes from one that was left behind.
                if unfinished.contains(&row) {
                    self.undecided.push((row, frame));
                }
                continue;
            }
            let target = self.batch.target(row);
            let mut frame = frame;
            if frame.is_passed_on() {
                let taken = taken.get_or_insert_with(|| taken_names(context.taken));
                let first = frame.columns().descriptors().iter();
                let mut first = first.filter(|metric| is_taken(metric, taken));
                if let Some(first) = first.next().map(|metric| metric.name().to_owned()) {
                    context.metrics.count(&plan.name, 1, 0);
                    self.refused.get_or_insert_with(|| {
                        let (device, ip) = (target.device(), target.ip());
                        format!("{device} ({ip}): another scraper yields `{first}`; it is left out")
                    });
                    frame = frame.only_metrics(|metric| !is_taken(metric, taken));
                }
            }
            match refuse_frame(&frame, target, context.taken) {
                None => {
                    let frame = Arc::new(frame.at(self.cycle.time));
                    self.learned.push((row, frame));
                }
                Some(reason) => {
                    context.metrics.count(&plan.name, 1, 0);
                    self.refused.get_or_insert_with(|| {
                        format!("{} ({}): {reason}", target.device(), target.ip())
                    });
                }
            }
        }
    }

    /// Adds errors and panics that are not counted yet.
    fn count(&mut self, plan: &LanePlan, metrics: &GroupMetrics) {
        let progress = self.batch.progress();
        let (errors, panics) = (progress.errors() as u64, progress.panics() as u64);
        let counted = std::mem::replace(&mut self.counted, Counted { errors, panics });
        metrics.count(&plan.name, errors - counted.errors, panics - counted.panics);
    }
}

/// The names of all series of these columns.
fn taken_names(columns: &[Arc<Columns>]) -> HashSet<String> {
    let descriptors = columns.iter().flat_map(|columns| columns.descriptors());
    descriptors
        .flat_map(MetricDescriptor::series_names)
        .collect()
}

/// Whether a metric that is passed on has a name that is taken, here or by the agent's own.
fn is_taken(metric: &MetricDescriptor, taken: &HashSet<String>) -> bool {
    let is_flat = !matches!(
        metric.kind(),
        MetricKind::Histogram(_) | MetricKind::Summary(_)
    );
    is_agent_metric(metric.name())
        || taken.contains(metric.name())
        || (!is_flat && metric.series_names().any(|name| taken.contains(&name)))
}

/// An allocation that no sink reads any more, if there is one.
fn spare_buffer(spare: &mut VecDeque<Arc<Frame>>, latest: Option<LaneResults>) -> Vec<f64> {
    spare.extend(latest.map(|results| results.frame));
    let unused = spare.iter().position(|frame| Arc::strong_count(frame) == 1);
    let buffer = unused
        .and_then(|index| spare.remove(index))
        .and_then(|frame| Arc::try_unwrap(frame).ok())
        .map(Frame::into_buffer)
        .unwrap_or_default();
    spare.truncate(SPARE_FRAMES);
    buffer
}

/// The lanes of a former plan, by the devices in them.
pub(crate) struct OldLanes<'a> {
    lanes: &'a [Lane],
    /// The first entry for each device of a scraper.
    rows: HashMap<RowKey<'a>, usize>,
    entries: Vec<OldRow>,
}

/// Scraper, and what makes a target the same one after a reload.
type RowKey<'a> = (&'a str, (&'a str, &'a str, Option<&'a str>));

/// A row of a former lane, and the next entry for the same device and scraper: it may be measured with several settings.
struct OldRow {
    lane: usize,
    row: usize,
    next: Option<usize>,
}

impl<'a> OldLanes<'a> {
    pub(crate) fn new(lanes: &'a [Lane]) -> Self {
        let count = lanes.iter().map(|lane| lane.plan.targets.len()).sum();
        let mut rows: HashMap<RowKey<'a>, usize> = HashMap::with_capacity(count);
        let mut entries = Vec::with_capacity(count);
        for (index, lane) in lanes.iter().enumerate() {
            for (row, target) in lane.plan.targets.iter().enumerate() {
                let key = (&*lane.plan.name, target.identity());
                let next = rows.insert(key, entries.len());
                entries.push(OldRow {
                    lane: index,
                    row,
                    next,
                });
            }
        }
        Self {
            lanes,
            rows,
            entries,
        }
    }

    /// The lane and row that hold the same columns of the same device.
    fn find(
        &self,
        plan: &LanePlan,
        identity: (&str, &str, Option<&str>),
    ) -> Option<(&'a Lane, usize)> {
        let mut next = self.rows.get(&(&*plan.name, identity)).copied();
        while let Some(entry) = next.map(|index| &self.entries[index]) {
            let lane = &self.lanes[entry.lane];
            let (old, new) = (lane.plan.table.columns(), plan.table.columns());
            if Arc::ptr_eq(old, new) || old == new {
                return Some((lane, entry.row));
            }
            next = entry.next;
        }
        None
    }
}
