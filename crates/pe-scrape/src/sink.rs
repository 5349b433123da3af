//! Where finished cycles go.

use std::error::Error;
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;

use crate::{CycleReport, Frame};

/// A place that finished cycles are handed to: a Pushgateway, a remote-write endpoint, a file.
///
/// A sink does its own waiting: [`publish`](Self::publish) must return at once, so that a slow peer never delays a
/// measurement. A sink decides for itself whether it keeps every report or only the latest.
#[async_trait]
pub trait Sink: Send + Sync + 'static {
    /// Takes a finished cycle. Must not block.
    fn publish(&self, report: Arc<CycleReport>);

    /// Tells which groups are in force: once at the start, and after each reload. What came from others is to be forgotten, and
    /// withdrawn where the peer keeps it. The agent's own report is of no group and stays. Must not block.
    fn retain(&self, groups: &[Arc<str>]) {
        let _ = groups;
    }

    /// Hands on whatever is still pending. Called at shutdown and after a single cycle; the engine bounds the time and
    /// drops the future then.
    ///
    /// # Cancel safety
    /// What was not delivered must stay pending when the future is dropped.
    ///
    /// # Errors
    /// What kept the latest results from arriving, if they did not.
    async fn flush(&self) -> Result<(), Box<dyn Error + Send + Sync>> {
        Ok(())
    }

    /// Ends the sink, after its last [`flush`](Self::flush): what the peer keeps of it is withdrawn, if it is to be. Not called after a
    /// single cycle. The engine bounds the time and drops the future then.
    async fn close(&self, reason: CloseReason) {
        let _ = reason;
    }

    /// The sink's own metrics, named `pingexporter_…`. The engine adds the sink's name to them, as the label `sink`.
    fn metrics(&self) -> Vec<Frame> {
        Vec::new()
    }

    /// How the sink fares, for pages and `check`.
    fn status(&self) -> SinkStatus {
        SinkStatus::default()
    }

    /// Asks the peer whether results would arrive: that it is there, lets this agent in and speaks the protocol. Nothing that
    /// the peer would show is sent. The caller bounds the time.
    ///
    /// # Errors
    /// What would keep results from arriving, and what to do about it.
    async fn check_peer(&self) -> Result<(), Box<dyn Error + Send + Sync>> {
        Ok(())
    }
}

/// Why a sink ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CloseReason {
    /// The program ends.
    Shutdown,
    /// The configuration has it no longer, or with other settings: then its successor is there already.
    Removed,
}

/// How a sink fares.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct SinkStatus {
    /// Where results go, without credentials: a URL. Empty for a sink that goes nowhere.
    pub destination: String,
    /// When results arrived last; `None` before the first.
    pub last_success: Option<SystemTime>,
    /// Since when results do not arrive, and why; `None` while they do.
    pub outage: Option<SinkOutage>,
    /// What waits to be sent; `None` for a sink that keeps the newest state only.
    pub backlog: Option<Backlog>,
    /// What will never arrive, since the start.
    pub dropped: Vec<Dropped>,
}

/// A time without deliveries.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct SinkOutage {
    /// When it began.
    pub since: SystemTime,
    /// The latest reason.
    pub error: String,
    /// When the next try is due: in the past while one is under way, `None` while nothing is tried before something new is there.
    pub next_try: Option<SystemTime>,
}

impl SinkOutage {
    /// An outage since `since`, with the latest reason.
    pub fn new(since: SystemTime, error: impl Into<String>) -> Self {
        Self {
            since,
            error: error.into(),
            next_try: None,
        }
    }

    /// Notes in `outage` that a try failed: one begins, or the one that lasts has another reason.
    pub fn note(outage: &mut Option<Self>, now: SystemTime, error: impl Into<String>) -> &mut Self {
        let outage = outage.get_or_insert_with(|| Self::new(now, ""));
        outage.error = error.into();
        outage
    }
}

/// What a sink will never hand on, for one reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Dropped {
    /// What is counted, in the plural: `samples`.
    pub what: &'static str,
    /// Why, as the label `reason` of the sink's metrics.
    pub reason: &'static str,
    /// How many; never 0 in a status.
    pub count: u64,
}

impl Dropped {
    /// So many of `what`; `None` for none.
    pub fn some(what: &'static str, reason: &'static str, count: u64) -> Option<Self> {
        (count > 0).then_some(Self {
            what,
            reason,
            count,
        })
    }
}

/// What a sink has not sent yet.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub struct Backlog {
    /// Samples.
    pub samples: u64,
    /// Bytes where they are kept.
    pub bytes: u64,
    /// The time of measurement of the oldest.
    pub oldest: Option<SystemTime>,
}
