//! What stays on a gateway when settings change, sinks go and the program starts anew: against Debian's Pushgateway and nginx.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;
use std::sync::Arc;

use common::{FakeGateway, metric, report, until};
use pe_push::PushgatewayFactory;
use pe_scrape::{CloseReason, Labels, Sink, SinkFactory, SinkSettings};
use pe_testkit::{Gateway, Nginx, require};
use serde_json::{Value, json};

/// A sink as an agent makes it.
fn sink(factory: &PushgatewayFactory, own: Value) -> Arc<dyn Sink> {
    factory.create(&SinkSettings::new("gateway", own)).unwrap()
}

fn in_directory(directory: &Path) -> PushgatewayFactory {
    PushgatewayFactory::new().state_dir(Some(directory.to_owned()))
}

/// Tells a sink which groups are in force, with a report of each, and waits until they have arrived.
async fn publish(sink: &dyn Sink, groups: &[(&str, &[&str])]) {
    let names: Vec<Arc<str>> = groups.iter().map(|(name, _)| Arc::from(*name)).collect();
    sink.retain(&names);
    for (name, devices) in groups {
        let devices: Vec<_> = devices
            .iter()
            .map(|device| (*device, "127.0.0.1", 1.0))
            .collect();
        sink.publish(report(name, &devices));
    }
    sink.flush().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn another_grouping_and_other_external_labels_leave_nothing_behind() {
    require!(Program("prometheus-pushgateway"));
    let gateway = Gateway::start();
    let factory = PushgatewayFactory::new();
    let first = sink(&factory, json!({"url": gateway.url()}));
    publish(&*first, &[("p", &["a", "b"])]).await;
    gateway.until_keys(&["a", "b", "p"]);

    // The successor is there before the first goes, as in a reload.
    let second = sink(
        &factory,
        json!({"url": gateway.url(), "grouping": "config"}),
    );
    publish(&*second, &[("p", &["a", "b"])]).await;
    first.close(CloseReason::Removed).await;
    drop(first);
    until("the old groups to go", || gateway.keys() == ["p"]).await;

    let mut settings = SinkSettings::new("gateway", json!({"url": gateway.url()}));
    settings.external_labels = [("site", "x/y"), ("__replica__", "1")]
        .into_iter()
        .collect::<Labels>();
    let third = factory.create(&settings).unwrap();
    publish(&*third, &[("p", &["a"])]).await;
    second.close(CloseReason::Removed).await;
    drop(second);
    until("the old groups to go", || {
        gateway.keys() == ["a/site=x/y", "p/site=x/y"]
    })
    .await;
    assert!(!gateway.log().contains("inconsistent"), "{}", gateway.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_removed_while_the_agent_was_down_is_deleted_once_all_groups_have_reported() {
    require!(Program("prometheus-pushgateway"));
    let (gateway, directory) = (Gateway::start(), tempfile::tempdir().unwrap());
    {
        let before = sink(
            &in_directory(directory.path()),
            json!({"url": gateway.url()}),
        );
        publish(&*before, &[("p", &["a", "b"]), ("q", &["c"])]).await;
        before.close(CloseReason::Shutdown).await;
    }
    gateway.until_keys(&["a", "b", "c", "p", "q"]);
    let after = sink(
        &in_directory(directory.path()),
        json!({"url": gateway.url()}),
    );
    after.retain(&["p".into(), "q".into()]);
    after.publish(report("p", &[("a", "127.0.0.1", 2.0)]));
    after.flush().await.unwrap();
    // "c" is of a group that has not reported yet.
    gateway.until_keys(&["a", "b", "c", "p", "q"]);
    after.publish(report("q", &[("c", "127.0.0.1", 2.0)]));
    after.flush().await.unwrap();
    gateway.until_keys(&["a", "c", "p", "q"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_that_was_never_answered_counts_as_there() {
    let (gateway, directory) = (FakeGateway::hanging().await, tempfile::tempdir().unwrap());
    {
        let own = json!({"url": gateway.url, "timeout": 3600});
        let before = sink(&in_directory(directory.path()), own);
        before.publish(report("p", &[("a", "127.0.0.1", 1.0)]));
        gateway.hangs(2).await;
        // Killed here: nothing is told to the sink.
    }
    gateway.answer();
    let after = sink(&in_directory(directory.path()), json!({"url": gateway.url}));
    publish(&*after, &[("p", &[])]).await;
    assert_eq!(
        gateway.answered(),
        ["DELETE /metrics/job/a", "PUT /metrics/job/p"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_is_no_longer_configured_is_cleared_with_the_settings_that_are_known() {
    require!(Program("prometheus-pushgateway"), Program("nginx"));
    let (old, new) = (Gateway::start(), Gateway::start());
    let nginx = Nginx::with_basic_auth(old.address(), "u", "p");
    let directory = tempfile::tempdir().unwrap();
    let factory = in_directory(directory.path());
    let with_password = json!({"url": nginx.url(), "username": "u", "password": "p"});
    let first = sink(&factory, with_password.clone());
    publish(&*first, &[("p", &["a"])]).await;
    let noted = std::fs::read_to_string(directory.path().join("pushgateways")).unwrap();
    assert!(
        noted.contains(&nginx.url()) && !noted.contains("u:p"),
        "{noted}"
    );
    let second = sink(&factory, json!({"url": new.url()}));
    // By a reload: with the old settings, its password among them.
    first.close(CloseReason::Removed).await;
    drop(first);
    old.until_keys::<&str>(&[]);
    publish(&*second, &[("p", &["a"])]).await;

    // By a restart: without, since nobody knows them.
    let again = sink(&factory, with_password);
    publish(&*again, &[("p", &["a"])]).await;
    again.close(CloseReason::Shutdown).await;
    drop((again, second, factory));
    let factory = in_directory(directory.path());
    let after = sink(&factory, json!({"url": new.url()}));
    publish(&*after, &[("p", &["a"])]).await;
    until("the former groups to be counted", || former(&*after) == 2.0).await;
    let is_noted = || {
        let noted = std::fs::read_to_string(directory.path().join("pushgateways")).unwrap();
        noted.contains(&nginx.url())
    };
    assert!(is_noted());
    old.until_keys(&["a", "p"]);

    // Configured again, and removed by a reload.
    let once_more = sink(
        &factory,
        json!({"url": nginx.url(), "username": "u", "password": "p"}),
    );
    once_more.close(CloseReason::Removed).await;
    drop(once_more);
    old.until_keys::<&str>(&[]);
    until("no former groups", || former(&*after) == 0.0).await;
    assert!(!is_noted());
}

fn former(sink: &dyn Sink) -> f64 {
    metric(sink, "pingexporter_push_former_groups", None)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_former_gateway_that_lets_everybody_in_is_cleared_after_a_restart() {
    require!(Program("prometheus-pushgateway"));
    let (old, new) = (Gateway::start(), Gateway::start());
    let directory = tempfile::tempdir().unwrap();
    let before = sink(&in_directory(directory.path()), json!({"url": old.url()}));
    publish(&*before, &[("p", &["a"])]).await;
    before.close(CloseReason::Shutdown).await;
    drop(before);
    let after = sink(&in_directory(directory.path()), json!({"url": new.url()}));
    publish(&*after, &[("p", &["a"])]).await;
    old.until_keys::<&str>(&[]);
    new.until_keys(&["a", "p"]);
    until("no former groups", || former(&*after) == 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_former_gateway_that_hangs_holds_up_no_push_and_may_come_back() {
    require!(Program("prometheus-pushgateway"));
    let (old, new) = (FakeGateway::hanging().await, Gateway::start());
    let directory = tempfile::tempdir().unwrap();
    {
        let before = sink(
            &in_directory(directory.path()),
            json!({"url": old.url, "timeout": 3600}),
        );
        before.publish(report("p", &[("a", "127.0.0.1", 1.0)]));
        old.hangs(2).await;
    }
    let factory = in_directory(directory.path());
    let after = sink(&factory, json!({"url": new.url()}));
    publish(&*after, &[("p", &["a"])]).await;
    old.hangs(4).await;
    publish(&*after, &[("p", &["a", "b"])]).await;
    new.until_keys(&["a", "b", "p"]);
    old.answer();
    let again = sink(&factory, json!({"url": old.url}));
    publish(&*again, &[("p", &[])]).await;
    until("the old group to go", || {
        old.answered().contains(&"DELETE /metrics/job/a".to_owned())
    })
    .await;
    drop(again);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_sinks_of_one_gateway_delete_nothing_of_each_other() {
    require!(Program("prometheus-pushgateway"));
    let (gateway, factory) = (Gateway::start(), PushgatewayFactory::new());
    let by_device = sink(&factory, json!({"url": gateway.url()}));
    let by_config = sink(
        &factory,
        json!({"url": gateway.url(), "grouping": "config"}),
    );
    publish(&*by_config, &[("p", &["a"])]).await;
    publish(&*by_device, &[("p", &["a", "b"])]).await;
    publish(&*by_config, &[("p", &["a"])]).await;
    gateway.until_keys(&["a", "b", "p"]);
    publish(&*by_device, &[("p", &["a"])]).await;
    gateway.until_keys(&["a", "p"]);
    by_device.close(CloseReason::Removed).await;
    drop(by_device);
    until("what only one wanted to go", || gateway.keys() == ["p"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn push_groups_are_deleted_at_the_end_where_that_is_wanted() {
    require!(Program("prometheus-pushgateway"));
    let (gateway, factory) = (Gateway::start(), PushgatewayFactory::new());
    let kept = sink(&factory, json!({"url": gateway.url()}));
    publish(&*kept, &[("p", &["a"])]).await;
    kept.close(CloseReason::Shutdown).await;
    drop(kept);
    gateway.until_keys(&["a", "p"]);
    let own = json!({"url": gateway.url(), "delete_on_shutdown": true});
    let deleted = sink(&factory, own);
    publish(&*deleted, &[("p", &["a"])]).await;
    deleted.close(CloseReason::Shutdown).await;
    gateway.until_keys::<&str>(&[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_proxy_refuses_delete_or_some_paths_everything_else_is_pushed() {
    require!(Program("prometheus-pushgateway"), Program("nginx"));
    let gateway = Gateway::start();
    let refusing = "if ($request_method = DELETE) { return 405; }\n\
                    location ~ ^/metrics/job/bad1 { return 401; }\n\
                    location ~ ^/metrics/job/bad2 { return 403; }\n\
                    location ~ ^/metrics/job/bad3 { return 444; }\n";
    let nginx = Nginx::with_directives(gateway.address(), refusing);
    let factory = PushgatewayFactory::new();
    let sink = sink(
        &factory,
        json!({"url": nginx.url(), "max_parallel_pushes": 1}),
    );
    sink.retain(&["p".into()]);
    let gone = ["aa1", "aa2", "aa3", "aa4", "aa5"].map(|name| (name, "127.0.0.1", 1.0));
    sink.publish(report("p", &gone));
    sink.flush().await.unwrap();
    let names = [
        "bad1", "bad1b", "bad2", "bad2b", "bad3", "bad3b", "live1", "live2",
    ];
    sink.publish(report("p", &names.map(|name| (name, "127.0.0.1", 1.0))));
    let error = sink.flush().await.unwrap_err().to_string();
    assert!(error.contains("refuses access (401"), "{error}");
    let there = gateway.keys();
    for live in ["live1", "live2", "p"] {
        assert!(
            there.iter().any(|group| group == live),
            "no {live} in {there:?}"
        );
    }
}
