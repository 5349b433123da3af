//! Deliveries that are broken off, against a gateway that hangs.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use common::{FakeGateway, report, sink, until};
use pe_scrape::Sink;
use pe_testkit::wait::PATIENCE;

/// Long enough that no request of a test ends by it.
const NEVER: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn what_a_dropped_flush_has_not_delivered_arrives_with_the_next() {
    let gateway = FakeGateway::hanging().await;
    let sink = sink(&gateway.url, |settings| settings.timeout = NEVER);
    sink.publish(report(
        "p",
        &[("a", "127.0.0.1", 1.0), ("b", "127.0.0.2", 2.0)],
    ));
    tokio::select! {
        biased;
        // Runs before the sink's own task has a turn, and takes what is pending.
        result = sink.flush() => panic!("flushed to a gateway that hangs: {result:?}"),
        () = gateway.hangs(3) => {}
    }
    gateway.answer();
    let flushed = tokio::time::timeout(PATIENCE, sink.flush()).await;
    flushed.unwrap().unwrap();
    let expected = [
        "PUT /metrics/job/a",
        "PUT /metrics/job/b",
        "PUT /metrics/job/p",
    ];
    assert_eq!(gateway.answered(), expected);
}

#[tokio::test]
async fn the_sinks_own_task_takes_over_from_a_dropped_flush() {
    let gateway = FakeGateway::hanging().await;
    let sink = sink(&gateway.url, |settings| settings.timeout = NEVER);
    sink.publish(report("p", &[]));
    tokio::select! {
        biased;
        result = sink.flush() => panic!("flushed to a gateway that hangs: {result:?}"),
        () = gateway.hangs(1) => {}
    }
    gateway.answer();
    let arrived = || gateway.answered() == ["PUT /metrics/job/p"];
    until("the sink's task", arrived).await;
}

#[tokio::test]
async fn a_dropped_flush_still_deletes_what_is_gone() {
    let gateway = FakeGateway::hanging().await;
    gateway.answer();
    let sink = sink(&gateway.url, |settings| settings.timeout = NEVER);
    sink.publish(report("p", &[("shared", "127.0.0.1", 1.0)]));
    sink.publish(report("q", &[("shared", "127.0.0.2", 1.0)]));
    sink.flush().await.unwrap();
    let before = gateway.answered().len();
    // The sink's own task finds nothing to do, and waits.
    tokio::task::yield_now().await;
    gateway.hang();
    sink.retain(&["q".into()]);
    tokio::select! {
        biased;
        result = sink.flush() => panic!("flushed to a gateway that hangs: {result:?}"),
        () = gateway.hangs(1) => {}
    }
    gateway.answer();
    let flushed = tokio::time::timeout(PATIENCE, sink.flush()).await;
    flushed.unwrap().unwrap();
    let answered = gateway.answered();
    let deleted = "DELETE /metrics/job/p".to_owned();
    assert!(answered.contains(&deleted), "{answered:?}");
    // The push group that another group has a part in is pushed again.
    assert_eq!(answered.len(), before + 2, "{answered:?}");
}
