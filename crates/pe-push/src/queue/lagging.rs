//! Tests: a sink that lags behind costs no other one.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::testing::block;
use super::{DropReason, MemoryDisk, Order, Queue, QueueLimits};

/// What happens to a queue of two sinks.
#[derive(Debug, Clone, Copy)]
enum Action {
    Append,
    Sync,
    Restart,
    /// The quick sink reads all and acknowledges it.
    Drain,
    /// The slow one reads so many, and acknowledges those at odd places.
    Trickle(u8),
    /// Another sink comes, or the one that came goes.
    Come,
    Close,
    Go,
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        12 => Just(Action::Append),
        2 => Just(Action::Sync),
        1 => Just(Action::Restart),
        4 => Just(Action::Drain),
        2 => (1..6_u8).prop_map(Action::Trickle),
        1 => Just(Action::Come),
        1 => Just(Action::Close),
        1 => Just(Action::Go),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_sink_that_lags_beyond_the_limits_costs_no_other_one(
        actions in proptest::collection::vec(action(), 100..600),
    ) {
        let disk = MemoryDisk::new();
        let limits = QueueLimits {
            bytes: 16_000,
            segment_bytes: 2_000,
            ..QueueLimits::default()
        };
        let open = || {
            let (mut queue, _) = Queue::open(Box::new(disk.clone()), limits).unwrap();
            queue.attach("quick", Order::Strict).unwrap();
            queue.attach("slow", Order::FreshFirst).unwrap();
            queue
        };
        let mut queue = open();
        let mut time = 0;
        let (mut quick, mut slow) = (Vec::new(), BTreeSet::new());
        // When it came, and when it was closed.
        let mut late: Option<(u32, Option<u32>)> = None;
        let mut lost = 0;
        let mut restarts = 0;
        for action in actions {
            match action {
                Action::Append => {
                    // Random enough to take its bytes.
                    let mut new = block(time, 40, &["a"], 0.0);
                    for (row, value) in new.columns[0].iter_mut().enumerate() {
                        *value = f64::from(time.wrapping_mul(2_654_435_761) >> 7) + row as f64 * 0.37;
                    }
                    queue.append(&new).unwrap();
                    time += 1;
                }
                Action::Sync => queue.sync().unwrap(),
                Action::Restart => {
                    queue.sync().unwrap();
                    lost += queue.dropped_samples("slow", DropReason::Limit);
                    prop_assert_eq!(queue.dropped_samples("quick", DropReason::Limit), 0);
                    queue = open();
                    restarts += 1;
                    if late.is_some_and(|(_, end)| end.is_some()) {
                        // That it is closed is known to the running queue alone.
                        queue.retain(|name| name != "late");
                        late = None;
                    }
                }
                Action::Drain => {
                    while let Some((id, block)) = queue.next("quick").unwrap() {
                        quick.push(block.time.wall_ms / 1_000);
                        queue.acknowledge("quick", [id]);
                    }
                }
                Action::Trickle(count) => {
                    for nth in 0..count {
                        let Some((id, block)) = queue.next("slow").unwrap() else { break };
                        if nth % 2 == 1 {
                            let is_new = slow.insert(block.time.wall_ms / 1_000);
                            prop_assert!(is_new, "it came after it was acknowledged");
                            queue.acknowledge("slow", [id]);
                        }
                    }
                    queue.rewind("slow");
                }
                Action::Come if late.is_none() => {
                    queue.attach("late", Order::Strict).unwrap();
                    late = Some((time, None));
                }
                Action::Close => {
                    if let Some((_, end @ None)) = &mut late {
                        queue.close("late");
                        *end = Some(time);
                    }
                }
                Action::Go => {
                    if let Some((start, end)) = late.take() {
                        let range = i64::from(start)..i64::from(end.unwrap_or(time));
                        let mut got = Vec::new();
                        while let Some((_, block)) = queue.next("late").unwrap() {
                            got.push(block.time.wall_ms / 1_000);
                        }
                        // The oldest may be dropped by the limit, and nothing else is missing.
                        let first = got.first().copied().unwrap_or(range.end);
                        prop_assert_eq!(got, (first..range.end).collect::<Vec<_>>());
                        prop_assert!(first >= range.start);
                        queue.retain(|name| name != "late");
                        prop_assert!(queue.sinks().all(|name| name != "late"));
                    }
                }
                Action::Come => {}
            }
            // So that the quick one never lags: a limit would cost it something too. The limit is on files, where each segment has
            // some 1,100 bytes beside its blocks, and each restart begins another one: what waits takes 14,500 bytes at most.
            if queue.backlog("quick").unwrap().bytes > 3_500 || restarts == 3 {
                restarts = 0;
                while let Some((id, block)) = queue.next("quick").unwrap() {
                    quick.push(block.time.wall_ms / 1_000);
                    queue.acknowledge("quick", [id]);
                }
            }
            prop_assert!(queue.bytes() <= limits.bytes);
        }
        while let Some((id, block)) = queue.next("quick").unwrap() {
            quick.push(block.time.wall_ms / 1_000);
            queue.acknowledge("quick", [id]);
        }
        prop_assert_eq!(quick, (0..i64::from(time)).collect::<Vec<_>>());
        prop_assert_eq!(queue.dropped_samples("quick", DropReason::Limit), 0);
        lost += queue.dropped_samples("slow", DropReason::Limit);
        while let Some((_, block)) = queue.next("slow").unwrap() {
            slow.insert(block.time.wall_ms / 1_000);
        }
        // Each sample that it did not get was counted, for it alone.
        prop_assert_eq!(lost, 40 * (u64::from(time) - slow.len() as u64));
    }
}
