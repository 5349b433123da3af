//! Groups in which nothing is measured any more: their results leave everything that shows them, and come back.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use common::{Journal, Log, SECOND, own, registry, seen};
use pe_engine::{Config, CycleReport, Engine, EngineHandle, Group};
use pe_scrape::exposition::Format;
use pe_scrape::{
    Batch, Columns, Metric, MetricDescriptor, Row, ScrapeError, Scraper, ScraperSettings, Target,
    async_trait,
};
use serde_json::json;
use tokio::time::sleep;

const UP: &str = "moody_up";

/// What a scraper does from some moment on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    Hangs,
    Fails,
    Panics,
    PanicsAtEachDevice,
}

struct Moody {
    columns: Arc<Columns>,
    up: Metric,
    trouble: Trouble,
    in_trouble: Arc<AtomicBool>,
}

#[async_trait]
impl Scraper for Moody {
    fn columns(&self) -> &Arc<Columns> {
        &self.columns
    }
    async fn scrape(&self, _: &Target, row: Row<'_>) -> Result<(), ScrapeError> {
        let in_trouble = self.in_trouble.load(Ordering::SeqCst);
        assert!(!in_trouble, "as it is told");
        row.set(self.up, 1.0);
        Ok(())
    }
    async fn scrape_batch(&self, batch: &Batch) -> Result<(), ScrapeError> {
        if self.in_trouble.load(Ordering::SeqCst) {
            match self.trouble {
                Trouble::Hangs => std::future::pending().await,
                Trouble::Fails => return Err(ScrapeError::Target("as it is told".into())),
                Trouble::Panics => panic!("as it is told"),
                Trouble::PanicsAtEachDevice => {}
            }
        }
        batch.scrape_each(self).await;
        Ok(())
    }
}

/// An engine with one group, `g`, which measures `a` each second, and what tells its scraper to be in trouble.
fn engine(trouble: Trouble) -> (Engine, Arc<AtomicBool>, Arc<Journal>) {
    let in_trouble = Arc::new(AtomicBool::new(false));
    let told = in_trouble.clone();
    let mut registry = registry();
    let make = move |_: &ScraperSettings| {
        let mut columns = Columns::builder();
        let up = columns.add(MetricDescriptor::gauge(UP, "Whether it is up").up());
        Ok(Arc::new(Moody {
            columns: columns.build()?,
            up,
            trouble,
            in_trouble: told.clone(),
        }) as Arc<dyn Scraper>)
    };
    registry.register("moody", make).unwrap();
    let group = Group::builder("g", SECOND)
        .scraper("moody", json!(null))
        .device("a", "127.0.0.1");
    let journal = Journal::new();
    let engine = Engine::builder(registry)
        .group(group.build().unwrap())
        .sink("journal", journal.clone())
        .build()
        .unwrap();
    (engine, in_trouble, journal)
}

fn latest(journal: &Journal) -> Arc<CycleReport> {
    journal.of("g").last().unwrap().1.clone()
}

fn shows(handle: &EngineHandle, series: &str) -> bool {
    let text = String::from_utf8(handle.exposition(Format::Text)).unwrap();
    text.lines().any(|line| line == series)
}

const VALUE: &str = "moody_up{exporter=\"g\",device=\"a\",ip=\"127.0.0.1\"} 1";

#[tokio::test(start_paused = true)]
async fn results_of_a_group_that_measures_nothing_are_withheld_until_it_does_again() {
    for trouble in [
        Trouble::Hangs,
        Trouble::Fails,
        Trouble::Panics,
        Trouble::PanicsAtEachDevice,
    ] {
        let (log, _guard) = Log::listen();
        let (engine, in_trouble, journal) = engine(trouble);
        let (handle, results) = (engine.handle(), engine.results());
        let running = tokio::spawn(engine.run(sleep(SECOND * 200)));
        sleep(SECOND * 5 + SECOND / 2).await;
        assert!(handle.is_ready() && shows(&handle, VALUE));
        assert!(shows(
            &handle,
            "pingexporter_results_stale{exporter=\"g\"} 0"
        ));
        in_trouble.store(true, Ordering::SeqCst);

        // Measured last at second 5, and so fresh until second 65.
        sleep(SECOND * 59).await;
        assert!(handle.is_ready(), "{trouble:?}");
        assert_eq!(log.with("withheld").len(), 0);
        sleep(SECOND).await;
        assert!(!handle.is_ready(), "{trouble:?}");
        assert!(shows(
            &handle,
            "pingexporter_results_stale{exporter=\"g\"} 1"
        ));
        assert!(shows(
            &handle,
            "pingexporter_devices{exporter=\"g\",state=\"unknown\"} 1"
        ));
        assert!(!shows(&handle, VALUE), "{trouble:?}");
        assert_eq!(results.value("g", "a", UP), None);
        let report = latest(&journal);
        assert!(report.is_stale && report.frames().count() == 0);
        assert_eq!(own(&report, "pingexporter_results_stale"), 1.0);
        assert_eq!(own(&report, "exporter_jobs"), 1.0);
        assert!(!shows(&handle, "exporter_duration"));

        // Cycles go on meanwhile, and nothing is told again.
        sleep(SECOND * 20).await;
        assert!(latest(&journal).is_stale && results.get("g").unwrap().is_stale);
        assert_eq!(
            log.with("withheld"),
            [
                "WARN nothing was measured for too long; the results of the group are withheld group=g"
            ]
        );
        in_trouble.store(false, Ordering::SeqCst);
        sleep(SECOND * 6).await;
        assert!(handle.is_ready() && shows(&handle, VALUE), "{trouble:?}");
        assert!(!latest(&journal).is_stale);
        assert_eq!(
            log.with("results again"),
            ["INFO the group has results again group=g"]
        );
        running.await.unwrap().unwrap();
    }
}

/// A log that cannot be written, and whose writer panics.
struct Broken;

impl tracing::Subscriber for Broken {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::WARN
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, _: &tracing::Event<'_>) {
        panic!("no space left on device");
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

#[tokio::test(start_paused = true)]
async fn results_of_a_group_whose_task_dies_at_each_cycle_are_withheld() {
    let (_log, _guard) = Log::listen();
    let (engine, in_trouble, journal) = engine(Trouble::Fails);
    let handle = engine.handle();
    let running = tokio::spawn(engine.run(sleep(SECOND * 300)));
    sleep(SECOND * 5 + SECOND / 2).await;
    assert!(handle.is_ready());
    let broken = tracing::subscriber::set_default(Broken);
    in_trouble.store(true, Ordering::SeqCst);
    sleep(SECOND * 59).await;
    // The task died before it could publish that there is nothing.
    assert!(shows(&handle, VALUE) && !latest(&journal).is_stale);
    sleep(SECOND).await;
    assert!(!shows(&handle, VALUE) && !handle.is_ready());
    assert!(latest(&journal).is_stale);
    drop(broken);
    in_trouble.store(false, Ordering::SeqCst);
    // The longest pause before a task is started again is a minute.
    sleep(SECOND * 62).await;
    assert!(shows(&handle, VALUE) && handle.is_ready());
    running.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn results_of_a_single_cycle_never_go_stale() {
    let (engine, ..) = engine(Trouble::Fails);
    let (handle, results) = (engine.handle(), engine.results());
    engine.once().await.unwrap();
    sleep(SECOND * 3600).await;
    assert_eq!(results.value("g", "a", UP), Some(1.0));
    assert!(handle.is_ready());
}

/// Blocks its thread at its second call, as no scraper should, until the sender is gone.
struct Blocks {
    columns: Arc<Columns>,
    up: Metric,
    calls: Arc<AtomicUsize>,
    released: Arc<Mutex<mpsc::Receiver<()>>>,
}

#[async_trait]
impl Scraper for Blocks {
    fn columns(&self) -> &Arc<Columns> {
        &self.columns
    }
    async fn scrape(&self, _: &Target, row: Row<'_>) -> Result<(), ScrapeError> {
        row.set(self.up, 1.0);
        if self.calls.fetch_add(1, Ordering::SeqCst) == 1 {
            let _ = self.released.lock().unwrap().recv();
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_scraper_that_blocks_its_thread_loses_its_results_and_stops_no_reload() {
    let (release, released) = mpsc::channel();
    let (released, calls) = (Arc::new(Mutex::new(released)), Arc::default());
    let mut registry = registry();
    let make = move |_: &ScraperSettings| {
        let mut columns = Columns::builder();
        let up = columns.gauge("blocks", "Whether it did not block");
        Ok(Arc::new(Blocks {
            columns: columns.build()?,
            up,
            calls: Arc::clone(&calls),
            released: released.clone(),
        }) as Arc<dyn Scraper>)
    };
    registry.register("blocks", make).unwrap();
    let group = |devices: &[&str]| {
        let group = Group::builder("g", SECOND / 10)
            .scraper("actor", json!({}))
            .scraper("blocks", json!({}));
        let group = devices.iter().fold(group, |g, d| g.device(*d, "127.0.0.1"));
        group.build().unwrap()
    };
    let journal = Journal::new();
    let engine = Engine::builder(registry)
        .group(group(&["a"]))
        .sink("journal", journal.clone())
        .build()
        .unwrap();
    let (handle, results) = (engine.handle(), engine.results());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(engine.run(async move {
        let _ = stopped.await;
    }));
    let until = async |what: &str, condition: &dyn Fn() -> bool| {
        let mut finished = results.subscribe();
        let wait = async {
            while !condition() {
                finished.next().await;
            }
        };
        let in_time = tokio::time::timeout(SECOND * 30, wait).await;
        assert!(in_time.is_ok(), "waited in vain for {what}");
    };
    let blocks = || results.value("g", "a", "blocks");
    until("the first value", &|| blocks() == Some(1.0)).await;
    until("the value to leave", &|| blocks().is_none()).await;
    assert_eq!(results.value("g", "a", "actor_up"), Some(1.0));
    assert!(handle.is_ready());
    let config = Config::new(vec![group(&["a", "b"])], Vec::new());
    handle.reload(config).await.unwrap();
    until("the new device", &|| {
        results.value("g", "b", "actor_up") == Some(1.0)
    })
    .await;
    assert!(seen(&journal, "a", "blocks").contains(&Some(1.0)));
    drop(release);
    let _ = stop.send(());
    running.await.unwrap().unwrap();
}
