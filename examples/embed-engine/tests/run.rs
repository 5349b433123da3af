//! What the example prints.
#![allow(clippy::unwrap_used)]

use std::process::Command;

#[test]
fn a_device_comes_and_one_goes_and_results_are_read_in_three_ways() {
    let output = Command::new(env!("CARGO_BIN_EXE_example-embed-engine"))
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    for line in [
        "7 devices, 7 up\n",
        "printer up: Some(1.0)\nrouter up: None\n7 devices\n",
        "ping_up{exporter=\"office\",device=\"printer\",ip=\"127.0.0.77\",floor=\"2\"} 1.0\n",
        "exporter_jobs{exporter=\"office\"} 7.0\n",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    assert!(!text.contains("device=\"router\""), "{text}");
}
