//! The agent against Debian's Pushgateway.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;

use common::{Files, device, fixture, group, push_to, value};
use pe_testkit::{Gateway, Nginx, require, wait};
use serde_json::json;

#[test]
fn the_originals_files_give_the_originals_series() {
    require!(Program("prometheus-pushgateway"), Root);
    let gateway = Gateway::start();
    for (directory, device, addresses) in [
        ("readme", "MyDevice01", &["127.0.0.57"][..]),
        ("project1", "Device01", &["127.0.0.57", "127.0.0.58"]),
    ] {
        let port = gateway.address().port().to_string();
        let push = json!({"ip_pushgateway": "127.0.0.1", "port_pushgateway": port});
        let files = Files::new().push(&push);
        for file in fs::read_dir(fixture("configs/loopback").join(directory)).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), files.configs().join(file.file_name())).unwrap();
        }
        let agent = files.run();
        let series = |ip: &str| {
            format!("dev_ping{{device=\"{device}\",instance=\"\",ip=\"{ip}\",job=\"{device}\"}} ")
        };
        for ip in addresses {
            let rtt = wait::until("the device's RTT", || {
                value(&gateway.metrics(), &series(ip))
            });
            assert!(rtt > 0.0 && rtt < 3000.0, "{rtt}");
        }
        let metrics = gateway.metrics();
        let jobs = value(&metrics, "exporter_jobs{instance=\"\",job=\"Project1\"}");
        assert_eq!(jobs, Some(addresses.len() as f64), "{metrics}");
        let duration = value(
            &metrics,
            "exporter_duration{instance=\"\",job=\"Project1\"}",
        )
        .unwrap();
        assert!(duration > 0.0 && duration < 55.0, "{duration}");
        for help in [
            "# HELP dev_ping Ping to device (ms)\n",
            "# HELP exporter_duration Duration of all metrics exprot\n",
            "# HELP exporter_jobs Number of jobs to export\n",
        ] {
            assert!(metrics.contains(help), "no {help} in {metrics}");
        }
        assert!(agent.stop().success());
    }
    assert!(!gateway.log().contains("inconsistent"), "{}", gateway.log());
}

#[test]
fn metrics_of_the_agent_go_with_those_of_the_gateway_itself() {
    require!(Program("prometheus-pushgateway"), Root);
    let gateway = Gateway::start();
    let files = Files::new()
        .group("g.json", &group("p", &[device("d", "127.0.0.1")]))
        .push(&push_to(&gateway.url()));
    let agent = files.run();
    let metrics = wait::until("the agent's own metrics", || {
        let metrics = gateway.metrics();
        let own = metrics
            .lines()
            .any(|line| line.starts_with("process_") && line.contains("job=\"pingexporter\""));
        own.then_some(metrics)
    });
    // Its own, which have no job, are of the same families.
    assert!(
        metrics.contains("\nprocess_start_time_seconds "),
        "{metrics}"
    );
    assert!(!gateway.log().contains("inconsistent"), "{}", gateway.log());
    assert!(agent.stop().success());
}

#[test]
fn names_arrive_intact_in_both_groupings() {
    require!(Program("prometheus-pushgateway"), Root);
    let names = [
        "line 1/press 2",
        "Gießerei №3",
        "say \"hi\"",
        "a\\b",
        "50 % + more",
        "plain",
        "..",
        "tab\there",
    ];
    let jobs: Vec<_> = names
        .iter()
        .enumerate()
        .map(|(n, name)| device(name, &format!("127.0.1.{}", n + 1)))
        .collect();
    for grouping in ["device", "config"] {
        let gateway = Gateway::start();
        let mut push = push_to(&gateway.url());
        push["grouping"] = grouping.into();
        let files = Files::new()
            .group("a.json", &group("Plant/1 \"north\"", &jobs))
            .push(&push);
        let output = files.once();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(output.stdout.is_empty());
        let groups = gateway.groups();
        let mut expected: Vec<&str> = vec!["Plant/1 \"north\"", "pingexporter"];
        if grouping == "device" {
            expected.extend(names);
        }
        expected.sort_unstable();
        let mut found: Vec<&str> = groups
            .iter()
            .map(|g| g["labels"]["job"].as_str().unwrap())
            .collect();
        found.sort_unstable();
        assert_eq!(found, expected);
        let metrics = gateway.metrics();
        for name in names {
            let name = name.replace('\\', "\\\\").replace('"', "\\\"");
            let up = value(&metrics, &format!("ping_up{{device=\"{name}\","));
            assert_eq!(up, Some(1.0), "{name} in {metrics}");
        }
        assert!(!gateway.log().contains("inconsistent"), "{}", gateway.log());
    }
}

#[test]
fn a_wrong_password_is_told_and_the_cycle_goes_on() {
    require!(Program("prometheus-pushgateway"), Program("nginx"), Root);
    let gateway = Gateway::start();
    let nginx = Nginx::with_basic_auth(gateway.address(), "operator", "right");
    let files = Files::new().group("a.json", &group("p", &[device("d", "127.0.0.1")]));
    let push = |password: &str| {
        let mut push = push_to(&nginx.url());
        push["username_pushgateway"] = "operator".into();
        push["pass_pushgateway"] = password.into();
        push
    };
    let files = files.push(&push("wrong-secret"));
    let mut agent = files.run();
    agent.await_log("refuses access (401 Unauthorized): check user and password");
    let requests = nginx.access_log().lines().count();
    wait::until_true("further cycles", || {
        nginx.access_log().lines().count() > requests + 4
    });
    assert!(agent.is_running());
    let log = agent.log();
    assert_eq!(log.matches("refuses access").count(), 1, "{log}");
    assert!(!log.contains("wrong-secret"), "{log}");
    // The right one, put in place while the program runs.
    let files = files.push(&push("right"));
    agent.signal("HUP");
    wait::until_true("the device's series", || {
        gateway.metrics().contains("dev_ping{device=\"d\"")
    });
    assert!(agent.stop().success());
    drop(files);
}

#[test]
fn a_gateway_may_go_and_come_back() {
    require!(Program("prometheus-pushgateway"), Root);
    let mut gateway = Gateway::start();
    let files = Files::new()
        .group("a.json", &group("p", &[device("d", "127.0.0.1")]))
        .push(&push_to(&gateway.url()));
    let mut agent = files.run();
    let arrived = |gateway: &Gateway| gateway.metrics().contains("dev_ping{device=\"d\"");
    wait::until_true("the first push", || arrived(&gateway));
    for round in 1..=2 {
        gateway.kill();
        wait::until_true("the loss to be told", || {
            agent.log().matches("pushes fail").count() == round
        });
        // Some more cycles against nobody.
        let cycles = std::time::Duration::from_secs(2);
        assert!(wait::within(cycles, || (!agent.is_running()).then_some(())).is_none());
        assert_eq!(
            agent.log().matches("pushes fail").count(),
            round,
            "{}",
            agent.log()
        );
        gateway.restart().unwrap();
        wait::until_true("the next push", || arrived(&gateway));
        wait::until_true("the return to be told", || {
            agent.log().matches("arrive again").count() == round
        });
    }
    assert!(agent.stop().success());
    assert!(!gateway.log().contains("inconsistent"), "{}", gateway.log());
}

#[test]
fn a_reload_withdraws_what_is_gone_and_a_bad_file_changes_nothing() {
    require!(Program("prometheus-pushgateway"), Root);
    let gateway = Gateway::start();
    let both = [device("stays", "127.0.0.1"), device("goes", "127.0.0.2")];
    let files = Files::new()
        .group("a.json", &group("p", &both))
        .group("b.json", &group("q", &[device("x", "127.0.0.3")]));
    let files = files.push(&push_to(&gateway.url()));
    let agent = files.run();
    let requests =
        || value(&gateway.metrics(), "ping_requests_total{device=\"stays\"").unwrap_or(0.0);
    wait::until_true("all groups", || {
        gateway.groups().len() == 6 && requests() >= 2.0
    });

    // Without a signal: the changed file is noticed.
    fs::write(files.configs().join("a.json"), "{ \"conf\": 1").unwrap();
    agent.await_log("the one before stays in force");
    agent.await_log("a.json:1:");
    assert_eq!(gateway.groups().len(), 6);

    let before = requests();
    files.write_group("a.json", &group("p", &both[..1]));
    fs::remove_file(files.configs().join("b.json")).unwrap();
    wait::until_true("the groups to go", || gateway.groups().len() == 3);
    assert!(requests() >= before, "counters go on");
    let metrics = gateway.metrics();
    assert!(
        !metrics.contains("\"goes\"")
            && !metrics.contains("\"x\"")
            && !metrics.contains("job=\"q\""),
        "{metrics}"
    );
    // The agent's own log lies beside the push configuration; its growth is no change of the configuration.
    let log = agent.log();
    assert_eq!(
        log.matches("the configuration was reloaded").count(),
        1,
        "{log}"
    );
    assert_eq!(log.matches("stays in force").count(), 1, "{log}");
    assert!(agent.stop().success());
}

#[test]
fn https_needs_a_certificate_that_is_trusted() {
    require!(
        Program("prometheus-pushgateway"),
        Program("nginx"),
        Program("openssl"),
        Root
    );
    let gateway = Gateway::start();
    let nginx = Nginx::with_tls(gateway.address());
    let url = format!("https://localhost:{}/", nginx.address().port());
    let files = Files::new()
        .group("a.json", &group("p", &[device("d", "127.0.0.1")]))
        .push(&push_to(&url));
    let distrusted = files.once();
    let message = String::from_utf8_lossy(&distrusted.stderr).into_owned();
    assert_eq!(distrusted.status.code(), Some(1));
    assert!(
        message.contains("cannot connect to https://localhost") && message.contains("certificate"),
        "{message}"
    );
    let trusted = files
        .once_command()
        .env("SSL_CERT_FILE", nginx.certificate())
        .output()
        .unwrap();
    assert!(
        trusted.status.success(),
        "{}",
        String::from_utf8_lossy(&trusted.stderr)
    );
    assert!(gateway.metrics().contains("dev_ping{device=\"d\""));
}

#[test]
fn once_fails_each_time_when_a_push_is_refused() {
    require!(Program("prometheus-pushgateway"), Program("nginx"), Root);
    let gateway = Gateway::start();
    let nginx =
        Nginx::with_directives(gateway.address(), "location /metrics/job/d { return 400; }");
    let files = Files::new()
        .group("a.json", &group("p", &[device("d", "127.0.0.1")]))
        .push(&push_to(&nginx.url()));
    for run in 0..10 {
        let output = files.once();
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "run {run}: {message}");
        assert!(
            message.contains("/metrics/job/d (400 Bad Request)"),
            "run {run}: {message}"
        );
    }
}

#[test]
fn pushes_go_through_the_proxy_of_the_environment() {
    require!(Program("prometheus-pushgateway"), Program("nginx"), Root);
    let gateway = Gateway::start();
    // It passes on what names any host, as a proxy does, to the one gateway.
    let proxy = Nginx::with_basic_auth(gateway.address(), "u", "p");
    let files = Files::new()
        .group("a.json", &group("p", &[device("d", "127.0.0.1")]))
        .push(&push_to("http://gateway.invalid:9091"));
    let once = |variables: &[(&str, &str)]| {
        let output = files
            .once_command()
            .envs(variables.iter().copied())
            .output()
            .unwrap();
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), message)
    };
    let address = proxy.address();
    let url = format!("http://{address}");
    let (code, message) = once(&[("HTTP_PROXY", &url), ("NO_PROXY", "invalid")]);
    assert_eq!(code, Some(1), "{message}");
    assert!(message.contains("gateway.invalid"), "{message}");
    assert!(!proxy.access_log().contains("gateway.invalid"));
    let (_, message) = once(&[("http_proxy", &url)]);
    assert!(
        proxy
            .access_log()
            .contains("PUT http://gateway.invalid:9091/metrics/job/d"),
        "{message}{}",
        proxy.access_log()
    );
    let (code, message) = once(&[("HTTP_PROXY", "socks5://u:hunter2@127.0.0.1:1")]);
    assert_eq!(code, Some(1));
    assert!(
        message.contains("HTTP_PROXY") && !message.contains("hunter2"),
        "{message}"
    );
}
