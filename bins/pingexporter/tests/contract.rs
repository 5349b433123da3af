//! Names, types and help texts of all metrics, and the page that tells them.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::fs;

use common::{Files, device, fixture, push_to};
use pe_testkit::{Gateway, require, wait};
use serde_json::json;

/// `# HELP` and `# TYPE` lines, of a program that shows everything it can: histograms, pushes, errors.
fn shown() -> Vec<String> {
    let gateway = Gateway::start();
    let group = json!({
        "conf": {"prom_id": "p", "interval": "1s", "timeout": "200ms", "count": 2, "probe_interval": "10ms"},
        "jobs": [
            {"job": "a", "ip": "127.0.0.1", "metrics": [{"ping": {"histogram": true}}]},
            device("unknown", "unknown.test"),
            device("named", "localhost"),
        ],
    });
    let files = Files::new()
        .group("g.json", &group)
        .push(&push_to(&gateway.url()));
    // Nobody listens there, so nobody answers for the name.
    let nobody = pe_testkit::free_port().unwrap().to_string();
    let (agent, address) = files.serve(&["--dns-servers", &nobody]);
    let text = wait::until("all metrics", || {
        let text = pe_testkit::http::get(address, "/metrics").ok()?.text();
        let late = [
            "reason=\"dns_unanswered\"",
            "pingexporter_push_last_success_timestamp_seconds ",
            "ping_rtt_jitter_seconds{",
            "ping_address_info{",
        ];
        late.iter().all(|part| text.contains(part)).then_some(text)
    });
    assert!(agent.stop().success());
    text.lines()
        .filter(|line| line.starts_with("# "))
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_metrics_are_those_of_the_contract_and_of_the_documentation() {
    require!(Program("prometheus-pushgateway"), Root);
    let mut shown = shown();
    shown.sort();
    insta::assert_snapshot!("metrics", shown.join("\n"));

    let page = fs::read_to_string(fixture("../docs/metrics.md")).unwrap();
    let told: BTreeSet<String> = page
        .lines()
        .filter(|line| {
            let kind = line.split('|').nth(2).map_or("", str::trim);
            line.starts_with("| `") && ["counter", "gauge", "histogram"].contains(&kind)
        })
        .flat_map(|line| {
            let mut cells = line.split('|').map(str::trim).skip(1);
            let name = cells.next().unwrap().trim_matches('`').to_owned();
            let (kind, help) = (cells.next().unwrap(), cells.next().unwrap());
            [
                format!("# HELP {name} {help}"),
                format!("# TYPE {name} {kind}"),
            ]
        })
        .collect();
    let shown: BTreeSet<String> = shown.into_iter().collect();
    let missing: Vec<_> = shown.difference(&told).collect();
    let invented: Vec<_> = told.difference(&shown).collect();
    assert!(
        missing.is_empty() && invented.is_empty(),
        "not told: {missing:#?}\nnot there: {invented:#?}"
    );
}
