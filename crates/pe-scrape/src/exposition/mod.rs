//! Frames as exposition text or protobuf, the formats that Prometheus and the Pushgateway read.
//!
//! ```
//! use pe_scrape::exposition::{Block, Format, encode};
//! use pe_scrape::{FrameBuilder, LabelSet, MetricDescriptor};
//!
//! let frame = FrameBuilder::new(&[MetricDescriptor::gauge("exporter_jobs", "Number of jobs to export")])
//!     .expect("the descriptors are consistent")
//!     .row(LabelSet::empty(), &[3.0])
//!     .build();
//! let text = String::from_utf8(encode(&[Block::new(&frame)], Format::Text)).expect("text is UTF-8");
//! assert_eq!(
//!     text,
//!     "# HELP exporter_jobs Number of jobs to export\n# TYPE exporter_jobs gauge\nexporter_jobs 3\n"
//! );
//! ```

mod family;
mod protobuf;
mod text;

use std::io::{self, Write};

use crate::{Frame, LabelSet, MetricDescriptor, MetricKind};

pub use family::{MetricFamily, Series, families};

/// The formats that can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// The Prometheus text format, version 0.0.4. HELP texts are shown byte for byte.
    ///
    /// Source: <https://prometheus.io/docs/instrumenting/exposition_formats/>.
    #[default]
    Text,
    /// OpenMetrics text, version 1.0.0.
    ///
    /// Source: <https://prometheus.io/docs/specs/om/open_metrics_spec/>.
    OpenMetrics,
    /// Length-delimited `io.prometheus.client.MetricFamily` messages, the only format with native histograms.
    Protobuf,
}

impl Format {
    /// The value of the `Content-Type` header.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
            }
        }
    }
}

/// Some rows of a frame, with labels to add to all their series.
#[derive(Clone)]
pub struct Block<'a> {
    frame: &'a Frame,
    rows: Option<&'a [usize]>,
    labels: LabelSet,
    only: Option<&'a SeriesFilter<'a>>,
}

/// Says of a metric and a row's labels whether the series is to be written.
pub type SeriesFilter<'a> = dyn Fn(&MetricDescriptor, &LabelSet) -> bool + Send + Sync + 'a;

impl<'a> Block<'a> {
    /// All rows of a frame.
    #[must_use]
    pub fn new(frame: &'a Frame) -> Self {
        Self {
            frame,
            rows: None,
            labels: LabelSet::empty(),
            only: None,
        }
    }

    /// Only these rows.
    #[must_use]
    pub fn rows(mut self, rows: &'a [usize]) -> Self {
        self.rows = Some(rows);
        self
    }

    /// Only the series that `filter` says yes to.
    #[must_use]
    pub fn only(mut self, filter: &'a SeriesFilter<'a>) -> Self {
        self.only = Some(filter);
        self
    }

    /// Adds labels to every series. A label that a series has already is left as it is.
    #[must_use]
    pub fn labels(mut self, labels: LabelSet) -> Self {
        self.labels = labels;
        self
    }

    /// Whether a metric of the frame is a native histogram, which only [`Format::Protobuf`] can tell.
    #[must_use]
    pub fn has_native_histograms(&self) -> bool {
        let native = |descriptor: &MetricDescriptor| matches!(descriptor.kind(), MetricKind::Histogram(spec) if spec.native.is_some());
        self.frame.columns().descriptors().iter().any(native)
    }

    fn row_indexes(&self) -> impl Iterator<Item = usize> + '_ {
        let all = if self.rows.is_none() {
            0..self.frame.rows().len()
        } else {
            0..0
        };
        all.chain(self.rows.unwrap_or_default().iter().copied())
    }
}

impl std::fmt::Debug for Block<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Block")
            .field("frame", &self.frame)
            .field("rows", &self.rows)
            .field("labels", &self.labels)
            .finish_non_exhaustive()
    }
}

/// Writes all series of all blocks, family by family in the order of their first appearance.
///
/// Where blocks disagree about a metric's help, type or unit, the first one's stands, and series of another type are left
/// out. Where two blocks hold the same series, the first one's value stands.
#[must_use]
pub fn encode(blocks: &[Block<'_>], format: Format) -> Vec<u8> {
    let mut out = Vec::new();
    let written = encode_to(blocks, format, &mut out);
    debug_assert!(written.is_ok(), "a vector takes everything");
    out
}

/// As [`encode`], written in small parts to `out`, so that the whole never lies in memory.
///
/// # Errors
/// Those of `out`; nothing is written after the first.
pub fn encode_to(blocks: &[Block<'_>], format: Format, out: &mut dyn Write) -> io::Result<()> {
    let families = families(blocks);
    match format {
        Format::Text => text::encode(&families, text::Dialect::Prometheus, out),
        Format::OpenMetrics => text::encode(&families, text::Dialect::OpenMetrics, out),
        Format::Protobuf => protobuf::encode(&families, out),
    }
}

/// The format to answer a request with, by its `Accept` header.
///
/// Of the formats named in the header the one with the highest weight is taken, the first of several; plain text when
/// none is known.
#[must_use]
pub fn negotiate(accept: &str) -> Format {
    let mut best = (0.0, Format::Text);
    for part in accept.split(',') {
        let mut parameters = part.split(';').map(str::trim);
        let format = match parameters.next().unwrap_or_default() {
            "application/openmetrics-text" => Format::OpenMetrics,
            "application/vnd.google.protobuf"
                if part.contains("io.prometheus.client.MetricFamily")
                    && part.contains("delimited") =>
            {
                Format::Protobuf
            }
            "text/plain" | "text/*" | "*/*" => Format::Text,
            _ => continue,
        };
        let weight = parameters
            .find_map(|parameter| parameter.strip_prefix("q="))
            .map_or(1.0, |weight| weight.parse::<f64>().unwrap_or(0.0));
        if weight > best.0 {
            best = (weight, format);
        }
    }
    best.1
}

#[cfg(test)]
mod tests;
