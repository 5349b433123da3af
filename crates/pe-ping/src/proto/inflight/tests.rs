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

/// Takes a reply to the probe at `id` with the identifier of a flow.
fn reply(
    table: &mut InFlight,
    id: ProbeId,
    flow: u8,
    source: IpAddr,
    generation: Option<u32>,
    received: Nanos,
) -> Match {
    let block = wire_block(id.block(), flow);
    table.reply(block, id.sequence(), source, generation, received)
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
        flow: u8,
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
        5 => (0..4_u8, 0..80_000_000_u64, prop::bool::weighted(0.9), 0..3_u8)
            .prop_map(|(device, timeout, sent, flow)| Step::Add { device, timeout, sent, flow }),
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
    flow: u8,
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
                Step::Add { device: number, timeout, sent, flow } => {
                    let in_flight = all.iter().filter(|known| known.end.is_none()).count();
                    prop_assert_eq!(table.len(), in_flight);
                    let number = u32::from(number);
                    let deadline = now + timeout;
                    let added = table.add(device(number), owner(all.len() as u32), flow, now, deadline);
                    prop_assert_eq!(added.is_some(), in_flight < limit);
                    let Some((id, generation)) = added else { continue };
                    prop_assert!(all.iter().all(|known| known.end.is_some() || known.id != id));
                    if sent {
                        table.set_sent(id, left_at(now));
                    }
                    all.push(Known { id, generation, flow, device: number, sent: now, deadline, left: sent, end: None });
                }
                Step::Reply { which, honest, counted } if !all.is_empty() => {
                    let at = which.index(all.len());
                    let newest = all.iter().rposition(|known| known.id == all[at].id).unwrap();
                    let known = &all[at];
                    let source = device(known.device + u32::from(!honest));
                    let counted = counted || newest != at;
                    let generation = counted.then_some(known.generation);
                    let got = reply(&mut table, known.id, known.flow, source, generation, now);
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
    let (id, _) = table
        .add(device(1), owner(1), 0, 0, 50_000_000)
        .expect("room");
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
            let added = table.add(device(number), owner(number), 0, 10, 1_000_000);
            let added = added.expect("room for it");
            table.set_sent(added.0, left_at(10));
            added
        })
        .collect();
    assert!(!table.has_room());
    assert_eq!(table.add(device(0), owner(0), 0, 10, 1_000_000), None);
    for (number, (id, generation)) in ids.iter().enumerate() {
        let number = number as u32;
        let flight = Flight {
            destination: device(number),
            generation: *generation,
            flow: 0,
        };
        let found: Vec<_> = table.probes(id.block(), id.sequence()).collect();
        assert_eq!(found, [(*id, flight)]);
        match reply(&mut table, *id, 0, device(number), Some(*generation), 5_000) {
            Match::Reply(ended) => assert_eq!(ended.owner, owner(number)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(table.len(), 0);
    // The slot that was free first is the first to be used again, and its old probe's reply is known to be late.
    let (id, generation) = table
        .add(device(0), owner(0), 0, 10_000, 1_000_000)
        .expect("room");
    assert_eq!(id, ids[0].0);
    assert_ne!(generation, ids[0].1);
    assert_eq!(
        reply(&mut table, id, 0, device(0), Some(ids[0].1), 11_000),
        Match::Late(None)
    );
    assert_eq!(
        reply(
            &mut table,
            ProbeId(limit as u32),
            0,
            device(0),
            None,
            11_000
        ),
        Match::Unknown
    );
    assert_eq!(
        table.expire(100_000_000).map(|ended| ended.owner),
        Some(owner(0))
    );
    assert_eq!(table.len_of(Family::V6), 0);
}

/// Adds one probe for each device, has all answered, and returns their slots.
fn cycle(table: &mut InFlight, devices: u32, now: Nanos) -> Vec<u32> {
    let added: Vec<_> = (0..devices)
        .map(|number| {
            let owner = owner(number);
            let (id, generation) = table
                .add(device(number), owner, 0, now, now + 1_000)
                .unwrap();
            table.set_sent(id, left_at(now));
            (id, generation)
        })
        .collect();
    for (number, (id, generation)) in added.iter().enumerate() {
        let source = device(number as u32);
        let got = reply(table, *id, 0, source, Some(*generation), now + 500);
        assert!(matches!(got, Match::Reply(_)), "{got:?}");
    }
    added.into_iter().map(|(id, _)| id.0).collect()
}

#[test]
fn sequence_numbers_move_on_however_rarely_and_however_many_are_probed() {
    for devices in [1, 2, 1_000, 1_024, 3_000] {
        let mut table = InFlight::new(0, 1 << 22, 1_000_000_000);
        let mut before = Vec::new();
        for at in 0..20 {
            let ids = cycle(&mut table, devices, at * 60_000_000_000);
            let same = ids.iter().zip(&before).filter(|(id, old)| id == old);
            assert_eq!(same.count(), 0, "{devices} devices, cycle {at}");
            before = ids;
        }
        assert!(table.slots.len <= 1_024.max(devices as usize + 1));
    }
}

#[test]
fn flows_that_share_an_identifier_and_a_sequence_number_are_told_apart() {
    let mut table = InFlight::new(0, 1 << 22, 1_000);
    let mut first = None;
    for number in 0..(1 << 16) + 1 {
        // The first one of the second block has the sequence number of the first of all, and its flow gives it the same
        // identifier.
        let flow = if number == 0 { 1 } else { 0 };
        let added = table
            .add(device(number), owner(number), flow, 10, 1_000_000)
            .unwrap();
        table.set_sent(added.0, left_at(10));
        first = first.or(Some(added));
        if number == 1 << 16 {
            assert_eq!(added.0, ProbeId::new(1, 0));
            assert_eq!(table.probes(1, 0).count(), 2);
            for (number, generation) in [(0, first.unwrap().1), (number, added.1)] {
                match table.reply(1, 0, device(number), Some(generation), 500) {
                    Match::Reply(ended) => assert_eq!(ended.owner, owner(number)),
                    other => panic!("{other:?}"),
                }
            }
        }
    }
}
