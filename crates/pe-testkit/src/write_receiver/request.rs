//! A request of remote write, decoded, and what the specifications find wrong with it.

use std::collections::HashSet;

use prost::Message;

use super::messages::{Request, WriteRequest};

/// The value that ends a series.
const STALE: u64 = 0x7ff0_0000_0000_0002;

/// A request that a [`WriteReceiver`](super::WriteReceiver) got.
#[derive(Clone, Debug, Default)]
pub struct ReceivedWrite {
    /// Header names (lower case) and values.
    pub headers: Vec<(String, String)>,
    /// Whether the message is that of 2.0.
    pub is_v2: bool,
    /// The series, in their order.
    pub series: Vec<WrittenSeries>,
    /// Families with their type, help text and unit. Those of 1.0 stand apart; in 2.0 each series has its own.
    pub metadata: Vec<WrittenMetadata>,
    /// Bytes of the body as they came.
    pub body_len: usize,
    /// What it was answered; 0 where there was no answer.
    pub status: u16,
}

/// A series of a request.
#[derive(Clone, Debug, PartialEq)]
pub struct WrittenSeries {
    /// Names and values, in their order.
    pub labels: Vec<(String, String)>,
    /// Times in milliseconds, and values.
    pub samples: Vec<(i64, f64)>,
}

/// A sample that was taken.
#[derive(Clone, Debug, PartialEq)]
pub struct WrittenSample {
    /// Names and values of the series' labels, in their order.
    pub labels: Vec<(String, String)>,
    /// Milliseconds since 1970.
    pub time: i64,
    /// The value.
    pub value: f64,
}

/// What a request says of a family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrittenMetadata {
    /// The family's name; of 2.0 the series' own.
    pub family: String,
    /// The number of the type: 1 counter, 2 gauge, 3 histogram.
    pub kind: i32,
    /// The help text.
    pub help: String,
    /// The unit.
    pub unit: String,
}

impl WrittenSeries {
    /// The value of a label.
    pub fn label(&self, name: &str) -> Option<&str> {
        let (_, value) = self.labels.iter().find(|(known, _)| known == name)?;
        Some(value)
    }

    /// Whether a value ends a series.
    pub fn is_stale(value: f64) -> bool {
        value.to_bits() == STALE
    }
}

impl ReceivedWrite {
    /// The value of the first header of this name (lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(known, _)| known == name)?;
        Some(value)
    }

    /// How many samples it has.
    pub fn samples(&self) -> usize {
        self.series.iter().map(|series| series.samples.len()).sum()
    }

    /// Decodes a body in Snappy's block format.
    ///
    /// # Errors
    /// Why it is none, or none of that version.
    pub fn decode(body: &[u8], is_v2: bool) -> Result<Self, String> {
        let raw = snap::raw::Decoder::new()
            .decompress_vec(body)
            .map_err(|error| format!("no block of Snappy: {error}"))?;
        let mut this = Self {
            is_v2,
            body_len: body.len(),
            ..Self::default()
        };
        if is_v2 {
            let request = Request::decode(&*raw).map_err(|error| error.to_string())?;
            this.take_v2(request)?;
        } else {
            let request = WriteRequest::decode(&*raw).map_err(|error| error.to_string())?;
            this.take_v1(request);
        }
        Ok(this)
    }

    fn take_v1(&mut self, request: WriteRequest) {
        let series = request.timeseries.into_iter();
        self.series = series
            .map(|series| WrittenSeries {
                labels: (series.labels.into_iter())
                    .map(|label| (label.name, label.value))
                    .collect(),
                samples: (series.samples.iter())
                    .map(|sample| (sample.timestamp, sample.value))
                    .collect(),
            })
            .collect();
        let metadata = request.metadata.into_iter();
        self.metadata = metadata
            .map(|it| WrittenMetadata {
                family: it.family,
                kind: it.kind,
                help: it.help,
                unit: it.unit,
            })
            .collect();
    }

    fn take_v2(&mut self, request: Request) -> Result<(), String> {
        let symbols = &request.symbols;
        if symbols.first().is_none_or(|first| !first.is_empty()) {
            return Err("the first symbol is not the empty string".to_owned());
        }
        let distinct: HashSet<&String> = symbols.iter().collect();
        if distinct.len() < symbols.len() {
            return Err("a symbol is there twice".to_owned());
        }
        let symbol = |number: u32| {
            let symbol = symbols.get(number as usize).cloned();
            symbol.ok_or_else(|| format!("there is no symbol {number}"))
        };
        for series in &request.timeseries {
            if series.labels_refs.len() % 2 != 0 {
                return Err("a label name without a value".to_owned());
            }
            let pairs = series.labels_refs.chunks(2);
            let labels: Result<Vec<_>, String> = pairs
                .map(|pair| Ok((symbol(pair[0])?, symbol(pair[1])?)))
                .collect();
            let written = WrittenSeries {
                labels: labels?,
                samples: (series.samples.iter())
                    .map(|sample| (sample.timestamp, sample.value))
                    .collect(),
            };
            if let Some(metadata) = &series.metadata {
                self.metadata.push(WrittenMetadata {
                    family: written.label("__name__").unwrap_or_default().to_owned(),
                    kind: metadata.kind,
                    help: symbol(metadata.help_ref)?,
                    unit: symbol(metadata.unit_ref)?,
                });
            }
            self.series.push(written);
        }
        Ok(())
    }

    /// What the specification of the request's version finds wrong with it.
    pub fn violations(&self) -> Vec<String> {
        let mut wrong = self.wrong_headers();
        for series in &self.series {
            let labels = &series.labels;
            let mut tell = |what: &str| wrong.push(format!("{what}: {series:?}"));
            if labels.windows(2).any(|pair| pair[0].0 > pair[1].0) {
                tell("labels are not sorted");
            }
            if labels.windows(2).any(|pair| pair[0].0 == pair[1].0) {
                tell("a label is there twice");
            }
            if labels
                .iter()
                .any(|(name, value)| name.is_empty() || value.is_empty())
            {
                tell("a label is empty");
            }
            if series.label("__name__").is_none() {
                tell("no name");
            }
            if series.samples.is_empty() {
                tell("no sample");
            }
            if series.samples.windows(2).any(|pair| pair[0].0 >= pair[1].0) {
                tell("samples are not in order of time");
            }
        }
        let mut seen = HashSet::new();
        for series in &self.series {
            if !seen.insert(&series.labels) {
                wrong.push(format!("a series is there twice: {series:?}"));
            }
        }
        if self.is_v2 && self.metadata.len() < self.series.len() {
            wrong.push("a series has no metadata".to_owned());
        }
        wrong
    }

    fn wrong_headers(&self) -> Vec<String> {
        let (kind, version) = if self.is_v2 {
            let kind = "application/x-protobuf;proto=io.prometheus.write.v2.Request";
            (kind, "2.0.0")
        } else {
            ("application/x-protobuf", "0.1.0")
        };
        let expected = [
            ("content-type", kind),
            ("content-encoding", "snappy"),
            ("x-prometheus-remote-write-version", version),
        ];
        let mut wrong: Vec<String> = expected
            .iter()
            .filter(|(name, value)| self.header(name) != Some(*value))
            .map(|(name, value)| format!("{name} is {:?}, not {value}", self.header(name)))
            .collect();
        if self.header("user-agent").is_none_or(str::is_empty) {
            wrong.push("no user-agent".to_owned());
        }
        wrong
    }
}
