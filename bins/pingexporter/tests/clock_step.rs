//! Steps of the system's clock while the program runs: libfaketime sets what it takes for the time of day, and leaves all other clocks.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use common::{Agent, Files, PROGRAM, device, group, value};
use pe_testkit::{VictoriaMetrics, require, wait};
use serde_json::json;
use tempfile::TempDir;

const LIBRARY: &str = concat!(
    env!("CARGO_TARGET_TMPDIR"),
    "/libfaketime/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1"
);

const SERIES: &str = "ping_requests_total{job=\"p\"}";

/// A clock that is off by some seconds.
struct Clock(TempDir);

impl Clock {
    fn off_by(seconds: i64) -> Self {
        let clock = Self(tempfile::tempdir().unwrap());
        clock.set_off_by(seconds);
        clock
    }

    /// Steps it.
    fn set_off_by(&self, seconds: i64) {
        let next = self.0.path().join("next");
        fs::write(&next, format!("{seconds:+}s\n")).unwrap();
        fs::rename(next, self.file()).unwrap();
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("time")
    }

    /// Starts the program with this clock.
    fn start(&self, files: &Files, state: &Path) -> (Agent, SocketAddr) {
        let address = pe_testkit::free_port().unwrap();
        let mut command = pe_testkit::command(PROGRAM);
        command
            .arg("--configs")
            .arg(files.configs())
            .arg("--push-config")
            .arg(files.push_config())
            .arg("--state-dir")
            .arg(state)
            .args(["--listen", &address.to_string()])
            .env("LD_PRELOAD", LIBRARY)
            .env("FAKETIME_TIMESTAMP_FILE", self.file())
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DISABLE_SHM", "1");
        (Agent::start(command, files.path()), address)
    }
}

fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(now.as_millis()).unwrap()
}

/// The value of a metric of the program; `None` while it does not answer.
fn shown(address: SocketAddr, series: &str) -> Option<f64> {
    let metrics = pe_testkit::http::get(address, "/metrics").ok()?.text();
    value(&metrics, series)
}

fn cycles(address: SocketAddr) -> f64 {
    shown(address, "ping_requests_total{").unwrap_or(0.0)
}

/// Times and numbers of the cycles that a receiver has, in the order of their times.
fn stored(victoria: &VictoriaMetrics) -> Vec<(i64, f64)> {
    let series = victoria.export(SERIES);
    series.into_values().next().unwrap_or_default()
}

#[test]
fn samples_have_the_right_time_after_a_step_forward_and_none_after_a_step_back() {
    require!(Program("victoria-metrics"), File(LIBRARY), Root);
    let mut victoria = VictoriaMetrics::start();
    victoria.server().kill();
    let mut group = group("p", &[device("d", "127.0.0.1")]);
    group["conf"]["interval"] = "200ms".into();
    group["conf"]["timeout"] = "150ms".into();
    let sink = json!({"url": format!("{}/api/v1/write", victoria.url())});
    let files = Files::new()
        .group("g.json", &group)
        .push(&json!({"sinks": [{"remote_write": sink}]}));
    let clock = Clock::off_by(-3600);
    let state = files.path().join("state");
    let started = now_ms();
    let (agent, address) = clock.start(&files, &state);
    wait::until_true("cycles before the receiver", || cycles(address) >= 5.0);
    let log = agent.log();
    clock.set_off_by(0);
    victoria.server().restart().unwrap();
    wait::until_true("what was measured before the step, and more", || {
        stored(&victoria).len() >= 8
    });
    let there = stored(&victoria);
    let are_right = there
        .iter()
        .all(|(time, _)| (started..=now_ms()).contains(time));
    assert!(are_right, "{there:?} after {started}");
    let numbers: Vec<f64> = there.iter().map(|(_, number)| *number).collect();
    let expected: Vec<f64> = (1..=there.len()).map(|number| number as f64).collect();
    assert_eq!(numbers, expected, "{there:?}");
    let corrected =
        "pingexporter_clock_corrections_total{sink=\"remote_write\",result=\"corrected\"}";
    assert!(shown(address, corrected) >= Some(5.0), "{log}");

    // Ten minutes back: what follows is not later than what was sent.
    clock.set_off_by(-600);
    let dropped = "pingexporter_remote_write_dropped_samples_total{sink=\"remote_write\",reason=\"clock_step\"}";
    wait::until_true("samples that are dropped", || {
        shown(address, dropped) > Some(0.0)
    });
    agent.await_log("the clock was set back");
    let (before, so_far) = (stored(&victoria), cycles(address));
    wait::until_true("further cycles", || cycles(address) >= so_far + 5.0);
    assert_eq!(stored(&victoria), before);

    // Right again.
    clock.set_off_by(0);
    wait::until_true("later samples", || {
        stored(&victoria).len() >= before.len() + 3
    });
    let there = stored(&victoria);
    let (earlier, later) = there.split_at(before.len());
    assert_eq!(earlier, before);
    assert!(
        later
            .iter()
            .all(|(time, number)| *time <= now_ms() && *number > so_far),
        "{there:?}"
    );
    let refused =
        "pingexporter_remote_write_dropped_samples_total{sink=\"remote_write\",reason=\"refused\"}";
    assert_eq!(shown(address, refused), Some(0.0));
    assert!(agent.stop().success());
}
