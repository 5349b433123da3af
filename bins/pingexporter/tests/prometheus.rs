//! What a real Prometheus makes of it: histograms, and reloads without gaps.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Files, device, group, push_to};
use pe_testkit::{Gateway, Prometheus, PrometheusOptions, require, wait};
use serde_json::{Value, json};

#[test]
fn histograms_of_both_kinds_answer_quantile_queries() {
    require!(
        Program("prometheus"),
        Program("prometheus-pushgateway"),
        Root
    );
    let gateway = Gateway::start();
    let mut group = group("p", &[]);
    group["jobs"] = json!([{
        "job": "d", "ip": "127.0.0.1", "metrics": [{"ping": {"histogram": {"native": true}}}],
    }]);
    let files = Files::new()
        .group("g.json", &group)
        .push(&push_to(&gateway.url()));
    let (agent, address) = files.serve(&[]);

    // With native histograms, Prometheus asks for protobuf and keeps the native buckets alone.
    let native = PrometheusOptions::default()
        .scrape("gateway", gateway.address())
        .scrape("agent", address)
        .native_histograms();
    let native = Prometheus::start(native);
    let quantile = |selector: &str| {
        format!("histogram_quantile(0.9, rate(ping_rtt_seconds{{{selector}}}[1m]))")
    };
    for selector in ["job=\"d\"", "job=\"agent\",exporter=\"p\""] {
        let rtt = wait::until("a quantile of native buckets", || {
            native
                .value(&quantile(selector))
                .filter(|value| value.is_finite())
        });
        assert!(rtt > 1e-6 && rtt < 0.2, "{selector}: {rtt}");
    }
    assert!(
        native
            .query("ping_rtt_seconds_bucket")
            .as_array()
            .unwrap()
            .is_empty()
    );

    // Without, it reads text and the classic buckets.
    let classic = PrometheusOptions::default()
        .scrape("gateway", gateway.address())
        .scrape("agent", address);
    let classic = Prometheus::start(classic);
    for selector in ["job=\"d\"", "job=\"agent\",exporter=\"p\""] {
        let query =
            format!("histogram_quantile(0.9, rate(ping_rtt_seconds_bucket{{{selector}}}[1m]))");
        let rtt = wait::until("a quantile of classic buckets", || {
            classic.value(&query).filter(|value| value.is_finite())
        });
        assert!(rtt > 1e-6 && rtt < 0.2, "{selector}: {rtt}");
    }
    assert!(agent.stop().success());
    assert!(!gateway.log().contains("inconsistent"), "{}", gateway.log());
}

/// How many devices stay over the reload.
const DEVICES: u64 = 10_000;

fn many(last: Value) -> Value {
    // 127.16.0.1 to 127.16.39.16 are ten thousand addresses.
    let all = json!({"job": "dev-{ip}", "ip": "127.16.0.1-127.16.39.16", "metrics": ["ping"]});
    let mut group = group("p", &[all, last]);
    group["conf"]["interval"] = "1s".into();
    group
}

#[test]
fn a_reload_of_ten_thousand_devices_leaves_no_gap() {
    require!(Program("prometheus"), Root);
    let files = Files::new().group("g.json", &many(device("before", "127.0.0.1")));
    let (agent, address) = files.serve(&[]);
    wait::until_true("the first results", || {
        pe_testkit::http::get(address, "/-/ready").is_ok_and(|response| response.status == 200)
    });
    let mut options = PrometheusOptions::default().scrape("agent", address);
    // Two hundred thousand series are more than a scrape of 200 ms can take.
    let scrape = &mut options.scrape_configs[0];
    scrape["scrape_interval"] = "1s".into();
    scrape["scrape_timeout"] = "1s".into();
    scrape["metric_relabel_configs"] = json!([
        {"source_labels": ["__name__"], "regex": "ping_up|ping_requests_total", "action": "keep"},
    ]);
    let prometheus = Prometheus::start(options);
    let count = || {
        prometheus
            .value("count(ping_up{device=~\"dev-.*\"})")
            .unwrap_or(0.0) as u64
    };
    wait::until_true("the first scrape", || count() == DEVICES);
    let started = prometheus.value("vector(time())").unwrap_or_default();

    files.write_group("g.json", &many(device("after", "127.0.0.2")));
    agent.await_log("the configuration was reloaded");
    let seen = |device: &str| prometheus.value(&format!("ping_up{{device=\"{device}\"}}"));
    wait::until_true("the new device", || seen("after") == Some(1.0));
    wait::until_true("the former device to go", || seen("before").is_none());
    wait::until_true("some scrapes more", || {
        prometheus.value("min(ping_requests_total{device=~\"dev-.*\"})") >= Some(6.0)
    });

    let ended = prometheus.value("vector(time())").unwrap_or_default();
    let counts = prometheus.query_range("count(ping_up{device=~\"dev-.*\"})", started, ended, 0.5);
    for point in counts[0]["values"].as_array().unwrap() {
        assert_eq!(point[1].as_str(), Some("10000"), "{counts}");
    }
    let resets = prometheus.value("sum(resets(ping_requests_total{device=~\"dev-.*\"}[5m]))");
    assert_eq!(resets, Some(0.0));
    let gaps = prometheus.value("sum(changes(ping_up{device=~\"dev-.*\"}[5m]))");
    assert_eq!(gaps, Some(0.0), "every device was up all the time");
    assert!(agent.stop().success());
}
