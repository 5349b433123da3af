//! The task of a group that dies is told of, counted and started again, with the newest plan.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{Actor, Log, SECOND, troupe};
use pe_engine::{Config, Engine, EngineHandle, ScraperRegistry};
use pe_scrape::exposition::Format;
use pe_scrape::{Columns, Row, ScrapeError, Scraper, ScraperSettings, Target, async_trait};
use serde_json::json;
use tokio::time::sleep;

const UP: &str = "actor_up";

/// Panics when it is dropped by whoever used it last, if its settings say so: that is the task of its group.
struct Bomb(Arc<dyn Scraper>, AtomicBool);

impl Drop for Bomb {
    fn drop(&mut self) {
        if self.1.load(Ordering::SeqCst) {
            panic!("a destructor that breaks");
        }
    }
}

#[async_trait]
impl Scraper for Bomb {
    fn columns(&self) -> &Arc<Columns> {
        self.0.columns()
    }
    async fn scrape(&self, target: &Target, row: Row<'_>) -> Result<(), ScrapeError> {
        self.0.scrape(target, row).await
    }
}

/// An engine with a group whose task dies at the first change. Scrapers that are only described do no harm.
fn engine() -> Engine {
    struct Factory;
    impl pe_scrape::ScraperFactory for Factory {
        fn create(
            &self,
            settings: &ScraperSettings,
        ) -> Result<Arc<dyn Scraper>, pe_scrape::SettingsError> {
            let bomb = settings.own["bomb"] == true;
            Ok(Arc::new(Bomb(Actor::create(settings)?, bomb.into())))
        }
        fn describe(
            &self,
            settings: &ScraperSettings,
        ) -> Result<Arc<Columns>, pe_scrape::SettingsError> {
            Actor::create(settings).map(|scraper| scraper.columns().clone())
        }
    }
    let mut registry = ScraperRegistry::new();
    registry.register("actor", Factory).unwrap();
    let group = troupe(SECOND, json!({"bomb": true}), &["a"]);
    let engine = Engine::builder(registry).group(group);
    engine.build().unwrap()
}

fn restarts(handle: &EngineHandle) -> String {
    let text = String::from_utf8(handle.exposition(Format::Text)).unwrap();
    let mut lines = text.lines();
    let line = lines.find(|line| line.starts_with("pingexporter_task_restarts_total"));
    line.unwrap().to_owned()
}

async fn change(handle: &EngineHandle, devices: &[&str]) {
    let group = troupe(SECOND, json!({}), devices);
    let config = Config::new(vec![group], Vec::new());
    handle.reload(config).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_group_whose_task_dies_goes_on_with_the_newest_plan() {
    let (log, _guard) = Log::listen();
    let engine = engine();
    let (handle, results) = (engine.handle(), engine.results());
    let running = tokio::spawn(engine.run(sleep(SECOND * 10)));
    sleep(SECOND + SECOND / 2).await;
    assert_eq!(
        restarts(&handle),
        "pingexporter_task_restarts_total{task=\"cycle\"} 0"
    );
    change(&handle, &["a", "b"]).await;
    sleep(SECOND / 2).await;
    assert_eq!(
        log.with("panicked"),
        [
            "ERROR a task panicked; it is started again after a pause task=cycle group=g \
          error=a destructor that breaks pause=1s"
        ]
    );
    assert_eq!(
        restarts(&handle),
        "pingexporter_task_restarts_total{task=\"cycle\"} 1"
    );
    // What comes while it pauses is what it goes on with.
    change(&handle, &["c"]).await;
    sleep(SECOND).await;
    assert_eq!(results.value("g", "c", UP), Some(1.0));
    assert_eq!(results.value("g", "b", UP), None);
    running.await.unwrap().unwrap();
    assert_eq!(results.value("g", "c", "actor_scenes_total"), Some(8.0));
}

#[tokio::test(start_paused = true)]
async fn a_group_that_was_removed_is_not_started_again() {
    let engine = engine();
    let (handle, results) = (engine.handle(), engine.results());
    let running = tokio::spawn(engine.run(sleep(SECOND * 10)));
    sleep(SECOND + SECOND / 2).await;
    change(&handle, &["a", "b"]).await;
    sleep(Duration::from_millis(100)).await;
    handle.remove_group("g").await.unwrap();
    running.await.unwrap().unwrap();
    assert!(results.get("g").is_none());
}
