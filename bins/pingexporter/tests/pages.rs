//! What the program says of itself: manual page, completions, and whether it is healthy.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::Write;
use std::process::{Command, Output, Stdio};

use common::{Files, PROGRAM, device, group};
use pe_testkit::require;

fn run(arguments: &[&str]) -> Output {
    Command::new(PROGRAM).args(arguments).output().unwrap()
}

fn printed(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_manual_page_has_a_section_for_every_command() {
    let page = printed(&["man"]);
    assert!(page.contains(".TH pingexporter 1"));
    for command in ["RUN", "CHECK", "ONCE", "PING", "SCHEMA"] {
        assert!(
            page.contains(&format!(".SH COMMAND {command}")),
            "{command}"
        );
    }
    assert!(
        !page.contains("pingexporter\\-run(1)"),
        "a page that is not there"
    );
}

#[test]
fn completions_are_scripts_of_their_shells() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(
            printed(&["completions", shell]).contains("pingexporter"),
            "{shell}"
        );
    }
    let mut bash = Command::new("bash")
        .arg("-n")
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let script = printed(&["completions", "bash"]);
    bash.stdin
        .take()
        .unwrap()
        .write_all(script.as_bytes())
        .unwrap();
    assert!(bash.wait().unwrap().success());
}

#[test]
fn a_running_program_is_healthy_and_none_is_not() {
    require!(Root);
    let files = Files::new().group("g.json", &group("p", &[device("d", "127.0.0.1")]));
    let (agent, address) = files.serve(&[]);
    agent.await_log("started");
    let address = address.to_string();
    printed(&["healthcheck", "--listen", &address]);
    assert!(agent.stop().success());
    for (listen, told) in [
        (address.as_str(), "cannot ask 127.0.0.1:"),
        ("none", "listens nowhere"),
    ] {
        let output = run(&["healthcheck", "--listen", listen]);
        assert_eq!(output.status.code(), Some(1));
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(error.contains(told), "{error}");
    }
}
