//! The result table: rows of targets, columns of metrics, written from any thread without a lock.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::Frame;
use crate::columns::{Columns, Metric, MetricKind};

/// The value of a cell that holds nothing: a quiet NaN that no computation yields.
pub const ABSENT: f64 = f64::from_bits(0x7ff8_ab5e_0000_0001);

/// Whether a cell holds nothing. A NaN that a scraper wrote on purpose is a value.
#[must_use]
pub fn is_absent(value: f64) -> bool {
    value.to_bits() == ABSENT.to_bits()
}

/// Rows × columns of `f64` that is filled while a cycle runs and used again for the next.
///
/// Cells are atomics with relaxed ordering, so that any thread may fill its rows through a shared reference, and so that
/// what was written stays when the writer is cancelled or panics. Writing allocates nothing.
pub struct Table {
    columns: Arc<Columns>,
    rows: usize,
    cells: Box<[AtomicU64]>,
    /// Frames that scrapers added to rows, since they learned their metrics while they ran.
    learned: Mutex<BTreeMap<usize, Vec<Frame>>>,
}

impl Table {
    /// A table of `rows` rows. Gauges start absent, counters and histograms at 0.
    #[must_use]
    pub fn new(columns: Arc<Columns>, rows: usize) -> Self {
        let mut row = vec![0.0_f64.to_bits(); columns.width()];
        for (index, descriptor) in columns.descriptors().iter().enumerate() {
            if descriptor.starts_absent() {
                row[columns.range(index)].fill(ABSENT.to_bits());
            }
        }
        let cells = (0..rows)
            .flat_map(|_| row.iter().copied().map(AtomicU64::new))
            .collect();
        Self {
            columns,
            rows,
            cells,
            learned: Mutex::default(),
        }
    }

    /// The columns' meaning.
    #[must_use]
    pub fn columns(&self) -> &Arc<Columns> {
        &self.columns
    }

    /// How many rows the table has.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The row of the target at `index`.
    ///
    /// # Panics
    /// When `index` is not below [`rows`](Self::rows).
    #[must_use]
    pub fn row(&self, index: usize) -> Row<'_> {
        let width = self.columns.width();
        Row {
            table: self,
            index,
            cells: &self.cells[index * width..(index + 1) * width],
        }
    }

    /// Clears all gauges, as at the start of a cycle. Counters and histograms keep their values.
    pub fn clear_gauges(&self) {
        for index in 0..self.rows {
            self.row(index).clear_gauges();
        }
    }

    /// Takes over a row of another table with the same columns, for instance the counters of a device that stays in the
    /// configuration after a reload. Does nothing when the columns differ.
    pub fn adopt_row(&self, index: usize, from: &Self, from_index: usize) {
        // Rows by the thousand have the same columns, which are long to compare.
        if !Arc::ptr_eq(&self.columns, &from.columns) && self.columns != from.columns {
            return;
        }
        for (to, from) in self.row(index).cells.iter().zip(from.row(from_index).cells) {
            to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    /// Copies all cells, row by row, into `values`, which keeps its allocation. Gauges of rows that are not `wanted`
    /// become absent.
    pub(crate) fn copy_into(&self, values: &mut Vec<f64>, wanted: impl Fn(usize) -> bool) {
        values.clear();
        values.extend(
            self.cells
                .iter()
                .map(|cell| f64::from_bits(cell.load(Ordering::Relaxed))),
        );
        let width = self.columns.width();
        for row in (0..self.rows).filter(|row| !wanted(*row)) {
            for column in self.columns.gauges() {
                values[row * width + column] = ABSENT;
            }
        }
    }

    /// Takes the frames that scrapers added to rows that are `wanted`, each with its row; those of other rows are dropped.
    pub fn take_learned(&self, wanted: impl Fn(usize) -> bool) -> Vec<(usize, Frame)> {
        let learned = std::mem::take(&mut *self.learned());
        let wanted = learned.into_iter().filter(|(row, _)| wanted(*row));
        wanted
            .flat_map(|(row, frames)| frames.into_iter().map(move |frame| (row, frame)))
            .collect()
    }

    fn learned(&self) -> std::sync::MutexGuard<'_, BTreeMap<usize, Vec<Frame>>> {
        self.learned.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Table({} rows × {} columns)",
            self.rows,
            self.columns.width()
        )
    }
}

/// One target's row of a [`Table`]. Values are written by the [`Metric`]s that a scraper got when it put its columns
/// together; a metric of other columns is a mistake that panics in a debug build and writes somewhere else otherwise.
#[derive(Clone, Copy)]
pub struct Row<'a> {
    table: &'a Table,
    index: usize,
    cells: &'a [AtomicU64],
}

impl Row<'_> {
    /// Sets a gauge, or a counter that the device itself counts.
    ///
    /// # Panics
    /// When `metric` is of other columns, or a histogram, in a debug build.
    pub fn set(&self, metric: Metric, value: f64) {
        self.scalar(metric)
            .store(value.to_bits(), Ordering::Relaxed);
    }

    /// Adds to a counter or gauge; an absent one counts as 0.
    ///
    /// # Panics
    /// As [`set`](Self::set).
    pub fn add(&self, metric: Metric, increment: f64) {
        add(self.scalar(metric), increment);
    }

    /// Adds one observation to a histogram.
    ///
    /// # Panics
    /// When `metric` is no histogram of these columns.
    pub fn observe(&self, metric: Metric, value: f64) {
        let columns = &self.table.columns;
        let descriptor = &columns.descriptors()[metric.index as usize];
        let MetricKind::Histogram(spec) = descriptor.kind() else {
            panic!("{} is not a histogram", descriptor.name());
        };
        let cells = &self.cells[columns.range(metric.index as usize)];
        let bucket = spec.bounds.partition_point(|bound| *bound < value);
        add(&cells[bucket], 1.0);
        add(&cells[spec.bounds.len() + 1], value);
        if let Some(native) = spec.native {
            let cells = &cells[spec.bounds.len() + 2..];
            add(
                &cells[native.position(value).map_or(0, |position| position + 1)],
                1.0,
            );
        }
    }

    /// The value of a gauge or counter, or `None` while it is absent.
    ///
    /// # Panics
    /// As [`set`](Self::set).
    #[must_use]
    pub fn get(&self, metric: Metric) -> Option<f64> {
        let value = f64::from_bits(self.scalar(metric).load(Ordering::Relaxed));
        (!is_absent(value)).then_some(value)
    }

    /// Adds series that the scraper learned while it ran, such as a device's own metrics. Each row of the frame carries
    /// the labels of the target, and perhaps more. The frame goes out with this cycle's results, and only with those.
    pub fn add_frame(&self, frame: Frame) {
        let mut learned = self.table.learned();
        learned.entry(self.index).or_default().push(frame);
    }

    /// Makes all gauges of the row absent.
    pub fn clear_gauges(&self) {
        for column in self.table.columns.gauges() {
            self.cells[column].store(ABSENT.to_bits(), Ordering::Relaxed);
        }
    }

    fn scalar(&self, metric: Metric) -> &AtomicU64 {
        debug_assert!(
            self.table.columns.has_scalar(metric),
            "the metric is a histogram, or of other columns"
        );
        &self.cells[metric.column as usize]
    }
}

fn add(cell: &AtomicU64, increment: f64) {
    let mut seen = cell.load(Ordering::Relaxed);
    loop {
        let value = f64::from_bits(seen);
        let sum = if is_absent(value) {
            increment
        } else {
            value + increment
        };
        match cell.compare_exchange_weak(seen, sum.to_bits(), Ordering::Relaxed, Ordering::Relaxed)
        {
            Ok(_) => return,
            Err(now) => seen = now,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{HistogramSpec, MetricDescriptor, NativeBuckets};

    struct Metrics {
        columns: Arc<Columns>,
        gauge: Metric,
        counter: Metric,
        rare: Metric,
    }

    fn metrics() -> Metrics {
        let spec = HistogramSpec::classic([1.0, 2.0]).with_native(NativeBuckets::RTT_SECONDS);
        let mut columns = Columns::builder();
        columns.add(MetricDescriptor::histogram("h", "", spec));
        let gauge = columns.gauge("g", "");
        let counter = columns.counter("c_total", "");
        let rare = columns.add(MetricDescriptor::counter("rare_total", "").sparse());
        let columns = columns.build().unwrap();
        Metrics {
            columns,
            gauge,
            counter,
            rare,
        }
    }

    #[test]
    fn gauges_are_cleared_and_counters_kept() {
        let m = metrics();
        let table = Table::new(m.columns, 2);
        let row = table.row(1);
        let get = || (row.get(m.gauge), row.get(m.counter), row.get(m.rare));
        assert_eq!(get(), (None, Some(0.0), None));
        row.set(m.gauge, f64::NAN);
        row.add(m.counter, 2.0);
        row.add(m.rare, 1.0);
        assert!(row.get(m.gauge).is_some_and(f64::is_nan));
        table.clear_gauges();
        assert_eq!(get(), (None, Some(2.0), Some(1.0)));
        assert_eq!(table.row(0).get(m.counter), Some(0.0));
    }

    #[test]
    fn a_row_can_move_to_another_table() {
        let m = metrics();
        let (old, new) = (Table::new(metrics().columns, 1), Table::new(m.columns, 3));
        old.row(0).add(m.counter, 7.0);
        new.adopt_row(2, &old, 0);
        assert_eq!(new.row(2).get(m.counter), Some(7.0));
        let mut columns = Columns::builder();
        let x = columns.counter("x_total", "");
        let other = Table::new(columns.build().unwrap(), 1);
        other.adopt_row(0, &old, 0);
        assert_eq!(other.row(0).get(x), Some(0.0));
    }

    #[test]
    fn concurrent_additions_are_all_counted() {
        let m = metrics();
        let table = Table::new(m.columns, 1);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1000).for_each(|_| table.row(0).add(m.counter, 1.0)));
            }
        });
        assert_eq!(table.row(0).get(m.counter), Some(4000.0));
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "of other columns")]
    fn a_metric_of_other_columns_is_told() {
        let mut columns = Columns::builder();
        columns.gauge("x", "");
        let table = Table::new(columns.build().unwrap(), 1);
        table.row(0).set(metrics().rare, 1.0);
    }
}
