//! What outlives a sink: with a state directory the end of the program, else a reload.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use pe_push::queue::{Directory, Order, Queue, QueueLimits};
use pe_push::{RemoteWriteFactory, queue_directories};
use pe_scrape::{CloseReason, Sink, SinkFactory, SinkSettings};
use pe_testkit::{WriteAnswer, WriteReceiver, wait};
use serde_json::json;

use crate::fleet::{Fleet, by_series, metric};

fn sink(factory: &RemoteWriteFactory, url: &str, timeout: &str) -> Arc<dyn Sink> {
    let own = json!({"url": url, "timeout": timeout});
    factory.create(&SinkSettings::new("central", own)).unwrap()
}

fn all(receiver: &WriteReceiver) -> crate::fleet::Samples {
    by_series(&receiver.samples()).0
}

#[tokio::test(flavor = "multi_thread")]
async fn samples_that_wait_survive_the_end_of_the_program() {
    let directory = tempfile::tempdir().unwrap();
    let state = Some(directory.path().to_owned());
    let receiver = WriteReceiver::answering(|_| WriteAnswer::status(503, "down"));
    let fleet = Fleet::until_now(3, 8);
    let first = RemoteWriteFactory::new().state_dir(state.clone());
    let before = sink(&first, &receiver.url(), "2s");
    for cycle in 0..4 {
        before.publish(fleet.report(cycle, &[]));
    }
    before.flush().await.unwrap_err();
    drop((before, first));
    receiver.answer(|_| WriteAnswer::Taken);
    let mut fewer = fleet.clone();
    fewer.devices.truncate(2);
    let second = RemoteWriteFactory::new().state_dir(state);
    let after = sink(&second, &receiver.url(), "2s");
    // The former one gives the directory free when its task has ended.
    for cycle in 4..8 {
        after.publish(fewer.report(cycle, &[]));
    }
    let mut expected = fewer.expected(0..8);
    let gone = fleet.expected(0..4);
    expected.extend(
        gone.into_iter()
            .filter(|((_, device), _)| device == "device-2"),
    );
    wait::until_true("all samples of both runs", || all(&receiver) == expected);
    let (_, markers) = by_series(&receiver.samples());
    let markers: Vec<_> = markers.into_iter().collect();
    let just_after = fleet.time_ms(3) + 1;
    let marker = |metric: &str| ((metric.to_owned(), "device-2".to_owned()), just_after);
    assert_eq!(markers, [marker("rtt"), marker("sent_total")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_arrive_before_a_sink_is_closed_stays_on_disk() {
    for order in ["strict", "fresh_first"] {
        let directory = tempfile::tempdir().unwrap();
        let receiver = WriteReceiver::answering(|_| WriteAnswer::status(503, "down"));
        let factory = RemoteWriteFactory::new().state_dir(Some(directory.path().to_owned()));
        let own = json!({"url": receiver.url(), "timeout": "2s", "order": order});
        let sink = factory.create(&SinkSettings::new("central", own)).unwrap();
        let fleet = Fleet::until_now(3, 8);
        for cycle in 0..8 {
            sink.publish(fleet.report(cycle, &[]));
        }
        sink.close(CloseReason::Shutdown).await;

        let queues = queue_directories(directory.path()).unwrap();
        let disk = Box::new(Directory::open(&queues[0].1).unwrap());
        let (mut queue, _) = Queue::open(disk, QueueLimits::default()).unwrap();
        // Values and the markers at the end.
        let samples = queue.backlog("central").unwrap().samples;
        assert_eq!(samples, 8 * 6 + 6, "{order}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_corrected_time_stands_once_it_was_tried_to_send_it() {
    let directory = tempfile::tempdir().unwrap();
    let receiver = WriteReceiver::answering(|_| WriteAnswer::status(503, "down"));
    let factory = RemoteWriteFactory::new().state_dir(Some(directory.path().to_owned()));
    let sink = sink(&factory, &receiver.url(), "2s");
    // By a clock that has been set back by an hour since.
    let mut fleet = Fleet::until_now(3, 0);
    fleet.start_ms += 3_600_000;
    let mut report = Arc::into_inner(fleet.report(0, &[])).unwrap();
    report.started = UNIX_EPOCH + Duration::from_millis(fleet.time_ms(0).unsigned_abs());
    sink.publish(Arc::new(report));
    sink.flush().await.unwrap_err();
    let corrections = "pingexporter_clock_corrections_total";
    let corrected = metric(&*sink, corrections, Some(("result", "corrected")));
    assert_eq!(corrected, 1.0);
    drop((sink, factory));

    let queues = queue_directories(directory.path()).unwrap();
    wait::until_true("a final time in the queue", || {
        let disk = Box::new(Directory::open(&queues[0].1).unwrap());
        let (mut queue, _) = Queue::open(disk, QueueLimits::default()).unwrap();
        queue.attach("central", Order::Strict).unwrap();
        let (_, block) = queue.next("central").unwrap().unwrap();
        let time = block.time;
        time.is_final && (3_590_000..3_601_000).contains(&(fleet.time_ms(0) - time.wall_ms))
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_with_other_settings_goes_on_where_the_former_was() {
    let receiver = WriteReceiver::answering(|_| WriteAnswer::status(503, "down"));
    let fleet = Fleet::until_now(3, 8);
    let factory = RemoteWriteFactory::new();
    let former = sink(&factory, &receiver.url(), "2s");
    for cycle in 0..4 {
        former.publish(fleet.report(cycle, &[]));
    }
    wait::until_true("a failure", || former.status().outage.is_some());
    let successor = sink(&factory, &receiver.url(), "3s");
    for cycle in 4..6 {
        successor.publish(fleet.report(cycle, &[]));
    }
    former.flush().await.unwrap_err();
    former.close(CloseReason::Removed).await;
    drop(former);
    receiver.answer(|_| WriteAnswer::Taken);
    successor.publish(fleet.report(6, &[]));
    let expected = fleet.expected(0..7);
    wait::until_true("all samples", || all(&receiver) == expected);
    let (_, markers) = by_series(&receiver.samples());
    assert!(markers.is_empty(), "{markers:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_another_agent_has_the_directory_samples_are_kept_in_memory() {
    let directory = tempfile::tempdir().unwrap();
    // A file where a directory should be.
    let path = directory.path().join("state");
    std::fs::write(&path, "").unwrap();
    let receiver = WriteReceiver::start();
    let factory = RemoteWriteFactory::new().state_dir(Some(path.clone()));
    let sink = sink(&factory, &receiver.url(), "2s");
    let fleet = Fleet::until_now(3, 8);
    sink.publish(fleet.report(0, &[]));
    let expected = fleet.expected(0..1);
    wait::until_true("the first samples", || all(&receiver) == expected);
    std::fs::remove_file(&path).unwrap();
    wait::until_true("the queue on disk", || path.join("queue").is_dir());
    sink.publish(fleet.report(1, &[]));
    let expected = fleet.expected(0..2);
    wait::until_true("all samples", || all(&receiver) == expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_arrived_before_the_end_of_the_program_costs_nothing_that_did_not() {
    let directory = tempfile::tempdir().unwrap();
    // The state of a program that was killed before it noted that 30 cycles had arrived.
    let killed = tempfile::tempdir().unwrap();
    let receiver = WriteReceiver::answering(|_| WriteAnswer::status(503, "down"));
    let start = |directory: &std::path::Path| {
        let factory = RemoteWriteFactory::new().state_dir(Some(directory.to_owned()));
        sink(&factory, &receiver.url(), "2s")
    };
    let fleet = Fleet::until_now(3, 45);
    let before = start(directory.path());
    for cycle in 0..40 {
        before.publish(fleet.report(cycle, &[]));
    }
    before.flush().await.unwrap_err();
    copy(directory.path(), killed.path());
    // As a Prometheus does: one sample that is not newer than what is there, and the whole request is refused.
    let limit = fleet.time_ms(30);
    receiver.answer(move |request| {
        let mut samples = request.series.iter().flat_map(|series| &series.samples);
        match samples.all(|(time, _)| *time >= limit) {
            true => WriteAnswer::Taken,
            false => WriteAnswer::status(400, "out of order sample"),
        }
    });
    let before = receiver.samples().len();
    let after = start(killed.path());
    for cycle in 40..45 {
        after.publish(fleet.report(cycle, &[]));
    }
    after.flush().await.unwrap();
    let taken = receiver.samples().split_off(before);
    let mut series = by_series(&taken).0;
    for samples in series.values_mut() {
        samples.dedup();
    }
    assert_eq!(series, fleet.expected(30..45));
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir(&to).unwrap();
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}
