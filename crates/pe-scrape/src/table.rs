//! The result table: rows of targets, columns of metrics, written from any thread without a lock.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::descriptor::{MetricKind, Schema};

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
    schema: Arc<Schema>,
    rows: usize,
    cells: Box<[AtomicU64]>,
}

impl Table {
    /// A table of `rows` rows. Gauges start absent, counters and histograms at 0.
    #[must_use]
    pub fn new(schema: Arc<Schema>, rows: usize) -> Self {
        let mut row = vec![0.0_f64.to_bits(); schema.width()];
        for (index, descriptor) in schema.descriptors().iter().enumerate() {
            if descriptor.starts_absent() {
                row[schema.columns(index)].fill(ABSENT.to_bits());
            }
        }
        let cells = (0..rows)
            .flat_map(|_| row.iter().copied().map(AtomicU64::new))
            .collect();
        Self {
            schema,
            rows,
            cells,
        }
    }

    /// The columns' meaning.
    #[must_use]
    pub fn schema(&self) -> &Arc<Schema> {
        &self.schema
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
        let width = self.schema.width();
        Row {
            schema: &self.schema,
            cells: &self.cells[index * width..(index + 1) * width],
        }
    }

    /// Clears all gauges, as at the start of a cycle. Counters and histograms keep their values.
    pub fn clear_gauges(&self) {
        for index in 0..self.rows {
            self.row(index).clear_gauges();
        }
    }

    /// Takes over a row of another table of the same schema, for instance the counters of a device that stays in the
    /// configuration after a reload. Does nothing when the schemas differ.
    pub fn adopt_row(&self, index: usize, from: &Self, from_index: usize) {
        if self.schema != from.schema {
            return;
        }
        for (to, from) in self.row(index).cells.iter().zip(from.row(from_index).cells) {
            to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    /// Copies all cells, row by row, into `values`, which keeps its allocation.
    pub(crate) fn copy_into(&self, values: &mut Vec<f64>) {
        values.clear();
        values.extend(
            self.cells
                .iter()
                .map(|cell| f64::from_bits(cell.load(Ordering::Relaxed))),
        );
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Table({} rows × {} columns)",
            self.rows,
            self.schema.width()
        )
    }
}

/// One target's row of a [`Table`]. Metrics are named by their position among the scraper's descriptors.
#[derive(Clone, Copy)]
pub struct Row<'a> {
    schema: &'a Schema,
    cells: &'a [AtomicU64],
}

impl Row<'_> {
    /// Sets a gauge, or a counter that the device itself counts.
    ///
    /// # Panics
    /// When `metric` is not a position among the descriptors, or is a histogram's in a debug build.
    pub fn set(&self, metric: usize, value: f64) {
        self.scalar(metric)
            .store(value.to_bits(), Ordering::Relaxed);
    }

    /// Adds to a counter or gauge; an absent one counts as 0.
    ///
    /// # Panics
    /// As [`set`](Self::set).
    pub fn add(&self, metric: usize, increment: f64) {
        add(self.scalar(metric), increment);
    }

    /// Adds one observation to a histogram.
    ///
    /// # Panics
    /// When `metric` is not the position of a histogram among the descriptors.
    pub fn observe(&self, metric: usize, value: f64) {
        let MetricKind::Histogram(spec) = self.schema.descriptors()[metric].kind() else {
            panic!(
                "{} is not a histogram",
                self.schema.descriptors()[metric].name()
            );
        };
        let cells = &self.cells[self.schema.columns(metric)];
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
    pub fn get(&self, metric: usize) -> Option<f64> {
        let value = f64::from_bits(self.scalar(metric).load(Ordering::Relaxed));
        (!is_absent(value)).then_some(value)
    }

    /// Makes all gauges of the row absent.
    pub fn clear_gauges(&self) {
        for (index, descriptor) in self.schema.descriptors().iter().enumerate() {
            if *descriptor.kind() == MetricKind::Gauge {
                self.cells[self.schema.first_column(index)]
                    .store(ABSENT.to_bits(), Ordering::Relaxed);
            }
        }
    }

    fn scalar(&self, metric: usize) -> &AtomicU64 {
        debug_assert!(
            !matches!(
                self.schema.descriptors()[metric].kind(),
                MetricKind::Histogram(_)
            ),
            "a histogram takes observations"
        );
        &self.cells[self.schema.first_column(metric)]
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

    fn schema() -> Arc<Schema> {
        let spec = HistogramSpec::classic([1.0, 2.0]).with_native(NativeBuckets::RTT_SECONDS);
        Schema::new(&[
            MetricDescriptor::gauge("g", ""),
            MetricDescriptor::counter("c_total", ""),
            MetricDescriptor::counter("rare_total", "").sparse(),
            MetricDescriptor::histogram("h", "", spec),
        ])
        .unwrap()
    }

    #[test]
    fn gauges_are_cleared_and_counters_kept() {
        let table = Table::new(schema(), 2);
        let row = table.row(1);
        assert_eq!(
            (row.get(0), row.get(1), row.get(2)),
            (None, Some(0.0), None)
        );
        row.set(0, f64::NAN);
        row.add(1, 2.0);
        row.add(2, 1.0);
        assert!(row.get(0).is_some_and(f64::is_nan));
        table.clear_gauges();
        assert_eq!(
            (row.get(0), row.get(1), row.get(2)),
            (None, Some(2.0), Some(1.0))
        );
        assert_eq!(table.row(0).get(1), Some(0.0));
    }

    #[test]
    fn a_row_can_move_to_another_table() {
        let (old, new) = (Table::new(schema(), 1), Table::new(schema(), 3));
        old.row(0).add(1, 7.0);
        new.adopt_row(2, &old, 0);
        assert_eq!(new.row(2).get(1), Some(7.0));
        let other = Table::new(
            Schema::new(&[MetricDescriptor::counter("x_total", "")]).unwrap(),
            1,
        );
        other.adopt_row(0, &old, 0);
        assert_eq!(other.row(0).get(0), Some(0.0));
    }

    #[test]
    fn concurrent_additions_are_all_counted() {
        let table = Table::new(schema(), 1);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1000).for_each(|_| table.row(0).add(1, 1.0)));
            }
        });
        assert_eq!(table.row(0).get(1), Some(4000.0));
    }
}
