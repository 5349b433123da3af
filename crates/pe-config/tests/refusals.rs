//! What would make a Prometheus refuse everything is refused in files, as it is in code.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use pe_config::{Environment, Sources, load};
use pe_scrape::testkit::Yields;
use pe_scrape::{
    Columns, Row, ScrapeError, Scraper, ScraperRegistry, ScraperSettings, SettingsError,
    SinkRegistry, Target, async_trait,
};

/// Is made without trouble, and panics when it is asked for its columns.
struct Shy;

impl Shy {
    fn create(_: &ScraperSettings) -> Result<Arc<dyn Scraper>, SettingsError> {
        Ok(Arc::new(Self))
    }
}

#[async_trait]
impl Scraper for Shy {
    fn columns(&self) -> &Arc<Columns> {
        panic!("no columns today")
    }

    async fn scrape(&self, _: &Target, _: Row<'_>) -> Result<(), ScrapeError> {
        Ok(())
    }
}

/// What is told of a file with one device of these metrics, less the file's name.
fn refused(metrics: &str, labels: &str) -> String {
    let file = format!(
        r#"{{"conf": {{"prom_id": "a", "interval": 10}},
"jobs": [{{"job": "d", "ip": "127.0.0.1", "labels": {labels},
"metrics": {metrics}}}]}}"#
    );
    refused_file(&file)
}

/// What is told of a file, less its name.
fn refused_file(file: &str) -> String {
    let mut scrapers = ScraperRegistry::new();
    scrapers.register("one", Yields::create).unwrap();
    scrapers.register("two", Yields::create).unwrap();
    scrapers.register("shy", Shy::create).unwrap();
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("a.json"), file).unwrap();
    let sinks = SinkRegistry::new();
    let mut sources = Sources::new(directory.path(), &scrapers, &sinks);
    sources.env = Environment::empty();
    let error = load(&sources).unwrap_err().to_string();
    error.replace(&format!("{}/a.json:", directory.path().display()), "")
}

#[test]
fn each_refusal_has_its_place() {
    for (metrics, expected) in [
        (
            r#"[{"one": {"a": {}}}, {"two": {"a": {}}}]"#,
            "metrics `one` and `two` both yield `a` with the same labels",
        ),
        (
            r#"[{"one": {"a": {}}}, {"one": {"a": {}}}]"#,
            "metric `one` is listed twice",
        ),
        (
            r#"[{"one": {"a": {"help": "A"}}}, {"two": {"a": {"help": "B"}}}]"#,
            "metric `two` describes `a` with another type, help text or unit than `one` does",
        ),
        (
            r#"[{"one": {"exporter_jobs": {}}}]"#,
            "metric `one` yields `exporter_jobs`, a name of PingExporter's own",
        ),
        (
            r#"[{"one": {"pingexporter_x": {}}}]"#,
            "metric `one` yields `pingexporter_x`, a name of PingExporter's own",
        ),
        (
            r#"[{"one": {"panic": {}}}]"#,
            "metric `one`: it panicked: as the settings say",
        ),
        (
            r#"[{"one": {"a": {"labels": {"device": "x"}}}}]"#,
            "metric `one` gives `a` the label `device`, which tells devices apart",
        ),
        (
            r#"[{"one": {"a": {"labels": {"ip": "x"}}}}]"#,
            "metric `one` gives `a` the label `ip`, which tells devices apart",
        ),
        (
            r#"[{"one": {"a": {"labels": {"job": "x"}}}}]"#,
            "metric `one` gives `a` the label `job`, which tells devices apart",
        ),
        (
            r#"[{"one": {"a": {"labels": {"exporter": "x"}}}}]"#,
            "metric `one` gives `a` the label `exporter`, which tells devices apart",
        ),
        (r#"["shy"]"#, "metric `shy`: it panicked: no columns today"),
    ] {
        let told = refused(metrics, "{}");
        assert!(told.contains(expected), "{expected}: {told}");
        assert!(told.starts_with("3:"), "on the line of `metrics`: {told}");
    }
}

#[test]
fn the_name_of_the_agents_own_metrics_is_refused_at_its_place() {
    let told = refused_file(
        r#"{"conf": {"interval": 10,
  "prom_id": "pingexporter"},
"jobs": [{"job": "d", "ip": "127.0.0.1", "metrics": ["one"]}]}"#,
    );
    assert!(
        told.starts_with("2:")
            && told.contains(
                "prom_id `pingexporter` is taken: the agent's own metrics leave under it"
            ),
        "{told}"
    );
}

#[test]
fn a_label_of_a_plain_functions_series_is_refused_at_its_place() {
    let told = refused(
        r#"[{"one": {"a": {"labels": {"probe": "x"}}}}]"#,
        r#"{"probe": "y"}"#,
    );
    assert!(
        told.starts_with("2:") && told.contains("the metric `one` sets the label `probe` itself"),
        "{told}"
    );
}
