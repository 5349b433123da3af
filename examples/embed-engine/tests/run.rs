//! The example with the devices that it ships with.
#![allow(clippy::unwrap_used)]

use std::process::Command;

#[test]
fn results_are_read_in_both_ways() {
    let output = Command::new(env!("CARGO_BIN_EXE_example-embed-engine"))
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../configs"))
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(text.contains("loopback: "), "{text}");
    assert!(text.contains("  localhost: 0."), "{text}");
    assert!(
        text.contains("ping_up{exporter=\"loopback\",device=\"localhost\",ip=\"127.0.0.1\"} 1.0"),
        "{text}"
    );
}
