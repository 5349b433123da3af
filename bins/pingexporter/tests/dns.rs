//! Devices known by name, and a real name server that changes its mind.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Files, device, group, value};
use pe_testkit::{NameServer, require, wait};

#[test]
fn a_name_that_stops_resolving_is_down_and_the_others_go_on() {
    require!(Program("dnsmasq"), Root);
    let jobs = [
        device("named", "a.test"),
        device("other", "b.test:8080"),
        device("plain", "127.0.0.1"),
    ];
    let files = Files::new().group("g.json", &group("p", &jobs));
    let mut server = NameServer::start("127.0.0.11 a.test\n127.0.0.12 b.test\n");
    let (agent, address) = files.serve(&["--dns-servers", &server.address().to_string()]);
    let of = |metric: &str, device: &str| {
        let text = pe_testkit::http::get(address, "/metrics").ok()?.text();
        value(
            &text,
            &format!("{metric}{{exporter=\"p\",device=\"{device}\","),
        )
    };
    let up = |device: &str| of("ping_up", device);
    wait::until_true("all devices to be up", || {
        ["named", "other", "plain"]
            .iter()
            .all(|device| up(device) == Some(1.0))
    });

    server.change("127.0.0.12 b.test\n");
    wait::until_true("the name to be gone", || up("named") == Some(0.0));
    assert_eq!(of("dev_ping", "named"), Some(3000.0));
    let text = pe_testkit::http::get(address, "/metrics").unwrap().text();
    let reason = "ping_errors_total{exporter=\"p\",device=\"named\",ip=\"a.test\",reason=\"dns\"}";
    assert!(value(&text, reason) >= Some(1.0), "{text}");
    assert_eq!((up("other"), up("plain")), (Some(1.0), Some(1.0)));

    // Without any name server, the last address of the other one is used on.
    server.kill();
    let failed = || {
        value(
            &pe_testkit::http::get(address, "/metrics").unwrap().text(),
            "pingexporter_dns_lookups_total{result=\"failed\"}",
        )
    };
    wait::until_true("a failed lookup", || failed() >= Some(1.0));
    assert_eq!((up("other"), up("plain")), (Some(1.0), Some(1.0)));
    assert!(agent.stop().success());
}
