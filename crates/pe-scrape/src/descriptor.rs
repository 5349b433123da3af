//! What a scraper yields: names, help texts, types and units, and how they lie in a table's columns.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use thiserror::Error;

use crate::{is_label_name, is_metric_name};

/// The unit of a metric's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Unit {
    /// A plain number or a count.
    #[default]
    None,
    /// Seconds, the base unit of time.
    Seconds,
    /// Milliseconds, kept for metrics that existing dashboards know.
    Milliseconds,
    /// Bytes.
    Bytes,
    /// A share from 0 to 1.
    Ratio,
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "",
            Self::Seconds => "seconds",
            Self::Milliseconds => "milliseconds",
            Self::Bytes => "bytes",
            Self::Ratio => "ratio",
        })
    }
}

/// Exponential buckets of a native histogram, held densely between two bounds.
///
/// Bucket `i` of schema `s` holds values in `(2^((i-1)/2^s), 2^(i/2^s)]`. Values below the lowest bucket count as zero,
/// values above the highest count into the highest.
/// Source: <https://prometheus.io/docs/specs/native_histograms/>.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NativeBuckets {
    /// The resolution, from 0 (each bucket doubles) to 8.
    pub schema: u8,
    /// Index of the lowest bucket.
    pub lowest: i32,
    /// Index of the highest bucket, inclusive.
    pub highest: i32,
}

impl NativeBuckets {
    /// Buckets that grow by 9 % from 1 µs to 64 s: fit for round-trip times in seconds.
    pub const RTT_SECONDS: Self = Self {
        schema: 3,
        lowest: -159,
        highest: 48,
    };

    /// How many buckets there are.
    #[must_use]
    pub fn len(&self) -> usize {
        usize::try_from(i64::from(self.highest) - i64::from(self.lowest) + 1).unwrap_or(0)
    }

    /// Whether there is no bucket.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The upper bound of the zero bucket, which is the lower bound of the lowest bucket.
    #[must_use]
    pub fn zero_threshold(&self) -> f64 {
        (f64::from(self.lowest - 1) / f64::from(1_u32 << self.schema)).exp2()
    }

    /// The position of `value` among the buckets, or `None` for the zero bucket.
    pub(crate) fn position(&self, value: f64) -> Option<usize> {
        if value.is_nan() || value <= self.zero_threshold() {
            return None;
        }
        let index = (value.log2() * f64::from(1_u32 << self.schema)).ceil();
        let index = index.clamp(f64::from(self.lowest), f64::from(self.highest));
        Some((index - f64::from(self.lowest)) as usize)
    }
}

/// The buckets of a histogram.
#[derive(Debug, Clone, PartialEq)]
pub struct HistogramSpec {
    /// Upper bounds of the classic buckets, ascending, without `+Inf`.
    pub bounds: Arc<[f64]>,
    /// Native buckets kept beside the classic ones, if wanted.
    pub native: Option<NativeBuckets>,
}

impl HistogramSpec {
    /// Classic buckets only.
    #[must_use]
    pub fn classic(bounds: impl Into<Arc<[f64]>>) -> Self {
        Self {
            bounds: bounds.into(),
            native: None,
        }
    }

    /// The same with native buckets beside the classic ones.
    #[must_use]
    pub fn with_native(mut self, native: NativeBuckets) -> Self {
        self.native = Some(native);
        self
    }

    /// Columns: classic buckets and `+Inf`, the sum, then the zero bucket and the native buckets.
    fn width(&self) -> usize {
        self.bounds.len() + 2 + self.native.map_or(0, |native| native.len() + 1)
    }
}

/// The type of a metric.
#[derive(Debug, Clone, PartialEq)]
pub enum MetricKind {
    /// A value that may go up and down. It is cleared at the start of each cycle.
    Gauge,
    /// A value that only goes up. It is kept from cycle to cycle.
    Counter,
    /// A distribution of observations. It is kept from cycle to cycle.
    Histogram(HistogramSpec),
}

impl MetricKind {
    fn width(&self) -> usize {
        match self {
            Self::Gauge | Self::Counter => 1,
            Self::Histogram(spec) => spec.width(),
        }
    }

    /// The word for the type in the exposition formats.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Gauge => "gauge",
            Self::Counter => "counter",
            Self::Histogram(_) => "histogram",
        }
    }
}

/// One metric that a scraper yields for each target: a name, a help text, a type, a unit, and labels that are the same
/// for all targets (`reason="timeout"`). Descriptors of one scraper may share a name if their labels differ.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricDescriptor {
    name: Cow<'static, str>,
    help: Cow<'static, str>,
    kind: MetricKind,
    unit: Unit,
    labels: Vec<(Cow<'static, str>, Cow<'static, str>)>,
    sparse: bool,
}

impl MetricDescriptor {
    /// A metric of any type. The help text is shown byte for byte.
    pub fn new(
        name: impl Into<Cow<'static, str>>,
        help: impl Into<Cow<'static, str>>,
        kind: MetricKind,
    ) -> Self {
        Self {
            name: name.into(),
            help: help.into(),
            kind,
            unit: Unit::None,
            labels: Vec::new(),
            sparse: false,
        }
    }

    /// A gauge.
    pub fn gauge(name: impl Into<Cow<'static, str>>, help: impl Into<Cow<'static, str>>) -> Self {
        Self::new(name, help, MetricKind::Gauge)
    }

    /// A counter; its name should end in `_total`.
    pub fn counter(name: impl Into<Cow<'static, str>>, help: impl Into<Cow<'static, str>>) -> Self {
        Self::new(name, help, MetricKind::Counter)
    }

    /// A histogram.
    pub fn histogram(
        name: impl Into<Cow<'static, str>>,
        help: impl Into<Cow<'static, str>>,
        spec: HistogramSpec,
    ) -> Self {
        Self::new(name, help, MetricKind::Histogram(spec))
    }

    /// The same with a unit.
    #[must_use]
    pub fn with_unit(mut self, unit: Unit) -> Self {
        self.unit = unit;
        self
    }

    /// The same with one more label that all its series carry.
    #[must_use]
    pub fn with_label(
        mut self,
        name: impl Into<Cow<'static, str>>,
        value: impl Into<Cow<'static, str>>,
    ) -> Self {
        self.labels.push((name.into(), value.into()));
        self
    }

    /// The same, but a counter's series is absent until it is first written, instead of starting at 0. For counters of
    /// rare events by reason, of which most devices never have most.
    #[must_use]
    pub fn sparse(mut self) -> Self {
        self.sparse = true;
        self
    }

    /// The metric's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The help text, byte for byte as it is shown.
    #[must_use]
    pub fn help(&self) -> &str {
        &self.help
    }

    /// The type.
    #[must_use]
    pub fn kind(&self) -> &MetricKind {
        &self.kind
    }

    /// The unit.
    #[must_use]
    pub fn unit(&self) -> Unit {
        self.unit
    }

    /// The labels that all its series carry.
    pub fn labels(&self) -> impl Iterator<Item = (&str, &str)> {
        self.labels.iter().map(|(name, value)| (&**name, &**value))
    }

    pub(crate) fn starts_absent(&self) -> bool {
        self.sparse || self.kind == MetricKind::Gauge
    }
}

/// Why descriptors do not fit together.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SchemaError {
    /// Not a Prometheus metric name.
    #[error(
        "metric name {0:?} is not allowed: use letters, digits, '_' and ':', not starting with a digit"
    )]
    MetricName(String),
    /// Not a Prometheus label name.
    #[error("metric {metric}: label name {label:?} is not allowed")]
    LabelName {
        /// The metric.
        metric: String,
        /// The name that is refused.
        label: String,
    },
    /// The same name and labels twice.
    #[error("metric {0} is described twice with the same labels")]
    Duplicate(String),
    /// One name with two help texts, types or units.
    #[error("metric {0} is described with two different help texts, types or units")]
    Inconsistent(String),
    /// Histogram bounds that are not finite and ascending.
    #[error("metric {0}: histogram bounds must be finite and ascending")]
    Bounds(String),
}

/// A scraper's descriptors and where each lies in a table's columns.
#[derive(Debug, PartialEq)]
pub struct Schema {
    descriptors: Box<[MetricDescriptor]>,
    offsets: Box<[usize]>,
    width: usize,
}

impl Schema {
    /// Lays the descriptors out.
    ///
    /// # Errors
    /// [`SchemaError`] when a name is not allowed, or two descriptors contradict or repeat each other.
    pub fn new(descriptors: &[MetricDescriptor]) -> Result<Arc<Self>, SchemaError> {
        for (position, this) in descriptors.iter().enumerate() {
            check_descriptor(this)?;
            for other in descriptors[..position]
                .iter()
                .filter(|other| other.name == this.name)
            {
                if other.labels == this.labels {
                    return Err(SchemaError::Duplicate(this.name.to_string()));
                }
                if (&other.help, &other.kind, other.unit) != (&this.help, &this.kind, this.unit) {
                    return Err(SchemaError::Inconsistent(this.name.to_string()));
                }
            }
        }
        let mut width = 0;
        let offsets = descriptors
            .iter()
            .map(|descriptor| {
                let offset = width;
                width += descriptor.kind.width();
                offset
            })
            .collect();
        Ok(Arc::new(Self {
            descriptors: descriptors.into(),
            offsets,
            width,
        }))
    }

    /// The descriptors, in the scraper's order.
    #[must_use]
    pub fn descriptors(&self) -> &[MetricDescriptor] {
        &self.descriptors
    }

    /// How many columns a row has.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// The columns of the descriptor at `index`.
    pub(crate) fn columns(&self, index: usize) -> Range<usize> {
        let start = self.offsets[index];
        start..start + self.descriptors[index].kind.width()
    }

    pub(crate) fn first_column(&self, index: usize) -> usize {
        self.offsets[index]
    }
}

fn check_descriptor(descriptor: &MetricDescriptor) -> Result<(), SchemaError> {
    if !is_metric_name(&descriptor.name) {
        return Err(SchemaError::MetricName(descriptor.name.to_string()));
    }
    if let Some((label, _)) = descriptor
        .labels
        .iter()
        .find(|(label, _)| !is_label_name(label))
    {
        return Err(SchemaError::LabelName {
            metric: descriptor.name.to_string(),
            label: label.to_string(),
        });
    }
    if let MetricKind::Histogram(spec) = &descriptor.kind {
        let ascending = spec.bounds.windows(2).all(|pair| pair[0] < pair[1]);
        if !ascending || spec.bounds.iter().any(|bound| !bound.is_finite()) {
            return Err(SchemaError::Bounds(descriptor.name.to_string()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_refuses_contradictions() {
        let a = || MetricDescriptor::counter("errors_total", "Errors");
        assert_eq!(
            Schema::new(&[a(), a()]),
            Err(SchemaError::Duplicate("errors_total".into()))
        );
        let other_help =
            MetricDescriptor::counter("errors_total", "Other").with_label("reason", "x");
        assert_eq!(
            Schema::new(&[a(), other_help]),
            Err(SchemaError::Inconsistent("errors_total".into()))
        );
        assert_eq!(
            Schema::new(&[MetricDescriptor::gauge("a b", "")]),
            Err(SchemaError::MetricName("a b".into()))
        );
        let spec = HistogramSpec::classic([2.0, 1.0]);
        assert_eq!(
            Schema::new(&[MetricDescriptor::histogram("h", "", spec)]),
            Err(SchemaError::Bounds("h".into()))
        );
        assert!(
            Schema::new(&[a().with_label("reason", "x"), a().with_label("reason", "y")]).is_ok()
        );
    }

    #[test]
    fn native_buckets_hold_their_bounds() {
        let buckets = NativeBuckets::RTT_SECONDS;
        assert!(buckets.zero_threshold() > 0.9e-6 && buckets.zero_threshold() < 1.1e-6);
        assert_eq!(buckets.position(0.0), None);
        assert_eq!(buckets.position(1e9), Some(buckets.len() - 1));
        // 1.0 is the inclusive upper bound of bucket 0.
        assert_eq!(buckets.position(1.0), Some(159));
        assert_eq!(buckets.position(1.0001), Some(160));
    }
}
