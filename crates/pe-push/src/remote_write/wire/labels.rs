//! Labels of series, encoded: those of a row once for all its series, those of a metric once for all its rows.
//!
//! A series' labels must be sorted by name, whichever of the two they come from.

use std::collections::HashMap;
use std::ops::Range;

use pe_scrape::LabelSet;

use super::fields::{Wire, put_number, put_text, put_varint, tag, text_len};
use super::{Protocol, metric_type};
use crate::SampleMetric;

/// The label that holds the metric's name.
const NAME: &str = "__name__";

/// The strings of a request of 2.0, each once, and the number by which it is referred to. A request of 1.0 has none.
pub(super) struct Symbols<'b> {
    protocol: Protocol,
    numbers: HashMap<&'b str, u64>,
    bytes: Vec<u8>,
}

impl<'b> Symbols<'b> {
    pub(super) fn new(protocol: Protocol) -> Self {
        let mut symbols = Self {
            protocol,
            numbers: HashMap::new(),
            bytes: Vec::new(),
        };
        if protocol == Protocol::V2 {
            // The first one must be empty.
            symbols.number("");
        }
        symbols
    }

    /// The field `symbols`, encoded.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    fn number(&mut self, text: &'b str) -> u64 {
        let next = self.numbers.len() as u64;
        *self.numbers.entry(text).or_insert_with(|| {
            put_text(&mut self.bytes, 4, text);
            next
        })
    }

    fn put_label(&mut self, to: &mut Vec<u8>, name: &'b str, value: &'b str) {
        match self.protocol {
            Protocol::V1 => {
                to.push(tag(1, Wire::Bytes));
                put_varint(to, (text_len(name) + text_len(value)) as u64);
                put_text(to, 1, name);
                put_text(to, 2, value);
            }
            Protocol::V2 => {
                let (name, value) = (self.number(name), self.number(value));
                put_varint(to, name);
                put_varint(to, value);
            }
        }
    }
}

/// The labels of a row, encoded.
#[derive(Default)]
pub(super) struct RowLabels {
    bytes: Vec<u8>,
    /// For each label, its name as a range of `names`, and where its bytes end.
    labels: Vec<(Range<usize>, usize)>,
    names: String,
    /// How many bytes of labels go before the name of the metric.
    before_name: usize,
}

impl RowLabels {
    pub(super) fn set<'b>(&mut self, row: &'b LabelSet, symbols: &mut Symbols<'b>) {
        self.bytes.clear();
        self.labels.clear();
        self.names.clear();
        for label in row {
            let start = self.names.len();
            self.names.push_str(label.name());
            symbols.put_label(&mut self.bytes, label.name(), label.value());
            let name = start..self.names.len();
            self.labels.push((name, self.bytes.len()));
        }
        self.before_name = self.end_before(NAME);
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Where the labels end whose names are below `name`.
    fn end_before(&self, name: &str) -> usize {
        let below = |label: &&(Range<usize>, usize)| &self.names[label.0.clone()] < name;
        let last = self.labels.iter().take_while(below).last();
        last.map_or(0, |(_, end)| *end)
    }

    /// Writes the labels of the row together with those of a metric.
    pub(super) fn put_with(&self, metrics: &Metrics, column: usize, to: &mut Vec<u8>) {
        let mut written = 0;
        for (index, label) in metrics.labels(column).iter().enumerate() {
            let end = if index == metrics.name_at(column) {
                self.before_name
            } else {
                self.end_before(&metrics.names[label.name.clone()])
            };
            to.extend_from_slice(&self.bytes[written..end]);
            to.extend_from_slice(&metrics.bytes[label.bytes.clone()]);
            written = end;
        }
        to.extend_from_slice(&self.bytes[written..]);
    }
}

/// The labels and the metadata of the metrics of a shape, encoded.
pub(super) struct Metrics {
    bytes: Vec<u8>,
    names: String,
    labels: Vec<MetricLabel>,
    metrics: Vec<Metric>,
}

struct MetricLabel {
    /// A range of `names`.
    name: Range<usize>,
    /// A range of `bytes`.
    bytes: Range<usize>,
}

struct Metric {
    /// A range of `Metrics::labels`, sorted by name.
    labels: Range<usize>,
    /// Which of them is the metric's name.
    name_at: usize,
    labels_len: usize,
    /// A range of `bytes`; empty for 1.0, where metadata stand apart.
    metadata: Range<usize>,
}

impl Metrics {
    pub(super) fn new<'b>(metrics: &'b [SampleMetric], symbols: &mut Symbols<'b>) -> Self {
        let mut this = Self {
            bytes: Vec::new(),
            names: String::new(),
            labels: Vec::new(),
            metrics: Vec::with_capacity(metrics.len()),
        };
        for metric in metrics {
            this.add(metric, symbols);
        }
        this
    }

    fn add<'b>(&mut self, metric: &'b SampleMetric, symbols: &mut Symbols<'b>) {
        let first_label = self.labels.len();
        let start = self.bytes.len();
        let labels = || metric.labels.iter();
        let before = labels().take_while(|label| label.name() < NAME).count();
        let pairs = labels().map(|label| (label.name(), label.value()));
        let name = std::iter::once((NAME, &*metric.name));
        let all = pairs.clone().take(before).chain(name);
        for (name, value) in all.chain(pairs.skip(before)) {
            let bytes = self.bytes.len();
            symbols.put_label(&mut self.bytes, name, value);
            let name_start = self.names.len();
            self.names.push_str(name);
            self.labels.push(MetricLabel {
                name: name_start..self.names.len(),
                bytes: bytes..self.bytes.len(),
            });
        }
        let labels_len = self.bytes.len() - start;
        let metadata = self.bytes.len();
        if symbols.protocol == Protocol::V2 {
            self.put_metadata(metric, symbols);
        }
        self.metrics.push(Metric {
            labels: first_label..self.labels.len(),
            name_at: before,
            labels_len,
            metadata: metadata..self.bytes.len(),
        });
    }

    fn put_metadata<'b>(&mut self, metric: &'b SampleMetric, symbols: &mut Symbols<'b>) {
        let mut message = vec![tag(1, Wire::Varint), metric_type(metric.kind)];
        put_number(&mut message, 3, symbols.number(&metric.help));
        put_number(&mut message, 4, symbols.number(metric.unit.as_str()));
        self.bytes.push(tag(5, Wire::Bytes));
        put_varint(&mut self.bytes, message.len() as u64);
        self.bytes.extend_from_slice(&message);
    }

    fn labels(&self, column: usize) -> &[MetricLabel] {
        &self.labels[self.metrics[column].labels.clone()]
    }

    fn name_at(&self, column: usize) -> usize {
        self.metrics[column].name_at
    }

    pub(super) fn labels_len(&self, column: usize) -> usize {
        self.metrics[column].labels_len
    }

    /// The field `metadata` of a series of 2.0.
    pub(super) fn metadata(&self, column: usize) -> &[u8] {
        &self.bytes[self.metrics[column].metadata.clone()]
    }
}
