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
    let segment = here.join("pingexporter-data/queue/0000000000000000.segment");
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

#[test]
fn sinks_share_a_queue_over_reloads_and_each_is_dropped_alone() {
    require!(Root);
    let up = pe_testkit::WriteReceiver::start();
    let nobody = pe_testkit::free_port().unwrap();
    let sink = |name: &str, url: String| json!({"remote_write": {"name": name, "url": url, "timeout": "1s"}});
    let down = |name: &str| sink(name, format!("http://{nobody}/api/v1/write"));
    let write_sinks = |files: &Files, sinks: &[serde_json::Value]| {
        std::fs::write(files.push_config(), json!({"sinks": sinks}).to_string()).unwrap();
    };
    let files = files("http://nobody");
    write_sinks(&files, &[sink("up", up.url()), down("one"), down("two")]);
    let state = files.path().join("state");
    let (agent, _) = files.serve(&["--state-dir", state.to_str().unwrap()]);
    let of_state = ["--state-dir", state.to_str().unwrap()];
    let queue = |arguments: &[&str]| {
        let arguments = [arguments, &of_state].concat();
        told(&queue(files.path(), &arguments))
    };
    let inspect = || {
        let (text, code) = queue(&["inspect"]);
        (text, code == 0)
    };
    let waits = |text: &str, sink: &str| {
        let line = text
            .lines()
            .find(|line| line.starts_with(&format!("sink {sink}: ")));
        line.is_some_and(|line| !line.contains(" 0 samples wait"))
    };
    wait::until_true("samples that wait for two", || {
        let (text, is_ok) = inspect();
        is_ok && waits(&text, "one") && waits(&text, "two") && text.contains("sink up: ")
    });
    // One is removed, one is renamed, and so a new one.
    write_sinks(&files, &[sink("up", up.url()), down("three")]);
    agent.signal("HUP");
    wait::until_true("the sinks of the new configuration", || {
        let (text, is_ok) = inspect();
        let are_gone = !text.contains("sink one") && !text.contains("sink two");
        is_ok && are_gone && waits(&text, "three") && text.contains("sink up: ")
    });
    let before = up.samples().len();
    wait::until_true("more samples at the one that stays", || {
        up.samples().len() > before
    });
    assert!(agent.stop().success());
    let (text, code) = queue(&["drop", "--sink", "three"]);
    assert!(text.starts_with("sink three: dropped, with "), "{text}");
    assert!(text.contains(" samples that waited for it"), "{text}");
    assert_eq!(code, 0);
    let (text, _) = queue(&["inspect"]);
    assert!(
        text.starts_with("sink up: ") && !text.contains("three"),
        "{text}"
    );
    let (text, code) = queue(&["verify"]);
    assert!(
        text.starts_with("all sinks: ") && text.contains(" can be read"),
        "{text}"
    );
    assert_eq!(code, 0);
}
