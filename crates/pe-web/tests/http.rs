//! Requests over a real socket, as a scraper and a browser send them.
#![allow(clippy::unwrap_used)]

mod common;

use std::net::SocketAddr;

use common::{engine, request, serve};
use pe_web::{ListenAddress, Server, WebSettings};
use tokio::sync::mpsc;

#[tokio::test]
async fn a_scraper_and_a_browser_get_what_they_ask_for() {
    let server = Server::bind(loopback()).await.unwrap();
    let address = server.local_addr();
    let engine = engine("");
    let mut finished = engine.results().subscribe();
    tokio::spawn(server.serve(engine.handle(), std::future::pending()));

    let response = request(address, "GET /-/ready HTTP/1.1").await;
    assert!(response.starts_with("HTTP/1.1 503"), "{response}");
    let page = request(address, "GET / HTTP/1.1").await;
    assert!(page.contains("first one under way"), "{page}");

    tokio::spawn(engine.run(std::future::pending()));
    finished.next().await.unwrap();
    assert!(
        request(address, "GET /-/ready HTTP/1.1")
            .await
            .starts_with("HTTP/1.1 200")
    );
    assert!(
        request(address, "GET /-/healthy HTTP/1.1")
            .await
            .ends_with("healthy\n")
    );

    let page = request(address, "GET / HTTP/1.1").await;
    assert!(page.contains("<bdi>Plant &lt;1&gt;</bdi>"), "{page}");

    let text = request(address, "GET /metrics HTTP/1.1").await;
    assert!(
        text.contains("content-type: text/plain; version=0.0.4"),
        "{text}"
    );
    assert!(text.contains("ping_up{exporter=\"Plant <1>\",device=\"works\",ip=\"127.0.0.1\"} 1\n"));
    let accept = "GET /metrics HTTP/1.1\r\nAccept: application/openmetrics-text";
    assert!(request(address, accept).await.contains("# EOF\n"));

    assert!(
        request(address, "GET /nothing HTTP/1.1")
            .await
            .starts_with("HTTP/1.1 404")
    );
    assert!(
        request(address, "POST /metrics HTTP/1.1\r\nContent-Length: 0")
            .await
            .starts_with("HTTP/1.1 405")
    );
}

#[tokio::test]
async fn an_address_in_use_is_told() {
    let first = Server::bind(loopback()).await.unwrap();
    let error = Server::bind(first.local_addr()).await.err().unwrap();
    let address = first.local_addr();
    assert_eq!(error.to_string(), format!("cannot listen on {address}"));
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("in use"), "{cause}");
}

fn loopback() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

#[tokio::test]
async fn a_port_alone_is_all_interfaces_of_both_families() {
    pe_testkit::require!(Ipv6);
    let settings = WebSettings::new([ListenAddress::All(0), loopback().into()]);
    let server = Server::bind(settings).await.unwrap();
    let [all, one] = [server.addresses()[0], server.addresses()[1]];
    tokio::spawn(server.serve(engine("").handle(), std::future::pending()));
    for host in ["127.0.0.1", "127.0.0.2", "[::1]"] {
        let address = format!("{host}:{}", all.port()).parse().unwrap();
        assert!(
            request(address, "GET /-/healthy HTTP/1.1")
                .await
                .ends_with("healthy\n")
        );
    }
    assert!(
        request(one, "GET /-/healthy HTTP/1.1")
            .await
            .ends_with("healthy\n")
    );
}

#[tokio::test]
async fn a_reload_is_done_for_whoever_may_ask_for_it() {
    let closed = serve("", |_| {}).await;
    let post = "POST /-/reload HTTP/1.1\r\nContent-Length: 0";
    assert!(request(closed, post).await.starts_with("HTTP/1.1 404"));

    let (sender, mut asked) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut result = Ok(());
        while let Some(reply) = asked.recv().await {
            let _: Result<_, _> = tokio::sync::oneshot::Sender::send(reply, result);
            result = Err("plant.json:3:1: no".to_owned());
        }
    });
    let address = serve("", |settings| settings.reload = Some(sender)).await;
    assert!(
        request(address, "GET /-/reload HTTP/1.1")
            .await
            .starts_with("HTTP/1.1 405")
    );
    let foreign = format!("{post}\r\nSec-Fetch-Site: cross-site");
    assert!(request(address, &foreign).await.starts_with("HTTP/1.1 403"));
    assert!(request(address, post).await.ends_with("reloaded\n"));
    let refused = request(address, post).await;
    assert!(
        refused.starts_with("HTTP/1.1 500") && refused.contains("plant.json:3:1: no"),
        "{refused}"
    );
}

#[tokio::test]
async fn the_metrics_are_where_they_are_wanted() {
    let address = serve("", |settings| {
        settings.telemetry_path = "/ping/metrics".into();
    })
    .await;
    assert!(
        request(address, "GET /metrics HTTP/1.1")
            .await
            .starts_with("HTTP/1.1 404")
    );
    assert!(
        request(address, "GET /ping/metrics HTTP/1.1")
            .await
            .contains("ping_up{")
    );
}

#[tokio::test]
async fn browsers_are_told_to_run_and_embed_nothing() {
    let address = serve("", |_| {}).await;
    for path in [
        "/",
        "/metrics",
        "/-/healthy",
        "/nothing",
        "/../../etc/passwd",
        "/%00",
    ] {
        let response = request(address, &format!("GET {path} HTTP/1.1")).await;
        for header in [
            "content-security-policy: default-src 'none'",
            "x-content-type-options: nosniff",
            "x-frame-options: DENY",
        ] {
            assert!(
                response.contains(header),
                "{path}: no {header} in {response}"
            );
        }
    }
}

#[tokio::test]
async fn pages_are_small_and_load_nothing_else() {
    let address = serve("127.1.0.0/20", |_| {}).await;
    let page = request(address, "GET /?rows=100 HTTP/1.0").await;
    assert_eq!(page.matches("<tr role=\"row\" data-id=").count(), 100);
    assert!(page.len() < 100_000, "{} bytes", page.len());
    for outside in [
        "=\"http",
        "=\"//",
        "url(http",
        "@import",
        " style=\"",
        " onclick",
    ] {
        assert!(!page.contains(outside), "{outside} in {page}");
    }
    let policy = page
        .lines()
        .find(|line| line.starts_with("content-security-policy: "));
    let policy = policy.unwrap();
    assert!(
        policy.contains("default-src 'none'; style-src 'sha256-"),
        "{policy}"
    );
    assert!(!policy.contains("unsafe"), "{policy}");
}
