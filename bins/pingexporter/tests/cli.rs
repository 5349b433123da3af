//! The command line, as a user meets it.
#![allow(clippy::unwrap_used)]

mod common;

use std::process::{Command, Output};

use common::{Files, PROGRAM, device, fixture, group, value};
use pe_testkit::{in_namespace, promtool_check_metrics, require, wait};
use serde_json::{Value, json};

fn pingexporter(arguments: &[&str]) -> Output {
    Command::new(PROGRAM)
        .args(arguments)
        .env_clear()
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn help_is_stable() {
    let help = |arguments: &[&str]| text(&pingexporter(arguments).stdout);
    insta::assert_snapshot!("help", help(&["--help"]));
    insta::assert_snapshot!("help_run", help(&["run", "--help"]));
    insta::assert_snapshot!("help_check", help(&["check", "--help"]));
    insta::assert_snapshot!("help_once", help(&["once", "--help"]));
    insta::assert_snapshot!("help_schema", help(&["schema", "--help"]));
    insta::assert_snapshot!("help_queue", help(&["queue", "--help"]));
    insta::assert_snapshot!("help_ping", help(&["ping", "--help"]));
    insta::assert_snapshot!("help_init", help(&["init", "--help"]));
}

#[test]
fn exit_codes_are_those_of_the_documentation() {
    let directory = fixture("configs/loopback/project1");
    let directory = directory.to_str().unwrap();
    let good = pingexporter(&["check", "--configs", directory]);
    assert_eq!(good.status.code(), Some(0), "{}", text(&good.stderr));
    assert!(
        text(&good.stderr).contains("in order: 2 devices in 1 file,"),
        "{}",
        text(&good.stderr)
    );
    for wrong_usage in [
        &[][..],
        &["--nonsense"],
        &["check"],
        &["ping"],
        &["init"],
        &["--configs", directory, "--listen", "9"],
    ] {
        let output = pingexporter(wrong_usage);
        assert_eq!(
            output.status.code(),
            Some(2),
            "{wrong_usage:?}: {}",
            text(&output.stderr)
        );
        assert!(output.stdout.is_empty());
    }
    let missing = pingexporter(&["check", "--configs", "no/such/directory"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(
        text(&missing.stderr).contains("no/such/directory"),
        "{}",
        text(&missing.stderr)
    );
}

#[test]
fn what_init_writes_can_be_checked_and_run() {
    require!(Root);
    let directory = tempfile::tempdir().unwrap();
    let site = directory.path().join("my site");
    let output = pingexporter(&["init", site.to_str().unwrap()]);
    let told = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let configs = site.join("configs").to_str().unwrap().to_owned();
    assert!(
        told.ends_with(&format!("  pingexporter --configs '{configs}'\n")),
        "{told}"
    );
    let push = site.join("push_config.json").to_str().unwrap().to_owned();
    let check = pingexporter(&["check", "--configs", &configs, "--push-config", &push]);
    assert_eq!(
        text(&check.stderr),
        "the configuration is in order: 3 devices in 1 file, 0 warnings\n"
    );
    let once = text(&pingexporter(&["once", "--configs", &configs]).stdout);
    let is_up = |line: &&str| line.starts_with("ping_up{") && line.ends_with(" 1");
    assert_eq!(once.lines().filter(is_up).count(), 3, "{once}");

    let again = pingexporter(&["init", site.to_str().unwrap()]);
    assert_eq!(again.status.code(), Some(1));
    let told = text(&again.stderr);
    assert!(told.contains("office.json is there already"), "{told}");
}

#[test]
fn check_prints_every_problem_with_its_place() {
    let files = Files::new();
    std::fs::write(
        files.configs().join("a.json"),
        "{\n  \"conf\": {\"prom_id\": \"a\", \"interval\": -1},\n  \"jobs\": [{\"job\": \"\", \"ip\": \"127.0.0.1\", \"metrics\": [\"pong\"]}]\n}",
    )
    .unwrap();
    std::fs::write(files.configs().join("b.json"), "[]").unwrap();
    let output = pingexporter(&["check", "--configs", files.configs().to_str().unwrap()]);
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    for expected in ["a.json:2:", "a.json:3:", "b.json:1:1:", "ping"] {
        assert!(errors.contains(expected), "no {expected} in {errors}");
    }
}

#[test]
fn check_notes_a_pushgateway_that_sites_may_share_without_labels() {
    let check = |push: &Value| {
        let files = Files::new()
            .group("a.json", &group("a", &[device("router", "127.0.0.1")]))
            .push(push);
        let configs = files.configs();
        let push = files.push_config();
        let arguments = ["check", "--configs", configs.to_str().unwrap()];
        let output =
            pingexporter(&[&arguments[..], &["--push-config", push.to_str().unwrap()]].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stderr)
    };
    let original = json!({"ip_pushgateway": "127.0.0.1", "port_pushgateway": 9091});
    let told = check(&original);
    assert!(
        told.contains("push_config.json:1:19: note: there are no external labels"),
        "{told}"
    );
    // A note is no warning.
    assert!(told.ends_with("1 device in 1 file, 0 warnings\n"), "{told}");
    let mut labelled = original;
    labelled["external_labels"] = json!({"site": "plant-a"});
    let told = check(&labelled);
    assert!(!told.contains("note"), "{told}");
}

#[test]
fn once_prints_what_promtool_accepts() {
    require!(Program("promtool"), Root);
    let jobs = [
        device("a \"b\"", "127.0.0.1"),
        device("six", "::1"),
        device("name", "localhost"),
    ];
    let output = Files::new().group("g.json", &group("p", &jobs)).once();
    let metrics = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(
        metrics
            .lines()
            .filter(|line| line.starts_with("ping_up{") && line.ends_with(" 1"))
            .count(),
        3,
        "{metrics}"
    );
    promtool_check_metrics(&metrics).unwrap();
}

#[test]
fn a_source_that_can_never_work_is_refused_by_check() {
    let from = |job: &str, ip: &str, source: &str| json!({"job": job, "ip": ip, "metrics": [{"ping": {"source": source}}]});
    let jobs = [
        from("four", "10.1.0.2", "10.1.0.1"),
        from("six", "fd00::2", "10.1.0.1"),
        from("range-{ip}", "fd00::3-fd00::5", "10.1.0.1"),
        from("back", "10.1.0.3", "fd00::1"),
        from("group", "10.1.0.4", "224.0.0.1"),
        device("multicast", "224.0.0.1"),
        json!({"job": "name6", "ip": "six.invalid", "family": "6", "metrics": [{"ping": {"source": "10.1.0.1"}}]}),
        json!({"job": "both", "ip": "both.invalid", "family": "both", "metrics": [{"ping": {"source": "fd00::1"}}]}),
        // The metric's own family is in the place of the device's.
        json!({"job": "own", "ip": "own.invalid", "family": "6", "metrics": [{"ping": {"source": "10.1.0.1", "family": "4"}}]}),
        from("any", "any.invalid", "10.1.0.1"),
    ];
    let files = Files::new().group("g.json", &group("p", &jobs));
    let output = pingexporter(&["check", "--configs", files.configs().to_str().unwrap()]);
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    for (times, expected) in [
        (
            2,
            "`source` of metric `ping` is IPv4, and the address is IPv6",
        ),
        (
            1,
            "`source` of metric `ping` is IPv6, and the address is IPv4",
        ),
        (
            1,
            "`source` of metric `ping` is IPv4, and `family` asks for IPv6",
        ),
        (
            1,
            "`source` of metric `ping` is IPv6, and `family` asks for IPv4",
        ),
        (1, "224.0.0.1 is not a unicast address"),
        (1, "`224.0.0.1` includes a multicast address"),
    ] {
        assert_eq!(
            errors.matches(expected).count(),
            times,
            "{expected}: {errors}"
        );
    }
}

#[test]
fn a_device_whose_interface_is_missing_keeps_no_other_from_being_measured() {
    require!(Namespaces);
    in_namespace(|_| {
        let through = |job: &str, own: Value| json!({"job": job, "ip": "127.0.0.1", "metrics": [{"ping": own}]});
        let jobs = [
            device("fine", "127.0.0.2"),
            through("ppp", json!({"interface": "ppp9"})),
            through("source", json!({"source": "10.99.0.1"})),
        ];
        let output = Files::new().group("g.json", &group("p", &jobs)).once();
        let metrics = text(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let of = |name: &str, device: &str| {
            value(
                &metrics,
                &format!("{name}{{exporter=\"p\",device=\"{device}\","),
            )
        };
        assert_eq!(of("ping_up", "fine"), Some(1.0), "{metrics}");
        for (device, reason) in [("ppp", "no_interface"), ("source", "no_source_address")] {
            assert_eq!(of("ping_up", device), None, "{metrics}");
            let told = metrics.lines().any(|line| {
                line.starts_with("ping_errors_total{")
                    && line.contains(&format!("device=\"{device}\""))
                    && line.contains(&format!("reason=\"{reason}\""))
            });
            assert!(told, "{device}: {metrics}");
        }
    });
}

#[test]
fn a_silent_device_is_down_and_delays_no_other() {
    require!(Namespaces);
    in_namespace(|namespace| {
        let (silent, silent6) = (namespace.silent_v4(7), namespace.silent_v6(7));
        let jobs = [
            device("up", "127.0.0.1"),
            device("down", &silent.to_string()),
            device("down6", &silent6.to_string()),
            device("no route", "192.0.2.1"),
        ];
        let output = Files::new().group("g.json", &group("p", &jobs)).once();
        let metrics = text(&output.stdout);
        let of = |name: &str, device: &str| {
            value(
                &metrics,
                &format!("{name}{{exporter=\"p\",device=\"{device}\","),
            )
        };
        assert_eq!(
            of("ping_up", "up"),
            Some(1.0),
            "{metrics}{}",
            text(&output.stderr)
        );
        // Nothing was learned of a device that this machine could not ask.
        assert_eq!(of("ping_up", "no route"), None, "{metrics}");
        for down in ["down", "down6"] {
            assert_eq!(
                (of("dev_ping", down), of("ping_up", down)),
                (Some(3000.0), Some(0.0)),
                "{metrics}"
            );
            assert_eq!(of("ping_rtt_mean_seconds", down), None);
        }
        assert_eq!(
            (of("ping_loss_ratio", "down"), of("ping_loss_ratio", "up")),
            (Some(1.0), Some(0.0))
        );
        // The answer of the one that is up did not wait for the others.
        assert!(of("dev_ping", "up").unwrap() < 200.0);
        assert!(
            metrics.contains("device=\"no route\",ip=\"192.0.2.1\",reason=\"no_route\"} 1"),
            "{metrics}"
        );
    });
}

#[test]
fn two_thousand_devices_are_all_up() {
    require!(Root);
    let jobs: Vec<_> = (0..2000)
        .map(|n| {
            device(
                &format!("device {n}"),
                &format!("127.1.{}.{}", n / 200, n % 200 + 1),
            )
        })
        .collect();
    let output = Files::new().group("g.json", &group("p", &jobs)).once();
    let metrics = text(&output.stdout);
    let up = metrics
        .lines()
        .filter(|line| line.starts_with("ping_up{") && line.ends_with(" 1"))
        .count();
    assert_eq!(up, 2000, "{}", text(&output.stderr));
    assert_eq!(
        value(&metrics, "exporter_jobs{exporter=\"p\"}"),
        Some(2000.0)
    );
}

#[test]
fn the_first_start_needs_no_gateway() {
    require!(Root);
    let files = Files::new().group("g.json", &group("p", &[device("d", "127.0.0.1")]));
    let (agent, address) = files.serve(&[]);
    let metrics = wait::until("results over HTTP", || {
        let text = pe_testkit::http::get(address, "/metrics").ok()?.text();
        text.contains("dev_ping{exporter=\"p\",device=\"d\",ip=\"127.0.0.1\"}")
            .then_some(text)
    });
    assert!(
        metrics.contains("process_resident_memory_bytes "),
        "{metrics}"
    );
    assert!(
        agent.log().contains(&format!("http://{address}/metrics")),
        "{}",
        agent.log()
    );
    agent.signal("INT");
    agent.await_log("stopped");
}

#[test]
fn schemas_are_those_of_the_documentation() {
    for (kind, file) in [("group", "group"), ("push", "push"), ("targets", "targets")] {
        let printed = text(&pingexporter(&["schema", kind]).stdout);
        let kept = fixture("../docs/schema").join(format!("{file}.schema.json"));
        let kept: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(kept).unwrap()).unwrap();
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&printed).unwrap(),
            kept
        );
    }
}

#[test]
fn json_logs_are_json() {
    require!(Root);
    let files = Files::new().group("g.json", &group("p", &[device("d", "127.0.0.1")]));
    let mut command = pe_testkit::command(PROGRAM);
    command.arg("--configs").arg(files.configs()).args([
        "--listen",
        "none",
        "--log-format",
        "json",
        "--debug",
    ]);
    let agent = common::Agent::start(command, files.path());
    agent.await_log("started");
    let log = agent.log();
    for line in log.lines() {
        assert!(
            serde_json::from_str::<serde_json::Value>(line).is_ok(),
            "{line}"
        );
    }
    assert!(agent.stop().success());
}

#[test]
fn a_terminal_gets_colours_unless_they_are_not_wanted() {
    require!(Program("script"));
    let files = Files::new().group("g.json", &group("p", &[device("d", "127.0.0.1")]));
    let run = format!("{PROGRAM} check --configs {}", files.configs().display());
    let on_terminal = |no_color: &str| {
        // The warning of a filter that is none is what it logs.
        let mut command = pe_testkit::command("script");
        command
            .args(["--quiet", "--return", "--command", &run, "/dev/null"])
            .env("PINGEXPORTER_LOG", "[")
            .env("NO_COLOR", no_color);
        let output = command.output().unwrap();
        let shown = text(&output.stdout);
        assert!(output.status.success(), "{shown}");
        assert!(shown.contains("the configuration is in order"), "{shown}");
        assert!(shown.contains("WARN"), "{shown}");
        shown
    };
    assert!(on_terminal("").contains("\u{1b}[33m WARN\u{1b}[0m"));
    let plain = on_terminal("1");
    assert!(!plain.contains('\u{1b}'), "{plain}");
}

/// `setpriv` arguments for an unprivileged user.
const NOBODY: [&str; 3] = ["--reuid=65534", "--regid=65534", "--clear-groups"];

#[test]
fn without_root_one_capability_is_enough_and_its_lack_is_told() {
    require!(Root, Program("setpriv"));
    // A place that every user can reach.
    let files = Files::new().group(
        "g.json",
        &group("p", &[device("four", "127.0.0.1"), device("six", "::1")]),
    );
    let program = files.path().join("pingexporter");
    std::fs::copy(PROGRAM, &program).unwrap();
    assert!(
        Command::new("chmod")
            .args(["-R", "a+rX"])
            .arg(files.path())
            .status()
            .unwrap()
            .success()
    );
    let once = |capabilities: &[&str]| {
        Command::new("setpriv")
            .args(NOBODY)
            .args(capabilities)
            .args(["--bounding-set=-all,+net_raw", "--"])
            .arg(&program)
            .args(["once", "--configs"])
            .arg(files.configs())
            .output()
            .unwrap()
    };
    let allowed = once(&["--inh-caps=+net_raw", "--ambient-caps=+net_raw"]);
    let metrics = text(&allowed.stdout);
    assert!(allowed.status.success(), "{}", text(&allowed.stderr));
    assert_eq!(
        metrics
            .lines()
            .filter(|line| line.starts_with("ping_up{") && line.ends_with(" 1"))
            .count(),
        2,
        "{metrics}"
    );

    // In a namespace whose ping_group_range lets nobody in, and one that lets that user in.
    require!(Namespaces);
    in_namespace(|namespace| {
        namespace.sysctl("ipv4.ping_group_range", "1 0");
        let refused = once(&["--inh-caps=-all"]);
        let message = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(1), "{message}");
        assert!(
            message.contains("cap_net_raw") && message.contains("ping_group_range"),
            "{message}"
        );

        namespace.sysctl("ipv4.ping_group_range", "65534 65534");
        let datagram = once(&["--inh-caps=-all"]);
        let metrics = text(&datagram.stdout);
        assert!(datagram.status.success(), "{}", text(&datagram.stderr));
        assert_eq!(
            metrics
                .lines()
                .filter(|line| line.starts_with("ping_up{") && line.ends_with(" 1"))
                .count(),
            2,
            "{metrics}"
        );
    });
}

#[test]
fn ping_speaks_like_ping_and_like_json() {
    require!(Root);
    let output = pingexporter(&["ping", "-c", "2", "-i", "10ms", "127.0.0.1", "::1"]);
    let lines = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    // How long it took is up to the machine.
    for expected in [
        "64 bytes from 127.0.0.1: seq=0 ttl=64 time=",
        "64 bytes from ::1: seq=1 ",
        "127.0.0.1: 2 sent, 2 received, 0% lost; RTT best/mean/worst/std deviation ",
    ] {
        let rest = lines.lines().find_map(|line| line.strip_prefix(expected));
        let rest = rest.unwrap_or_else(|| panic!("no {expected} in {lines}"));
        assert!(rest.ends_with(" ms"), "{lines}");
        let numbers = rest
            .trim_start_matches("ttl=64 time=")
            .trim_end_matches(" ms");
        for number in numbers.split('/') {
            assert!(number.parse::<f64>().is_ok_and(|ms| ms >= 0.0), "{lines}");
        }
    }
    let output = pingexporter(
        &["ping", "--json", "127.0.0.1"]
            .map(|word| word)
            .iter()
            .chain(&["-c", "1"])
            .copied()
            .collect::<Vec<_>>(),
    );
    let events: Vec<serde_json::Value> = text(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(
        (events[0]["event"].as_str(), events[1]["event"].as_str()),
        (Some("reply"), Some("summary"))
    );
    assert!(events[0]["rtt_seconds"].as_f64().unwrap() > 0.0);
    let output = pingexporter(&["ping", "--rate", "0", "127.3.0.0/24"]);
    assert!(
        text(&output.stdout).ends_with(" 254 up, 0 down\n"),
        "{}",
        text(&output.stdout)
    );
}

#[test]
fn ping_tells_what_does_not_answer() {
    require!(Namespaces);
    in_namespace(|namespace| {
        let silent = namespace.silent_v4(1).to_string();
        let output = pe_testkit::command(PROGRAM)
            .args(["ping", "-c", "1", "-W", "50ms", &silent, "192.0.2.1"])
            .output()
            .unwrap();
        let lines = text(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{lines}");
        assert!(
            lines.contains(&format!("no answer from {silent}: seq=0 no reply in time")),
            "{lines}"
        );
        assert!(
            lines.contains("no answer from 192.0.2.1: seq=0 not sent: this machine has no route"),
            "{lines}"
        );
        assert!(
            lines.contains(&format!("{silent}: 1 sent, 0 received, 100% lost\n")),
            "{lines}"
        );
    });
}
