//! How long it takes to load 100,000 devices: as a subnet, from a targets file, as one entry each, and in 2,000 files.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used)]

use std::fmt::Write;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pe_config::{Environment, Sources, load};
use pe_scrape::testkit::Yields;
use pe_scrape::{
    MetricDescriptor, Scraper, ScraperRegistry, ScraperSettings, SettingsError, SinkRegistry,
};

const DEVICES: u32 = 100_000;
const FILES: u32 = 2_000;
const ROUNDS: usize = 9;

fn ping(_: &ScraperSettings) -> Result<Arc<dyn Scraper>, SettingsError> {
    let ping = MetricDescriptor::gauge("dev_ping", "Ping to device (ms)");
    Ok(Arc::new(Yields::new(&[ping])?))
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
    let mut scrapers = ScraperRegistry::new();
    scrapers.register("ping", ping).unwrap();
    let sinks = SinkRegistry::new();
    let mut times: Vec<Duration> = Vec::with_capacity(ROUNDS);
    let mut devices = 0;
    for _ in 0..ROUNDS {
        let mut sources = Sources::new(directory, &scrapers, &sinks);
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

    std::fs::remove_file(directory.join("plant.json")).unwrap();
    for file in 0..FILES {
        let jobs = joined((0..DEVICES / FILES).map(|device| {
            let ip = ip(file * (DEVICES / FILES) + device);
            format!(r#"{{"job": "device-{device}", "ip": "{ip}"}}"#)
        }));
        let conf =
            format!(r#""prom_id": "plant-{file}", "interval": 30, "pacer": {{"rate": 100}}"#);
        let text = format!(r#"{{"conf": {{{conf}}}, "jobs": [{jobs}]}}"#);
        std::fs::write(directory.join(format!("plant-{file}.json")), text).unwrap();
    }
    measure("2,000 files", directory);
}
