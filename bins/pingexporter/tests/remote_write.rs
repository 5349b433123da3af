//! Remote write of the running program.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;
use std::process::{Command, Output};

use common::{Agent, Files, PROGRAM, device, group};
use pe_testkit::{require, wait};
use serde_json::json;

fn files(url: &str) -> Files {
    let mut group = group("p", &[device("d", "127.0.0.1")]);
    group["conf"]["interval"] = json!("100ms");
    group["conf"]["timeout"] = json!("50ms");
    let sink = json!({"url": format!("{url}/api/v1/write"), "timeout": "1s"});
    Files::new()
        .group("g.json", &group)
        .push(&json!({"sinks": [{"remote_write": sink}]}))
}

fn queue(directory: &Path, arguments: &[&str]) -> Output {
    Command::new(PROGRAM)
        .arg("queue")
        .args(arguments)
        .current_dir(directory)
        .env_clear()
        .output()
        .unwrap()
}

/// What was printed, and the exit code.
fn told(output: &Output) -> (String, i32) {
    let texts = [&*output.stdout, &*output.stderr].concat();
    let text = String::from_utf8(texts).unwrap();
    (text, output.status.code().unwrap())
}

#[test]
fn a_queue_is_looked_at_beside_a_running_agent_and_dropped_after_it() {
    require!(Root);
    let nobody = pe_testkit::free_port().unwrap();
    let files = files(&format!("http://{nobody}"));
    let here = files.path();
    let queue = |arguments: &[&str]| told(&queue(here, arguments));
    let (text, code) = queue(&["inspect"]);
    assert!(
        text.contains(
            "cannot read the state directory pingexporter-data (--state-dir names another)"
        ),
        "{text}"
    );
    assert_eq!(code, 1);
    // Without --state-dir.
    let mut command = pe_testkit::command(PROGRAM);
    command
        .arg("--configs")
        .arg(files.configs())
        .arg("--push-config")
        .arg(files.push_config())
        .args(["--listen", "none"])
        .current_dir(here);
    let agent = Agent::start(command, here);
    wait::until_true("samples that wait", || {
        let (text, code) = queue(&["inspect"]);
        code == 0
            && text.contains("sink remote_write: ")
            && text.contains(" samples wait, ")
            && text.contains("0000000000000000.segment")
            && !text.contains(" 0 samples wait")
    });
    let (text, code) = queue(&["verify"]);
    assert!(text.contains("samples can be read"), "{text}");
    assert_eq!(code, 0, "{text}");
    let (text, code) = queue(&["drop"]);
    assert!(
        text.contains(&format!("in use by process {}", agent.id())),
        "{text}"
    );
    assert_eq!(code, 1);
    assert!(agent.stop().success());

    let (text, code) = queue(&["drop", "--sink", "central"]);
    assert!(
        text.contains("no queue of a sink `central`") && text.contains("those of `remote_write`"),
        "{text}"
    );
    assert_eq!(code, 1);
    let segment = here.join("pingexporter-data/queue-remote%5Fwrite/0000000000000000.segment");
    let mut bytes = std::fs::read(&segment).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let (text, code) = queue(&["verify", "--sink", "remote_write"]);
    assert!(text.contains("damaged: "), "{text}");
    assert_eq!(code, 1, "{text}");
    let (text, code) = queue(&["drop", "--sink", "remote_write"]);
    assert!(
        text.starts_with("sink remote_write: dropped, with "),
        "{text}"
    );
    assert_eq!(code, 0, "{text}");
    let (text, code) = queue(&["inspect"]);
    assert_eq!(text, "there is no queue in pingexporter-data\n");
    assert_eq!(code, 0);
}
