//! How long it takes to load 100,000 devices: as a subnet, from a targets file, and as one entry each.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used)]

use std::fmt::Write;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{Duration, Instant};

use pe_config::{CommonSettings, Environment, ScraperCatalog, SettingsProblem, Sources, load};

const DEVICES: u32 = 100_000;
const ROUNDS: usize = 9;

struct OnlyPing;

impl ScraperCatalog for OnlyPing {
    fn names(&self) -> Vec<String> {
        vec!["ping".to_owned()]
    }

    fn check(
        &self,
        _: &str,
        _: &serde_json::Value,
        _: &CommonSettings,
    ) -> Result<(), SettingsProblem> {
        Ok(())
    }
}

fn ip(device: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0a00_0001 + device)
}

fn joined(items: impl Iterator<Item = String>) -> String {
    items.collect::<Vec<_>>().join(",\n")
}

fn write(directory: &Path, jobs: &str) {
    let conf = r#""prom_id": "plant", "interval": 30, "max_targets": 200000"#;
    let mut text = String::new();
    write!(text, "{{\"conf\": {{{conf}}}, \"jobs\": [{jobs}]}}").unwrap();
    std::fs::write(directory.join("plant.json"), text).unwrap();
}

fn measure(what: &str, directory: &Path) {
    let mut times: Vec<Duration> = Vec::with_capacity(ROUNDS);
    let mut devices = 0;
    for _ in 0..ROUNDS {
        let mut sources = Sources::new(directory, &OnlyPing);
        sources.env = Environment::empty();
        let start = Instant::now();
        let loaded = load(&sources).unwrap();
        times.push(start.elapsed());
        devices = loaded.config.device_count();
    }
    times.sort();
    let median = times[ROUNDS / 2].as_secs_f64() * 1e3;
    println!("{what:<16} {devices:>8} devices  median {median:>8.1} ms");
}

fn main() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    write(
        directory,
        r#"{"job": "rack-{ip}", "ip": "10.0.0.1-10.1.134.160"}"#,
    );
    measure("subnet or range", directory);

    std::fs::create_dir(directory.join("sd")).unwrap();
    let targets = joined((0..DEVICES).map(|device| format!("\"{}:9100\"", ip(device))));
    std::fs::write(
        directory.join("sd/a.json"),
        format!("[{{\"targets\": [{targets}]}}]"),
    )
    .unwrap();
    write(directory, r#"{"targets_files": ["sd/*.json"]}"#);
    measure("targets file", directory);

    let jobs = joined((0..DEVICES).map(|device| {
        let ip = ip(device);
        format!(r#"{{"job": "device-{device}", "ip": "{ip}", "metrics": ["ping"]}}"#)
    }));
    write(directory, &jobs);
    measure("one entry each", directory);
}
