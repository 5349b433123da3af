//! What an embedding program can rely on, with scrapers that misbehave in every way and a steered clock.
#![allow(clippy::unwrap_used)]

mod common;

use std::error::Error;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{Actor, Journal, Log, SECOND, builder, device, group, own, registry, run, troupe};
use pe_engine::{
    Config, CycleReport, DeviceEntry, Engine, EngineError, Group, ScraperRegistry, Sink,
};
use pe_scrape::exposition::Format;
use pe_scrape::{ScraperSettings, async_trait};
use serde_json::json;
use tokio::time::{Instant, sleep};

#[tokio::test(start_paused = true)]
async fn cycles_keep_their_rate_and_a_slow_one_delays_no_other() {
    // So many probes that the scraper is given the time it takes.
    let slow = device("a", &json!({"sleep": 2200})).count(3);
    let slow = group("slow", SECOND, [slow]);
    let fast = group("fast", SECOND, [device("b", &json!({"sleep": 100}))]);
    let (journal, results) = run(vec![fast, slow], SECOND * 10).await;
    let expected: Vec<f64> = (0..10).map(|tick| f64::from(tick) + 0.1).collect();
    assert_eq!(journal.times("fast"), expected);
    // The slow one starts half a second later, as starts are staggered, and runs in every third tick; the last run is
    // finished after the stop.
    assert_eq!(journal.times("slow"), [2.7, 5.7, 8.7, 11.7]);
    let last = results.get("slow").unwrap();
    assert_eq!(
        (own(&last, "pingexporter_cycles_total"), last.tick),
        (4.0, 9)
    );
    assert_eq!(own(&last, "pingexporter_cycle_overruns_total"), 6.0);
    assert_eq!(
        own(
            &results.get("fast").unwrap(),
            "pingexporter_cycle_overruns_total"
        ),
        0.0
    );
    assert!((own(&last, "exporter_duration") - 2.2).abs() < 0.01);
}

#[tokio::test(start_paused = true)]
async fn a_panic_an_error_or_a_hang_of_one_device_spoils_no_other() {
    let devices = [
        device("good", &json!({})),
        device("panics", &json!({"panic": "panics"})),
        device("fails", &json!({"fail": "fails"})),
        device("hangs", &json!({"sleep": 3_600_000})),
    ];
    let (journal, results) = run(vec![group("g", SECOND * 2, devices)], SECOND * 7).await;
    let last = results.get("g").unwrap();
    assert_eq!(last.value("good", "actor_up"), Some(1.0));
    for bad in ["panics", "fails", "hangs"] {
        assert_eq!(last.value(bad, "actor_up"), None, "{bad}");
    }
    assert!(journal.of("g").len() >= 2, "{:?}", journal.times("g"));
    assert!(own(&last, "pingexporter_scrape_panics_total") >= 2.0);
    assert!(own(&last, "pingexporter_scrape_errors_total") >= 2.0);
}

#[tokio::test(start_paused = true)]
async fn stopping_finishes_what_can_be_finished_within_the_grace_time() {
    let quick = group(
        "quick",
        SECOND * 60,
        [device("a", &json!({"sleep": 3000})).count(4)],
    );
    let stuck = group(
        "stuck",
        SECOND * 60,
        [device("b", &json!({"sleep": 50_000})).count(50)],
    );
    let journal = Journal::new();
    let engine = builder([quick, stuck])
        .sink("journal", journal.clone())
        .shutdown_grace(SECOND * 4)
        .build()
        .unwrap();
    let started = Instant::now();
    // The second cycle starts after half a second, the stop comes at 1 s.
    engine.run(sleep(SECOND)).await.unwrap();
    assert_eq!(journal.times("quick"), [3.0]);
    assert!(journal.times("stuck").is_empty());
    assert_eq!(started.elapsed().as_secs(), 5);
}

/// A sink that cannot hand anything on.
struct Deaf;

#[async_trait]
impl Sink for Deaf {
    fn publish(&self, _: Arc<CycleReport>) {}
    async fn flush(&self) -> Result<(), Box<dyn Error + Send + Sync>> {
        Err("connection refused".into())
    }
}

#[tokio::test(start_paused = true)]
async fn once_measures_everything_and_tells_what_did_not_arrive() {
    let groups = || {
        let a = group("a", SECOND * 600, [device("x", &json!({}))]);
        let b = group("b", SECOND * 600, [device("y", &json!({}))]);
        [a, b]
    };
    let journal = Journal::new();
    let engine = builder(groups()).sink("journal", journal.clone());
    let reports = engine.build().unwrap().once().await.unwrap();
    let names: Vec<&str> = reports.iter().map(|report| &*report.group).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(journal.of("a").len(), 1);
    let engine = builder(groups()).sink("deaf", Arc::new(Deaf));
    let failed = engine.build().unwrap().once().await.unwrap_err();
    assert_eq!(
        failed.to_string(),
        "deaf: the latest results did not arrive: connection refused"
    );
    // `main` prints errors by `Debug`.
    assert_eq!(format!("{failed:?}"), failed.to_string());
    let engine = builder(groups()).sink("deaf", Arc::new(Deaf));
    let failed = engine.build().unwrap().run(sleep(SECOND)).await;
    assert!(matches!(failed, Err(EngineError::Flush(_))));
}

#[tokio::test(start_paused = true)]
async fn scrapers_with_the_same_settings_are_shared_and_the_rest_is_kept_apart() {
    let made = Arc::new(AtomicUsize::new(0));
    let mut registry = ScraperRegistry::new();
    registry
        .register("actor", {
            let made = made.clone();
            move |settings: &ScraperSettings| {
                made.fetch_add(1, Ordering::SeqCst);
                Actor::create(settings)
            }
        })
        .unwrap();
    let devices = [
        device("a", &json!({})),
        device("b", &json!({})),
        device("c", &json!({})).timeout(Duration::from_millis(400)),
        device("d", &json!({"fail": "d"})),
    ];
    let engine = Engine::builder(registry).group(group("g", SECOND, devices));
    let engine = engine.build().unwrap();
    // To be described, a scraper is made once for each device that says what to measure; then once for each lane.
    let described = 4;
    assert_eq!(made.load(Ordering::SeqCst), described + 3);
    let reports = engine.once().await.unwrap();
    let frames = reports[0].devices.iter();
    let rows: Vec<usize> = frames.map(|frame| frame.rows().len()).collect();
    assert_eq!(rows, [2, 1, 1]);
    assert_eq!(reports[0].device_count, 4);
}

#[tokio::test(start_paused = true)]
async fn exposition_holds_results_and_own_metrics_in_both_styles() {
    let devices = [device("a", &json!({})), device("b", &json!({"fail": "b"}))];
    let engine = builder([group("g", SECOND, devices)]).build().unwrap();
    let (handle, results) = (engine.handle(), engine.results());
    engine.run(sleep(SECOND / 2)).await.unwrap();
    let text = String::from_utf8(handle.exposition(Format::Text)).unwrap();
    let stable: Vec<&str> = text
        .lines()
        .filter(|line| !line.starts_with("process_") && !line.contains("_timestamp_seconds"))
        .map(|line| line.split("version=").next().unwrap())
        .collect();
    insta::assert_snapshot!(stable.join("\n"));

    let mut client = prometheus_client::registry::Registry::default();
    client.register_collector(Box::new(results));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &client).unwrap();
    assert!(
        text.contains("actor_up{exporter=\"g\",device=\"a\",ip=\"127.0.0.1\"} 1.0"),
        "{text}"
    );
    assert!(
        text.contains("actor_scenes_total{exporter=\"g\",device=\"b\",ip=\"127.0.0.1\"} 1.0"),
        "{text}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_device_may_have_times_and_counts_of_its_own() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let mut registry = ScraperRegistry::new();
    registry
        .register("actor", {
            let seen = seen.clone();
            move |settings: &ScraperSettings| {
                let times = (settings.count, settings.probe_interval, settings.timeout);
                seen.lock().unwrap().push(times);
                Actor::create(settings)
            }
        })
        .unwrap();
    let own = device("own", &json!({}))
        .count(7)
        .probe_interval(SECOND / 10)
        .timeout(SECOND / 4);
    let plain = device("plain", &json!({}));
    let group = group("g", SECOND, [own, plain]);
    Engine::builder(registry).group(group).build().unwrap();
    let mut seen = seen.lock().unwrap().clone();
    seen.sort();
    seen.dedup();
    assert_eq!(
        seen,
        [(1, SECOND, SECOND / 2), (7, SECOND / 10, SECOND / 4)]
    );
}

#[tokio::test(start_paused = true)]
async fn each_device_is_counted_once_by_what_its_scrapers_say() {
    let mut registry = registry();
    // Another scraper that tells nothing about whether a device is up.
    registry
        .register("mute", pe_scrape::testkit::Yields::create)
        .unwrap();
    let actor = |name, settings| device(name, &settings);
    let group = group(
        "g",
        SECOND,
        [
            actor("up", json!({})).scraper("mute", json!({"mute": {}})),
            actor("down", json!({"down": "down"})),
            actor("unknown", json!({"panic": "unknown"})).scraper("mute", json!({"mute": {}})),
            DeviceEntry::new("untold", "127.0.0.1")
                .unwrap()
                .scraper("mute", json!({"mute": {}})),
        ],
    );
    let engine = Engine::builder(registry).group(group).build().unwrap();
    let report = engine.once().await.unwrap().remove(0);
    let states = report.states;
    assert_eq!((states.up, states.down, states.unknown), (1, 1, 1));
    assert_eq!(report.device_count, 4);
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_logged_once_and_not_in_each_cycle() {
    let (log, _guard) = Log::listen();
    run(
        vec![troupe(SECOND, json!({"panic": "b"}), &["a", "b"])],
        SECOND * 20,
    )
    .await;
    let told = log.with("panicked");
    assert_eq!(
        told,
        [
            "ERROR a measurement panicked group=g scraper=actor error=b (127.0.0.1): \
             the scraper panicked: as the settings say"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn several_engines_in_one_process_know_nothing_of_each_other() {
    let a = builder([troupe(SECOND, json!({}), &["a"])])
        .build()
        .unwrap();
    let b = builder([troupe(SECOND * 2, json!({"down": "b"}), &["b"])])
        .build()
        .unwrap();
    let (first, second) = (a.results(), b.results());
    let (a, b) = tokio::join!(a.run(sleep(SECOND * 4)), b.run(sleep(SECOND * 4)));
    a.unwrap();
    b.unwrap();
    assert_eq!(first.value("g", "a", "actor_up"), Some(1.0));
    assert_eq!(first.value("g", "b", "actor_up"), None);
    assert_eq!(second.value("g", "b", "actor_up"), Some(0.0));
    assert_eq!(second.value("g", "b", "actor_scenes_total"), Some(2.0));
}

#[tokio::test(start_paused = true)]
async fn a_subscription_tells_of_each_cycle_and_ends_with_the_engine() {
    let engine = builder([troupe(SECOND, json!({}), &["a"])])
        .build()
        .unwrap();
    let results = engine.results();
    let (mut reader, mut sleeper) = (results.subscribe(), results.subscribe());
    let running = tokio::spawn(engine.run(sleep(SECOND * 9 + SECOND / 2)));
    let mut ticks = Vec::new();
    while let Some(report) = reader.next().await {
        ticks.push(report.tick);
    }
    assert_eq!(ticks, (0..10).collect::<Vec<u64>>());
    assert_eq!(reader.skipped(), 0);
    running.await.unwrap().unwrap();
    // One who slept gets the latest, and how much was missed.
    assert_eq!(sleeper.next().await.unwrap().tick, 6);
    assert_eq!(sleeper.skipped(), 6);
    assert!(results.subscribe().next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_subscription_ends_with_an_engine_that_is_dropped() {
    let engine = builder([troupe(SECOND, json!({}), &["a"])])
        .build()
        .unwrap();
    let (handle, mut finished) = (engine.handle(), engine.results().subscribe());
    drop(engine);
    assert!(finished.next().await.is_none());
    let refused = handle.reload(Config::default()).await;
    assert!(matches!(refused, Err(EngineError::Stopped)));
}

#[tokio::test(start_paused = true)]
async fn one_pacer_holds_for_all_lanes_of_a_group() {
    use pe_scrape::{Batch, Columns, Pacer, Row, ScrapeError, Scraper, Target};
    use tokio::time::sleep_until;

    /// Books a turn before each probe, and waits for it. All scrapers read one clock.
    struct Paced(Arc<Columns>, pe_scrape::Metric, Instant);
    #[async_trait]
    impl Scraper for Paced {
        fn columns(&self) -> &Arc<Columns> {
            &self.0
        }
        async fn scrape(&self, _: &Target, _: Row<'_>) -> Result<(), ScrapeError> {
            unreachable!("the batch method is overridden")
        }
        async fn scrape_batch(&self, batch: &Batch) -> Result<(), ScrapeError> {
            for (row, _) in batch.targets() {
                if let Some(pacer) = &batch.pacer {
                    let now = self.2.elapsed().as_nanos() as u64 + Pacer::OFFSET;
                    let (from, _) = pacer.book(now, 1, 0);
                    let turn = (from + pacer.gap()).saturating_sub(Pacer::OFFSET);
                    sleep_until(self.2 + Duration::from_nanos(turn)).await;
                }
                batch.row(row).set(self.1, 1.0);
            }
            Ok(())
        }
    }
    let start = Instant::now();
    let mut registry = ScraperRegistry::new();
    registry
        .register("paced", move |_: &ScraperSettings| {
            let mut columns = Columns::builder();
            let sent = columns.gauge("sent", "Sent");
            Ok(Arc::new(Paced(columns.build()?, sent, start)) as Arc<dyn Scraper>)
        })
        .unwrap();
    let build = |group: pe_scrape::GroupBuilder| {
        let device = |name: &str, milliseconds| {
            DeviceEntry::new(format!("{name}-{{ip}}"), "127.0.0.0/28")
                .unwrap()
                .timeout(Duration::from_millis(milliseconds))
        };
        let group = group.scraper("paced", json!(null));
        let group = group.entry(device("a", 300)).entry(device("b", 400));
        let engine = Engine::builder(registry.clone()).group(group.build().unwrap());
        engine.build().unwrap()
    };
    let paced = build(Group::builder("g", SECOND * 60).rate(10.0).burst(1));
    let report = paced.once().await.unwrap().remove(0);
    assert_eq!(report.devices.len(), 2);
    // 28 devices in two lanes at 10 a second.
    assert!(
        (2.6..2.9).contains(&report.duration.as_secs_f64()),
        "{:?}",
        report.duration
    );
    let free = build(Group::builder("g", SECOND * 60));
    let report = free.once().await.unwrap().remove(0);
    assert_eq!(report.duration, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn learned_frames_go_out_with_their_cycle_unless_they_clash() {
    let devices = [
        device("a", &json!({"learn": "a"})),
        device("b", &json!({"learn_taken": "b"})),
    ];
    let (log, _guard) = Log::listen();
    let (journal, results) = run(vec![group("g", SECOND, devices)], SECOND * 5).await;
    let last = results.get("g").unwrap();
    assert_eq!(last.value("a", "line_learned"), Some(7.0));
    for (_, report) in journal.of("g") {
        assert_eq!(report.devices.len(), 3, "two tables and what was learned");
        assert!(
            report
                .devices
                .iter()
                .all(|frame| frame.time() == report.started)
        );
    }
    // The value is the one of the table.
    assert_eq!(last.value("b", "actor_up"), Some(1.0));
    assert!(own(&last, "pingexporter_scrape_errors_total") >= 5.0);
    assert_eq!(
        log.with("not everything"),
        [
            "WARN not everything could be measured group=g scraper=actor error=b (127.0.0.1): \
             another scraper yields `actor_up`"
        ]
    );
}
