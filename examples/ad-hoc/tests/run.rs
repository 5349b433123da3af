//! Both programs, against the loopback interface and a real Pushgateway.
#![allow(clippy::unwrap_used)]

use std::process::Command;

use pe_testkit::{Gateway, require};

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_list_is_pinged() {
    require!(Root);
    let lines = run(
        env!("CARGO_BIN_EXE_ping_list"),
        &["127.0.0.1", "127.0.0.2", "::1"],
    );
    assert_eq!(lines.lines().count(), 3);
    for address in ["127.0.0.1", "127.0.0.2", "::1"] {
        assert!(lines.contains(&format!("{address}: ")), "{lines}");
    }
    assert!(!lines.contains("no answer"), "{lines}");
}

#[test]
fn a_value_is_pushed() {
    require!(Program("prometheus-pushgateway"));
    let gateway = Gateway::start();
    run(
        env!("CARGO_BIN_EXE_push_one"),
        &[&gateway.url(), "backup_bytes", "1.5e9"],
    );
    let metrics = gateway.metrics();
    assert!(
        metrics.contains("backup_bytes{instance=\"\",job=\"ad-hoc\"} 1.5e+09"),
        "{metrics}"
    );
}
