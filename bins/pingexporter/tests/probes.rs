//! Several scrapers of one device, from a file to what is shown.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::{Read, Write};
use std::net::TcpListener;

use common::{Files, group};
use pe_testkit::{require, wait};
use serde_json::{Value, json};

/// A server on a free port that answers every request with a short page.
fn page() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nwell");
        }
    });
    port
}

fn device(job: &str, metrics: &Value) -> Value {
    json!({"job": job, "ip": "127.0.0.1", "metrics": metrics})
}

#[test]
fn probes_of_a_device_are_told_apart_and_ping_says_whether_it_is_up() {
    require!(Root);
    let open = page();
    let closed = pe_testkit::free_port().unwrap().port();
    let (http, tcp, none) = (
        json!({"http": {"port": open, "body": "well"}}),
        json!({"tcp": {"port": open}}),
        json!({"tcp": {"port": closed}}),
    );
    let mut loud = none.clone();
    loud["tcp"]["up"] = true.into();
    let jobs = [
        // Up by its ping, whatever its port says.
        device("pinged", &json!(["ping", http, tcp, none])),
        // Up, since one of its probes succeeds.
        device("probed", &json!([none, tcp])),
        // Down, since none does.
        device("closed", &json!([none])),
        // Down, since the probe that succeeds does not count beside one that says so always.
        device("loud", &json!([loud, tcp])),
    ];
    let files = Files::new().group("g.json", &group("site", &jobs));
    let (agent, address) = files.serve(&[]);
    let text = wait::until("results", || {
        let text = pe_testkit::http::get(address, "/metrics").ok()?.text();
        text.contains("probe_success{").then_some(text)
    });
    let of = |name: &str, labels: &[(&str, &str)]| {
        let labels = labels
            .iter()
            .map(|(name, value)| format!("{name}=\"{value}\""));
        let labels: Vec<String> = labels.collect();
        let mut lines = text
            .lines()
            .filter(|line| line.starts_with(&format!("{name}{{")));
        let line = lines.find(|line| labels.iter().all(|label| line.contains(label)))?;
        line.rsplit(' ').next()?.parse::<f64>().ok()
    };
    let success =
        |device, probe: String| of("probe_success", &[("device", device), ("probe", &probe)]);
    assert_eq!(
        success("pinged", format!("http:{open}")),
        Some(1.0),
        "{text}"
    );
    assert_eq!(success("pinged", format!("tcp:{open}")), Some(1.0));
    assert_eq!(success("pinged", format!("tcp:{closed}")), Some(0.0));
    assert_eq!(success("probed", format!("tcp:{closed}")), Some(0.0));
    let devices = |state| {
        of(
            "pingexporter_devices",
            &[("exporter", "site"), ("state", state)],
        )
    };
    assert_eq!(devices("up"), Some(2.0), "{text}");
    assert_eq!(devices("down"), Some(2.0), "{text}");
    let status = pe_testkit::http::get(address, "/api/v1/status")
        .unwrap()
        .text();
    let status: Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["devices"]["up"], 2, "{status}");
    assert!(agent.stop().success());
}

#[test]
fn two_probes_of_one_name_are_refused_with_a_hint() {
    for (twice, message, hint) in [
        (
            json!([{"tcp": {"port": 443}}, {"tcp": {"port": 443, "tls": true}}]),
            "metric `tcp` is listed twice",
            "give one of them another `name`",
        ),
        // What it is named by is another key, since `name` is what it asks for.
        (
            json!([{"dns": {"name": "a.test"}}, {"dns": {"name": "b.test"}}]),
            "metric `dns` is listed twice",
            "give one of them another `probe_name`",
        ),
        (
            json!([{"tcp": {"port": 80, "name": "web"}}, {"http": {"name": "web"}}]),
            "metrics `tcp` and `http` both yield `probe_success` with the same labels",
            "leave one of them out, or give it another `name`",
        ),
    ] {
        let files = Files::new().group("g.json", &group("site", &[device("a", &twice)]));
        let output = files.once();
        assert_eq!(output.status.code(), Some(1));
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(words.contains(message) && words.contains(hint), "{words}");
    }
}
