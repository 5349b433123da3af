//! Frames as they are queued and sent: full label sets, columns of values, one time.
//!
//! A [`SampleBlock`] says everything that a receiver needs; nothing of the running configuration is looked up for it later, so
//! that a reload never relabels what waits. Histograms are flat: a column for each `_bucket` (with its label `le`), for `_sum`
//! and for `_count`, as Prometheus stores classic histograms. A native histogram is one column and a record for each row.

use std::ops::{Index, IndexMut};
use std::slice::{ChunksExact, ChunksExactMut};
use std::sync::Arc;

use pe_scrape::{ABSENT, LabelSet, Unit};

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
    pub columns: SampleColumns,
    /// What native histograms say beside their columns, which hold how many observations they have.
    pub natives: Vec<NativeColumn>,
}

/// Columns of equal length, one behind the other in one piece of memory. A device that passes on metrics of its own is one row
/// of hundreds of columns.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SampleColumns {
    values: Vec<f64>,
    rows: usize,
}

impl SampleColumns {
    /// No columns yet, with memory for `columns` of `rows` values each.
    #[must_use]
    pub fn with_capacity(rows: usize, columns: usize) -> Self {
        Self {
            values: Vec::with_capacity(rows * columns),
            rows,
        }
    }

    /// Columns of `rows` times `value`.
    #[must_use]
    pub fn filled(rows: usize, columns: usize, value: f64) -> Self {
        let values = vec![value; rows * columns];
        Self { values, rows }
    }

    /// Appends a column.
    ///
    /// # Panics
    /// When it has not as many values as the others.
    pub fn push(&mut self, column: impl IntoIterator<Item = f64>) {
        let before = self.values.len();
        self.values.extend(column);
        assert_eq!(self.values.len() - before, self.rows, "columns differ");
    }

    /// Appends so many columns without samples.
    pub fn push_absent(&mut self, columns: usize) {
        let more = self.rows * columns;
        self.values.resize(self.values.len() + more, ABSENT);
    }

    /// How many columns there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.values.len() / self.rows.max(1)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The columns in order.
    pub fn iter(&self) -> ChunksExact<'_, f64> {
        self.values.chunks_exact(self.rows.max(1))
    }

    /// The columns in order.
    pub fn iter_mut(&mut self) -> ChunksExactMut<'_, f64> {
        self.values.chunks_exact_mut(self.rows.max(1))
    }

    /// All values, column by column.
    #[must_use]
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// All values, to be appended to; what is appended must be whole columns in the end.
    #[cfg(feature = "remote-write")]
    pub(crate) fn values_mut(&mut self) -> &mut Vec<f64> {
        &mut self.values
    }
}

impl Index<usize> for SampleColumns {
    type Output = [f64];

    fn index(&self, column: usize) -> &[f64] {
        &self.values[column * self.rows..][..self.rows]
    }
}

impl IndexMut<usize> for SampleColumns {
    fn index_mut(&mut self, column: usize) -> &mut [f64] {
        &mut self.values[column * self.rows..][..self.rows]
    }
}

impl<'a> IntoIterator for &'a SampleColumns {
    type Item = &'a [f64];
    type IntoIter = ChunksExact<'a, f64>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<C: IntoIterator<Item = f64>> FromIterator<C> for SampleColumns {
    /// # Panics
    /// When the columns differ in length.
    fn from_iter<I: IntoIterator<Item = C>>(columns: I) -> Self {
        let mut columns = columns.into_iter();
        let first: Vec<f64> = columns.next().into_iter().flatten().collect();
        let mut all = Self {
            rows: first.len(),
            values: first,
        };
        columns.for_each(|column| all.push(column));
        all
    }
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
