//! What a node_exporter says, passed on by the running program, beside what a Prometheus scrapes from it.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use common::{Files, device, group};
use pe_testkit::{Gateway, Prometheus, PrometheusOptions, Server, http, require, wait};
use serde_json::json;

/// Series of each type, beside those of the machine that stay the same.
const TEXTFILE: &str = "# HELP site_requests Requests\n# TYPE site_requests histogram\n\
    site_requests_bucket{path=\"/\",le=\"0.005\"} 3\nsite_requests_bucket{path=\"/\",le=\"1e+06\"} 5\n\
    site_requests_bucket{path=\"/\",le=\"+Inf\"} 7\nsite_requests_sum{path=\"/\"} 1.5e+06\nsite_requests_count{path=\"/\"} 7\n\
    # HELP site_times Times\n# TYPE site_times summary\nsite_times{quantile=\"0.5\"} 0.25\nsite_times{quantile=\"0.99\"} NaN\n\
    site_times_sum 17.25\nsite_times_count 9\n\
    # HELP site_disk Bytes of a disk\n# TYPE site_disk gauge\nsite_disk{device=\"sda\",note=\"a \\\"b\\\" \\\\ c\"} 1.2345678901234567e+19\n";

fn node_exporter(directory: PathBuf) -> Server {
    let started = Server::start("prometheus-node-exporter", "/", move |address, _| {
        let mut command = pe_testkit::command("prometheus-node-exporter");
        command
            .arg(format!("--web.listen-address={address}"))
            .args([
                "--web.disable-exporter-metrics",
                "--collector.disable-defaults",
                "--collector.uname",
                "--collector.os",
                "--collector.textfile",
            ])
            .arg(format!(
                "--collector.textfile.directory={}",
                directory.display()
            ));
        Ok(command)
    });
    started.unwrap()
}

/// The series of a selector: name and labels but for those of who scraped it, and the value as text.
fn series(prometheus: &Prometheus, selector: &str) -> BTreeMap<String, String> {
    let not = "up|scrape_.*|node_scrape_collector_duration_seconds|probe_.*|ping_.*|dev_ping|exporter_.*|pingexporter_.*|process_.*";
    let found = prometheus.query(&format!("{{{selector},__name__!~\"{not}\"}}"));
    let found = found.as_array().unwrap().iter();
    found
        .map(|one| {
            let labels = one["metric"].as_object().unwrap().iter();
            let labels = labels.filter(|(name, _)| {
                !matches!(name.as_str(), "instance" | "job" | "ip" | "exporter")
            });
            let labels: Vec<String> = labels
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            let value = one["value"][1].as_str().unwrap().to_owned();
            (labels.join(","), value)
        })
        .collect()
}

fn write_page(directory: &Path, text: &str) {
    // As the collector's manual has it: never half a file.
    fs::write(directory.join("new"), text).unwrap();
    fs::rename(directory.join("new"), directory.join("site.prom")).unwrap();
}

#[test]
fn series_arrive_as_a_prometheus_scrapes_them_and_vanish_as_they_do() {
    require!(
        Program("prometheus"),
        Program("prometheus-pushgateway"),
        Program("prometheus-node-exporter")
    );
    let pages = tempfile::tempdir().unwrap();
    write_page(pages.path(), TEXTFILE);
    let node = node_exporter(pages.path().to_owned());
    let gateway = Gateway::start();
    let own = pe_testkit::free_port().unwrap();
    let options = PrometheusOptions::default()
        .scrape("direct", node.address())
        .scrape("pulled", own)
        .remote_write_receiver();
    let prometheus = Prometheus::start(options);

    let mut host = device("web", "127.0.0.1");
    let exposition = json!({"port": node.address().port(), "identity": "instance"});
    host["metrics"] = json!([{ "exposition": exposition }]);
    let mut plant = group("plant", &[host]);
    plant["conf"]["interval"] = json!("1s");
    plant["conf"]["timeout"] = json!("900ms");
    let url = format!("{}/api/v1/write", prometheus.url());
    let files = Files::new().group("g.json", &plant).push(&json!({"sinks": [
        {"remote_write": {"url": url}},
        {"pushgateway": {"url": gateway.url(), "grouping": "config"}}
    ]}));
    let mut command = pe_testkit::command(common::PROGRAM);
    command
        .arg("--configs")
        .arg(files.configs())
        .arg("--push-config")
        .arg(files.push_config())
        .args(["--listen", &own.to_string()])
        .arg("--state-dir")
        .arg(files.path().join("state"));
    let agent = common::Agent::start(command, files.path());

    let passed_on = "job=\"plant\",instance=\"web\"";
    for (what, selector) in [
        ("by remote write", passed_on),
        ("from /metrics", "exporter=\"plant\",instance=\"web\""),
    ] {
        wait::until_true(&format!("the same series {what}"), || {
            let direct = series(&prometheus, "job=\"direct\"");
            direct.len() > 12 && series(&prometheus, selector) == direct
        });
    }
    let disk = series(&prometheus, &format!("{passed_on},device=\"sda\""));
    assert_eq!(disk.len(), 1, "{disk:?}");
    assert_eq!(prometheus.await_value("probe_success{job=\"plant\"}"), 1.0);
    let keys = || gateway.keys();
    wait::until_true("the push group of its own", || {
        keys().contains(&"plant/scraper=exposition".to_owned())
    });
    let text = gateway.metrics();
    assert!(text.contains("# TYPE site_requests histogram"), "{text}");
    assert!(text.contains("# TYPE site_times summary"), "{text}");
    assert!(!gateway.log().contains("inconsistent"), "{}", gateway.log());

    write_page(pages.path(), &TEXTFILE.replace("site_disk", "site_other"));
    let gone = || prometheus.query(&format!("site_disk{{{passed_on}}}"));
    wait::until_true("a series that is gone to be stale", || {
        gone().as_array().unwrap().is_empty()
            && !series(&prometheus, &format!("{passed_on},device=\"sda\"")).is_empty()
    });
    wait::until_true("the gateway to lose it", || {
        let text = gateway.metrics();
        text.contains("site_other") && !text.contains("site_disk")
    });
    assert!(agent.stop().success());
}

/// Puts a gauge or counter under a name that nobody else uses.
fn put(gateway: &Gateway, kind: &str) {
    let text = format!("# TYPE site_jobs {kind}\nsite_jobs 1\n");
    let path = "/metrics/job/somebody-else";
    let response = http::request(gateway.address(), "PUT", path, &[], text.as_bytes()).unwrap();
    assert_eq!(response.status, 200, "{}", response.text());
}

#[test]
fn a_gateway_that_refuses_what_a_program_says_takes_what_was_measured() {
    require!(Program("prometheus-pushgateway"), Root);
    let gateway = Gateway::start();
    // Another's metric of that name is no gauge.
    put(&gateway, "counter");
    let pages = tempfile::tempdir().unwrap();
    write_page(
        pages.path(),
        "# TYPE site_jobs gauge\nsite_jobs 3\nsite_other 1\n",
    );
    let plugin = pages.path().join("site_jobs");
    let script = "#!/bin/sh\nwhile read -r line; do echo \"$line\"; done < \"$1\"\n";
    fs::write(&plugin, script).unwrap();
    fs::set_permissions(&plugin, fs::Permissions::from_mode(0o755)).unwrap();
    let mut host = device("web", "127.0.0.1");
    let argv = json!([plugin, pages.path().join("site.prom")]);
    host["metrics"] = json!(["ping", {"command": {"argv": argv, "output": "exposition"}}]);
    let files = Files::new()
        .group("g.json", &group("plant", &[host]))
        .push(&json!({"sinks": [{"pushgateway": {"url": gateway.url(), "grouping": "config"}}]}));
    let (agent, address) = files.serve(&["--allow-commands", plugin.to_str().unwrap()]);

    let own = "plant/scraper=exposition".to_owned();
    let rejected = || {
        let metrics = http::get(address, "/metrics").ok()?.text();
        common::value(
            &metrics,
            "pingexporter_pushes_total{sink=\"pushgateway\",result=\"rejected\"}",
        )
    };
    wait::until_true("the device's ping", || {
        gateway.metrics().contains("dev_ping{")
    });
    wait::until_true("pushes to be refused", || rejected() >= Some(3.0));
    assert!(!gateway.metrics().contains("site_other"));
    let log = agent.log();
    let told = "/metrics/job/plant/scraper/exposition (400 Bad Request)";
    assert!(log.contains(told) && log.contains("site_jobs"), "{log}");
    // Pushes of other groups arrive between those that are refused, and do not end that.
    assert_eq!(log.matches("pushes fail").count(), 1, "{log}");
    assert!(!log.contains("pushes arrive again"), "{log}");
    let seen = http::get(address, "/metrics").unwrap().text();
    assert!(seen.contains("site_jobs{"), "{seen}");

    put(&gateway, "gauge");
    wait::until_true("what the program says", || {
        gateway.metrics().contains("site_other{")
    });
    assert!(gateway.keys().contains(&own), "{:?}", gateway.keys());
    agent.await_log("pushes arrive again");
    write_page(pages.path(), "# TYPE site_jobs gauge\nsite_jobs 3\n");
    wait::until_true("the gateway to lose a series", || {
        let text = gateway.metrics();
        text.contains("site_jobs{") && !text.contains("site_other{")
    });
    assert!(agent.stop().success());
}
