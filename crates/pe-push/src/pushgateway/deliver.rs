//! One delivery: the push groups that are due are replaced, those that nobody wants any more are deleted.
//!
//! Live push groups go first, and what failed before goes last, so that a path on which a proxy refuses or hangs holds nothing up.
//! A push group is noted in the ledger before its first request. Deliveries of a sink exclude each other, and one that is broken
//! off loses nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use pe_scrape::exposition::SeriesFilter;
use pe_scrape::{
    AGENT_JOB, CycleReport, LabelSet, Labels, MetricDescriptor, SinkOutage, SinkStatus, with_causes,
};
use tracing::{info, warn};

use super::ledger::{Lease, Paths};
use super::push_groups::{Name, PushGroup, names, push_groups};
use super::{Grouping, GroupingKey, Pushgateway};
use crate::delivery::{Change, Delivery, Outage, Outbox, asked_by};
use crate::metrics::{PushMetrics, RequestDurations};
use crate::{PushError, ResultKind};
use pe_scrape::Filter;

/// The first pause before a deletion that was refused is tried again; doubled each time.
const SHORTEST_DEFERRAL: Duration = Duration::from_secs(60);
/// Label of the grouping key of series of devices' own, and its value.
const PASSED_ON: (&str, &str) = ("scraper", "exposition");
/// The longest: a proxy that refuses DELETE is asked once in an hour.
const LONGEST_DEFERRAL: Duration = Duration::from_secs(3600);

/// What a sink's task and its callers share.
pub(super) struct Shared {
    /// The sink's name, for logs.
    pub(super) name: Arc<str>,
    /// What the agent's own metrics carry as `instance`.
    pub(super) instance: Arc<str>,
    /// Further labels of every grouping key.
    pub(super) external_labels: Labels,
    pub(super) gateway: Pushgateway,
    /// The series that are pushed.
    pub(super) filter: Filter,
    pub(super) grouping: Grouping,
    pub(super) max_parallel_pushes: usize,
    pub(super) outbox: Outbox<Arc<CycleReport>>,
    /// The groups in force; `None` until somebody tells.
    pub(super) in_force: Mutex<Option<BTreeSet<Arc<str>>>>,
    pub(super) metrics: PushMetrics,
    pub(super) durations: RequestDurations,
    pub(super) lease: Lease,
    pub(super) status: Mutex<SinkStatus>,
    /// Held during a delivery.
    pub(super) progress: tokio::sync::Mutex<Progress>,
}

/// What is known from former deliveries.
#[derive(Default)]
pub(super) struct Progress {
    /// Paths that this sink has pushed to and nobody has deleted.
    own: Paths,
    /// Names of push groups whose latest state did not arrive and is worth another try.
    failed: BTreeSet<(String, bool)>,
    /// Names of push groups that a delivery did not come to, since it was broken off.
    unsent: BTreeSet<(String, bool)>,
    /// Push groups that had no series when they were last to be sent.
    empty: BTreeSet<(String, bool)>,
    /// Names of push groups whose latest state the gateway refused.
    refused: BTreeSet<(String, bool)>,
    /// Deletions that were refused.
    deferred: BTreeMap<Arc<str>, Deferral>,
    /// Whether it was told that there are some.
    is_stuck: bool,
    outage: Outage,
    /// Whether the sink has ended.
    closed: bool,
}

struct Deferral {
    refusals: u32,
    until: Instant,
    /// Why it was refused.
    reason: String,
}

/// Who delivers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Caller {
    /// The sink's task, by itself.
    Task,
    /// Somebody who wants to know whether the latest results arrived: what was refused is tried again.
    Flush,
}

/// How a delivery went.
#[derive(Default)]
pub(super) struct Delivered {
    /// The first failure, one that is worth another try before one that is not.
    pub(super) error: Option<PushError>,
    /// Whether new results may arrive: the gateway took something, or there is a push group that did not fail when it was sent
    /// last.
    pub(super) may_arrive: bool,
    /// How long the gateway asks to be left alone.
    pub(super) asked: Option<Duration>,
    /// When a deletion that was put off is due.
    pub(super) again: Option<Instant>,
}

/// A request to come.
enum Request<'r> {
    Put {
        name: Name<'r>,
        path: Arc<str>,
        key: GroupingKey,
        group: &'r PushGroup<'r>,
    },
    Delete(Arc<str>),
}

/// A request that has ended.
struct Ended<'r> {
    request: Request<'r>,
    result: Result<(), PushError>,
}

impl Shared {
    /// Pushes what is due and deletes push groups that are gone.
    ///
    /// Cancel safe: what was not delivered stays pending.
    pub(super) async fn deliver(&self, caller: Caller) -> Delivered {
        let mut progress = self.progress.lock().await;
        if progress.closed {
            return Delivered::default();
        }
        let started = Instant::now();
        self.lease.ledger().save().await;
        let taken = self.outbox.take();
        let wanted = names(taken.latest.values(), self.grouping);
        let is_pending = |group: &Arc<str>| taken.pending.contains(group);
        let pending = taken.latest.iter().filter(|(group, _)| is_pending(group));
        let mut due = names(pending.map(|(_, report)| report), self.grouping);
        // What others have in common with groups that are gone is pushed again without those.
        due.extend(names(&taken.removed, self.grouping).intersection(&wanted));
        let is_refused =
            |name: &Name<'_>| caller == Caller::Flush && progress.refused.contains(&name.owned());
        let again = wanted
            .iter()
            .filter(|name| progress.is_owed(name) || is_refused(name));
        due.extend(again);
        let groups = push_groups(&taken.latest, &due, self.grouping);
        let only = |metric: &MetricDescriptor, labels: &LabelSet| self.takes(metric, labels);
        let only: Option<&SeriesFilter<'_>> = (!self.filter.is_empty()).then_some(&only);

        let (mut first, mut last) = (Vec::new(), Vec::new());
        let mut round = Delivery::default();
        for (name, group) in &groups {
            if group.is_empty(only) {
                progress.empty.insert(name.owned());
                continue;
            }
            progress.empty.remove(&name.owned());
            match self.key(name) {
                Ok(key) => {
                    let put = Request::Put {
                        name: *name,
                        path: key.path().into(),
                        key,
                        group,
                    };
                    if progress.failed.contains(&name.owned()) {
                        last.push(put);
                    } else {
                        first.push(put);
                    }
                }
                Err(error) => round.note(Err(error)),
            }
        }
        let paths = |names: &BTreeSet<Name<'_>>| -> Paths {
            let keys = names.iter().filter_map(|name| self.key(name).ok());
            keys.map(|key| key.path().into()).collect()
        };
        let gone = self.gone(&progress, &paths(&wanted), self.is_complete(&taken.latest));
        let puts = first.iter().chain(&last);
        let sent: Paths = puts.filter_map(|it| it.path_of_put().cloned()).collect();
        // Even a push that fails or is broken off may arrive.
        progress.own.extend(sent.iter().cloned());
        self.lease.note(sent).await;
        let deletions = gone.into_iter().map(Request::Delete);
        let requests: Vec<_> = first.into_iter().chain(last).chain(deletions).collect();
        if requests.is_empty() && round.failed == 0 {
            progress.forget_strangers(&wanted);
            let again = progress.next_deletion();
            drop(wanted);
            taken.settle();
            return Delivered {
                again,
                ..Delivered::default()
            };
        }
        let arrived = self.run(requests, only, &mut progress, &mut round).await;
        progress.forget_strangers(&wanted);
        let mut names = wanted.iter();
        let may_arrive = arrived || names.any(|name| progress.may_arrive(name));
        drop(groups);
        taken.settle();
        self.conclude(&mut progress, started.elapsed(), &round);
        Delivered {
            asked: round.asked,
            error: round.first,
            may_arrive,
            again: progress.next_deletion(),
        }
    }

    /// Sends requests, some at a time, until the gateway turns out to be away or asks to be left alone. Returns whether any was a
    /// success.
    async fn run(
        &self,
        requests: Vec<Request<'_>>,
        only: Option<&SeriesFilter<'_>>,
        progress: &mut Progress,
        round: &mut Delivery,
    ) -> bool {
        let mut unanswered: BTreeSet<Name<'_>> =
            requests.iter().filter_map(Request::name_of_put).collect();
        let mut work = requests.into_iter();
        let mut running = FuturesUnordered::new();
        let (mut arrived, mut deleted) = (false, Paths::new());
        // What is under way when the gateway asks to be left alone has its own answer.
        while !round.is_hopeless() {
            while round.goes_on()
                && running.len() < self.max_parallel_pushes
                && let Some(request) = work.next()
            {
                running.push(self.send(request, only));
            }
            let Some(Ended { request, result }) = running.next().await else {
                break;
            };
            arrived |= result.is_ok();
            match request {
                Request::Put { name, .. } => {
                    unanswered.remove(&name);
                    progress.note_put(&name, &result);
                    round.note(result);
                }
                Request::Delete(path) => {
                    if progress.note_deletion(&path, &result) {
                        deleted.insert(path);
                    } else if result.as_ref().is_err_and(concerns_all) {
                        round.note(result);
                    }
                }
            }
        }
        drop(running);
        let unanswered = unanswered.iter().map(Name::owned);
        progress.unsent.extend(unanswered);
        progress.own.retain(|path| !deleted.contains(path));
        self.lease.cross_out(&deleted).await;
        arrived
    }

    async fn send<'r>(&self, request: Request<'r>, only: Option<&SeriesFilter<'_>>) -> Ended<'r> {
        let started = Instant::now();
        let result = match &request {
            Request::Put { key, group, .. } => self.gateway.put(key, &group.blocks(only)).await,
            Request::Delete(path) => self.gateway.delete_path(path).await,
        };
        let kind = result
            .as_ref()
            .map_or_else(PushError::kind, |()| ResultKind::Success);
        self.metrics.count(kind);
        self.durations.observe(started.elapsed());
        Ended { request, result }
    }

    /// What is to be deleted: what this sink has pushed and nobody wants any more, and, once all groups in force have
    /// reported, what former sinks and runs have left.
    fn gone(&self, progress: &Progress, wanted: &Paths, is_complete: bool) -> Paths {
        let own = progress.own.difference(wanted);
        let mut gone: Paths = own
            .filter(|path| !self.lease.is_wanted_elsewhere(path))
            .cloned()
            .collect();
        self.lease.declare(is_complete.then(|| wanted.clone()));
        gone.extend(self.lease.unwanted());
        let now = Instant::now();
        gone.retain(|path| progress.deferred.get(path).is_none_or(|it| it.until <= now));
        gone
    }

    /// Whether all groups in force have reported.
    fn is_complete(&self, latest: &BTreeMap<Arc<str>, Arc<CycleReport>>) -> bool {
        let in_force = self.in_force.lock().unwrap_or_else(PoisonError::into_inner);
        let groups = in_force.as_ref();
        groups.is_some_and(|groups| groups.iter().all(|group| latest.contains_key(group)))
    }

    fn takes(&self, metric: &MetricDescriptor, labels: &LabelSet) -> bool {
        let by_name = self.filter.takes_metric(metric.name());
        by_name.unwrap_or_else(|| {
            let own = |name: &str| metric.labels().find(|(own, _)| *own == name);
            let label = |name: &str| labels.get(name).or_else(|| Some(own(name)?.1));
            self.filter.takes(metric.name(), label)
        })
    }

    /// The grouping key of a push group: its job and the external labels. That of the agent itself also says which agent it is.
    ///
    /// Labels that start with `__` are left out, since a Pushgateway refuses them; they are for receivers of remote write.
    fn key(&self, name: &Name<'_>) -> Result<GroupingKey, PushError> {
        let mut key = GroupingKey::new(name.job)?;
        if name.is_passed_on {
            key = key.label(PASSED_ON.0, PASSED_ON.1)?;
        }
        let labels = self.external_labels.iter();
        let labels = labels.filter(|(label, _)| {
            let is_taken = name.is_passed_on && ***label == *PASSED_ON.0;
            !is_taken && !label.starts_with("__")
        });
        let key = labels.into_iter().try_fold(key, |key, (name, value)| {
            key.label(name.as_ref(), value.as_ref())
        })?;
        match name.job {
            AGENT_JOB if self.external_labels.get("instance").is_none() => {
                key.label("instance", &*self.instance)
            }
            _ => Ok(key),
        }
    }

    /// Withdraws everything for good: `paths` are deleted in one round. Returns what kept it from that.
    pub(super) async fn withdraw(&self, paths: Paths) -> Option<String> {
        let mut progress = self.progress.lock().await;
        progress.closed = true;
        self.outbox.take().settle();
        let mut round = Delivery::default();
        let requests = paths.into_iter().map(Request::Delete).collect();
        progress.deferred.clear();
        self.run(requests, None, &mut progress, &mut round).await;
        let refused = progress
            .deferred
            .values()
            .next()
            .map(|it| it.reason.clone());
        round.first.map(|error| with_causes(&error)).or(refused)
    }

    /// What this sink has pushed and no other wants.
    pub(super) async fn own_alone(&self) -> Paths {
        let own = self.progress.lock().await.own.clone();
        let own = own.into_iter();
        own.filter(|path| !self.lease.is_wanted_elsewhere(path))
            .collect()
    }

    /// Counts a delivery, and logs what it changes. Comes last, since logging may panic.
    fn conclude(&self, progress: &mut Progress, duration: Duration, round: &Delivery) {
        self.metrics.duration.set(duration.as_secs_f64());
        self.metrics.groups.set(self.lease.count() as f64);
        let kind = round.first.as_ref().map(PushError::kind);
        // A delivery without the push groups that the gateway refuses says nothing of these.
        let is_refused = kind.is_none() && !progress.refused.is_empty();
        let change = match is_refused {
            true => None,
            false => progress.outage.note(Instant::now(), round.failed, kind),
        };
        self.note_status(round, is_refused);
        let sink = &*self.name;
        let is_stuck = !progress.deferred.is_empty();
        let was_stuck = std::mem::replace(&mut progress.is_stuck, is_stuck);
        match (change, &round.first) {
            (Some(Change::Fails), Some(error)) => {
                warn!(sink, error = with_causes(error), "pushes fail");
            }
            (Some(Change::Recovered { after, failed }), _) => {
                let outage_seconds = after.as_secs_f64();
                info!(sink, failed, outage_seconds, "pushes arrive again");
            }
            _ => {}
        }
        if is_stuck && !was_stuck {
            let error = progress
                .deferred
                .values()
                .next()
                .map(|it| it.reason.as_str());
            let groups = progress.deferred.len();
            warn!(
                sink,
                groups, error, "push groups that are no longer wanted cannot be deleted"
            );
        } else if was_stuck && !is_stuck {
            info!(
                sink,
                "all push groups that were no longer wanted are deleted"
            );
        }
    }

    fn note_status(&self, round: &Delivery, is_refused: bool) {
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        let now = SystemTime::now();
        match &round.first {
            None => {
                if !is_refused {
                    status.outage = None;
                }
                status.last_success = Some(now);
            }
            Some(error) => {
                SinkOutage::note(&mut status.outage, now, with_causes(error));
            }
        }
    }

    /// Notes after which pause the next try is due.
    pub(super) fn note_pause(&self, pause: Option<Duration>) {
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(outage) = &mut status.outage {
            outage.next_try = pause.and_then(|pause| SystemTime::now().checked_add(pause));
        }
    }
}

/// Whether a failure says nothing of its own request: all others would fail alike now.
fn concerns_all(error: &PushError) -> bool {
    error.is_unreachable() || asked_by(error).is_some()
}

impl<'r> Request<'r> {
    fn name_of_put(&self) -> Option<Name<'r>> {
        match self {
            Self::Put { name, .. } => Some(*name),
            Self::Delete(_) => None,
        }
    }

    fn path_of_put(&self) -> Option<&Arc<str>> {
        match self {
            Self::Put { path, .. } => Some(path),
            Self::Delete(_) => None,
        }
    }
}

impl Progress {
    /// Whether a push group is to be sent again whatever has changed.
    fn is_owed(&self, name: &Name<'_>) -> bool {
        let name = name.owned();
        self.failed.contains(&name) || self.unsent.contains(&name)
    }

    /// Whether a push group is sent, and was not in vain the last time.
    fn may_arrive(&self, name: &Name<'_>) -> bool {
        !self.is_owed(name) && !self.empty.contains(&name.owned())
    }

    fn note_put(&mut self, name: &Name<'_>, result: &Result<(), PushError>) {
        let name = name.owned();
        self.failed.remove(&name);
        self.unsent.remove(&name);
        self.refused.remove(&name);
        match result {
            Ok(()) => {}
            Err(error) if error.is_retryable() => {
                self.failed.insert(name);
            }
            Err(_) => {
                self.refused.insert(name);
            }
        }
    }

    /// Whether the push group is gone. A deletion that was refused is put off; one that another try may mend at once is not.
    fn note_deletion(&mut self, path: &Arc<str>, result: &Result<(), PushError>) -> bool {
        match result {
            Ok(()) => {
                self.deferred.remove(path);
                true
            }
            Err(error) if concerns_all(error) => false,
            Err(error) => {
                let refusals = self.deferred.get(path).map_or(0, |it| it.refusals);
                let pause = SHORTEST_DEFERRAL.saturating_mul(1 << refusals.min(10));
                let deferral = Deferral {
                    refusals: refusals + 1,
                    until: Instant::now() + pause.min(LONGEST_DEFERRAL),
                    reason: with_causes(error),
                };
                self.deferred.insert(path.clone(), deferral);
                false
            }
        }
    }

    /// Forgets what became of push groups that are no longer wanted.
    fn forget_strangers(&mut self, wanted: &BTreeSet<Name<'_>>) {
        let is_wanted = |(job, is_passed_on): &(String, bool)| {
            wanted.contains(&Name {
                job,
                is_passed_on: *is_passed_on,
            })
        };
        self.failed.retain(is_wanted);
        self.unsent.retain(is_wanted);
        self.empty.retain(is_wanted);
        self.refused.retain(is_wanted);
    }

    fn next_deletion(&self) -> Option<Instant> {
        self.deferred.values().map(|it| it.until).min()
    }
}
