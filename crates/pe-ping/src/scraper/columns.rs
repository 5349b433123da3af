//! The metrics of a ping scraper, and writing them into rows.

use std::sync::Arc;
use std::time::Duration;

use pe_scrape::{
    Columns, HistogramSpec, Metric, MetricDescriptor, Row, Unit, push_rtt_code, rtt_code,
};

use super::settings::Down;
use crate::proto::nanos;
use crate::stats;
use crate::{Reason, Reply, Stats};

/// Codes that a cell holds, and cells at most: the times of 24 probes.
const CODES_IN_CELL: u32 = 6;
const MOST_CELLS: u32 = 4;

/// The cells for the codes of a cycle of `count` probes.
fn code_cells(count: u32) -> u32 {
    if count > 1 {
        count.div_ceil(CODES_IN_CELL).min(MOST_CELLS)
    } else {
        0
    }
}

/// The metrics, each by its handle.
#[derive(Debug, Clone)]
pub(super) struct PingColumns {
    pub(super) columns: Arc<Columns>,
    dev_ping: Metric,
    up: Metric,
    loss_ratio: Metric,
    best: Metric,
    worst: Metric,
    mean: Metric,
    std_deviation: Metric,
    jitter: Metric,
    reply_ttl: Metric,
    requests: Metric,
    replies: Metric,
    duplicates: Metric,
    /// In the order of [`Reason::ALL`].
    errors: [Metric; Reason::ALL.len()],
    histogram: Option<Metric>,
    /// Cells for the codes of single round-trip times; none where a cycle has one probe, whose time is the mean.
    codes: Vec<Metric>,
}

impl PingColumns {
    /// For cycles of `count` probes.
    pub(super) fn new(histogram: Option<&HistogramSpec>, count: u32) -> Self {
        let gauge = MetricDescriptor::gauge;
        let seconds = |name, help| gauge(name, help).with_unit(Unit::Seconds);
        let mut all = Columns::builder();
        Self {
            dev_ping: all
                .add(gauge("dev_ping", "Ping to device (ms)").with_unit(Unit::Milliseconds)),
            up: all.add(
                gauge(
                    "ping_up",
                    "Whether the device answered at least one request of the latest cycle",
                )
                .up(),
            ),
            loss_ratio: all.add(
                gauge(
                    "ping_loss_ratio",
                    "Share of the latest cycle's requests that were not answered in time",
                )
                .with_unit(Unit::Ratio),
            ),
            best: all.add(seconds(
                "ping_rtt_best_seconds",
                "Shortest round-trip time of the latest cycle",
            )),
            worst: all.add(seconds(
                "ping_rtt_worst_seconds",
                "Longest round-trip time of the latest cycle",
            )),
            mean: all.add(seconds(
                "ping_rtt_mean_seconds",
                "Mean round-trip time of the latest cycle",
            )),
            std_deviation: all.add(seconds(
                "ping_rtt_std_deviation_seconds",
                "Standard deviation of the round-trip times of the latest cycle",
            )),
            jitter: all.add(seconds(
                "ping_rtt_jitter_seconds",
                "Smoothed difference between consecutive round-trip times of the latest cycle, as in RFC 3550",
            )),
            reply_ttl: all.gauge("ping_reply_ttl", "TTL or hop limit of the latest reply"),
            requests: all.counter("ping_requests_total", "Echo requests sent to the device"),
            replies: all.counter(
                "ping_replies_total",
                "Echo requests that the device answered in time",
            ),
            duplicates: all.counter(
                "ping_duplicates_total",
                "Further replies to requests that had been answered already",
            ),
            errors: Reason::ALL.map(|reason| {
                let errors = MetricDescriptor::counter(
                    "ping_errors_total",
                    "Probes without an answer, by reason",
                );
                all.add(errors.with_label("reason", reason.as_str()).sparse())
            }),
            histogram: histogram.map(|spec| {
                let times = MetricDescriptor::histogram(
                    "ping_rtt_seconds",
                    "Round-trip times",
                    spec.clone(),
                );
                all.add(times.with_unit(Unit::Seconds))
            }),
            codes: (0..code_cells(count))
                .map(|cell| {
                    let codes = gauge("ping_rtt_codes", "Codes of single round-trip times");
                    all.add(codes.with_label("cell", cell.to_string()).hidden())
                })
                .collect(),
            columns: all
                .build()
                .expect("the names are literals, and a test builds them"),
        }
    }

    /// Writes a reply as it comes in.
    pub(super) fn reply<'r>(&self, row: impl Fn() -> Row<'r>, reply: &Reply) {
        if let Some(histogram) = self.histogram {
            row().observe(histogram, stats::seconds(nanos(reply.rtt)));
        }
        if !self.codes.is_empty() {
            let row = row();
            let code = rtt_code(reply.rtt.as_secs_f64());
            // With more probes than fit the first ones stand for all.
            for cell in &self.codes {
                if let Some(packed) = push_rtt_code(row.get(*cell), code) {
                    row.set(*cell, packed);
                    break;
                }
            }
        }
    }

    /// Writes a further reply to a request that had been answered.
    pub(super) fn duplicate(&self, row: Row<'_>) {
        row.add(self.duplicates, 1.0);
    }

    /// Writes what the probes of one cycle add up to. Duplicates and the histogram are written as they come in.
    pub(super) fn write(&self, row: Row<'_>, stats: &Stats, down: Down) {
        if let Some(mean) = stats.mean_rtt() {
            let mean = Duration::from_nanos(published(nanos(mean)));
            row.set(self.dev_ping, stats::milliseconds(mean));
            row.set(self.up, 1.0);
        } else if !stats.is_unknown() || down.includes_unknown {
            self.write_down(row, down);
        }
        let time = |seconds: Option<f64>| {
            let nanos = seconds.map(|seconds| (seconds * 1e9).round() as u64);
            nanos.map(|nanos| stats::seconds(published(nanos)))
        };
        for (metric, value) in [
            (self.loss_ratio, stats.loss_ratio()),
            (self.best, time(stats.best())),
            (self.worst, time(stats.worst())),
            (self.mean, time(stats.mean())),
            (self.std_deviation, time(stats.std_deviation())),
            (self.jitter, time(stats.jitter())),
            (self.reply_ttl, stats.ttl().map(f64::from)),
        ] {
            if let Some(value) = value {
                row.set(metric, value);
            }
        }
        row.add(self.requests, stats.sent().into());
        row.add(self.replies, stats.replies().into());
        if stats.has_errors() {
            for (metric, reason) in self.errors.iter().zip(Reason::ALL) {
                let errors = stats.errors(reason);
                if errors > 0 {
                    row.add(*metric, errors.into());
                }
            }
        }
    }

    /// Writes that the address of a device's name is not known: `reason` says whether it is known that there is none. Nothing
    /// was sent.
    pub(super) fn write_unresolved(&self, row: Row<'_>, reason: Reason, down: Down) {
        if !reason.is_unknown() || down.includes_unknown {
            self.write_down(row, down);
        }
        row.add(self.errors[reason as usize], 1.0);
    }

    fn write_down(&self, row: Row<'_>, down: Down) {
        row.set(self.dev_ping, down.value);
        row.set(self.up, 0.0);
    }
}

/// Nanoseconds as series show them: whole microseconds from a millisecond on. What is measured is off by some microseconds there, and
/// each digit beyond costs space wherever samples are stored.
fn published(nanos: u64) -> u64 {
    if nanos < 1_000_000 {
        nanos
    } else {
        (nanos + 500) / 1_000 * 1_000
    }
}

#[cfg(test)]
mod tests {
    use pe_scrape::Table;

    use super::*;
    use crate::ProbeError;

    const DOWN: Down = Down {
        value: 3000.0,
        includes_unknown: false,
    };

    /// `dev_ping` and `ping_up` after a probe that ended so.
    fn shown(error: ProbeError, down: Down) -> (Option<f64>, Option<f64>) {
        let ping = PingColumns::new(None, 5);
        let table = Table::new(ping.columns.clone(), 1);
        ping.write(table.row(0), &Stats::from(error), down);
        (table.row(0).get(ping.dev_ping), table.row(0).get(ping.up))
    }

    #[test]
    fn what_could_not_be_asked_is_absent_unless_it_shall_count_as_down() {
        let both = Down {
            includes_unknown: true,
            ..DOWN
        };
        let down = (Some(3000.0), Some(0.0));
        for error in [
            ProbeError::NoRoute,
            ProbeError::NoBuffers,
            ProbeError::NotSent,
        ] {
            assert_eq!(shown(error, DOWN), (None, None), "{error:?}");
            assert_eq!(shown(error, both), down, "{error:?}");
        }
        assert_eq!(shown(ProbeError::Timeout, DOWN), down);
        assert_eq!(shown(ProbeError::Timeout, both), down);
    }

    #[test]
    fn errors_are_counted_under_their_reason() {
        let spec = HistogramSpec::classic(super::super::settings::DEFAULT_BUCKETS);
        let ping = PingColumns::new(Some(&spec), 1);
        let table = Table::new(ping.columns.clone(), 1);
        let row = table.row(0);
        ping.write(row, &Stats::from(ProbeError::NoRoute), DOWN);
        for reason in Reason::ALL {
            let expected = (reason == Reason::NoRoute).then_some(1.0);
            assert_eq!(
                row.get(ping.errors[reason as usize]),
                expected,
                "{reason:?}"
            );
            let descriptor = ping.columns.descriptors().iter().find(|descriptor| {
                let mut labels = descriptor.labels();
                labels.any(|label| label == ("reason", reason.as_str()))
            });
            assert_eq!(descriptor.unwrap().name(), "ping_errors_total");
        }
        assert_eq!(ping.columns.up(), Some(ping.up));
    }

    #[test]
    fn times_are_whole_microseconds_from_a_millisecond_on() {
        for (nanos, shown) in [
            (0, 0),
            (24_123, 24_123),
            (999_999, 999_999),
            (1_000_499, 1_000_000),
            (20_123_500, 20_124_000),
        ] {
            assert_eq!(published(nanos), shown, "{nanos}");
        }
    }
}
