//! The table of probes in flight.
//!
//! A probe's slot in the table is its identifier and sequence number: looking up a reply is an index, not a hash. Each
//! identifier gives 65,536 slots. A slot is used again as late as possible, and each use has its own generation, which
//! travels in the cookie; so a duplicate or a late reply is known for what it is.
//!
//! A middlebox on the way may hold a stale entry for an identifier. So a probe belongs to a flow, a number by which its
//! identifier is shifted among those of the engine, and slots move on: a target's sequence number is another each time.

mod slots;

use std::net::IpAddr;

use pe_scrape::Family;

use super::Nanos;
use super::departure::{Departure, Doubt};
use super::wheel::{Links, NONE, Wheel};
use slots::{Slot, Slots, State, octets};

/// How many flows there are: as many as the engine has identifiers.
pub(crate) const FLOWS: u8 = 64;

/// Slots that are used before any is used again.
const FIRST_SLOTS: usize = 1024;

/// How often slots move on, where the same targets are probed again and again.
const MOVE_ON: Nanos = 1_000_000_000;

/// The identifier, relative to the first, of a probe of a flow in the `block`-th 65,536 slots.
#[inline]
pub(crate) fn wire_block(block: u16, flow: u8) -> u16 {
    (block + u16::from(flow)) % u16::from(FLOWS)
}

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

/// A probe to send, or in flight, as far as its packets tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Flight {
    pub(crate) destination: IpAddr,
    pub(crate) generation: u32,
    /// By how many its identifier is shifted.
    pub(crate) flow: u8,
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
    /// When the slots were last moved on.
    moved_at: Nanos,
    /// Ended slots, in the order of their end.
    free_head: u32,
    free_tail: u32,
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
            moved_at: now,
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

    /// Adds a probe of a flow at `sent`, that is about to be sent. Returns its id and its generation, or `None` when the table is
    /// full.
    #[inline]
    pub(crate) fn add(
        &mut self,
        destination: IpAddr,
        owner: Owner,
        flow: u8,
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
        slot.flow = flow % FLOWS;
        slot.generation = self.generation;
        slot.state = State::Waiting;
        self.wheel.insert(&mut self.slots, index);
        self.in_flight[Family::of(destination) as usize] += 1;
        Some((ProbeId(index), self.generation))
    }

    /// Finds a slot: one that ended long enough ago, else a new one, else the one that ended first. The first few are taken
    /// one after the other in any case, so that few targets do not use the same ones again and again.
    #[inline]
    fn vacancy(&mut self, now: Nanos) -> Option<u32> {
        let head = self.free_head;
        let can_grow = self.slots.len < self.limit;
        if head != NONE {
            // `deadline` of an ended probe holds the moment of its end.
            let rested = self.slots[head].deadline.saturating_add(self.linger) <= now;
            if !can_grow || (rested && self.slots.len >= FIRST_SLOTS) {
                let head = self.moved_on(head, now);
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
            flow: 0,
            state: State::Free,
        });
        Some(index as u32)
    }

    /// From time to time, leaves out the first of the free slots `head`: targets that are probed in the same order again get
    /// the slot after their last one. Returns the slot to use.
    #[inline]
    fn moved_on(&mut self, head: u32, now: Nanos) -> u32 {
        let next = self.slots[head].links.next;
        if now.saturating_sub(self.moved_at) < MOVE_ON || next == NONE {
            return head;
        }
        self.moved_at = now;
        self.slots[head].links.next = NONE;
        self.slots[self.free_tail].links.next = head;
        self.free_tail = head;
        next
    }

    /// The slot of the probe with the `block`-th identifier and a sequence number. Where several flows have the same, the
    /// one of that generation.
    #[inline]
    fn find(&self, block: u16, sequence: u16, generation: Option<u32>) -> Option<ProbeId> {
        let id = ProbeId::new(block, sequence);
        let fits = |slot: &Slot| generation.is_none_or(|told| told == slot.generation);
        match self.slots.get(id.0) {
            Some(slot) if slot.flow == 0 && fits(slot) => return Some(id),
            _ => {}
        }
        let blocks = self.slots.len.div_ceil(1 << 16) as u16;
        let shifted = (0..blocks).map(|at| ProbeId::new(at, sequence));
        let of_flow = |id: &ProbeId| {
            let slot = self.slots.get(id.0)?;
            let is_its = wire_block(id.block(), slot.flow) == block;
            (is_its && fits(slot)).then_some(*id)
        };
        shifted.into_iter().find_map(|id| of_flow(&id))
    }

    /// Whether a slot of that sequence number has this generation, whatever its identifier.
    fn holds(&self, sequence: u16, generation: u32) -> bool {
        let blocks = self.slots.len.div_ceil(1 << 16) as u16;
        (0..blocks)
            .filter_map(|at| self.slots.get(ProbeId::new(at, sequence).0))
            .any(|slot| slot.generation == generation)
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

    /// The probes in flight with the `block`-th identifier and a sequence number: one, but for flows that have the same.
    pub(crate) fn probes(
        &self,
        block: u16,
        sequence: u16,
    ) -> impl Iterator<Item = (ProbeId, Flight)> + '_ {
        let blocks = self.slots.len.div_ceil(1 << 16) as u16;
        (0..blocks).filter_map(move |at| {
            let id = ProbeId::new(at, sequence);
            let slot = self.slots.get(id.0)?;
            let is_its = wire_block(at, slot.flow) == block && slot.state == State::InFlight;
            is_its.then(|| (id, slot.flight()))
        })
    }

    /// The probe at `id`, if it waits to be sent.
    pub(crate) fn waiting(&self, id: ProbeId) -> Option<Flight> {
        let slot = self.slots.get(id.0)?;
        (slot.state == State::Waiting).then(|| slot.flight())
    }

    /// Takes a reply with the `block`-th identifier that arrived at `received`. `generation` is what its cookie says, `None` where the payload is too
    /// small to say it.
    #[inline]
    pub(crate) fn reply(
        &mut self,
        block: u16,
        sequence: u16,
        source: IpAddr,
        generation: Option<u32>,
        received: Nanos,
    ) -> Match {
        let Some(id) = self.find(block, sequence, generation) else {
            // If the cookie is ours, the slot is another probe's by now, unless only the identifier is wrong.
            return match generation {
                Some(told) if !self.holds(sequence, told) => Match::Late(None),
                _ => Match::Unknown,
            };
        };
        let slot = &self.slots[id.0];
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
mod tests;
