//! The reference page has the tables of the code, and its examples are in order.
//!
//! With `UPDATE_REFERENCE=1` in the environment, the tables are written instead. Those of scrapers and sinks are the
//! program's to compare, since only it knows what ships.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::{Path, PathBuf};

use common::{SCRAPERS, SINKS};
use serde_json::Value;

/// Tables that depend on no scraper and no sink.
const OWN: &[&str] = &["conf", "jobs", "pacer", "targets", "sinks"];

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md")
}

fn page() -> String {
    std::fs::read_to_string(path()).unwrap()
}

#[test]
fn the_tables_of_keys_are_those_of_the_code() {
    let page = page();
    let mut tables = pe_config::reference(&SCRAPERS, &SINKS);
    tables.retain(|(name, _)| OWN.contains(&name.as_str()));
    for (name, _) in &tables {
        assert!(page.contains(&format!("<!-- keys: {name} -->")), "{name}");
    }
    let filled = pe_config::fill_reference(&page, &tables);
    if std::env::var_os("UPDATE_REFERENCE").is_some() {
        std::fs::write(path(), &filled).unwrap();
        return;
    }
    assert!(
        filled == page,
        "docs/configuration.md is out of date: run the tests with UPDATE_REFERENCE=1"
    );
}

#[test]
fn every_variable_is_in_the_page() {
    let page = page();
    for variable in pe_config::Environment::variables(&SINKS) {
        assert!(page.contains(&format!("`{variable}`")), "{variable}");
    }
}

/// The rows of the table `name`.
fn table(name: &str) -> String {
    let mut tables = pe_config::reference(&SCRAPERS, &SINKS).into_iter();
    tables.find(|(known, _)| known == name).expect(name).1
}

#[test]
fn the_reference_has_scrapers_and_sinks_with_their_objects() {
    let names: Vec<String> = pe_config::reference(&SCRAPERS, &SINKS)
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert_eq!(
        names,
        [
            "conf",
            "pacer",
            "jobs",
            "targets",
            "push",
            "sinks",
            "ping",
            "tcp",
            "archive",
            "archive.tls",
            "pushgateway",
            "variables",
        ]
    );
    insta::assert_snapshot!(
        ["push", "archive", "tcp", "variables"]
            .map(table)
            .join("\n")
    );
}

/// All property names of a schema, at any depth.
fn keys(schema: &Value, found: &mut Vec<String>) {
    match schema {
        Value::Object(object) => {
            if let Some(Value::Object(properties)) = object.get("properties") {
                found.extend(properties.keys().cloned());
            }
            object.values().for_each(|value| keys(value, found));
        }
        Value::Array(items) => items.iter().for_each(|item| keys(item, found)),
        _ => {}
    }
}

#[test]
fn every_key_of_the_files_is_in_the_page() {
    let page = page();
    let mut found = Vec::new();
    for (_, mut schema) in pe_config::schemas(&SCRAPERS, &SINKS) {
        if let Value::Object(schema) = &mut schema {
            schema.remove("$defs");
        }
        keys(&schema, &mut found);
    }
    assert!(found.len() > 30, "{found:?}");
    for key in found {
        let told = page.contains(&format!("`{key}`")) || page.contains(&format!("\"{key}\""));
        assert!(told, "docs/configuration.md does not tell of `{key}`");
    }
}

#[test]
fn the_examples_are_in_order() {
    let page = page();
    let examples: Vec<Value> = page
        .split("```json\n")
        .skip(1)
        .map(|rest| serde_json::from_str(rest.split("```").next().unwrap()).unwrap())
        .collect();
    let valid = |schema: Value, value: &Value| jsonschema::is_valid(&schema, value);
    let (mut groups, mut pushes, mut targets) = (0, 0, 0);
    for example in &examples {
        if example.get("conf").is_some() {
            // The settings of scrapers are the program's to check.
            let mut schema = pe_config::group_schema(&SCRAPERS);
            schema["$defs"]["scrapers"] = serde_json::json!({"type": "array"});
            assert!(valid(schema, example), "{example}");
            groups += 1;
        } else if example.get("ip_pushgateway").is_some() {
            let mut schema = pe_config::push_schema(&SINKS);
            schema["$defs"]["sinks"] = serde_json::json!({"type": "array"});
            assert!(valid(schema, example), "{example}");
            pushes += 1;
        } else if example[0].get("targets").is_some() {
            assert!(valid(pe_config::targets_schema(), example), "{example}");
            targets += 1;
        }
    }
    assert_eq!((groups, pushes, targets), (2, 2, 1));
}
