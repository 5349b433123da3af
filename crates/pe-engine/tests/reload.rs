//! Changes while an engine runs: what stays goes on, what goes is withdrawn.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::{Actor, Journal, Log, SECOND, builder, device, group, own, registry, troupe};
use pe_engine::{Config, Diagnostics, Engine, EngineError, Group, ScraperRegistry};
use pe_scrape::exposition::Format;
use pe_scrape::{
    Diagnostic, Frame, FrameBuilder, LabelSet, MetricDescriptor, Scraper, ScraperFactory,
    ScraperSettings, SettingsError, Severity,
};
use serde_json::json;
use tokio::time::sleep;

const UP: &str = "actor_up";
const SCENES: &str = "actor_scenes_total";

fn config(groups: impl IntoIterator<Item = Group>) -> Config {
    Config::new(groups.into_iter().collect(), Vec::new())
}

#[tokio::test(start_paused = true)]
async fn reload_keeps_what_stays_and_withdraws_what_goes() {
    let quiet = json!({});
    let g = |name, devices: &[&str]| {
        group(
            name,
            SECOND,
            devices.iter().map(|name| device(name, &quiet)),
        )
    };
    let before = config([
        g("same", &["a"]),
        g("grows", &["leaves", "b"]),
        g("goes", &["c"]),
    ]);
    let after = config([
        g("same", &["a"]),
        g("grows", &["new", "b"]),
        g("comes", &["d"]),
    ]);
    let engine = Engine::builder(registry()).config(before).build().unwrap();
    let (handle, results) = (engine.handle(), engine.results());
    let running = tokio::spawn(engine.run(sleep(SECOND * 20)));
    sleep(Duration::from_millis(5900)).await;
    let scenes = |group: &str, device: &str| results.value(group, device, SCENES).unwrap();
    let (a, b) = (scenes("same", "a"), scenes("grows", "b"));
    assert!(handle.is_ready());

    // A configuration that cannot run changes nothing.
    let unknown = group(
        "same",
        SECOND,
        [device("x", &quiet).scraper("no", json!(null))],
    );
    let refused = handle.reload(config([unknown])).await;
    assert!(
        matches!(refused, Err(EngineError::Config(_))),
        "{refused:?}"
    );
    let text = String::from_utf8(handle.exposition(Format::Text)).unwrap();
    assert!(text.contains("pingexporter_config_last_reload_successful 0"));
    let last = handle.last_reload();
    assert!(!last.successful && last.diagnostics.has_errors());

    let mut finished = results.subscribe();
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
    assert!(handle.last_reload().successful);
    assert!(results.get("goes").is_none());
    // The changed group shows what it knows of the devices that stay, before its next tick.
    let grown = finished.next().await.unwrap();
    assert_eq!((&*grown.group, grown.devices.len()), ("grows", 0));
    assert_eq!(scenes("grows", "b"), b);
    assert_eq!(grown.value("b", UP), Some(1.0));
    assert_eq!(grown.value("new", UP), None);
    assert_eq!(grown.value("leaves", SCENES), None);
    // With the time at which it was measured, and not as new.
    assert_eq!(grown.kept[0].time(), grown.started);
    sleep(Duration::from_millis(2990)).await;
    assert_eq!(scenes("same", "a"), a + 3.0);
    assert_eq!(scenes("grows", "b"), b + 3.0);
    assert_eq!(scenes("grows", "new"), 3.0);
    assert!(results.get("comes").is_some() && results.get("goes").is_none());
    running.await.unwrap().unwrap();
    assert!(matches!(
        handle.reload(config([])).await,
        Err(EngineError::Stopped)
    ));
}

#[tokio::test(start_paused = true)]
async fn devices_and_groups_come_and_go_in_code() {
    let engine = builder([troupe(SECOND, json!({}), &["a", "b"])])
        .build()
        .unwrap();
    let (handle, results) = (engine.handle(), engine.results());
    let mut finished = results.subscribe();
    let running = tokio::spawn(engine.run(sleep(SECOND * 20)));
    finished.next().await.unwrap();

    handle.add("g", device("c", &json!({}))).await.unwrap();
    let again = handle.add("g", device("c", &json!({}))).await;
    assert!(matches!(again, Err(EngineError::Config(_))), "{again:?}");
    assert_eq!(handle.remove("g", "a").await.unwrap(), 1);
    assert_eq!(handle.remove("g", "a").await.unwrap(), 0);
    let nobody = handle.remove("x", "a").await.unwrap_err();
    assert_eq!(nobody.to_string(), r#"there is no group named "x""#);
    sleep(SECOND * 2 + SECOND / 2).await;
    assert_eq!(results.value("g", "a", SCENES), None);
    assert_eq!(results.value("g", "b", SCENES), Some(3.0));
    assert_eq!(results.value("g", "c", UP), Some(1.0));
    assert_eq!(handle.config().device_count(), 2);

    let other = group("other", SECOND, [device("d", &json!({}))]);
    handle.add_group(other.clone()).await.unwrap();
    let twice = handle.add_group(other).await;
    assert!(matches!(twice, Err(EngineError::Config(_))), "{twice:?}");
    sleep(SECOND).await;
    assert!(handle.is_ready());
    assert_eq!(results.value("other", "d", UP), Some(1.0));
    handle.remove_group("other").await.unwrap();
    assert!(results.get("other").is_none());
    let gone = handle.remove_group("other").await;
    assert!(matches!(gone, Err(EngineError::UnknownGroup(_))));

    // A group without devices still tells that it runs.
    handle.remove("g", "b").await.unwrap();
    handle.remove("g", "c").await.unwrap();
    sleep(SECOND * 2).await;
    let empty = results.get("g").unwrap();
    assert_eq!(own(&empty, "exporter_jobs"), 0.0);
    assert_eq!(empty.frames().count(), 0);
    // None of that counts as a reload of the configuration.
    assert!(handle.last_reload().successful);
    running.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_configuration_that_could_not_be_read_is_shown() {
    let engine = builder([]).build().unwrap();
    let handle = engine.handle();
    let first = handle.last_reload();
    assert!(first.successful && first.diagnostics.is_empty());
    let problem = Diagnostic::named(Severity::Error, "plant.json", "is no JSON", None);
    let diagnostics: Diagnostics = [problem].into_iter().collect();
    handle.reload_failed(diagnostics.clone());
    let last = handle.last_reload();
    assert!(!last.successful);
    assert_eq!(last.diagnostics, diagnostics);
    let text = String::from_utf8(handle.exposition(Format::Text)).unwrap();
    assert!(text.contains("pingexporter_config_last_reload_successful 0"));
}

/// Counts the scrapers that it makes, and what they do together.
struct Counting(Arc<AtomicUsize>);

impl ScraperFactory for Counting {
    fn create(&self, settings: &ScraperSettings) -> Result<Arc<dyn Scraper>, SettingsError> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Actor::create(settings)
    }
    fn describe(
        &self,
        settings: &ScraperSettings,
    ) -> Result<Arc<pe_scrape::Columns>, SettingsError> {
        Actor::create(settings).map(|scraper| scraper.columns().clone())
    }
    fn metrics(&self) -> Vec<Frame> {
        let made = self.0.load(Ordering::SeqCst) as f64;
        let described = MetricDescriptor::counter("pingexporter_actors_total", "Actors made");
        let frame = FrameBuilder::new(&[described]).unwrap();
        vec![frame.row(LabelSet::empty(), &[made]).build()]
    }
}

#[tokio::test(start_paused = true)]
async fn scrapers_are_used_again_and_their_common_counters_never_vanish() {
    let made = Arc::new(AtomicUsize::new(0));
    let mut registry = ScraperRegistry::new();
    registry.register("actor", Counting(made.clone())).unwrap();
    let engine = Engine::builder(registry).group(troupe(SECOND, json!({}), &["a"]));
    let engine = engine.build().unwrap();
    let handle = engine.handle();
    tokio::spawn(engine.run(std::future::pending()));
    sleep(SECOND).await;
    assert_eq!(made.load(Ordering::SeqCst), 1);
    let shown = || String::from_utf8(handle.exposition(Format::Text)).unwrap();
    // More devices and another group that is new, with the same settings as before or with others.
    for (groups, expected) in [
        (vec![troupe(SECOND, json!({}), &["a", "b"])], 1),
        (vec![troupe(SECOND, json!({"sleep": 1}), &["a", "b"])], 2),
        (vec![], 2),
    ] {
        handle.reload(config(groups)).await.unwrap();
        assert_eq!(made.load(Ordering::SeqCst), expected);
        let line = format!("pingexporter_actors_total {expected}");
        assert!(shown().contains(&line), "{}", shown());
    }
}

#[tokio::test(start_paused = true)]
async fn a_changed_group_does_not_wait_for_a_device_that_hangs() {
    let settings = json!({"slow": {"hangs": 3_600_000}});
    // The timeout is all that a device may take, so that the hanging one would hold the change up for 7 s.
    let hanging = |devices: &[&str]| {
        let builder = Group::builder("g", SECOND * 4)
            .timeout(Duration::from_millis(3900))
            .scraper("actor", settings.clone());
        let builder = devices
            .iter()
            .fold(builder, |b, d| b.device(*d, "127.0.0.1"));
        builder.build().unwrap()
    };
    let engine = builder([hanging(&["a", "hangs"])]).build().unwrap();
    let (handle, results) = (engine.handle(), engine.results());
    let mut finished = results.subscribe();
    tokio::spawn(engine.run(std::future::pending()));
    let start = tokio::time::Instant::now();
    sleep(SECOND).await;
    handle.reload(config([hanging(&["a", "b"])])).await.unwrap();
    loop {
        let report = finished.next().await.unwrap();
        if report.value("b", UP).is_some() {
            break;
        }
    }
    assert_eq!(start.elapsed(), SECOND * 4);
    assert_eq!(results.value("g", "a", SCENES), Some(2.0));
}

#[tokio::test(start_paused = true)]
async fn a_device_that_is_new_and_first_makes_no_old_problem_new() {
    let (log, _guard) = Log::listen();
    let settings = json!({"slow": {"hangs": 3_600_000}});
    let hanging = |devices: &[&str]| troupe(SECOND, settings.clone(), devices);
    let engine = builder([hanging(&["a", "hangs"])]).build().unwrap();
    let handle = engine.handle();
    let running = tokio::spawn(engine.run(sleep(SECOND * 150)));
    sleep(SECOND * 10).await;
    assert_eq!(log.with("a device hangs").len(), 1);
    let changed = hanging(&["new", "a", "hangs"]);
    handle.reload(config([changed])).await.unwrap();
    sleep(SECOND * 10).await;
    assert_eq!(log.with("a device hangs").len(), 1);
    handle
        .reload(config([hanging(&["new", "a"])]))
        .await
        .unwrap();
    running.await.unwrap().unwrap();
    assert_eq!(log.with("no device hangs").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_device_that_is_removed_during_a_cycle_is_in_no_later_report() {
    let slow = json!({"sleep": 600, "fail": "goes", "learn": "goes"});
    let groups = |devices: &[&str]| config([troupe(SECOND, slow.clone(), devices)]);
    let engine = Engine::builder(registry()).config(groups(&["a", "goes", "b"]));
    let engine = engine.build().unwrap();
    let (handle, results) = (engine.handle(), engine.results());
    let mut finished = results.subscribe();
    tokio::spawn(engine.run(std::future::pending()));
    let first = finished.next().await.unwrap();
    assert!(first.value("goes", SCENES).is_some());
    // In the midst of the second cycle.
    sleep(Duration::from_millis(700)).await;
    handle.reload(groups(&["b", "a"])).await.unwrap();
    // The rest of that cycle, what is known then, and the first cycle without the device.
    for scenes in [2.0, 2.0, 3.0] {
        let report = finished.next().await.unwrap();
        for device in ["a", "b"] {
            assert_eq!(report.value(device, SCENES), Some(scenes));
        }
        let mut rows = report.frames().flat_map(|frame| frame.rows().iter());
        assert!(rows.all(|labels| labels.get("device") != Some("goes")));
    }
}

#[tokio::test(start_paused = true)]
async fn a_sink_hears_of_what_goes_after_its_last_report() {
    let journal = Journal::new();
    let groups = [group(
        "goes",
        SECOND,
        [device("a", &json!({"sleep": 500})).timeout(SECOND * 9 / 10)],
    )];
    let engine = builder(groups)
        .sink("journal", journal.clone())
        .build()
        .unwrap();
    let handle = engine.handle();
    let running = tokio::spawn(engine.run(sleep(SECOND * 5)));
    sleep(SECOND * 2 + SECOND / 4).await;
    handle.remove_group("goes").await.unwrap();
    running.await.unwrap().unwrap();
    assert_eq!(journal.times("goes"), [0.5, 1.5]);
}
