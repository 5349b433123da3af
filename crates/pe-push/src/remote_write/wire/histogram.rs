//! Native histograms as messages `Histogram`, the same in both versions but for the field that holds them.
//!
//! Sources: Prometheus, `prompb/types.proto` and `prompb/io/prometheus/write/v2/types.proto`.

use pe_scrape::NativeBuckets;

use super::Protocol;
use super::fields::{Wire, put_varint, tag};
use crate::native::NativeHistogram;
use crate::remote_write::stale::STALE;

/// Puts a histogram into a `TimeSeries`.
pub(super) fn put_histogram(
    to: &mut Vec<u8>,
    protocol: Protocol,
    buckets: NativeBuckets,
    histogram: &NativeHistogram,
    time: i64,
) {
    let mut message = Vec::with_capacity(64);
    put_always(&mut message, 1, histogram.count());
    put_double(&mut message, 3, histogram.sum);
    put_always(&mut message, 4, zigzag(buckets.schema.into()));
    put_double(&mut message, 5, buckets.zero_threshold());
    put_always(&mut message, 6, histogram.zero);
    let mut next = 0;
    for span in histogram.filled.chunk_by(|one, other| one.0 + 1 == other.0) {
        let first = i64::from(buckets.lowest) + span[0].0 as i64;
        let mut spans = Vec::with_capacity(12);
        put_always(&mut spans, 1, zigzag(first - next));
        put_always(&mut spans, 2, span.len() as u64);
        put_bytes(&mut message, 11, &spans);
        next = first + span.len() as i64;
    }
    let (mut deltas, mut before) = (Vec::new(), 0);
    for (_, count) in &histogram.filled {
        put_varint(&mut deltas, zigzag(*count as i64 - before));
        before = *count as i64;
    }
    if !deltas.is_empty() {
        put_bytes(&mut message, 12, &deltas);
    }
    put_always(&mut message, 15, time as u64);
    put_bytes(to, field(protocol), &message);
}

/// Puts the marker that ends a series of native histograms: one without observations, whose sum is the marker of other series.
pub(super) fn put_stale(to: &mut Vec<u8>, protocol: Protocol, time: i64) {
    let mut message = Vec::with_capacity(24);
    put_always(&mut message, 1, 0);
    put_double(&mut message, 3, STALE);
    put_always(&mut message, 6, 0);
    put_always(&mut message, 15, time as u64);
    put_bytes(to, field(protocol), &message);
}

fn field(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::V1 => 4,
        Protocol::V2 => 3,
    }
}

/// Zero too, where it is a choice of several fields.
fn put_always(to: &mut Vec<u8>, field: u8, value: u64) {
    to.push(tag(field, Wire::Varint));
    put_varint(to, value);
}

fn put_double(to: &mut Vec<u8>, field: u8, value: f64) {
    to.push(tag(field, Wire::Fixed64));
    to.extend_from_slice(&value.to_le_bytes());
}

fn put_bytes(to: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    to.push(tag(field, Wire::Bytes));
    put_varint(to, bytes.len() as u64);
    to.extend_from_slice(bytes);
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}
