//! What a probe costs: 1,000 HTTP and 1,000 TCP probes in a cycle of 10 s beside 10,000 pings, and `blackbox_exporter` asked for the same.
//!
//! `cargo bench -p pingexporter --bench probes` as root, with nginx and `prometheus-blackbox-exporter` from Debian. It takes two minutes and a
//! half, stops by itself, and exits with 1 where a goal is missed. All of it runs in a network namespace of its own. `PROBES_PROGRAM` names
//! another program to measure in place of the one that was built with it.
#![allow(clippy::unwrap_used)]

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use pe_testkit::{find_program, http, in_namespace, wait};
use serde_json::{Value, json};

const TARGETS: u32 = 1_000;
const INTERVAL: Duration = Duration::from_secs(10);
const CYCLES: u32 = 4;
/// Of the CPU time that a probe takes blackbox_exporter.
const GOAL: f64 = 0.25;
/// Pings are undisturbed while their median takes no more than this, in microseconds, above what it takes without probes.
const UNDISTURBED: f64 = 20.0;

const WEB: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8000);
const AGENT: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9516);
const BLACKBOX: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9115);

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let id = self.0.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &id]).status();
        let _ = self.0.wait();
    }
}

fn start(command: &mut Command, log: &Path, address: SocketAddr) -> Running {
    let log = std::fs::File::create(log).unwrap();
    let command = command.stdin(Stdio::null()).stdout(Stdio::null());
    let running = Running(command.stderr(log).spawn().unwrap());
    wait::until("a server", || TcpStream::connect(address).ok());
    running
}

/// The samples of a page: name with labels, and value.
fn samples(address: SocketAddr) -> Vec<(String, f64)> {
    let text = http::get(address, "/metrics").unwrap().text();
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let samples = samples.filter_map(|line| line.rsplit_once(' '));
    samples
        .filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)))
        .collect()
}

fn named<'s>(samples: &'s [(String, f64)], name: &'s str) -> impl Iterator<Item = f64> + 's {
    let samples = samples.iter();
    samples
        .filter(move |(known, _)| known.split('{').next() == Some(name))
        .map(|(_, value)| *value)
}

fn cpu(address: SocketAddr) -> f64 {
    let samples = samples(address);
    named(&samples, "process_cpu_seconds_total").sum()
}

/// Median and 99th percentile of the pings' round-trip times, in microseconds.
fn rtts(samples: &[(String, f64)]) -> (f64, f64) {
    let mut rtts: Vec<f64> = named(samples, "ping_rtt_mean_seconds").collect();
    rtts.sort_by(f64::total_cmp);
    let at = |share: f64| rtts[((rtts.len() - 1) as f64 * share) as usize] * 1e6;
    (at(0.5), at(0.99))
}

/// What is measured.
fn program() -> PathBuf {
    let named = std::env::var_os("PROBES_PROGRAM");
    named.map_or_else(|| env!("CARGO_BIN_EXE_pingexporter").into(), PathBuf::from)
}

/// The machine, and what runs on it.
fn describe() {
    let first = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output();
        let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        let text = text.unwrap_or_default();
        text.lines().next().unwrap_or_default().to_owned()
    };
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!(
        "{} processors, {}; commit {}; {}; {}; load {}",
        std::thread::available_parallelism().map_or(0, usize::from),
        first("uname", &["-sr"]),
        first("git", &["describe", "--always", "--dirty"]),
        first("dpkg-query", &["-W", "prometheus-blackbox-exporter"]).replace('\t', " "),
        first("dpkg-query", &["-W", "nginx"]).replace('\t', " "),
        load.trim()
    );
}

struct AgentRun {
    cpu: f64,
    samples: Vec<(String, f64)>,
}

/// Runs the agent for some cycles.
fn agent(directory: &Path, groups: &[(&str, Value)]) -> AgentRun {
    let configs = directory.join("configs");
    let _ = std::fs::remove_dir_all(&configs);
    std::fs::create_dir(&configs).unwrap();
    for (name, group) in groups {
        std::fs::write(configs.join(name), group.to_string()).unwrap();
    }
    let mut command = Command::new(program());
    command
        .arg("--configs")
        .arg(&configs)
        .args(["--listen", &AGENT.to_string()]);
    command.current_dir(directory);
    let _agent = start(&mut command, &directory.join("agent.log"), AGENT);
    // The first cycle warms up.
    std::thread::sleep(INTERVAL + INTERVAL / 2);
    let before = cpu(AGENT);
    std::thread::sleep(INTERVAL * CYCLES);
    let samples = samples(AGENT);
    let after: f64 = named(&samples, "process_cpu_seconds_total").sum();
    AgentRun {
        cpu: after - before,
        samples,
    }
}

fn group(name: &str, subnet: &str, max: u32, metrics: &Value) -> Value {
    json!({
        "conf": {"prom_id": name, "interval": "10s", "timeout": "5s", "max_targets": max, "metrics": metrics},
        "jobs": [{"job": "{ip}", "ip": subnet}],
    })
}

/// Asks blackbox_exporter for as many probes as the agent made, and returns its CPU time and how many failed.
fn blackbox(directory: &Path) -> (f64, u32) {
    let program = find_program("prometheus-blackbox-exporter").unwrap();
    let config = directory.join("blackbox.yml");
    let modules = "modules:\n  http_2xx:\n    prober: http\n    timeout: 5s\n  tcp_connect:\n    prober: tcp\n    timeout: 5s\n";
    std::fs::write(&config, modules).unwrap();
    let mut command = Command::new(program);
    command.arg(format!("--config.file={}", config.display()));
    command.arg(format!("--web.listen-address={BLACKBOX}"));
    let _blackbox = start(&mut command, &directory.join("blackbox.log"), BLACKBOX);
    let round = || {
        let (next, failed) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let start = Instant::now();
        let all = 2 * TARGETS;
        let threads: Vec<_> = (0..16)
            .map(|_| {
                let (next, failed) = (next.clone(), failed.clone());
                std::thread::spawn(move || {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= all {
                            return;
                        }
                        let due = start + INTERVAL * number / all;
                        std::thread::sleep(due.saturating_duration_since(Instant::now()));
                        let (target, module) =
                            (number / 2, ["http_2xx", "tcp_connect"][number as usize % 2]);
                        let host =
                            format!("127.1.{}.{}:{}", target / 250, target % 250 + 1, WEB.port());
                        let scheme = if module == "http_2xx" { "http://" } else { "" };
                        let path = format!("/probe?module={module}&target={scheme}{host}");
                        let page = http::get(BLACKBOX, &path).map(|page| page.text());
                        if !page.is_ok_and(|page| page.contains("\nprobe_success 1")) {
                            failed.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                })
            })
            .collect();
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
        failed.load(Ordering::Relaxed)
    };
    round();
    let before = cpu(BLACKBOX);
    let failed = (0..CYCLES).map(|_| round()).sum();
    (cpu(BLACKBOX) - before, failed)
}

fn run(directory: &Path) -> bool {
    let at = directory.display();
    let config = format!(
        "daemon off;\nworker_processes 2;\npid {at}/pid;\nerror_log {at}/error.log warn;\n\
         events {{ worker_connections 4096; }}\nhttp {{\n access_log off;\n client_body_temp_path {at}/b;\n \
         proxy_temp_path {at}/p;\n fastcgi_temp_path {at}/f;\n uwsgi_temp_path {at}/u;\n scgi_temp_path {at}/s;\n \
         server {{ listen {} backlog=4096; location / {{ return 200 \"all is well\\n\"; }} }}\n}}\n",
        WEB.port()
    );
    let file = directory.join("nginx.conf");
    std::fs::write(&file, config).unwrap();
    let mut nginx = Command::new(find_program("nginx").unwrap());
    nginx
        .arg("-p")
        .arg(directory)
        .arg("-c")
        .arg(file)
        .args(["-e", "stderr"]);
    let _nginx = start(&mut nginx, &directory.join("nginx.log"), WEB);

    let pings = group("pings", "127.2.0.0-127.2.39.15", 20_000, &json!(["ping"]));
    let port = WEB.port();
    let metrics = json!([{"http": {"port": port}}, {"tcp": {"port": port}}]);
    let mut probes = group("probes", "127.1.0.1", TARGETS, &metrics);
    probes["jobs"] = (0..TARGETS)
        .map(|target| {
            let ip = format!("127.1.{}.{}", target / 250, target % 250 + 1);
            json!({"job": format!("web-{target}"), "ip": ip})
        })
        .collect();
    let alone = agent(directory, &[("pings.json", pings.clone())]);
    let both = agent(directory, &[("pings.json", pings), ("probes.json", probes)]);
    let (peer, peer_failed) = blackbox(directory);

    let count = f64::from(2 * TARGETS * CYCLES);
    let ours = (both.cpu - alone.cpu) / count * 1e6;
    let theirs = peer / count * 1e6;
    let up: f64 = named(&both.samples, "probe_success").sum();
    let overruns: f64 = named(&both.samples, "pingexporter_cycle_overruns_total").sum();
    let pings_up: f64 = named(&both.samples, "ping_up").sum();
    let (quiet, busy) = (rtts(&alone.samples), rtts(&both.samples));
    println!(
        "pings alone: {:.2} s CPU, RTT {:.0} µs (median), {:.0} µs (p99)",
        alone.cpu, quiet.0, quiet.1
    );
    println!(
        "with probes: {:.2} s CPU, RTT {:.0} µs (median), {:.0} µs (p99)",
        both.cpu, busy.0, busy.1
    );
    println!(
        "probes up: {up} of {}; pings up: {pings_up} of 10000; overruns: {overruns}",
        2 * TARGETS
    );
    println!(
        "CPU a probe: {ours:.1} µs; blackbox_exporter: {theirs:.1} µs, {peer_failed} failed; {:.3} of it",
        ours / theirs
    );
    let goals = [
        ("CPU a probe at most a quarter", ours <= theirs * GOAL),
        (
            "no false failure",
            up == f64::from(2 * TARGETS) && pings_up == 10_000.0,
        ),
        ("no overrun", overruns == 0.0),
        ("pings undisturbed", busy.0 <= quiet.0 + UNDISTURBED),
    ];
    for (goal, is_met) in goals {
        println!("{}: {goal}", if is_met { "met" } else { "MISSED" });
    }
    goals.iter().all(|(_, is_met)| *is_met)
}

fn main() -> ExitCode {
    let needs = ["nginx", "prometheus-blackbox-exporter", "ip"];
    if let Some(missing) = needs.into_iter().find(|name| find_program(name).is_none()) {
        eprintln!("needs the program {missing}, and root");
        return ExitCode::FAILURE;
    }
    describe();
    let directory = tempfile::tempdir().unwrap();
    match in_namespace(|_| run(directory.path())) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}
