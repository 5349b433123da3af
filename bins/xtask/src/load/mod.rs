//! `cargo xtask load`: what the web server does to measurements, memory and answers while clients press on it.
//!
//! The release program measures loopback devices, and serves them to clients that are threads of this program, and to wrk.
//! All figures of a run come from one agent, which is told apart by phases. Goals that are missed end it with an error.

mod agent;
pub(crate) mod client;
mod watch;

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use agent::Agent;
use client::{Connection, Flood, SlowReader, get};
use watch::Watch;

/// Devices, unless told.
const DEVICES: u32 = 100_000;

/// Between two cycles.
const INTERVAL: Duration = Duration::from_secs(10);

/// How long each phase with clients lasts: some cycles.
const PHASE: Duration = Duration::from_secs(31);

/// Requests of which the slowest is told.
const REQUESTS: usize = 20;

const POLLERS: usize = 10;
const SLOW_READERS: usize = 20;
const CONNECTIONS: usize = 10_000;

/// The first phase, and the one in which more memory may be held.
const START: &str = "left alone";
const SLOW: &str = "slow readers";

/// The program sets it when it starts itself again with more descriptors.
const RAISED: &str = "PE_LOAD_RAISED";

/// Memory in bytes that a megabyte of a goal stands for.
const MEGABYTE: f64 = 1e6;

/// A line of the report.
struct Row {
    what: String,
    goal: Option<f64>,
    measured: f64,
    unit: &'static str,
}

impl Row {
    fn is_missed(&self) -> bool {
        self.goal.is_some_and(|goal| self.measured > goal)
    }
}

/// Measures, prints a table, and fails if a goal was missed.
pub(crate) fn load(devices: Option<&str>) -> Result<(), String> {
    let count = crate::program::count(devices, DEVICES, 1_000_000, "devices")?;
    if std::env::var_os(RAISED).is_none() {
        return with_descriptors(devices);
    }
    let mut agent = Agent::start(count, INTERVAL)?;
    println!("{}", agent.description());
    let rows = measure(&mut agent, count)?;
    drop(agent);
    print(&rows);
    let missed = rows.iter().filter(|row| row.is_missed()).count();
    match missed {
        0 => Ok(()),
        _ => Err(format!("{missed} of {} goals are missed", rows.len())),
    }
}

/// Builds the program, and runs the rest with as many descriptors as may be.
fn with_descriptors(devices: Option<&str>) -> Result<(), String> {
    crate::program::build()?;
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let status = Command::new("sh")
        .args(["-c", "ulimit -n $(ulimit -Hn); exec \"$@\"", "sh"])
        .arg(program)
        .arg("load")
        .args(devices)
        .env(RAISED, "1")
        .status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err("see above".to_owned()),
        Err(error) => Err(format!("cannot start again: {error}")),
    }
}

fn measure(agent: &mut Agent, count: u32) -> Result<Vec<Row>, String> {
    let address = agent.address();
    let mut rows = Vec::new();
    let mut row = |what: String, goal: Option<f64>, measured: f64, unit| {
        rows.push(Row {
            what,
            goal,
            measured,
            unit,
        });
    };
    let watch = Watch::start(address, agent.id());

    watch.phase(START);
    agent.await_ready()?;
    // The second report of results is what takes the most memory.
    thread::sleep(2 * INTERVAL);
    let quiet = agent.status()?;
    let device = agent.a_device()?;

    watch.phase("requests one by one");
    let paths = [
        ("first paint of the overview", "/".to_owned()),
        ("answer to a filter", "/?q=7.1&sort=name".to_owned()),
        (
            "answer to a filter as JSON",
            "/api/v1/devices?filter=device-127.1.2&sort=-address&limit=100".to_owned(),
        ),
        ("page of a device", format!("/device/{device}?span=3h")),
        ("status as JSON", "/api/v1/status".to_owned()),
    ];
    for (what, path) in &paths {
        let mut slowest = Duration::ZERO;
        for _ in 0..REQUESTS {
            let answer = get(address, path)?;
            if answer.status != 200 {
                return Err(format!("{path}: {}", answer.status));
            }
            slowest = slowest.max(answer.took);
        }
        row(
            format!("{what}, slowest of {REQUESTS}"),
            Some(300.0),
            milliseconds(slowest),
            "ms",
        );
    }
    let metrics = get(address, "/metrics")?;
    row(
        format!("/metrics, {:.0} MB", metrics.bytes as f64 / MEGABYTE),
        None,
        milliseconds(metrics.took),
        "ms",
    );

    watch.phase("ten clients poll");
    poll(address, PHASE);
    watch.phase("wrk, fifty, pages");
    let pages = wrk(&format!("http://{address}/"), PHASE)?;
    watch.phase("wrk, fifty, metrics");
    let metrics = wrk(&format!("http://{address}/metrics"), PHASE)?;
    row(
        "wrk with 50 connections: pages a second".to_owned(),
        None,
        pages,
        "",
    );
    row(
        "wrk with 50 connections: metrics a second, refused ones too".to_owned(),
        None,
        metrics,
        "",
    );

    watch.phase("many connections");
    let flood = Flood::open(address, CONNECTIONS);
    let opened = flood.len();
    thread::sleep(Duration::from_secs(2));
    drop(flood);

    watch.phase(SLOW);
    let readers: Vec<SlowReader> = (0..SLOW_READERS)
        .map(|_| SlowReader::start(address, "/metrics"))
        .collect();
    thread::sleep(PHASE);

    let end = agent.status()?;
    let seen = watch.stop();
    drop(readers);
    row(
        format!("connections opened, of {CONNECTIONS}"),
        None,
        opened as f64,
        "",
    );
    for phase in &seen {
        row(
            format!("health, slowest answer: {}", phase.name),
            Some(100.0),
            milliseconds(phase.slowest_health),
            "ms",
        );
        let resident = phase.most_resident as f64 / MEGABYTE;
        row(format!("memory: {}", phase.name), None, resident, "MB");
    }
    let (slow, others): (Vec<_>, Vec<_>) = seen.iter().partition(|phase| phase.name == SLOW);
    let most = |phases: &[&watch::Phase]| {
        let most = phases.iter().map(|phase| phase.most_resident).max();
        most.unwrap_or_default() as f64 / MEGABYTE
    };
    row(
        "memory with page and history, at most".to_owned(),
        Some(250.0),
        most(&others),
        "MB",
    );
    row(
        format!("memory with {SLOW_READERS} slow readers, at most"),
        Some(300.0),
        most(&slow),
        "MB",
    );
    let skipped = end.overruns - quiet.overruns;
    row("cycles skipped".to_owned(), Some(0.0), skipped, "");
    row(
        "devices that were falsely down or unknown at one time, at most".to_owned(),
        Some(0.0),
        end.most_bad,
        "",
    );
    row(
        "devices that are not up in the end".to_owned(),
        Some(0.0),
        f64::from(count) - end.up,
        "",
    );
    Ok(rows)
}

/// Ten clients that load the overview each second and the metrics each interval, as browsers and scrapers do.
fn poll(address: std::net::SocketAddr, time: Duration) {
    let end = Instant::now() + time;
    thread::scope(|scope| {
        for client in 0..POLLERS {
            scope.spawn(move || {
                let mut connection = Connection::new(address);
                let mut next_metrics = Instant::now() + INTERVAL * client as u32 / POLLERS as u32;
                while Instant::now() < end {
                    let start = Instant::now();
                    // A server that refuses is asked again.
                    let _ = connection.get("/");
                    if start >= next_metrics {
                        next_metrics += INTERVAL;
                        let _ = connection.get("/metrics");
                    }
                    thread::sleep(Duration::from_secs(1).saturating_sub(start.elapsed()));
                }
            });
        }
    });
}

/// Answers a second.
fn wrk(url: &str, time: Duration) -> Result<f64, String> {
    let output = Command::new("wrk")
        .args(["-t2", "-c50", &format!("-d{}s", time.as_secs()), url])
        .output()
        .map_err(|error| format!("cannot run wrk, of the Debian package wrk: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let rate = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("Requests/sec:"));
    let rate = rate.and_then(|rate| rate.trim().parse().ok());
    rate.ok_or(format!("wrk told nothing: {text}"))
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn print(rows: &[Row]) {
    println!("| what | goal | measured | |\n| --- | ---: | ---: | --- |");
    for row in rows {
        let unit = row.unit;
        let goal = row
            .goal
            .map_or(String::new(), |goal| format!("{goal} {unit}"));
        let judged = match row.goal {
            None => "",
            Some(_) if row.is_missed() => "MISSED",
            Some(_) => "reached",
        };
        println!(
            "| {} | {} | {:.1} {unit} | {judged} |",
            row.what,
            goal.trim(),
            row.measured
        );
    }
}
