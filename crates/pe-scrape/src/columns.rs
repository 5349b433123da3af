//! What a scraper yields: names, help texts, types and units, and how they lie in a table's columns.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use thiserror::Error;

use crate::{SettingsError, is_label_name, is_metric_name};

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

impl Unit {
    /// The word for the unit; empty for none.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Seconds => "seconds",
            Self::Milliseconds => "milliseconds",
            Self::Bytes => "bytes",
            Self::Ratio => "ratio",
        }
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
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
    /// How the bounds are written in the label `le`, where it matters: as many as there are bounds, or none.
    pub written: Arc<[Box<str>]>,
}

impl HistogramSpec {
    /// Classic buckets only.
    #[must_use]
    pub fn classic(bounds: impl Into<Arc<[f64]>>) -> Self {
        Self {
            bounds: bounds.into(),
            native: None,
            written: Arc::new([]),
        }
    }

    /// The upper bound of the classic bucket at `index` as the label `le` has it; that behind the last one is `+Inf`.
    #[must_use]
    pub fn label(&self, index: usize) -> Cow<'_, str> {
        written(&self.written, &self.bounds, index)
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

/// The quantiles of a summary.
#[derive(Debug, Clone, PartialEq)]
pub struct SummarySpec {
    /// The quantiles, from 0 to 1.
    pub quantiles: Arc<[f64]>,
    /// How they are written in the label `quantile`, where it matters: as many as there are quantiles, or none.
    pub written: Arc<[Box<str>]>,
}

impl SummarySpec {
    /// The quantile at `index` as the label `quantile` has it.
    #[must_use]
    pub fn label(&self, index: usize) -> Cow<'_, str> {
        written(&self.written, &self.quantiles, index)
    }

    /// Columns: the quantiles, the sum, the count.
    fn width(&self) -> usize {
        self.quantiles.len() + 2
    }
}

/// The text of a number in a label.
fn written<'w>(written: &'w [Box<str>], numbers: &[f64], index: usize) -> Cow<'w, str> {
    match written.get(index) {
        Some(text) => Cow::Borrowed(&**text),
        None => match numbers.get(index) {
            Some(number) => Cow::Owned(number.to_string()),
            None => Cow::Borrowed("+Inf"),
        },
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
    /// Quantiles of observations, their sum and their count, as somebody else has put them together. Each is a cell of its own.
    Summary(SummarySpec),
    /// A value of which nobody says what it is.
    Untyped,
}

impl MetricKind {
    fn width(&self) -> usize {
        match self {
            Self::Gauge | Self::Counter | Self::Untyped => 1,
            Self::Histogram(spec) => spec.width(),
            Self::Summary(spec) => spec.width(),
        }
    }

    /// The word for the type in the exposition formats.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Gauge => "gauge",
            Self::Counter => "counter",
            Self::Histogram(_) => "histogram",
            Self::Summary(_) => "summary",
            Self::Untyped => "untyped",
        }
    }
}

/// When a gauge says whether the device is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum UpRole {
    /// Where no other scraper of the device says so always.
    UnlessTold,
    /// Always. Where several do, the device is up when one of them says so.
    Always,
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
    up: Option<UpRole>,
    hidden: bool,
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
            up: None,
            hidden: false,
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

    /// The same as the gauge that says whether the device is up: 1, 0, or absent where that is not known. Everything that
    /// counts devices goes by it.
    #[must_use]
    pub fn up(mut self) -> Self {
        self.up = Some(UpRole::Always);
        self
    }

    /// The same as the gauge that says whether the device is up, for devices of which no other scraper [says so](Self::up).
    #[must_use]
    pub fn up_unless_told(mut self) -> Self {
        self.up = Some(UpRole::UnlessTold);
        self
    }

    /// A cell with codes of single round-trip times, see [`push_rtt_code`](crate::push_rtt_code), that sinks may use and no
    /// exposition shows. It is a gauge.
    #[must_use]
    pub fn hidden(mut self) -> Self {
        self.hidden = true;
        self
    }

    /// Whether no exposition shows it.
    #[must_use]
    pub fn is_hidden(&self) -> bool {
        self.hidden
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

    /// Whether the two could stand side by side under one name: of the same type, help text and unit.
    #[must_use]
    pub(crate) fn agrees_with(&self, other: &Self) -> bool {
        self.kind.as_str() == other.kind.as_str()
            && self.help == other.help
            && self.unit == other.unit
    }

    /// The names of the series that the metric yields: its own, and those of a histogram's parts.
    pub fn series_names(&self) -> impl Iterator<Item = String> {
        let parts: &[&str] = match self.kind {
            MetricKind::Histogram(_) => &["", "_bucket", "_sum", "_count"],
            MetricKind::Summary(_) => &["", "_sum", "_count"],
            _ => &[""],
        };
        parts.iter().map(|part| format!("{}{part}", self.name))
    }

    pub(crate) fn starts_absent(&self) -> bool {
        let is_kept = matches!(self.kind, MetricKind::Counter | MetricKind::Histogram(_));
        self.sparse || !is_kept
    }
}

/// Why metrics do not fit together.
#[derive(Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ColumnsError {
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
    /// Two metrics that both say whether the device is up.
    #[error("metric {0} is the second that says whether the device is up")]
    Up(String),
    /// Histogram bounds that are not finite and ascending.
    #[error("metric {0}: histogram bounds must be finite and ascending")]
    Bounds(String),
}

crate::debug_with_causes!(ColumnsError);

/// A metric of a scraper: where its columns lie. Got from [`ColumnsBuilder::add`], and valid for the rows of tables with
/// those columns only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Metric {
    pub(crate) index: u32,
    pub(crate) column: u32,
}

/// Puts the metrics of a scraper together, and gives a [`Metric`] for each, by which rows are written.
///
/// ```
/// use pe_scrape::{Columns, MetricDescriptor, Table};
///
/// let mut metrics = Columns::builder();
/// let up = metrics.add(MetricDescriptor::gauge("greeting_up", "Whether the service greeted in time").up());
/// let columns = metrics.build()?;
///
/// let table = Table::new(columns, 1);
/// table.row(0).set(up, 1.0);
/// assert_eq!(table.row(0).get(up), Some(1.0));
/// # Ok::<(), pe_scrape::ColumnsError>(())
/// ```
#[derive(Debug, Default)]
pub struct ColumnsBuilder {
    descriptors: Vec<MetricDescriptor>,
    width: usize,
}

impl ColumnsBuilder {
    /// Adds a metric.
    pub fn add(&mut self, descriptor: MetricDescriptor) -> Metric {
        let metric = Metric {
            index: self.descriptors.len() as u32,
            column: self.width as u32,
        };
        self.width += descriptor.kind.width();
        self.descriptors.push(descriptor);
        metric
    }

    /// Adds a gauge without a unit.
    pub fn gauge(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        help: impl Into<Cow<'static, str>>,
    ) -> Metric {
        self.add(MetricDescriptor::gauge(name, help))
    }

    /// Adds a counter without a unit.
    pub fn counter(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        help: impl Into<Cow<'static, str>>,
    ) -> Metric {
        self.add(MetricDescriptor::counter(name, help))
    }

    /// The finished columns.
    ///
    /// # Errors
    /// [`ColumnsError`] when a name is not allowed, two metrics contradict or repeat each other, or two say that they are
    /// the scraper's "up".
    pub fn build(self) -> Result<Arc<Columns>, ColumnsError> {
        Columns::new(&self.descriptors)
    }
}

/// A scraper's metrics, and where each lies in the columns of a [`Table`](crate::Table).
#[derive(Debug, PartialEq)]
pub struct Columns {
    descriptors: Box<[MetricDescriptor]>,
    offsets: Box<[usize]>,
    width: usize,
    up: Option<(Metric, UpRole)>,
}

impl Columns {
    /// Starts without metrics.
    #[must_use]
    pub fn builder() -> ColumnsBuilder {
        ColumnsBuilder::default()
    }

    /// Lays the descriptors out.
    ///
    /// # Errors
    /// As [`ColumnsBuilder::build`].
    pub fn new(descriptors: &[MetricDescriptor]) -> Result<Arc<Self>, ColumnsError> {
        let mut up = None;
        let mut width = 0;
        let mut offsets = Vec::with_capacity(descriptors.len());
        let mut first: HashMap<&str, &MetricDescriptor> = HashMap::new();
        let mut seen: HashSet<(&str, &[_])> = HashSet::new();
        for this in descriptors {
            check_descriptor(this)?;
            let first = *first.entry(&this.name).or_insert(this);
            if !seen.insert((&this.name, &this.labels)) {
                return Err(ColumnsError::Duplicate(this.name.to_string()));
            }
            if !first.agrees_with(this) {
                return Err(ColumnsError::Inconsistent(this.name.to_string()));
            }
            if let Some(role) = this.up {
                let metric = Metric {
                    index: offsets.len() as u32,
                    column: width as u32,
                };
                if up.replace((metric, role)).is_some() {
                    return Err(ColumnsError::Up(this.name.to_string()));
                }
            }
            offsets.push(width);
            width += this.kind.width();
        }
        Ok(Arc::new(Self {
            descriptors: descriptors.into(),
            offsets: offsets.into(),
            width,
            up,
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

    /// The metric that says whether the device is up, if there is one.
    #[must_use]
    pub fn up(&self) -> Option<Metric> {
        self.up.map(|(metric, _)| metric)
    }

    /// When that metric counts.
    #[must_use]
    pub(crate) fn up_role(&self) -> Option<UpRole> {
        self.up.map(|(_, role)| role)
    }

    /// All metrics with their handles, in the scraper's order.
    pub fn metrics(&self) -> impl Iterator<Item = (&MetricDescriptor, Metric)> {
        let places = self.offsets.iter().enumerate();
        let handles = places.map(|(index, offset)| Metric {
            index: index as u32,
            column: *offset as u32,
        });
        self.descriptors.iter().zip(handles)
    }

    /// The first metric of that name.
    #[must_use]
    pub fn metric(&self, name: &str) -> Option<Metric> {
        let index = self.descriptors.iter().position(|d| d.name == name)?;
        Some(Metric {
            index: index as u32,
            column: self.offsets[index] as u32,
        })
    }

    /// The columns of all gauges.
    pub(crate) fn gauges(&self) -> impl Iterator<Item = usize> {
        let metrics = self.descriptors.iter().zip(&self.offsets);
        metrics
            .filter(|(descriptor, _)| {
                !matches!(
                    descriptor.kind,
                    MetricKind::Counter | MetricKind::Histogram(_)
                )
            })
            .flat_map(|(descriptor, offset)| *offset..*offset + descriptor.kind.width())
    }

    /// Whether `metric` is a gauge or counter of these columns, as far as that shows.
    pub(crate) fn has_scalar(&self, metric: Metric) -> bool {
        let index = metric.index as usize;
        self.offsets.get(index) == Some(&(metric.column as usize))
            && self.descriptors[index].kind.width() == 1
    }

    /// The columns of the descriptor at `index`.
    pub(crate) fn range(&self, index: usize) -> Range<usize> {
        let start = self.offsets[index];
        start..start + self.descriptors[index].kind.width()
    }
}

fn check_descriptor(descriptor: &MetricDescriptor) -> Result<(), ColumnsError> {
    if !is_metric_name(&descriptor.name) {
        return Err(ColumnsError::MetricName(descriptor.name.to_string()));
    }
    if let Some((label, _)) = descriptor
        .labels
        .iter()
        .find(|(label, _)| !is_label_name(label))
    {
        return Err(ColumnsError::LabelName {
            metric: descriptor.name.to_string(),
            label: label.to_string(),
        });
    }
    if let MetricKind::Histogram(spec) = &descriptor.kind {
        let ascending = spec.bounds.windows(2).all(|pair| pair[0] < pair[1]);
        if !ascending || spec.bounds.iter().any(|bound| !bound.is_finite()) {
            return Err(ColumnsError::Bounds(descriptor.name.to_string()));
        }
    }
    Ok(())
}

impl From<ColumnsError> for SettingsError {
    fn from(error: ColumnsError) -> Self {
        Self::new(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contradictions_are_refused() {
        let a = || MetricDescriptor::counter("errors_total", "Errors");
        assert_eq!(
            Columns::new(&[a(), a()]),
            Err(ColumnsError::Duplicate("errors_total".into()))
        );
        let other_help =
            MetricDescriptor::counter("errors_total", "Other").with_label("reason", "x");
        assert_eq!(
            Columns::new(&[a(), other_help]),
            Err(ColumnsError::Inconsistent("errors_total".into()))
        );
        assert_eq!(
            Columns::new(&[MetricDescriptor::gauge("a b", "")]),
            Err(ColumnsError::MetricName("a b".into()))
        );
        let spec = HistogramSpec::classic([2.0, 1.0]);
        assert_eq!(
            Columns::new(&[MetricDescriptor::histogram("h", "", spec)]),
            Err(ColumnsError::Bounds("h".into()))
        );
        assert!(
            Columns::new(&[a().with_label("reason", "x"), a().with_label("reason", "y")]).is_ok()
        );
        let up = |name: &'static str| MetricDescriptor::gauge(name, "").up();
        assert_eq!(
            Columns::new(&[up("a"), up("b")]),
            Err(ColumnsError::Up("b".into()))
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
