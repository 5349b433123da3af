//! What the overview says while something is not as usual.
#![allow(clippy::unwrap_used)]

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use common::{registry, request};
use pe_engine::{Engine, Group};
use pe_scrape::{AGENT_JOB, CycleReport, FrameBuilder, LabelSet, MetricDescriptor, Sink};
use pe_web::{History, Server, WebSettings};
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
async fn without_groups_the_page_says_what_is_awaited() {
    let (address, _, _) = serve(0).await;
    let page = page_with(address, "/", "Nothing to measure").await;
    assert!(
        page.contains("0 devices in 0 groups") && page.contains("No devices yet"),
        "{page}"
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
