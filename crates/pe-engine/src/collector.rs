//! Results for programs that expose their metrics with the `prometheus-client` crate.

use std::fmt;

use pe_scrape::exposition::families;
use pe_scrape::{Cell, MetricKind};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::Results;
use crate::results::blocks;

/// The latest results of all groups as one more source of a `prometheus_client` registry, labelled with
/// `exporter`.
///
/// ```
/// # fn example(engine: &pe_engine::Engine) {
/// let mut registry = prometheus_client::registry::Registry::default();
/// registry.register_collector(Box::new(engine.results()));
/// # }
/// ```
impl Collector for Results {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let reports = self.latest();
        let blocks = blocks(&reports);
        for family in families(&blocks) {
            let descriptor = family.descriptor();
            let (name, kind) = match descriptor.kind() {
                // The encoder adds the suffix again.
                MetricKind::Counter => {
                    let name = descriptor.name();
                    (
                        name.strip_suffix("_total").unwrap_or(name),
                        MetricType::Counter,
                    )
                }
                MetricKind::Gauge => (descriptor.name(), MetricType::Gauge),
                // The crate knows neither: their parts are told without a type.
                MetricKind::Untyped | MetricKind::Summary(_) => {
                    (descriptor.name(), MetricType::Unknown)
                }
                MetricKind::Histogram(_) => (descriptor.name(), MetricType::Histogram),
            };
            let mut series = family.series().peekable();
            if series.peek().is_none() {
                continue;
            }
            let mut metrics = encoder.encode_descriptor(name, descriptor.help(), None, kind)?;
            for series in series {
                let labels: Vec<(&str, &str)> = series.labels().collect();
                let metric = metrics.encode_family(&labels)?;
                match series.cell() {
                    Cell::Value(value) if *descriptor.kind() == MetricKind::Counter => {
                        ConstCounter::new(value).encode(metric)?;
                    }
                    Cell::Value(value) => ConstGauge::new(value).encode(metric)?,
                    Cell::Summary { sum, .. } => ConstGauge::new(sum).encode(metric)?,
                    Cell::Histogram {
                        spec, buckets, sum, ..
                    } => {
                        let bounds = spec.bounds.iter().copied().chain([f64::MAX]);
                        let counts = buckets.iter().map(|count| *count as u64);
                        let buckets: Vec<(f64, u64)> = bounds.zip(counts).collect();
                        let count = buckets.iter().map(|(_, count)| count).sum();
                        let mut metric = metric;
                        metric.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
                    }
                }
            }
        }
        Ok(())
    }
}
