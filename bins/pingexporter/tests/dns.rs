//! Devices known by name, and a real name server that changes its mind.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::process::Command;

use common::{Agent, Files, PROGRAM, device, group, value};
use pe_testkit::{require, wait};

#[test]
fn a_name_that_stops_resolving_is_down_and_the_others_go_on() {
    require!(Program("dnsmasq"), Root);
    let jobs = [
        device("named", "a.test"),
        device("other", "b.test:8080"),
        device("plain", "127.0.0.1"),
    ];
    let files = Files::new().group("g.json", &group("p", &jobs));
    let hosts = files.path().join("hosts");
    fs::write(&hosts, "127.0.0.11 a.test\n127.0.0.12 b.test\n").unwrap();
    let server = pe_testkit::free_port().unwrap();
    let mut dnsmasq = pe_testkit::command("dnsmasq");
    dnsmasq
        .args([
            "--keep-in-foreground",
            "--no-resolv",
            "--no-hosts",
            "--bind-interfaces",
            "--user=root",
        ])
        .args([
            "--listen-address=127.0.0.1",
            "--local=/test/",
            "--local-ttl=1",
            "--conf-file=/dev/null",
        ])
        .args(["--log-facility=/dev/null", "--pid-file="])
        .arg(format!("--port={}", server.port()))
        .arg(format!("--addn-hosts={}", hosts.display()));
    let mut dnsmasq = pe_testkit::start(dnsmasq).unwrap();

    let address = pe_testkit::free_port().unwrap();
    let mut command = pe_testkit::command(PROGRAM);
    command
        .arg("--configs")
        .arg(files.configs())
        .args(["--listen", &address.to_string()]);
    command.args(["--dns-servers", &server.to_string()]);
    let agent = Agent::start(command, files.path());
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

    fs::write(&hosts, "127.0.0.12 b.test\n").unwrap();
    let pid = dnsmasq.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-s", "HUP", &pid])
            .status()
            .unwrap()
            .success()
    );
    wait::until_true("the name to be gone", || up("named") == Some(0.0));
    assert_eq!(of("dev_ping", "named"), Some(3000.0));
    let text = pe_testkit::http::get(address, "/metrics").unwrap().text();
    let reason = "ping_errors_total{exporter=\"p\",device=\"named\",ip=\"a.test\",reason=\"dns\"}";
    assert!(value(&text, reason) >= Some(1.0), "{text}");
    assert_eq!((up("other"), up("plain")), (Some(1.0), Some(1.0)));

    // Without any name server, the last address of the other one is used on.
    dnsmasq.kill().unwrap();
    dnsmasq.wait().unwrap();
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
