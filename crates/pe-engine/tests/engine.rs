//! What an embedding program can rely on, with scrapers that misbehave in every way and a steered clock.
#![allow(clippy::unwrap_used)]

use std::error::Error;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pe_config::{Address, Config, GroupConfig, JobConfig, MetricConfig};
use pe_engine::{Engine, EngineError, ScraperRegistry, Sink};
use pe_scrape::exposition::Format;
use pe_scrape::{
    CycleReport, MetricDescriptor, Row, ScrapeError, Scraper, ScraperSettings, Target, async_trait,
};
use serde_json::json;
use tokio::time::{Instant, sleep};

/// Counts its scrapes in a counter, and does what its settings say: `sleep` so many milliseconds, `panic`, `fail`.
struct Actor {
    descriptors: [MetricDescriptor; 2],
    settings: serde_json::Value,
}

#[async_trait]
impl Scraper for Actor {
    fn descriptors(&self) -> &[MetricDescriptor] {
        &self.descriptors
    }

    async fn scrape(&self, target: &Target, row: Row<'_>) -> Result<(), ScrapeError> {
        row.add(1, 1.0);
        if let Some(pause) = self.settings["sleep"].as_u64() {
            sleep(Duration::from_millis(pause)).await;
        }
        if self.settings["panic"] == target.device() {
            panic!("as the settings say");
        }
        if self.settings["fail"] == target.device() {
            return Err(ScrapeError::Target("as the settings say".into()));
        }
        row.set(0, 1.0);
        Ok(())
    }
}

fn registry() -> ScraperRegistry {
    let mut registry = ScraperRegistry::new();
    registry
        .register("actor", |settings: &ScraperSettings| {
            let descriptors = [
                MetricDescriptor::gauge("actor_up", "Whether the actor played"),
                MetricDescriptor::counter("actor_scenes_total", "Scenes played"),
            ];
            Ok(Arc::new(Actor {
                descriptors,
                settings: settings.own.clone(),
            }) as Arc<dyn Scraper>)
        })
        .unwrap();
    registry
}

fn job(name: &str, settings: &serde_json::Value) -> JobConfig {
    let metric = MetricConfig {
        scraper: "actor".into(),
        settings: settings.clone(),
    };
    JobConfig {
        job: name.into(),
        ip: "127.0.0.1".into(),
        address: Address::Ip([127, 0, 0, 1].into()),
        labels: pe_config::Labels::default(),
        metrics: Arc::new([metric]),
        timeout: None,
        count: None,
        probe_interval: None,
    }
}

fn group(prom_id: &str, interval: Duration, jobs: Vec<JobConfig>) -> GroupConfig {
    GroupConfig {
        file: format!("{prom_id}.json").into(),
        prom_id: prom_id.into(),
        interval,
        timeout: interval / 2,
        value_dev_down: 3000.0,
        count: 1,
        probe_interval: Duration::from_secs(1),
        pacer: pe_config::PacerConfig::default(),
        labels: pe_config::Labels::default(),
        jobs,
    }
}

fn config(groups: Vec<GroupConfig>) -> Config {
    Config { push: None, groups }
}

const SECOND: Duration = Duration::from_secs(1);

/// A sink that remembers when which report came, in seconds since it was made.
#[derive(Clone)]
struct Journal(Arc<Mutex<Vec<Entry>>>, Instant);

type Entry = (f64, Arc<CycleReport>);

impl Journal {
    fn new() -> Self {
        Self(Arc::default(), Instant::now())
    }
    fn of(&self, config: &str) -> Vec<Entry> {
        let all = self.0.lock().unwrap();
        all.iter()
            .filter(|(_, report)| *report.config == *config)
            .cloned()
            .collect()
    }
    fn times(&self, config: &str) -> Vec<f64> {
        self.of(config)
            .iter()
            .map(|(time, _)| (time * 100.0).round() / 100.0)
            .collect()
    }
}

#[async_trait]
impl Sink for Journal {
    fn name(&self) -> &str {
        "journal"
    }
    fn publish(&self, report: Arc<CycleReport>) {
        self.0
            .lock()
            .unwrap()
            .push((self.1.elapsed().as_secs_f64(), report));
    }
}

fn value(report: &CycleReport, device: &str, name: &str) -> Option<f64> {
    report.devices.iter().find_map(|frame| {
        let row = frame
            .rows()
            .iter()
            .position(|labels| labels.get("device") == Some(device))?;
        frame.value(row, name)
    })
}

fn own(report: &CycleReport, name: &str) -> f64 {
    report
        .exporter
        .iter()
        .find_map(|frame| frame.value(0, name))
        .unwrap()
}

async fn run(config: Config, time: Duration) -> (Journal, pe_engine::Results) {
    let journal = Journal::new();
    let engine = Engine::builder(config, registry())
        .sink(journal.clone())
        .build()
        .unwrap();
    let results = engine.results();
    engine.run(sleep(time)).await;
    (journal, results)
}

#[tokio::test(start_paused = true)]
async fn cycles_keep_their_rate_and_a_slow_one_delays_no_other() {
    let mut slow = group("slow", SECOND, vec![job("a", &json!({"sleep": 2200}))]);
    slow.count = 3; // so that the scraper is given the time it takes
    let fast = group("fast", SECOND, vec![job("b", &json!({"sleep": 100}))]);
    let (journal, results) = run(config(vec![fast, slow]), SECOND * 10).await;
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
    let jobs = vec![
        job("good", &json!({})),
        job("panics", &json!({"panic": "panics"})),
        job("fails", &json!({"fail": "fails"})),
        job("hangs", &json!({"sleep": 3_600_000})),
    ];
    let (journal, results) = run(config(vec![group("g", SECOND * 2, jobs)]), SECOND * 7).await;
    let last = results.get("g").unwrap();
    assert_eq!(value(&last, "good", "actor_up"), Some(1.0));
    for bad in ["panics", "fails", "hangs"] {
        assert_eq!(value(&last, bad, "actor_up"), None, "{bad}");
    }
    // The hanging device is given up, so that the cycle does not fall behind for long.
    assert!(journal.of("g").len() >= 2, "{:?}", journal.times("g"));
    assert!(own(&last, "pingexporter_scrape_panics_total") >= 2.0);
    assert!(own(&last, "pingexporter_scrape_errors_total") >= 2.0);
}

#[tokio::test(start_paused = true)]
async fn stopping_finishes_what_can_be_finished_within_the_grace_time() {
    let quick = group(
        "quick",
        SECOND * 60,
        vec![job("a", &json!({"sleep": 3000}))],
    );
    let stuck = group(
        "stuck",
        SECOND * 60,
        vec![job("b", &json!({"sleep": 50_000}))],
    );
    let journal = Journal::new();
    let engine = Engine::builder(config(vec![quick, stuck]), registry())
        .sink(journal.clone())
        .shutdown_grace(SECOND * 4)
        .build()
        .unwrap();
    let started = Instant::now();
    // The second cycle starts after half a second, the stop comes at 1 s.
    engine.run(sleep(SECOND)).await;
    assert_eq!(journal.times("quick"), [3.0]);
    assert!(journal.times("stuck").is_empty());
    assert_eq!(started.elapsed().as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn reload_keeps_what_stays_and_withdraws_what_goes() {
    let quiet = json!({});
    let before = config(vec![
        group("same", SECOND, vec![job("a", &quiet)]),
        group(
            "grows",
            SECOND,
            vec![job("leaves", &quiet), job("b", &quiet)],
        ),
        group("goes", SECOND, vec![job("c", &quiet)]),
    ]);
    let after = config(vec![
        group("same", SECOND, vec![job("a", &quiet)]),
        group("grows", SECOND, vec![job("new", &quiet), job("b", &quiet)]),
        group("comes", SECOND, vec![job("d", &quiet)]),
    ]);
    let engine = Engine::builder(before, registry()).build().unwrap();
    let (handle, results) = (engine.handle(), engine.results());
    let running = tokio::spawn(engine.run(sleep(SECOND * 20)));
    sleep(Duration::from_millis(5900)).await;
    let scenes = |config: &str, device: &str| {
        value(&results.get(config).unwrap(), device, "actor_scenes_total").unwrap()
    };
    let (a, b) = (scenes("same", "a"), scenes("grows", "b"));
    assert!(handle.is_ready());

    // A configuration that cannot run changes nothing.
    let mut unknown = job("x", &quiet);
    unknown.metrics = Arc::new([MetricConfig {
        scraper: "no".into(),
        settings: json!(null),
    }]);
    let refused = handle
        .reload(config(vec![group("same", SECOND, vec![unknown])]))
        .await;
    assert!(
        matches!(refused, Err(EngineError::Scraper { .. })),
        "{refused:?}"
    );
    let text = String::from_utf8(handle.exposition(Format::Text)).unwrap();
    assert!(text.contains("pingexporter_config_last_reload_successful 0"));

    let summary = handle.reload(after).await.unwrap();
    assert_eq!(
        (
            summary.added,
            summary.changed,
            summary.unchanged,
            summary.removed
        ),
        (1, 1, 1, 1)
    );
    assert!(results.get("goes").is_none());
    // The changed configuration shows what it knows of the devices that stay, before its next tick.
    sleep(Duration::from_millis(10)).await;
    assert_eq!(scenes("grows", "b"), b);
    let grown = results.get("grows").unwrap();
    assert_eq!(value(&grown, "b", "actor_up"), Some(1.0));
    assert_eq!(value(&grown, "new", "actor_up"), None);
    assert_eq!(value(&grown, "leaves", "actor_scenes_total"), None);
    sleep(Duration::from_millis(2990)).await;
    assert_eq!(scenes("same", "a"), a + 3.0);
    assert_eq!(scenes("grows", "b"), b + 3.0);
    assert_eq!(scenes("grows", "new"), 3.0);
    assert!(results.get("comes").is_some() && results.get("goes").is_none());
    running.await.unwrap();
    assert!(matches!(
        handle.reload(config(Vec::new())).await,
        Err(EngineError::Stopped)
    ));
}

#[tokio::test(start_paused = true)]
async fn once_measures_everything_and_tells_what_did_not_arrive() {
    struct Deaf;
    #[async_trait]
    impl Sink for Deaf {
        fn name(&self) -> &str {
            "deaf"
        }
        fn publish(&self, _: Arc<CycleReport>) {}
        async fn flush(&self) -> Result<(), Box<dyn Error + Send + Sync>> {
            Err("connection refused".into())
        }
    }
    let groups = || {
        let a = group("a", SECOND * 600, vec![job("x", &json!({}))]);
        let b = group("b", SECOND * 600, vec![job("y", &json!({}))]);
        config(vec![a, b])
    };
    let reports = Engine::builder(groups(), registry())
        .build()
        .unwrap()
        .once()
        .await
        .unwrap();
    let names: Vec<&str> = reports.iter().map(|report| &*report.config).collect();
    assert_eq!(names, ["a", "b"]);
    let failed = Engine::builder(groups(), registry())
        .sink(Deaf)
        .build()
        .unwrap()
        .once()
        .await;
    assert_eq!(
        failed.unwrap_err().to_string(),
        "deaf: the latest results did not arrive: connection refused"
    );
}

#[tokio::test(start_paused = true)]
async fn scrapers_with_the_same_settings_are_shared_and_the_rest_is_kept_apart() {
    static MADE: AtomicUsize = AtomicUsize::new(0);
    let mut registry = ScraperRegistry::new();
    registry
        .register("actor", |settings: &ScraperSettings| {
            MADE.fetch_add(1, Ordering::SeqCst);
            let descriptors = [
                MetricDescriptor::gauge("actor_up", ""),
                MetricDescriptor::counter("n_total", ""),
            ];
            Ok(Arc::new(Actor {
                descriptors,
                settings: settings.own.clone(),
            }) as Arc<dyn Scraper>)
        })
        .unwrap();
    let mut patient = job("c", &json!({}));
    patient.timeout = Some(Duration::from_millis(900));
    let jobs = vec![
        job("a", &json!({})),
        job("b", &json!({})),
        patient,
        job("d", &json!({"fail": "d"})),
    ];
    let config = config(vec![group("g", SECOND, jobs)]);
    let reports = Engine::builder(config, registry)
        .build()
        .unwrap()
        .once()
        .await
        .unwrap();
    assert_eq!(MADE.load(Ordering::SeqCst), 3);
    let rows: Vec<usize> = reports[0]
        .devices
        .iter()
        .map(|frame| frame.rows().len())
        .collect();
    assert_eq!(rows, [2, 1, 1]);
    assert_eq!(reports[0].jobs, 4);
}

#[tokio::test(start_paused = true)]
async fn exposition_holds_results_and_own_metrics_in_both_styles() {
    let jobs = vec![job("a", &json!({})), job("b", &json!({"fail": "b"}))];
    let engine = Engine::builder(config(vec![group("g", SECOND, jobs)]), registry())
        .build()
        .unwrap();
    let (handle, results) = (engine.handle(), engine.results());
    engine.run(sleep(SECOND / 2)).await;
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
    static SEEN: Mutex<Vec<(u32, Duration, Duration)>> = Mutex::new(Vec::new());
    let mut registry = ScraperRegistry::new();
    registry
        .register("actor", |settings: &ScraperSettings| {
            SEEN.lock()
                .unwrap()
                .push((settings.count, settings.probe_interval, settings.timeout));
            let descriptors = [
                MetricDescriptor::gauge("actor_up", ""),
                MetricDescriptor::counter("n_total", ""),
            ];
            Ok(Arc::new(Actor {
                descriptors,
                settings: settings.own.clone(),
            }) as Arc<dyn Scraper>)
        })
        .unwrap();
    let mut own = job("own", &json!({}));
    own.count = Some(7);
    own.probe_interval = Some(SECOND / 10);
    own.timeout = Some(SECOND / 4);
    // The same list of metrics, as devices of one subnet share it.
    let mut plain = own.clone();
    (plain.job, plain.count, plain.probe_interval, plain.timeout) =
        ("plain".into(), None, None, None);
    let config = config(vec![group("g", SECOND, vec![own, plain])]);
    Engine::builder(config, registry).build().unwrap();
    let seen = SEEN.lock().unwrap().clone();
    assert_eq!(
        seen,
        [(7, SECOND / 10, SECOND / 4), (1, SECOND, SECOND / 2)]
    );
}
