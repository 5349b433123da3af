//! What the tests of this module share.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use pe_scrape::{CycleReport, Frame, LabelSet, Labels, Unit, is_absent};

use super::stale::is_stale;
use crate::clocks::Now;
use crate::{SampleBlock, SampleMetric, SampleTime};

/// A moment so many milliseconds after 1970, some days after the machine was started.
pub(crate) fn now(wall_ms: u64) -> Now {
    Now {
        wall: UNIX_EPOCH + Duration::from_millis(wall_ms),
        boot_ns: 300_000_000_000_000 + wall_ms * 1_000_000,
        boot_id: 7,
    }
}

pub(crate) fn labels(labels: &[(&str, &str)]) -> Labels {
    let pairs = labels.iter();
    pairs.map(|(name, value)| (*name, *value)).collect()
}

/// A report of a group with these frames.
pub(crate) fn report(group: &str, frames: impl IntoIterator<Item = Frame>) -> CycleReport {
    let mut report = CycleReport::new(group, 1, UNIX_EPOCH);
    report.devices = frames.into_iter().map(Arc::new).collect();
    report
}

/// All samples of blocks, as `metric device value@milliseconds`.
pub(crate) fn series(blocks: &[SampleBlock]) -> Vec<String> {
    let mut all = Vec::new();
    for block in blocks {
        for (row, labels) in block.rows.iter().enumerate() {
            for (metric, column) in block.metrics.iter().zip(&block.columns) {
                let value = match column[row] {
                    value if is_absent(value) => continue,
                    value if is_stale(value) => "stale".to_owned(),
                    value => value.to_string(),
                };
                let device = labels.get("device").unwrap_or_default();
                let (name, time) = (&metric.name, block.time.wall_ms);
                all.push(format!("{name} {device} {value}@{time}"));
            }
        }
    }
    all
}

/// A gauge.
pub(crate) fn metric(name: &str, labels: &[(&str, &str)]) -> SampleMetric {
    SampleMetric {
        name: name.into(),
        labels: label_set(labels),
        family: name.into(),
        kind: "gauge",
        help: format!("Help of {name}").into(),
        unit: Unit::None,
    }
}

/// A block of rows with these labels, column by column.
pub(crate) fn block(
    metrics: &[SampleMetric],
    rows: &[&[(&str, &str)]],
    columns: &[&[f64]],
    wall_ms: i64,
) -> Arc<SampleBlock> {
    Arc::new(SampleBlock {
        time: SampleTime {
            wall_ms,
            boot_ns: 0,
            boot_id: 0,
            is_final: false,
        },
        metrics: metrics.into(),
        rows: rows.iter().map(|row| label_set(row)).collect(),
        columns: (columns.iter())
            .map(|column| column.iter().copied())
            .collect(),
        natives: Vec::new(),
    })
}

fn label_set(labels: &[(&str, &str)]) -> LabelSet {
    LabelSet::new(labels.iter().copied()).unwrap()
}
