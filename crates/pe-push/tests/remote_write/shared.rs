//! Sinks that share a queue: what is measured is stored once, and each receiver gets all of it at its own pace.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use pe_push::queue::{Directory, QueueReport, inspect};
use pe_push::{RemoteWriteFactory, queue_directories};
use pe_scrape::{CloseReason, CycleReport, Sink, SinkFactory, SinkSettings};
use pe_testkit::{WriteAnswer, WriteReceiver, wait};
use serde_json::{Value, json};

use crate::fleet::{Fleet, by_series, metric};

fn factory(state: &Path) -> RemoteWriteFactory {
    RemoteWriteFactory::new().state_dir(Some(state.to_owned()))
}

fn sink(
    factory: &RemoteWriteFactory,
    name: &str,
    to: &WriteReceiver,
    further: Value,
) -> Arc<dyn Sink> {
    let mut own = json!({"url": to.url(), "timeout": "2s"});
    for (key, value) in further.as_object().unwrap() {
        own[key] = value.clone();
    }
    factory.create(&SinkSettings::new(name, own)).unwrap()
}

fn down() -> WriteReceiver {
    WriteReceiver::answering(|_| WriteAnswer::status(503, "down"))
}

/// Hands one report to all, as an engine does.
fn publish(sinks: &[&Arc<dyn Sink>], report: &Arc<CycleReport>) {
    for sink in sinks {
        sink.publish(report.clone());
    }
}

fn all(receiver: &WriteReceiver) -> crate::fleet::Samples {
    by_series(&receiver.samples()).0
}

/// What is in the queue of all sinks.
fn looked_at(state: &Path) -> QueueReport {
    inspect(&mut Directory::existing(state.join("queue"))).unwrap()
}

fn names(report: &QueueReport) -> Vec<&str> {
    report.sinks.iter().map(|(name, _)| &**name).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_is_down_holds_no_other_back_and_gets_the_same_in_the_end() {
    let state = tempfile::tempdir().unwrap();
    let (away, there) = (down(), WriteReceiver::start());
    let fleet = Fleet::until_now(3, 12);
    let start = || {
        let factory = factory(state.path());
        let one = sink(&factory, "away", &away, json!({}));
        (
            one,
            sink(&factory, "there", &there, json!({"order": "fresh_first"})),
        )
    };
    let (one, other) = start();
    for cycle in 0..6 {
        publish(&[&one, &other], &fleet.report(cycle, &[]));
    }
    other.flush().await.unwrap();
    one.flush().await.unwrap_err();
    assert_eq!(all(&there), fleet.expected(0..6));
    // Each cycle is stored once.
    let stored = looked_at(state.path());
    let blocks: u64 = stored.segments.iter().map(|segment| segment.blocks).sum();
    assert_eq!(blocks, 6, "{stored:?}");
    assert_eq!(names(&stored), ["away", "there"]);
    assert_eq!(queue_directories(state.path()).unwrap().len(), 1);
    let waiting = |sink: &Arc<dyn Sink>| sink.status().backlog.unwrap().samples;
    assert_eq!((waiting(&one), waiting(&other)), (36, 0));
    drop((one, other));

    // A restart keeps both places.
    let (one, other) = start();
    for cycle in 6..12 {
        publish(&[&other, &one], &fleet.report(cycle, &[]));
    }
    away.answer(|_| WriteAnswer::Taken);
    let expected = fleet.expected(0..12);
    wait::until_true("all samples at both", || {
        all(&away) == expected && all(&there) == expected
    });
    for sink in [&one, &other] {
        sink.flush().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sinks_come_and_go_while_others_keep_their_places() {
    let state = tempfile::tempdir().unwrap();
    let [leaves, stays, comes] = std::array::from_fn(|_| WriteReceiver::start());
    stays.answer(|_| WriteAnswer::status(503, "down"));
    let factory = factory(state.path());
    let fleet = Fleet::until_now(3, 9);
    let leaving = sink(&factory, "leaves", &leaves, json!({}));
    let staying = sink(&factory, "stays", &stays, json!({}));
    for cycle in 0..3 {
        publish(&[&leaving, &staying], &fleet.report(cycle, &[]));
    }
    leaving.flush().await.unwrap();
    // As an engine does at a reload: what is new is there before what is gone is closed, and gets the latest report.
    let coming = sink(&factory, "comes", &comes, json!({}));
    let latest = fleet.report(3, &[]);
    publish(&[&leaving, &staying], &latest);
    publish(&[&coming], &latest);
    coming.retain(&[fleet.group.into()]);
    publish(&[&staying, &coming], &fleet.report(4, &[]));
    leaving.flush().await.unwrap();
    leaving.close(CloseReason::Removed).await;
    drop(leaving);
    publish(&[&coming, &staying], &fleet.report(5, &[]));
    coming.flush().await.unwrap();
    // The new one starts with what was appended after it came.
    let got = all(&comes);
    assert!(
        got == fleet.expected(4..6) || got == fleet.expected(3..6),
        "{got:?}"
    );
    // Series end at the receiver that gets no more of them, and nowhere else.
    let (_, ends) = by_series(&leaves.samples());
    assert_eq!(ends.len(), 6, "{ends:?}");
    wait::until_true("the cursor of the removed sink to be gone", || {
        names(&looked_at(state.path())) == ["comes", "stays"]
    });
    stays.answer(|_| WriteAnswer::Taken);
    let expected = fleet.expected(0..6);
    wait::until_true("all samples at the one that stays", || {
        all(&stays) == expected
    });
    for receiver in [&stays, &comes] {
        assert!(by_series(&receiver.samples()).1.is_empty());
    }
    // At the end of the program they end for all.
    for sink in [&coming, &staying] {
        sink.close(CloseReason::Shutdown).await;
    }
    for receiver in [&stays, &comes] {
        assert_eq!(by_series(&receiver.samples()).1.len(), 6);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_the_configuration_has_no_more_holds_nothing_after_a_restart() {
    let state = tempfile::tempdir().unwrap();
    let (away, there) = (down(), WriteReceiver::start());
    let fleet = Fleet::until_now(3, 4);
    let first = factory(state.path());
    let one = sink(&first, "away", &away, json!({}));
    let other = sink(&first, "there", &there, json!({}));
    publish(&[&one, &other], &fleet.report(0, &[]));
    other.flush().await.unwrap();
    drop((one, other, first));
    let second = factory(state.path());
    let other = sink(&second, "there", &there, json!({}));
    // The former one gives the directory free when its tasks have ended.
    for cycle in 1..3 {
        other.publish(fleet.report(cycle, &[]));
    }
    let expected = fleet.expected(0..3);
    wait::until_true("all samples", || all(&there) == expected);
    wait::until_true("one cursor", || {
        names(&looked_at(state.path())) == ["there"]
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_corrected_time_is_the_same_for_all_receivers() {
    let state = tempfile::tempdir().unwrap();
    let (away, there) = (down(), WriteReceiver::start());
    let factory = factory(state.path());
    let one = sink(&factory, "away", &away, json!({}));
    let other = sink(&factory, "there", &there, json!({}));
    // By a clock that has been set back by an hour since.
    let mut fleet = Fleet::until_now(3, 4);
    fleet.start_ms += 3_600_000;
    let sinks = [one.clone(), other.clone()];
    // On the thread of the sinks, so that none reads the clocks meanwhile: what is measured after that has the time of a right clock.
    let published = tokio::spawn(async move {
        for cycle in 0..4 {
            let mut report = Arc::into_inner(fleet.report(cycle, &[])).unwrap();
            let started = Duration::from_millis(fleet.time_ms(cycle).unsigned_abs());
            report.started = UNIX_EPOCH + started;
            publish(&[&sinks[0], &sinks[1]], &Arc::new(report));
        }
    });
    published.await.unwrap();
    other.flush().await.unwrap();
    one.flush().await.unwrap_err();
    away.answer(|_| WriteAnswer::Taken);
    wait::until_true("all samples at both", || {
        let (at_one, at_other) = (all(&away), all(&there));
        let count = |samples: &crate::fleet::Samples| samples.values().map(Vec::len).sum::<usize>();
        count(&at_one) == 24 && count(&at_other) == 24
    });
    assert_eq!(all(&away), all(&there));
    let corrections = "pingexporter_clock_corrections_total";
    let corrected = |sink| metric(sink, corrections, Some(("result", "corrected")));
    // By whoever is first, or by both in the same way.
    assert!(corrected(&*one) + corrected(&*other) >= 4.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn sinks_with_filters_read_their_part_of_what_is_stored() {
    let state = tempfile::tempdir().unwrap();
    let (some, whole) = (WriteReceiver::start(), WriteReceiver::start());
    let factory = factory(state.path());
    let one = sink(
        &factory,
        "some",
        &some,
        json!({"keep": ["rtt{device=device-1}"]}),
    );
    let other = sink(&factory, "whole", &whole, json!({}));
    let fleet = Fleet::until_now(3, 4);
    for cycle in 0..3 {
        publish(&[&one, &other], &fleet.report(cycle, &[]));
    }
    for sink in [&one, &other] {
        sink.flush().await.unwrap();
        sink.close(CloseReason::Shutdown).await;
    }
    let mut expected = fleet.expected(0..3);
    assert_eq!(all(&whole), expected);
    expected.retain(|(name, device), _| name == "rtt" && device == "device-1");
    assert_eq!(all(&some), expected);
    // So it is with markers.
    let ends = |receiver: &WriteReceiver| by_series(&receiver.samples()).1.len();
    assert_eq!((ends(&some), ends(&whole)), (1, 6));
}

#[tokio::test(flavor = "multi_thread")]
async fn queues_that_an_earlier_version_wrote_are_sent_first_and_removed() {
    let state = tempfile::tempdir().unwrap();
    let fleet = Fleet::until_now(3, 12);
    let receivers = ["one", "other"].map(|name| (name, down()));
    // What a version with a queue for each sink left: one after the other, since there was one for each.
    for (name, receiver) in &receivers {
        let former = tempfile::tempdir().unwrap();
        let factory = factory(former.path());
        let sink = sink(&factory, name, receiver, json!({}));
        for cycle in 0..5 {
            sink.publish(fleet.report(cycle, &[]));
        }
        sink.flush().await.unwrap_err();
        drop((sink, factory));
        let to = state.path().join(format!("queue-{name}"));
        std::fs::create_dir_all(&to).unwrap();
        for entry in std::fs::read_dir(former.path().join("queue")).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
        for copy in ["cursors.a", "cursors.b"] {
            std::fs::write(to.join(copy), first_version(name)).unwrap();
        }
    }
    let factory = factory(state.path());
    let sinks = receivers.each_ref().map(|(name, receiver)| {
        let order = match *name {
            "one" => "strict",
            _ => "fresh_first",
        };
        sink(&factory, name, receiver, json!({"order": order}))
    });
    let mut fewer = fleet.clone();
    fewer.devices.truncate(2);
    for cycle in 5..8 {
        publish(&sinks.each_ref(), &fewer.report(cycle, &[]));
    }
    for sink in &sinks {
        sink.flush().await.unwrap_err();
        assert_eq!(sink.status().backlog.unwrap().samples, 30 + 12 + 2);
    }
    let mut expected = fewer.expected(0..8);
    let gone = fleet.expected(0..5).into_iter();
    expected.extend(gone.filter(|((_, device), _)| device == "device-2"));
    for (_, receiver) in &receivers {
        receiver.answer(|_| WriteAnswer::Taken);
    }
    for (name, receiver) in &receivers {
        wait::until_true("all samples of both versions", || {
            let mut samples = all(receiver);
            if *name == "other" {
                samples
                    .values_mut()
                    .for_each(|samples| samples.sort_by_key(|it| it.0));
            }
            samples == expected
        });
        // Series that ended with the update.
        let (_, ends) = by_series(&receiver.samples());
        let ended: Vec<_> = ends
            .iter()
            .map(|((_, device), at)| (&**device, *at))
            .collect();
        assert_eq!(ended, [("device-2", fleet.time_ms(4) + 1); 2]);
    }
    wait::until_true("the former queues to be gone", || {
        let left = queue_directories(state.path()).unwrap();
        left.iter().all(|(owner, _)| owner.is_none())
    });
    publish(&sinks.each_ref(), &fewer.report(8, &[]));
    for sink in &sinks {
        sink.flush().await.unwrap();
        assert_eq!(sink.status().backlog.unwrap().samples, 0);
    }
}

/// Cursors of the first version: a sink that has acknowledged nothing.
fn first_version(sink: &str) -> Vec<u8> {
    let mut bytes = b"PECURSOR\x01\x00".to_vec();
    bytes.extend([1, 1, sink.len() as u8]);
    bytes.extend(sink.as_bytes());
    bytes.extend([0, 0]);
    bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
    bytes
}
