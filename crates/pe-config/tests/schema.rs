//! The JSON Schemas under `docs/schema` are those of the code, and say of the fixtures what the loader
//! says.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::{Path, PathBuf};

use common::fixture;
use serde_json::Value;

fn kept(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../docs/schema")
        .join(name)
}

/// With `UPDATE_SCHEMA=1` in the environment, this writes the files instead.
#[test]
fn the_kept_schemas_are_current() {
    for (name, schema) in pe_config::schemas() {
        let text = format!("{}\n", serde_json::to_string_pretty(&schema).unwrap());
        if std::env::var_os("UPDATE_SCHEMA").is_some() {
            std::fs::write(kept(name), &text).unwrap();
        }
        let found = std::fs::read_to_string(kept(name)).unwrap_or_default();
        assert!(
            found == text,
            "docs/schema/{name} is out of date: run the tests with UPDATE_SCHEMA=1"
        );
    }
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
    let group = pe_config::group_schema();
    for directory in [
        "original/readme",
        "original/project1",
        "good/everything",
        "warnings/repeated",
    ] {
        for file in files(directory) {
            let schema = match file.ends_with("push_config.json") {
                true => pe_config::push_schema(),
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
    assert_eq!(problems(&pe_config::push_schema(), &push), Some(Vec::new()));
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
    "metric-settings",
    "metric-settings-repeated-key",
    "metric-unknown",
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
    "timeout-above-interval-text",
    "timeout-not-below-interval",
    "too-many-targets",
    "too-many-targets-by-conf",
];

#[test]
fn the_group_schema_refuses_what_the_loader_refuses() {
    let schema = pe_config::group_schema();
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
