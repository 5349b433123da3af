//! Outages of receivers and of the program itself: what was measured arrives all the same.
//!
//! Each cycle sends one request to a device, so that `ping_requests_total` numbers the cycles of a run from 1: whatever is lost is
//! a hole in the numbers, and what comes twice is there twice.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::net::SocketAddr;
use std::time::Duration;

use common::{Agent, Files, group, value};
use pe_testkit::{Prometheus, PrometheusOptions, VictoriaMetrics, require, wait};
use serde_json::{Value, json};

const SERIES: &str = "ping_requests_total{job=\"p\"}";

/// The numbers of cycles in the order of their times, by device.
type Cycles = BTreeMap<String, Vec<u64>>;

fn files(interval: &str, devices: u8, sinks: &Value) -> Files {
    Files::new()
        .group("g.json", &devices_each(interval, devices))
        .push(&json!({"sinks": sinks}))
}

/// So many devices, measured once in each interval.
fn devices_each(interval: &str, devices: u8) -> Value {
    let range = format!("127.0.0.1-127.0.0.{devices}");
    let mut group = group(
        "p",
        &[json!({"job": "d-{ip}", "ip": range, "metrics": ["ping"]})],
    );
    group["conf"]["interval"] = interval.into();
    group["conf"]["timeout"] = "45ms".into();
    group
}

fn start(files: &Files) -> (Agent, SocketAddr) {
    let state = files.path().join("state");
    files.serve(&["--state-dir", state.to_str().unwrap()])
}

/// The latest cycle of this run, as the program tells it.
fn latest_cycle(address: SocketAddr) -> Option<u64> {
    let metrics = pe_testkit::http::get(address, "/metrics").ok()?.text();
    Some(value(&metrics, "ping_requests_total{")? as u64)
}

/// The value of a metric of the program.
fn own(address: SocketAddr, series: &str) -> f64 {
    let metrics = pe_testkit::http::get(address, "/metrics").unwrap().text();
    value(&metrics, series).unwrap_or_else(|| panic!("no {series} in {metrics}"))
}

/// Whether samples were put into the queue of a sink.
fn has_queued(address: SocketAddr, sink: &str) -> bool {
    let of = |metric: &str| {
        own(
            address,
            &format!("pingexporter_remote_write_{metric}{{sink=\"{sink}\"}}"),
        )
    };
    of("queue_samples") + of("samples_total") > 0.0
}

fn stored(prometheus: &Prometheus) -> Cycles {
    let series = prometheus.query(&format!("{SERIES}[1h]"));
    let of = |series: &Value| {
        let values = series["values"].as_array().unwrap().iter();
        let number = |pair: &Value| pair[1].as_str().unwrap().parse().unwrap();
        let device = series["metric"]["device"].as_str().unwrap().to_owned();
        (device, values.map(number).collect())
    };
    series.as_array().unwrap().iter().map(of).collect()
}

/// What VictoriaMetrics has; a sample that came twice is there twice.
fn exported(victoria: &VictoriaMetrics) -> Cycles {
    let all = victoria.export(SERIES).into_iter();
    all.map(|(labels, samples)| {
        let numbers = samples.into_iter().map(|(_, number)| number as u64);
        (labels["device"].clone(), numbers.collect())
    })
    .collect()
}

#[test]
fn receivers_that_are_down_for_200_cycles_have_each_of_them_in_the_end() {
    require!(Program("prometheus"), Program("victoria-metrics"), Root);
    const DEVICES: usize = 10;
    let mut prometheus = Prometheus::start(PrometheusOptions::default().remote_write_receiver());
    let mut victoria = VictoriaMetrics::start();
    let url = |server: String| format!("{server}/api/v1/write");
    let sinks = json!([
        {"remote_write": {"name": "prometheus", "url": url(prometheus.url())}},
        {"remote_write": {"name": "victoria", "url": url(victoria.url()), "order": "fresh_first"}},
    ]);
    let files = files("50ms", DEVICES as u8, &sinks);
    prometheus.server().kill();
    victoria.server().kill();
    let (agent, address) = start(&files);
    wait::until_true("200 cycles", || latest_cycle(address) >= Some(200));
    let mut told = vec![latest_cycle(address).unwrap()];
    // So that the backlog is on disk only, once for both.
    drop(agent);
    let state = files.path().join("state");
    let queues = pe_push::queue_directories(&state).unwrap();
    assert_eq!(queues, [(None, state.join("queue"))]);
    let report = pe_push::queue::inspect(&mut pe_push::queue::Directory::existing(&queues[0].1));
    let waiting = report.unwrap().sinks;
    let waiting: Vec<_> = (waiting.iter())
        .map(|(name, backlog)| (&**name, backlog.samples))
        .collect();
    let all = waiting[0].1;
    assert_eq!(waiting, [("prometheus", all), ("victoria", all)]);
    assert!(all > 200 * DEVICES as u64, "{all} samples wait");
    prometheus.server().restart().unwrap();
    victoria.server().restart().unwrap();
    // Opening the queues takes longer than some of the short cycles where the machine is busy.
    files.write_group("g.json", &devices_each("200ms", DEVICES as u8));
    let (agent, address) = start(&files);
    wait::until_true("live samples, two cycles late at most", || {
        let now = latest_cycle(address).unwrap_or(0);
        let there = exported(&victoria);
        let two_ago = now.saturating_sub(2).max(1);
        let is_live = |numbers: &Vec<u64>| (two_ago..=now).contains(numbers.last().unwrap());
        there.len() == DEVICES && there.values().all(is_live)
    });
    told.push(latest_cycle(address).unwrap());
    await_all("Prometheus", || {
        missing(&stored(&prometheus), &told, DEVICES)
    });
    // Nothing is there twice.
    await_all("VictoriaMetrics", || {
        missing(&exported(&victoria), &told, DEVICES)
    });
    for sink in ["prometheus", "victoria"] {
        let dropped = format!(
            "pingexporter_remote_write_dropped_samples_total{{sink=\"{sink}\",reason=\"refused\"}}"
        );
        assert_eq!(own(address, &dropped), 0.0);
    }
    told[1] = latest_cycle(address).unwrap();
    assert!(agent.stop().success());
    // Nothing is lost at the end either.
    assert_eq!(missing(&stored(&prometheus), &told, DEVICES), None);
    assert_eq!(missing(&exported(&victoria), &told, DEVICES), None);
}

/// A number below `limit`; another one each time.
fn random(limit: u64) -> u64 {
    RandomState::new().build_hasher().finish() % limit
}

/// The runs in the numbers of cycles: each starts with 1.
fn runs(numbers: &[u64]) -> Vec<Vec<u64>> {
    let mut runs: Vec<Vec<u64>> = Vec::new();
    for number in numbers {
        match runs.last_mut() {
            Some(run) if *number >= *run.last().unwrap() => run.push(*number),
            _ => runs.push(vec![*number]),
        }
    }
    runs
}

/// What is not there once of the cycles of each run up to the one before that which the program told last.
fn missing(cycles: &Cycles, told: &[u64], devices: usize) -> Option<String> {
    if cycles.len() != devices {
        return Some(format!("{} devices", cycles.len()));
    }
    let of = |(device, numbers): (&String, &Vec<u64>)| {
        let runs = runs(numbers);
        if runs.len() != told.len() {
            let lengths: Vec<usize> = runs.iter().map(Vec::len).collect();
            return Some(format!("{device}: runs of {lengths:?} cycles"));
        }
        let runs = runs.iter().zip(told).enumerate();
        let lacking = runs.flat_map(|(index, (run, told))| {
            let wanted = 1..=(told - 1).max(*run.last().unwrap());
            let lacks = wanted.filter(|number| run.iter().filter(|it| *it == number).count() != 1);
            lacks.map(move |number| (index, number))
        });
        let lacking: Vec<(usize, u64)> = lacking.collect();
        (!lacking.is_empty()).then(|| format!("{device}, runs and cycles: {lacking:?}"))
    };
    let all: Vec<String> = cycles.iter().filter_map(of).collect();
    (!all.is_empty()).then(|| format!("{all:?} of {told:?}"))
}

/// Waits until nothing is missing.
fn await_all(what: &str, mut missing: impl FnMut() -> Option<String>) {
    let mut latest = None;
    let all = wait::within(wait::PATIENCE, || {
        latest = missing();
        latest.is_none().then_some(())
    });
    assert!(all.is_some(), "{what} has not all cycles: {latest:?}");
}

#[test]
fn a_program_that_is_killed_at_any_moment_loses_at_most_the_cycle_in_progress() {
    require!(Program("prometheus"), Program("victoria-metrics"), Root);
    const DEVICES: usize = 3;
    const KILLS: usize = 20;
    let mut prometheus = Prometheus::start(PrometheusOptions::default().remote_write_receiver());
    let mut victoria = VictoriaMetrics::start();
    let url = |server: String| format!("{server}/api/v1/write");
    let sinks = json!([
        {"remote_write": {"name": "prometheus", "url": url(prometheus.url()), "timeout": "1s"}},
        {"remote_write": {"name": "victoria", "url": url(victoria.url()), "timeout": "1s", "order": "fresh_first"}},
    ]);
    let files = files("200ms", DEVICES as u8, &sinks);
    // The latest cycle that each run told before it was killed.
    let mut told = Vec::new();
    for kill in 0..KILLS {
        // The receivers are away for some of the runs, and come back in the middle of one.
        if kill == 5 {
            prometheus.server().kill();
            victoria.stop().unwrap();
        }
        let (agent, address) = start(&files);
        // Two at least, so that a run that loses one is not empty.
        let least = 2 + random(4);
        wait::until_true("some cycles", || latest_cycle(address) >= Some(least));
        // Before a queue is open, cycles are in memory.
        wait::until_true("samples in the queues", || {
            ["prometheus", "victoria"]
                .into_iter()
                .all(|sink| has_queued(address, sink))
        });
        if kill == 14 {
            prometheus.server().restart().unwrap();
            victoria.server().restart().unwrap();
        }
        told.push(latest_cycle(address).unwrap());
        std::thread::sleep(Duration::from_millis(random(200)));
        // Dropping it kills it.
        drop(agent);
    }
    let (agent, address) = start(&files);
    wait::until_true("a last cycle", || latest_cycle(address) >= Some(3));
    told.push(3);
    await_all("a receiver", || {
        let mut cycles = exported(&victoria);
        // What was acknowledged in the last second before a kill may come again, with equal time and value.
        cycles.values_mut().for_each(Vec::dedup);
        let both = [stored(&prometheus), cycles].map(|cycles| missing(&cycles, &told, DEVICES));
        (both != [None, None]).then(|| {
            let metrics = pe_testkit::http::get(address, "/metrics").unwrap().text();
            let dropped = metrics
                .lines()
                .filter(|line| line.contains("_dropped_samples_total{") && !line.ends_with(" 0"));
            format!(
                "Prometheus: {:?}, VictoriaMetrics: {:?}, dropped {:?}",
                both[0],
                both[1],
                dropped.collect::<Vec<_>>()
            )
        })
    });
    assert!(agent.stop().success());
}
