//! The cycle of one group: at each tick its scrapers measure their targets, and the results are published.
//!
//! A cycle is published when all its lanes have ended, and at the next tick at the latest with what is done by then. A lane
//! that goes on beyond the tick is skipped, and its results come when it ends, in a report of its own. Which of these it is
//! to be is decided in [`tick`](crate::tick).

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures_util::FutureExt;
use pe_scrape::{Batch, CycleReport, DeviceStates, Frame, Pacer, Scraper, UpStates, panic_message};
use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{sleep_until, timeout};
use tracing::{debug, info, warn};

use crate::episode::{Edge, Episode};
use crate::lane::{CycleStart, Ended, Lane, LaneContext, OldLanes, ScrapeEnd};
use crate::metrics::GroupMetrics;
use crate::plan::Plan;
use crate::schedule::{Ticks, after, now};
use crate::staying::Staying;
use crate::tick::{Blame, LaneStep, STOP_MARGIN};

/// Where finished cycles go, each with the instant at which it is stale unless another comes.
pub(crate) type Publish = Arc<dyn Fn(Arc<CycleReport>, Instant) + Send + Sync>;

/// What the engine may ask of a runner.
#[derive(Clone)]
pub(crate) struct RunnerLinks {
    /// The newest plan.
    pub(crate) plans: watch::Receiver<Arc<Plan>>,
    /// Becomes true when the runner is to stop.
    pub(crate) stop: watch::Receiver<bool>,
    /// How long running measurements may go on after that.
    pub(crate) grace: Duration,
}

/// Runs a group.
pub(crate) struct GroupRunner {
    plan: Arc<Plan>,
    lanes: Vec<Lane>,
    batches: JoinSet<ScrapeEnd>,
    /// The lane of each running batch.
    owners: HashMap<Id, usize>,
    metrics: Arc<GroupMetrics>,
    publish: Publish,
    pacer: Option<Pacer>,
    cycle: CycleStart,
    /// How long the latest published cycle took.
    duration: Duration,
    /// When something was measured last, or this runner started.
    measured_at: Instant,
    /// Whether there is one cycle only, whose results never go stale.
    is_single: bool,
    overrun: Overrun,
    /// What stays when the plan that waits is in force.
    staying: Option<Staying>,
}

/// Ticks that were missed, and why the first of them was.
struct Overrun {
    /// The interval is too short.
    interval: Episode,
    /// The program was not run in time.
    program: Episode,
}

impl Overrun {
    fn new(interval: Duration) -> Self {
        Self {
            interval: Episode::new(interval),
            program: Episode::new(interval),
        }
    }
}

impl GroupRunner {
    pub(crate) fn new(plan: Arc<Plan>, metrics: Arc<GroupMetrics>, publish: Publish) -> Self {
        let mut runner = Self {
            lanes: Vec::new(),
            batches: JoinSet::new(),
            owners: HashMap::new(),
            metrics,
            publish,
            pacer: pacer(&plan),
            cycle: CycleStart {
                tick: 0,
                at: now(),
                time: SystemTime::now(),
            },
            duration: Duration::ZERO,
            measured_at: now(),
            is_single: false,
            overrun: Overrun::new(plan.interval),
            staying: None,
            plan,
        };
        runner.lanes = runner.new_lanes();
        runner
    }

    fn new_lanes(&self) -> Vec<Lane> {
        let lanes = self.plan.lanes.iter();
        lanes
            .map(|lane| {
                // Counters exist from the start, at 0.
                self.metrics.count(&lane.name, 0, 0);
                Lane::new(lane.clone(), self.plan.interval)
            })
            .collect()
    }

    /// Runs one cycle and returns when its results are published.
    pub(crate) async fn once(mut self) {
        self.is_single = true;
        self.start_cycle(0);
        while let Some(ended) = self.batches.join_next_with_id().await {
            self.batch_ended(ended);
        }
    }

    /// Runs until told to stop. The first tick is due at `first`.
    ///
    /// # Cancel safety
    /// Dropping the future ends all measurements; what was not published is lost.
    pub(crate) async fn run(mut self, first: Instant, mut links: RunnerLinks) {
        let mut ticks = Ticks::new(first, self.plan.interval);
        let mut next_plan: Option<Arc<Plan>> = None;
        loop {
            // Scrapers that are at work write to the tables of the plan that they were started with.
            if !self.is_busy()
                && let Some(plan) = next_plan.take()
            {
                ticks.change_interval(plan.interval, now());
                self.change_plan(plan);
            }
            tokio::select! {
                biased;
                _ = links.stop.wait_for(|stop| *stop) => break,
                Ok(()) = links.plans.changed() => {
                    let plan = links.plans.borrow_and_update().clone();
                    next_plan = (!Arc::ptr_eq(&plan, &self.plan)).then_some(plan);
                    self.staying = next_plan.as_ref().map(|plan| Staying::new(&self.plan, plan));
                }
                Some(ended) = self.batches.join_next_with_id() => self.batch_ended(ended),
                () = sleep_until(ticks.next_at().into()) => {
                    let Some(tick) = ticks.take(now()) else { continue };
                    self.end_cycle(tick.skipped);
                    if !self.is_busy()
                        && let Some(plan) = next_plan.take()
                    {
                        ticks.change_interval(plan.interval, now());
                        self.change_plan(plan);
                    }
                    // A new plan waits for the scrapers that are still at work; starting others would prolong that.
                    if next_plan.is_none() {
                        self.start_cycle(tick.number);
                    }
                }
            }
        }
        self.wind_up(links.grace).await;
    }

    fn is_busy(&self) -> bool {
        self.lanes.iter().any(Lane::is_busy)
    }

    /// Takes what is done at a tick, publishes it, and tells what is not.
    fn end_cycle(&mut self, skipped: u64) {
        let (at, interval) = (now(), self.plan.interval);
        let mut missed = None;
        let context = context(&self.plan, &self.metrics);
        for lane in &mut self.lanes {
            let step = lane.step(at, interval);
            match step {
                LaneStep::Start => {}
                LaneStep::LeaveBehind => lane.leave_behind(context),
                LaneStep::GoOn(blame) => {
                    lane.take_done(context);
                    if missed != Some(Blame::Interval) {
                        missed = Some(blame);
                    }
                }
            }
            lane.tell_hanging(step, context.group);
        }
        self.publish_fresh();
        self.note_overrun(missed, skipped);
    }

    /// Counts ticks that bring no full measurement, and tells why when that begins and ends.
    fn note_overrun(&mut self, missed: Option<Blame>, skipped: u64) {
        self.metrics
            .overruns
            .add(skipped + u64::from(missed.is_some()));
        let group = &*self.plan.group;
        let slow = missed == Some(Blame::Interval);
        match self.overrun.interval.observe(slow) {
            Some(Edge::Begins) => warn!(
                group,
                interval = ?self.plan.interval,
                "a cycle takes longer than its interval; ticks are skipped until it keeps up: \
                 give it a longer interval or split its devices"
            ),
            Some(Edge::Ends) => info!(group, "the cycle keeps up with its interval again"),
            None => {}
        }
        match self.overrun.program.observe(skipped > 0) {
            Some(Edge::Begins) => warn!(
                group,
                skipped, "ticks were missed: this program was not run in time"
            ),
            Some(Edge::Ends) => info!(group, "no ticks are missed any more"),
            None => {}
        }
    }

    /// Starts every lane that is not at work.
    fn start_cycle(&mut self, tick: u64) {
        let cycle = CycleStart {
            tick,
            at: now(),
            time: SystemTime::now(),
        };
        let mut started = self.lanes.is_empty();
        for (index, lane) in self.lanes.iter_mut().enumerate() {
            if lane.is_busy() {
                continue;
            }
            let timeout = self.plan.batch_timeout(&lane.plan);
            let Some(batch) = lane.batch(cycle.at, timeout, self.pacer.as_ref()) else {
                continue;
            };
            let scraper = lane.plan.scraper.clone();
            let task = self.batches.spawn(run_batch(scraper, batch.clone()));
            self.owners.insert(task.id(), index);
            lane.started(task.id(), batch, cycle);
            started = true;
        }
        if started {
            self.cycle = cycle;
            self.metrics.cycles.add(1);
        }
        if self.lanes.is_empty() {
            self.publish(cycle, |_| false);
        }
    }

    /// Takes in how a batch's task ended, and publishes its cycle when that is complete.
    fn batch_ended(&mut self, ended: Result<(Id, ScrapeEnd), JoinError>) {
        let (task, end) = match ended {
            Ok(ended) => ended,
            Err(error) => {
                let task = error.id();
                let end = match error.try_into_panic() {
                    Ok(panic) => ScrapeEnd::Panicked(panic_message(&*panic).to_owned()),
                    Err(_) => ScrapeEnd::Stopped,
                };
                (task, end)
            }
        };
        // Tasks of a former plan are nobody's.
        let Some(index) = self.owners.remove(&task) else {
            return;
        };
        let context = context(&self.plan, &self.metrics);
        let Some(Ended::Current(cycle)) = self.lanes[index].ended(task, &end, context) else {
            return;
        };
        let late = cycle.tick != self.cycle.tick;
        if late || !self.lanes.iter().any(|lane| lane.is_busy_in(cycle)) {
            self.publish_fresh();
        }
    }

    /// Publishes results that have not been in a report: one for each cycle that they are of, the oldest first.
    fn publish_fresh(&mut self) {
        let fresh = self.lanes.iter().filter_map(Lane::fresh_cycle);
        let mut cycles: Vec<CycleStart> = fresh.collect();
        cycles.sort_by_key(|cycle| cycle.tick);
        cycles.dedup_by_key(|cycle| cycle.tick);
        for cycle in cycles {
            self.publish(cycle, |lane| lane.is_fresh_in(cycle));
            for lane in &mut self.lanes {
                if lane.is_fresh_in(cycle) {
                    lane.published();
                }
            }
        }
    }

    /// Publishes a report with the results of the lanes that are `new` in it; those of the others are kept. What is not in the
    /// plan that waits is gone already for those who asked for the change: it is left out.
    fn publish(&mut self, cycle: CycleStart, new: impl Fn(&Lane) -> bool) {
        let mut report = CycleReport::new(self.plan.group.clone(), cycle.tick, cycle.time);
        report.device_count = self.plan.device_count;
        let mut last = None;
        for (index, lane) in self.lanes.iter().enumerate() {
            let Some(results) = lane.results() else {
                continue;
            };
            let stays = |row: usize| {
                let staying = self.staying.as_ref();
                staying.is_none_or(|staying| staying.has(index, row))
            };
            let learned = results.learned.iter().filter(|(row, _)| stays(*row));
            let learned = learned.map(|(_, frame)| frame);
            let (passed_on, learned): (Vec<_>, Vec<_>) =
                learned.partition(|frame| frame.is_passed_on());
            report.passed_on.extend(passed_on.into_iter().cloned());
            let frame = match &self.staying {
                None => results.frame.clone(),
                Some(_) => Arc::new(Frame::clone(&results.frame).retain_rows(stays)),
            };
            let frames = std::iter::once(frame).chain(learned.into_iter().cloned());
            if new(lane) {
                last = last.max(Some(results.taken));
                report.devices.extend(frames);
            } else {
                report.kept.extend(frames);
            }
        }
        if let Some(last) = last {
            self.duration = last.saturating_duration_since(cycle.at);
        }
        report.duration = self.duration;
        report.states = self.states();
        report.exporter = self.metrics.of_report(&report);
        let stale_at = self.stale_at();
        (self.publish)(Arc::new(report), stale_at);
    }

    /// When the results are stale unless something is measured before.
    fn stale_at(&mut self) -> Instant {
        let measured = self.lanes.iter().filter_map(Lane::measured_at).max();
        // Without lanes there is nothing that could go stale.
        let latest = measured.or_else(|| self.lanes.is_empty().then(now));
        self.measured_at = latest.map_or(self.measured_at, |at| at.max(self.measured_at));
        let within = match self.is_single {
            true => Duration::MAX,
            false => self.plan.stale_after(),
        };
        after(self.measured_at, within)
    }

    /// The state of each device that has a scraper which tells it: up if one says so, down if one says so and none says up. Those
    /// that count only where no other does are left out where another does.
    fn states(&self) -> DeviceStates {
        let mut states = UpStates::new(self.plan.device_count);
        for lane in &self.lanes {
            let columns = lane.plan.table.columns();
            let Some(up) = columns.up() else { continue };
            let frame = lane.results().map(|results| &results.frame);
            for (row, &device) in lane.plan.devices.iter().enumerate() {
                let value = frame.and_then(|frame| frame.get(row, up));
                states.note_value(device as usize, columns, value);
            }
        }
        DeviceStates::count(states.told())
    }

    /// Goes on with another plan. What is known of devices that stay is published at once, so that devices that are gone do
    /// not linger in the results until the next tick. Batches in which devices hang are ended.
    fn change_plan(&mut self, plan: Arc<Plan>) {
        self.batches.abort_all();
        self.owners.clear();
        self.staying = None;
        let had_results = self.lanes.iter().any(|lane| lane.results().is_some());
        if plan.pace != self.plan.pace {
            self.pacer = pacer(&plan);
        }
        if plan.interval != self.plan.interval {
            self.overrun = Overrun::new(plan.interval);
        }
        self.plan = plan;
        let old = std::mem::take(&mut self.lanes);
        self.lanes = self.new_lanes();
        let old_lanes = OldLanes::new(&old);
        for lane in &mut self.lanes {
            lane.adopt(&old_lanes);
        }
        debug!(
            group = &*self.plan.group,
            devices = self.plan.device_count,
            "the new configuration is in force"
        );
        if had_results {
            self.publish(self.cycle, |_| false);
        }
    }

    /// Lets running batches end within `grace`, publishes what was measured, and stops the others.
    async fn wind_up(mut self, grace: Duration) {
        let finish = async {
            while self.is_busy()
                && let Some(ended) = self.batches.join_next_with_id().await
            {
                self.batch_ended(ended);
            }
        };
        if timeout(grace, finish).await.is_err() {
            let context = context(&self.plan, &self.metrics);
            for lane in &mut self.lanes {
                lane.take_done(context);
            }
            warn!(
                group = context.group,
                scrapers = self.lanes.iter().filter(|lane| lane.is_busy()).count(),
                grace = ?grace,
                "measurements were abandoned: they did not end within the grace time after the stop"
            );
        }
        self.publish_fresh();
    }
}

fn pacer(plan: &Plan) -> Option<Pacer> {
    plan.pace.map(|(rate, burst)| Pacer::new(rate, burst))
}

fn context<'a>(plan: &'a Plan, metrics: &'a GroupMetrics) -> LaneContext<'a> {
    LaneContext {
        group: &plan.group,
        metrics,
        taken: &plan.columns,
    }
}

/// Measures a batch. It is stopped when it does not end by itself.
async fn run_batch(scraper: Arc<dyn Scraper>, batch: Batch) -> ScrapeEnd {
    let deadline = after(batch.deadline, STOP_MARGIN);
    let scrape = AssertUnwindSafe(async { scraper.scrape_batch(&batch).await }).catch_unwind();
    match tokio::time::timeout_at(deadline.into(), scrape).await {
        Ok(Ok(result)) => ScrapeEnd::Finished(result),
        Ok(Err(panic)) => ScrapeEnd::Panicked(panic_message(&*panic).to_owned()),
        Err(_) => ScrapeEnd::Stopped,
    }
}
