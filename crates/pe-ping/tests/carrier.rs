//! Links whose other end is gone.
#![allow(clippy::unwrap_used)]

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pe_ping::PingScraperFactory;
use pe_scrape::{Batch, ScraperSettings, Table, Target};
use pe_testkit::{in_namespace, wait};
use serde_json::{Value, json};

/// Whether each device is up, and how often requests to it are known not to have left.
fn measure(own: &Value, addresses: &[&str]) -> Vec<(Option<f64>, Option<f64>)> {
    let mut settings = ScraperSettings::default().with_own(own.clone());
    settings.timeout = Duration::from_millis(150);
    settings.interval = Duration::from_secs(10);
    let scraper = PingScraperFactory::default().scraper(&settings).unwrap();
    let targets: Arc<[Target]> = addresses
        .iter()
        .map(|address| Target::from_ip(address.parse::<IpAddr>().unwrap()))
        .collect();
    let table = Arc::new(Table::new(
        pe_scrape::Scraper::columns(&scraper).clone(),
        targets.len(),
    ));
    let deadline = Instant::now() + Duration::from_secs(8);
    let batch = Batch::new(targets, table.clone(), deadline);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let measured = pe_scrape::Scraper::scrape_batch(&scraper, &batch);
    runtime.block_on(measured).unwrap();
    let metrics: Vec<_> = table.columns().metrics().collect();
    let metric = |name: &str, reason: Option<&str>| {
        let mut metrics = metrics.iter();
        let found = metrics.find(|(descriptor, _)| {
            let mut labels = descriptor.labels();
            descriptor.name() == name && labels.next().map(|(_, value)| value) == reason
        });
        found.unwrap().1
    };
    let up = metric("ping_up", None);
    let never_left = metric("ping_errors_total", Some("no_carrier"));
    let rows = (0..addresses.len()).map(|row| table.row(row));
    rows.map(|row| (row.get(up), row.get(never_left))).collect()
}

const UNKNOWN: (Option<f64>, Option<f64>) = (None, Some(1.0));
const DOWN: (Option<f64>, Option<f64>) = (Some(0.0), None);
const UP: (Option<f64>, Option<f64>) = (Some(1.0), None);

#[test]
fn a_device_behind_a_link_without_carrier_is_unknown() {
    pe_testkit::require!(Namespaces);
    in_namespace(|namespace| {
        // Two links, whose other ends are set up or not; nobody answers there.
        for (link, end, net) in [("dead0", "end0", 78), ("live0", "end1", 79)] {
            namespace.ip(&format!("link add {link} type veth peer name {end}"));
            namespace.sysctl(&format!("ipv6.conf.{link}.accept_dad"), "0");
            namespace.add_address(link, &format!("10.{net}.0.1/24"));
            namespace.add_address(link, &format!("fd{net}::1/64"));
            namespace.ip(&format!("link set {link} up"));
        }
        namespace.ip("link set end1 up");
        namespace.ip("route add 10.80.0.0/16 via 10.78.0.2");
        let devices = [
            "10.78.0.9",
            "fd78::9",
            "10.80.0.1",
            "10.79.0.9",
            "fd79::9",
            "127.0.0.1",
        ];
        let expected = [UNKNOWN, UNKNOWN, UNKNOWN, DOWN, DOWN, UP];
        wait::until_true("the links", || measure(&json!({}), &devices) == expected);
        // Where the way is chosen, so is the link.
        for own in [
            json!({"interface": "dead0"}),
            json!({"source": "10.78.0.1"}),
        ] {
            assert_eq!(measure(&own, &["10.78.0.9"]), [UNKNOWN], "{own}");
        }
        assert_eq!(
            measure(&json!({"interface": "live0"}), &["10.79.0.9"]),
            [DOWN]
        );

        // A device that is lost while there is a carrier is down.
        namespace.ip("link set end0 up");
        let all_down = [DOWN; 3];
        wait::until_true("the carrier", || {
            measure(&json!({}), &devices[..3]) == all_down
        });
    });
}
