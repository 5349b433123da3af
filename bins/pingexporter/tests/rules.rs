//! The shipped rules and the dashboard, judged by promtool and a real Prometheus.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::fs;

use common::fixture;
use pe_testkit::{Prometheus, PrometheusOptions, promtool, require};
use serde_json::Value;

#[test]
fn rules_are_valid_and_alert_when_they_should() {
    require!(Program("promtool"));
    let path = |name: &str| {
        fixture("../docs/prometheus")
            .join(name)
            .to_str()
            .unwrap()
            .to_owned()
    };
    promtool(&["check", "rules", &path("rules.yml")]).unwrap();
    promtool(&["test", "rules", &path("rules_test.yml")]).unwrap();
}

fn dashboard() -> Value {
    let text = fs::read_to_string(fixture("../docs/grafana/pingexporter.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// The expressions of all panels, with Grafana's variables replaced.
fn expressions() -> Vec<String> {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels
        .iter()
        .filter_map(|panel| panel["targets"].as_array())
        .flatten();
    targets
        .map(|target| {
            let expression = target["expr"].as_str().unwrap();
            expression
                .replace("$__rate_interval", "5m")
                .replace("$device", ".*")
                .replace("$job", ".*")
                .replace("$site", ".*")
        })
        .collect()
}

#[test]
fn the_dashboards_queries_are_accepted() {
    require!(Program("prometheus"));
    let prometheus = Prometheus::start(PrometheusOptions::default());
    let expressions = expressions();
    assert!(expressions.len() > 20);
    for expression in expressions {
        assert!(!expression.contains('$'), "{expression}");
        prometheus.query(&expression);
    }
}

#[test]
fn rules_and_dashboard_use_metrics_of_the_contract() {
    let contract = fs::read_to_string(fixture(
        "../bins/pingexporter/tests/snapshots/contract__metrics.snap",
    ))
    .unwrap();
    let known: BTreeSet<&str> = contract
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .collect();
    let rules = fs::read_to_string(fixture("../docs/prometheus/rules.yml")).unwrap();
    let used = expressions().join("\n") + &rules;
    let words = used.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'));
    let ours = words.filter(|word| {
        [
            "ping_",
            "pingexporter_",
            "exporter_",
            "process_",
            "dev_ping",
        ]
        .iter()
        .any(|start| word.starts_with(start))
    });
    let unknown: BTreeSet<&str> = ours
        .filter(|word| !known.contains(word.trim_end_matches("_bucket")))
        .collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}
