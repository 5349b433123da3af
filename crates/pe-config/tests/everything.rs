//! Every key of the schemas is read: it has its effect, and a value of a wrong type is told of at its
//! place.
#![allow(clippy::unwrap_used)]

mod common;

use std::fmt::Write;
use std::path::Path;

use common::{SCRAPERS, SINKS, fixture, sources, sources_of, warnings};
use pe_config::{Sources, load};
use serde_json::{Value, json};

#[test]
fn every_key_has_its_effect() {
    let mut sources = sources("good/everything");
    sources.push_config = Some(fixture("good/everything/push_config.json"));
    let loaded = load(&sources).unwrap();
    assert_eq!(warnings(&loaded), [""; 0]);
    let mut shown = String::new();
    for sink in &loaded.config.sinks {
        let settings = common::push_settings(sink);
        writeln!(shown, "{} {}", sink.kind, sink.settings.name).unwrap();
        writeln!(shown, "{settings:#?}").unwrap();
    }
    for group in &loaded.config.groups {
        writeln!(shown, "{:?}", group.file).unwrap();
        writeln!(shown, "{:#?}", group.settings).unwrap();
        writeln!(shown, "{:#?}", group.common).unwrap();
        for device in &group.devices {
            let target = &device.target;
            let labels: Vec<String> = target
                .further_labels()
                .map(|label| format!("{}={}", label.name(), label.value()))
                .collect();
            let scrapers: Vec<String> = device
                .scrapers
                .iter()
                .map(|scraper| format!("{} {}", scraper.name, scraper.settings.own))
                .collect();
            let (name, ip, address) = (target.device(), target.ip(), target.address());
            writeln!(shown, "{name} {ip} {address:?}").unwrap();
            let (labels, scrapers) = (labels.join(" "), scrapers.join(", "));
            let common = common::common(device);
            let limits = (common.timeout, common.count);
            writeln!(shown, "    {labels} | {scrapers} | {limits:?}").unwrap();
        }
    }
    writeln!(shown, "{:#?}", loaded.watched).unwrap();
    insta::assert_snapshot!(shown);
}

/// All keys of an object schema.
fn keys(schema: &Value) -> Vec<String> {
    schema["properties"]
        .as_object()
        .unwrap()
        .keys()
        .cloned()
        .collect()
}

/// Writes a configuration of one group file.
fn write(directory: &Path, group: &Value, push: &Value) -> Sources<'static> {
    let (configs, push_config) = (directory.join("configs"), directory.join("push.json"));
    std::fs::create_dir(&configs).unwrap();
    std::fs::write(configs.join("group.json"), group.to_string()).unwrap();
    std::fs::write(&push_config, push.to_string()).unwrap();
    let mut sources = sources_of(&configs);
    sources.push_config = Some(push_config);
    sources
}

/// Loads a configuration of one group file, and gives the problems.
fn problems(group: &Value, push: &Value) -> Vec<String> {
    let directory = tempfile::tempdir().unwrap();
    match load(&write(directory.path(), group, push)) {
        Ok(_) => Vec::new(),
        Err(error) => error.diagnostics.iter().map(ToString::to_string).collect(),
    }
}

/// A small sound group file and push configuration.
fn sound() -> (Value, Value) {
    let group = json!({
        "conf": {"prom_id": "a", "interval": 30, "pacer": {}},
        "jobs": [{"job": "router", "ip": "127.0.0.1"}],
    });
    (group, json!({"ip_pushgateway": "127.0.0.1"}))
}

/// A value that no key accepts.
fn wrong() -> Value {
    json!(true)
}

#[test]
fn every_key_of_the_schema_is_read() {
    let group_schema = pe_config::group_schema(&SCRAPERS);
    let objects = [
        ("", group_schema.clone()),
        ("/conf", group_schema["properties"]["conf"].clone()),
        (
            "/conf/pacer",
            group_schema["properties"]["conf"]["properties"]["pacer"].clone(),
        ),
        (
            "/jobs/0",
            group_schema["properties"]["jobs"]["items"].clone(),
        ),
    ];
    let (group, push) = sound();
    assert_eq!(problems(&group, &push), Vec::<String>::new());
    for (pointer, schema) in objects {
        for key in keys(&schema) {
            let mut group = group.clone();
            let object = group.pointer_mut(pointer).unwrap();
            let is_flag = schema["properties"][&key]["type"] == "boolean";
            object[&key] = if is_flag { json!(7) } else { wrong() };
            if key == "targets_files" {
                object.as_object_mut().unwrap().remove("ip");
            }
            let found = problems(&group, &push);
            assert!(
                found
                    .iter()
                    .any(|problem| problem.contains(&key) && problem.contains("expected")),
                "{pointer}/{key}: {found:?}"
            );
            assert!(
                !found.iter().any(|problem| problem.contains("unknown key")),
                "{found:?}"
            );
        }
    }
    for key in keys(&pe_config::push_schema(&SINKS)) {
        let mut push = push.clone();
        push[&key] = wrong();
        let found = problems(&group, &push);
        assert!(
            found
                .iter()
                .any(|problem| problem.contains(&key) && problem.contains("expected")),
            "{key}: {found:?}"
        );
    }
}

/// The object schemas of the two files, each with the pointer to the object within the group file, or
/// `None` for the push configuration.
fn objects() -> Vec<(Option<&'static str>, Value)> {
    let group = pe_config::group_schema(&SCRAPERS);
    let conf = group["properties"]["conf"].clone();
    vec![
        (Some("/conf"), conf.clone()),
        (Some("/conf/pacer"), conf["properties"]["pacer"].clone()),
        (
            Some("/jobs/0"),
            group["properties"]["jobs"]["items"].clone(),
        ),
        (None, pe_config::push_schema(&SINKS)),
    ]
}

/// Problems with `value` in the place of `key`.
fn problems_with(pointer: Option<&str>, key: &str, value: Value) -> Vec<String> {
    let (mut group, mut push) = sound();
    match pointer {
        Some(pointer) => group.pointer_mut(pointer).unwrap()[key] = value,
        None => push[key] = value,
    }
    problems(&group, &push)
}

#[test]
fn the_bounds_of_the_schema_are_those_of_the_loader() {
    let mut bounds = 0;
    for (pointer, schema) in objects() {
        for (key, schema) in schema["properties"].as_object().unwrap() {
            let forms: Vec<&Value> = schema["oneOf"]
                .as_array()
                .map_or(vec![schema], |forms| forms.iter().collect());
            for form in forms {
                for (bound, beyond) in [("minimum", -1), ("maximum", 1)] {
                    let Some(bound) = form[bound].as_i64() else {
                        continue;
                    };
                    let within = problems_with(pointer, key, json!(bound));
                    assert_eq!(within, Vec::<String>::new(), "{key}: {bound}");
                    let outside = problems_with(pointer, key, json!(bound + beyond));
                    assert!(!outside.is_empty(), "{key}: {}", bound + beyond);
                    bounds += 1;
                }
            }
        }
    }
    assert_eq!(
        bounds,
        2 * 6,
        "count twice, max_targets, burst, port, max_parallel_pushes"
    );
}

#[test]
fn the_defaults_of_the_schema_are_those_of_the_loader() {
    let shown = |group: &Value, push: &Value| {
        let directory = tempfile::tempdir().unwrap();
        let config = load(&write(directory.path(), group, push)).unwrap().config;
        let push = common::push_settings(&config.sinks[0]);
        let shown = format!("{:?} {push:?}", config.groups);
        shown.replace(&*directory.path().to_string_lossy(), "")
    };
    // A host name, so that the family shows.
    let (mut group, push) = sound();
    group["jobs"][0]["ip"] = json!("localhost");
    let expected = shown(&group, &push);
    let mut defaults = 0;
    for (pointer, schema) in objects() {
        for (key, schema) in schema["properties"].as_object().unwrap() {
            let Some(default) = schema.get("default") else {
                continue;
            };
            let (mut group, mut push) = (group.clone(), push.clone());
            match pointer {
                Some(pointer) => group.pointer_mut(pointer).unwrap()[key] = default.clone(),
                None => push[key] = default.clone(),
            }
            assert_eq!(shown(&group, &push), expected, "{key}: {default}");
            defaults += 1;
        }
    }
    assert_eq!(defaults, 8);
}
