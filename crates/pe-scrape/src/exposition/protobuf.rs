//! Length-delimited `io.prometheus.client.MetricFamily` messages.
//!
//! Field numbers and types are those of `metrics.proto` of the Prometheus client model. Messages are written straight
//! from the frames: a message object for each of a million series would cost more than everything else.

use std::io::{self, Write};

use super::family::{MetricFamily, Series};
use crate::{Cell, HistogramSpec, MetricKind, NativeBuckets, Unit, is_absent};

/// Metrics are collected to about this many bytes before they are written.
const CHUNK: usize = 8 << 10;

pub(super) fn encode(families: &[MetricFamily<'_>], out: &mut dyn Write) -> io::Result<()> {
    let (mut part, mut metric) = (Vec::new(), Vec::new());
    for family in families {
        // The length of a message stands before it. Writing the metrics twice costs time; keeping them costs memory that
        // grows with the devices.
        let mut size = 0;
        for series in family.series() {
            metric.clear();
            write_metric(&mut metric, &series, family.descriptor.kind());
            size += bytes_len(metric.len());
        }
        if size == 0 {
            continue;
        }
        let descriptor = family.descriptor;
        let mut head = Vec::new();
        bytes(&mut head, 1, descriptor.name().as_bytes());
        bytes(&mut head, 2, descriptor.help().as_bytes());
        let kind = match descriptor.kind() {
            MetricKind::Counter => 0,
            MetricKind::Gauge => 1,
            MetricKind::Summary(_) => 2,
            MetricKind::Untyped => 3,
            MetricKind::Histogram(_) => 4,
        };
        unsigned(&mut head, 3, kind);
        let mut tail = Vec::new();
        if descriptor.unit() != Unit::None {
            bytes(&mut tail, 5, descriptor.unit().to_string().as_bytes());
        }
        part.clear();
        varint(&mut part, (head.len() + size + tail.len()) as u64);
        part.extend_from_slice(&head);
        for series in family.series() {
            metric.clear();
            write_metric(&mut metric, &series, descriptor.kind());
            bytes(&mut part, 4, &metric);
            if part.len() >= CHUNK {
                out.write_all(&part)?;
                part.clear();
            }
        }
        part.extend_from_slice(&tail);
        out.write_all(&part)?;
    }
    Ok(())
}

fn write_metric(out: &mut Vec<u8>, series: &Series<'_>, kind: &MetricKind) {
    for (name, value) in series.labels() {
        tag(out, 1, LENGTH);
        varint(out, (bytes_len(name.len()) + bytes_len(value.len())) as u64);
        bytes(out, 1, name.as_bytes());
        bytes(out, 2, value.as_bytes());
    }
    match series.cell {
        Cell::Value(value) => {
            let field = match kind {
                MetricKind::Counter => 3,
                MetricKind::Untyped => 5,
                _ => 2,
            };
            tag(out, field, LENGTH);
            varint(out, 9);
            double(out, 1, value);
        }
        Cell::Histogram {
            spec,
            buckets,
            sum,
            native,
        } => {
            let mut histogram = Vec::new();
            write_histogram(&mut histogram, spec, buckets, sum, native);
            bytes(out, 7, &histogram);
        }
        Cell::Summary {
            spec,
            quantiles,
            sum,
            count,
        } => {
            let mut summary = Vec::new();
            if !is_absent(count) {
                unsigned(&mut summary, 1, count as u64);
            }
            if !is_absent(sum) {
                double(&mut summary, 2, sum);
            }
            for (quantile, value) in spec.quantiles.iter().zip(quantiles) {
                if !is_absent(*value) {
                    let mut message = Vec::with_capacity(18);
                    double(&mut message, 1, *quantile);
                    double(&mut message, 2, *value);
                    bytes(&mut summary, 3, &message);
                }
            }
            bytes(out, 4, &summary);
        }
    }
}

fn write_histogram(
    out: &mut Vec<u8>,
    spec: &HistogramSpec,
    buckets: &[f64],
    sum: f64,
    native: &[f64],
) {
    unsigned(out, 1, buckets.iter().sum::<f64>() as u64);
    double(out, 2, sum);
    let mut cumulative = 0.0;
    for (bound, bucket) in spec.bounds.iter().zip(buckets) {
        cumulative += bucket;
        let mut message = Vec::with_capacity(24);
        unsigned(&mut message, 1, cumulative as u64);
        double(&mut message, 2, *bound);
        bytes(out, 3, &message);
    }
    if let (Some(layout), Some((zero, native))) = (spec.native, native.split_first()) {
        write_native(out, layout, *zero as u64, native);
    }
}

/// Spans of buckets that are not empty, and the differences between neighbouring counts.
fn write_native(out: &mut Vec<u8>, layout: NativeBuckets, zero: u64, buckets: &[f64]) {
    signed(out, 5, i64::from(layout.schema));
    double(out, 6, layout.zero_threshold());
    unsigned(out, 7, zero);
    let filled: Vec<(i64, i64)> = buckets
        .iter()
        .enumerate()
        .filter(|(_, count)| **count > 0.0)
        .map(|(position, count)| (i64::from(layout.lowest) + position as i64, *count as i64))
        .collect();
    let mut next = 0;
    for span in filled.chunk_by(|a, b| a.0 + 1 == b.0) {
        let mut message = Vec::with_capacity(12);
        signed(&mut message, 1, span[0].0 - next);
        unsigned(&mut message, 2, span.len() as u64);
        bytes(out, 12, &message);
        next = span[0].0 + span.len() as i64;
    }
    if filled.is_empty() {
        // A span without buckets marks the histogram as a native one.
        bytes(out, 12, &[8, 0, 16, 0]);
    }
    let mut before = 0;
    for (_, count) in filled {
        signed(out, 13, count - before);
        before = count;
    }
}

const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const LENGTH: u64 = 2;

fn tag(out: &mut Vec<u8>, field: u64, wire_type: u64) {
    varint(out, field << 3 | wire_type);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn varint_len(value: usize) -> usize {
    (usize::BITS - (value | 1).leading_zeros()).div_ceil(7) as usize
}

/// The size of a length-delimited field with a one-byte tag.
fn bytes_len(len: usize) -> usize {
    1 + varint_len(len) + len
}

fn bytes(out: &mut Vec<u8>, field: u64, value: &[u8]) {
    tag(out, field, LENGTH);
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

fn unsigned(out: &mut Vec<u8>, field: u64, value: u64) {
    tag(out, field, VARINT);
    varint(out, value);
}

fn signed(out: &mut Vec<u8>, field: u64, value: i64) {
    unsigned(out, field, ((value << 1) ^ (value >> 63)) as u64);
}

fn double(out: &mut Vec<u8>, field: u64, value: f64) {
    tag(out, field, FIXED64);
    out.extend_from_slice(&value.to_le_bytes());
}
