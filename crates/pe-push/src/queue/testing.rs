//! Blocks for tests.

use pe_scrape::{LabelSet, Unit};

use crate::{SampleBlock, SampleColumns, SampleMetric, SampleTime};

pub(crate) fn metric(name: &str) -> SampleMetric {
    SampleMetric {
        name: name.into(),
        labels: LabelSet::empty(),
        family: name.into(),
        kind: "gauge",
        help: format!("What {name} is").into(),
        unit: Unit::Seconds,
    }
}

/// A block measured at second `time`, with so many rows, the same value in all.
pub(crate) fn block(time: u32, rows: usize, metrics: &[&str], value: f64) -> SampleBlock {
    let labels = |row: usize| {
        let device = format!("switch-{row:05}");
        let address = format!("10.{}.{}.{}", row >> 16, (row >> 8) & 255, row & 255);
        let labels = [
            ("device", &*device),
            ("ip", &*address),
            ("job", "plant"),
            ("site", "A"),
        ];
        LabelSet::new(labels).expect("good names")
    };
    SampleBlock {
        time: SampleTime {
            wall_ms: i64::from(time) * 1_000,
            boot_ns: u64::from(time) * 1_000_000_000,
            boot_id: 7,
            is_final: false,
        },
        metrics: metrics.iter().map(|name| metric(name)).collect(),
        rows: (0..rows).map(labels).collect(),
        columns: SampleColumns::filled(rows, metrics.len(), value),
        natives: Vec::new(),
    }
}
