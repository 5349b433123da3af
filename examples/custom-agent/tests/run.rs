//! The agent as its user runs it: a scraper from another crate beside `ping`, all on loopback.
#![allow(clippy::unwrap_used)]

use std::fs::{self, File};
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output};

use pe_testkit::{require, wait};
use serde_json::{Value, json};

const PROGRAM: &str = env!("CARGO_BIN_EXE_example-custom-agent");

/// A group of one device.
fn group(metrics: &Value) -> Value {
    json!({
        "conf": {"prom_id": "services", "interval": "1s", "timeout": "500ms"},
        "jobs": [{"job": "polite", "ip": "127.0.0.1", "metrics": metrics}],
    })
}

fn run(command: &str, configs: &Path) -> Output {
    Command::new(PROGRAM)
        .args([command, "--configs"])
        .arg(configs)
        .output()
        .unwrap()
}

/// A service that greets. It ends with the test program.
fn polite_service() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.write_all(b"220 welcome\r\n");
        }
    });
    port
}

/// A service that takes connections and says nothing.
fn silent_service() -> u16 {
    let listener = TcpListener::bind("127.0.0.2:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || listener.incoming().flatten().collect::<Vec<TcpStream>>());
    port
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn a_greeting_is_measured_beside_ping() {
    require!(Root);
    let (polite, silent) = (polite_service(), silent_service());
    let mut group = group(&json!(["ping", {"greeting": {"port": polite}}]));
    group["jobs"].as_array_mut().unwrap().push(
        json!({"job": "rude", "ip": "127.0.0.2", "metrics": [{"greeting": {"port": silent}}]}),
    );
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("services.json"), group.to_string()).unwrap();
    let output = run("once", directory.path());
    let metrics = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let polite = r#"{exporter="services",device="polite",ip="127.0.0.1"}"#;
    let rude = r#"{exporter="services",device="rude",ip="127.0.0.2"}"#;
    for expected in [
        format!("greeting_up{polite} 1"),
        format!("greeting_seconds{polite} 0."),
        format!("ping_up{polite} 1"),
        format!("greeting_up{rude} 0"),
    ] {
        assert!(metrics.contains(&expected), "no {expected} in:\n{metrics}");
    }
    assert!(
        !metrics.contains(&format!("greeting_seconds{rude}")),
        "{metrics}"
    );
}

#[test]
fn check_tells_a_mistake_in_the_scrapers_settings_with_place_and_hint() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("services.json");
    let right = "{\"conf\": {\"prom_id\": \"s\", \"interval\": \"30s\"},\n \"jobs\": [{\"job\": \"j\", \"ip\": \"127.0.0.1\",\n  \"metrics\": [{\"greeting\": {\"port\": 25}}]}]}";
    fs::write(&file, right).unwrap();
    let good = run("check", directory.path());
    assert!(good.status.success(), "{}", text(&good.stderr));
    assert_eq!(
        text(&good.stderr),
        "the configuration is in order: 1 device in 1 file, 0 warnings\n"
    );

    fs::write(&file, right.replace("port", "prot")).unwrap();
    let bad = run("check", directory.path());
    let told = text(&bad.stderr);
    assert_eq!(bad.status.code(), Some(1), "{told}");
    let place = format!("{}:3:29: ", file.display());
    for expected in [place.as_str(), "`prot`", "hint: did you mean `port`?"] {
        assert!(told.contains(expected), "no {expected} in {told}");
    }
}

#[test]
fn the_shipped_configuration_is_accepted() {
    let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs");
    let output = run("check", &configs);
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
fn the_schema_has_the_scrapers_settings() {
    let output = Command::new(PROGRAM)
        .args(["schema", "group"])
        .output()
        .unwrap();
    let schema = text(&output.stdout);
    assert!(
        schema.contains("greeting") && schema.contains("TCP port of the service"),
        "{schema}"
    );
}

/// The agent while it runs. Killed with the value.
struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(configs: &Path, log: &Path) -> (Agent, SocketAddr) {
    let address = pe_testkit::free_port().unwrap();
    let mut command = pe_testkit::command(PROGRAM);
    command
        .arg("--configs")
        .arg(configs)
        .args(["--listen", &address.to_string()])
        .stderr(File::create(log).unwrap());
    (Agent(pe_testkit::start(command).unwrap()), address)
}

#[test]
fn a_running_agent_measures_with_ping_though_it_keeps_no_right() {
    require!(Root);
    let directory = tempfile::tempdir().unwrap();
    let configs = directory.path().join("configs");
    fs::create_dir(&configs).unwrap();
    let group = group(&json!(["ping"]));
    fs::write(configs.join("services.json"), group.to_string()).unwrap();
    let (_agent, address) = start(&configs, &directory.path().join("agent.log"));
    let up = "ping_up{exporter=\"services\",device=\"polite\",ip=\"127.0.0.1\"} 1\n";
    wait::until_true("a reply to ping", || {
        let metrics = pe_testkit::http::get(address, "/metrics");
        metrics.is_ok_and(|response| response.text().contains(up))
    });
}

#[test]
fn a_reload_takes_up_what_the_files_say_now() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("agent.log");
    let configs = directory.path().join("configs");
    fs::create_dir(&configs).unwrap();
    let file = configs.join("services.json");
    let write = |port: u16| {
        let group = group(&json!([{"greeting": {"port": port}}]));
        fs::write(&file, group.to_string()).unwrap();
    };
    write(polite_service());
    let (agent, address) = start(&configs, &log);
    let shows = |value: u8| {
        let series = format!(
            "greeting_up{{exporter=\"services\",device=\"polite\",ip=\"127.0.0.1\"}} {value}\n"
        );
        let metrics = pe_testkit::http::get(address, "/metrics");
        metrics.is_ok_and(|response| response.text().contains(&series))
    };
    wait::until_true("a greeting", || shows(1));

    write(1);
    let pid = agent.0.id().to_string();
    let kill = Command::new("kill").args(["-s", "HUP", &pid]).status();
    assert!(kill.unwrap().success());
    wait::until_true("nobody to greet at the other port", || shows(0));
    let log = fs::read_to_string(&log).unwrap();
    assert!(log.contains("SIGHUP"), "{log}");
}
