//! Keeping a gateway up to date with an engine's results.

use std::collections::BTreeSet;
use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use pe_scrape::{CycleReport, Frame, Sink};
use rand::Rng;
use tokio::sync::Notify;
use tracing::{info, warn};

use crate::groups::{Group, Reports, changed_groups, names};
use crate::tally::{Change, Tally};
use crate::{GroupingKey, PushError, Pushgateway, ResultKind};

/// What makes up a group on the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Grouping {
    /// One group for each device name: `job=<device>`. A gateway checks every group again at each push, so this suits a
    /// few hundred devices.
    #[default]
    Device,
    /// One group for each configuration: `job=<prom_id>`, with all its devices.
    Config,
}

/// How a sink pushes.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct SinkOptions {
    /// What makes up a group.
    pub grouping: Grouping,
    /// Pushes under way at one time, at the most.
    pub max_parallel: usize,
}

impl Default for SinkOptions {
    fn default() -> Self {
        Self {
            grouping: Grouping::Device,
            max_parallel: 8,
        }
    }
}

/// After so many failures in a row that other pushes would share, a round is broken off.
const HOPELESS: usize = 3;

/// Bounds of the time until a failed round is tried again, unless new results come first.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Pushes the latest results of every configuration. Results that could not be pushed are replaced by newer ones: a
/// gateway shows only the latest anyway.
///
/// ```no_run
/// # fn example() -> Result<(), pe_push::PushError> {
/// use pe_push::{Grouping, Pushgateway, PushgatewaySink, SinkOptions};
///
/// let gateway = Pushgateway::new("http://127.0.0.1:9091")?.basic_auth("user", "secret")?;
/// let mut options = SinkOptions::default();
/// options.grouping = Grouping::Config;
/// let sink = PushgatewaySink::new(gateway, options);
/// # Ok(())
/// # }
/// ```
pub struct PushgatewaySink {
    shared: Arc<Shared>,
    worker: OnceLock<Worker>,
}

struct Shared {
    gateway: Pushgateway,
    options: SinkOptions,
    state: Mutex<State>,
    wake: Notify,
    /// Held during a round of pushes.
    round: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    reports: Reports,
    /// Configurations whose latest report has not arrived.
    pending: BTreeSet<Arc<str>>,
    /// Names of the groups that may be on the gateway.
    pushed: BTreeSet<String>,
    tally: Tally,
}

/// Ends with the sink.
struct Worker(tokio::task::JoinHandle<()>);

impl Drop for Worker {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl PushgatewaySink {
    /// A sink for `gateway`. Its background task starts with the first results.
    #[must_use]
    pub fn new(gateway: Pushgateway, options: SinkOptions) -> Self {
        let shared = Shared {
            gateway,
            options,
            state: Mutex::default(),
            wake: Notify::new(),
            round: tokio::sync::Mutex::default(),
        };
        Self {
            shared: Arc::new(shared),
            worker: OnceLock::new(),
        }
    }

    fn wake(&self) {
        self.worker
            .get_or_init(|| Worker(tokio::spawn(work(self.shared.clone()))));
        self.shared.wake.notify_one();
    }
}

#[async_trait]
impl Sink for PushgatewaySink {
    fn name(&self) -> &str {
        "pushgateway"
    }

    fn publish(&self, report: Arc<CycleReport>) {
        let mut state = self.shared.state();
        state.pending.insert(report.config.clone());
        state.reports.insert(report.config.clone(), report);
        drop(state);
        self.wake();
    }

    fn retain(&self, configs: &[Arc<str>]) {
        let mut state = self.shared.state();
        let gone: Reports = state
            .reports
            .extract_if(.., |config, _| !configs.contains(config))
            .collect();
        // What the others have in common with those that are gone is pushed again without it.
        let touched = names(&gone, self.shared.options.grouping);
        let grouping = self.shared.options.grouping;
        let sharing: Vec<Arc<str>> = state
            .reports
            .iter()
            .filter(|(config, report)| {
                let own = Reports::from([((*config).clone(), (*report).clone())]);
                !gone.is_empty() && !names(&own, grouping).is_disjoint(&touched)
            })
            .map(|(config, _)| config.clone())
            .collect();
        state.pending.retain(|config| configs.contains(config));
        state.pending.extend(sharing);
        drop(state);
        if !gone.is_empty() {
            self.wake();
        }
    }

    async fn flush(&self) -> Result<(), Box<dyn Error + Send + Sync>> {
        self.shared
            .round()
            .await
            .map_or(Ok(()), |error| Err(error.into()))
    }

    fn metrics(&self) -> Vec<Frame> {
        self.shared.state().tally.frames()
    }
}

async fn work(shared: Arc<Shared>) {
    let mut failures: u32 = 0;
    loop {
        if failures == 0 {
            shared.wake.notified().await;
        } else {
            let _ = tokio::time::timeout(backoff(failures), shared.wake.notified()).await;
        }
        failures = match shared.round().await {
            Some(error) if error.is_retryable() => failures.saturating_add(1),
            _ => 0,
        };
    }
}

/// The time to wait after so many failed rounds: doubling, with jitter so that many agents do not come back at once.
fn backoff(failures: u32) -> Duration {
    let (shortest, longest) = BACKOFF;
    let doubled = shortest
        .saturating_mul(1 << failures.saturating_sub(1).min(16))
        .min(longest);
    doubled.mul_f64(rand::rng().random_range(0.5..1.0))
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Pushes what is pending and deletes groups that are gone. Returns the first failure.
    async fn round(&self) -> Option<PushError> {
        let _alone = self.round.lock().await;
        let started = Instant::now();
        let (reports, pending, gone) = {
            let mut state = self.state();
            let current = names(&state.reports, self.options.grouping);
            let gone: Vec<String> = state.pushed.difference(&current).cloned().collect();
            (
                state.reports.clone(),
                std::mem::take(&mut state.pending),
                gone,
            )
        };
        if pending.is_empty() && gone.is_empty() {
            return None;
        }
        let groups = changed_groups(&reports, &pending, self.options.grouping);
        let mut results = Round::default();
        let mut work: Vec<(&str, Option<&Group<'_>>)> =
            Vec::with_capacity(gone.len() + groups.len());
        work.extend(gone.iter().map(|name| (name.as_str(), None)));
        work.extend(groups.iter().map(|(name, group)| (*name, Some(group))));
        let mut work = work.into_iter();
        let mut running = FuturesUnordered::new();
        while results.hopeless < HOPELESS {
            while running.len() < self.options.max_parallel.max(1)
                && let Some((name, group)) = work.next()
            {
                running.push(self.push(name, group));
            }
            match running.next().await {
                Some(result) => results.note(result),
                None => break,
            }
        }
        drop(running);
        self.conclude(started, pending, results)
    }

    /// Replaces one group, or deletes it.
    async fn push(&self, name: &str, group: Option<&Group<'_>>) -> Result<(), PushError> {
        let result = match (GroupingKey::new(name), group) {
            (Err(error), _) => Err(error),
            (Ok(key), Some(group)) => self.gateway.put(&key, &group.blocks()).await,
            (Ok(key), None) => self.gateway.delete(&key).await,
        };
        let mut state = self.state();
        let kind = result
            .as_ref()
            .map_or_else(PushError::kind, |()| ResultKind::Success);
        state.tally.count(kind);
        if group.is_some() {
            // Even a push that failed may have arrived.
            state.pushed.insert(name.to_owned());
        } else if result.is_ok() {
            state.pushed.remove(name);
        }
        result
    }

    fn conclude(
        &self,
        started: Instant,
        attempted: BTreeSet<Arc<str>>,
        results: Round,
    ) -> Option<PushError> {
        let mut state = self.state();
        let retry = results.first.as_ref().is_some_and(PushError::is_retryable);
        if retry {
            let known: Vec<_> = attempted
                .into_iter()
                .filter(|config| state.reports.contains_key(config))
                .collect();
            state.pending.extend(known);
        }
        let (kind, groups) = (
            results.first.as_ref().map(PushError::kind),
            state.pushed.len(),
        );
        let change = state.tally.round(
            Instant::now(),
            started.elapsed(),
            groups,
            results.failed,
            kind,
        );
        drop(state);
        match (change, &results.first) {
            (Some(Change::Fails), Some(error)) => {
                warn!("pushing fails: {error} (told once, until that changes)");
            }
            (Some(Change::Recovered { after, failed }), _) => {
                info!(
                    "pushes to {} arrive again, after {failed} failed ones in {:.1} s",
                    self.gateway.url(),
                    after.as_secs_f64()
                );
            }
            _ => {}
        }
        results.first
    }
}

/// How a round goes.
#[derive(Default)]
struct Round {
    failed: u64,
    /// Failures in a row that all pushes would share.
    hopeless: usize,
    /// The first failure; one that is worth another try goes before one that is not.
    first: Option<PushError>,
}

impl Round {
    fn note(&mut self, result: Result<(), PushError>) {
        let Err(error) = result else {
            self.hopeless = 0;
            return;
        };
        self.failed += 1;
        self.hopeless = if error.is_unreachable() {
            self.hopeless + 1
        } else {
            0
        };
        if self
            .first
            .as_ref()
            .is_none_or(|first| !first.is_retryable() && error.is_retryable())
        {
            self.first = Some(error);
        }
    }
}
