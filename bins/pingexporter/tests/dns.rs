//! Devices known by name, and a real name server that changes its mind.
#![allow(clippy::unwrap_used)]

mod common;

use std::net::{SocketAddr, UdpSocket};

use common::{Files, PROGRAM, device, group, value};
use pe_testkit::{NameServer, Namespace, in_namespace, require, wait};
use serde_json::json;

/// A series of a device of the group `p`.
fn series(address: SocketAddr, metric: &str, device: &str, end: &str) -> Option<f64> {
    let text = pe_testkit::http::get(address, "/metrics").ok()?.text();
    let labels = format!("{metric}{{exporter=\"p\",device=\"{device}\",");
    let mut lines = text.lines();
    let line = lines.find(|line| line.starts_with(&labels) && line.contains(end))?;
    line.rsplit_once(' ')?.1.parse().ok()
}

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

    // Which address a name has is shown; a device with an address needs none.
    let shown = |device: &str, address_in_use: &str| {
        let label = format!("address=\"{address_in_use}\"");
        series(address, "ping_address_info", device, &label)
    };
    assert_eq!(shown("named", "127.0.0.11"), Some(1.0));
    assert_eq!(shown("other", "127.0.0.12"), Some(1.0));
    assert_eq!(shown("plain", ""), None);

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

#[test]
fn a_silent_name_server_delays_no_device_with_an_address() {
    require!(Root);
    // Takes the questions, and never answers.
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut jobs: Vec<_> = (0..300)
        .map(|n| device(&format!("n{n}"), &format!("n{n}.test")))
        .collect();
    jobs.push(device("plain", "127.0.0.1"));
    let files = Files::new().group("g.json", &group("p", &jobs));
    let server = silent.local_addr().unwrap().to_string();
    let (agent, address) = files.serve(&["--dns-servers", &server]);
    let plain = || series(address, "ping_requests_total", "plain", "").unwrap_or(0.0);
    wait::until_true("several cycles", || plain() >= 6.0);
    let text = pe_testkit::http::get(address, "/metrics").unwrap().text();
    let cycles = value(&text, "pingexporter_cycles_total{exporter=\"p\"}").unwrap();
    // The latest cycle may not have ended.
    assert!(plain() >= cycles - 1.0, "{cycles} cycles");
    assert_eq!(series(address, "ping_up", "plain", ""), Some(1.0));
    for device in ["n0", "n299"] {
        assert_eq!(series(address, "ping_up", device, ""), None, "{device}");
        let unanswered = "reason=\"dns_unanswered\"";
        assert!(series(address, "ping_errors_total", device, unanswered) >= Some(1.0));
    }
    assert!(agent.stop().success());
}

#[test]
fn names_that_lead_to_what_must_not_be_measured_are_unknown() {
    require!(Program("dnsmasq"), Root);
    let server = NameServer::start(
        "127.0.0.21 left-out.test\n127.0.0.22 own.test\n0.0.0.0 zero.test\n\
         224.0.0.1 many.test\n::ffff:127.0.0.21 mapped.test\n127.0.0.23 good.test\n",
    );
    let mut own = device("own", "own.test");
    own["exclude"] = json!(["127.0.0.22"]);
    let mut mapped = device("mapped", "mapped.test");
    mapped["family"] = json!("6");
    let jobs = [
        device("left-out", "left-out.test"),
        own,
        mapped,
        device("zero", "zero.test"),
        device("many", "many.test"),
        device("good", "good.test"),
    ];
    let mut file = group("p", &jobs);
    file["conf"]["exclude"] = json!(["127.0.0.20/31"]);
    let files = Files::new().group("g.json", &file);
    let (agent, address) = files.serve(&["--dns-servers", &server.address().to_string()]);
    for device in ["left-out", "own", "mapped", "zero", "many"] {
        let excluded = || series(address, "ping_errors_total", device, "reason=\"excluded\"");
        wait::until_true(device, || excluded() >= Some(1.0));
        assert_eq!(series(address, "ping_up", device, ""), None, "{device}");
    }
    wait::until_true("the good one", || {
        series(address, "ping_up", "good", "") == Some(1.0)
    });
    assert_eq!(
        series(address, "pingexporter_icmp_send_errors_total", "", ""),
        None
    );
    agent.await_log("which is not measured");
    assert!(agent.stop().success());
}

/// Two links whose near ends, `a1` and `a2`, have the same address.
fn add_two_links(namespace: &Namespace) {
    for (near, far) in [("a1", "b1"), ("a2", "b2")] {
        namespace.add_veth(near, far);
        namespace.add_address(near, "fe80::1/64");
    }
}

/// Whether a target answers so many pings, each within `timeout`, and what the command prints.
fn ping(count: &str, timeout: &str, target: &str) -> (bool, String) {
    let mut command = pe_testkit::command(PROGRAM);
    command.args(["ping", "-c", count, "-i", "100ms", "-W", timeout, target]);
    let output = command.output().unwrap();
    (
        output.status.success(),
        String::from_utf8_lossy(&output.stdout).into_owned(),
    )
}

#[test]
fn an_own_link_local_address_and_one_that_two_links_have_answer() {
    require!(Namespaces, Ipv6);
    in_namespace(|namespace| {
        add_two_links(namespace);
        for other in ["b1", "b2"] {
            namespace.add_address(other, "fe80::2/64");
        }
        for target in [
            "fe80::1%a1",
            "fe80::1%a2",
            "fe80::2%a1",
            "fe80::2%a2",
            "fe80::2%b2",
        ] {
            let (answered, text) = ping("2", "5s", target);
            assert!(answered, "{text}");
        }
        let jobs = [
            device("first", "fe80::2%a1"),
            device("second", "fe80::2%a2"),
            device("own", "fe80::1%a2"),
        ];
        let files = Files::new().group("g.json", &group("p", &jobs));
        let (agent, address) = files.serve(&[]);
        for name in ["first", "second", "own"] {
            wait::until_true(name, || series(address, "ping_up", name, "") == Some(1.0));
        }
        assert!(agent.stop().success());
    });
}

#[test]
fn a_zone_says_on_which_link_an_address_is() {
    require!(Namespaces, Ipv6);
    in_namespace(|namespace| {
        add_two_links(namespace);
        namespace.add_address("b1", "fe80::2/64");
        let jobs = [
            device("here", "fe80::2%a1"),
            device("not-here", "fe80::2%a2"),
            device("no-link", "[fe80::2%a3]:80"),
        ];
        let files = Files::new().group("g.json", &group("p", &jobs));
        let (agent, address) = files.serve(&[]);
        wait::until_true("the other link", || {
            series(address, "ping_up", "not-here", "ip=\"fe80::2%a2\"") == Some(0.0)
        });
        assert_eq!(
            series(address, "ping_up", "here", "ip=\"fe80::2%a1\""),
            Some(1.0)
        );
        assert_eq!(series(address, "ping_up", "no-link", ""), None);
        let reason = "reason=\"no_interface\"";
        assert!(series(address, "ping_errors_total", "no-link", reason) >= Some(1.0));
        assert!(agent.stop().success());

        let (answered, text) = ping("1", "200ms", "fe80::2%a1");
        assert!(answered && text.contains("bytes from fe80::2%a1"), "{text}");
        let (answered, text) = ping("1", "200ms", "fe80::2%a2");
        assert!(!answered, "{text}");
    });
}
