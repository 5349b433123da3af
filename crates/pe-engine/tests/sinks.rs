//! Sinks come, go, stay, block and panic; no cycle notices.
#![allow(clippy::unwrap_used)]

mod common;

use std::error::Error;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{Journal, Log, SECOND, builder, device, group, registry, troupe};
use pe_engine::{Config, CycleReport, Engine, EngineError, Group, Sink, SinkRegistry};
use pe_scrape::exposition::Format;
use pe_scrape::{
    CloseReason, Frame, FrameBuilder, LabelSet, MetricDescriptor, SettingsError, SinkConfig,
    SinkSettings, async_trait,
};
use serde_json::json;
use tokio::time::sleep;

/// What all sinks of a test did, in order.
type Events = Arc<Mutex<Vec<String>>>;

struct Recorder {
    name: String,
    events: Events,
}

impl Recorder {
    fn note(&self, event: &str) {
        let event = format!("{} {event}", self.name);
        self.events.lock().unwrap().push(event);
    }
}

#[async_trait]
impl Sink for Recorder {
    fn publish(&self, report: Arc<CycleReport>) {
        // The agent's own metrics come at times of their own.
        if !report.is_agent {
            self.note(&format!("publish {} {}", report.group, report.tick));
        }
    }
    fn retain(&self, groups: &[Arc<str>]) {
        self.note(&format!("retain {}", groups.join(" ")));
    }
    async fn close(&self, reason: CloseReason) {
        self.note(&format!("close {reason:?}"));
    }

    async fn flush(&self) -> Result<(), Box<dyn Error + Send + Sync>> {
        self.note("flush");
        Ok(())
    }
    fn metrics(&self) -> Vec<Frame> {
        let described = MetricDescriptor::counter("pingexporter_pushes_total", "Pushes");
        let frame = FrameBuilder::new(&[described]).unwrap();
        vec![frame.row(LabelSet::empty(), &[1.0]).build()]
    }
}

fn recorders(events: &Events) -> SinkRegistry {
    let events = events.clone();
    let make = move |settings: &SinkSettings| -> Result<Arc<dyn Sink>, SettingsError> {
        let name = settings.name.to_string();
        let recorder = Recorder {
            name,
            events: events.clone(),
        };
        recorder.note("made");
        Ok(Arc::new(recorder))
    };
    let mut registry = SinkRegistry::new();
    registry.register("recorder", make).unwrap();
    registry
}

fn sink(name: &str, url: &str) -> SinkConfig {
    SinkConfig::new("recorder", name, json!({ "url": url }))
}

fn hourly(name: &str) -> Group {
    group(name, SECOND * 3600, [device("a", &json!({}))])
}

/// Takes a while to withdraw what a peer keeps.
struct Slow(Events);

#[async_trait]
impl Sink for Slow {
    fn publish(&self, _: Arc<CycleReport>) {}

    async fn close(&self, reason: CloseReason) {
        sleep(SECOND * 2).await;
        self.0.lock().unwrap().push(format!("{reason:?}"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_went_just_before_the_end_is_waited_for() {
    let events = Events::default();
    let mut sinks = SinkRegistry::new();
    let of_sink = events.clone();
    let make = move |_: &SinkSettings| -> Result<Arc<dyn Sink>, SettingsError> {
        Ok(Arc::new(Slow(of_sink.clone())))
    };
    sinks.register("recorder", make).unwrap();
    let config = Config::new(vec![hourly("g")], vec![sink("a", "1")]);
    let engine = Engine::builder(registry()).sinks(sinks).config(config);
    let engine = engine.build().unwrap();
    let handle = engine.handle();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(engine.run(async {
        let _ = stopped.await;
    }));
    let none = Config::new(vec![hourly("g")], Vec::new());
    handle.reload(none).await.unwrap();
    drop(stop);
    running.await.unwrap().unwrap();
    assert_eq!(*events.lock().unwrap(), ["Removed"]);
}

#[tokio::test(start_paused = true)]
async fn sinks_of_the_configuration_come_stay_and_go() {
    let events = Events::default();
    let first = Config::new(vec![hourly("g")], vec![sink("a", "1"), sink("b", "1")]);
    let engine = Engine::builder(registry())
        .sinks(recorders(&events))
        .config(first)
        .build()
        .unwrap();
    let handle = engine.handle();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(engine.run(async {
        let _ = stopped.await;
    }));
    sleep(SECOND).await;
    let take = || std::mem::take(&mut *events.lock().unwrap());
    let sorted = |mut events: Vec<String>| {
        events.sort();
        events
    };
    assert_eq!(
        sorted(take()),
        [
            "a made",
            "a publish g 0",
            "a retain g pingexporter",
            "b made",
            "b publish g 0",
            "b retain g pingexporter"
        ]
    );
    let text = String::from_utf8(handle.exposition(Format::Text)).unwrap();
    for name in ["a", "b"] {
        let line = format!("pingexporter_pushes_total{{sink=\"{name}\"}} 1");
        assert!(text.contains(&line), "{text}");
    }

    // One stays, one has another URL, one is new; the groups are the same.
    let second = Config::new(
        vec![hourly("g")],
        vec![sink("c", "1"), sink("a", "1"), sink("b", "2")],
    );
    handle.reload(second).await.unwrap();
    sleep(SECOND).await;
    assert_eq!(
        sorted(take()),
        [
            "a retain g pingexporter",
            "b close Removed",
            "b flush",
            "b made",
            "b publish g 0",
            "b retain g pingexporter",
            "b retain g pingexporter",
            "c made",
            "c publish g 0",
            "c retain g pingexporter"
        ]
    );

    // A configuration that is refused makes no sink in vain that would disturb those that run.
    let unknown = SinkConfig::new("nobody", "d", json!({}));
    let refused = handle
        .reload(Config::new(vec![hourly("g")], vec![unknown]))
        .await;
    assert!(matches!(refused, Err(EngineError::Sink { .. })));
    assert!(take().is_empty());
    drop(stop);
    running.await.unwrap().unwrap();
    let ended = [
        "a close Shutdown",
        "a flush",
        "b close Shutdown",
        "b flush",
        "c close Shutdown",
        "c flush",
    ];
    assert_eq!(sorted(take()), ended);
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_was_passed_in_stays_and_can_be_talked_to() {
    let journal = Journal::new();
    let engine = builder([troupe(SECOND, json!({}), &["a"])])
        .sink("journal", journal.clone())
        .build()
        .unwrap();
    let handle = engine.handle();
    let running = tokio::spawn(engine.run(sleep(SECOND * 6)));
    sleep(SECOND * 2 + SECOND / 2).await;
    assert_eq!(journal.of("g").len(), 3);
    let config = Config::new(vec![troupe(SECOND, json!({}), &["a"])], Vec::new());
    handle.reload(config).await.unwrap();
    running.await.unwrap().unwrap();
    assert_eq!(journal.of("g").len(), 6);
}

/// Panics at each call.
struct Wild;

#[async_trait]
impl Sink for Wild {
    fn publish(&self, _: Arc<CycleReport>) {
        panic!("publish");
    }
    fn retain(&self, _: &[Arc<str>]) {
        panic!("retain");
    }
    async fn flush(&self) -> Result<(), Box<dyn Error + Send + Sync>> {
        panic!("flush");
    }
    fn metrics(&self) -> Vec<Frame> {
        panic!("metrics");
    }
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_panics_harms_nobody() {
    let journal = Journal::new();
    let engine = builder([troupe(SECOND, json!({}), &["a"])])
        .sink("wild", Arc::new(Wild))
        .sink("journal", journal.clone())
        .metrics(|| panic!("a metric of the program"))
        .build()
        .unwrap();
    let handle = engine.handle();
    // The log of this thread holds what the exposition says.
    let (log, _guard) = Log::listen();
    let flushed = engine.run(sleep(SECOND * 4 + SECOND / 2)).await;
    assert_eq!(journal.times("g"), [0.0, 1.0, 2.0, 3.0, 4.0]);
    assert_eq!(
        flushed.unwrap_err().to_string(),
        "wild: the sink panicked: flush"
    );
    let text = String::from_utf8(handle.exposition(Format::Text)).unwrap();
    assert!(text.contains("pingexporter_cycles_total{exporter=\"g\"} 5"));
    assert!(log.with("the sink panicked").len() <= 1);
}

/// Blocks its thread at the first report until it is told to go on.
struct Blocks {
    gate: Mutex<std::sync::mpsc::Receiver<()>>,
    ticks: Mutex<Vec<u64>>,
}

impl Sink for Blocks {
    fn publish(&self, report: Arc<CycleReport>) {
        self.ticks.lock().unwrap().push(report.tick);
        // Goes on when the sender is gone.
        let _ = self.gate.lock().unwrap().recv();
    }
}

/// On a real clock, since the steered one stands still while something blocks.
#[tokio::test]
async fn a_sink_that_blocks_delays_no_cycle_and_misses_reports() {
    let (open, gate) = std::sync::mpsc::channel();
    let sink = Arc::new(Blocks {
        gate: Mutex::new(gate),
        ticks: Mutex::default(),
    });
    let interval = Duration::from_millis(5);
    let engine = builder([troupe(interval, json!({}), &["a"])])
        .sink("blocks", sink.clone())
        .build()
        .unwrap();
    let mut finished = engine.results().subscribe();
    let (log, _guard) = Log::listen();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(engine.run(async {
        let _ = stopped.await;
    }));
    // Cycles go on until the sink is stuck in its first report and has missed others.
    let until_missed = async {
        let mut reports = 0;
        while reports < 10
            || sink.ticks.lock().unwrap().is_empty()
            || log.with("takes reports").is_empty()
        {
            finished.next().await.unwrap();
            reports += 1;
        }
    };
    let bound = SECOND * 60;
    tokio::time::timeout(bound, until_missed).await.unwrap();
    assert_eq!(sink.ticks.lock().unwrap().len(), 1);
    assert_eq!(
        log.with("takes reports"),
        ["WARN the sink takes reports too slowly; it misses some sink=blocks"]
    );
    drop((open, stop));
    running.await.unwrap().unwrap();
    // It has got what was kept for it.
    assert!(sink.ticks.lock().unwrap().len() >= 5);
}

#[tokio::test(start_paused = true)]
async fn a_flush_is_bounded() {
    struct Stuck;
    #[async_trait]
    impl Sink for Stuck {
        fn publish(&self, _: Arc<CycleReport>) {}
        async fn flush(&self) -> Result<(), Box<dyn Error + Send + Sync>> {
            std::future::pending().await
        }
    }
    let engine = builder([troupe(SECOND, json!({}), &["a"])])
        .sink("one", Arc::new(Stuck))
        .sink("two", Arc::new(Stuck))
        .shutdown_grace(SECOND * 3)
        .build()
        .unwrap();
    let start = tokio::time::Instant::now();
    let error = engine.run(sleep(SECOND)).await.unwrap_err();
    assert_eq!(start.elapsed().as_secs(), 4, "both at the same time");
    let EngineError::Flush(errors) = error else {
        panic!("{error:?}");
    };
    let lines: Vec<&str> = errors.iter().collect();
    assert_eq!(
        lines,
        [
            "one: the latest results could not be handed on within 3s",
            "two: the latest results could not be handed on within 3s"
        ]
    );
}
