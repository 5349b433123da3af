//! The metrics of a ping scraper, and writing them into rows.

use pe_scrape::{HistogramSpec, MetricDescriptor, Row, Unit};

use crate::{Reason, Stats};

const DEV_PING: usize = 0;
const UP: usize = 1;
const LOSS_RATIO: usize = 2;
const BEST: usize = 3;
const WORST: usize = 4;
const MEAN: usize = 5;
const STD_DEVIATION: usize = 6;
const JITTER: usize = 7;
const REPLY_TTL: usize = 8;
const REQUESTS: usize = 9;
const REPLIES: usize = 10;
pub(super) const DUPLICATES: usize = 11;
const ERRORS: usize = 12;
pub(super) const HISTOGRAM: usize = ERRORS + Reason::ALL.len();

/// The descriptors, in the order of the positions above.
pub(super) fn descriptors(histogram: Option<&HistogramSpec>) -> Vec<MetricDescriptor> {
    let gauge = MetricDescriptor::gauge;
    let seconds = |name, help| gauge(name, help).with_unit(Unit::Seconds);
    let counter = MetricDescriptor::counter;
    let mut all = vec![
        gauge("dev_ping", "Ping to device (ms)").with_unit(Unit::Milliseconds),
        gauge(
            "ping_up",
            "Whether the device answered at least one request of the latest cycle",
        ),
        gauge(
            "ping_loss_ratio",
            "Share of the latest cycle's requests that were not answered in time",
        )
        .with_unit(Unit::Ratio),
        seconds(
            "ping_rtt_best_seconds",
            "Shortest round-trip time of the latest cycle",
        ),
        seconds(
            "ping_rtt_worst_seconds",
            "Longest round-trip time of the latest cycle",
        ),
        seconds(
            "ping_rtt_mean_seconds",
            "Mean round-trip time of the latest cycle",
        ),
        seconds(
            "ping_rtt_std_deviation_seconds",
            "Standard deviation of the round-trip times of the latest cycle",
        ),
        seconds(
            "ping_rtt_jitter_seconds",
            "Smoothed difference between consecutive round-trip times of the latest cycle, as in RFC 3550",
        ),
        gauge("ping_reply_ttl", "TTL or hop limit of the latest reply"),
        counter("ping_requests_total", "Echo requests sent to the device"),
        counter(
            "ping_replies_total",
            "Echo requests that the device answered in time",
        ),
        counter(
            "ping_duplicates_total",
            "Further replies to requests that had been answered already",
        ),
    ];
    all.extend(Reason::ALL.iter().map(|reason| {
        counter("ping_errors_total", "Probes without an answer, by reason")
            .with_label("reason", reason.as_str())
            .sparse()
    }));
    all.extend(histogram.map(|spec| {
        MetricDescriptor::histogram("ping_rtt_seconds", "Round-trip times", spec.clone())
            .with_unit(Unit::Seconds)
    }));
    all
}

/// Writes what the probes of one cycle add up to. Duplicates and the histogram are written as they come in.
pub(super) fn write(row: Row<'_>, stats: &Stats, value_dev_down: f64) {
    if !stats.is_unknown() {
        let milliseconds = stats.mean().map_or(value_dev_down, |mean| mean * 1e3);
        row.set(DEV_PING, milliseconds);
        row.set(UP, f64::from(u8::from(stats.is_up())));
    }
    for (metric, value) in [
        (LOSS_RATIO, stats.loss_ratio()),
        (BEST, stats.best()),
        (WORST, stats.worst()),
        (MEAN, stats.mean()),
        (STD_DEVIATION, stats.std_deviation()),
        (JITTER, stats.jitter()),
        (REPLY_TTL, stats.ttl().map(f64::from)),
    ] {
        if let Some(value) = value {
            row.set(metric, value);
        }
    }
    row.add(REQUESTS, stats.sent().into());
    row.add(REPLIES, stats.replies().into());
    if stats.has_errors() {
        for (at, reason) in Reason::ALL.iter().enumerate() {
            let errors = stats.errors(*reason);
            if errors > 0 {
                row.add(ERRORS + at, errors.into());
            }
        }
    }
}

/// Writes that a device's name has no address: it is down for one reason, and nothing was sent.
pub(super) fn write_unresolved(row: Row<'_>, value_dev_down: f64) {
    row.set(DEV_PING, value_dev_down);
    row.set(UP, 0.0);
    row.add(ERRORS + Reason::Dns as usize, 1.0);
}

#[cfg(test)]
mod tests {
    use pe_scrape::Schema;

    use super::*;

    #[test]
    fn positions_name_what_they_say() {
        let spec = HistogramSpec::classic(super::super::settings::DEFAULT_BUCKETS);
        let all = descriptors(Some(&spec));
        assert!(Schema::new(&all).is_ok());
        for (at, name) in [
            (DEV_PING, "dev_ping"),
            (UP, "ping_up"),
            (LOSS_RATIO, "ping_loss_ratio"),
            (BEST, "ping_rtt_best_seconds"),
            (WORST, "ping_rtt_worst_seconds"),
            (MEAN, "ping_rtt_mean_seconds"),
            (STD_DEVIATION, "ping_rtt_std_deviation_seconds"),
            (JITTER, "ping_rtt_jitter_seconds"),
            (REPLY_TTL, "ping_reply_ttl"),
            (REQUESTS, "ping_requests_total"),
            (REPLIES, "ping_replies_total"),
            (DUPLICATES, "ping_duplicates_total"),
            (ERRORS, "ping_errors_total"),
            (HISTOGRAM, "ping_rtt_seconds"),
        ] {
            assert_eq!(all[at].name(), name);
        }
        for reason in Reason::ALL {
            let descriptor = &all[ERRORS + reason as usize];
            let labels: Vec<_> = descriptor.labels().collect();
            assert_eq!(labels, [("reason", reason.as_str())]);
        }
    }
}
