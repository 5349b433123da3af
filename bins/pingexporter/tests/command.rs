//! `command` in the program: what may be run, what a program gets, and other probes beside it.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use common::{Agent, Files, PROGRAM, group, value};
use pe_testkit::{http, require, wait};
use serde_json::{Value, json};

/// A device that is checked by a program.
fn checked_by(program: &str) -> Value {
    json!({"job": "d", "ip": "127.0.0.1", "metrics": [{"command": {"argv": [program, "${address}"]}}]})
}

/// A directory with a plugin in it.
fn plugin(files: &Files, script: &str) -> PathBuf {
    let plugins = files.path().join("plugins");
    fs::create_dir_all(&plugins).unwrap();
    let plugin = plugins.join("check_it");
    fs::write(&plugin, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&plugin, fs::Permissions::from_mode(0o755)).unwrap();
    plugin
}

fn check(files: &Files, further: &[&str]) -> (bool, String) {
    let mut command = pe_testkit::command(PROGRAM);
    command.arg("check").arg("--configs").arg(files.configs());
    let output = command.args(further).output().unwrap();
    let told = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(told).unwrap())
}

#[test]
fn no_program_is_run_unless_it_is_allowed() {
    let files = Files::new();
    let plugin = plugin(&files, "echo OK");
    files.write_group(
        "g.json",
        &group("p", &[checked_by(plugin.to_str().unwrap())]),
    );
    let (is_right, told) = check(&files, &[]);
    assert!(
        !is_right && told.contains("no program is allowed; --allow-commands says"),
        "{told}"
    );
    let (is_right, told) = check(
        &files,
        &["--allow-commands", "/usr/lib/nagios/plugins,/opt"],
    );
    assert!(
        !is_right && told.contains("is not below what is allowed, /usr/lib/nagios/plugins, /opt"),
        "{told}"
    );
    let (is_right, told) = check(&files, &["--allow-commands", plugin.to_str().unwrap()]);
    assert!(is_right, "{told}");
    let (is_right, told) = check(&files, &["--allow-commands", "plugins"]);
    assert!(!is_right && told.contains("not an absolute path"), "{told}");

    let mut once = files.once_command();
    once.env("PINGEXPORTER_ALLOW_COMMANDS", plugin.parent().unwrap());
    let output = once.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("probe_success{"), "{text}");
    assert!(text.contains("probe=\"command:check_it\"} 1"), "{text}");
}

#[test]
fn a_plugin_that_needs_rights_is_warned_of_by_name() {
    let icmp = "/usr/lib/nagios/plugins/check_icmp";
    if !PathBuf::from(icmp).is_file() {
        let test = "a_plugin_that_needs_rights_is_warned_of_by_name";
        return pe_testkit::skip(test, "needs the package monitoring-plugins-basic");
    }
    let files = Files::new().group("g.json", &group("p", &[checked_by(icmp)]));
    let (is_right, told) = check(&files, &["--allow-commands", icmp]);
    assert!(
        is_right && told.contains(&format!("{icmp} runs without the capabilities of its file")),
        "{told}"
    );
    let (agent, _) = files.serve(&["--allow-commands", icmp]);
    agent.await_log("runs without the capabilities of its file");
}

#[test]
fn a_program_of_a_service_gets_nothing_of_the_agent() {
    require!(Root);
    let files = Files::new();
    let script = r#"
fd=0; [ -e /proc/$$/fd/7 ] && fd=1
secret=0; [ -n "${SECRET+set}" ] && secret=1
/bin/true 2>/dev/null; other=$?
caps=1; while read -r name number; do [ "$name$number" = CapPrm:0000000000000000 ] && caps=0; done < /proc/$$/status
written=0; (: > /tmp/pingexporter-written) 2>/dev/null && written=1
echo "OK - $1 | fd=$fd secret=$secret other=$other caps=$caps written=$written"
"#;
    let plugin = plugin(&files, script);
    files.write_group(
        "g.json",
        &group("p", &[checked_by(plugin.to_str().unwrap())]),
    );
    let address = pe_testkit::free_port().unwrap();
    // A descriptor that the agent was given, as by a careless parent.
    let mut command = pe_testkit::command("sh");
    command
        .args(["-c", "exec 7</dev/null; exec \"$0\" \"$@\"", PROGRAM])
        .arg("--configs")
        .arg(files.configs())
        .args(["--listen", &address.to_string()])
        .arg("--allow-commands")
        .arg(plugin.parent().unwrap())
        .env("SECRET", "x");
    let _agent = Agent::start(command, files.path());
    let metrics = wait::until("the plugin's values", || {
        let metrics = http::get(address, "/metrics").ok()?.text();
        metrics
            .contains("probe_command_perfdata{")
            .then_some(metrics)
    });
    let piece = |label: &str| {
        let labels = "exporter=\"p\",device=\"d\",ip=\"127.0.0.1\",probe=\"command:check_it\"";
        value(
            &metrics,
            &format!("probe_command_perfdata{{{labels},label=\"{label}\"}}"),
        )
    };
    for (label, expected) in [("fd", 0.0), ("secret", 0.0), ("caps", 0.0)] {
        assert_eq!(piece(label), Some(expected), "{label}: {metrics}");
    }
    // Where the kernel has Landlock, which each one in use by CI has.
    assert_eq!(
        (piece("other"), piece("written")),
        (Some(126.0), Some(0.0)),
        "{metrics}"
    );
}

#[test]
fn several_probes_of_one_device_are_told_apart() {
    require!(Program("dnsmasq"), Root);
    let files = Files::new();
    let plugin = plugin(&files, "echo 'OK | n=1'");
    let dns = pe_testkit::NameServer::start("127.0.0.5 a.test\n");
    let dns = dns.address().port();
    let echo = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = echo.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((length, client)) = echo.recv_from(&mut buffer) {
            let _ = echo.send_to(&buffer[..length], client);
        }
    });
    let device = json!({"job": "d", "ip": "127.0.0.1", "metrics": [
        "ping",
        {"dns": {"name": "a.test", "port": dns, "probe_name": "a"}},
        {"dns": {"name": "a.test", "type": "AAAA", "port": dns, "probe_name": "aaaa"}},
        {"udp": {"port": port, "send": "x", "expect": "x"}},
        {"udp": {"port": port, "send": "x", "expect": "y", "name": "wrong"}},
        {"tcp": {"port": dns}},
        {"sntp": {"port": port, "timeout": "100ms"}},
        {"command": {"argv": [plugin]}},
    ]});
    files.write_group("g.json", &group("p", &[device]));
    let (agent, address) = files.serve(&[
        "--allow-commands",
        plugin.parent().unwrap().to_str().unwrap(),
    ]);
    agent.await_log("started");
    let success = |metrics: &str, probe: &str| {
        let labels = "exporter=\"p\",device=\"d\",ip=\"127.0.0.1\"";
        value(
            metrics,
            &format!("probe_success{{{labels},probe=\"{probe}\"}}"),
        )
    };
    let expected = [
        ("a", 1.0),
        ("aaaa", 1.0),
        (&format!("udp:{port}"), 1.0),
        ("wrong", 0.0),
        (&format!("tcp:{dns}"), 1.0),
        (&format!("sntp:{port}"), 0.0),
        ("command:check_it", 1.0),
    ];
    wait::until_true("all probes to be told", || {
        let Ok(metrics) = http::get(address, "/metrics") else {
            return false;
        };
        let metrics = metrics.text();
        expected
            .iter()
            .all(|(probe, wanted)| success(&metrics, probe) == Some(*wanted))
    });
    // The device is up, since its ping says so, whatever its probes say.
    let metrics = http::get(address, "/metrics").unwrap().text();
    assert_eq!(
        value(
            &metrics,
            "pingexporter_devices{exporter=\"p\",state=\"up\"}"
        ),
        Some(1.0),
        "{metrics}"
    );
}

#[test]
fn two_probes_of_the_same_name_are_refused() {
    let device = json!({"job": "d", "ip": "127.0.0.1", "metrics": [
        {"dns": {"name": "a.test"}},
        {"dns": {"name": "b.test"}},
    ]});
    let files = Files::new().group("g.json", &group("p", &[device]));
    let (is_right, told) = check(&files, &[]);
    assert!(!is_right && told.contains("listed twice"), "{told}");
}
