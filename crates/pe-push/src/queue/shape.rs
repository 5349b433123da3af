//! Shapes: what blocks have in common, their columns and the labels of their rows.
//!
//! A segment numbers its metrics, its label sets and its shapes from 0, in the order of first use. The payload of a shape's record,
//! compressed by snappy (raw):
//!
//! 1. Number of the first metric that is new here, and how many are: each name, family, kind, help, unit and labels.
//! 2. Number of the first label set that is new here, and how many are.
//! 3. The metrics of the shape, then its rows: counts of runs of consecutive numbers, each with its first number and its length.
//!
//! Numbers are varints. A text is 0, its length and its bytes at its first use in the record, later 1 more than its number. Labels
//! are their count, then names and values. A record that is lost takes those with it that use its new entries.

use std::collections::HashMap;
use std::sync::Arc;

use pe_scrape::{LabelSet, Unit};

use super::format::{Input, Malformed, put_varint};
use crate::{SampleBlock, SampleMetric};

/// Units by their number in the format.
const UNITS: [Unit; 5] = [
    Unit::None,
    Unit::Seconds,
    Unit::Milliseconds,
    Unit::Bytes,
    Unit::Ratio,
];
/// Kinds by their number in the format.
const KINDS: [&str; 5] = ["gauge", "counter", "histogram", "summary", "untyped"];

/// The columns and rows of blocks.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Shape {
    pub(crate) metrics: Arc<[SampleMetric]>,
    pub(crate) rows: Arc<[LabelSet]>,
}

/// What a segment that is being written knows already.
#[derive(Debug, Default)]
pub(crate) struct ShapeWriter {
    metrics: HashMap<SampleMetric, u64>,
    label_sets: HashMap<LabelSet, u64>,
    shapes: Vec<Written>,
    /// Rows and columns of all shapes together.
    weight: usize,
}

/// A shape, with the numbers of its metrics and of its rows. Shapes that share their metrics share the numbers.
#[derive(Debug)]
struct Written {
    shape: Shape,
    metrics: Arc<[u64]>,
    rows: Arc<[u64]>,
}

impl ShapeWriter {
    /// The number of a block's shape. One that is new comes with the payload of its record.
    pub(crate) fn number(&mut self, block: &SampleBlock) -> (u64, Option<Vec<u8>>) {
        let has_metrics = |it: &Written| Arc::ptr_eq(&it.shape.metrics, &block.metrics);
        let is_same = |it: &Written| has_metrics(it) && Arc::ptr_eq(&it.shape.rows, &block.rows);
        if let Some(number) = self.shapes.iter().position(is_same) {
            return (number as u64, None);
        }
        let mut record = RecordWriter::default();
        let metrics = match self.shapes.iter().find(|it| has_metrics(it)) {
            Some(known) => Numbered {
                numbers: known.metrics.clone(),
                first_new: self.metrics.len() as u64,
                new: Vec::new(),
            },
            None => number_all(&mut self.metrics, &block.metrics),
        };
        let rows = number_all(&mut self.label_sets, &block.rows);
        let equals = |it: &Written| it.metrics == metrics.numbers && it.rows == rows.numbers;
        if let Some(number) = self.shapes.iter().position(equals) {
            return (number as u64, None);
        }
        put_varint(&mut record.out, metrics.first_new);
        put_varint(&mut record.out, metrics.new.len() as u64);
        for metric in &metrics.new {
            record.put_metric(metric);
        }
        put_varint(&mut record.out, rows.first_new);
        put_varint(&mut record.out, rows.new.len() as u64);
        for labels in &rows.new {
            record.put_labels(labels);
        }
        put_runs(&mut record.out, &metrics.numbers);
        put_runs(&mut record.out, &rows.numbers);
        let shape = Shape {
            metrics: block.metrics.clone(),
            rows: block.rows.clone(),
        };
        self.weight += shape.metrics.len() + shape.rows.len();
        self.shapes.push(Written {
            shape,
            metrics: metrics.numbers,
            rows: rows.numbers,
        });
        let payload = snap::raw::Encoder::new().compress_vec(&record.out);
        // It fails on input of 4 GB only.
        (
            self.shapes.len() as u64 - 1,
            Some(payload.unwrap_or_default()),
        )
    }

    /// Rows and columns of all shapes together, for which this keeps memory.
    pub(crate) fn weight(&self) -> usize {
        self.weight
    }

    pub(crate) fn shapes(&self) -> impl Iterator<Item = &Shape> {
        self.shapes.iter().map(|it| &it.shape)
    }

    /// The shape of that number.
    pub(crate) fn get(&self, number: u64) -> Option<&Shape> {
        let number = usize::try_from(number).ok()?;
        self.shapes.get(number).map(|it| &it.shape)
    }
}

struct Numbered<T> {
    numbers: Arc<[u64]>,
    first_new: u64,
    new: Vec<T>,
}

fn number_all<T: Clone + Eq + std::hash::Hash>(
    known: &mut HashMap<T, u64>,
    all: &[T],
) -> Numbered<T> {
    let first_new = known.len() as u64;
    let mut new = Vec::new();
    let number_of = |entry: &T| match known.get(entry) {
        Some(number) => *number,
        None => {
            let next = known.len() as u64;
            known.insert(entry.clone(), next);
            new.push(entry.clone());
            next
        }
    };
    let numbers = all.iter().map(number_of).collect();
    Numbered {
        numbers,
        first_new,
        new,
    }
}

#[derive(Default)]
struct RecordWriter {
    out: Vec<u8>,
    texts: HashMap<Arc<str>, u64>,
}

impl RecordWriter {
    fn put_metric(&mut self, metric: &SampleMetric) {
        for text in [
            &metric.name,
            &metric.family,
            &metric.kind.into(),
            &metric.help,
        ] {
            self.put_text(text);
        }
        let unit = UNITS.iter().position(|unit| *unit == metric.unit);
        put_varint(&mut self.out, unit.unwrap_or_default() as u64);
        self.put_labels(&metric.labels);
    }

    fn put_labels(&mut self, labels: &LabelSet) {
        put_varint(&mut self.out, labels.len() as u64);
        for label in labels {
            self.put_text(label.name());
            self.put_text(label.value());
        }
    }

    fn put_text(&mut self, text: &str) {
        if let Some(number) = self.texts.get(text) {
            return put_varint(&mut self.out, number + 1);
        }
        self.texts.insert(text.into(), self.texts.len() as u64);
        self.out.push(0);
        put_varint(&mut self.out, text.len() as u64);
        self.out.extend_from_slice(text.as_bytes());
    }
}

fn put_runs(out: &mut Vec<u8>, numbers: &[u64]) {
    let runs = numbers.chunk_by(|one, next| one + 1 == *next);
    put_varint(out, runs.clone().count() as u64);
    for run in runs {
        put_varint(out, run[0]);
        put_varint(out, run.len() as u64);
    }
}

/// What was read of a segment's shapes.
#[derive(Debug, Default)]
pub(crate) struct ShapeReader {
    metrics: HashMap<u64, SampleMetric>,
    /// The lists of metrics that shapes have, by the bytes that say which. Devices whose pages are alike have one together.
    lists: HashMap<Box<[u8]>, Arc<[SampleMetric]>>,
    label_sets: HashMap<u64, LabelSet>,
    shapes: HashMap<u64, Shape>,
}

impl ShapeReader {
    /// Takes the payload of a shape's record. The second copy changes nothing.
    pub(crate) fn read(&mut self, number: u64, payload: &[u8]) -> Result<(), Malformed> {
        if self.shapes.contains_key(&number) {
            return Ok(());
        }
        // Snappy packs 64 bytes into 3 at best; a length that is more is a lie that memory would pay for.
        let length = snap::raw::decompress_len(payload).map_err(|_| Malformed)?;
        if length / 24 > payload.len() {
            return Err(Malformed);
        }
        let text = snap::raw::Decoder::new()
            .decompress_vec(payload)
            .map_err(|_| Malformed)?;
        let mut record = RecordReader {
            input: Input(&text),
            texts: Vec::new(),
        };
        let first = record.input.varint()?;
        for number in 0..record.input.count()? as u64 {
            let metric = record.metric()?;
            self.metrics.insert(first.wrapping_add(number), metric);
        }
        let first = record.input.varint()?;
        for number in 0..record.input.count()? as u64 {
            let labels = record.labels()?;
            self.label_sets.insert(first.wrapping_add(number), labels);
        }
        let before = record.input.0;
        record.skip_runs()?;
        let which = &before[..before.len() - record.input.0.len()];
        let metrics = match self.lists.get(which) {
            Some(known) => known.clone(),
            None => {
                record.input = Input(before);
                let list = record.runs(&self.metrics)?;
                self.lists.insert(which.into(), list.clone());
                list
            }
        };
        let shape = Shape {
            metrics,
            rows: record.runs(&self.label_sets)?,
        };
        self.shapes.insert(number, shape);
        Ok(())
    }

    pub(crate) fn get(&self, number: u64) -> Option<&Shape> {
        self.shapes.get(&number)
    }

    /// Puts equal shapes of others in place of its own, so that what belongs to a shape can be told by its address.
    pub(crate) fn share<'a>(&mut self, others: impl Iterator<Item = &'a Shape>) {
        // A device's shape is known by its row; there may be one for each device.
        let mut by_row: HashMap<Option<LabelSet>, Vec<u64>> = HashMap::new();
        for (number, shape) in &self.shapes {
            let same = by_row.entry(shape.rows.first().cloned()).or_default();
            same.push(*number);
        }
        for other in others {
            let same = by_row.get(&other.rows.first().cloned());
            for number in same.into_iter().flatten() {
                if let Some(shape) = self.shapes.get_mut(number)
                    && *shape == *other
                {
                    *shape = other.clone();
                }
            }
        }
    }

    pub(crate) fn shapes(&self) -> impl Iterator<Item = &Shape> {
        self.shapes.values()
    }
}

struct RecordReader<'a> {
    input: Input<'a>,
    texts: Vec<Arc<str>>,
}

impl RecordReader<'_> {
    fn metric(&mut self) -> Result<SampleMetric, Malformed> {
        let (name, family, kind, help) = (self.text()?, self.text()?, self.text()?, self.text()?);
        Ok(SampleMetric {
            name,
            family,
            kind: KINDS
                .into_iter()
                .find(|known| **known == *kind)
                .ok_or(Malformed)?,
            help,
            unit: UNITS[self.input.below(UNITS.len())?],
            labels: self.labels()?,
        })
    }

    fn labels(&mut self) -> Result<LabelSet, Malformed> {
        let mut labels = Vec::new();
        for _ in 0..self.input.count()? {
            labels.push((self.text()?, self.text()?));
        }
        LabelSet::new(labels).map_err(|_| Malformed)
    }

    fn text(&mut self) -> Result<Arc<str>, Malformed> {
        let number = self.input.below(self.texts.len() + 1)?;
        if number > 0 {
            return Ok(self.texts[number - 1].clone());
        }
        let length = self.input.count()?;
        let text = std::str::from_utf8(self.input.take(length)?).map_err(|_| Malformed)?;
        let text: Arc<str> = text.into();
        self.texts.push(text.clone());
        Ok(text)
    }

    fn skip_runs(&mut self) -> Result<(), Malformed> {
        for _ in 0..self.input.count()? {
            self.input.varint()?;
            self.input.varint()?;
        }
        Ok(())
    }

    /// At most as many as there are entries, since none occurs twice in a shape.
    fn runs<T: Clone>(&mut self, entries: &HashMap<u64, T>) -> Result<Arc<[T]>, Malformed> {
        let mut found = Vec::new();
        for _ in 0..self.input.count()? {
            let first = self.input.varint()?;
            let length = self.input.below(entries.len() - found.len() + 1)?;
            for number in 0..length as u64 {
                let number = first.wrapping_add(number);
                found.push(entries.get(&number).cloned().ok_or(Malformed)?);
            }
        }
        Ok(found.into())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{block, metric};
    use super::*;

    #[test]
    fn shapes_come_back_and_share_their_entries() {
        let mut writer = ShapeWriter::default();
        let first = block(1, 1_000, &["a", "b"], 0.0);
        let (number, payload) = writer.number(&first);
        let payload = payload.unwrap();
        assert_eq!(writer.number(&first), (number, None));
        // The same text elsewhere in memory.
        assert_eq!(
            writer.number(&block(1, 1_000, &["a", "b"], 1.0)),
            (number, None)
        );
        let mut second = block(1, 1_001, &["b", "c"], 0.0);
        second.metrics = second
            .metrics
            .iter()
            .cloned()
            .chain([metric("c")])
            .collect();
        let (_, more) = writer.number(&second);
        let more = more.unwrap();
        assert!(
            more.len() < payload.len() / 10,
            "{} {}",
            more.len(),
            payload.len()
        );

        let mut reader = ShapeReader::default();
        reader.read(0, &payload).unwrap();
        reader.read(1, &more).unwrap();
        assert_eq!(reader.get(0).unwrap().rows, first.rows);
        let shape = reader.get(1).unwrap();
        assert_eq!(
            (&shape.metrics, &shape.rows),
            (&second.metrics, &second.rows)
        );
        // Without the first, the entries of the second are not known.
        assert_eq!(ShapeReader::default().read(1, &more), Err(Malformed));
    }

    #[test]
    fn a_row_takes_ten_bytes() {
        let mut writer = ShapeWriter::default();
        let (_, payload) = writer.number(&block(1_000, 10_000, &["a"], 0.0));
        let length = payload.unwrap().len();
        assert!(length < 100_000, "{length}");
    }

    proptest::proptest! {
        #[test]
        fn whatever_the_bytes_reading_ends(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            let _ = ShapeReader::default().read(0, &bytes);
            let packed = snap::raw::Encoder::new().compress_vec(&bytes).unwrap();
            let _ = ShapeReader::default().read(0, &packed);
        }
    }
}
