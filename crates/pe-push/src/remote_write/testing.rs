//! What the tests of this module share.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use pe_scrape::{CycleReport, Frame, Labels, is_absent};

use super::blocks::Now;
use super::stale::is_stale;
use crate::SampleBlock;

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
