//! The agent's own metrics reach every sink, as a report that says whose they are.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;

use common::{Journal, SECOND, builder, device, group};
use pe_engine::{Config, CycleReport, Group, Sink};
use pe_scrape::exposition::Format;
use pe_scrape::{AGENT_JOB, Frame, FrameBuilder, LabelSet, MetricDescriptor};
use serde_json::json;
use tokio::time::sleep;

/// A sink with a metric of its own.
struct Counting;

impl Sink for Counting {
    fn publish(&self, _: Arc<CycleReport>) {}
    fn metrics(&self) -> Vec<Frame> {
        let described = MetricDescriptor::counter("pingexporter_pushes_total", "Pushes");
        let frame = FrameBuilder::new(&[described]).unwrap();
        vec![frame.row(LabelSet::empty(), &[1.0]).build()]
    }
}

fn every(seconds: u32) -> Group {
    group("g", SECOND * seconds, [device("a", &json!({}))])
}

/// Names and labels of all series of a report, but for those of the process.
fn series(report: &CycleReport) -> Vec<String> {
    let frames = report.exporter.iter();
    let series = frames.flat_map(|frame| {
        let name = frame.columns().descriptors()[0].name();
        let rows = frame.rows().iter();
        rows.map(move |row| format!("{name} {row:?}"))
    });
    let mut series: Vec<_> = series.filter(|name| !name.starts_with("process")).collect();
    series.sort();
    series
}

#[tokio::test(start_paused = true)]
async fn they_come_as_often_as_the_fastest_group_at_each_change_and_at_the_end() {
    let journal = Journal::new();
    let described = MetricDescriptor::gauge("program_x", "Of the program");
    let engine = builder([every(30)])
        .sink("journal", journal.clone())
        .sink("counting", Arc::new(Counting))
        .metrics(move || {
            let frame = FrameBuilder::new(std::slice::from_ref(&described)).unwrap();
            vec![frame.row(LabelSet::empty(), &[1.0]).build()]
        })
        .build()
        .unwrap();
    let (handle, results) = (engine.handle(), engine.results());
    let running = tokio::spawn(engine.run(sleep(SECOND * 99)));
    sleep(SECOND * 70).await;
    assert_eq!(journal.times(AGENT_JOB), [0.0, 30.0, 60.0]);
    // A group that is measured each second has them no more often than each 15.
    handle
        .reload(Config::new(vec![every(1)], Vec::new()))
        .await
        .unwrap();
    running.await.unwrap().unwrap();
    assert_eq!(
        journal.times(AGENT_JOB),
        [0.0, 30.0, 60.0, 70.0, 85.0, 99.0]
    );

    let (_, latest) = journal.of(AGENT_JOB).pop().unwrap();
    assert!(latest.is_agent && latest.tick == 5 && latest.frames().count() == 0);
    let found = series(&latest);
    for expected in [
        r#"pingexporter_pushes_total [sink="counting"]"#,
        r#"pingexporter_task_restarts_total [task="cycle"]"#,
        "program_x []",
    ] {
        assert!(found.iter().any(|s| s == expected), "{expected}: {found:?}");
    }
    let cpu = |frame: &Frame| frame.value(0, "process_cpu_seconds_total");
    assert!(latest.exporter.iter().find_map(cpu).is_some());
    // Where results are read, they are no group.
    assert!(results.get(AGENT_JOB).is_none());
    let text = String::from_utf8(handle.exposition(Format::Text)).unwrap();
    assert!(!text.contains("exporter=\"pingexporter\""), "{text}");
}

#[tokio::test(start_paused = true)]
async fn their_interval_can_be_set_and_a_single_cycle_has_them_once() {
    let journal = Journal::new();
    let engine = builder([every(30)])
        .sink("journal", journal.clone())
        .own_metrics_interval(SECOND * 4);
    engine
        .build()
        .unwrap()
        .run(sleep(SECOND * 9))
        .await
        .unwrap();
    assert_eq!(journal.times(AGENT_JOB), [0.0, 4.0, 8.0, 9.0]);

    let journal = Journal::new();
    let engine = builder([every(30)]).sink("journal", journal.clone());
    engine.build().unwrap().once().await.unwrap();
    assert_eq!(journal.of(AGENT_JOB).len(), 1);
}
