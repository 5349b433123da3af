//! Receivers with faults.

use std::time::Duration;

use pe_scrape::{CloseReason, Sink};
use pe_testkit::{ReceivedWrite, WriteAnswer, WriteReceiver, wait};
use serde_json::json;

use crate::fleet::{Fleet, by_series, lost, metric, sink};

/// All samples of a fleet arrive, each once, though something is in the way at first.
async fn arrives_in_the_end(receiver: &WriteReceiver, sink: &dyn Sink, fleet: &Fleet) {
    let all = fleet.expected(0..3);
    wait::until_true("all samples", || by_series(&receiver.samples()).0 == all);
    sink.flush().await.unwrap();
    assert_eq!(receiver.violations(), [""; 0]);
    assert_eq!(lost(sink, "refused"), 0.0);
}

fn publish(sink: &dyn Sink, fleet: &Fleet) {
    for cycle in 0..3 {
        sink.publish(fleet.report(cycle, &[]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_hangs_costs_a_timeout() {
    let mut hangs = 1;
    let receiver = WriteReceiver::answering(move |request| {
        if request.samples() > 0 && hangs > 0 {
            hangs -= 1;
            return WriteAnswer::Hang;
        }
        WriteAnswer::Taken
    });
    let sink = sink(&receiver.url(), json!({"timeout": "300ms"}));
    let fleet = Fleet::until_now(3, 3);
    publish(&*sink, &fleet);
    arrives_in_the_end(&receiver, &*sink, &fleet).await;
    let name = "pingexporter_remote_write_requests_total";
    assert_eq!(metric(&*sink, name, Some(("result", "timeout"))), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_cut_in_the_body_is_tried_again() {
    let receiver = WriteReceiver::start();
    let sink = sink(&receiver.url(), json!({}));
    let fleet = Fleet::until_now(3, 3);
    // A second connection is tried at once, and fails too.
    receiver.cut(2);
    publish(&*sink, &fleet);
    arrives_in_the_end(&receiver, &*sink, &fleet).await;
    let name = "pingexporter_remote_write_requests_total";
    assert_eq!(metric(&*sink, name, Some(("result", "unreachable"))), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_series_is_found_and_all_others_arrive() {
    let bad = |request: &ReceivedWrite| {
        let series = request.series.iter();
        let mut named = series.map(|it| (it.label("__name__"), it.label("device")));
        named.any(|it| it == (Some("rtt"), Some("device-13")))
    };
    let receiver = WriteReceiver::answering(move |request| match bad(request) {
        true => WriteAnswer::status(400, "no such thing as rtt of device-13"),
        false => WriteAnswer::Taken,
    });
    let sink = sink(&receiver.url(), json!({}));
    let fleet = Fleet::until_now(40, 5);
    let mut expected = fleet.expected(0..1);
    expected.remove(&("rtt".to_owned(), "device-13".to_owned()));
    sink.publish(fleet.report(0, &[]));
    wait::until_true("all others", || {
        by_series(&receiver.samples()).0 == expected
    });
    assert_eq!(lost(&*sink, "refused"), 1.0);
    // In the next cycles too, and after the second time without a search.
    let mut requests = Vec::new();
    for cycle in 1..4 {
        let before = receiver.received().len();
        sink.publish(fleet.report(cycle, &[]));
        wait::until_true("the refusal", || {
            lost(&*sink, "refused") == (cycle + 1) as f64
        });
        let mut expected = fleet.expected(0..cycle + 1);
        expected.remove(&("rtt".to_owned(), "device-13".to_owned()));
        wait::until_true("all others", || {
            by_series(&receiver.samples()).0 == expected
        });
        requests.push(receiver.received().len() - before);
    }
    assert!(
        requests[0] > 5 && requests[1] == 1 && requests[2] == 1,
        "{requests:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_half_that_is_refused_is_dropped_and_the_newer_one_arrives() {
    let fleet = Fleet::until_now(3, 8);
    let limit = fleet.time_ms(5);
    let is_late = move |request: &ReceivedWrite| {
        let series = request.series.iter();
        series
            .flat_map(|it| &it.samples)
            .any(|(time, _)| *time < limit)
    };
    let receiver = WriteReceiver::answering(|_| WriteAnswer::status(503, "starting"));
    let sink = sink(&receiver.url(), json!({}));
    for cycle in 0..8 {
        sink.publish(fleet.report(cycle, &[]));
    }
    wait::until_true("a failure", || sink.status().outage.is_some());
    receiver.answer(move |request| match is_late(request) {
        true => WriteAnswer::status(400, "out of bounds"),
        false => WriteAnswer::Taken,
    });
    wait::until_true("the end of the backlog", || {
        sink.status().backlog.unwrap().samples == 0
    });
    // How many cycles were in the first request is a matter of chance, and so is where it was cut.
    let (arrived, _) = by_series(&receiver.samples());
    let cycles = arrived.values().next().unwrap().len() as u64;
    assert!((2..=3).contains(&cycles), "{cycles} cycles");
    assert_eq!(arrived, fleet.expected(8 - cycles..8));
    assert_eq!(lost(&*sink, "refused"), (8 - cycles) as f64 * 6.0);
    let dropped = sink.status().dropped;
    let dropped: Vec<_> = dropped
        .iter()
        .map(|it| (it.what, it.reason, it.count))
        .collect();
    assert_eq!(dropped, [("samples", "refused", (8 - cycles) * 6)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_wants_smaller_requests_gets_them() {
    let receiver = WriteReceiver::answering(|request| match request.body_len > 2_000 {
        true => WriteAnswer::status(413, "too large"),
        false => WriteAnswer::Taken,
    });
    let sink = sink(&receiver.url(), json!({}));
    let fleet = Fleet::until_now(1_000, 3);
    publish(&*sink, &fleet);
    arrives_in_the_end(&receiver, &*sink, &fleet).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_is_let_in_samples_wait_and_only_empty_requests_ask() {
    for status in [301, 401, 403, 404] {
        let receiver = WriteReceiver::answering(move |_| {
            WriteAnswer::status(status, "go away").with_header("Location: http://127.0.0.1:1/")
        });
        let sink = sink(&receiver.url(), json!({}));
        let fleet = Fleet::until_now(2, 3);
        publish(&*sink, &fleet);
        wait::until_true("some tries", || receiver.received().len() >= 3);
        let with_samples = receiver.received();
        let with_samples = with_samples.iter().filter(|it| it.samples() > 0).count();
        assert!(with_samples <= 1, "{with_samples} requests with samples");
        let outage = sink.status().outage.unwrap();
        assert!(
            outage.error.contains(&status.to_string()),
            "{}",
            outage.error
        );
        // Tries go on by themselves.
        assert!(outage.next_try.is_some());
        receiver.answer(|_| WriteAnswer::Taken);
        arrives_in_the_end(&receiver, &*sink, &fleet).await;
        let status = sink.status();
        assert!(status.outage.is_none() && status.dropped.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_receivers_wish_for_a_pause_is_heeded() {
    let mut is_first = true;
    let receiver = WriteReceiver::answering(move |request| {
        if request.samples() > 0 && std::mem::take(&mut is_first) {
            return WriteAnswer::status(503, "busy").with_header("Retry-After: 2");
        }
        WriteAnswer::Taken
    });
    let sink = sink(&receiver.url(), json!({}));
    let fleet = Fleet::until_now(2, 3);
    let start = std::time::Instant::now();
    publish(&*sink, &fleet);
    let all = fleet.expected(0..3);
    wait::until_true("all samples", || by_series(&receiver.samples()).0 == all);
    // A lower bound: no load on the machine can make it fail.
    assert!(start.elapsed() >= Duration::from_secs(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_200_cycles_costs_no_sample() {
    let fleet = Fleet::until_now(20, 203);
    let receiver = WriteReceiver::answering(|_| WriteAnswer::status(503, "down"));
    let sink = sink(&receiver.url(), json!({}));
    for cycle in 0..200 {
        sink.publish(fleet.report(cycle, &[]));
    }
    wait::until_true("a failure", || sink.status().outage.is_some());
    wait::until_true("the backlog", || {
        sink.status().backlog.unwrap().samples == 200 * 40
    });
    receiver.answer(|_| WriteAnswer::Taken);
    for cycle in 200..203 {
        sink.publish(fleet.report(cycle, &[]));
    }
    let all = fleet.expected(0..203);
    wait::until_true("all samples, in order and once", || {
        by_series(&receiver.samples()).0 == all
    });
    assert_eq!(receiver.violations(), [""; 0]);
    wait::until_true("the end of the outage", || sink.status().outage.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn fresh_samples_do_not_wait_behind_old_ones() {
    let fleet = Fleet::until_now(500, 204);
    let has = |request: &ReceivedWrite, cycle: u64| {
        let time = fleet.time_ms(cycle);
        let mut samples = request.series.iter().flat_map(|series| &series.samples);
        samples.any(|(at, _)| *at == time)
    };
    let newest = fleet.time_ms(202);
    let is_newest = move |request: &ReceivedWrite| {
        let mut samples = request.series.iter().flat_map(|series| &series.samples);
        samples.any(|(time, _)| *time == newest)
    };
    // Nothing old is taken before the newest is.
    let mut is_up = false;
    let receiver = WriteReceiver::answering(move |request| {
        is_up |= is_newest(request);
        match is_up {
            true => WriteAnswer::Taken,
            false => WriteAnswer::status(503, "down"),
        }
    });
    let sink = sink(&receiver.url(), json!({"order": "fresh_first"}));
    for cycle in 0..200 {
        sink.publish(fleet.report(cycle, &[]));
    }
    wait::until_true("a failure", || sink.status().outage.is_some());
    // While the first old samples are taken, something new comes: it is next.
    let (in_between, comes) = (sink.clone(), fleet.report(203, &[]));
    let mut comes = Some(comes);
    receiver.answer(move |request| {
        let was_up = is_up;
        is_up |= is_newest(request);
        if was_up
            && request.samples() > 0
            && !is_newest(request)
            && let Some(report) = comes.take()
        {
            in_between.publish(report);
        }
        match is_up {
            true => WriteAnswer::Taken,
            false => WriteAnswer::status(503, "down"),
        }
    });
    for cycle in 200..203 {
        sink.publish(fleet.report(cycle, &[]));
    }
    wait::until_true("all samples", || {
        let (mut samples, _) = by_series(&receiver.samples());
        for samples in samples.values_mut() {
            samples.sort_by_key(|(time, _)| *time);
            samples.dedup();
        }
        samples == fleet.expected(0..204)
    });
    let received = receiver.received();
    let mut taken = received
        .iter()
        .filter(|it| it.status == 204 && it.samples() > 0);
    assert!(taken.any(|request| has(request, 202)));
    let first_old = taken.find(|request| !has(request, 202)).unwrap();
    assert!(!has(first_old, 203));
    assert!(has(taken.next().unwrap(), 203));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_when_a_sink_is_closed_arrives_before_that_returns() {
    for order in ["strict", "fresh_first"] {
        let fleet = Fleet::until_now(20, 230);
        let receiver = WriteReceiver::answering(|_| WriteAnswer::status(503, "down"));
        let sink = sink(&receiver.url(), json!({"order": order}));
        for cycle in 0..200 {
            sink.publish(fleet.report(cycle, &[]));
        }
        wait::until_true("a failure", || sink.status().outage.is_some());
        receiver.answer(|_| WriteAnswer::Taken);
        // These come while older ones are on their way.
        for cycle in 200..230 {
            sink.publish(fleet.report(cycle, &[]));
        }
        sink.close(CloseReason::Shutdown).await;
        let (mut samples, markers) = by_series(&receiver.samples());
        if order == "fresh_first" {
            for samples in samples.values_mut() {
                samples.sort_by_key(|(time, _)| *time);
            }
        }
        assert_eq!(samples, fleet.expected(0..230), "{order}");
        assert_eq!(markers.len(), 40, "{order}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn samples_above_an_age_are_dropped_and_counted() {
    let receiver = WriteReceiver::start();
    let sink = sink(&receiver.url(), json!({"max_age": "1m"}));
    let fleet = Fleet::until_now(2, 300);
    sink.publish(fleet.report(0, &[]));
    sink.publish(fleet.report(299, &[]));
    let expected = fleet.expected(299..300);
    wait::until_true("what is new", || {
        by_series(&receiver.samples()).0 == expected
    });
    assert_eq!(lost(&*sink, "too_old"), 4.0);
}
