//! What the table keeps of each probe, and where.

use std::net::{IpAddr, Ipv6Addr};
use std::ops::{Index, IndexMut};

use pe_scrape::Family;

use super::{Ended, Flight, Owner};
use crate::proto::Nanos;
use crate::proto::departure::{Departure, Doubt};
use crate::proto::wheel::{Entries, Links};

/// Slots in a block: 256 KiB, of which only what is used becomes resident.
pub(super) const BLOCK: usize = 4096;

/// The first bytes of an IPv4 address in IPv6 form (RFC 4291, section 2.5.5.2).
const MAPPED: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
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
pub(super) struct Slot {
    pub(super) address: [u8; 16],
    pub(super) sent: Nanos,
    pub(super) deadline: Nanos,
    pub(super) owner: Owner,
    pub(super) generation: u32,
    pub(super) links: Links,
    pub(super) doubt: Doubt,
    /// By how many the identifier is shifted.
    pub(super) flow: u8,
    pub(super) state: State,
}

const _: () = assert!(size_of::<Slot>() == 64);

impl Slot {
    #[inline]
    pub(super) fn family(&self) -> Family {
        if self.address[..12] == MAPPED {
            Family::V4
        } else {
            Family::V6
        }
    }

    pub(super) fn flight(&self) -> Flight {
        Flight {
            destination: Ipv6Addr::from(self.address).to_canonical(),
            generation: self.generation,
            flow: self.flow,
        }
    }

    /// What is known of the probe when its reply came at `received`, or when it has ended otherwise.
    #[inline]
    pub(super) fn ended(&self, received: Nanos) -> Ended {
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
pub(super) struct Slots {
    blocks: Vec<Vec<Slot>>,
    pub(super) len: usize,
}

impl Slots {
    pub(super) fn push(&mut self, slot: Slot) {
        if self.len.is_multiple_of(BLOCK) {
            self.blocks.push(Vec::with_capacity(BLOCK));
        }
        self.blocks[self.len / BLOCK].push(slot);
        self.len += 1;
    }

    #[inline]
    pub(super) fn get(&self, index: u32) -> Option<&Slot> {
        let index = index as usize;
        self.blocks.get(index / BLOCK)?.get(index % BLOCK)
    }

    #[inline]
    pub(super) fn get_mut(&mut self, index: u32) -> Option<&mut Slot> {
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

/// Addresses of both families in one form.
#[inline]
pub(super) fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}
