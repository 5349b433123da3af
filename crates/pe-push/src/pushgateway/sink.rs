//! Keeping a gateway up to date with an engine's results.
//!
//! Reports go into an [`Outbox`]; a task takes them out and replaces whole push groups. `flush` does the same in its caller's
//! task. Deliveries exclude each other, and one that is broken off loses nothing.

use std::collections::BTreeSet;
use std::error::Error;
use std::future::pending;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use pe_scrape::exposition::SeriesFilter;
use pe_scrape::resolve::{Resolve, SystemResolver};
use pe_scrape::{
    AGENT_JOB, Backoff, CycleReport, Frame, LabelSet, Labels, MetricDescriptor, SettingsError,
    Sink, TaskFailure, supervise, with_causes,
};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tracing::{error, info, warn};

use super::push_groups::{PushGroup, names, push_groups, sharing};
use super::{Grouping, GroupingKey, Pushgateway, PushgatewaySettings};
use crate::delivery::{Change, Delivery, Outage, Outbox, Taken};
use crate::filter::Filter;
use crate::host::host_name;
use crate::metrics::{PushMetrics, TASK};
use crate::{PushError, ResultKind};

/// Pushes the latest results of every group. Results that could not be pushed are replaced by newer ones: a gateway shows
/// only the latest anyway, and one that is down does not fill memory.
///
/// A delivery that fails is tried again after 1 second, then after twice as long each time, up to a minute, or with the
/// next results. A failure is logged when it begins, when it changes and when it is over, and counted in
/// `pingexporter_pushes_total`. Metrics that the gateway refuses are not sent again unchanged. A push group that no
/// results belong to any more is deleted; when the program ends, its push groups stay. The agent's own metrics are a push
/// group with the labels `job="pingexporter"` and `instance`, an external label of that name or else the host's name.
///
/// ```no_run
/// # fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use pe_push::{Grouping, PushgatewaySettings, PushgatewaySink};
/// use pe_scrape::Secret;
///
/// let mut settings = PushgatewaySettings::new("https://push.example");
/// settings.username = Some("operator".to_owned());
/// settings.password = Some(Secret::new("secret"));
/// settings.grouping = Grouping::Config;
/// let sink = PushgatewaySink::new("pushgateway", &settings)?;
/// # Ok(())
/// # }
/// ```
///
/// # Panics
/// [`publish`](Sink::publish) and [`retain`](Sink::retain) panic outside a tokio runtime, where the sink's task cannot start.
pub struct PushgatewaySink {
    shared: Arc<Shared>,
    worker: OnceLock<Worker>,
}

struct Shared {
    /// The sink's name, for logs.
    name: Arc<str>,
    /// What the agent's own metrics carry as `instance`.
    instance: Arc<str>,
    gateway: Pushgateway,
    /// The series that are pushed.
    filter: Filter,
    grouping: Grouping,
    max_parallel_pushes: usize,
    outbox: Outbox<Arc<CycleReport>>,
    metrics: PushMetrics,
    /// Held during a delivery.
    on_gateway: Mutex<OnGateway>,
}

/// What an agent has for its sinks.
pub(super) struct Surroundings {
    pub(super) resolver: Arc<dyn Resolve>,
    pub(super) external_labels: Labels,
}

impl Default for Surroundings {
    fn default() -> Self {
        Self {
            resolver: Arc::new(SystemResolver),
            external_labels: Labels::default(),
        }
    }
}

/// What is known of the gateway.
#[derive(Default)]
struct OnGateway {
    /// Names of the push groups that may be there.
    groups: BTreeSet<String>,
    outage: Outage,
}

/// The sink's task, which ends with the sink.
struct Worker(JoinHandle<()>);

impl Drop for Worker {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl PushgatewaySink {
    /// A sink for the gateway of `settings`; `name` is what its log lines call it. Nothing is sent yet, and its task starts
    /// with the first results.
    ///
    /// # Errors
    /// [`SettingsError`] with every problem, when the settings make no sense.
    pub fn new(
        name: impl Into<Arc<str>>,
        settings: &PushgatewaySettings,
    ) -> Result<Self, SettingsError> {
        Self::within(name, settings, Surroundings::default())
    }

    /// The same with what an agent has for its sinks.
    pub(super) fn within(
        name: impl Into<Arc<str>>,
        settings: &PushgatewaySettings,
        surroundings: Surroundings,
    ) -> Result<Self, SettingsError> {
        let (gateway, filter) = settings.prepare(surroundings.resolver)?;
        let instance = surroundings.external_labels.get("instance");
        let shared = Shared {
            name: name.into(),
            instance: instance.map_or_else(|| host_name().into(), Arc::from),
            gateway,
            filter,
            grouping: settings.grouping,
            max_parallel_pushes: usize::try_from(settings.max_parallel_pushes)
                .unwrap_or(usize::MAX),
            outbox: Outbox::default(),
            metrics: PushMetrics::new(),
            on_gateway: Mutex::default(),
        };
        Ok(Self {
            shared: Arc::new(shared),
            worker: OnceLock::new(),
        })
    }

    /// Starts the sink's task, once.
    fn start(&self) {
        self.worker.get_or_init(|| {
            let shared = self.shared.clone();
            Worker(tokio::spawn(async move {
                supervise(
                    || work(&shared),
                    |failure| shared.failed(failure),
                    pending(),
                )
                .await;
            }))
        });
    }
}

#[async_trait]
impl Sink for PushgatewaySink {
    fn publish(&self, report: Arc<CycleReport>) {
        let group = report.group.clone();
        if report.is_stale {
            // Devices that others have too lose the values of this group at once.
            self.shared.outbox.replace(group, report);
        } else {
            self.shared.outbox.put(group, report);
        }
        self.start();
    }

    fn retain(&self, groups: &[Arc<str>]) {
        self.shared.outbox.retain(groups);
        self.start();
    }

    /// Pushes what is pending, and deletes push groups that nothing belongs to any more.
    ///
    /// # Cancel safety
    /// Cancel safe: what was not delivered stays pending. A request that was under way may have arrived.
    ///
    /// # Errors
    /// [`PushError`]: the first failure, one that may succeed later before one that will not.
    async fn flush(&self) -> Result<(), Box<dyn Error + Send + Sync>> {
        Ok(self.shared.deliver().await?)
    }

    fn metrics(&self) -> Vec<Frame> {
        self.shared.metrics.frames()
    }
}

/// Delivers at once, whenever something has changed, and again while that fails. The first delivery is for what a task that
/// panicked has left pending.
async fn work(shared: &Shared) -> Result<(), String> {
    let mut backoff = Backoff::default();
    loop {
        match shared.deliver().await {
            Err(error) if error.is_retryable() => backoff.failed(),
            _ => backoff.reset(),
        }
        match backoff.pause(rand::random()) {
            None => shared.outbox.changed().await,
            Some(pause) => {
                let _ = tokio::time::timeout(pause, shared.outbox.changed()).await;
            }
        }
    }
}

impl Shared {
    /// Pushes what is pending and deletes push groups that are gone.
    ///
    /// Cancel safe: what was not delivered stays pending.
    async fn deliver(&self) -> Result<(), PushError> {
        let mut on_gateway = self.on_gateway.lock().await;
        let started = Instant::now();
        let mut taken = self.outbox.take();
        // What others have in common with groups that are gone is pushed again without those.
        let again = sharing(&taken.latest, &taken.removed, self.grouping);
        taken.pending.extend(again);
        taken.removed.clear();
        let Some(delivery) = self.push_all(&mut on_gateway.groups, &taken).await else {
            return Ok(());
        };
        if delivery.is_worth_a_retry() {
            taken.give_back();
        } else {
            taken.settle();
        }
        self.conclude(&mut on_gateway, started.elapsed(), &delivery);
        delivery.first.map_or(Ok(()), Err)
    }

    /// Pushes everything that was taken out. `None` when there was nothing to do.
    async fn push_all(
        &self,
        on_gateway: &mut BTreeSet<String>,
        taken: &Taken<'_, Arc<CycleReport>>,
    ) -> Option<Delivery> {
        let wanted = names(taken.latest.values(), self.grouping);
        let gone = on_gateway
            .iter()
            .filter(|name| !wanted.contains(name.as_str()));
        let gone: Vec<String> = gone.cloned().collect();
        let groups = push_groups(&taken.latest, &taken.pending, self.grouping);
        let only = |metric: &MetricDescriptor, labels: &LabelSet| {
            let by_name = self.filter.takes_metric(metric.name());
            by_name.unwrap_or_else(|| {
                let own = |name: &str| metric.labels().find(|(own, _)| *own == name);
                let label = |name: &str| labels.get(name).or_else(|| Some(own(name)?.1));
                self.filter.takes(metric.name(), label)
            })
        };
        let only: Option<&SeriesFilter<'_>> = (!self.filter.is_empty()).then_some(&only);
        if gone.is_empty() && groups.is_empty() {
            return None;
        }
        let deletions = gone.iter().map(|name| (name.as_str(), None));
        let pushes = groups.iter().map(|(name, group)| (*name, Some(group)));
        let mut work = deletions.chain(pushes);
        let mut running = FuturesUnordered::new();
        let mut delivery = Delivery::default();
        while !delivery.is_hopeless() {
            while running.len() < self.max_parallel_pushes
                && let Some((name, group)) = work.next()
            {
                if group.is_some() && !on_gateway.contains(name) {
                    // Even a push that fails or is broken off may arrive.
                    on_gateway.insert(name.to_owned());
                }
                running.push(self.push(name, group, only));
            }
            let Some((deleted, result)) = running.next().await else {
                break;
            };
            if let Some(name) = deleted {
                on_gateway.remove(name);
            }
            delivery.note(result);
        }
        Some(delivery)
    }

    /// The grouping key of a push group. That of the agent itself also says which agent it is.
    fn key(&self, name: &str) -> Result<GroupingKey, PushError> {
        let key = GroupingKey::new(name)?;
        match name {
            AGENT_JOB => key.label("instance", &*self.instance),
            _ => Ok(key),
        }
    }

    /// Replaces one push group, or deletes it. Returns the name of one that was deleted, and the result.
    async fn push<'n>(
        &self,
        name: &'n str,
        group: Option<&PushGroup<'_>>,
        only: Option<&SeriesFilter<'_>>,
    ) -> (Option<&'n str>, Result<(), PushError>) {
        let result = match (self.key(name), group) {
            (Err(error), _) => Err(error),
            (Ok(key), Some(group)) => self.gateway.put(&key, &group.blocks(only)).await,
            (Ok(key), None) => self.gateway.delete(&key).await,
        };
        let kind = result
            .as_ref()
            .map_or_else(PushError::kind, |()| ResultKind::Success);
        self.metrics.count(kind);
        let is_deleted = group.is_none() && result.is_ok();
        (is_deleted.then_some(name), result)
    }

    /// Counts a delivery, and logs what it changes. Comes last, since logging may panic.
    fn conclude(&self, on_gateway: &mut OnGateway, duration: Duration, delivery: &Delivery) {
        self.metrics.duration.set(duration.as_secs_f64());
        self.metrics.groups.set(on_gateway.groups.len() as f64);
        let kind = delivery.first.as_ref().map(PushError::kind);
        let change = on_gateway
            .outage
            .note(Instant::now(), delivery.failed, kind);
        let sink = &*self.name;
        match (change, &delivery.first) {
            (Some(Change::Fails), Some(error)) => {
                warn!(sink, error = with_causes(error), "pushes fail");
            }
            (Some(Change::Recovered { after, failed }), _) => {
                let outage_seconds = after.as_secs_f64();
                info!(sink, failed, outage_seconds, "pushes arrive again");
            }
            _ => {}
        }
    }

    fn failed(&self, failure: &TaskFailure<'_>) {
        self.metrics.count_restart();
        error!(
            sink = &*self.name,
            task = TASK,
            error = failure.reason,
            pause = ?failure.pause,
            "a task panicked; it is started again after a pause"
        );
    }
}
