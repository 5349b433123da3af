//! Frozen results: what sinks and pages get to see.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use crate::columns::{Columns, ColumnsError, Metric, MetricKind};
use crate::table::{ABSENT, is_absent};
use crate::{HistogramSpec, LabelSet, MetricDescriptor, SummarySpec, Table};

/// A finished table: the values of one scraper for all its rows, with the labels of each row. Immutable.
#[derive(Clone, PartialEq)]
pub struct Frame {
    columns: Arc<Columns>,
    rows: Arc<[LabelSet]>,
    values: Vec<f64>,
    time: SystemTime,
    /// Whether the device itself measured it.
    passed_on: bool,
}

/// What one metric of one row holds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Cell<'a> {
    /// A gauge's or counter's value.
    Value(f64),
    /// A histogram.
    Histogram {
        /// The buckets' layout.
        spec: &'a HistogramSpec,
        /// Observations in each classic bucket (not cumulative), the last one being `+Inf`.
        buckets: &'a [f64],
        /// The sum of all observations.
        sum: f64,
        /// Observations in the zero bucket and in each native bucket; empty without native buckets.
        native: &'a [f64],
    },
    /// A summary.
    Summary {
        /// Which quantiles it has.
        spec: &'a SummarySpec,
        /// Their values; [`ABSENT`] where there is none.
        quantiles: &'a [f64],
        /// The sum of all observations; [`ABSENT`] where there is none.
        sum: f64,
        /// How many there were; [`ABSENT`] where that is not told.
        count: f64,
    },
}

impl Frame {
    /// Freezes `table`, whose rows have the labels `rows` and were measured in a cycle that started at `time`.
    ///
    /// # Panics
    /// When the number of label sets is not the table's number of rows.
    #[must_use]
    pub fn freeze(table: &Table, rows: Arc<[LabelSet]>, time: SystemTime) -> Self {
        Self::freeze_into(table, rows, time, |_| true, Vec::new())
    }

    /// The same for some rows only, with the allocation of an earlier frame's [`into_buffer`](Self::into_buffer). Gauges of
    /// rows that are not `wanted` are absent; their counters stay.
    ///
    /// # Panics
    /// When the number of label sets is not the table's number of rows.
    #[must_use]
    pub fn freeze_into(
        table: &Table,
        rows: Arc<[LabelSet]>,
        time: SystemTime,
        wanted: impl Fn(usize) -> bool,
        mut buffer: Vec<f64>,
    ) -> Self {
        assert_eq!(
            rows.len(),
            table.rows(),
            "a frame needs one label set for each row"
        );
        table.copy_into(&mut buffer, wanted);
        Self {
            columns: table.columns().clone(),
            rows,
            values: buffer,
            time,
            passed_on: false,
        }
    }

    /// A frame whose rows are shared with others: of a device whose series stay the same. `values` are row by row.
    ///
    /// # Panics
    /// When the number of values is not that of all cells.
    #[must_use]
    pub fn of_rows(
        columns: Arc<Columns>,
        rows: Arc<[LabelSet]>,
        values: Vec<f64>,
        time: SystemTime,
    ) -> Self {
        assert_eq!(
            values.len(),
            rows.len() * columns.width(),
            "a frame needs one value for each cell"
        );
        Self {
            columns,
            rows,
            values,
            time,
            passed_on: false,
        }
    }

    /// When its values were measured: the start of the cycle that did.
    #[must_use]
    pub fn time(&self) -> SystemTime {
        self.time
    }

    /// The same values with another time, for a frame that a scraper made while it ran.
    #[must_use]
    pub fn at(mut self, time: SystemTime) -> Self {
        self.time = time;
        self
    }

    /// The same as series of a device's own, which are handed on beside what was measured: in
    /// [`CycleReport::passed_on`](crate::CycleReport::passed_on). Their labels need not be those of the target.
    #[must_use]
    pub fn passed_on(mut self) -> Self {
        self.passed_on = true;
        self
    }

    /// Whether the series are a device's own.
    #[must_use]
    pub fn is_passed_on(&self) -> bool {
        self.passed_on
    }

    /// The same without the metrics that are not `wanted`: their series are absent.
    #[must_use]
    pub fn only_metrics(mut self, wanted: impl Fn(&MetricDescriptor) -> bool) -> Self {
        let columns = self.columns.clone();
        let descriptors = columns.descriptors().iter().enumerate();
        for (index, _) in descriptors.filter(|(_, descriptor)| !wanted(descriptor)) {
            for row in 0..self.rows.len() {
                let (start, range) = (row * columns.width(), columns.range(index));
                self.values[start + range.start..start + range.end].fill(ABSENT);
            }
        }
        self
    }

    /// The same with all series of the rows that are not `wanted` absent, their counters too: for a frame of some rows whose
    /// others follow with the same time.
    #[must_use]
    pub fn only_rows(mut self, wanted: impl Fn(usize) -> bool) -> Self {
        let width = self.columns.width();
        for row in (0..self.rows.len()).filter(|row| !wanted(*row)) {
            self.values[row * width..(row + 1) * width].fill(ABSENT);
        }
        self
    }

    /// Only the rows that are `wanted`.
    #[must_use]
    pub fn retain_rows(mut self, wanted: impl Fn(usize) -> bool) -> Self {
        let width = self.columns.width();
        let rows = || (0..self.rows.len()).filter(|row| wanted(*row));
        let values = rows().flat_map(|row| &self.values[row * width..(row + 1) * width]);
        self.values = values.copied().collect();
        self.rows = rows().map(|row| self.rows[row].clone()).collect();
        self
    }

    /// The same with a further label on every row; as it is where a row has one of that name already.
    #[must_use]
    pub fn with_label(mut self, name: &Arc<str>, value: &Arc<str>) -> Self {
        let rows = self.rows.iter();
        let label = || [(name.clone(), value.clone())];
        let labelled: Result<_, _> = rows.map(|row| row.with(label())).collect();
        if let Ok(rows) = labelled {
            self.rows = rows;
        }
        self
    }

    /// Gives the allocation back for the next [`freeze_into`](Self::freeze_into).
    #[must_use]
    pub fn into_buffer(self) -> Vec<f64> {
        self.values
    }

    /// The columns' meaning.
    #[must_use]
    pub fn columns(&self) -> &Arc<Columns> {
        &self.columns
    }

    /// The labels of each row.
    #[must_use]
    pub fn rows(&self) -> &Arc<[LabelSet]> {
        &self.rows
    }

    /// The metric at position `metric` of the row at `row`, or `None` while it is absent.
    ///
    /// # Panics
    /// When there is no such row or metric.
    #[must_use]
    pub fn cell(&self, row: usize, metric: usize) -> Option<Cell<'_>> {
        let start = row * self.columns.width();
        let columns = self.columns.range(metric);
        let values = &self.values[start + columns.start..start + columns.end];
        match self.columns.descriptors()[metric].kind() {
            MetricKind::Gauge | MetricKind::Counter | MetricKind::Untyped => {
                (!is_absent(values[0])).then_some(Cell::Value(values[0]))
            }
            MetricKind::Histogram(spec) => {
                if is_absent(values[0]) {
                    return None;
                }
                let (buckets, rest) = values.split_at(spec.bounds.len() + 1);
                Some(Cell::Histogram {
                    spec,
                    buckets,
                    sum: rest[0],
                    native: &rest[1..],
                })
            }
            MetricKind::Summary(spec) => {
                let (quantiles, rest) = values.split_at(spec.quantiles.len());
                let is_there = values.iter().any(|value| !is_absent(*value));
                is_there.then(|| Cell::Summary {
                    spec,
                    quantiles,
                    sum: rest[0],
                    count: rest[1],
                })
            }
        }
    }

    /// The value of a gauge or counter of the row at `row`, or `None` while it is absent.
    ///
    /// # Panics
    /// When there is no such row, or `metric` is of other columns.
    #[must_use]
    pub fn get(&self, row: usize, metric: Metric) -> Option<f64> {
        match self.cell(row, metric.index as usize)? {
            Cell::Value(value) => Some(value),
            _ => None,
        }
    }

    /// The value of a gauge or counter, by name, of the row at `row`. The first descriptor of that name is meant.
    #[must_use]
    pub fn value(&self, row: usize, name: &str) -> Option<f64> {
        let metric = self
            .columns
            .descriptors()
            .iter()
            .position(|d| d.name() == name)?;
        match self.cell(row, metric)? {
            Cell::Value(value) => Some(value),
            _ => None,
        }
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Frame({} rows × {} columns)",
            self.rows.len(),
            self.columns.width()
        )
    }
}

/// Builds a frame row by row, for values that are not measured by a scraper: an exporter's own metrics.
///
/// ```
/// use pe_scrape::{FrameBuilder, LabelSet, MetricDescriptor};
///
/// let frame = FrameBuilder::new(&[MetricDescriptor::gauge("exporter_jobs", "Number of jobs to export")])
///     .expect("the descriptors are consistent")
///     .row(LabelSet::empty(), &[3.0])
///     .build();
/// assert_eq!(frame.value(0, "exporter_jobs"), Some(3.0));
/// ```
#[derive(Debug)]
pub struct FrameBuilder {
    columns: Arc<Columns>,
    rows: Vec<LabelSet>,
    values: Vec<f64>,
    time: SystemTime,
}

impl FrameBuilder {
    /// Starts a frame without rows.
    ///
    /// # Errors
    /// [`ColumnsError`] when the descriptors contradict each other.
    pub fn new(descriptors: &[MetricDescriptor]) -> Result<Self, ColumnsError> {
        Ok(Self::with_columns(Columns::new(descriptors)?))
    }

    /// Starts a frame without rows with known columns.
    #[must_use]
    pub fn with_columns(columns: Arc<Columns>) -> Self {
        Self {
            columns,
            rows: Vec::new(),
            values: Vec::new(),
            time: SystemTime::now(),
        }
    }

    /// When the values were measured; now unless set.
    #[must_use]
    pub fn time(mut self, time: SystemTime) -> Self {
        self.time = time;
        self
    }

    /// Adds a row: its labels, and all its columns in order ([`ABSENT`](crate::ABSENT) for none).
    ///
    /// # Panics
    /// When the number of values is not the columns' width.
    #[must_use]
    pub fn row(mut self, labels: LabelSet, values: &[f64]) -> Self {
        assert_eq!(
            values.len(),
            self.columns.width(),
            "a row needs one value for each column"
        );
        self.rows.push(labels);
        self.values.extend_from_slice(values);
        self
    }

    /// The finished frame.
    #[must_use]
    pub fn build(self) -> Frame {
        Frame {
            columns: self.columns,
            rows: self.rows.into(),
            values: self.values,
            time: self.time,
            passed_on: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_label_is_added_unless_it_is_there() {
        let frame = FrameBuilder::new(&[MetricDescriptor::gauge("up", "")]).unwrap();
        let kind = LabelSet::new([("kind", "a")]).unwrap();
        let frame = frame.row(kind, &[1.0]).row(LabelSet::empty(), &[2.0]);
        let frame = frame
            .build()
            .with_label(&"sink".into(), &"west".into())
            .with_label(&"sink".into(), &"east".into());
        let rows: Vec<String> = frame.rows().iter().map(|row| format!("{row:?}")).collect();
        assert_eq!(rows, [r#"[kind="a", sink="west"]"#, r#"[sink="west"]"#]);
    }

    #[test]
    fn rows_that_follow_later_are_left_out_with_their_counters() {
        let mut columns = Columns::builder();
        let (up, seen) = (columns.gauge("up", ""), columns.counter("seen_total", ""));
        let table = Table::new(columns.build().unwrap(), 2);
        for row in 0..2 {
            table.row(row).set(up, 1.0);
            table.row(row).add(seen, 5.0);
        }
        let rows: Arc<[LabelSet]> = [LabelSet::empty(), LabelSet::empty()].into();
        let time = SystemTime::UNIX_EPOCH;
        let frame = Frame::freeze_into(&table, rows, time, |row| row == 0, Vec::new());
        assert_eq!((frame.get(1, up), frame.get(1, seen)), (None, Some(5.0)));
        let frame = frame.only_rows(|row| row == 0);
        assert_eq!(
            (frame.get(0, up), frame.get(0, seen)),
            (Some(1.0), Some(5.0))
        );
        assert_eq!((frame.get(1, up), frame.get(1, seen)), (None, None));
        let later = time + Duration::from_secs(1);
        assert_eq!(frame.at(later).time(), later);
    }
}
