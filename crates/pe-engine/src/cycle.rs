//! One configuration's cycle: at each tick its scrapers measure their targets, and the results are published.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures_util::FutureExt;
use pe_scrape::{Batch, CycleReport, Frame, ScrapeError};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep_until, timeout};
use tracing::{debug, error, info, warn};

use crate::metrics::{CycleCounters, exporter_frames};
use crate::plan::{LanePlan, Plan};
use crate::schedule::{Tick, Ticks, now};

/// A scraper that has not finished after so many intervals is stopped.
const LONGEST_RUN: u32 = 3;

/// Frames kept so that their allocation can be used again once no sink reads them.
const SPARE_FRAMES: usize = 3;

/// Where finished cycles go.
pub(crate) type Publish = Arc<dyn Fn(Arc<CycleReport>) + Send + Sync>;

/// What the engine may ask of a running cycle.
pub(crate) struct CycleLinks {
    /// A new plan to go on with.
    pub(crate) plans: mpsc::UnboundedReceiver<Arc<Plan>>,
    /// Becomes true when the cycle is to stop.
    pub(crate) stop: watch::Receiver<bool>,
    /// How long running measurements may go on after that.
    pub(crate) grace: Duration,
}

/// A cycle and its state.
pub(crate) struct Cycle {
    plan: Arc<Plan>,
    lanes: Vec<Lane>,
    running: JoinSet<LaneEnd>,
    counters: Arc<CycleCounters>,
    publish: Publish,
    tick: u64,
    started: (Instant, SystemTime),
    /// How long the latest finished measurements took.
    duration: Duration,
    /// Whether a scraper has finished since the last report.
    fresh: bool,
    overrunning: bool,
    concurrency: usize,
}

/// The state of one scraper of the plan, at the same position as in the plan.
#[derive(Default)]
struct Lane {
    running: bool,
    latest: Option<Arc<Frame>>,
    spare: VecDeque<Arc<Frame>>,
    failing: bool,
}

struct LaneEnd {
    lane: usize,
    batch: Batch,
    outcome: Outcome,
}

enum Outcome {
    Finished(Result<(), ScrapeError>),
    Panicked(String),
    Stopped,
}

impl Cycle {
    pub(crate) fn new(
        plan: Arc<Plan>,
        counters: Arc<CycleCounters>,
        publish: Publish,
        concurrency: usize,
    ) -> Self {
        Self {
            lanes: plan.lanes.iter().map(|_| Lane::default()).collect(),
            plan,
            running: JoinSet::new(),
            counters,
            publish,
            tick: 0,
            started: (now(), SystemTime::now()),
            duration: Duration::ZERO,
            fresh: false,
            overrunning: false,
            concurrency,
        }
    }

    /// Runs one cycle and returns when its results are published.
    pub(crate) async fn once(mut self) {
        self.start_lanes(Tick {
            number: 0,
            skipped: 0,
        });
        while let Some(end) = self.running.join_next().await {
            self.take_end(end);
        }
        self.publish_report();
    }

    /// Runs until told to stop. The first tick is due at `first`.
    pub(crate) async fn run(mut self, first: Instant, mut links: CycleLinks) {
        let mut ticks = Ticks::new(first, self.plan.interval);
        let mut next_plan: Option<Arc<Plan>> = None;
        loop {
            if self.running.is_empty()
                && let Some(plan) = next_plan.take()
            {
                ticks.change_interval(plan.interval, now());
                self.change_plan(plan);
            }
            tokio::select! {
                biased;
                _ = links.stop.wait_for(|stop| *stop) => break,
                Some(plan) = links.plans.recv() => next_plan = Some(plan),
                Some(end) = self.running.join_next() => {
                    self.take_end(end);
                    if self.running.is_empty() {
                        self.publish_report();
                    }
                }
                () = sleep_until(ticks.next_at().into()) => {
                    if let Some(tick) = ticks.take(now()) {
                        // A new plan waits for the scrapers that still run; starting others would only prolong that.
                        self.tick(tick, next_plan.is_none());
                    }
                }
            }
        }
        self.wind_up(links.grace).await;
    }

    fn tick(&mut self, tick: Tick, start: bool) {
        let late = self.lanes.iter().filter(|lane| lane.running).count();
        self.note_overrun(late, tick.skipped);
        if self.fresh {
            self.publish_report();
        }
        if start && late < self.lanes.len() {
            self.start_lanes(tick);
        }
    }

    /// Counts ticks that bring no full measurement, and says so when that begins and ends.
    fn note_overrun(&mut self, late: usize, skipped: u64) {
        let missed = skipped + u64::from(late > 0);
        self.counters.overruns.inc_by(missed);
        if missed > 0 && !self.overrunning {
            warn!(
                config = %self.plan.prom_id,
                interval = ?self.plan.interval,
                "a cycle takes longer than its interval; ticks are skipped until it keeps up: \
                 give it a longer interval or split its devices",
            );
        } else if missed == 0 && self.overrunning {
            info!(config = %self.plan.prom_id, "the cycle keeps up with its interval again");
        }
        self.overrunning = missed > 0;
    }

    /// Starts every scraper that is not running.
    fn start_lanes(&mut self, tick: Tick) {
        self.tick = tick.number;
        self.started = (now(), SystemTime::now());
        self.counters.cycles.inc();
        for (index, lane) in self
            .lanes
            .iter_mut()
            .enumerate()
            .filter(|(_, lane)| !lane.running)
        {
            lane.running = true;
            let plan = &self.plan.lanes[index];
            let batch = batch(plan, self.started.0, self.plan.interval, self.concurrency);
            plan.table.clear_gauges();
            let scraper = plan.scraper.clone();
            self.running.spawn(async move {
                // A little later than the deadline, which well-behaved scrapers keep themselves.
                let limit = batch.deadline + Duration::from_secs(1);
                let scrape = AssertUnwindSafe(scraper.scrape_batch(&batch)).catch_unwind();
                let outcome = match tokio::time::timeout_at(limit.into(), scrape).await {
                    Ok(Ok(result)) => Outcome::Finished(result),
                    Ok(Err(panic)) => Outcome::Panicked(panic_words(&*panic)),
                    Err(_) => Outcome::Stopped,
                };
                LaneEnd {
                    lane: index,
                    batch,
                    outcome,
                }
            });
        }
    }

    /// Takes in what a scraper's task came to.
    fn take_end(&mut self, end: Result<LaneEnd, tokio::task::JoinError>) {
        let end = match end {
            Ok(end) => end,
            Err(error) => {
                // Only an aborted task ends so: its panics are caught inside.
                debug!(config = %self.plan.prom_id, %error, "a scraper's task was ended");
                return;
            }
        };
        let plan = &self.plan.lanes[end.lane];
        let lane = &mut self.lanes[end.lane];
        lane.running = false;
        self.fresh = true;
        self.duration = now().duration_since(self.started.0);
        lane.store(plan);

        let stats = &end.batch.stats;
        let failure = match &end.outcome {
            Outcome::Finished(Ok(())) => stats.first(),
            Outcome::Finished(Err(error)) => Some(error.to_string()),
            Outcome::Panicked(words) => Some(format!("the scraper panicked: {words}")),
            Outcome::Stopped => Some("the scraper did not stop at its deadline".to_owned()),
        };
        let panics = stats.panics() + usize::from(matches!(end.outcome, Outcome::Panicked(_)));
        let failed = usize::from(matches!(
            end.outcome,
            Outcome::Finished(Err(_)) | Outcome::Stopped
        ));
        let overdue = usize::from(stats.overdue());
        self.counters
            .note(&plan.name, stats.errors() + failed + overdue, panics);
        lane.say(&self.plan.prom_id, plan, failure, panics > 0);
    }

    fn publish_report(&mut self) {
        self.fresh = false;
        let mut report = CycleReport::new(self.plan.prom_id.clone(), self.tick, self.started.1);
        report.duration = self.duration;
        report.jobs = self.plan.jobs;
        report.devices = self
            .lanes
            .iter()
            .filter_map(|lane| lane.latest.clone())
            .collect();
        report.exporter = exporter_frames(&report, &self.counters);
        (self.publish)(Arc::new(report));
    }

    /// Goes on with another plan. What is known of devices that stay is published at once, so that devices that are gone
    /// do not linger in the results until the next tick.
    fn change_plan(&mut self, plan: Arc<Plan>) {
        let had_results = self.lanes.iter().any(|lane| lane.latest.is_some());
        plan.adopt(&self.plan);
        self.lanes = plan.lanes.iter().map(|_| Lane::default()).collect();
        self.plan = plan;
        info!(config = %self.plan.prom_id, jobs = self.plan.jobs, "the new configuration is in force");
        if had_results {
            for (lane, plan) in self.lanes.iter_mut().zip(&self.plan.lanes) {
                lane.store(plan);
            }
            self.publish_report();
        }
    }

    /// Lets running scrapers finish within `grace`, publishes what they measured, and stops the others.
    async fn wind_up(mut self, grace: Duration) {
        let finish = async {
            while let Some(end) = self.running.join_next().await {
                self.take_end(end);
            }
        };
        if timeout(grace, finish).await.is_err() {
            warn!(
                config = %self.plan.prom_id,
                scrapers = self.running.len(),
                "measurements were abandoned: they did not finish within {grace:?} of the stop",
            );
            self.running.shutdown().await;
        }
        if self.fresh {
            self.publish_report();
        }
    }
}

impl Lane {
    /// Freezes the table, in an allocation that no sink reads any more where there is one.
    fn store(&mut self, plan: &LanePlan) {
        self.spare.extend(self.latest.take());
        let unused = self
            .spare
            .iter()
            .position(|frame| Arc::strong_count(frame) == 1);
        let buffer = unused
            .and_then(|index| self.spare.remove(index))
            .and_then(|frame| Arc::try_unwrap(frame).ok())
            .map(Frame::into_buffer)
            .unwrap_or_default();
        self.spare.truncate(SPARE_FRAMES);
        self.latest = Some(Arc::new(Frame::freeze_into(
            &plan.table,
            plan.rows.clone(),
            buffer,
        )));
    }

    /// Tells of failures when they begin and end; in between only in the debug log.
    fn say(&mut self, config: &str, plan: &LanePlan, failure: Option<String>, panicked: bool) {
        let scraper = &*plan.name;
        match failure {
            Some(failure) if panicked => {
                error!(config, scraper, "{failure}");
                self.failing = true;
            }
            Some(failure) if self.failing => debug!(config, scraper, "{failure}"),
            Some(failure) => {
                warn!(
                    config,
                    scraper, "not everything could be measured; the first problem: {failure}"
                );
                self.failing = true;
            }
            None if self.failing => {
                info!(config, scraper, "everything can be measured again");
                self.failing = false;
            }
            None => {}
        }
    }
}

fn batch(plan: &LanePlan, start: Instant, interval: Duration, concurrency: usize) -> Batch {
    let limit = interval
        .saturating_mul(LONGEST_RUN)
        .max(plan.target_timeout());
    let mut batch = Batch::new(plan.targets.clone(), plan.table.clone(), start + limit);
    batch.concurrency = concurrency;
    batch.target_timeout = Some(plan.target_timeout());
    batch
}

fn panic_words(panic: &(dyn std::any::Any + Send)) -> String {
    let words = panic.downcast_ref::<&str>().copied();
    let words = words.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    words.unwrap_or("no message").to_owned()
}
