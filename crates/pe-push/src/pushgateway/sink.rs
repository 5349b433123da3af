//! Keeping a gateway up to date with an engine's results.
//!
//! Reports go into an [`Outbox`]; a task takes them out and replaces whole push groups. `flush` does the same in its caller's
//! task. Deliveries exclude each other, and one that is broken off loses nothing.

use std::convert::Infallible;
use std::error::Error;
use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Instant, SystemTime};

use async_trait::async_trait;
use pe_scrape::resolve::{Resolve, SystemResolver};
use pe_scrape::{
    AGENT_JOB, Backoff, CloseReason, CycleReport, Frame, Labels, SettingsError, Sink, SinkStatus,
    TaskFailure, supervise,
};
use tokio::task::JoinHandle;
use tracing::{error, info, warn};

use super::PushgatewaySettings;
use super::deliver::{Caller, Shared};
use super::farewell::bid_farewell;
use super::ledger::{Ledger, Paths};
use crate::delivery::Outbox;
use crate::host::host_name;
use crate::metrics::{PushMetrics, RequestDurations, SUPERSEDED, TASK};

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
    delete_on_shutdown: bool,
    worker: OnceLock<Worker>,
}

/// What an agent has for its sinks.
pub(super) struct Surroundings {
    pub(super) resolver: Arc<dyn Resolve>,
    pub(super) external_labels: Labels,
    pub(super) ledger: Arc<Ledger>,
}

impl Default for Surroundings {
    fn default() -> Self {
        Self {
            resolver: Arc::new(SystemResolver),
            external_labels: Labels::default(),
            ledger: Arc::default(),
        }
    }
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
        let lease = surroundings.ledger.lease(gateway.url());
        let mut status = SinkStatus::default();
        gateway.url().clone_into(&mut status.destination);
        let shared = Shared {
            name: name.into(),
            instance: instance.map_or_else(|| host_name().into(), Arc::from),
            external_labels: surroundings.external_labels,
            gateway,
            filter,
            grouping: settings.grouping,
            max_parallel_pushes: usize::try_from(settings.max_parallel_pushes)
                .unwrap_or(usize::MAX),
            outbox: Outbox::default(),
            in_force: Mutex::default(),
            metrics: PushMetrics::new(),
            durations: RequestDurations::of_pushes(),
            lease,
            status: Mutex::new(status),
            progress: tokio::sync::Mutex::default(),
        };
        Ok(Self {
            shared: Arc::new(shared),
            delete_on_shutdown: settings.delete_on_shutdown,
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
        } else if self.shared.outbox.put(group, report) {
            self.shared.metrics.dropped.of(SUPERSEDED).add(1);
        }
        self.start();
    }

    fn retain(&self, groups: &[Arc<str>]) {
        let in_force = groups.iter().cloned().collect();
        *lock(&self.shared.in_force) = Some(in_force);
        // The agent's own metrics are of no group.
        let kept: Vec<Arc<str>> = groups
            .iter()
            .cloned()
            .chain([Arc::from(AGENT_JOB)])
            .collect();
        self.shared.outbox.retain(&kept);
        self.shared.outbox.wake();
        self.start();
    }

    /// Pushes what is pending, and deletes push groups that nothing belongs to any more.
    ///
    /// # Cancel safety
    /// Cancel safe: what was not delivered stays pending. A request that was under way may have arrived.
    ///
    /// # Errors
    /// [`PushError`](crate::PushError): the first failure, one that may succeed later before one that will not.
    async fn flush(&self) -> Result<(), Box<dyn Error + Send + Sync>> {
        match self.shared.deliver(Caller::Flush).await.error {
            None => Ok(()),
            Some(error) => Err(error.into()),
        }
    }

    /// At the end of the program, push groups are deleted if the settings say so. When the sink is removed, they are deleted unless
    /// another sink pushes to the same gateway, which takes over what it wants. There is one round with these settings; what cannot be
    /// deleted then is told, and left to the sinks that there are.
    async fn close(&self, reason: CloseReason) {
        let shared = &self.shared;
        let sink = &*shared.name;
        let alone = shared.lease.alone();
        let paths = match (reason, alone) {
            (CloseReason::Removed, Some(all)) => all,
            (CloseReason::Shutdown, Some(all)) if self.delete_on_shutdown => all,
            (CloseReason::Shutdown, None) if self.delete_on_shutdown => shared.own_alone().await,
            (CloseReason::Removed, None) => {
                shared.withdraw(Paths::new()).await;
                shared.lease.declare(Some(Paths::new()));
                return;
            }
            _ => return,
        };
        let (count, url) = (paths.len(), shared.gateway.url().to_owned());
        if count == 0 {
            return;
        }
        let failed = shared.withdraw(paths).await;
        let left = shared.lease.count();
        match failed {
            None => info!(sink, url, groups = count, "push groups were deleted"),
            Some(error) => warn!(
                sink,
                url,
                groups = left,
                error,
                "push groups may stay on a gateway that nothing is pushed to any more"
            ),
        }
    }

    fn metrics(&self) -> Vec<Frame> {
        let mut frames = self.shared.metrics.frames();
        frames.push(self.shared.durations.frame(SystemTime::now()));
        frames
    }

    fn status(&self) -> SinkStatus {
        let mut status = lock(&self.shared.status).clone();
        status.dropped.extend(self.shared.metrics.dropped());
        status
    }

    /// Deletes a push group that is nobody's, since that shows nothing and needs what a push needs.
    async fn check_peer(&self) -> Result<(), Box<dyn Error + Send + Sync>> {
        Ok(self.shared.gateway.probe().await?)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps this gateway up to date, and clears those that are no longer configured, which holds nothing up.
async fn work(shared: &Shared) -> Result<(), String> {
    tokio::select! {
        never = keep_delivering(shared) => match never {},
        never = bid_farewell(shared) => match never {},
    }
}

/// Delivers at once, whenever something has changed, and again while that fails. The first delivery is for what a task that
/// panicked has left pending.
async fn keep_delivering(shared: &Shared) -> Infallible {
    let mut backoff = Backoff::default();
    loop {
        let delivered = shared.deliver(Caller::Task).await;
        match &delivered.error {
            Some(error) if error.is_retryable() => backoff.failed(),
            _ => backoff.reset(),
        }
        // Full jitter: agents that failed together do not come back together.
        let pause = backoff
            .pause(1.0)
            .map(|longest| longest.mul_f64(rand::random()));
        let changed = async {
            tokio::select! {
                () = shared.outbox.changed() => {}
                () = shared.lease.changed() => {}
                () = until(delivered.again) => {}
            }
        };
        let pause = pause.max(delivered.asked);
        shared.note_pause(pause);
        let is_alone = delivered.asked.is_some() || !delivered.may_arrive;
        match pause {
            None => changed.await,
            // Where nothing arrives, or is asked for, new results would not do better.
            Some(pause) if is_alone => tokio::time::sleep(pause).await,
            Some(pause) => {
                let _ = tokio::time::timeout(pause, changed).await;
            }
        }
    }
}

pub(super) async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant.into()).await,
        None => pending().await,
    }
}

impl Shared {
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

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use pe_scrape::{FrameBuilder, LabelSet, MetricDescriptor};
    use pe_testkit::{Gateway, Nginx, require};

    use super::*;

    fn report(group: &str, devices: &[&str]) -> Arc<CycleReport> {
        let mut frame = FrameBuilder::new(&[MetricDescriptor::gauge("dev_ping", "Ping")]).unwrap();
        for device in devices {
            let labels = LabelSet::new([("device", *device), ("ip", "127.0.0.1")]).unwrap();
            frame = frame.row(labels, &[1.0]);
        }
        let mut report = CycleReport::new(group, 0, SystemTime::now());
        report.devices = vec![Arc::new(frame.build())];
        Arc::new(report)
    }

    #[tokio::test]
    async fn push_groups_that_always_fail_keep_no_new_results_waiting() {
        require!(Program("prometheus-pushgateway"), Program("nginx"));
        let gateway = Gateway::start();
        let refusing = "location ~ ^/metrics/job/bad { return 401; }\n";
        let nginx = Nginx::with_directives(gateway.address(), refusing);
        let settings = PushgatewaySettings::new(nginx.url());
        let sink = PushgatewaySink::new("pushgateway", &settings).unwrap();
        let shared = &sink.shared;
        shared
            .outbox
            .put("p".into(), report("p", &["good", "bad1", "bad2"]));
        // Once with all of them, then with those that failed alone.
        for _ in 0..3 {
            let delivered = shared.deliver(Caller::Task).await;
            assert!(delivered.error.is_some_and(|error| error.is_retryable()));
            assert!(delivered.may_arrive);
        }
        assert_eq!(gateway.keys(), ["good"]);
        // Where nothing arrives, new results would not either.
        shared
            .outbox
            .put("p".into(), report("p", &["bad1", "bad2"]));
        // The gateway takes the deletion of what is gone.
        assert!(shared.deliver(Caller::Task).await.may_arrive);
        for _ in 0..2 {
            assert!(!shared.deliver(Caller::Task).await.may_arrive);
        }
    }
}
