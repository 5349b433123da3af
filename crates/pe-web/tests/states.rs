//! What the overview says while something is not as usual.
#![allow(clippy::unwrap_used)]

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use common::{registry, request};
use pe_engine::{Config, Engine, Group, SinkRegistry};
use pe_scrape::{
    AGENT_JOB, Backlog, CycleReport, Dropped, FrameBuilder, LabelSet, MetricDescriptor,
    SettingsError, Sink, SinkConfig, SinkOutage, SinkSettings, SinkStatus,
};
use pe_web::{History, Server, WebSettings};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

/// A server, its history, and the engine's task.
async fn serve(groups: usize) -> (SocketAddr, Arc<History>, JoinHandle<()>) {
    let history = Arc::new(History::default());
    let mut engine = Engine::builder(registry()).sink("history", history.clone());
    for number in 0..groups {
        let name = format!("group-{number:02}");
        let device = if number == 11 { "broken" } else { "works" };
        let group = Group::builder(name, Duration::from_millis(300))
            .scraper("up", serde_json::Value::Null)
            .device(device, "127.0.0.1");
        engine = engine.group(group.build().unwrap());
    }
    let engine = engine.build().unwrap();
    let mut settings = WebSettings::from("127.0.0.1:0".parse::<SocketAddr>().unwrap());
    settings.history = Some(history.clone());
    let server = Server::bind(settings).await.unwrap();
    let address = server.local_addr();
    tokio::spawn(server.serve(engine.handle(), std::future::pending()));
    let running = tokio::spawn(async move {
        engine.run(std::future::pending()).await.unwrap();
    });
    (address, history, running)
}

/// Fares as its settings say.
struct Faring(SinkSettings);

impl Sink for Faring {
    fn publish(&self, _: Arc<CycleReport>) {}

    fn status(&self) -> SinkStatus {
        let now = SystemTime::now();
        let mut status = SinkStatus::default();
        status.destination = "http://peer.test".to_owned();
        status.last_success = Some(now);
        if let Some(next_try) = self.0.own.get("next_try") {
            let mut outage = SinkOutage::new(now, "connection refused");
            outage.next_try = next_try.as_i64().map(|seconds| match seconds {
                ..0 => now - Duration::from_secs(seconds.unsigned_abs()),
                _ => now + Duration::from_secs(seconds.unsigned_abs()),
            });
            status.outage = Some(outage);
        }
        let mut backlog = Backlog::default();
        backlog.oldest = Some(now);
        status.backlog = Some(backlog);
        for reason in ["limit", "too_old"] {
            let count = self.0.own[reason].as_u64().unwrap_or_default();
            status
                .dropped
                .extend(Dropped::some("samples", reason, count));
        }
        status
    }
}

/// A server in front of an engine with these sinks and no group.
async fn serve_sinks(sinks: &[(&str, Value)], change: impl FnOnce(&mut WebSettings)) -> SocketAddr {
    let mut registry_of_sinks = SinkRegistry::new();
    let make = |settings: &SinkSettings| -> Result<Arc<dyn Sink>, SettingsError> {
        Ok(Arc::new(Faring(settings.clone())))
    };
    registry_of_sinks.register("faring", make).unwrap();
    let sinks = sinks
        .iter()
        .map(|(name, own)| SinkConfig::new("faring", *name, own.clone()));
    let engine = Engine::builder(registry())
        .sinks(registry_of_sinks)
        .config(Config::new(Vec::new(), sinks.collect()))
        .build()
        .unwrap();
    let mut settings = WebSettings::from("127.0.0.1:0".parse::<SocketAddr>().unwrap());
    change(&mut settings);
    let server = Server::bind(settings).await.unwrap();
    let address = server.local_addr();
    tokio::spawn(server.serve(engine.handle(), std::future::pending()));
    tokio::spawn(engine.run(std::future::pending()));
    address
}

/// Waits until the page at `path` holds `text`, and returns it.
async fn page_with(address: SocketAddr, path: &str, text: &str) -> String {
    let mut page = String::new();
    let waiting = async {
        while !page.contains(text) {
            tokio::time::sleep(Duration::from_millis(20)).await;
            page = request(address, &format!("GET {path} HTTP/1.0")).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(30), waiting).await;
    assert!(waited.is_ok(), "no {text} in {page}");
    page
}

#[tokio::test]
async fn without_groups_the_page_says_what_is_awaited_and_where() {
    let (address, _, _) = serve(0).await;
    let page = page_with(address, "/", "Nothing to measure").await;
    assert!(
        page.contains("0 devices in 0 groups") && page.contains("No devices yet"),
        "{page}"
    );
    // An engine whose groups are made in code has no directory.
    assert!(page.contains("appear here when they are added") && !page.contains("Clear all"));
    let address = serve_sinks(&[], |settings| {
        settings.watched = Some("/etc/agent/<configs>".into());
        settings.example_command = Some("agent init DIR".to_owned());
    })
    .await;
    let page = page_with(address, "/", "Nothing to measure").await;
    assert!(
        page.matches("<code>/etc/agent/&lt;configs&gt;</code>")
            .count()
            == 2
            && page.contains("<code>agent init DIR</code>"),
        "{page}"
    );
    let status = page_with(address, "/api/v1/status", "watched").await;
    assert!(status.contains("\"watched\":\"/etc/agent/<configs>\""));
}

#[tokio::test]
async fn sinks_tell_their_next_try_and_what_they_dropped() {
    let sinks = [
        ("fine", json!({})),
        ("away", json!({"next_try": 90, "limit": 1204, "too_old": 3})),
        ("asked", json!({"next_try": -2})),
        ("refused", json!({"next_try": null})),
    ];
    let address = serve_sinks(&sinks, |_| {}).await;
    let page = page_with(address, "/", "refused").await;
    for words in [
        "; next try in 1 min",
        "Dropped since the start: 1,204 samples (limit), 3 samples (too_old)",
        "; being tried now",
        "; tried again with the next results",
    ] {
        assert_eq!(page.matches(words).count(), 1, "{words} in {page}");
    }
    let answer = request(address, "GET /api/v1/status HTTP/1.0").await;
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let status: Value = serde_json::from_str(body).unwrap();
    let of = |name: &str| {
        let sinks = status["sinks"].as_array().unwrap();
        sinks.iter().find(|sink| sink["name"] == name).unwrap()
    };
    assert!(of("fine")["next_try"].is_null() && of("fine")["dropped"] == json!([]));
    assert!(of("away")["next_try"].as_f64() > status["now"].as_f64());
    assert_eq!(
        of("away")["dropped"],
        json!([
            {"what": "samples", "reason": "limit", "count": 1204},
            {"what": "samples", "reason": "too_old", "count": 3},
        ])
    );
}

#[tokio::test]
async fn of_many_groups_the_worst_are_listed_and_all_by_a_link() {
    let (address, _, _) = serve(12).await;
    page_with(address, "/", "<title>1 down").await;
    let page = page_with(address, "/?sort=name", "the worst 10 of 12").await;
    let groups = |page: &str| page.matches("#devices\"><bdi>group-").count();
    assert_eq!(groups(&page), 10);
    assert!(page.contains("<bdi>group-11</bdi></a></td>"), "{page}");
    assert!(
        page.contains("href=\"./?groups=all&amp;sort=name#group\""),
        "{page}"
    );
    let page = page_with(address, "/?groups=all&sort=name", "1 down").await;
    assert_eq!(groups(&page), 12);
}

#[tokio::test]
async fn results_that_stay_away_make_the_page_stale_and_devices_unknown() {
    let (address, _, running) = serve(1).await;
    page_with(address, "/", "<title>Devices").await;
    page_with(address, "/api/v1/status", "\"up\":1").await;
    running.abort();
    let page = page_with(address, "/", ">stale, 1 problem<").await;
    assert!(page.contains("<b class=\"st d\">stale, "), "{page}");
    // On phones, where units stand beside values, there is none beside a value that is not there.
    assert!(
        page.contains("<td class=\"x\" role=\"cell\">–</td>"),
        "{page}"
    );
    let list = page_with(address, "/api/v1/devices", "\"state\":\"unknown\"").await;
    assert!(list.contains("\"rtt\":null"), "{list}");
}

#[tokio::test]
async fn a_clock_that_is_off_is_a_problem() {
    let (address, history, _) = serve(1).await;
    let tell = |name: &str, value: f64| {
        let mut report = CycleReport::new(AGENT_JOB, 0, SystemTime::now());
        report.is_agent = true;
        let columns = [MetricDescriptor::gauge(name.to_owned(), "As it is")];
        let frame = FrameBuilder::new(&columns).unwrap();
        report
            .exporter
            .push(frame.row(LabelSet::empty(), &[value]).build());
        history.publish(Arc::new(report));
    };
    page_with(address, "/", ">measuring<").await;
    tell("pingexporter_clock_synchronized", 1.0);
    page_with(address, "/", "clock synchronised").await;
    tell("pingexporter_clock_synchronized", 0.0);
    let page = page_with(address, "/", "1 problem<").await;
    assert!(
        page.contains("href=\"./#clock\"") && page.contains("not synchronised"),
        "{page}"
    );
    tell("pingexporter_clock_ahead_of_receiver_seconds", -40.0);
    page_with(
        address,
        "/api/v1/status",
        "the clock is 40 s behind a receiver's",
    )
    .await;
}
