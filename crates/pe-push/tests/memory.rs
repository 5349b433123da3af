//! What a push of many devices takes beside their results: less than its text. A program of its own, since it counts the process's
//! memory.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;
use std::time::SystemTime;

use common::sink;
use pe_push::Grouping;
use pe_scrape::{CycleReport, FrameBuilder, LabelSet, MetricDescriptor, Sink};
use pe_testkit::{Gateway, require};
use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Few enough for a build without optimisation. With 100,000 it takes 24 MB beside the results.
const DEVICES: u32 = 5_000;
/// Most megabytes beside the results. The text alone has 4.8.
const MOST: f32 = 2.5;

#[tokio::test(flavor = "multi_thread")]
async fn a_push_takes_less_memory_than_its_text_has() {
    require!(Program("prometheus-pushgateway"));
    let gateway = Gateway::start();
    let names = (0..11).map(|n| format!("ping_metric_{n}_seconds"));
    let metrics: Vec<_> = names
        .map(|name| MetricDescriptor::gauge(name, "A metric"))
        .collect();
    let mut frame = FrameBuilder::new(&metrics).unwrap();
    for n in 0..DEVICES {
        let [_, a, b, c] = n.to_be_bytes();
        let labels = [
            ("device", format!("device {n}")),
            ("ip", format!("127.{a}.{b}.{c}")),
        ];
        let values = [f64::from(n).sqrt() / 1000.0; 11];
        frame = frame.row(LabelSet::new(labels).unwrap(), &values);
    }
    let mut report = CycleReport::new("big", 0, SystemTime::now());
    report.devices = vec![Arc::new(frame.build())];
    let sink = sink(&gateway.url(), |settings| {
        settings.grouping = Grouping::Config;
        settings.timeout = std::time::Duration::from_secs(60);
    });
    MEMORY.reset_peak_usage();
    let before = MEMORY.current_usage_as_mb();
    sink.publish(Arc::new(report));
    sink.flush().await.unwrap();
    let more = MEMORY.peak_usage_as_mb() - before;
    println!("{more} MB beside the results, which take {before} MB");
    assert!(more <= MOST, "{more} MB");
    assert_eq!(gateway.groups().len(), 1);
}
