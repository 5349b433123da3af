//! The example against a service that greets, and one that does not.
#![allow(clippy::unwrap_used)]

use std::io::Write;
use std::net::TcpListener;
use std::process::Command;

#[test]
fn a_greeting_is_measured_beside_ping() {
    let greeting = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
    let config = serde_json::json!({
        "conf": {"prom_id": "services", "interval": "30s", "timeout": "500ms"},
        "jobs": [
            {"job": "polite", "ip": "127.0.0.1", "metrics": ["ping", {"greeting": {"port": port(&greeting)}}]},
            {"job": "rude", "ip": "127.0.0.2", "metrics": [{"greeting": {"port": port(&silent)}}]},
        ],
    });
    std::thread::spawn(move || {
        for mut stream in greeting.incoming().flatten() {
            let _ = stream.write_all(b"220 welcome\r\n");
        }
    });
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("services.json"), config.to_string()).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_example-custom-scraper"))
        .arg(directory.path())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let polite = r#"{exporter="services",device="polite",ip="127.0.0.1"}"#;
    let rude = r#"{exporter="services",device="rude",ip="127.0.0.2"}"#;
    for expected in [
        format!("greeting_up{polite} 1"),
        format!("greeting_seconds{polite} 0."),
        format!("ping_up{polite} 1"),
        format!("greeting_up{rude} 0"),
    ] {
        assert!(text.contains(&expected), "no {expected} in:\n{text}");
    }
    assert!(!text.contains(&format!("greeting_seconds{rude}")), "{text}");
}
