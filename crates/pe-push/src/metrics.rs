//! What a sink counts about itself. Names, HELP texts and units are a contract.

use std::time::{Duration, SystemTime};

use pe_scrape::{Columns, Frame, HistogramSpec, LabelSet, Metric, MetricDescriptor, Table, Unit};

/// Upper bounds of the buckets of a request's duration, in seconds.
const BOUNDS: [f64; 10] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

use pe_scrape::Dropped;

/// The class of a push's result, the label `result` of `pingexporter_pushes_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ResultKind {
    /// The gateway took it.
    Success,
    /// The gateway refused the metrics.
    Rejected,
    /// The gateway refused user or password.
    Unauthorized,
    /// The gateway could not be connected to, or the connection broke.
    Unreachable,
    /// The gateway did not answer in time.
    Timeout,
    /// The gateway answered with an error of its own.
    GatewayError,
}

impl ResultKind {
    /// All classes.
    pub const ALL: [Self; 6] = [
        Self::Success,
        Self::Rejected,
        Self::Unauthorized,
        Self::Unreachable,
        Self::Timeout,
        Self::GatewayError,
    ];

    /// The label's value.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Rejected => "rejected",
            Self::Unauthorized => "unauthorized",
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
            Self::GatewayError => "gateway_error",
        }
    }
}

pe_scrape::metrics! {
    /// What a sink counts about its pushes.
    pub(crate) struct PushMetrics {
        /// Requests.
        pushes: counters["result"]("pingexporter_pushes_total", "Requests to the Pushgateway by result"),
        /// Unix time.
        last_success: gauge("pingexporter_push_last_success_timestamp_seconds", "When the Pushgateway last took a push", Seconds),
        /// From the first request of a delivery to the last answer.
        duration: gauge("pingexporter_push_duration_seconds", "How long the latest round of pushes took", Seconds),
        /// Push groups that may be there.
        groups: gauge("pingexporter_push_groups", "Groups of this exporter on the Pushgateway"),
        /// Push groups that may be on gateways of former settings.
        former: gauge("pingexporter_push_former_groups", "Groups of this exporter on Pushgateways that are no longer configured, which are still to be deleted"),
        /// Results that were never sent.
        dropped: counters["reason"]("pingexporter_push_dropped_total", "Results of a group that were never pushed, by reason: newer ones came first (superseded)"),
        /// Restarts of the sink's task. The engine has a metric of the same name and HELP text for its own tasks.
        restarts: counters["task"]("pingexporter_task_restarts_total", "Tasks that were started again after a panic"),
    }
}

impl PushMetrics {
    /// Metrics that start at 0 and are shown from the start, but for the time of the last success.
    pub(crate) fn new() -> Self {
        let metrics = Self::default();
        for kind in ResultKind::ALL {
            metrics.pushes.of(kind.as_str());
        }
        metrics.dropped.of(SUPERSEDED);
        metrics.restarts.of(TASK);
        metrics.duration.set(0.0);
        metrics.groups.set(0.0);
        metrics.former.set(0.0);
        metrics
    }

    /// Counts a request.
    pub(crate) fn count(&self, kind: ResultKind) {
        self.pushes.of(kind.as_str()).add(1);
        if kind == ResultKind::Success {
            let now = std::time::SystemTime::now();
            self.last_success.set(pe_scrape::unix_seconds(now));
        }
    }

    /// What was never sent.
    pub(crate) fn dropped(&self) -> Option<Dropped> {
        Dropped::some("results", SUPERSEDED, self.dropped.of(SUPERSEDED).get())
    }

    /// Counts a restart of the sink's task.
    pub(crate) fn count_restart(&self) {
        self.restarts.of(TASK).add(1);
    }
}

/// How long requests took, as a histogram; those that failed too.
pub(crate) struct RequestDurations {
    table: Table,
    metric: Metric,
}

impl RequestDurations {
    /// Under a name with the unit seconds, which is a literal.
    pub(crate) fn new(name: &'static str, help: &'static str) -> Self {
        let mut columns = Columns::builder();
        let descriptor = MetricDescriptor::histogram(name, help, HistogramSpec::classic(BOUNDS));
        let metric = columns.add(descriptor.with_unit(Unit::Seconds));
        let columns = columns.build().expect("the name is a literal and valid");
        let table = Table::new(columns, 1);
        Self { table, metric }
    }

    /// Of requests to a Pushgateway.
    pub(crate) fn of_pushes() -> Self {
        Self::new(
            "pingexporter_push_request_duration_seconds",
            "How long requests to the Pushgateway took, from connecting to the answer",
        )
    }

    pub(crate) fn observe(&self, took: Duration) {
        self.table.row(0).observe(self.metric, took.as_secs_f64());
    }

    pub(crate) fn frame(&self, now: SystemTime) -> Frame {
        Frame::freeze(&self.table, [LabelSet::empty()].into(), now)
    }
}

/// Why results were not sent: newer ones of the same group came while they were pending.
pub(crate) const SUPERSEDED: &str = "superseded";

/// What the sink's task is called.
pub(crate) const TASK: &str = "push";

#[cfg(test)]
mod tests {
    use pe_scrape::exposition::{Block, Format, encode};

    use super::*;

    #[test]
    fn all_metrics_but_the_last_success_are_shown_from_the_start() {
        let show = |metrics: &PushMetrics| {
            let frames = metrics.frames();
            let blocks: Vec<_> = frames.iter().map(Block::new).collect();
            String::from_utf8(encode(&blocks, Format::Text)).unwrap()
        };
        let metrics = PushMetrics::new();
        let start = r#"# HELP pingexporter_pushes_total Requests to the Pushgateway by result
# TYPE pingexporter_pushes_total counter
pingexporter_pushes_total{result="gateway_error"} 0
pingexporter_pushes_total{result="rejected"} 0
pingexporter_pushes_total{result="success"} 0
pingexporter_pushes_total{result="timeout"} 0
pingexporter_pushes_total{result="unauthorized"} 0
pingexporter_pushes_total{result="unreachable"} 0
# HELP pingexporter_push_duration_seconds How long the latest round of pushes took
# TYPE pingexporter_push_duration_seconds gauge
pingexporter_push_duration_seconds 0
# HELP pingexporter_push_groups Groups of this exporter on the Pushgateway
# TYPE pingexporter_push_groups gauge
pingexporter_push_groups 0
# HELP pingexporter_push_former_groups Groups of this exporter on Pushgateways that are no longer configured, which are still to be deleted
# TYPE pingexporter_push_former_groups gauge
pingexporter_push_former_groups 0
# HELP pingexporter_push_dropped_total Results of a group that were never pushed, by reason: newer ones came first (superseded)
# TYPE pingexporter_push_dropped_total counter
pingexporter_push_dropped_total{reason="superseded"} 0
# HELP pingexporter_task_restarts_total Tasks that were started again after a panic
# TYPE pingexporter_task_restarts_total counter
pingexporter_task_restarts_total{task="push"} 0
"#;
        assert_eq!(show(&metrics), start);
        metrics.count(ResultKind::Success);
        let text = show(&metrics);
        let help = "# HELP pingexporter_push_last_success_timestamp_seconds When the Pushgateway last took a push\n";
        assert!(
            text.contains(help) && text.contains("{result=\"success\"} 1\n"),
            "{text}"
        );
    }
}
