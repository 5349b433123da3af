//! A scraper that misbehaves in every way, a sink that remembers, and a log to read.
#![allow(clippy::unwrap_used, dead_code, unreachable_pub)]

use std::fmt::Write;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use pe_engine::{CycleReport, Engine, EngineBuilder, Group, Results, ScraperRegistry, Sink};
use pe_scrape::{
    Columns, DeviceEntry, Frame, FrameBuilder, Metric, MetricDescriptor, Row, ScrapeError, Scraper,
    ScraperSettings, SettingsError, Target, async_trait,
};
use serde_json::Value;
use tokio::time::{Instant, sleep};

pub const SECOND: Duration = Duration::from_secs(1);

/// Counts its scrapes in a counter, and does what its settings say. Each key names milliseconds for all devices
/// (`{"sleep": 100}`), or devices: `{"panic": "a"}`, `{"fail": "a"}`, `{"learn": "a"}`; `{"slow": {"a": 1500}}` has
/// milliseconds for some.
pub struct Actor {
    columns: Arc<Columns>,
    up: Metric,
    scenes: Metric,
    settings: Value,
}

impl Actor {
    pub fn create(settings: &ScraperSettings) -> Result<Arc<dyn Scraper>, SettingsError> {
        let mut columns = Columns::builder();
        let up = MetricDescriptor::gauge("actor_up", "Whether the actor played");
        let up = columns.add(up.up());
        let scenes = columns.counter("actor_scenes_total", "Scenes played");
        Ok(Arc::new(Self {
            columns: columns.build()?,
            up,
            scenes,
            settings: settings.own.clone(),
        }))
    }

    fn pause(&self, device: &str) -> Option<Duration> {
        let own = self.settings["slow"][device].as_u64();
        let pause = own.or(self.settings["sleep"].as_u64());
        pause.map(Duration::from_millis)
    }
}

#[async_trait]
impl Scraper for Actor {
    fn columns(&self) -> &Arc<Columns> {
        &self.columns
    }

    async fn scrape(&self, target: &Target, row: Row<'_>) -> Result<(), ScrapeError> {
        row.add(self.scenes, 1.0);
        let device = target.device();
        let says = |key: &str| self.settings[key] == device;
        if says("learn") {
            row.add_frame(learned(target, "line_learned", &[]));
        }
        if says("learn_taken") {
            row.add_frame(learned(target, "actor_up", &[]));
        }
        if let Some(pause) = self.pause(device) {
            row.set(self.up, 0.0); // not meant to be seen
            sleep(pause).await;
        }
        if says("panic") {
            panic!("as the settings say");
        }
        if says("fail") {
            return Err(ScrapeError::Target("as the settings say".into()));
        }
        row.set(self.up, f64::from(u8::from(!says("down"))));
        Ok(())
    }
}

fn learned(target: &Target, name: &'static str, more: &[(&str, &str)]) -> Frame {
    let labels = target.labels().with(more.iter().copied()).unwrap();
    FrameBuilder::new(&[MetricDescriptor::gauge(name, "Learned")])
        .unwrap()
        .row(labels, &[7.0])
        .build()
}

pub fn registry() -> ScraperRegistry {
    let mut registry = ScraperRegistry::new();
    registry.register("actor", Actor::create).unwrap();
    registry
}

pub fn device(name: &str, settings: &Value) -> DeviceEntry {
    DeviceEntry::new(name, "127.0.0.1")
        .unwrap()
        .scraper("actor", settings.clone())
}

pub fn group(
    name: &str,
    interval: Duration,
    devices: impl IntoIterator<Item = DeviceEntry>,
) -> Group {
    let builder = Group::builder(name, interval);
    let builder = devices
        .into_iter()
        .fold(builder, pe_scrape::GroupBuilder::entry);
    builder.build().unwrap()
}

/// A group whose devices share one lane.
pub fn troupe(interval: Duration, settings: Value, devices: &[&str]) -> Group {
    let builder = Group::builder("g", interval).scraper("actor", settings);
    let builder = devices
        .iter()
        .fold(builder, |b, d| b.device(*d, "127.0.0.1"));
    builder.build().unwrap()
}

pub fn builder(groups: impl IntoIterator<Item = Group>) -> EngineBuilder {
    let builder = Engine::builder(registry());
    groups.into_iter().fold(builder, EngineBuilder::group)
}

/// A sink that remembers when which report came, in seconds since it was made.
pub struct Journal(Mutex<Vec<Entry>>, Instant);

pub type Entry = (f64, Arc<CycleReport>);

impl Journal {
    pub fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::default(), Instant::now()))
    }
    pub fn of(&self, group: &str) -> Vec<Entry> {
        let all = self.0.lock().unwrap();
        let of = all.iter().filter(|(_, report)| *report.group == *group);
        of.cloned().collect()
    }
    pub fn times(&self, group: &str) -> Vec<f64> {
        let rounded = |(time, _): &Entry| (time * 100.0).round() / 100.0;
        self.of(group).iter().map(rounded).collect()
    }
}

impl Sink for Journal {
    fn publish(&self, report: Arc<CycleReport>) {
        let entry = (self.1.elapsed().as_secs_f64(), report);
        self.0.lock().unwrap().push(entry);
    }
}

pub fn own(report: &CycleReport, name: &str) -> f64 {
    let mut frames = report.exporter.iter();
    frames.find_map(|frame| frame.value(0, name)).unwrap()
}

/// The values of a metric in all reports of a group, from the frames of their own cycle only.
pub fn seen(journal: &Journal, device: &str, metric: &str) -> Vec<Option<f64>> {
    let value = |(_, report): &Entry| {
        let mut report = (**report).clone();
        report.kept.clear();
        report.value(device, metric)
    };
    journal.of("g").iter().map(value).collect()
}

/// Runs groups for a time.
pub async fn run(groups: Vec<Group>, time: Duration) -> (Arc<Journal>, Results) {
    let journal = Journal::new();
    let engine = builder(groups).sink("journal", journal.clone());
    let engine = engine.build().unwrap();
    let results = engine.results();
    engine.run(sleep(time)).await.unwrap();
    (journal, results)
}

/// What is logged at info and above in this thread, a line each: level, message and fields.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    /// Starts to listen until the guard is dropped.
    pub fn listen() -> (Self, tracing::subscriber::DefaultGuard) {
        // While there is a single subscriber, tracing asks that of the thread that comes to a call first, for all threads:
        // a test without one would silence it for all others.
        static OTHERS: LazyLock<[tracing::Dispatch; 2]> = LazyLock::new(|| {
            let dispatch = || tracing::Dispatch::new(Log::default());
            [dispatch(), dispatch()]
        });
        LazyLock::force(&OTHERS);
        let log = Self::default();
        let guard = tracing::subscriber::set_default(log.clone());
        (log, guard)
    }

    /// Takes the lines with these words.
    pub fn with(&self, words: &str) -> Vec<String> {
        let lines = self.0.lock().unwrap();
        let with = lines.iter().filter(|line| line.contains(words));
        with.cloned().collect()
    }
}

impl tracing::Subscriber for Log {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::INFO
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        struct Line(String);
        impl tracing::field::Visit for Line {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                let _ = match field.name() {
                    "message" => write!(self.0, " {value:?}"),
                    name => write!(self.0, " {name}={value:?}"),
                };
            }
            fn record_str(&mut self, field: &tracing::field::Field, value: &str) {
                let _ = write!(self.0, " {}={value}", field.name());
            }
        }
        let mut line = Line(event.metadata().level().to_string());
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0);
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}
