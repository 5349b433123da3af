//! What the sink's client does with servers, proxies and files: against Debian's Pushgateway and nginx.
#![allow(clippy::unwrap_used)]

mod common;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use common::{FakeGateway, report, until};
use pe_push::PushgatewayFactory;
use pe_scrape::resolve::{Resolve, ResolveError};
use pe_scrape::{Family, Sink, SinkFactory, SinkSettings};
use pe_testkit::{Gateway, Nginx, require, wait};
use serde_json::{Value, json};

fn sink(own: Value) -> Arc<dyn Sink> {
    let factory = PushgatewayFactory::new();
    factory.create(&SinkSettings::new("gateway", own)).unwrap()
}

/// Publishes one device of that name, and says what became of it.
async fn push(sink: &dyn Sink, device: &str) -> Result<(), String> {
    sink.publish(report("p", &[(device, "127.0.0.1", 1.0)]));
    sink.flush().await.map_err(|error| error.to_string())
}

/// Knows these addresses for every host.
struct Fixed(Vec<IpAddr>);

#[async_trait]
impl Resolve for Fixed {
    async fn resolve(&self, _: &str, _: Option<Family>) -> Result<IpAddr, ResolveError> {
        Ok(self.0[0])
    }

    async fn resolve_all(&self, _: &str) -> Result<Vec<IpAddr>, ResolveError> {
        Ok(self.0.clone())
    }
}

#[test]
fn a_gateway_is_reached_although_its_first_addresses_are_silent() {
    require!(Namespaces);
    pe_testkit::in_namespace(|namespace| {
        let silent = [namespace.silent_v4(1), namespace.silent_v4(2)].map(IpAddr::from);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let gateway = FakeGateway::hanging().await;
            gateway.answer();
            let address: SocketAddr = gateway
                .url
                .strip_prefix("http://")
                .unwrap()
                .parse()
                .unwrap();
            let known = silent.into_iter().chain([address.ip()]).collect();
            let factory = PushgatewayFactory::new().resolver(Arc::new(Fixed(known)));
            let own = json!({"url": format!("http://gateway.test:{}", address.port())});
            let sink = factory.create(&SinkSettings::new("gateway", own)).unwrap();
            push(&*sink, "d").await.unwrap();
            assert_eq!(
                gateway.answered(),
                ["PUT /metrics/job/d", "PUT /metrics/job/p"]
            );
        });
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_the_url_says_what_to_change() {
    require!(Program("prometheus-pushgateway"), Program("nginx"));
    let gateway = Gateway::start();
    let directives = "location /metrics/job/p { return 200; }\n\
                      location /metrics/job/moved { return 308 https://push.example/base$request_uri; }\n\
                      location /metrics/job/gone { return 404; }\n\
                      location /metrics/job/method { return 405; }\n\
                      location /metrics/job/large { return 413; }\n";
    let nginx = Nginx::with_directives(gateway.address(), directives);
    let sink = sink(json!({"url": nginx.url()}));
    for (device, words) in [
        ("moved", "give the URL https://push.example/base"),
        (
            "gone",
            "takes no pushes at /metrics/job/gone (404 Not Found)",
        ),
        (
            "method",
            "takes no pushes at /metrics/job/method (405 Method Not Allowed)",
        ),
        ("large", "client_max_body_size"),
    ] {
        let told = push(&*sink, device).await.unwrap_err();
        assert!(told.contains(words), "{told}");
    }
    push(&*sink, "fine").await.unwrap();
    assert!(sink.status().outage.is_none() && sink.status().last_success.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_tells_the_next_try_and_results_that_newer_ones_replaced() {
    let closed = pe_testkit::free_port().unwrap();
    let sink = sink(json!({"url": format!("http://{closed}")}));
    let status = || {
        sink.publish(report("p", &[("d", "127.0.0.1", 1.0)]));
        sink.status()
    };
    wait::until_true("a next try and what was dropped", || {
        let status = status();
        let next_try = status.outage.and_then(|outage| outage.next_try);
        let dropped = status.dropped.first();
        next_try > Some(SystemTime::now())
            && dropped
                .is_some_and(|it| (it.what, it.reason) == ("results", "superseded") && it.count > 1)
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_passwords_and_headers_are_sent_and_files_read_again_when_they_change() {
    require!(Program("prometheus-pushgateway"), Program("nginx"));
    let (gateway, directory) = (Gateway::start(), tempfile::tempdir().unwrap());
    let file = directory.path().join("token");
    let wanted = "if ($http_authorization != \"Bearer new\") { return 401; }\n\
                  if ($http_x_scope_orgid != tenant) { return 400; }";
    let bearer = Nginx::with_directives(gateway.address(), wanted);
    std::fs::write(&file, "old\n").unwrap();
    let own = json!({"url": bearer.url(), "bearer_token_file": file, "headers": {"X-Scope-OrgID": "tenant"}});
    let by_token = sink(own);
    let told = push(&*by_token, "a").await.unwrap_err();
    assert!(
        told.ends_with("(401 Unauthorized): check the token"),
        "{told}"
    );
    std::fs::write(&file, "\u{feff}new\n").unwrap();
    until("the new token", || {
        gateway.metrics().contains("device=\"a\"")
    })
    .await;

    let basic = Nginx::with_basic_auth(gateway.address(), "u", "new");
    std::fs::write(&file, "old").unwrap();
    let own = json!({"url": basic.url(), "username": "u", "password_file": file});
    let by_password = sink(own);
    let told = push(&*by_password, "b").await.unwrap_err();
    assert!(
        told.ends_with("(401 Unauthorized): check user and password"),
        "{told}"
    );
    std::fs::write(&file, "new\n").unwrap();
    until("the new password", || {
        gateway.metrics().contains("device=\"b\"")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_are_compressed_unless_that_is_refused() {
    require!(Program("prometheus-pushgateway"), Program("nginx"));
    let gateway = Gateway::start();
    let directives = "if ($http_content_encoding = gzip) { return 415; }";
    let nginx = Nginx::with_directives(gateway.address(), directives);
    let names: Vec<String> = (0..1000).map(|n| format!("device {n}")).collect();
    let devices: Vec<_> = names
        .iter()
        .map(|name| (name.as_str(), "127.0.0.1", 1.0))
        .collect();
    let pushed = || gateway.metrics().matches("dev_ping{").count();
    for (url, compression) in [
        (gateway.url(), "gzip"),
        (nginx.url(), "gzip"),
        (nginx.url(), "none"),
    ] {
        let own = json!({"url": url, "grouping": "config", "compression": compression});
        let sink = sink(own);
        for _ in 0..2 {
            sink.publish(report("p", &devices));
            sink.flush().await.unwrap();
        }
        assert_eq!(pushed(), 1000, "{url} {compression}");
    }
    // It was tried once.
    assert_eq!(
        nginx.access_log().matches(" 415 ").count(),
        1,
        "{}",
        nginx.access_log()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn series_are_kept_and_dropped_by_name_and_label() {
    require!(Program("prometheus-pushgateway"));
    let gateway = Gateway::start();
    let own = json!({"url": gateway.url(), "keep": ["dev_*"], "drop": ["{device=b*}"]});
    let sink = sink(own);
    let devices = [("a1", "127.0.0.1", 1.0), ("b1", "127.0.0.1", 1.0)];
    sink.publish(report("p", &devices));
    sink.flush().await.unwrap();
    let jobs: Vec<_> = gateway
        .groups()
        .iter()
        .map(|it| it["labels"]["job"].clone())
        .collect();
    assert_eq!(jobs, ["a1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_of_a_metered_link_keep_to_their_budget_and_to_no_timeout_for_it() {
    require!(Program("prometheus-pushgateway"));
    let gateway = Gateway::start();
    let names: Vec<String> = (0..200).map(|n| format!("device {n}")).collect();
    let devices: Vec<_> = names
        .iter()
        .map(|name| (name.as_str(), "127.0.0.1", 1.0))
        .collect();
    let own = json!({
        "url": gateway.url(), "grouping": "config", "compression": "none",
        "max_bytes_per_second": 8000, "timeout": "500ms",
    });
    let sink = sink(own);
    sink.publish(report("p", &devices));
    sink.flush().await.unwrap();
    assert_eq!(gateway.metrics().matches("dev_ping{").count(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_is_asked_without_a_trace() {
    require!(Program("prometheus-pushgateway"), Program("nginx"));
    let gateway = Gateway::start();
    let asked = async |url: String| {
        sink(json!({"url": url}))
            .check_peer()
            .await
            .map_err(|it| it.to_string())
    };
    asked(gateway.url()).await.unwrap();
    let no_delete = "if ($request_method = DELETE) { return 405; }";
    let no_delete = Nginx::with_directives(gateway.address(), no_delete);
    asked(no_delete.url()).await.unwrap();
    let locked = Nginx::with_basic_auth(gateway.address(), "u", "p");
    let told = asked(locked.url()).await.unwrap_err();
    assert!(told.contains("401"), "{told}");
    let other = Nginx::with_directives(gateway.address(), "location /metrics/ { return 404; }");
    let told = asked(other.url()).await.unwrap_err();
    assert!(told.contains("takes no pushes"), "{told}");
    let nobody = pe_testkit::free_port().unwrap();
    let told = asked(format!("http://{nobody}")).await.unwrap_err();
    assert!(told.contains("cannot connect"), "{told}");
    assert!(gateway.groups().is_empty());
}
