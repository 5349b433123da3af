//! What the public compliance tests for senders ask, restated, for 1.0 and 2.0.

use std::collections::BTreeSet;

use pe_scrape::{CloseReason, Sink};
use pe_testkit::{ReceivedWrite, WriteAnswer, WriteReceiver, wait};
use serde_json::json;

use crate::fleet::{Fleet, by_series, labelled_sink, metric, plain_sink, sink};

const VERSIONS: [&str; 2] = ["1.0", "2.0"];

#[tokio::test(flavor = "multi_thread")]
async fn every_sample_arrives_once_in_order_and_as_the_specification_wants() {
    for version in VERSIONS {
        let receiver = WriteReceiver::start();
        let labels = [("site", "north"), ("Zone", "1"), ("empty", "")];
        let sink = labelled_sink(&receiver.url(), json!({"protocol": version}), &labels);
        let fleet = Fleet::until_now(7, 5);
        for cycle in 0..5 {
            sink.publish(fleet.report(cycle, &[]));
        }
        let all = fleet.expected(0..5);
        wait::until_true("all samples", || by_series(&receiver.samples()).0 == all);
        assert_eq!(receiver.violations(), [""; 0]);
        let received = receiver.received();
        let with_samples = received.iter().filter(|request| request.samples() > 0);
        assert!(
            with_samples
                .clone()
                .all(|it| it.is_v2 == (version == "2.0"))
        );
        let series = with_samples
            .flat_map(|request| &request.series)
            .next()
            .unwrap();
        let names: Vec<_> = series.labels.iter().map(|(name, _)| &**name).collect();
        assert_eq!(names, ["Zone", "__name__", "device", "ip", "job", "site"]);
        assert_eq!(series.label("job"), Some("plant"));
        let kinds: BTreeSet<_> = received
            .iter()
            .flat_map(|request| &request.metadata)
            .map(|it| (it.family.clone(), it.kind, it.help.clone()))
            .collect();
        let told = [("rtt", 2, "Round-trip time"), ("sent_total", 1, "Requests")];
        let told = told.map(|(family, kind, help)| (family.to_owned(), kind, help.to_owned()));
        assert_eq!(kinds, BTreeSet::from(told));
        let agent = received[0].header("user-agent").unwrap();
        assert!(agent.starts_with("PingExporter/"), "{agent}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn series_that_end_get_markers() {
    for version in VERSIONS {
        let receiver = WriteReceiver::start();
        let sink = sink(&receiver.url(), json!({"protocol": version}));
        let fleet = Fleet::until_now(3, 4);
        sink.publish(fleet.report(0, &[]));
        sink.publish(fleet.report(1, &[1]));
        let mut fewer = fleet.clone();
        fewer.devices.truncate(2);
        sink.publish(fewer.report(2, &[]));
        sink.flush().await.unwrap();
        sink.close(CloseReason::Shutdown).await;
        let (_, markers) = by_series(&receiver.samples());
        let of = |metric: &str, device: &str| -> Vec<i64> {
            let series = (metric.to_owned(), device.to_owned());
            let of_series = markers.iter().filter(|(known, _)| *known == series);
            of_series.map(|(_, time)| *time).collect()
        };
        // Absent in one cycle, and back in the next; at the end, all end.
        let [absent, end] = of("rtt", "device-1")[..] else {
            panic!("{markers:?}")
        };
        assert_eq!(absent, fleet.time_ms(1));
        assert!(end > fleet.time_ms(2));
        for metric in ["rtt", "sent_total"] {
            // Gone with its device, in the cycle after.
            let [gone] = of(metric, "device-2")[..] else {
                panic!("{markers:?}")
            };
            assert!(gone > fleet.time_ms(1), "{gone}");
            assert_eq!(of(metric, "device-0").len(), 1);
        }
        assert_eq!(receiver.violations(), [""; 0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_of_the_server_and_429_are_sent_again_unchanged() {
    for version in VERSIONS {
        for status in [500, 503, 429] {
            let receiver = WriteReceiver::start();
            let sink = sink(&receiver.url(), json!({"protocol": version}));
            let fleet = Fleet::until_now(2, 2);
            let mut failures = 2;
            receiver.answer(move |request| {
                if request.samples() == 0 || failures == 0 {
                    return WriteAnswer::Taken;
                }
                failures -= 1;
                WriteAnswer::status(status, "not now").with_header("Retry-After: 0")
            });
            sink.publish(fleet.report(0, &[]));
            sink.publish(fleet.report(1, &[]));
            let all = fleet.expected(0..2);
            wait::until_true("all samples", || by_series(&receiver.samples()).0 == all);
            let received = receiver.received();
            let tries: Vec<_> = received.iter().filter(|it| it.samples() > 0).collect();
            assert!(tries.len() >= 3 && tries[0].status == status);
            assert_eq!(tries[0].series, tries[1].series);
            assert_eq!(receiver.violations(), [""; 0]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_other_4xx_is_sent_again() {
    for version in VERSIONS {
        for status in [400, 402, 409, 422, 451] {
            let receiver = WriteReceiver::start();
            let sink = sink(&receiver.url(), json!({"protocol": version}));
            let fleet = Fleet::until_now(1, 2);
            receiver.answer(move |request| {
                let mut samples = request.series.iter().flat_map(|series| &series.samples);
                if samples.all(|(_, value)| *value != 0.0) {
                    return WriteAnswer::Taken;
                }
                WriteAnswer::status(status, "never")
            });
            // Of cycle 0, the counter is 0 and refused; where a request is not split, so is its neighbour.
            sink.publish(fleet.report(0, &[]));
            let refused = || lost_all(&*sink);
            wait::until_true("the refusal", || refused() >= 1.0);
            sink.publish(fleet.report(1, &[]));
            sink.flush().await.unwrap();
            let received = receiver.received();
            let with_zero = received.iter().filter(|request| {
                let series = request.series.iter();
                series
                    .flat_map(|it| &it.samples)
                    .any(|(_, value)| *value == 0.0)
            });
            let is_split = version == "1.0" && status == 400;
            assert_eq!(with_zero.count(), if is_split { 2 } else { 1 }, "{status}");
            assert_eq!(refused(), if is_split { 1.0 } else { 2.0 }, "{status}");
        }
    }
}

fn lost_all(sink: &dyn Sink) -> f64 {
    crate::fleet::lost(sink, "refused")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_does_not_speak_2_gets_1() {
    // One says 415; one takes what it does not understand for nothing, and does not say what it wrote.
    for status in [415, 204] {
        let receiver = WriteReceiver::answering(move |request| match request.is_v2 {
            true => WriteAnswer::status(status, ""),
            false => WriteAnswer::Taken,
        });
        let sink = sink(&receiver.url(), json!({"protocol": "2.0"}));
        let fleet = Fleet::until_now(3, 3);
        sink.publish(fleet.report(0, &[]));
        sink.publish(fleet.report(1, &[]));
        sink.flush().await.unwrap();
        let all = fleet.expected(0..2);
        let received = receiver.received();
        let as_1 = received.iter().filter(|it| !it.is_v2);
        let samples: usize = as_1.map(ReceivedWrite::samples).sum();
        assert_eq!(samples, 12);
        assert!(received.iter().filter(|it| it.is_v2).count() <= 2);
        assert_eq!(all.len(), 6);
        assert_eq!(crate::fleet::lost(&*sink, "refused"), 0.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_is_asked_without_samples() {
    let receiver = WriteReceiver::start();
    let sink = plain_sink(&receiver.url());
    sink.check_peer().await.unwrap();
    assert_eq!(receiver.received().len(), 1);
    assert_eq!(receiver.received()[0].samples(), 0);
    let status = |status| receiver.answer(move |_| WriteAnswer::status(status, "no tenant"));
    for (answer, words) in [(401, "401"), (404, "404"), (500, "no tenant"), (301, "301")] {
        status(answer);
        let error = sink.check_peer().await.unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    let nobody = pe_testkit::free_port().unwrap();
    let sink = plain_sink(&format!("http://{nobody}/api/v1/write"));
    let error = sink.check_peer().await.unwrap_err().to_string();
    assert!(error.contains("cannot connect"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_done_is_counted() {
    let receiver = WriteReceiver::start();
    let sink = plain_sink(&receiver.url());
    let fleet = Fleet::until_now(2, 2);
    sink.publish(fleet.report(0, &[]));
    sink.publish(fleet.report(1, &[]));
    sink.flush().await.unwrap();
    assert_eq!(
        metric(&sink, "pingexporter_remote_write_samples_total", None),
        8.0
    );
    wait::until_true("an empty queue", || {
        metric(&sink, "pingexporter_remote_write_queue_samples", None) == 0.0
    });
    assert!(
        metric(
            &sink,
            "pingexporter_remote_write_last_success_timestamp_seconds",
            None
        ) > 1e9
    );
    let status = sink.status();
    assert!(status.last_success.is_some() && status.outage.is_none());
    assert_eq!(status.destination, receiver.url());
}
