//! The table of probes in flight.
//!
//! A probe's slot in the table is its identifier and sequence number: looking up a reply is an index, not a hash. Each
//! identifier gives 65,536 slots. A slot is used again as late as possible, and each use has its own generation, which
//! travels in the cookie; so a duplicate or a late reply is known for what it is.

use std::net::{IpAddr, Ipv6Addr};
use std::ops::{Index, IndexMut};

use pe_scrape::Family;

use super::Nanos;
use super::departure::{Departure, Doubt};
use super::wheel::{Entries, Links, NONE, Wheel};

/// Who wants to know what becomes of a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owner {
    /// The sweep or the single ping, by its slot in the list of work.
    pub(crate) item: u32,
    /// The target's position in the sweep.
    pub(crate) target: u32,
    /// Which probe of that target, from 0.
    pub(crate) round: u32,
}

/// Which probe: its slot in the table, with the identifier in the upper half, relative to the first, and the
/// sequence number in the lower.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProbeId(pub(crate) u32);

impl ProbeId {
    /// The probe of a sequence number under the `block`-th identifier.
    pub(crate) fn new(block: u16, sequence: u16) -> Self {
        Self(u32::from(block) << 16 | u32::from(sequence))
    }

    /// Which identifier, relative to the first.
    pub(crate) fn block(self) -> u16 {
        (self.0 >> 16) as u16
    }

    /// The sequence number.
    pub(crate) fn sequence(self) -> u16 {
        self.0 as u16
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Never used, or its probe was never sent.
    Free,
    /// A probe waits to be sent.
    Waiting,
    /// A probe is in flight.
    InFlight,
    /// A reply was counted.
    Answered,
    /// Ended without a reply.
    Ended,
}

/// One cache line: all that is known of a probe.
#[derive(Debug, Clone)]
#[repr(align(64))]
struct Slot {
    address: [u8; 16],
    sent: Nanos,
    deadline: Nanos,
    owner: Owner,
    generation: u32,
    links: Links,
    doubt: Doubt,
    state: State,
}

const _: () = assert!(size_of::<Slot>() == 64);

/// The first bytes of an IPv4 address in IPv6 form (RFC 4291, section 2.5.5.2).
const MAPPED: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];

impl Slot {
    fn family(&self) -> Family {
        if self.address[..12] == MAPPED {
            Family::V4
        } else {
            Family::V6
        }
    }

    /// What is known of the probe when its reply came at `received`, or when it has ended otherwise.
    #[inline]
    fn ended(&self, received: Nanos) -> Ended {
        let departure = Departure {
            early: self.sent,
            doubt: self.doubt,
        };
        Ended {
            owner: self.owner,
            sent: departure.given_reply_at(received),
            deadline: self.deadline,
            family: self.family(),
            left: self.state != State::Waiting,
        }
    }
}

/// Slots by their index, in blocks that stay where they are: a table that grows copies nothing and leaves no holes in
/// the heap, so that memory is what the slots take.
#[derive(Default)]
struct Slots {
    blocks: Vec<Vec<Slot>>,
    len: usize,
}

/// Slots in a block: 256 KiB, of which only what is used becomes resident.
const BLOCK: usize = 4096;

impl Slots {
    fn push(&mut self, slot: Slot) {
        if self.len.is_multiple_of(BLOCK) {
            self.blocks.push(Vec::with_capacity(BLOCK));
        }
        self.blocks[self.len / BLOCK].push(slot);
        self.len += 1;
    }

    #[inline]
    fn get(&self, index: u32) -> Option<&Slot> {
        let index = index as usize;
        self.blocks.get(index / BLOCK)?.get(index % BLOCK)
    }

    #[inline]
    fn get_mut(&mut self, index: u32) -> Option<&mut Slot> {
        let index = index as usize;
        self.blocks.get_mut(index / BLOCK)?.get_mut(index % BLOCK)
    }
}

impl Index<u32> for Slots {
    type Output = Slot;

    #[inline]
    fn index(&self, index: u32) -> &Slot {
        let index = index as usize;
        &self.blocks[index / BLOCK][index % BLOCK]
    }
}

impl IndexMut<u32> for Slots {
    #[inline]
    fn index_mut(&mut self, index: u32) -> &mut Slot {
        let index = index as usize;
        &mut self.blocks[index / BLOCK][index % BLOCK]
    }
}

impl Entries for Slots {
    #[inline]
    fn links(&mut self, index: u32) -> &mut Links {
        &mut self[index].links
    }
    #[inline]
    fn deadline(&self, index: u32) -> Nanos {
        self[index].deadline
    }
}

/// The end of a probe: whose it was, and when it left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) owner: Owner,
    pub(crate) sent: Nanos,
    pub(crate) deadline: Nanos,
    pub(crate) family: Family,
    /// Whether it left at all; `sent` is otherwise the moment at which it was added.
    pub(crate) left: bool,
}

/// What a reply turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Match {
    /// The first reply to a probe in flight.
    Reply(Ended),
    /// Another reply to a probe that was already answered.
    Duplicate(Ended),
    /// A reply after the deadline, or after the probe ended with an error. `None` when its slot has been used again.
    Late(Option<Ended>),
    /// Nothing of ours has that address, identifier and sequence.
    Unknown,
}

/// The table.
pub(crate) struct InFlight {
    slots: Slots,
    wheel: Wheel,
    limit: usize,
    linger: Nanos,
    /// Of IPv4 and of IPv6.
    in_flight: [usize; 2],
    generation: u32,
    /// Ended slots, in the order of their end.
    free_head: u32,
    free_tail: u32,
}

/// Addresses of both families in one form.
fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

fn address(octets: [u8; 16]) -> IpAddr {
    Ipv6Addr::from(octets).to_canonical()
}

impl InFlight {
    /// A table for `limit` probes at most (at most 65,536 for each identifier). An ended probe's slot is not used again
    /// for `linger`, as long as there are others.
    pub(crate) fn new(now: Nanos, limit: usize, linger: Nanos) -> Self {
        Self {
            slots: Slots::default(),
            wheel: Wheel::new(now),
            limit,
            linger,
            in_flight: [0; 2],
            generation: 0,
            free_head: NONE,
            free_tail: NONE,
        }
    }

    /// How many probes are in flight.
    pub(crate) fn len(&self) -> usize {
        self.in_flight[0] + self.in_flight[1]
    }

    /// How many probes of one family are in flight.
    pub(crate) fn len_of(&self, family: Family) -> usize {
        self.in_flight[family as usize]
    }

    /// Whether a probe can be added.
    pub(crate) fn has_room(&self) -> bool {
        self.len() < self.limit
    }

    /// Adds a probe at `sent`, that is about to be sent. Returns its id and its generation, or `None` when the table is
    /// full.
    #[inline]
    pub(crate) fn add(
        &mut self,
        destination: IpAddr,
        owner: Owner,
        sent: Nanos,
        deadline: Nanos,
    ) -> Option<(ProbeId, u32)> {
        let index = self.vacancy(sent)?;
        self.generation = self.generation.wrapping_add(1);
        let slot = &mut self.slots[index];
        slot.address = octets(destination);
        slot.sent = sent;
        slot.doubt = Doubt::default();
        slot.deadline = deadline;
        slot.owner = owner;
        slot.generation = self.generation;
        slot.state = State::Waiting;
        self.wheel.insert(&mut self.slots, index);
        self.in_flight[Family::of(destination) as usize] += 1;
        Some((ProbeId(index), self.generation))
    }

    /// Finds a slot: one that ended long enough ago, else a new one, else the one that ended first.
    #[inline]
    fn vacancy(&mut self, now: Nanos) -> Option<u32> {
        let head = self.free_head;
        let can_grow = self.slots.len < self.limit;
        if head != NONE {
            // `deadline` of an ended probe holds the moment of its end.
            let rested = self.slots[head].deadline.saturating_add(self.linger) <= now;
            if rested || !can_grow {
                let next = self.slots[head].links.next;
                self.free_head = next;
                if next == NONE {
                    self.free_tail = NONE;
                }
                return Some(head);
            }
        }
        if !can_grow {
            return None;
        }
        let index = self.slots.len;
        self.slots.push(Slot {
            address: [0; 16],
            sent: 0,
            deadline: 0,
            owner: Owner {
                item: 0,
                target: 0,
                round: 0,
            },
            generation: 0,
            links: Links::UNLINKED,
            doubt: Doubt::default(),
            state: State::Free,
        });
        Some(index as u32)
    }

    /// Notes the moment at which a probe left.
    #[inline]
    pub(crate) fn set_sent(&mut self, id: ProbeId, departure: Departure) {
        if let Some(slot) = self.slots.get_mut(id.0)
            && slot.state == State::Waiting
        {
            slot.sent = departure.early;
            slot.doubt = departure.doubt;
            slot.state = State::InFlight;
        }
    }

    /// Whether a probe waits to be sent.
    pub(crate) fn waits(&self, id: ProbeId) -> bool {
        let slot = self.slots.get(id.0);
        slot.is_some_and(|slot| slot.state == State::Waiting)
    }

    /// Gives a probe that had to wait before it was sent that much more time, but not beyond `latest`.
    pub(crate) fn postpone(&mut self, id: ProbeId, by: Nanos, latest: Nanos) {
        if !self.waits(id) {
            return;
        }
        let slot = &mut self.slots[id.0];
        slot.deadline = slot.deadline.saturating_add(by).min(latest);
        self.wheel.remove(&mut self.slots, id.0);
        self.wheel.insert(&mut self.slots, id.0);
    }

    /// Where the probe at `id` goes and its generation, if it is in flight.
    #[inline]
    pub(crate) fn probe(&self, id: ProbeId) -> Option<(IpAddr, u32)> {
        let slot = self.slots.get(id.0)?;
        (slot.state == State::InFlight).then(|| (address(slot.address), slot.generation))
    }

    /// Takes a reply that arrived at `received`. `generation` is what its cookie says, `None` where the payload is too
    /// small to say it.
    #[inline]
    pub(crate) fn reply(
        &mut self,
        id: ProbeId,
        source: IpAddr,
        generation: Option<u32>,
        received: Nanos,
    ) -> Match {
        let Some(slot) = self.slots.get(id.0) else {
            return Match::Unknown;
        };
        if generation.is_some_and(|generation| generation != slot.generation) {
            // The cookie is ours, the slot is another probe's by now.
            return Match::Late(None);
        }
        if slot.address != octets(source) {
            return Match::Unknown;
        }
        let ended = slot.ended(received);
        match slot.state {
            State::Free | State::Waiting => Match::Unknown,
            State::Answered => Match::Duplicate(ended),
            State::Ended => Match::Late(Some(ended)),
            State::InFlight if received > slot.deadline => Match::Late(Some(ended)),
            State::InFlight => {
                self.finish(id, State::Answered, received);
                Match::Reply(ended)
            }
        }
    }

    /// Ends the probe at `id` for another reason than a reply or its deadline, if it is in flight.
    #[inline]
    pub(crate) fn fail(&mut self, id: ProbeId, now: Nanos) -> Option<Ended> {
        let slot = self.slots.get(id.0)?;
        if !matches!(slot.state, State::Waiting | State::InFlight) {
            return None;
        }
        let ended = slot.ended(now);
        self.finish(id, State::Ended, now);
        Some(ended)
    }

    fn finish(&mut self, id: ProbeId, state: State, now: Nanos) {
        self.wheel.remove(&mut self.slots, id.0);
        self.retire(id.0, state, now);
    }

    /// Puts an unlinked slot at the end of those to use again.
    fn retire(&mut self, index: u32, state: State, now: Nanos) {
        let slot = &mut self.slots[index];
        self.in_flight[slot.family() as usize] -= 1;
        // What never left can have no reply, late or otherwise.
        slot.state = match slot.state {
            State::Waiting => State::Free,
            _ => state,
        };
        slot.deadline = now;
        slot.links.next = NONE;
        if self.free_tail == NONE {
            self.free_head = index;
        } else {
            self.slots[self.free_tail].links.next = index;
        }
        self.free_tail = index;
    }

    /// Ends one probe whose deadline has passed at `now`, if there is one.
    pub(crate) fn expire(&mut self, now: Nanos) -> Option<Ended> {
        let index = self.wheel.pop(&mut self.slots, now)?;
        let ended = self.slots[index].ended(now);
        self.retire(index, State::Ended, now);
        Some(ended)
    }

    /// When [`expire`](Self::expire) may have something to give.
    pub(crate) fn next_expiry(&self) -> Option<Nanos> {
        self.wheel.next_wake()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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
}
