//! The table against a list of all probes ever, and its edges.

use std::net::Ipv6Addr;

use proptest::prelude::*;

use super::slots::BLOCK;
use super::*;

fn device(number: u32) -> IpAddr {
    Ipv6Addr::from(0xfd00_u128 << 112 | u128::from(number)).into()
}

fn owner(number: u32) -> Owner {
    Owner {
        item: 0,
        target: number,
        round: 0,
    }
}

fn left_at(early: Nanos) -> Departure {
    Departure {
        early,
        doubt: Doubt::default(),
    }
}

#[derive(Debug, Clone)]
enum Step {
    /// Add a probe to one of a few devices; send it unless it shall wait.
    Add {
        device: u8,
        timeout: Nanos,
        sent: bool,
    },
    /// A reply to one of the probes so far, from the right device or the next one.
    Reply {
        which: prop::sample::Index,
        honest: bool,
        counted: bool,
    },
    Fail(prop::sample::Index),
    Pass(Nanos),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        5 => (0..4_u8, 0..80_000_000_u64, prop::bool::weighted(0.9))
            .prop_map(|(device, timeout, sent)| Step::Add { device, timeout, sent }),
        4 => (any::<prop::sample::Index>(), prop::bool::weighted(0.9), any::<bool>())
            .prop_map(|(which, honest, counted)| Step::Reply { which, honest, counted }),
        1 => any::<prop::sample::Index>().prop_map(Step::Fail),
        2 => (0..40_000_000_u64).prop_map(Step::Pass),
    ];
    proptest::collection::vec(step, 1..200)
}

/// What the table should know of a probe.
struct Known {
    id: ProbeId,
    generation: u32,
    device: u32,
    sent: Nanos,
    deadline: Nanos,
    left: bool,
    end: Option<State>,
}

proptest! {
    /// Against a list of all probes ever: each ends exactly once, a reply is never taken for another probe's, and a
    /// duplicate or a late reply is known as long as its slot is not used again.
    #[test]
    fn agrees_with_a_list_of_all_probes(limit in 1..30_usize, linger in 0..50_000_000_u64, steps in steps()) {
        let mut now: Nanos = 1_000_000_000;
        let mut table = InFlight::new(now, limit, linger);
        let mut all: Vec<Known> = Vec::new();
        for step in steps {
            now += 1_000;
            match step {
                Step::Add { device: number, timeout, sent } => {
                    let in_flight = all.iter().filter(|known| known.end.is_none()).count();
                    prop_assert_eq!(table.len(), in_flight);
                    let number = u32::from(number);
                    let deadline = now + timeout;
                    let added = table.add(device(number), owner(all.len() as u32), now, deadline);
                    prop_assert_eq!(added.is_some(), in_flight < limit);
                    let Some((id, generation)) = added else { continue };
                    prop_assert!(all.iter().all(|known| known.end.is_some() || known.id != id));
                    if sent {
                        table.set_sent(id, left_at(now));
                    }
                    all.push(Known { id, generation, device: number, sent: now, deadline, left: sent, end: None });
                }
                Step::Reply { which, honest, counted } if !all.is_empty() => {
                    let at = which.index(all.len());
                    let newest = all.iter().rposition(|known| known.id == all[at].id).unwrap();
                    let known = &all[at];
                    let source = device(known.device + u32::from(!honest));
                    let counted = counted || newest != at;
                    let generation = counted.then_some(known.generation);
                    let got = table.reply(known.id, source, generation, now);
                    if newest != at {
                        prop_assert_eq!(got, Match::Late(None));
                    } else if !honest || !known.left {
                        prop_assert_eq!(got, Match::Unknown);
                    } else {
                        let whose = owner(at as u32);
                        match (known.end, got) {
                            (None, Match::Reply(ended)) => {
                                prop_assert!(now <= known.deadline);
                                prop_assert_eq!((ended.owner, ended.sent), (whose, known.sent));
                                all[at].end = Some(State::Answered);
                            }
                            (None, Match::Late(Some(ended))) => {
                                prop_assert!(now > known.deadline);
                                prop_assert_eq!(ended.owner, whose);
                            }
                            (Some(State::Answered), Match::Duplicate(ended))
                            | (Some(State::Ended), Match::Late(Some(ended))) => {
                                prop_assert_eq!(ended.owner, whose);
                            }
                            (end, got) => prop_assert!(false, "{:?} {:?}", end, got),
                        }
                    }
                }
                Step::Fail(which) if !all.is_empty() => {
                    let at = which.index(all.len());
                    let newest = all.iter().rposition(|known| known.id == all[at].id);
                    if newest == Some(at) {
                        let failed = table.fail(all[at].id, now).map(|ended| ended.owner);
                        let expected = all[at].end.is_none().then(|| owner(at as u32));
                        prop_assert_eq!(failed, expected);
                        all[at].end.get_or_insert(State::Ended);
                    }
                }
                Step::Pass(time) => {
                    now += time;
                    while let Some(ended) = table.expire(now) {
                        let known = &mut all[ended.owner.target as usize];
                        prop_assert!(known.end.is_none() && known.deadline < now);
                        prop_assert_eq!((ended.left, ended.family), (known.left, Family::V6));
                        known.end = Some(State::Ended);
                    }
                    // What is left expires within one and a bit milliseconds.
                    let overdue = all
                        .iter()
                        .filter(|known| known.end.is_none() && known.deadline + 1_100_000 < now);
                    prop_assert_eq!(overdue.count(), 0);
                }
                _ => {}
            }
        }
    }
}

#[test]
fn a_wait_before_sending_is_made_up_for() {
    let mut table = InFlight::new(0, 10, 0);
    let (id, _) = table.add(device(1), owner(1), 0, 50_000_000).expect("room");
    assert!(table.waits(id));
    table.postpone(id, 100_000_000, 120_000_000);
    table.set_sent(id, left_at(100_000_000));
    assert!(!table.waits(id));
    assert_eq!(table.expire(119_000_000), None);
    let ended = table.expire(122_000_000).expect("its time is over");
    assert_eq!((ended.deadline, ended.left), (120_000_000, true));
}

#[test]
fn a_table_of_many_blocks_knows_each_probe_and_is_full_at_its_limit() {
    let limit = 3 * BLOCK + 7;
    let mut table = InFlight::new(0, limit, 1_000);
    let ids: Vec<(ProbeId, u32)> = (0..limit as u32)
        .map(|number| {
            let added = table.add(device(number), owner(number), 10, 1_000_000);
            let added = added.expect("room for it");
            table.set_sent(added.0, left_at(10));
            added
        })
        .collect();
    assert!(!table.has_room());
    assert_eq!(table.add(device(0), owner(0), 10, 1_000_000), None);
    for (number, (id, generation)) in ids.iter().enumerate() {
        let number = number as u32;
        assert_eq!(table.probe(*id), Some((device(number), *generation)));
        match table.reply(*id, device(number), Some(*generation), 5_000) {
            Match::Reply(ended) => assert_eq!(ended.owner, owner(number)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(table.len(), 0);
    // The slot that was free first is the first to be used again, and its old probe's reply is known to be late.
    let (id, generation) = table
        .add(device(0), owner(0), 10_000, 1_000_000)
        .expect("room");
    assert_eq!(id, ids[0].0);
    assert_ne!(generation, ids[0].1);
    assert_eq!(
        table.reply(id, device(0), Some(ids[0].1), 11_000),
        Match::Late(None)
    );
    assert_eq!(
        table.reply(ProbeId(limit as u32), device(0), None, 11_000),
        Match::Unknown
    );
    assert_eq!(
        table.expire(100_000_000).map(|ended| ended.owner),
        Some(owner(0))
    );
    assert_eq!(table.len_of(Family::V6), 0);
}
