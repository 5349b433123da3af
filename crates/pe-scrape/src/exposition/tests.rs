use std::sync::Arc;

use prost::Message;

use super::{Block, Format, encode, negotiate};
use crate::{
    ABSENT, Columns, Frame, FrameBuilder, HistogramSpec, LabelSet, MetricDescriptor, NativeBuckets,
    Table, Unit,
};

fn labels(pairs: &[(&str, &str)]) -> LabelSet {
    LabelSet::new(pairs.iter().copied()).unwrap()
}

fn text(blocks: &[Block<'_>]) -> String {
    String::from_utf8(encode(blocks, Format::Text)).unwrap()
}

fn devices() -> Frame {
    let descriptors = [
        MetricDescriptor::gauge("dev_ping", "Ping to device (ms)").with_unit(Unit::Milliseconds),
        MetricDescriptor::counter("errors_total", "Errors \"quoted\",\nback\\slash")
            .with_label("reason", "x"),
        MetricDescriptor::gauge("rtt_seconds", "RTT").with_unit(Unit::Seconds),
    ];
    FrameBuilder::new(&descriptors)
        .unwrap()
        .row(
            labels(&[("device", "a\\b\"c\nd"), ("ip", "127.0.0.1")]),
            &[0.25, 2.0, f64::NAN],
        )
        .row(
            labels(&[("device", "Ä /"), ("ip", "::1")]),
            &[3000.0, 0.0, ABSENT],
        )
        .build()
}

#[test]
fn text_shows_help_byte_for_byte_and_escapes_values() {
    insta::assert_snapshot!(text(&[
        Block::new(&devices()).labels(labels(&[("exporter", "e1")]))
    ]));
}

#[test]
fn openmetrics_follows_its_rules_for_names() {
    insta::assert_snapshot!(
        String::from_utf8(encode(&[Block::new(&devices())], Format::OpenMetrics)).unwrap()
    );
}

#[test]
fn rows_can_be_chosen_and_repeated_series_are_told_once() {
    let frame = devices();
    let chosen = text(&[Block::new(&frame).rows(&[1])]);
    assert!(
        chosen.contains("Ä /") && !chosen.contains("127.0.0.1"),
        "{chosen}"
    );
    assert!(
        !chosen.contains("rtt_seconds"),
        "a family without series has no header: {chosen}"
    );
    let twice = text(&[Block::new(&frame), Block::new(&frame).rows(&[1])]);
    assert_eq!(twice, text(&[Block::new(&frame)]));
    // Labels of the block keep series of two exporters apart, and never replace a label of the series.
    let apart = [
        Block::new(&frame).labels(labels(&[("exporter", "a"), ("ip", "no")])),
        Block::new(&frame).labels(labels(&[("exporter", "b")])),
    ];
    let apart = text(&apart);
    assert_eq!(apart.matches("dev_ping{").count(), 4);
    assert!(!apart.contains("ip=\"no\""));
}

fn histogram() -> Frame {
    let spec = HistogramSpec::classic([0.001, 0.01]).with_native(NativeBuckets::RTT_SECONDS);
    let columns = Columns::new(&[MetricDescriptor::histogram("rtt", "RTT", spec)]).unwrap();
    let rtt = columns.metric("rtt").unwrap();
    let table = Table::new(columns, 1);
    for value in [0.0, 0.0005, 0.001, 0.00101, 0.5, 0.51, 100.0] {
        table.row(0).observe(rtt, value);
    }
    Frame::freeze(
        &table,
        Arc::new([labels(&[("device", "a")])]),
        std::time::UNIX_EPOCH,
    )
}

#[test]
fn histograms_are_cumulative_in_text() {
    insta::assert_snapshot!(text(&[Block::new(&histogram())]));
}

/// The messages of the Prometheus client model, as an independent decoder reads them.
mod model {
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct LabelPair {
        #[prost(string, tag = "1")]
        pub(super) name: String,
        #[prost(string, tag = "2")]
        pub(super) value: String,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Value {
        #[prost(double, tag = "1")]
        pub(super) value: f64,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Bucket {
        #[prost(uint64, tag = "1")]
        pub(super) cumulative_count: u64,
        #[prost(double, tag = "2")]
        pub(super) upper_bound: f64,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Span {
        #[prost(sint32, tag = "1")]
        pub(super) offset: i32,
        #[prost(uint32, tag = "2")]
        pub(super) length: u32,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Histogram {
        #[prost(uint64, tag = "1")]
        pub(super) sample_count: u64,
        #[prost(double, tag = "2")]
        pub(super) sample_sum: f64,
        #[prost(message, repeated, tag = "3")]
        pub(super) bucket: Vec<Bucket>,
        #[prost(sint32, tag = "5")]
        pub(super) schema: i32,
        #[prost(double, tag = "6")]
        pub(super) zero_threshold: f64,
        #[prost(uint64, tag = "7")]
        pub(super) zero_count: u64,
        #[prost(message, repeated, tag = "12")]
        pub(super) positive_span: Vec<Span>,
        #[prost(sint64, repeated, packed = "false", tag = "13")]
        pub(super) positive_delta: Vec<i64>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Metric {
        #[prost(message, repeated, tag = "1")]
        pub(super) label: Vec<LabelPair>,
        #[prost(message, optional, tag = "2")]
        pub(super) gauge: Option<Value>,
        #[prost(message, optional, tag = "3")]
        pub(super) counter: Option<Value>,
        #[prost(message, optional, tag = "7")]
        pub(super) histogram: Option<Histogram>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct MetricFamily {
        #[prost(string, tag = "1")]
        pub(super) name: String,
        #[prost(string, tag = "2")]
        pub(super) help: String,
        #[prost(int32, tag = "3")]
        pub(super) kind: i32,
        #[prost(message, repeated, tag = "4")]
        pub(super) metric: Vec<Metric>,
        #[prost(string, tag = "5")]
        pub(super) unit: String,
    }
}

fn decode(bytes: &[u8]) -> Vec<model::MetricFamily> {
    let mut rest = bytes;
    let mut families = Vec::new();
    while !rest.is_empty() {
        families.push(model::MetricFamily::decode_length_delimited(&mut rest).unwrap());
    }
    families
}

#[test]
fn protobuf_says_what_text_says() {
    let families = decode(&encode(&[Block::new(&devices())], Format::Protobuf));
    let names: Vec<_> = families
        .iter()
        .map(|f| (f.name.as_str(), f.kind, f.metric.len()))
        .collect();
    assert_eq!(
        names,
        [
            ("dev_ping", 1, 2),
            ("errors_total", 0, 2),
            ("rtt_seconds", 1, 1)
        ]
    );
    assert_eq!(families[0].help, "Ping to device (ms)");
    assert_eq!(families[2].unit, "seconds");
    let metric = &families[1].metric[0];
    assert_eq!(metric.counter, Some(model::Value { value: 2.0 }));
    let pairs: Vec<_> = metric
        .label
        .iter()
        .map(|l| (l.name.as_str(), l.value.as_str()))
        .collect();
    assert_eq!(
        pairs,
        [
            ("device", "a\\b\"c\nd"),
            ("ip", "127.0.0.1"),
            ("reason", "x")
        ]
    );
}

#[test]
fn native_buckets_decode_to_what_was_observed() {
    let families = decode(&encode(&[Block::new(&histogram())], Format::Protobuf));
    let histogram = families[0].metric[0].histogram.clone().unwrap();
    assert_eq!(
        (
            histogram.sample_count,
            histogram.schema,
            histogram.zero_count
        ),
        (7, 3, 1)
    );
    let cumulative: Vec<_> = histogram
        .bucket
        .iter()
        .map(|b| b.cumulative_count)
        .collect();
    assert_eq!(cumulative, [3, 4]);
    // Walk the spans as a reader does and collect (index, count).
    let (mut index, mut count, mut deltas) = (0, 0, histogram.positive_delta.iter());
    let mut buckets = Vec::new();
    for span in &histogram.positive_span {
        index += span.offset;
        for _ in 0..span.length {
            count += deltas.next().unwrap();
            buckets.push((index, count));
            index += 1;
        }
    }
    assert_eq!(deltas.next(), None);
    assert_eq!(buckets.iter().map(|(_, count)| count).sum::<i64>(), 6);
    for value in [0.0005_f64, 0.001, 0.00101, 0.5, 0.51] {
        let holds = |index: i32| {
            let upper = (f64::from(index) / 8.0).exp2();
            let lower = (f64::from(index - 1) / 8.0).exp2();
            lower < value && value <= upper
        };
        assert!(
            buckets.iter().any(|(index, _)| holds(*index)),
            "{value} has its bucket"
        );
    }
}

#[test]
fn the_accept_header_chooses_the_format() {
    let prometheus = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; \
        encoding=delimited;q=0.6,application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.4,*/*;q=0.1";
    assert_eq!(negotiate(prometheus), Format::Protobuf);
    assert_eq!(
        negotiate("application/openmetrics-text;version=1.0.0,text/plain;q=0.5"),
        Format::OpenMetrics
    );
    for plain in ["", "*/*", "text/html", "application/vnd.google.protobuf"] {
        assert_eq!(negotiate(plain), Format::Text, "{plain}");
    }
}
