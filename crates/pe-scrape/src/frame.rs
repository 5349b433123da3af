//! Frozen results: what sinks and pages get to see.

use std::fmt;
use std::sync::Arc;

use crate::descriptor::{MetricKind, Schema, SchemaError};
use crate::table::is_absent;
use crate::{HistogramSpec, LabelSet, MetricDescriptor, Table};

/// A finished table: the values of one scraper for all its rows, with the labels of each row. Immutable.
#[derive(Clone, PartialEq)]
pub struct Frame {
    schema: Arc<Schema>,
    rows: Arc<[LabelSet]>,
    values: Vec<f64>,
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
}

impl Frame {
    /// Freezes `table`, whose rows have the labels `rows`.
    ///
    /// # Panics
    /// When the number of label sets is not the table's number of rows.
    #[must_use]
    pub fn freeze(table: &Table, rows: Arc<[LabelSet]>) -> Self {
        Self::freeze_into(table, rows, Vec::new())
    }

    /// The same, with the allocation of an earlier frame's [`into_buffer`](Self::into_buffer).
    ///
    /// # Panics
    /// When the number of label sets is not the table's number of rows.
    #[must_use]
    pub fn freeze_into(table: &Table, rows: Arc<[LabelSet]>, mut buffer: Vec<f64>) -> Self {
        assert_eq!(
            rows.len(),
            table.rows(),
            "a frame needs one label set for each row"
        );
        table.copy_into(&mut buffer);
        Self {
            schema: table.schema().clone(),
            rows,
            values: buffer,
        }
    }

    /// Gives the allocation back for the next [`freeze_into`](Self::freeze_into).
    #[must_use]
    pub fn into_buffer(self) -> Vec<f64> {
        self.values
    }

    /// The columns' meaning.
    #[must_use]
    pub fn schema(&self) -> &Arc<Schema> {
        &self.schema
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
        let start = row * self.schema.width();
        let columns = self.schema.columns(metric);
        let values = &self.values[start + columns.start..start + columns.end];
        match self.schema.descriptors()[metric].kind() {
            MetricKind::Gauge | MetricKind::Counter => {
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
        }
    }

    /// The value of a gauge or counter, by name, of the row at `row`. The first descriptor of that name is meant.
    #[must_use]
    pub fn value(&self, row: usize, name: &str) -> Option<f64> {
        let metric = self
            .schema
            .descriptors()
            .iter()
            .position(|d| d.name() == name)?;
        match self.cell(row, metric)? {
            Cell::Value(value) => Some(value),
            Cell::Histogram { .. } => None,
        }
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Frame({} rows × {} columns)",
            self.rows.len(),
            self.schema.width()
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
    schema: Arc<Schema>,
    rows: Vec<LabelSet>,
    values: Vec<f64>,
}

impl FrameBuilder {
    /// Starts a frame without rows.
    ///
    /// # Errors
    /// [`SchemaError`] when the descriptors contradict each other.
    pub fn new(descriptors: &[MetricDescriptor]) -> Result<Self, SchemaError> {
        Ok(Self::with_schema(Schema::new(descriptors)?))
    }

    /// Starts a frame without rows of a known schema.
    #[must_use]
    pub fn with_schema(schema: Arc<Schema>) -> Self {
        Self {
            schema,
            rows: Vec::new(),
            values: Vec::new(),
        }
    }

    /// Adds a row: its labels, and all its columns in order ([`ABSENT`](crate::ABSENT) for none).
    ///
    /// # Panics
    /// When the number of values is not the schema's width.
    #[must_use]
    pub fn row(mut self, labels: LabelSet, values: &[f64]) -> Self {
        assert_eq!(
            values.len(),
            self.schema.width(),
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
            schema: self.schema,
            rows: self.rows.into(),
            values: self.values,
        }
    }
}
