//! Environment variables, standard error and signals: what surrounds the program and must not disturb it.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs::{self, OpenOptions};
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::process::{Child, Command, Output, Stdio};

use common::{Files, PROGRAM, device, group, push_to};
use pe_testkit::{Gateway, http, in_namespace, require, wait};
use serde_json::json;

fn pingexporter(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    Command::new(PROGRAM)
        .args(arguments)
        .env_clear()
        .envs(variables.iter().copied())
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A configuration without devices that need anything of the machine to be checked.
fn files() -> Files {
    Files::new().group("g.json", &group("p", &[device("d", "127.0.0.1")]))
}

/// All variables of options, with values that no other command can make sense of.
const VARIABLES: [(&str, &str); 12] = [
    ("PINGEXPORTER_ALLOW_COMMANDS", "nonsense"),
    ("PINGEXPORTER_CONFIGS", "/no/such/directory"),
    ("PINGEXPORTER_DNS_SERVERS", "nonsense"),
    ("PINGEXPORTER_LISTEN", "nonsense"),
    ("PINGEXPORTER_LOG", "info"),
    ("PINGEXPORTER_LOG_FORMAT", "nonsense"),
    ("PINGEXPORTER_PUSH_CONFIG", "/no/such/file"),
    ("PINGEXPORTER_STATE_DIR", "/dev/null/none"),
    ("PINGEXPORTER_USER", "no such user"),
    ("PINGEXPORTER_WEB_CONFIG_FILE", "/no/such/file"),
    ("PINGEXPORTER_WEB_HISTORY", "nonsense"),
    ("PINGEXPORTER_WEB_TELEMETRY_PATH", "nonsense"),
];

/// Those of options that `once` and `check` have too.
const OF_FILES: [&str; 4] = [
    "PINGEXPORTER_ALLOW_COMMANDS",
    "PINGEXPORTER_CONFIGS",
    "PINGEXPORTER_DNS_SERVERS",
    "PINGEXPORTER_PUSH_CONFIG",
];

#[test]
fn variables_of_one_command_do_not_disturb_another() {
    require!(Root);
    let files = files();
    let [empty, new] = ["empty", "new"].map(|name| files.path().join(name));
    fs::create_dir(&empty).unwrap();
    let (empty, new) = (empty.to_str().unwrap(), new.to_str().unwrap());
    for words in [
        &["schema"][..],
        &["man"],
        &["completions", "bash"],
        &["init", new],
        &["queue", "inspect", "--state-dir", empty],
        &["--help"],
        &["help", "run"],
        &["--version"],
    ] {
        let output = pingexporter(words, &VARIABLES);
        let told = text(&output.stderr);
        assert!(output.status.success(), "{words:?}: {told}");
    }
    let of_others: Vec<(&str, &str)> = VARIABLES
        .into_iter()
        .filter(|(name, _)| *name != "PINGEXPORTER_DNS_SERVERS")
        .collect();
    let ping = pingexporter(&["ping", "-c", "1", "127.0.0.1"], &of_others);
    assert!(ping.status.success(), "{}", text(&ping.stderr));
    let ping = pingexporter(&["ping", "-c", "1", "127.0.0.1"], &VARIABLES);
    let told = text(&ping.stderr);
    assert_eq!(ping.status.code(), Some(2), "{told}");
    for expected in ["'nonsense'", "--dns-servers", "PINGEXPORTER_DNS_SERVERS"] {
        assert!(told.contains(expected), "no {expected} in {told}");
    }

    let configs = files.configs();
    let configs = configs.to_str().unwrap();
    let mut of_run = VARIABLES.to_vec();
    of_run.retain(|(name, _)| !OF_FILES.contains(name));
    of_run.push(("PINGEXPORTER_CONFIGS", configs));
    for command in ["check", "once"] {
        let output = pingexporter(&[command], &of_run);
        assert!(output.status.success(), "{}", text(&output.stderr));
    }
    for (variable, option) in [
        ("PINGEXPORTER_LISTEN", "--listen"),
        ("PINGEXPORTER_LOG_FORMAT", "--log-format"),
        ("PINGEXPORTER_WEB_HISTORY", "--web.history"),
    ] {
        let alone = [("PINGEXPORTER_CONFIGS", configs), (variable, "nonsense")];
        for words in [&[][..], &["run"]] {
            let run = pingexporter(words, &alone);
            let told = text(&run.stderr);
            assert_eq!(run.status.code(), Some(2), "{told}");
            for expected in ["'nonsense'", option, variable] {
                assert!(told.contains(expected), "no {expected} in {told}");
            }
        }
    }
}

#[test]
fn variables_of_the_command_line_are_known() {
    let files = files();
    let variables = [
        (
            "PINGEXPORTER_CONFIGS",
            files.configs().to_str().unwrap().to_owned(),
        ),
        ("PINGEXPORTER_LISTEN", "none".to_owned()),
        ("PINGEXPORTER_DNS_SERVERS", "127.0.0.1".to_owned()),
        ("PINGEXPORTER_LOG_FORMAT", "json".to_owned()),
        ("PINGEXPORTER_LOG", "info".to_owned()),
    ];
    let variables: Vec<(&str, &str)> = variables.iter().map(|(k, v)| (*k, v.as_str())).collect();
    let output = pingexporter(&["check"], &variables);
    assert!(
        text(&output.stderr).ends_with("0 warnings\n"),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn an_empty_variable_is_not_set() {
    require!(Root);
    let files = files();
    let mut variables = VARIABLES.map(|(name, _)| (name, "")).to_vec();
    variables.extend([
        ("PINGEXPORTER_LOG_FORMAT", ""),
        ("PINGEXPORTER_CONF_INTERVAL", ""),
        ("PINGEXPORTER_GROUPING", ""),
    ]);
    let configs = files.configs();
    let configs = configs.to_str().unwrap();
    for command in ["check", "once"] {
        let output = pingexporter(&[command, "--configs", configs], &variables);
        assert!(output.status.success(), "{}", text(&output.stderr));
    }
    assert!(pingexporter(&["schema"], &variables).status.success());
    let missing = pingexporter(&["check"], &variables);
    assert_eq!(missing.status.code(), Some(2), "{}", text(&missing.stderr));
    let mut command = command(&files, "none");
    command.envs(variables);
    let agent = common::Agent::start(command, files.path());
    agent.await_log("started");
    assert!(agent.stop().success());
}

fn command(files: &Files, listen: &str) -> Command {
    let mut command = pe_testkit::command(PROGRAM);
    command
        .arg("--configs")
        .arg(files.configs())
        .args(["--listen", listen]);
    if files.push_config().exists() {
        command.arg("--push-config").arg(files.push_config());
    }
    command
}

/// The program with some standard error. Killed with the value.
struct Running {
    child: Child,
    address: SocketAddr,
}

impl Running {
    fn start(files: &Files, stderr: impl Into<Stdio>) -> Self {
        let address = pe_testkit::free_port().unwrap();
        let mut command = command(files, &address.to_string());
        command.stderr(stderr);
        let child = pe_testkit::start(command).unwrap();
        Self { child, address }
    }

    fn metric(&self, series: &str) -> Option<f64> {
        common::value(&http::get(self.address, "/metrics").ok()?.text(), series)
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let kill = Command::new("kill").args(["-s", signal, &pid]).status();
        assert!(kill.unwrap().success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program logs, reloads, measures and ends as always, whatever becomes of its log.
fn goes_on(files: &Files, mut agent: Running) {
    let requests = |agent: &Running| agent.metric("ping_requests_total{").unwrap_or(0.0);
    wait::until_true("the first results", || requests(&agent) >= 1.0);

    // Enough to be said to fill any pipe: each job is a problem.
    let bad: Vec<_> = (0..3000)
        .map(|n| json!({"job": format!("d{n}"), "ip": "no address!"}))
        .collect();
    files.write_group("g.json", &group("p", &bad));
    let successful = "pingexporter_config_last_reload_successful ";
    for _ in 0..2 {
        agent.signal("HUP");
        wait::until_true("the refusal", || agent.metric(successful) == Some(0.0));
    }
    let before = requests(&agent);
    wait::until_true("further cycles", || requests(&agent) >= before + 2.0);
    files.write_group("g.json", &group("p", &[device("new", "127.0.0.2")]));
    wait::until_true("the new device", || {
        agent.metric("ping_up{exporter=\"p\",device=\"new\"") == Some(1.0)
    });
    assert_eq!(agent.metric(successful), Some(1.0));
    agent.signal("TERM");
    let status = wait::until("the end", || agent.child.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
}

/// The gateway goes and comes back, which is logged: results arrive again, whatever becomes of the log. Returns how many log
/// lines were dropped.
fn pushes_again(stderr: impl FnOnce() -> Stdio, with: impl FnOnce(&mut Running)) -> f64 {
    let mut gateway = Gateway::start();
    let files = files().push(&push_to(&gateway.url()));
    let mut agent = Running::start(&files, stderr());
    with(&mut agent);
    let arrived =
        |gateway: &Gateway| common::value(&gateway.metrics(), "ping_requests_total{device=\"d\"");
    wait::until_true("the first pushes", || arrived(&gateway) >= Some(2.0));
    gateway.kill();
    let failed = "pingexporter_pushes_total{sink=\"pushgateway\",result=\"unreachable\"";
    wait::until_true("the outage", || agent.metric(failed) >= Some(2.0));
    let measured = "ping_requests_total{exporter=\"p\",device=\"d\"";
    let before = agent.metric(measured).unwrap();
    wait::until_true("cycles without a gateway", || {
        agent.metric(measured) >= Some(before + 2.0)
    });
    gateway.restart().unwrap();
    wait::until_true("pushes of later cycles", || {
        arrived(&gateway) >= Some(before + 4.0)
    });
    let dropped = agent.metric("pingexporter_log_lines_dropped_total ");
    agent.signal("TERM");
    let status = wait::until("the end", || agent.child.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
    dropped.unwrap()
}

#[test]
fn a_full_log_keeps_no_push_from_arriving_again() {
    require!(Program("prometheus-pushgateway"), Root);
    let full = || {
        let full = OpenOptions::new().write(true).open("/dev/full");
        full.unwrap().into()
    };
    // Start, outage and return.
    assert!(pushes_again(full, |_| {}) >= 3.0);
}

#[test]
fn a_log_without_a_reader_keeps_no_push_from_arriving_again() {
    require!(Program("prometheus-pushgateway"), Root);
    let close = |agent: &mut Running| drop(agent.child.stderr.take());
    assert!(pushes_again(Stdio::piped, close) >= 2.0);
}

#[test]
fn a_directory_behind_a_link_that_is_swapped_is_read_again() {
    require!(Root);
    let files = Files::new();
    let version = |name: &str| {
        let directory = files.path().join(name);
        fs::create_dir(&directory).unwrap();
        let group = group("p", &[device(name, "127.0.0.1")]);
        fs::write(directory.join("g.json"), group.to_string()).unwrap();
    };
    // As deployments do it: a new link takes the place of the old one in one step.
    let lead_to = |name: &str| {
        let next = files.path().join("next");
        symlink(name, &next).unwrap();
        fs::rename(&next, files.configs()).unwrap();
    };
    fs::remove_dir(files.configs()).unwrap();
    version("v1");
    lead_to("v1");
    let (agent, address) = files.serve(&[]);
    let is_up = |name: &str| {
        let metrics = http::get(address, "/metrics").map(|answer| answer.text());
        let series = format!("ping_up{{exporter=\"p\",device=\"{name}\"");
        metrics.is_ok_and(|metrics| common::value(&metrics, &series) == Some(1.0))
    };
    wait::until_true("the first version", || is_up("v1"));
    for (former, next) in [("v1", "v2"), ("v2", "v3")] {
        version(next);
        lead_to(next);
        wait::until_true("the next version", || is_up(next) && !is_up(former));
        fs::remove_dir_all(files.path().join(former)).unwrap();
    }
    assert!(agent.stop().success());
}

#[test]
fn files_behind_a_link_that_is_swapped_are_read_again() {
    require!(Root);
    let files = Files::new();
    let configs = files.configs();
    // As Kubernetes mounts a ConfigMap: `g.json -> ..data/g.json`, `..data -> ..v1`.
    let version = |name: &str| {
        let directory = configs.join(format!("..{name}"));
        fs::create_dir(&directory).unwrap();
        let group = group("p", &[device(name, "127.0.0.1")]);
        fs::write(directory.join("g.json"), group.to_string()).unwrap();
        let next = configs.join("..data_tmp");
        symlink(&directory, &next).unwrap();
        fs::rename(&next, configs.join("..data")).unwrap();
    };
    version("v1");
    symlink("..data/g.json", configs.join("g.json")).unwrap();
    let (agent, address) = files.serve(&[]);
    let is_up = |name: &str| {
        let metrics = http::get(address, "/metrics").map(|answer| answer.text());
        let series = format!("ping_up{{exporter=\"p\",device=\"{name}\"");
        metrics.is_ok_and(|metrics| common::value(&metrics, &series) == Some(1.0))
    };
    wait::until_true("the first version", || is_up("v1"));
    for (former, next) in [("v1", "v2"), ("v2", "v3")] {
        version(next);
        wait::until_true("the next version", || is_up(next) && !is_up(former));
        fs::remove_dir_all(configs.join(format!("..{former}"))).unwrap();
    }
    assert!(agent.stop().success());
}

#[test]
fn a_device_that_cannot_be_asked_is_told_and_so_is_its_return() {
    require!(Namespaces);
    in_namespace(|namespace| {
        let files = Files::new().group("g.json", &group("p", &[device("late", "192.0.2.1")]));
        let agent = files.run();
        agent.await_log("a device cannot be asked group=\"p\" device=\"late\" ip=\"192.0.2.1\" reason=\"no_route\"");
        namespace.add_address("lo", "192.0.2.1/32");
        agent.await_log("a device is up again group=\"p\" device=\"late\" ip=\"192.0.2.1\"");
        let log = agent.log();
        assert_eq!(log.matches("cannot be asked").count(), 1, "{log}");
        assert!(agent.stop().success());
    });
}

#[test]
fn a_full_log_ends_nothing() {
    require!(Root);
    let files = files();
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let agent = Running::start(&files, full);
    goes_on(&files, agent);
}

#[test]
fn a_reader_of_the_log_that_is_gone_ends_nothing() {
    require!(Root);
    let files = files();
    let mut agent = Running::start(&files, Stdio::piped());
    drop(agent.child.stderr.take());
    goes_on(&files, agent);
}

#[test]
fn a_reader_of_the_log_that_is_stuck_holds_up_nothing() {
    require!(Root);
    let files = files();
    let mut agent = Running::start(&files, Stdio::piped());
    let stuck = agent.child.stderr.take();
    goes_on(&files, agent);
    drop(stuck);
}

#[test]
fn standard_output_that_is_full_is_a_failure_and_a_reader_that_is_gone_is_none() {
    for arguments in [&["schema"][..], &["--help"], &["--version"]] {
        let print = |stdout: Stdio| {
            let mut child = Command::new(PROGRAM)
                .args(arguments)
                .stdout(stdout)
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            drop(child.stdout.take());
            child.wait_with_output().unwrap()
        };
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = print(full.into());
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{told}");
        assert!(told.contains("cannot print"), "{told}");
        let output = print(Stdio::piped());
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    }
}

#[test]
fn a_push_that_fails_is_a_failure_of_once_and_none_of_run() {
    require!(Root);
    // Nobody listens there.
    let gateway = pe_testkit::free_port().unwrap();
    let files = files().push(&push_to(&format!("http://{gateway}")));
    let once = files.once();
    let told = text(&once.stderr);
    assert_eq!(once.status.code(), Some(1), "{told}");
    assert!(told.contains(&gateway.to_string()), "{told}");
    let last = told.lines().last().unwrap();
    assert!(last.contains("Connection refused"), "no cause in {last}");
    assert!(once.stdout.is_empty());
    let agent = files.run();
    agent.await_log("WARN");
    assert!(agent.stop().success());
}

#[test]
fn clients_that_hold_connections_leave_descriptors_for_others() {
    require!(Root, Program("prometheus-pushgateway"));
    let gateway = Gateway::start();
    let files = files().push(&push_to(&gateway.url()));
    let address = pe_testkit::free_port().unwrap();
    let mut limited = Command::new("sh");
    limited
        .args(["-c", "ulimit -n 64; exec \"$0\" \"$@\"", PROGRAM])
        .args(["--configs", files.configs().to_str().unwrap()])
        .args(["--push-config", files.push_config().to_str().unwrap()])
        .args(["--listen", &address.to_string()]);
    let agent = common::Agent::start(limited, files.path());
    agent.await_log("started");
    let connect = || std::net::TcpStream::connect(address);
    wait::until_true("the listener", || connect().is_ok());
    let held: Vec<_> = (0..200).map(|_| connect().unwrap()).collect();
    assert_eq!(http::get(address, "/-/healthy").unwrap().status, 200);
    // Files and the gateway need some too.
    files.write_group("g.json", &group("p", &[device("new", "127.0.0.1")]));
    let is_new = || gateway.metrics().contains("ping_up{device=\"new\"");
    wait::until_true("the new device on the gateway", is_new);
    drop(held);
    assert!(
        !agent.log().contains("Too many open files"),
        "{}",
        agent.log()
    );
    assert!(agent.stop().success());
}

#[test]
fn a_start_that_fails_is_told_as_json_where_the_log_is() {
    require!(Root);
    let files = files();
    let (taken, configs) = (pe_testkit::free_port().unwrap(), files.configs());
    let listener = std::net::TcpListener::bind(taken).unwrap();
    let (taken, configs) = (taken.to_string(), configs.to_str().unwrap());
    let arguments = ["--configs", configs, "--listen", &taken];
    let output = pingexporter(&arguments, &[("PINGEXPORTER_LOG_FORMAT", "json")]);
    assert_eq!(output.status.code(), Some(1));
    let told: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
    let error = told["error"].as_str().unwrap();
    assert!(
        error.starts_with(&format!("cannot listen on {taken}: "))
            && error.contains("--listen none"),
        "{error}"
    );
    let output = pingexporter(&arguments, &[]);
    let told = text(&output.stderr);
    assert!(
        told.starts_with("pingexporter: cannot listen on "),
        "{told}"
    );
    drop(listener);
}

#[test]
fn a_setting_of_the_command_line_is_above_all_others() {
    let files = files();
    let configs = files.configs();
    let check = |set: &[&str]| {
        let arguments = [&["check", "--configs", configs.to_str().unwrap()], set].concat();
        let output = pingexporter(&arguments, &[("PINGEXPORTER_CONF_INTERVAL", "nonsense")]);
        (output.status.code(), text(&output.stderr))
    };
    let (code, told) = check(&[]);
    assert_eq!(code, Some(1));
    assert!(told.contains("PINGEXPORTER_CONF_INTERVAL"), "{told}");
    let (code, told) = check(&["--set", "conf.interval=1m 30s"]);
    assert_eq!(code, Some(0), "{told}");
    let (code, told) = check(&["--set", "conf.interval=-1"]);
    assert_eq!(code, Some(1));
    assert!(told.contains("--set conf.interval: "), "{told}");
    let (code, told) = check(&["--set", "conf.interwal=10s"]);
    assert_eq!(code, Some(1));
    assert!(told.contains("--set conf.interwal: "), "{told}");
}

#[test]
fn ping_takes_ranges_and_goes_on_without_bad_targets() {
    require!(Root);
    let output = pingexporter(
        &[
            "ping",
            "-c",
            "1",
            "127.0.0.10-127.0.0.12",
            "127.0.0.10",
            "224.0.0.1",
        ],
        &[],
    );
    let (lines, told) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert_eq!(told.lines().count(), 1, "{told}");
    assert!(
        told.contains("224.0.0.1") && told.contains("multicast"),
        "{told}"
    );
    let summaries = |address: &str| {
        let start = format!("{address}: 1 sent, 1 received");
        lines
            .lines()
            .filter(|line| line.starts_with(&start))
            .count()
    };
    assert_eq!(summaries("127.0.0.10"), 2, "{lines}");
    assert_eq!(
        (summaries("127.0.0.11"), summaries("127.0.0.12")),
        (1, 1),
        "{lines}"
    );

    let output = pingexporter(&["ping", "-c", "1", "0.0.0.0"], &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
}
