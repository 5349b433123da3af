//! What a service may do once it runs: no thread has a capability, and a helper opens the sockets.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

use common::{Agent, Files, PROGRAM, device, group, value};
use pe_testkit::{http, in_namespace, require, wait};
use serde_json::{Value, json};

/// The lines of a `status` file of /proc that tell of rights, such as `CapEff`.
fn rights(status: &Path) -> Vec<(String, String)> {
    let status = fs::read_to_string(status).unwrap();
    let lines = status.lines().filter_map(|line| line.split_once(':'));
    lines
        .filter(|(name, _)| name.starts_with("Cap") || *name == "NoNewPrivs")
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect()
}

/// The one child process.
fn child_of(pid: u32) -> u32 {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    let children: Vec<u32> = children
        .split_whitespace()
        .map(|pid| pid.parse().unwrap())
        .collect();
    let [child] = children[..] else {
        panic!("children: {children:?}");
    };
    child
}

fn expect_no_rights(agent: &Agent) {
    let tasks = fs::read_dir(format!("/proc/{}/task", agent.id())).unwrap();
    let tasks: Vec<_> = tasks.map(|task| task.unwrap().path()).collect();
    assert!(tasks.len() > 3, "{tasks:?}");
    for task in tasks {
        for (name, value) in rights(&task.join("status")) {
            let expected = match name.as_str() {
                "NoNewPrivs" => "1",
                _ => "0000000000000000",
            };
            assert_eq!(value, expected, "{name} of {}", task.display());
        }
    }
}

fn with_dscp(job: &str, dscp: u32) -> Value {
    json!({"job": job, "ip": "127.0.0.1", "metrics": [{"ping": {"dscp": dscp}}]})
}

#[test]
fn no_thread_of_a_service_has_a_capability_and_reloads_still_open_raw_sockets() {
    require!(Root, Namespaces);
    in_namespace(|namespace| {
        // Datagram sockets are closed to everybody: what is measured is measured by raw ones.
        namespace.sysctl("ipv4.ping_group_range", "1 0");
        let files = Files::new().group("g.json", &group("p", &[device("d", "127.0.0.1")]));
        let (agent, address) = files.serve(&[]);
        let is_up = |device: &str| {
            let metrics = http::get(address, "/metrics").unwrap().text();
            value(
                &metrics,
                &format!("ping_up{{exporter=\"p\",device=\"{device}\""),
            ) == Some(1.0)
        };
        agent.await_log("started");
        wait::until_true("the device is up", || is_up("d"));
        expect_no_rights(&agent);
        let helper = child_of(agent.id());
        let of_helper = rights(Path::new(&format!("/proc/{helper}/status")));
        // CAP_NET_ADMIN and CAP_NET_RAW.
        let has = |name: &str, value: &str| {
            assert!(
                of_helper.contains(&(name.to_owned(), value.to_owned())),
                "{of_helper:?}"
            );
        };
        has("CapEff", "0000000000003000");
        has("CapPrm", "0000000000003000");
        has("NoNewPrivs", "1");

        for dscp in [46, 8] {
            let name = format!("marked {dscp}");
            files.write_group("g.json", &group("p", &[with_dscp(&name, dscp)]));
            wait::until_true("the new device is up", || is_up(&name));
        }
        expect_no_rights(&agent);
        assert!(agent.stop().success());
        wait::until_true("the helper has ended", || {
            !Path::new(&format!("/proc/{helper}")).exists()
        });
    });
}

#[test]
fn a_helper_opens_nothing_for_somebody_who_shows_no_right() {
    require!(Root);
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let helper = Command::new(PROGRAM)
        .arg("__open-sockets")
        .stdin(OwnedFd::from(theirs))
        .spawn();
    let mut helper = helper.unwrap();
    // A request for an IPv4 socket; without the check, an error number and the socket came back.
    let mut request = [0; 16];
    request[0] = 4;
    let _ = ours.write_all(&request);
    let mut answer = Vec::new();
    // An end may come as a reset, since the request was not read to its end.
    let _ = ours.read_to_end(&mut answer);
    assert!(answer.is_empty(), "{answer:?}");
    assert_eq!(helper.wait().unwrap().code(), Some(1));
}

#[test]
fn a_helper_ends_with_a_program_that_is_killed() {
    require!(Root);
    let files = Files::new().group("g.json", &group("p", &[device("d", "127.0.0.1")]));
    let agent = files.run();
    agent.await_log("started");
    let helper = format!("/proc/{}", child_of(agent.id()));
    drop(agent);
    wait::until_true("the helper has ended", || !Path::new(&helper).exists());
}

#[test]
fn a_program_whose_helper_is_killed_says_so_and_measures_on() {
    require!(Root);
    let files = Files::new().group("g.json", &group("p", &[device("d", "127.0.0.1")]));
    let (agent, address) = files.serve(&[]);
    agent.await_log("started");
    let helper = child_of(agent.id()).to_string();
    let killed = Command::new("kill").args(["-s", "KILL", &helper]).status();
    assert!(killed.unwrap().success());
    agent.await_log("the process that opens sockets has ended");
    let cycles = || {
        let metrics = http::get(address, "/metrics").unwrap().text();
        value(&metrics, "pingexporter_cycles_total{").unwrap_or(0.0)
    };
    let before = cycles();
    wait::until_true("further cycles", || cycles() > before + 1.0);
    let metrics = http::get(address, "/metrics").unwrap().text();
    assert_eq!(value(&metrics, "ping_up{"), Some(1.0));
}

#[test]
fn a_service_becomes_the_user_that_is_asked_for_before_it_reads_files() {
    require!(Root);
    let files = Files::new().group("g.json", &group("p", &[device("d", "127.0.0.1")]));
    let open = |mode| {
        for path in [files.path().to_owned(), files.configs()] {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
    };
    // Build directories are often closed to others.
    open(0o755);
    let program = files.path().join("pingexporter");
    fs::copy(PROGRAM, &program).unwrap();
    let command = || {
        let mut command = pe_testkit::command(program.to_str().unwrap());
        command.arg("--configs").arg(files.configs()).args([
            "--listen",
            "none",
            "--user",
            "65534:65534",
        ]);
        command
    };
    let agent = Agent::start(command(), files.path());
    agent.await_log("started");
    let status = fs::read_to_string(format!("/proc/{}/status", agent.id())).unwrap();
    for line in [
        "Uid:\t65534\t65534\t65534\t65534",
        "Gid:\t65534\t65534\t65534\t65534",
        "Groups:\t65534 ",
    ] {
        assert!(status.contains(line), "no {line:?} in {status}");
    }
    expect_no_rights(&agent);
    assert!(agent.stop().success());

    open(0o700);
    fs::set_permissions(files.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let output = command().output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{told}");
    let configs = files.configs();
    for words in [configs.to_str().unwrap(), "may not be read by this user"] {
        assert!(told.contains(words), "no {words:?} in {told}");
    }
}

#[test]
fn a_user_who_is_not_there_is_told() {
    require!(Root);
    let files = Files::new().group("g.json", &group("p", &[device("d", "127.0.0.1")]));
    let output = Command::new(PROGRAM)
        .arg("--configs")
        .arg(files.configs())
        .args(["--user", "nobody-of-that-name"])
        .output()
        .unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(
        told.contains("there is no user \"nobody-of-that-name\"; --user takes a name or a number"),
        "{told}"
    );
}
