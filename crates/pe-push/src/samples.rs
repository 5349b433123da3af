//! Frames as they are queued and sent: full label sets, columns of values, one time.
//!
//! A [`SampleBlock`] says everything that a receiver needs; nothing of the running configuration is looked up for it later, so
//! that a reload never relabels what waits. Histograms are flat: a column for each `_bucket` (with its label `le`), for `_sum`
//! and for `_count`, as Prometheus stores classic histograms. A native histogram is one column and a record for each row.

use std::sync::Arc;

use pe_scrape::{LabelSet, Unit};

use crate::native::NativeColumn;

/// One frame: the values of some metrics for some rows, all measured at one time.
#[derive(Debug, Clone, PartialEq)]
pub struct SampleBlock {
    /// When it was measured.
    pub time: SampleTime,
    /// What the columns are. Shared by the blocks of one shape.
    pub metrics: Arc<[SampleMetric]>,
    /// The labels of each row, external ones and `job` included, sorted by name, without `__name__` and without empty values.
    /// Shared by the blocks of one shape.
    pub rows: Arc<[LabelSet]>,
    /// One column a metric, each with one value a row; [`pe_scrape::ABSENT`] where there is no sample.
    pub columns: Vec<Vec<f64>>,
    /// What native histograms say beside their columns, which hold how many observations they have.
    pub natives: Vec<NativeColumn>,
}

/// A column's metric: together with a row's labels, a series.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SampleMetric {
    /// The name of the series: `ping_rtt_seconds_bucket` for a histogram's bucket.
    pub name: Arc<str>,
    /// Labels that belong to the metric, such as `le` or `reason`, sorted by name.
    pub labels: LabelSet,
    /// The name of the metric that help, type and unit belong to: `ping_rtt_seconds` for a histogram's bucket.
    pub family: Arc<str>,
    /// `gauge`, `counter` or `histogram`.
    pub kind: &'static str,
    /// The help text.
    pub help: Arc<str>,
    /// The unit of the values.
    pub unit: Unit,
}

impl SampleMetric {
    /// Whether its samples are native histograms: those of classic ones have names of their own.
    #[must_use]
    pub fn is_native(&self) -> bool {
        self.kind == "histogram" && self.name == self.family
    }
}

/// When a block was measured, on the clocks that this takes to correct it later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SampleTime {
    /// Milliseconds since 1970 by the wall clock.
    pub wall_ms: i64,
    /// Nanoseconds since boot (`CLOCK_BOOTTIME`), suspended time included.
    pub boot_ns: u64,
    /// Which boot (`/proc/sys/kernel/random/boot_id`); 0 where that is not known.
    pub boot_id: u128,
    /// Whether a receiver may have been told of it: the time is then corrected no more.
    pub is_final: bool,
}
