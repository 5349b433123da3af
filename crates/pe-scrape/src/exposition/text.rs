//! The text formats.

use std::io::{self, Write};

use super::family::{MetricFamily, Series};
use crate::{Cell, MetricKind, Unit, is_absent};

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Dialect {
    Prometheus,
    OpenMetrics,
}

/// Lines are collected to about this many bytes before they are written.
const CHUNK: usize = 8 << 10;

pub(super) fn encode(
    families: &[MetricFamily<'_>],
    dialect: Dialect,
    sink: &mut dyn Write,
) -> io::Result<()> {
    let mut out = Vec::with_capacity(CHUNK + (CHUNK >> 2));
    for family in families {
        let mut series = family.series().peekable();
        if series.peek().is_none() {
            continue;
        }
        header(&mut out, family, dialect);
        let name = family.descriptor.name();
        for series in series {
            match series.cell {
                Cell::Value(value) => {
                    out.extend_from_slice(name.as_bytes());
                    // OpenMetrics demands the suffix on every sample of a counter.
                    if dialect == Dialect::OpenMetrics
                        && *family.descriptor.kind() == MetricKind::Counter
                        && !name.ends_with("_total")
                    {
                        out.extend_from_slice(b"_total");
                    }
                    sample(&mut out, &series, None, value);
                }
                Cell::Histogram {
                    spec, buckets, sum, ..
                } => {
                    let mut count = 0.0;
                    for (index, bucket) in buckets.iter().enumerate() {
                        let bound = spec.label(index);
                        count += bucket;
                        out.extend_from_slice(name.as_bytes());
                        out.extend_from_slice(b"_bucket");
                        sample(&mut out, &series, Some(("le", &bound)), count);
                    }
                    for (suffix, value) in [("_sum", sum), ("_count", count)] {
                        out.extend_from_slice(name.as_bytes());
                        out.extend_from_slice(suffix.as_bytes());
                        sample(&mut out, &series, None, value);
                    }
                }
                Cell::Summary {
                    spec,
                    quantiles,
                    sum,
                    count,
                } => {
                    for (index, value) in quantiles.iter().enumerate() {
                        if !is_absent(*value) {
                            out.extend_from_slice(name.as_bytes());
                            let quantile = spec.label(index);
                            sample(&mut out, &series, Some(("quantile", &quantile)), *value);
                        }
                    }
                    for (suffix, value) in [("_sum", sum), ("_count", count)] {
                        if !is_absent(value) {
                            out.extend_from_slice(name.as_bytes());
                            out.extend_from_slice(suffix.as_bytes());
                            sample(&mut out, &series, None, value);
                        }
                    }
                }
            }
            if out.len() >= CHUNK {
                sink.write_all(&out)?;
                out.clear();
            }
        }
    }
    if dialect == Dialect::OpenMetrics {
        out.extend_from_slice(b"# EOF\n");
    }
    sink.write_all(&out)
}

fn header(out: &mut Vec<u8>, family: &MetricFamily<'_>, dialect: Dialect) {
    let descriptor = family.descriptor;
    let mut name = descriptor.name();
    if dialect == Dialect::OpenMetrics && *descriptor.kind() == MetricKind::Counter {
        name = name.strip_suffix("_total").unwrap_or(name);
    }
    out.extend_from_slice(b"# HELP ");
    out.extend_from_slice(name.as_bytes());
    out.push(b' ');
    escape(out, descriptor.help(), dialect == Dialect::OpenMetrics);
    let kind = match descriptor.kind() {
        MetricKind::Untyped if dialect == Dialect::OpenMetrics => "unknown",
        kind => kind.as_str(),
    };
    let _ = write!(out, "\n# TYPE {name} {kind}\n");
    let unit = descriptor.unit();
    if dialect == Dialect::OpenMetrics && unit != Unit::None {
        // A unit may only be told of a metric whose name ends in it.
        let unit = unit.to_string();
        if name
            .strip_suffix(unit.as_str())
            .is_some_and(|stem| stem.ends_with('_'))
        {
            let _ = writeln!(out, "# UNIT {name} {unit}");
        }
    }
}

fn sample(out: &mut Vec<u8>, series: &Series<'_>, part: Option<(&str, &str)>, value: f64) {
    let mut separator = b'{';
    for (name, value) in series.labels() {
        out.push(separator);
        separator = b',';
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"=\"");
        escape(out, value, true);
        out.push(b'"');
    }
    if let Some((name, value)) = part {
        out.push(separator);
        separator = b',';
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"=\"");
        out.extend_from_slice(value.as_bytes());
        out.push(b'"');
    }
    if separator == b',' {
        out.push(b'}');
    }
    out.push(b' ');
    number(out, value);
    out.push(b'\n');
}

fn number(out: &mut Vec<u8>, value: f64) {
    let _ = if value.is_nan() {
        write!(out, "NaN")
    } else if value.is_infinite() {
        write!(out, "{}", if value > 0.0 { "+Inf" } else { "-Inf" })
    } else {
        write!(out, "{value}")
    };
}

fn escape(out: &mut Vec<u8>, text: &str, quotes: bool) {
    for &byte in text.as_bytes() {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'"' if quotes => out.extend_from_slice(b"\\\""),
            _ => out.push(byte),
        }
    }
}
