//! Debian's Prometheus and VictoriaMetrics.

use std::sync::Arc;
use std::time::SystemTime;

use pe_push::RemoteWriteFactory;
use pe_scrape::{
    CloseReason, Columns, CycleReport, Frame, HistogramSpec, LabelSet, MetricDescriptor,
    NativeBuckets, Sink, SinkFactory, SinkSettings, Table,
};
use pe_testkit::{Prometheus, PrometheusOptions, VictoriaMetrics, require, wait};
use serde_json::{Value, json};

use crate::fleet::{Fleet, Samples, labelled_sink, lost, plain_sink, sink};

fn prometheus(out_of_order: bool) -> Prometheus {
    let mut options = PrometheusOptions::default().remote_write_receiver();
    if out_of_order {
        let tsdb = json!({"tsdb": {"out_of_order_time_window": "1d"}});
        options.further.insert("storage".to_owned(), tsdb);
    }
    Prometheus::start(options)
}

fn write_url(server: &str) -> String {
    format!("{server}/api/v1/write")
}

/// All samples of a group that a Prometheus has, as they are stored.
fn stored(prometheus: &Prometheus, selector: &str) -> Samples {
    let series = prometheus.query(&format!("{selector}[3h]"));
    let series = series.as_array().unwrap().iter();
    series
        .map(|series| {
            let name = |label: &str| series["metric"][label].as_str().unwrap().to_owned();
            let values = series["values"].as_array().unwrap().iter();
            let sample = |pair: &Value| {
                let time = (pair[0].as_f64().unwrap() * 1000.0).round() as i64;
                (time, pair[1].as_str().unwrap().parse().unwrap())
            };
            (
                (name("__name__"), name("device")),
                values.map(sample).collect(),
            )
        })
        .collect()
}

const ALL: &str = "{job=\"plant\"}";

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_has_what_was_measured_sample_for_sample() {
    require!(Program("prometheus"));
    let prometheus = prometheus(false);
    // Debian's does not speak 2.0.
    for (version, group) in [("1.0", "plant"), ("2.0", "other")] {
        let url = write_url(&prometheus.url());
        let sink = sink(&url, json!({"protocol": version}));
        let mut fleet = Fleet::until_now(50, 60);
        fleet.group = group;
        for cycle in 0..60 {
            sink.publish(fleet.report(cycle, &[]));
        }
        sink.flush().await.unwrap();
        sink.close(CloseReason::Shutdown).await;
        let selector = format!("{{job=\"{group}\"}}");
        assert_eq!(stored(&prometheus, &selector), fleet.expected(0..60));
        // Staleness markers end the series at once.
        assert_eq!(prometheus.value(&format!("count({selector})")), None);
        assert_eq!(lost(&*sink, "refused"), 0.0);
        sink.check_peer().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_that_was_away_gets_all_that_was_missed() {
    require!(Program("prometheus"));
    for out_of_order in [false, true] {
        let mut prometheus = prometheus(out_of_order);
        let order = if out_of_order {
            "fresh_first"
        } else {
            "strict"
        };
        let sink = sink(&write_url(&prometheus.url()), json!({"order": order}));
        let fleet = Fleet::until_now(10, 100);
        for cycle in 0..10 {
            sink.publish(fleet.report(cycle, &[]));
        }
        wait::until_true("the first cycles", || {
            stored(&prometheus, ALL) == fleet.expected(0..10)
        });
        prometheus.server().kill();
        for cycle in 10..90 {
            sink.publish(fleet.report(cycle, &[]));
        }
        wait::until_true("a failure", || sink.status().outage.is_some());
        prometheus.server().restart().unwrap();
        for cycle in 90..100 {
            sink.publish(fleet.report(cycle, &[]));
        }
        wait::until_true("all cycles", || {
            stored(&prometheus, ALL) == fleet.expected(0..100)
        });
        assert_eq!(lost(&*sink, "refused"), 0.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_of_two_hours_stalls_nothing() {
    require!(Program("prometheus"));
    for out_of_order in [false, true] {
        let prometheus = prometheus(out_of_order);
        let url = write_url(&prometheus.url());
        // What is new is there already, so that the backlog is old.
        let mut fleet = Fleet::until_now(3, 7200);
        let live = sink(&url, json!({"order": "fresh_first"}));
        live.publish(fleet.report(7199, &[]));
        wait::until_true("the newest", || {
            stored(&prometheus, ALL) == fleet.expected(7199..7200)
        });
        for cycle in (0..7199).step_by(60) {
            live.publish(fleet.report(cycle, &[]));
        }
        live.publish(fleet.report(7200, &[]));
        live.flush().await.unwrap();
        let backlog = 120.0 * 6.0;
        let rtt = ("rtt".to_owned(), "device-0".to_owned());
        wait::until_true("the newest and the end of the backlog", || {
            let taken = &stored(&prometheus, ALL)[&rtt];
            taken.last().unwrap().0 == fleet.time_ms(7200)
                && live.status().backlog.unwrap().samples == 0
        });
        fleet.devices.truncate(1);
        let taken = &stored(&prometheus, ALL)[&rtt];
        if out_of_order {
            assert_eq!((taken.len(), lost(&*live, "refused")), (122, 0.0));
        } else {
            assert_eq!((taken.len(), lost(&*live, "refused")), (2, backlog));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_with_the_same_devices_do_not_disturb_each_other() {
    require!(Program("prometheus"));
    let prometheus = prometheus(false);
    let url = write_url(&prometheus.url());
    let fleet = Fleet::until_now(5, 20);
    let sinks = ["north", "south"].map(|site| labelled_sink(&url, json!({}), &[("site", site)]));
    for cycle in 0..20 {
        for sink in &sinks {
            sink.publish(fleet.report(cycle, &[]));
        }
    }
    for sink in &sinks {
        sink.flush().await.unwrap();
        assert_eq!(lost(&**sink, "refused"), 0.0);
    }
    for site in ["north", "south"] {
        let selector = format!("{{job=\"plant\",site=\"{site}\"}}");
        assert_eq!(stored(&prometheus, &selector), fleet.expected(0..20));
    }
}

/// A report of one device, which has had so many round-trip times of 20 ms and one of 1 µs.
fn histogram_report(cycle: u64, count: u64) -> Arc<CycleReport> {
    let mut columns = Columns::builder();
    let spec = HistogramSpec::classic([0.01, 0.1]).with_native(NativeBuckets::RTT_SECONDS);
    let times = columns.add(MetricDescriptor::histogram("rtt_seconds", "RTT", spec));
    let table = Table::new(columns.build().unwrap(), 1);
    table.row(0).observe(times, 1e-6);
    for _ in 0..count {
        table.row(0).observe(times, 0.02);
    }
    let labels = LabelSet::new([("device", "router"), ("ip", "127.0.0.1")]).unwrap();
    let now = SystemTime::now();
    let mut report = CycleReport::new("plant", cycle, now);
    report.devices = vec![Arc::new(Frame::freeze(&table, [labels].into(), now))];
    Arc::new(report)
}

#[tokio::test(flavor = "multi_thread")]
async fn native_histograms_are_sent_where_they_are_wanted() {
    require!(Program("prometheus"));
    let options = PrometheusOptions::default().remote_write_receiver();
    let prometheus = Prometheus::start(options.native_histograms());
    let url = write_url(&prometheus.url());
    // Those that wait in a directory are records there.
    let directory = tempfile::tempdir().unwrap();
    let settings = SinkSettings::new("central", json!({"url": url, "native_histograms": true}));
    let factory = RemoteWriteFactory::new().state_dir(Some(directory.path().to_owned()));
    let native = factory.create(&settings).unwrap();
    let plain = labelled_sink(&url, json!({}), &[("site", "plain")]);
    for sink in [&native, &plain] {
        sink.publish(histogram_report(0, 300));
        sink.flush().await.unwrap();
        assert_eq!(lost(&**sink, "refused"), 0.0);
    }
    let value = |query: &str| prometheus.value(query);
    assert_eq!(
        value("histogram_count(rtt_seconds{site=\"\"})"),
        Some(301.0)
    );
    let sum = value("histogram_sum(rtt_seconds{site=\"\"})").unwrap();
    assert!((sum - 6.000_001).abs() < 1e-9, "{sum}");
    let median = value("histogram_quantile(0.5, rtt_seconds)").unwrap();
    assert!((0.018..0.022).contains(&median), "{median}");
    assert_eq!(value("rtt_seconds_count{site=\"\"}"), Some(301.0));
    assert_eq!(value("rtt_seconds_count{site=\"plain\"}"), Some(301.0));
    assert_eq!(value("count(rtt_seconds{site=\"plain\"})"), None);
    // A marker ends it.
    native.close(CloseReason::Shutdown).await;
    assert_eq!(lost(&*native, "refused"), 0.0);
    wait::until_true("the end of the series", || {
        prometheus.value("count(rtt_seconds)").is_none()
    });
}

/// All samples of a VictoriaMetrics, as they are stored, in order of time.
fn exported(server: &VictoriaMetrics) -> Samples {
    let all = server.export(ALL).into_iter();
    all.map(|(labels, samples)| {
        let name = |label: &str| labels[label].clone();
        ((name("__name__"), name("device")), samples)
    })
    .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn victoria_metrics_has_what_was_measured_sample_for_sample() {
    require!(Program("victoria-metrics"));
    let mut server = VictoriaMetrics::start();
    // It keeps the latest seconds in memory, so it is killed only while it has nothing.
    server.server().kill();
    let sink = plain_sink(&write_url(&server.url()));
    let fleet = Fleet::until_now(50, 100);
    for cycle in 0..90 {
        sink.publish(fleet.report(cycle, &[]));
    }
    wait::until_true("a failure", || sink.status().outage.is_some());
    server.server().restart().unwrap();
    for cycle in 90..100 {
        sink.publish(fleet.report(cycle, &[]));
    }
    wait::until_true("all cycles", || exported(&server) == fleet.expected(0..100));
    sink.check_peer().await.unwrap();
}
