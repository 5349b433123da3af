//! Names, types and help texts of all metrics, and the page that tells them.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::fs;

use common::{Files, device, fixture, push_to};
use pe_scrape::{AGENT_LABELS, RESERVED_LABELS};
use pe_testkit::{Gateway, WriteAnswer, WriteReceiver, require, wait};
use serde_json::json;

/// The lines of a program that shows everything it can: histograms, pushes, errors.
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
    // What the receiver says of its time has seconds; ours is ahead by decades, which is not waited for.
    let taken = WriteAnswer::status(204, "").with_header("Date: Sun, 06 Nov 1994 08:49:37 GMT");
    let receiver = WriteReceiver::answering(move |_| taken.clone());
    let mut push = push_to(&gateway.url());
    push["sinks"] = json!([{"remote_write": {"url": receiver.url(), "clock_wait": "1ms"}}]);
    let files = Files::new().group("g.json", &group).push(&push);
    let state = tempfile::tempdir().unwrap();
    let state = state.path().to_str().unwrap();
    // Nobody listens there, so nobody answers for the name.
    let nobody = pe_testkit::free_port().unwrap().to_string();
    let (agent, address) = files.serve(&["--dns-servers", &nobody, "--state-dir", state]);
    let text = wait::until("all metrics", || {
        let text = pe_testkit::http::get(address, "/metrics").ok()?.text();
        let late = [
            "reason=\"dns_unanswered\"",
            "\npingexporter_push_last_success_timestamp_seconds",
            "ping_rtt_jitter_seconds{",
            "ping_address_info{",
            "\npingexporter_remote_write_last_success_timestamp_seconds",
            "\npingexporter_clock_ahead_of_receiver_seconds",
        ];
        late.iter().all(|part| text.contains(part)).then_some(text)
    });
    assert!(agent.stop().success());
    text.lines().map(str::to_owned).collect()
}

/// The names of the labels of a series.
fn label_names(series: &str) -> impl Iterator<Item = &str> {
    let labels = series.split_once('{').map_or("", |(_, labels)| labels);
    let before_equals = labels
        .split("=\"")
        .filter(|part| !part.is_empty() && !part.contains(' '));
    before_equals.filter_map(|part| part.rsplit(['"', ',']).next())
}

#[test]
fn the_metrics_are_those_of_the_contract_and_of_the_documentation() {
    require!(Program("prometheus-pushgateway"), Root);
    let (mut shown, series): (Vec<_>, Vec<_>) =
        shown().into_iter().partition(|line| line.starts_with("# "));
    // What external labels must not be called.
    let reserved: BTreeSet<_> = [RESERVED_LABELS, AGENT_LABELS]
        .concat()
        .into_iter()
        .collect();
    let own = series
        .iter()
        .filter(|it| !it.contains("device=") || it.contains("address="));
    let carried: BTreeSet<_> = own.flat_map(|it| label_names(it)).collect();
    assert!(
        carried.contains("sink") && carried.contains("address"),
        "{carried:?}"
    );
    let free: Vec<_> = carried.difference(&reserved).collect();
    assert!(
        free.is_empty(),
        "an external label may take the place of {free:?}"
    );
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
