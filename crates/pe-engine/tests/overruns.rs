//! Cycles that take longer than their interval, and devices that hang: what is published, with which time, and what is told.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{Actor, Log, SECOND, device, group, own, run, seen, troupe};
use pe_engine::{Engine, Group, ScraperRegistry};
use pe_scrape::{Batch, Columns, Row, ScrapeError, Scraper, ScraperSettings, Target, async_trait};
use serde_json::json;
use tokio::time::sleep;

const UP: &str = "actor_up";
const SCENES: &str = "actor_scenes_total";

#[tokio::test(start_paused = true)]
async fn a_device_that_hangs_costs_itself_only() {
    let (log, _guard) = Log::listen();
    let settings = json!({"sleep": 100, "slow": {"hangs": 3_600_000}});
    let group = troupe(SECOND, settings, &["a", "hangs", "b"]);
    let (journal, results) = run(vec![group], SECOND * 20).await;

    // The device is given up after a timeout and a second; then it is tried again at the next tick. A cycle with it is
    // published at the tick after it, the others when they are done.
    assert_eq!(journal.times("g")[..4], [1.0, 1.1, 3.0, 3.1]);
    assert_eq!(journal.of("g").len(), 20);
    for name in ["a", "b"] {
        assert_eq!(seen(&journal, name, UP), vec![Some(1.0); 20], "{name}");
        let counted: Vec<_> = (1..=20).map(|n| Some(f64::from(n))).collect();
        assert_eq!(seen(&journal, name, SCENES), counted, "{name}");
    }
    assert_eq!(seen(&journal, "hangs", UP), vec![None; 20]);
    let last = results.get("g").unwrap();
    assert_eq!(last.value("hangs", SCENES), Some(10.0));
    assert_eq!((last.states.up, last.states.unknown), (2, 1));
    assert_eq!(own(&last, "pingexporter_cycle_overruns_total"), 0.0);

    assert_eq!(
        log.with("hangs in its scraper"),
        [
            "WARN a device hangs in its scraper; it has no results until that ends group=g scraper=actor device=hangs \
             devices=1"
        ]
    );
    assert!(log.with("longer than its interval").is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_hang_is_told_once() {
    /// Hangs in its first five scrapes.
    struct Moody(Arc<dyn Scraper>, std::sync::atomic::AtomicUsize);
    #[async_trait]
    impl Scraper for Moody {
        fn columns(&self) -> &Arc<Columns> {
            self.0.columns()
        }
        async fn scrape(&self, target: &Target, row: Row<'_>) -> Result<(), ScrapeError> {
            let hang = target.device() == "moody"
                && self.1.fetch_add(1, std::sync::atomic::Ordering::SeqCst) < 5;
            if hang {
                std::future::pending::<()>().await;
            }
            self.0.scrape(target, row).await
        }
    }
    let mut registry = ScraperRegistry::new();
    registry
        .register("actor", |settings: &ScraperSettings| {
            let actor = Actor::create(settings)?;
            Ok(Arc::new(Moody(actor, 0.into())) as Arc<dyn Scraper>)
        })
        .unwrap();
    let (log, _guard) = Log::listen();
    let group = troupe(SECOND, json!({}), &["a", "moody"]);
    let engine = Engine::builder(registry).group(group).build().unwrap();
    let results = engine.results();
    engine.run(sleep(SECOND * 100)).await.unwrap();
    assert_eq!(log.with("a device hangs").len(), 1);
    assert_eq!(
        log.with("no device hangs"),
        ["INFO no device hangs in its scraper any more group=g scraper=actor"]
    );
    assert_eq!(results.value("g", "moody", UP), Some(1.0));
}

#[tokio::test(start_paused = true)]
async fn a_late_value_is_never_published_as_that_of_another_cycle() {
    // Its answer comes 200 ms after the tick, while the others are measured again.
    let settings = json!({"sleep": 300, "slow": {"late": 1200}});
    let group = troupe(SECOND, settings, &["a", "late"]);
    let (journal, _) = run(vec![group], SECOND * 10).await;
    assert_eq!(journal.of("g").len(), 10);
    assert_eq!(seen(&journal, "late", UP), vec![None; 10]);
    assert_eq!(seen(&journal, "a", UP), vec![Some(1.0); 10]);
}

#[tokio::test(start_paused = true)]
async fn every_frame_has_the_time_of_its_cycle_and_comes_once() {
    let devices = [
        device("fast", &json!({"sleep": 100})),
        // Longer than the interval, as its probes are.
        device("slow", &json!({"sleep": 2200})).count(3),
    ];
    let (journal, results) = run(vec![group("g", SECOND, devices)], SECOND * 9).await;
    let reports = journal.of("g");
    // At ticks 1 and 2 the slow one is still at work: it has no results of these cycles.
    let expected = [1.0, 1.1, 2.1, 2.2, 4.0, 4.1, 5.1, 5.2, 7.0, 7.1, 8.1, 8.2];
    assert_eq!(journal.times("g"), expected);
    let mut times = Vec::new();
    for (_, report) in &reports {
        for frame in &report.devices {
            assert_eq!(frame.time(), report.started);
            times.push((frame.time(), frame.rows()[0].get("device") == Some("slow")));
        }
    }
    let count = times.len();
    times.sort();
    times.dedup();
    assert_eq!(times.len(), count, "no frame comes twice");
    assert_eq!(
        seen(&journal, "slow", UP)[..5],
        [None, None, None, Some(1.0), None]
    );
    // The late report is of the cycle in which the scraper began, and the whole state stays in sight.
    let (_, late) = &reports[3];
    assert_eq!((late.tick, late.started), (0, reports[0].1.started));
    assert!((late.duration.as_secs_f64() - 2.2).abs() < 0.01);
    assert_eq!(late.kept.len(), 1);
    assert_eq!(late.value("fast", UP), Some(1.0));
    assert_eq!(reports[4].1.value("slow", UP), Some(1.0));
    assert_eq!(reports[4].1.kept[0].time(), late.started);
    assert_eq!((late.states.up, late.states.unknown), (2, 0));
    assert_eq!(results.value("g", "fast", UP), Some(1.0));
    assert_eq!(results.value("g", "slow", UP), Some(1.0));
}

#[tokio::test(start_paused = true)]
async fn the_duration_is_that_of_the_slowest_lane() {
    let devices = [
        device("a", &json!({"sleep": 100})),
        device("b", &json!({"sleep": 700})),
        device("c", &json!({"sleep": 300})),
    ];
    let (journal, _) = run(vec![group("g", SECOND, devices)], SECOND * 3).await;
    for (_, report) in journal.of("g") {
        assert!((own(&report, "exporter_duration") - 0.7).abs() < 0.01);
    }
}

#[tokio::test(start_paused = true)]
async fn done_rows_are_published_even_where_others_wait_for_their_turn() {
    // 64 devices are measured at once; 64 hang, 6 wait, 10 are done.
    let slow = (0..64).map(|n| (format!("hangs-{n:02}"), json!(3_600_000)));
    let settings = json!({"slow": slow.collect::<serde_json::Map<_, _>>()});
    let group = Group::builder("g", SECOND).scraper("actor", settings);
    let names = (0..10)
        .map(|n| format!("done-{n}"))
        .chain((0..64).map(|n| format!("hangs-{n:02}")))
        .chain((0..6).map(|n| format!("waits-{n}")));
    let group = names.fold(group, |group, name| group.device(name, "127.0.0.1"));
    let (log, _guard) = Log::listen();
    let (journal, _) = run(vec![group.build().unwrap()], SECOND * 2 + SECOND / 2).await;
    // At the tick those that are done; those that waited when the others are given up, at 1.5 s, all of the same cycle.
    assert_eq!(journal.times("g")[..2], [1.0, 1.5]);
    let reports = journal.of("g");
    assert_eq!(reports[0].1.started, reports[1].1.started);
    assert_eq!(seen(&journal, "done-3", UP)[..2], [Some(1.0), Some(1.0)]);
    assert_eq!(seen(&journal, "waits-3", UP)[..2], [None, Some(1.0)]);
    // No series has two values for one time: counters of rows that follow are left out.
    assert_eq!(seen(&journal, "waits-3", SCENES)[..2], [None, Some(1.0)]);
    assert_eq!(seen(&journal, "hangs-03", UP)[..2], [None, None]);
    assert_eq!(log.with("longer than its interval").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_overrun_is_told_when_it_begins_and_when_it_has_ended_for_good() {
    /// Takes 1.2 s in every third of its first 60 scrapes.
    struct Varies(Arc<dyn Scraper>, std::sync::atomic::AtomicUsize);
    #[async_trait]
    impl Scraper for Varies {
        fn columns(&self) -> &Arc<Columns> {
            self.0.columns()
        }
        async fn scrape(&self, target: &Target, row: Row<'_>) -> Result<(), ScrapeError> {
            let scrape = self.1.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            if scrape < 60 && scrape.is_multiple_of(3) {
                sleep(Duration::from_millis(1200)).await;
            }
            self.0.scrape(target, row).await
        }
    }
    let mut registry = ScraperRegistry::new();
    registry
        .register("actor", |settings: &ScraperSettings| {
            let actor = Actor::create(settings)?;
            Ok(Arc::new(Varies(actor, 0.into())) as Arc<dyn Scraper>)
        })
        .unwrap();
    let (log, _guard) = Log::listen();
    let group = group("g", SECOND, [device("a", &json!({})).count(3)]);
    let engine = Engine::builder(registry).group(group).build().unwrap();
    let results = engine.results();
    engine.run(sleep(SECOND * 200)).await.unwrap();
    let last = results.get("g").unwrap();
    assert_eq!(own(&last, "pingexporter_cycle_overruns_total"), 20.0);
    let told = log.with("interval");
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].starts_with("WARN a cycle takes longer than its interval"));
    assert_eq!(
        told[1],
        "INFO the cycle keeps up with its interval again group=g"
    );
}

#[tokio::test(start_paused = true)]
async fn results_that_may_take_longer_than_the_interval_are_not_thrown_away() {
    // One device answers at once, the other one uses the time that its probes have.
    let settings = json!({"slow": {"patient": 2200}});
    let group = Group::builder("g", SECOND)
        .count(3)
        .scraper("actor", settings)
        .device("quick", "127.0.0.1")
        .device("patient", "127.0.0.1");
    let (journal, _) = run(vec![group.build().unwrap()], SECOND * 6).await;
    assert_eq!(journal.times("g"), [1.0, 2.2, 4.0, 5.2]);
    assert_eq!(
        seen(&journal, "patient", UP),
        [None, Some(1.0), None, Some(1.0)]
    );
    assert_eq!(seen(&journal, "quick", UP), vec![Some(1.0); 4]);
}

/// Measures its rows one after the other, 100 ms each, without saying which are done.
struct Silent(Arc<dyn Scraper>);

#[async_trait]
impl Scraper for Silent {
    fn columns(&self) -> &Arc<Columns> {
        self.0.columns()
    }
    async fn scrape(&self, target: &Target, row: Row<'_>) -> Result<(), ScrapeError> {
        self.0.scrape(target, row).await
    }
    async fn scrape_batch(&self, batch: &Batch) -> Result<(), ScrapeError> {
        for (row, target) in batch.targets() {
            sleep(Duration::from_millis(100)).await;
            self.scrape(target, batch.row(row)).await?;
        }
        match batch.target(0).device() {
            "breaks" => panic!("a batch that breaks"),
            _ => Ok(()),
        }
    }
}

fn silent() -> ScraperRegistry {
    let mut registry = ScraperRegistry::new();
    let make = |settings: &ScraperSettings| {
        Ok(Arc::new(Silent(Actor::create(settings)?)) as Arc<dyn Scraper>)
    };
    registry.register("actor", make).unwrap();
    registry
}

#[tokio::test(start_paused = true)]
async fn rows_of_a_batch_that_keeps_no_account_count_as_done_when_it_returns() {
    let names: Vec<String> = (0..15).map(|n| format!("d{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let group = troupe(SECOND, json!({}), &names);
    let engine = Engine::builder(silent()).group(group).build().unwrap();
    let mut finished = engine.results().subscribe();
    tokio::spawn(engine.run(std::future::pending()));
    let first = finished.next().await.unwrap();
    assert_eq!(first.duration, SECOND * 3 / 2);
    for name in names {
        assert_eq!(first.value(name, UP), Some(1.0), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_panics_is_contained_and_tried_again() {
    let (log, _guard) = Log::listen();
    let group = troupe(SECOND, json!({}), &["breaks", "other"]);
    let engine = Engine::builder(silent()).group(group).build().unwrap();
    let results = engine.results();
    engine.run(sleep(SECOND * 5)).await.unwrap();
    let last = results.get("g").unwrap();
    assert_eq!(
        last.value("other", UP),
        None,
        "nobody says that its row is done"
    );
    assert_eq!(last.value("other", SCENES), Some(5.0));
    assert_eq!(own(&last, "pingexporter_scrape_panics_total"), 5.0);
    assert_eq!(
        log.with("panicked"),
        [
            "ERROR a measurement panicked group=g scraper=actor error=the scraper panicked: a batch that breaks"
        ]
    );
}
