//! Deliveries to a Pushgateway that are broken off: it asks to be left alone, or some of its paths hang.
#![allow(clippy::unwrap_used)]

mod common;

use std::net::TcpListener;
use std::time::{Duration, Instant};

use common::{report, sink, until};
use pe_scrape::Sink;
use pe_testkit::{Gateway, Nginx, require};

/// nginx before a gateway, which answers at `path` to `method` that it is to be left alone for a second.
fn busy_at(gateway: &Gateway, path: &str, method: &str, status: u16) -> Nginx {
    let upstream = gateway.address();
    let directives = format!(
        "location = /metrics/job/{path} {{\n\
         if ($request_method = {method}) {{ add_header Retry-After 1 always; return {status}; }}\n\
         proxy_pass http://{upstream};\n}}\n"
    );
    Nginx::with_directives(upstream, &directives)
}

/// Methods and paths of all requests so far, in order.
fn requests(nginx: &Nginx) -> Vec<String> {
    let log = nginx.access_log();
    let request = |line: &str| {
        let request = line.split('"').nth(1)?.strip_suffix(" HTTP/1.1")?;
        Some(request.replace("/metrics/job/", ""))
    };
    log.lines().filter_map(request).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_asks_to_be_left_alone_gets_no_further_push_of_the_round() {
    require!(Program("prometheus-pushgateway"), Program("nginx"));
    for status in [429, 503] {
        let gateway = Gateway::start();
        let nginx = busy_at(&gateway, "busy", "PUT", status);
        let sink = sink(&nginx.url(), |settings| settings.max_parallel_pushes = 1);
        let devices = ["after", "before", "busy", "last"].map(|name| (name, "127.0.0.1", 1.0));
        let started = Instant::now();
        sink.publish(report("p", &devices));
        until("the first answer of that kind", || {
            requests(&nginx).len() >= 3
        })
        .await;
        // New results wait too.
        sink.publish(report("p", &devices));
        until("further pushes", || requests(&nginx).len() > 3).await;
        assert!(started.elapsed() >= Duration::from_secs(1), "{status}");
        // What did not come to its turn goes before what was answered that way.
        until("the path that is busy again", || {
            requests(&nginx)
                .iter()
                .filter(|it| *it == "PUT busy")
                .count()
                == 2
        })
        .await;
        let second = ["PUT after", "PUT before", "PUT last", "PUT p", "PUT busy"];
        assert_eq!(requests(&nginx)[3..8], second, "{status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_that_is_to_come_later_is_not_put_off_like_one_that_was_refused() {
    require!(Program("prometheus-pushgateway"), Program("nginx"));
    let gateway = Gateway::start();
    let nginx = busy_at(&gateway, "gone", "DELETE", 503);
    let sink = sink(&nginx.url(), |_| {});
    sink.retain(&["p".into()]);
    sink.publish(report(
        "p",
        &[("gone", "127.0.0.1", 1.0), ("stays", "127.0.0.1", 1.0)],
    ));
    gateway.until_keys(&["gone", "p", "stays"]);
    sink.publish(report("p", &[("stays", "127.0.0.1", 1.0)]));
    let deletions = || {
        let requests = requests(&nginx);
        requests.iter().filter(|it| *it == "DELETE gone").count()
    };
    // A refused one is tried again after a minute.
    let started = Instant::now();
    until("three tries", || deletions() >= 3).await;
    assert!(started.elapsed() >= Duration::from_secs(1));
    assert!(sink.status().outage.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_that_hang_keep_nothing_else_from_arriving() {
    require!(Program("prometheus-pushgateway"), Program("nginx"));
    // Takes connections and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let gateway = Gateway::start();
    let hanging = format!("location ~ ^/metrics/job/hang {{ proxy_pass http://{address}; }}");
    let nginx = Nginx::with_directives(gateway.address(), &hanging);
    let sink = sink(&nginx.url(), |settings| {
        settings.max_parallel_pushes = 1;
        settings.timeout = Duration::from_millis(300);
    });
    let names = ["hang1", "hang2", "hang3", "hang4", "live"];
    sink.publish(report("p", &names.map(|name| (name, "127.0.0.1", 1.0))));
    gateway.until_keys(&["live", "p"]);
}
