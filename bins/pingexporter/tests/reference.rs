//! docs/schema and the tables of docs/configuration.md are those of the scrapers and sinks that ship.
//!
//! With `UPDATE_DOCS=1` in the environment, these tests write the files instead.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use pe_scrape::resolve::SystemResolver;
use pe_scrape::{ScraperRegistry, SinkRegistry};

/// What ships: the same names and factories as in `main.rs`.
fn registries() -> (ScraperRegistry, SinkRegistry) {
    let (mut scrapers, mut sinks) = (ScraperRegistry::new(), SinkRegistry::new());
    let ping = pe_ping::PingScraperFactory::new(SystemResolver);
    scrapers.register("ping", ping).unwrap();
    let exposition = pe_probe::ExpositionFactory::new(SystemResolver);
    scrapers.register("exposition", exposition).unwrap();
    let http = pe_probe::HttpFactory::new(SystemResolver);
    scrapers.register("http", http).unwrap();
    let tcp = pe_probe::TcpFactory::new(SystemResolver);
    scrapers.register("tcp", tcp).unwrap();
    let command = pe_probe::CommandFactory::new(SystemResolver);
    scrapers.register("command", command).unwrap();
    let dns = pe_probe::DnsFactory::new(SystemResolver);
    scrapers.register("dns", dns).unwrap();
    let sntp = pe_probe::SntpFactory::new(SystemResolver);
    scrapers.register("sntp", sntp).unwrap();
    let udp = pe_probe::UdpFactory::new(SystemResolver);
    scrapers.register("udp", udp).unwrap();
    sinks
        .register("pushgateway", pe_push::PushgatewayFactory::default())
        .unwrap();
    sinks
        .register("remote_write", pe_push::RemoteWriteFactory::default())
        .unwrap();
    (scrapers, sinks)
}

/// `docs`, beside the workspace's manifest.
fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs")
}

fn check_or_write(path: &Path, wanted: &str) {
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, wanted).unwrap();
    }
    let found = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        found == wanted,
        "{} is out of date: run the tests with UPDATE_DOCS=1",
        path.display()
    );
}

#[test]
fn the_kept_schemas_are_current() {
    let (scrapers, sinks) = registries();
    for (name, schema) in pe_config::schemas(&scrapers, &sinks) {
        check_or_write(&docs().join("schema").join(name), &format!("{schema:#}\n"));
    }
}

#[test]
fn the_tables_of_the_reference_are_current() {
    let (scrapers, sinks) = registries();
    let path = docs().join("configuration.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let tables = pe_config::reference(&scrapers, &sinks);
    for (name, _) in &tables {
        let place = format!("<!-- keys: {name} -->");
        assert!(
            page.contains(&place),
            "docs/configuration.md has no place for `{name}`: {place}"
        );
    }
    check_or_write(&path, &pe_config::fill_reference(&page, &tables));
}
