//! What goes over the wire: `prometheus.WriteRequest` of Remote Write 1.0 and `io.prometheus.write.v2.Request` of 2.0, in
//! Snappy's block format. No I/O.
//!
//! A [`Part`] is some series of blocks of one shape. [`Encoder`] takes parts from the front of a list until a request is large
//! enough, and tells what is in it, so that it can be split later. All samples of a series are in one message, in order of time.
//! Of a row, labels are encoded once a request; a series then copies those bytes, with the labels of the metric between them.
//! Nothing is allocated for a series or a sample.
//!
//! Sources: <https://prometheus.io/docs/specs/prw/remote_write_spec/> and
//! <https://prometheus.io/docs/specs/prw/remote_write_spec_2_0/>.

mod fields;
mod histogram;
mod labels;

use std::collections::{HashSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use pe_scrape::{LabelSet, is_absent};

use self::fields::{Wire, put_number, put_text, put_varint, tag, text_len, varint_len};
use self::histogram::{put_histogram, put_stale};
use self::labels::{Metrics, RowLabels, Symbols};
use super::stale::is_stale;
use crate::{SampleBlock, SampleMetric};

pe_scrape::choices! {
    /// The version of remote write that is spoken.
    pub enum Protocol {
        /// 1.0, which all receivers take.
        #[default]
        V1 = "1.0",
        /// 2.0, with a fall back to 1.0 for receivers that do not take it.
        V2 = "2.0",
    }
}

impl Protocol {
    /// The header `Content-Type`.
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::V1 => "application/x-protobuf",
            Self::V2 => "application/x-protobuf;proto=io.prometheus.write.v2.Request",
        }
    }

    /// The header `X-Prometheus-Remote-Write-Version`.
    pub(crate) fn version(self) -> &'static str {
        match self {
            Self::V1 => "0.1.0",
            Self::V2 => "2.0.0",
        }
    }
}

/// Blocks of one shape, in order of time.
pub(crate) type Blocks = Arc<[Arc<SampleBlock>]>;

/// Some series of some blocks of one shape.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub(crate) blocks: Blocks,
    /// The series, row by row: row × number of metrics + metric.
    pub(crate) series: Range<usize>,
}

impl Part {
    /// All series of blocks of one shape. There must be one block at least.
    pub(crate) fn whole(blocks: impl Into<Blocks>) -> Self {
        let blocks = blocks.into();
        let first = blocks.first();
        let series = first.map_or(0, |block| block.rows.len() * block.metrics.len());
        Self {
            blocks,
            series: 0..series,
        }
    }

    /// The row and the metric of a series.
    pub(crate) fn series(&self, index: usize) -> (&LabelSet, &SampleMetric) {
        let block = &self.blocks[0];
        let width = block.metrics.len();
        (&block.rows[index / width], &block.metrics[index % width])
    }

    /// How many samples a series has.
    pub(crate) fn samples_of(&self, index: usize) -> u64 {
        let width = self.blocks[0].metrics.len();
        let (row, column) = (index / width, index % width);
        let values = self.blocks.iter().map(|block| block.columns[column][row]);
        values.filter(|value| !is_absent(*value)).count() as u64
    }
}

/// An encoded request, and what it was made of.
#[derive(Debug, Clone)]
pub(crate) struct Batch {
    pub(crate) protocol: Protocol,
    pub(crate) parts: Vec<Part>,
    pub(crate) samples: u64,
    /// Samples of series that were left out.
    pub(crate) excluded: u64,
    pub(crate) body: Bytes,
}

/// What went into a request.
#[derive(Default)]
struct Counts {
    samples: u64,
    excluded: u64,
}

/// How a request is to be made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Form<'a> {
    pub(crate) protocol: Protocol,
    /// Bytes before compression after which a request is full. A series is never cut, so it may get larger by one.
    pub(crate) bytes: usize,
    /// Whether a request of 1.0 tells types, help texts and units. One of 2.0 always does.
    pub(crate) with_metadata: bool,
    /// Series that are not sent. To look them up takes time, so none is better than an empty set.
    pub(crate) excluded: Option<&'a Excluded>,
}

/// Series that are left out of requests, by what [`series_hash`] makes of them.
pub(crate) type Excluded = HashSet<u64>;

/// A series as a number.
pub(crate) fn series_hash(row: &LabelSet, metric: &SampleMetric) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    row.hash(&mut hasher);
    metric.name.hash(&mut hasher);
    metric.labels.hash(&mut hasher);
    hasher.finish()
}

/// Makes requests. Its buffers are used again.
pub(crate) struct Encoder {
    raw: Vec<u8>,
    compressed: Vec<u8>,
    row: RowLabels,
    /// The native histograms of a series.
    histograms: Vec<u8>,
    snappy: snap::raw::Encoder,
}

impl Default for Encoder {
    fn default() -> Self {
        Self {
            raw: Vec::new(),
            compressed: Vec::new(),
            row: RowLabels::default(),
            histograms: Vec::new(),
            snappy: snap::raw::Encoder::new(),
        }
    }
}

impl Encoder {
    /// A request of what is at the front of `parts`, which is taken from there; `None` when no sample is
    /// left. It has none itself where all of its series are left out.
    pub(crate) fn next_batch(
        &mut self,
        parts: &mut VecDeque<Part>,
        form: Form<'_>,
    ) -> Option<Batch> {
        let mut taken = Vec::new();
        let mut counts = Counts::default();
        let mut symbols = Symbols::new(form.protocol);
        let mut families = HashSet::new();
        self.raw.clear();
        // Symbols refer to the blocks, which `taken` keeps.
        let blocks: Vec<Blocks> = parts.iter().map(|part| part.blocks.clone()).collect();
        for blocks in &blocks {
            let Some(part) = parts.front_mut() else { break };
            let from = part.series.start;
            let before = counts.samples;
            let metrics = Metrics::new(&blocks[0].metrics, &mut symbols);
            let next = self.put_part(part, blocks, &metrics, &mut symbols, form, &mut counts);
            if counts.samples > before {
                if form.protocol == Protocol::V1 && form.with_metadata {
                    put_metadata(&mut self.raw, blocks, &mut families);
                }
                taken.push(Part {
                    blocks: blocks.clone(),
                    series: from..next,
                });
            }
            part.series.start = next;
            if !part.series.is_empty() {
                break;
            }
            parts.pop_front();
            if counts.samples > 0 && self.raw.len() + symbols.len() >= form.bytes {
                break;
            }
        }
        let Counts { samples, excluded } = counts;
        if samples + excluded == 0 {
            return None;
        }
        Some(Batch {
            protocol: form.protocol,
            parts: taken,
            samples,
            excluded,
            body: self.compress(&symbols),
        })
    }

    /// A request without samples.
    pub(crate) fn empty(&mut self, protocol: Protocol) -> Bytes {
        self.raw.clear();
        self.compress(&Symbols::new(protocol))
    }

    /// Writes series until the request is full; returns the first that was not written.
    fn put_part<'b>(
        &mut self,
        part: &Part,
        blocks: &'b [Arc<SampleBlock>],
        metrics: &Metrics,
        symbols: &mut Symbols<'b>,
        form: Form<'_>,
        counts: &mut Counts,
    ) -> usize {
        let block = &blocks[0];
        let width = block.metrics.len();
        let times: Vec<Time> = blocks
            .iter()
            .map(|block| Time::new(block.time.wall_ms))
            .collect();
        let mut row = usize::MAX;
        for index in part.series.clone() {
            if index / width != row {
                row = index / width;
                self.row.set(&block.rows[row], symbols);
            }
            let column = index % width;
            let is_native = block.metrics[column].is_native();
            let (count, length) = match is_native {
                true => self.put_histograms(blocks, row, column, form.protocol),
                false => measure(blocks, &times, row, column),
            };
            if count == 0 {
                continue;
            }
            let hash = || series_hash(&block.rows[row], &block.metrics[column]);
            if form
                .excluded
                .is_some_and(|excluded| excluded.contains(&hash()))
            {
                counts.excluded += count;
                continue;
            }
            self.put_series(metrics, column, form.protocol, length);
            match is_native {
                true => self.raw.extend_from_slice(&self.histograms),
                false => put_samples(&mut self.raw, blocks, &times, row, column),
            }
            if form.protocol == Protocol::V2 {
                self.raw.extend_from_slice(metrics.metadata(column));
            }
            counts.samples += count;
            if self.raw.len() + symbols.len() >= form.bytes {
                return index + 1;
            }
        }
        part.series.end
    }

    /// The head of a `TimeSeries`, whose samples take `samples` bytes, and its labels.
    fn put_series(&mut self, metrics: &Metrics, column: usize, protocol: Protocol, samples: usize) {
        let labels = self.row.len() + metrics.labels_len(column);
        let raw = &mut self.raw;
        match protocol {
            Protocol::V1 => {
                raw.push(tag(1, Wire::Bytes));
                put_varint(raw, (labels + samples) as u64);
            }
            Protocol::V2 => {
                let head = 1 + varint_len(labels as u64);
                let metadata = metrics.metadata(column).len();
                raw.push(tag(5, Wire::Bytes));
                put_varint(raw, (head + labels + samples + metadata) as u64);
                raw.push(tag(1, Wire::Bytes));
                put_varint(raw, labels as u64);
            }
        }
        self.row.put_with(metrics, column, raw);
    }

    /// Puts the native histograms of a series into their buffer; returns how many there are, and their bytes.
    fn put_histograms(
        &mut self,
        blocks: &[Arc<SampleBlock>],
        row: usize,
        column: usize,
        protocol: Protocol,
    ) -> (u64, usize) {
        self.histograms.clear();
        let mut count = 0;
        for block in blocks {
            let (value, time) = (block.columns[column][row], block.time.wall_ms);
            let mut natives = block.natives.iter();
            let native = natives.find(|native| native.metric == column);
            if is_stale(value) {
                put_stale(&mut self.histograms, protocol, time);
            } else if !is_absent(value)
                && let Some(native) = native
                && let Some(histogram) = native.get(row)
            {
                put_histogram(
                    &mut self.histograms,
                    protocol,
                    native.buckets,
                    &histogram,
                    time,
                );
            } else {
                continue;
            }
            count += 1;
        }
        (count, self.histograms.len())
    }

    fn compress(&mut self, symbols: &Symbols<'_>) -> Bytes {
        // What series refer to goes before them.
        let raw = if symbols.bytes().is_empty() {
            &self.raw
        } else {
            let mut all = symbols.bytes().to_vec();
            all.append(&mut self.raw);
            self.raw = all;
            &self.raw
        };
        let most = snap::raw::max_compress_len(raw.len());
        if self.compressed.len() < most {
            self.compressed.resize(most, 0);
        }
        // It fails only for input above 4 GB, which a request never is.
        let length = self.snappy.compress(raw, &mut self.compressed).unwrap_or(0);
        Bytes::copy_from_slice(&self.compressed[..length])
    }
}

/// The field `timestamp` of a sample, encoded.
struct Time {
    bytes: [u8; 11],
    length: usize,
}

impl Time {
    fn new(ms: i64) -> Self {
        let mut encoded = Vec::with_capacity(11);
        put_number(&mut encoded, 2, ms as u64);
        let mut bytes = [0; 11];
        bytes[..encoded.len()].copy_from_slice(&encoded);
        Self {
            bytes,
            length: encoded.len(),
        }
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// The bytes of the field `value`; none for zero, which is what an absent field means. Minus zero is another number.
fn value_len(value: f64) -> usize {
    if value.to_bits() == 0 { 0 } else { 9 }
}

/// How many samples a series has, and how many bytes they take.
fn measure(blocks: &[Arc<SampleBlock>], times: &[Time], row: usize, column: usize) -> (u64, usize) {
    let (mut count, mut length) = (0, 0);
    for (block, time) in blocks.iter().zip(times) {
        let value = block.columns[column][row];
        if !is_absent(value) {
            count += 1;
            length += 2 + value_len(value) + time.length;
        }
    }
    (count, length)
}

fn put_samples(
    raw: &mut Vec<u8>,
    blocks: &[Arc<SampleBlock>],
    times: &[Time],
    row: usize,
    column: usize,
) {
    for (block, time) in blocks.iter().zip(times) {
        let value = block.columns[column][row];
        if is_absent(value) {
            continue;
        }
        // The same field number in both versions. It is shorter than 128 bytes.
        raw.push(tag(2, Wire::Bytes));
        raw.push((value_len(value) + time.length) as u8);
        if value.to_bits() != 0 {
            raw.push(tag(1, Wire::Fixed64));
            raw.extend_from_slice(&value.to_le_bytes());
        }
        raw.extend_from_slice(time.bytes());
    }
}

/// The `MetricMetadata` of blocks, for families that have none in this request yet.
fn put_metadata<'b>(
    raw: &mut Vec<u8>,
    blocks: &'b [Arc<SampleBlock>],
    families: &mut HashSet<&'b str>,
) {
    for metric in &*blocks[0].metrics {
        if !families.insert(&metric.family) {
            continue;
        }
        let kind = metric_type(metric.kind);
        let unit = metric.unit.as_str();
        let optional = |text: &str| if text.is_empty() { 0 } else { text_len(text) };
        let length = 2 + text_len(&metric.family) + optional(&metric.help) + optional(unit);
        raw.push(tag(3, Wire::Bytes));
        put_varint(raw, length as u64);
        raw.extend_from_slice(&[tag(1, Wire::Varint), kind]);
        put_text(raw, 2, &metric.family);
        for (field, text) in [(4, &*metric.help), (5, unit)] {
            if !text.is_empty() {
                put_text(raw, field, text);
            }
        }
    }
}

/// The number of a metric's type, the same in both versions.
fn metric_type(kind: &str) -> u8 {
    match kind {
        "counter" => 1,
        "gauge" => 2,
        "histogram" => 3,
        "summary" => 5,
        _ => 0,
    }
}

/// Makes all requests of a block, for the crate's benchmark.
#[doc(hidden)]
#[derive(Default)]
pub struct WireBench(Encoder);

impl WireBench {
    /// The bytes of all bodies together.
    pub fn encode(&mut self, block: &Arc<SampleBlock>, protocol: Protocol, bytes: usize) -> usize {
        let mut parts = VecDeque::from([Part::whole([block.clone()])]);
        let form = Form {
            protocol,
            bytes,
            with_metadata: false,
            excluded: None,
        };
        let batches = std::iter::from_fn(|| self.0.next_batch(&mut parts, form));
        batches.map(|batch| batch.body.len()).sum()
    }
}

#[cfg(test)]
mod tests;
