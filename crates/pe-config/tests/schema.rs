//! The JSON Schemas say of the fixtures what the loader says. (The program compares those under `docs/schema` with those of
//! its own scrapers and sinks.)
#![allow(clippy::unwrap_used)]

mod common;

use std::path::{Path, PathBuf};

use common::{SCRAPERS, SINKS, fixture, load_push};
use pe_scrape::{ScraperRegistry, SinkRegistry};
use serde_json::Value;

#[test]
fn the_schemas_are_schemas() {
    for (name, schema) in pe_config::schemas(&SCRAPERS, &SINKS) {
        let problems: Vec<String> = jsonschema::draft202012::meta::validator()
            .iter_errors(&schema)
            .map(|error| error.to_string())
            .collect();
        assert_eq!(problems, [""; 0], "{name}");
        // What is not required may be absent, but never `null`, which programs in Go write into targets files.
        let has_null = schema.to_string().contains("\"null\"");
        assert_eq!(has_null, name == "targets.schema.json", "{name}");
    }
    insta::assert_snapshot!(serde_json::to_string_pretty(&pe_config::push_schema(&SINKS)).unwrap());
}

#[test]
fn the_settings_of_registered_scrapers_and_sinks_are_part_of_the_schemas() {
    let group = |metrics: &str| {
        let text = format!(
            r#"{{"conf": {{"prom_id": "a", "interval": 1, "metrics": {metrics}}}, "jobs": []}}"#
        );
        jsonschema::is_valid(
            &pe_config::group_schema(&SCRAPERS),
            &serde_json::from_str(&text).unwrap(),
        )
    };
    for valid in [
        r#"["ping"]"#,
        r#"[{"ping": {"size": 1}}, {"tcp": {"port": 22}}]"#,
    ] {
        assert!(group(valid), "{valid}");
    }
    for invalid in [
        "[]",
        r#"["pnig"]"#,
        r#"["tcp"]"#,
        r#"[{"ping": {"sise": 1}}]"#,
        r#"[{"ping": {"size": 70000}}]"#,
        r#"[{"tcp": {}}]"#,
        r#"[{"ping": {}, "tcp": {"port": 22}}]"#,
    ] {
        assert!(!group(invalid), "{invalid}");
    }
}

/// Push configurations of which the schema says what the loader says.
#[test]
fn the_push_schema_and_the_loader_agree() {
    let schema = pe_config::push_schema(&SINKS);
    for (text, sound) in [
        (r#"{"ip_pushgateway": "a"}"#, true),
        (
            r#"{"ip_pushgateway": "a", "username_pushgateway": "", "pass_pushgateway": ""}"#,
            true,
        ),
        (r#"{"sinks": [{"archive": {"url": "x"}}]}"#, true),
        (
            r#"{"sinks": [{"archive": {"url": "x", "name": "y", "keep_old": true}}]}"#,
            true,
        ),
        (
            r#"{"ip_pushgateway": "a", "sinks": [{"archive": {"url": "x"}}]}"#,
            true,
        ),
        ("{}", false),
        (r#"{"sinks": []}"#, false),
        (r#"{"sinks": ["archive"]}"#, false),
        (r#"{"sinks": [{"archive": {}}]}"#, false),
        (
            r#"{"sinks": [{"archive": {"url": "x", "keep_old": 1}}]}"#,
            false,
        ),
        (
            r#"{"sinks": [{"archive": {"url": "x", "name": ""}}]}"#,
            false,
        ),
        (r#"{"sinks": [{"archve": {"url": "x"}}]}"#, false),
        (
            r#"{"sinks": [{"archive": {"url": "x"}, "pushgateway": {"url": "x"}}]}"#,
            false,
        ),
        (
            r#"{"sinks": [{"archive": {"url": "x"}}], "grouping": "config"}"#,
            false,
        ),
    ] {
        let value: Value = serde_json::from_str(text).unwrap();
        assert_eq!(
            jsonschema::is_valid(&schema, &value),
            sound,
            "schema: {text}"
        );
        assert_eq!(load_push(text).is_ok(), sound, "loader: {text}");
    }
}

/// A scraper whose settings are not declared takes any object, and without a sink there is nothing to push to.
#[test]
fn what_is_not_declared_is_open() {
    let mut scrapers = ScraperRegistry::new();
    let plain = |_: &pe_scrape::ScraperSettings| Err(pe_scrape::SettingsError::new("never made"));
    scrapers.register("plain", plain).unwrap();
    let schema = pe_config::group_schema(&scrapers);
    let text = r#"{"conf": {"prom_id": "a", "interval": 1, "metrics": ["plain", {"plain": {"x": [1]}}]}, "jobs": []}"#;
    assert!(jsonschema::is_valid(
        &schema,
        &serde_json::from_str(text).unwrap()
    ));
    let schema = pe_config::push_schema(&SinkRegistry::new());
    let valid = |text: &str| jsonschema::is_valid(&schema, &serde_json::from_str(text).unwrap());
    assert!(!valid(r#"{"ip_pushgateway": "a"}"#) && !valid("{}"));
}

/// Problems of a file with a schema; `None` when the file is no JSON.
fn problems(schema: &Value, file: &Path) -> Option<Vec<String>> {
    let value: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).ok()?;
    let validator = jsonschema::validator_for(schema).unwrap();
    Some(
        validator
            .iter_errors(&value)
            .map(|error| error.to_string())
            .collect(),
    )
}

/// The `*.json` files of a fixture directory.
fn files(directory: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(fixture(directory))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "json")
        })
        .collect();
    files.sort();
    files
}

#[test]
fn the_schemas_accept_what_the_loader_accepts() {
    let group = pe_config::group_schema(&SCRAPERS);
    for directory in [
        "original/readme",
        "original/project1",
        "good/everything",
        "warnings/repeated",
    ] {
        for file in files(directory) {
            let schema = match file.ends_with("push_config.json") {
                true => pe_config::push_schema(&SINKS),
                false => group.clone(),
            };
            assert_eq!(
                problems(&schema, &file),
                Some(Vec::new()),
                "{}",
                file.display()
            );
        }
    }
    let push = fixture("original/push_config.json");
    assert_eq!(
        problems(&pe_config::push_schema(&SINKS), &push),
        Some(Vec::new())
    );
    for file in files("good/everything/targets") {
        assert_eq!(
            problems(&pe_config::targets_schema(), &file),
            Some(Vec::new())
        );
    }
}

/// What no schema can say: what depends on two values, on other files or on the syntax within a string.
const BEYOND_A_SCHEMA: &[&str] = &[
    "family-does-not-fit",
    "interval-absurd",
    "interval-bad-unit",
    "interval-too-long",
    "interval-too-short",
    "ip-malformed",
    "ip-not-unicast",
    "json-infinity",
    "labels-of-scraper",
    "labels-repeated",
    "metric-settings-repeated-key",
    "metrics-repeated",
    "prom-id-shared",
    "range-malformed",
    "repeated-keys",
    "subnet-malformed",
    "targets-directory-missing",
    "targets-file-content",
    "targets-file-empty",
    "targets-file-half-written",
    "targets-file-is-directory",
    "targets-file-label-of-scraper",
    "targets-file-missing",
    "targets-file-yaml",
    "timeout-above-interval-text",
    "timeout-not-below-interval",
    "too-many-targets",
    "too-many-targets-by-conf",
];

#[test]
fn the_group_schema_refuses_what_the_loader_refuses() {
    let schema = pe_config::group_schema(&SCRAPERS);
    for entry in std::fs::read_dir(fixture("bad/group")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let problems: Vec<_> = files(&format!("bad/group/{name}"))
            .iter()
            .filter_map(|file| problems(&schema, file))
            .collect();
        if problems.is_empty() {
            continue; // no JSON
        }
        let refused = problems.iter().any(|problems| !problems.is_empty());
        let beyond = BEYOND_A_SCHEMA.contains(&name.as_str());
        assert_eq!(refused, !beyond, "bad/group/{name}: {problems:?}");
    }
}
