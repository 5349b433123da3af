//! Against Debian's Pushgateway, and nginx in front of it.
#![allow(clippy::unwrap_used)]

mod common;

use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use common::{report, sink, sink_grouped};
use pe_push::{Grouping, GroupingKey, PushError, Pushgateway, PushgatewayFactory, ResultKind};
use pe_scrape::exposition::Block;
use pe_scrape::{
    ABSENT, AGENT_JOB, CloseReason, Columns, CycleReport, Frame, FrameBuilder, HistogramSpec,
    LabelSet, MetricDescriptor, NativeBuckets, Sink, SinkFactory, SinkSettings, Table, with_causes,
};
use pe_testkit::{Gateway, Nginx, require, wait};

fn frame(name: &'static str, value: f64) -> Frame {
    FrameBuilder::new(&[MetricDescriptor::gauge(name, "Ping to device (ms)")])
        .unwrap()
        .row(LabelSet::empty(), &[value])
        .build()
}

fn key(job: &str) -> GroupingKey {
    GroupingKey::new(job).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn put_post_and_delete_do_what_the_gateway_documents() {
    require!(Program("prometheus-pushgateway"));
    let gateway = Gateway::start();
    let client = Pushgateway::new(&gateway.url()).unwrap();
    client
        .put(&key("a"), &[Block::new(&frame("one", 1.0))])
        .await
        .unwrap();
    client
        .post(&key("a"), &[Block::new(&frame("two", 2.0))])
        .await
        .unwrap();
    let text = gateway.metrics();
    assert!(
        text.contains("one{instance=\"\",job=\"a\"} 1")
            && text.contains("two{instance=\"\",job=\"a\"} 2"),
        "{text}"
    );
    client
        .put(&key("a"), &[Block::new(&frame("two", 3.0))])
        .await
        .unwrap();
    let text = gateway.metrics();
    assert!(
        !text.contains("one{") && text.contains("two{instance=\"\",job=\"a\"} 3"),
        "{text}"
    );
    assert!(text.contains("# HELP two Ping to device (ms)\n"), "{text}");
    client.delete(&key("a")).await.unwrap();
    client.delete(&key("never there")).await.unwrap();
    gateway.until_keys::<&str>(&[]);
    assert!(!gateway.log().contains("inconsistent"), "{}", gateway.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_agents_own_metrics_are_a_push_group_that_says_which_agent_it_is() {
    require!(Program("prometheus-pushgateway"));
    let gateway = Gateway::start();
    let mut report = CycleReport::new(AGENT_JOB, 0, SystemTime::now());
    report.is_agent = true;
    report.exporter = vec![frame("pingexporter_x", 1.0)];
    let report = Arc::new(report);
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    for grouping in [Grouping::Device, Grouping::Config] {
        let sink = sink_grouped(&gateway.url(), grouping);
        sink.publish(report.clone());
        sink.flush().await.unwrap();
        let series = format!(
            "pingexporter_x{{instance=\"{}\",job=\"pingexporter\"}} 1\n",
            host.trim()
        );
        assert!(gateway.metrics().contains(&series), "{}", gateway.metrics());
        // It is of no group, and goes with the sink.
        sink.retain(&[]);
        sink.flush().await.unwrap();
        gateway.until_keys(&[format!("pingexporter/instance={}", host.trim())]);
        sink.close(CloseReason::Removed).await;
        gateway.until_keys::<&str>(&[]);
    }
    let own = serde_json::json!({"url": gateway.url()});
    let mut settings = SinkSettings::new("pushgateway", own);
    settings.external_labels = [("instance", "box 7")].into_iter().collect();
    let sink = PushgatewayFactory::new().create(&settings).unwrap();
    sink.publish(report);
    sink.flush().await.unwrap();
    let series = "pingexporter_x{instance=\"box 7\",job=\"pingexporter\"} 1\n";
    assert!(gateway.metrics().contains(series), "{}", gateway.metrics());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_name_arrives_intact() {
    require!(Program("prometheus-pushgateway"));
    let gateway = Gateway::start();
    let client = Pushgateway::new(&gateway.url()).unwrap();
    let names = [
        "plain",
        "with space",
        "a/b/c",
        "/leading",
        "trailing/",
        "Überwachung №1",
        "say \"hi\"",
        "50%",
        "a+b",
        ".",
        "..",
        "a\\b",
        "new\nline",
        "?query#fragment",
        "@base64",
        "=",
        "ünï/cödé",
        "%2F",
    ];
    for name in names {
        let key = key(name)
            .label("site", name)
            .unwrap()
            .label("empty", "")
            .unwrap();
        client
            .put(&key, &[Block::new(&frame("up", 1.0))])
            .await
            .unwrap();
    }
    let mut expected = names.map(|name| format!("{name}/empty=/site={name}"));
    expected.sort();
    gateway.until_keys(&expected);
    let sites = gateway.groups();
    assert!(
        sites
            .iter()
            .all(|group| group["labels"]["site"] == group["labels"]["job"]),
        "{sites:?}"
    );
    for name in names {
        let key = key(name)
            .label("site", name)
            .unwrap()
            .label("empty", "")
            .unwrap();
        client.delete(&key).await.unwrap();
    }
    wait::until_true("all groups to be gone", || gateway.groups().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn native_histograms_are_pushed_as_protobuf() {
    require!(Program("prometheus-pushgateway"));
    let gateway = Gateway::start();
    let spec = HistogramSpec::classic([0.001, 0.01]).with_native(NativeBuckets::RTT_SECONDS);
    let mut columns = Columns::builder();
    let rtt = columns.add(MetricDescriptor::histogram("ping_rtt_seconds", "RTT", spec));
    let table = Table::new(columns.build().unwrap(), 1);
    for seconds in [0.0005, 0.002, 0.002, 0.5] {
        table.row(0).observe(rtt, seconds);
    }
    let frame = Frame::freeze(&table, Arc::new([LabelSet::empty()]), SystemTime::now());
    let client = Pushgateway::new(&gateway.url()).unwrap();
    client.put(&key("h"), &[Block::new(&frame)]).await.unwrap();
    let text = gateway.metrics();
    for expected in ["le=\"0.001\"} 1", "le=\"0.01\"} 3", "le=\"+Inf\"} 4"] {
        assert!(text.contains(expected), "no {expected} in {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateways_own_words_are_told() {
    require!(Program("prometheus-pushgateway"));
    let gateway = Gateway::start();
    let client = Pushgateway::new(&gateway.url()).unwrap();
    client
        .put(&key("a"), &[Block::new(&frame("thing", 1.0))])
        .await
        .unwrap();
    // The same name as another type: the gateway refuses.
    let other = [MetricDescriptor::counter("thing", "Ping to device (ms)")];
    let other = FrameBuilder::new(&other)
        .unwrap()
        .row(LabelSet::empty(), &[1.0])
        .build();
    let error = client
        .put(&key("b"), &[Block::new(&other)])
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ResultKind::Rejected);
    assert!(!error.is_retryable());
    let words = error.to_string();
    assert!(
        words.contains("/metrics/job/b") && words.contains("400") && words.contains("thing"),
        "{words}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_are_checked_by_the_real_server_and_shown_nowhere() {
    require!(Program("prometheus-pushgateway"), Program("nginx"));
    let gateway = Gateway::start();
    let nginx = Nginx::with_basic_auth(gateway.address(), "operator", "pass word");
    let client = || Pushgateway::new(&nginx.url()).unwrap();
    let block = frame("up", 1.0);
    let right = client().basic_auth("operator", "pass word").unwrap();
    right
        .put(&key("a/b c"), &[Block::new(&block)])
        .await
        .unwrap();
    gateway.until_keys(&["a/b c"]);
    let wrong = client().basic_auth("operator", "sesame").unwrap();
    for client in [&wrong, &client()] {
        let error = client
            .put(&key("a"), &[Block::new(&block)])
            .await
            .unwrap_err();
        assert!(matches!(error, PushError::Unauthorized { .. }), "{error:?}");
        assert!(error.to_string().contains("user and password"), "{error}");
        assert!(!format!("{error}{error:?}{client:?}").contains("sesame"));
    }
    assert!(matches!(
        client().basic_auth("a:b", "c"),
        Err(PushError::Credentials)
    ));
}

#[tokio::test]
async fn peers_that_are_no_gateway_are_told_apart() {
    // Nobody listens.
    let free = pe_testkit::free_port().unwrap();
    let block = frame("up", 1.0);
    let client = Pushgateway::new(&format!("http://{free}")).unwrap();
    let error = client
        .put(&key("a"), &[Block::new(&block)])
        .await
        .unwrap_err();
    assert!(
        matches!(error, PushError::Connect { .. }) && error.is_retryable(),
        "{error:?}"
    );
    assert!(!error.to_string().contains("refused"), "{error}");
    assert!(with_causes(&error).contains("refused"), "{error:?}");

    // It accepts and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let client = Pushgateway::new(&url)
        .unwrap()
        .timeout(Duration::from_millis(200));
    let error = client
        .put(&key("a"), &[Block::new(&block)])
        .await
        .unwrap_err();
    assert!(matches!(error, PushError::Timeout { .. }), "{error:?}");

    // It answers nonsense, or an error without an end.
    for (answer, endless, kind) in [
        ("SSH-2.0-server\r\n", false, ResultKind::Unreachable),
        (
            "HTTP/1.1 500 Oh\r\nTransfer-Encoding: chunked\r\n\r\n",
            true,
            ResultKind::GatewayError,
        ),
    ] {
        let peer = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", peer.local_addr().unwrap());
        std::thread::spawn(move || {
            use std::io::{Read, Write};
            let (mut stream, _) = peer.accept().unwrap();
            let _ = stream.read(&mut [0; 65536]);
            let _ = stream.write_all(answer.as_bytes());
            let chunk = format!("400\r\n{}\r\n", "x".repeat(1024));
            while endless && stream.write_all(chunk.as_bytes()).is_ok() {}
        });
        let client = Pushgateway::new(&url).unwrap();
        let error = client
            .put(&key("a"), &[Block::new(&block)])
            .await
            .unwrap_err();
        assert_eq!(error.kind(), kind, "{error:?}");
        assert!(with_causes(&error).len() < 1000);
    }
}

#[test]
fn urls_that_cannot_be_a_gateway_are_refused() {
    for url in [
        "ftp://host",
        "http://",
        "http://user:secret@host",
        "http://host/?a=b",
    ] {
        let error = Pushgateway::new(url).unwrap_err();
        assert!(matches!(error, PushError::Url { .. }), "{error:?}");
        assert!(!format!("{error} {error:?}").contains("secret"), "{error}");
    }
    for url in [
        "http://[::1]:9091",
        "https://proxy.example/push/",
        "http://127.0.0.1:9091/",
    ] {
        let accepted = Pushgateway::new(url);
        if url.starts_with("https") && cfg!(not(feature = "tls")) {
            assert!(accepted.is_err());
            continue;
        }
        assert!(!accepted.unwrap().url().ends_with('/'), "{url}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_value_is_pushed_in_one_line_and_keeps_the_others_of_its_job() {
    require!(Program("prometheus-pushgateway"));
    let gateway = Gateway::start();
    let client = Pushgateway::new(&gateway.url()).unwrap();
    for (metric, value) in [
        ("backup_bytes", 1.0),
        ("backup_files", 2.0),
        ("backup_bytes", 1.5e9),
    ] {
        client
            .push_value("nightly/backup", metric, value)
            .await
            .unwrap();
    }
    let text = gateway.metrics();
    for expected in [
        "backup_bytes{instance=\"\",job=\"nightly/backup\"} 1.5e+09\n",
        "backup_files{instance=\"\",job=\"nightly/backup\"} 2\n",
        "# TYPE backup_bytes gauge\n",
    ] {
        assert!(text.contains(expected), "no {expected} in {text}");
    }
    let refused = client.push_value("backup", "backup bytes", 1.0).await;
    assert!(matches!(refused, Err(PushError::Metric(_))), "{refused:?}");
    let refused = client.push_value("", "backup_bytes", 1.0).await;
    assert!(matches!(refused, Err(PushError::EmptyJob)), "{refused:?}");
    assert!(!gateway.log().contains("inconsistent"), "{}", gateway.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_are_unions_and_what_goes_is_deleted() {
    require!(Program("prometheus-pushgateway"));
    let gateway = Gateway::start();
    let sink = sink_grouped(&gateway.url(), Grouping::Device);
    sink.publish(report(
        "p1",
        &[("shared", "127.0.0.1", 1.0), ("own", "127.0.0.2", 2.0)],
    ));
    sink.publish(report(
        "p2",
        &[("shared", "127.0.0.3", 3.0), ("p1", "127.0.0.4", 4.0)],
    ));
    sink.flush().await.unwrap();
    gateway.until_keys(&["own", "p1", "p2", "shared"]);
    let text = gateway.metrics();
    for expected in [
        "dev_ping{device=\"shared\",instance=\"\",ip=\"127.0.0.1\",job=\"shared\"} 1",
        "dev_ping{device=\"shared\",instance=\"\",ip=\"127.0.0.3\",job=\"shared\"} 3",
        "dev_ping{device=\"p1\",instance=\"\",ip=\"127.0.0.4\",job=\"p1\"} 4",
        "exporter_jobs{instance=\"\",job=\"p1\"} 2",
        "exporter_jobs{instance=\"\",job=\"p2\"} 2",
    ] {
        assert!(text.contains(expected), "no {expected} in {text}");
    }
    // A device that is no longer in the latest report loses its group; one that is shared keeps the rest.
    sink.publish(report("p1", &[("shared", "127.0.0.1", 1.5)]));
    sink.flush().await.unwrap();
    gateway.until_keys(&["p1", "p2", "shared"]);
    sink.retain(&["p2".into()]);
    sink.flush().await.unwrap();
    gateway.until_keys(&["p1", "p2", "shared"]);
    gateway.until_metrics(|text| {
        !text.contains("127.0.0.1")
            && text.contains("127.0.0.3")
            && !text.contains("exporter_jobs{instance=\"\",job=\"p1\"}")
    });
    sink.retain(&[]);
    sink.flush().await.unwrap();
    gateway.until_keys::<&str>(&[]);
    assert!(!gateway.log().contains("inconsistent"), "{}", gateway.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_group_keeps_its_own_metrics_only() {
    require!(Program("prometheus-pushgateway"));
    for grouping in [Grouping::Device, Grouping::Config] {
        let gateway = Gateway::start();
        let sink = sink_grouped(&gateway.url(), grouping);
        sink.publish(report(
            "p1",
            &[("own", "127.0.0.1", 1.0), ("shared", "127.0.0.2", 2.0)],
        ));
        sink.publish(report("p2", &[("shared", "127.0.0.3", 3.0)]));
        sink.flush().await.unwrap();
        assert!(gateway.metrics().contains("127.0.0.1"));

        let mut stale = CycleReport::new("p1", 0, SystemTime::now());
        stale.is_stale = true;
        stale.exporter = vec![frame("exporter_jobs", 2.0)];
        sink.publish(Arc::new(stale));
        sink.flush().await.unwrap();
        gateway.until_metrics(|text| {
            !text.contains("127.0.0.1")
                && !text.contains("127.0.0.2")
                && text.contains("127.0.0.3")
                && text.contains("exporter_jobs{instance=\"\",job=\"p1\"} 2")
        });

        sink.publish(report("p1", &[("own", "127.0.0.1", 1.0)]));
        sink.flush().await.unwrap();
        assert!(gateway.metrics().contains("127.0.0.1"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_series_fit_one_push() {
    require!(Program("prometheus-pushgateway"));
    let gateway = Gateway::start();
    let sink = sink_grouped(&gateway.url(), Grouping::Config);
    let names: Vec<String> = (0..100_000).map(|n| format!("device {n}")).collect();
    let devices: Vec<(&str, &str, f64)> = names
        .iter()
        .map(|name| (name.as_str(), "127.0.0.1", 1.0))
        .collect();
    sink.publish(report("big", &devices));
    sink.flush().await.unwrap();
    gateway.until_keys(&["big"]);
    assert_eq!(gateway.metrics().matches("dev_ping{").count(), 100_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hanging_gateway_delays_no_caller_and_one_refused_group_no_other() {
    require!(Program("prometheus-pushgateway"));
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let hanging = sink(&url, |settings| {
        settings.timeout = Duration::from_secs(3600);
    });
    for value in 0..100 {
        hanging.publish(report("p", &[("d", "127.0.0.1", f64::from(value))])); // returns at once
    }

    let gateway = Gateway::start();
    let client = Pushgateway::new(&gateway.url()).unwrap();
    // The gateway knows dev_ping as a counter of another group: every group of ours with dev_ping is refused.
    let other = [MetricDescriptor::counter("dev_ping", "Ping to device (ms)")];
    let other = FrameBuilder::new(&other)
        .unwrap()
        .row(LabelSet::empty(), &[1.0])
        .build();
    client
        .put(&key("other"), &[Block::new(&other)])
        .await
        .unwrap();
    let sink = sink_grouped(&gateway.url(), Grouping::Device);
    sink.publish(report(
        "p",
        &[("a", "127.0.0.1", 1.0), ("b", "127.0.0.2", ABSENT)],
    ));
    let error = sink.flush().await.unwrap_err().to_string();
    assert!(
        error.contains("refuses the metrics of /metrics/job/a"),
        "{error}"
    );
    assert!(
        gateway
            .metrics()
            .contains("exporter_jobs{instance=\"\",job=\"p\"} 2")
    );
}
