//! What is told of a page that is passed on.

use pe_scrape::{Metric, MetricDescriptor, Row, Unit};

use super::passing::Passed;
use crate::ProbeMetrics;

/// Why series of a page are not passed on, in the order of [`PageMetrics::dropped`].
const DROPPED: [&str; 5] = [
    "filter",
    "invalid",
    "duplicate",
    "conflict",
    "native_histogram",
];

/// The metrics of a page.
#[derive(Debug)]
pub(crate) struct PageMetrics {
    bytes: Metric,
    series: Metric,
    dropped: [Metric; DROPPED.len()],
    settled: Metric,
    with_time: Metric,
}

impl PageMetrics {
    pub(crate) fn new(metrics: &mut ProbeMetrics) -> Self {
        Self {
            bytes: metrics.add(
                MetricDescriptor::gauge(
                    "probe_exposition_page_bytes",
                    "Bytes of the device's page, unpacked",
                )
                .with_unit(Unit::Bytes),
            ),
            series: metrics.gauge(
                "probe_exposition_series",
                "Series of the device that are passed on",
            ),
            dropped: DROPPED.map(|reason| {
                let dropped = MetricDescriptor::gauge(
                    "probe_exposition_dropped_series",
                    "Series of the device that are not passed on, by reason",
                );
                metrics.add(dropped.with_label("reason", reason))
            }),
            settled: metrics.gauge(
                "probe_exposition_settled_series",
                "Series of the device with the type or help text that another device has told",
            ),
            with_time: metrics.gauge(
                "probe_exposition_timestamped_series",
                "Series of the device that came with a time stamp, which is left out",
            ),
        }
    }

    /// Tells how large a page is, whether it can be read or not.
    pub(crate) fn came(&self, row: Row<'_>, bytes: usize) {
        row.set(self.bytes, bytes as f64);
    }

    /// Tells what came of a page, and hands its series on.
    pub(crate) fn pass(&self, row: Row<'_>, passed: Passed) {
        let counts = &passed.counts;
        row.set(self.series, counts.series as f64);
        let dropped = [
            counts.filtered,
            counts.invalid,
            counts.duplicate,
            counts.conflict,
            counts.native,
        ];
        for (metric, count) in self.dropped.iter().zip(dropped) {
            row.set(*metric, count as f64);
        }
        row.set(self.settled, counts.settled as f64);
        row.set(self.with_time, passed.with_time as f64);
        for frame in passed.frames {
            row.add_frame(frame);
        }
    }
}
