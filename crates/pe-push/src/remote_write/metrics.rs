//! What a sink counts about itself. Names, HELP texts and units are a contract.

use std::time::{Duration, SystemTime};

use pe_scrape::{Backlog, Dropped, Frame, unix_seconds};

use crate::ResultKind;
use crate::metrics::RequestDurations;
use crate::queue::DropReason;

/// Why samples were not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lost {
    /// The receiver refused them.
    Refused,
    /// They are older than the sink may send.
    TooOld,
    /// The clock was set back: they are not later than what was sent.
    ClockStep,
}

impl Lost {
    const ALL: [Self; 3] = [Self::Refused, Self::TooOld, Self::ClockStep];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::TooOld => "too_old",
            Self::ClockStep => "clock_step",
        }
    }
}

pe_scrape::metrics! {
    /// What a remote-write sink counts.
    struct Counts {
        /// Requests.
        requests: counters["result"]("pingexporter_remote_write_requests_total", "Remote-write requests by result"),
        /// Samples that the receiver has.
        sent: counter("pingexporter_remote_write_samples_total", "Samples that the receiver took"),
        /// Samples that will never arrive.
        lost: counters["reason"]("pingexporter_remote_write_dropped_samples_total", "Samples that were not sent, by reason"),
        /// Unix time.
        last_success: gauge("pingexporter_remote_write_last_success_timestamp_seconds", "When the receiver last took samples", Seconds),
        /// Requests that may be under way.
        connections: gauge("pingexporter_remote_write_connections", "Requests that may be under way at one time"),
        /// Bytes of what waits.
        queue_bytes: gauge("pingexporter_remote_write_queue_bytes", "Bytes that wait to be sent", Bytes),
        /// Samples that wait.
        queue_samples: gauge("pingexporter_remote_write_queue_samples", "Samples that wait to be sent"),
        /// Age of the oldest of them.
        queue_age: gauge("pingexporter_remote_write_queue_oldest_age_seconds", "Age of the oldest sample that waits to be sent, 0 without any", Seconds),
        /// Whether the system says that its clock is synchronised.
        synchronized: gauge("pingexporter_clock_synchronized", "Whether the system says that its clock is synchronised"),
        /// Our clock less the receiver's.
        clock_ahead: gauge("pingexporter_clock_ahead_of_receiver_seconds", "How far the clock is ahead of the receiver's, by its header Date", Seconds),
        /// Blocks whose time was corrected, or could not be.
        corrections: counters["result"]("pingexporter_clock_corrections_total", "Frames whose time was corrected after a step of the clock, or could not be since they are of an earlier boot"),
        /// Restarts of the sink's task.
        restarts: counters["task"]("pingexporter_task_restarts_total", "Tasks that were started again after a panic"),
    }
}

/// The class of a result, as the label `result`.
fn result(kind: ResultKind) -> &'static str {
    match kind {
        ResultKind::GatewayError => "server_error",
        kind => kind.as_str(),
    }
}

/// What the sink's task is called.
pub(crate) const TASK: &str = "remote_write";

/// The metrics of a sink.
pub(crate) struct WriteMetrics {
    counts: Counts,
    durations: RequestDurations,
}

impl WriteMetrics {
    /// Metrics that start at 0 and are shown from the start, but for those that are not known yet.
    pub(crate) fn new() -> Self {
        let counts = Counts::default();
        for kind in ResultKind::ALL {
            counts.requests.of(result(kind));
        }
        for reason in Lost::ALL {
            counts.lost.of(reason.as_str());
        }
        for result in ["corrected", "earlier_boot"] {
            counts.corrections.of(result);
        }
        counts.restarts.of(TASK);
        counts.connections.set(1.0);
        Self {
            counts,
            durations: RequestDurations::new(
                "pingexporter_remote_write_duration_seconds",
                "How long remote-write requests took, from the first byte to the answer",
            ),
        }
    }

    /// Counts an answered request, or one that was not.
    pub(crate) fn request(&self, kind: ResultKind, took: Duration) {
        self.counts.requests.of(result(kind)).add(1);
        self.durations.observe(took);
    }

    pub(crate) fn sent(&self, samples: u64, now: SystemTime) {
        self.counts.sent.add(samples);
        self.counts.last_success.set(unix_seconds(now));
    }

    pub(crate) fn lost(&self, reason: Lost, samples: u64) {
        self.counts.lost.of(reason.as_str()).add(samples);
    }

    pub(crate) fn connections(&self, connections: usize) {
        self.counts.connections.set(connections as f64);
    }

    /// Counts blocks whose time was corrected, and those whose time stands since they are of an earlier boot.
    pub(crate) fn corrected(&self, corrected: u64, of_earlier_boot: u64) {
        let corrections = &self.counts.corrections;
        corrections.of("corrected").add(corrected);
        corrections.of("earlier_boot").add(of_earlier_boot);
    }

    pub(crate) fn synchronized(&self, synchronized: Option<bool>) {
        if let Some(synchronized) = synchronized {
            self.counts
                .synchronized
                .set(f64::from(u8::from(synchronized)));
        }
    }

    pub(crate) fn clock_ahead(&self, seconds: Option<f64>) {
        if let Some(seconds) = seconds {
            self.counts.clock_ahead.set(seconds);
        }
    }

    pub(crate) fn restarted(&self) {
        self.counts.restarts.of(TASK).add(1);
    }

    /// The queue counts what it drops by itself: its numbers are taken over, not added.
    fn take_over(&self, dropped: impl Fn(DropReason) -> u64) {
        for reason in DropReason::ALL {
            self.counts
                .lost
                .of(reason.as_str())
                .raise_to(dropped(reason));
        }
    }

    /// What was dropped, by reason.
    pub(crate) fn dropped(&self, dropped: impl Fn(DropReason) -> u64) -> Vec<Dropped> {
        self.take_over(dropped);
        let lost = Lost::ALL.map(Lost::as_str);
        let reasons = lost
            .into_iter()
            .chain(DropReason::ALL.map(DropReason::as_str));
        reasons
            .filter_map(|reason| {
                Dropped::some("samples", reason, self.counts.lost.of(reason).get())
            })
            .collect()
    }

    /// All of them, with what waits.
    pub(crate) fn frames(
        &self,
        backlog: Backlog,
        dropped: impl Fn(DropReason) -> u64,
        now: SystemTime,
    ) -> Vec<Frame> {
        self.take_over(dropped);
        self.counts.queue_bytes.set(backlog.bytes as f64);
        self.counts.queue_samples.set(backlog.samples as f64);
        let age = backlog
            .oldest
            .map(|oldest| now.duration_since(oldest).unwrap_or_default());
        self.counts
            .queue_age
            .set(age.unwrap_or_default().as_secs_f64());
        let mut frames = self.counts.frames();
        frames.push(self.durations.frame(now));
        frames
    }
}
