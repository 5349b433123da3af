//! The reference tells of every key and variable, and its examples are in order.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;

use common::sources;
use pe_config::load;
use serde_json::Value;

fn reference() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    std::fs::read_to_string(path).unwrap()
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
fn every_key_is_in_the_reference() {
    let reference = reference();
    let mut found = Vec::new();
    for (_, schema) in pe_config::schemas() {
        keys(&schema, &mut found);
    }
    assert!(found.len() > 30, "{found:?}");
    for key in found {
        let told =
            reference.contains(&format!("`{key}`")) || reference.contains(&format!("\"{key}\""));
        assert!(told, "docs/configuration.md does not tell of `{key}`");
    }
}

#[test]
fn every_variable_is_in_the_reference_and_the_other_way_round() {
    let reference = reference();
    let mut told: Vec<&str> = reference
        .split(|c: char| !(c.is_ascii_uppercase() || c == '_'))
        .filter(|word| word.starts_with("PINGEXPORTER_") && word.len() > "PINGEXPORTER_".len())
        .collect();
    told.sort_unstable();
    told.dedup();
    let variables = pe_config::Environment::variables();
    for variable in &variables {
        assert!(
            told.contains(&variable.as_str()),
            "docs/configuration.md does not tell of {variable}"
        );
    }
    // Those that are told of draw no warning: they are known.
    let mut sources = sources("loopback/project1");
    let others: Vec<&str> = told
        .into_iter()
        .filter(|name| !variables.iter().any(|known| known == name))
        .collect();
    sources.env = others.into_iter().map(|name| (name, "x")).collect();
    assert_eq!(load(&sources).unwrap().warnings, []);
}

#[test]
fn the_examples_are_in_order() {
    let reference = reference();
    let examples: Vec<Value> = reference
        .split("```json\n")
        .skip(1)
        .map(|rest| serde_json::from_str(rest.split("```").next().unwrap()).unwrap())
        .collect();
    let valid = |schema: Value, value: &Value| jsonschema::is_valid(&schema, value);
    let (mut groups, mut pushes, mut targets) = (0, 0, 0);
    for example in &examples {
        if example.get("conf").is_some() {
            assert!(valid(pe_config::group_schema(), example), "{example}");
            groups += 1;
        } else if example.get("ip_pushgateway").is_some() {
            assert!(valid(pe_config::push_schema(), example), "{example}");
            pushes += 1;
        } else if example[0].get("targets").is_some() {
            assert!(valid(pe_config::targets_schema(), example), "{example}");
            targets += 1;
        }
    }
    assert_eq!((groups, pushes, targets), (2, 1, 1));
}
