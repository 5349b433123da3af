//! What would blind a whole Prometheus, or could never run, is refused at the build and at a change, and what runs goes on.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{SECOND, device, group, registry, troupe};
use pe_engine::{Config, Diagnostics, Engine, EngineError, Group, ScraperRegistry, SinkRegistry};
use pe_scrape::testkit::Yields;
use pe_scrape::{
    Columns, Diagnostic, MetricDescriptor, Row, ScrapeError, Scraper, ScraperSettings,
    SettingsError, SinkConfig, SinkSettings, Target, async_trait,
};
use serde_json::json;
use tokio::time::sleep;

type Made = Result<Arc<dyn Scraper>, SettingsError>;

/// A scraper registered as a plain function, with one metric.
fn plain(
    name: &'static str,
    labels: &'static [(&'static str, &'static str)],
) -> impl Fn(&ScraperSettings) -> Made + Send + Sync + 'static {
    move |_| {
        let described = MetricDescriptor::gauge(name, "Plain");
        let label =
            |d: MetricDescriptor, (n, v): &(&'static str, &'static str)| d.with_label(*n, *v);
        let described = labels.iter().fold(described, label);
        Ok(Arc::new(Yields::new(&[described])?))
    }
}

fn with(
    name: &str,
    make: impl Fn(&ScraperSettings) -> Made + Send + Sync + 'static,
) -> ScraperRegistry {
    let mut registry = registry();
    registry.register(name, make).unwrap();
    registry
}

fn build(registry: ScraperRegistry, groups: Vec<Group>) -> Result<Engine, EngineError> {
    let builder = Engine::builder(registry);
    builder.config(Config::new(groups, Vec::new())).build()
}

/// The messages for which a configuration is refused.
fn refused(result: Result<Engine, EngineError>) -> Vec<String> {
    let error = result.map(drop).unwrap_err();
    messages(&error.diagnostics())
}

fn messages(diagnostics: &Diagnostics) -> Vec<String> {
    let errors = diagnostics.iter().filter(|found| found.is_error());
    errors.map(|found| found.message.clone()).collect()
}

fn measured_with(scrapers: &[&str], labels: &[(&str, &str)]) -> Group {
    let builder = Group::builder("g", SECOND);
    let builder = labels.iter().fold(builder, |b, (n, v)| b.label(*n, *v));
    let builder = scrapers
        .iter()
        .fold(builder, |b, name| b.scraper(*name, json!(null)));
    builder.device("a", "127.0.0.1").build().unwrap()
}

#[test]
fn series_that_would_clash_are_refused() {
    for (registry, group, expected) in [
        (
            with("tls", plain("tls_days", &[("site", "x")])),
            measured_with(&["tls"], &[("site", "north")]),
            "device `a`: the metric `tls` sets the label `site` itself",
        ),
        (
            with("again", plain("actor_up", &[])),
            measured_with(&["actor", "again"], &[]),
            "metrics `actor` and `again` both yield `actor_up` with the same labels",
        ),
        (
            with("own", plain("pingexporter_up", &[])),
            measured_with(&["own"], &[]),
            "metric `own` yields `pingexporter_up`, a name of PingExporter's own",
        ),
        (
            with("own", plain("exporter_jobs", &[])),
            measured_with(&["own"], &[]),
            "metric `own` yields `exporter_jobs`, a name of PingExporter's own",
        ),
        (
            with("thief", plain("stolen", &[("device", "x")])),
            measured_with(&["thief"], &[]),
            "metric `thief` gives `stolen` the label `device`, which tells devices apart",
        ),
        (
            with("thief", plain("stolen", &[("exporter", "x")])),
            measured_with(&["thief"], &[]),
            "metric `thief` gives `stolen` the label `exporter`, which tells devices apart",
        ),
        (
            with("other", plain("actor_scenes_total", &[("act", "2")])),
            measured_with(&["actor", "other"], &[]),
            "metric `other` describes `actor_scenes_total` with another type, help text or unit than `actor` does",
        ),
        (
            registry(),
            measured_with(&["actor", "actor"], &[]),
            "metric `actor` is listed twice",
        ),
        (
            registry(),
            measured_with(&["acter"], &[]),
            "unknown metric `acter`",
        ),
    ] {
        let found = refused(build(registry, vec![group]));
        assert!(found.iter().any(|m| m == expected), "{expected}: {found:?}");
    }
}

#[test]
fn one_scraper_with_two_settings_is_possible_where_a_label_tells_them_apart() {
    let registry = with("port", |settings: &ScraperSettings| {
        let port = settings.own["port"].to_string();
        let described = MetricDescriptor::gauge("port_open", "Open").with_label("port", port);
        Ok(Arc::new(Yields::new(&[described])?) as Arc<dyn Scraper>)
    });
    let group = Group::builder("g", SECOND)
        .scraper("port", json!({"port": 22}))
        .scraper("port", json!({"port": 80}))
        .device("a", "127.0.0.1");
    build(registry, vec![group.build().unwrap()]).unwrap();
}

#[test]
fn a_group_that_can_never_run_is_refused() {
    // By its builder…
    for (group, expected) in [
        (Group::builder("", SECOND).build(), "prom_id: is empty"),
        (
            Group::builder("g", Duration::ZERO).build(),
            "interval: must be greater than zero",
        ),
        (
            Group::builder("g", Duration::MAX).build(),
            "interval: longer than 366 days",
        ),
        (
            Group::builder("g", SECOND).label("exporter", "x").build(),
            "the label `exporter` is reserved",
        ),
        (
            Group::builder("g", SECOND)
                .device("a", "127.0.0.1")
                .device("a", "127.0.0.1")
                .build(),
            "device `a` at 127.0.0.1 is there already",
        ),
    ] {
        let found = messages(&group.unwrap_err());
        assert!(found.iter().any(|m| m == expected), "{expected}: {found:?}");
    }
    // … and by the engine when it was changed after that.
    let sound = || troupe(SECOND, json!({}), &["a"]);
    type Change = fn(&mut Group);
    let changed: [(Change, &str); 7] = [
        (|g| g.settings.prom_id.clear(), "prom_id: is empty"),
        (
            |g| g.settings.interval = Duration::ZERO,
            "interval: must be greater than zero",
        ),
        (
            |g| g.settings.interval = Duration::MAX,
            "interval: longer than 366 days",
        ),
        (
            |g| g.settings.labels = [("job", "x")].into_iter().collect(),
            "the label `job` is reserved",
        ),
        (
            |g| g.devices.push(g.devices[0].clone()),
            "device `a` at 127.0.0.1 is there already",
        ),
        (
            |g| g.settings.timeout = Some(SECOND),
            "timeout (1s) must be below interval (1s)",
        ),
        (
            |g| g.settings.prom_id = "pingexporter".to_owned(),
            "prom_id `pingexporter` is taken: the agent's own metrics leave under it",
        ),
    ];
    for (change, expected) in changed {
        let mut group = sound();
        change(&mut group);
        let found = refused(build(registry(), vec![group]));
        assert!(found.iter().any(|m| m == expected), "{expected}: {found:?}");
    }
}

#[test]
fn two_groups_or_sinks_of_one_name_are_refused() {
    let twice = vec![
        troupe(SECOND, json!({}), &["a"]),
        troupe(SECOND, json!({}), &["b"]),
    ];
    let found = refused(build(registry(), twice));
    assert_eq!(found, [r#"the name "g" is used by two groups"#]);

    let sink = SinkConfig::new("file", "journal", json!({}));
    let result = Engine::builder(registry())
        .sink("journal", common::Journal::new())
        .config(Config::new(Vec::new(), vec![sink]))
        .build();
    assert_eq!(
        refused(result),
        [r#"the name "journal" is used by two sinks"#]
    );
}

#[test]
fn a_sink_that_cannot_be_set_up_is_told_by_name() {
    let mut sinks = SinkRegistry::new();
    let make = |_: &SinkSettings| Err(SettingsError::new("there is no disk"));
    sinks.register("file", make).unwrap();
    let config = Config::new(Vec::new(), vec![SinkConfig::new("file", "west", json!({}))]);
    let builder = Engine::builder(registry()).sinks(sinks).config(config);
    let error = builder.build().unwrap_err();
    assert!(matches!(&error, EngineError::Sink { name, .. } if &**name == "west"));
    assert_eq!(
        format!("{error:?}"),
        r#"the sink "west" cannot be used: cannot set up sink "file": there is no disk"#
    );
}

#[test]
fn all_problems_are_told_at_once_in_the_words_that_main_prints() {
    let found = build(
        registry(),
        vec![
            measured_with(&["acter"], &[]),
            group(
                "h",
                SECOND,
                [device("a", &json!({})).scraper("no", json!(null))],
            ),
        ],
    );
    let shown = format!("{:?}", found.unwrap_err());
    assert_eq!(
        shown,
        "the configuration cannot be used:\n\
         group \"g\": unknown metric `acter`\n  hint: did you mean `actor`?\n\
         group \"h\": unknown metric `no`\n  hint: known: actor"
    );
}

#[tokio::test(start_paused = true)]
async fn a_factory_that_panics_is_refused_at_the_build_and_at_a_change() {
    let wild = |_: &ScraperSettings| -> Made { panic!("as always") };
    let registry = with("wild", wild);
    let found = refused(build(registry.clone(), vec![measured_with(&["wild"], &[])]));
    assert_eq!(found, ["metric `wild`: it panicked: as always"]);

    let engine = build(registry, vec![troupe(SECOND, json!({}), &["a"])]).unwrap();
    let (handle, results) = (engine.handle(), engine.results());
    let before = handle.config();
    let running = tokio::spawn(engine.run(sleep(SECOND * 10)));
    sleep(SECOND * 2).await;
    let bad = Config::new(vec![measured_with(&["wild"], &[])], Vec::new());
    let error = handle.reload(bad).await.unwrap_err();
    assert_eq!(
        messages(&error.diagnostics()),
        ["metric `wild`: it panicked: as always"]
    );
    assert_eq!(messages(&handle.last_reload().diagnostics).len(), 1);
    assert!(!handle.last_reload().successful);
    assert!(Arc::ptr_eq(&handle.config(), &before));
    running.await.unwrap().unwrap();
    assert_eq!(results.value("g", "a", "actor_scenes_total"), Some(10.0));
}

/// Is made without trouble, and panics when it is asked for its columns.
struct Shy;

#[async_trait]
impl Scraper for Shy {
    fn columns(&self) -> &Arc<Columns> {
        panic!("no columns today")
    }

    async fn scrape(&self, _: &Target, _: Row<'_>) -> Result<(), ScrapeError> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn columns_that_panic_are_refused_at_the_build_and_at_a_change() {
    /// Describes columns that its scrapers do not have.
    struct Liar;
    impl pe_scrape::ScraperFactory for Liar {
        fn create(&self, _: &ScraperSettings) -> Made {
            Ok(Arc::new(Shy))
        }
        fn describe(&self, settings: &ScraperSettings) -> Result<Arc<Columns>, SettingsError> {
            plain("liar", &[])(settings).map(|scraper| scraper.columns().clone())
        }
    }
    let mut registry = with("shy", |_: &ScraperSettings| -> Made { Ok(Arc::new(Shy)) });
    registry.register("liar", Liar).unwrap();
    let expected = [
        ("shy", "metric `shy`: it panicked: no columns today"),
        (
            "liar",
            "metric `liar`: the scraper panicked: no columns today",
        ),
    ];
    for (name, told) in expected {
        let found = refused(build(registry.clone(), vec![measured_with(&[name], &[])]));
        assert_eq!(found, [told]);
    }

    let engine = build(registry, vec![troupe(SECOND, json!({}), &["a"])]).unwrap();
    let (handle, results) = (engine.handle(), engine.results());
    let running = tokio::spawn(engine.run(sleep(SECOND * 10)));
    for (name, told) in expected {
        let bad = Config::new(vec![measured_with(&[name], &[])], Vec::new());
        let error = handle.reload(bad).await.unwrap_err();
        assert_eq!(messages(&error.diagnostics()), [told]);
    }
    running.await.unwrap().unwrap();
    assert_eq!(results.value("g", "a", "actor_scenes_total"), Some(10.0));
}

#[tokio::test(start_paused = true)]
async fn what_was_changed_in_code_is_refused_at_a_reload_and_what_runs_goes_on() {
    let engine = build(registry(), vec![troupe(SECOND, json!({}), &["a"])]).unwrap();
    let (handle, results) = (engine.handle(), engine.results());
    let running = tokio::spawn(engine.run(sleep(SECOND * 10)));
    let mut config = (*handle.config()).clone();
    config.groups[0].settings.timeout = Some(SECOND * 2);
    let error = handle.reload(config).await.unwrap_err();
    assert_eq!(
        messages(&error.diagnostics()),
        ["timeout (2s) must be below interval (1s)"]
    );
    let slow = device("b", &json!({})).timeout(SECOND);
    let error = handle.add("g", slow).await.unwrap_err();
    assert_eq!(
        messages(&error.diagnostics()),
        ["timeout (1s) must be below interval (1s)"]
    );
    running.await.unwrap().unwrap();
    assert_eq!(results.value("g", "a", "actor_scenes_total"), Some(10.0));
    assert_eq!(handle.config().groups[0].devices.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_embedding_program_sees_what_is_risky() {
    let shown = |diagnostics: &Diagnostics| -> Vec<String> {
        let words = |found: &Diagnostic| found.message.split(',').next().unwrap().to_owned();
        diagnostics.iter().map(words).collect()
    };
    let slow = |name: &str| device(name, &json!({})).count(3);
    let group_of = |name: &str| group(name, SECOND, [slow("a")]);
    let engine = build(registry(), vec![group_of("g")]).unwrap();
    let handle = engine.handle();
    let expected = ["a cycle of 3 probes"];
    assert_eq!(shown(&handle.last_reload().diagnostics), expected);
    tokio::spawn(engine.run(std::future::pending()));

    let found = handle.add_group(group_of("h")).await.unwrap();
    assert_eq!(shown(&found), expected);
    let found = handle.add("h", slow("b").count(4)).await.unwrap();
    assert_eq!(
        shown(&found),
        ["a cycle of 3 probes", "a cycle of 4 probes"]
    );
    let quiet = troupe(SECOND, json!({}), &["a"]);
    handle.remove_group("g").await.unwrap();
    assert!(handle.add_group(quiet).await.unwrap().is_empty());
    let config = Config::new(vec![group_of("g")], Vec::new());
    handle.reload(config).await.unwrap();
    assert!(handle.last_reload().successful);
    assert_eq!(shown(&handle.last_reload().diagnostics), expected);
}

#[tokio::test(start_paused = true)]
async fn a_factory_that_panics_only_when_it_makes_a_scraper_changes_nothing() {
    /// Describes itself well, and cannot be made a second time.
    struct Late(AtomicBool);
    impl pe_scrape::ScraperFactory for Late {
        fn create(&self, settings: &ScraperSettings) -> Made {
            assert!(!self.0.swap(true, Ordering::SeqCst), "no more sockets");
            plain("late", &[])(settings)
        }
        fn describe(&self, settings: &ScraperSettings) -> Result<Arc<Columns>, SettingsError> {
            plain("late", &[])(settings).map(|scraper| scraper.columns().clone())
        }
    }
    let mut registry = registry();
    registry.register("late", Late(false.into())).unwrap();
    let first = measured_with(&["late"], &[]);
    let engine = build(registry, vec![first.clone()]).unwrap();
    let handle = engine.handle();
    tokio::spawn(engine.run(std::future::pending()));
    let mut second = first.clone();
    second.settings.prom_id = "second".to_owned();
    let both = Config::new(vec![first, second], Vec::new());
    let error = handle.reload(both).await.unwrap_err();
    assert_eq!(
        messages(&error.diagnostics()),
        [r#"cannot set up scraper "late": it panicked: no more sockets"#]
    );
    assert_eq!(handle.config().groups.len(), 1);
}
