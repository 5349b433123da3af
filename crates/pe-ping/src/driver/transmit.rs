//! Filling batches of requests and sending them.

use std::io;
use std::net::IpAddr;

use pe_scrape::Family;

use super::work::Due;
use crate::ProbeError;
use crate::channel::Channel;
use crate::packet::{EchoKey, EchoTemplate};
use crate::proto::Nanos;
use crate::proto::departure::Departures;
use crate::proto::inflight::{InFlight, ProbeId};
use crate::sys::{self, Layout, Outgoing, SendBatch};

/// Packets that leave between two readings of the clock: the fewer, the more exact their departures, and the more they
/// cost (see `docs/performance.md`). A full batch shows that the machine has much to do.
const WINDOW: usize = 2;
const WINDOW_OF_FULL_BATCH: usize = 4;

/// How long nothing is sent after the queue to the network was full, and how often that may happen to one packet.
const BACK_OFF: Nanos = 1_000_000;
const BACK_OFFS: u32 = 100;

/// How often a packet is tried again when an error may be about an earlier one (an ICMP error that has come in).
const RETRIES: u32 = 2;

/// A wait before sending that is made up for in the deadlines.
const NOTABLE_WAIT: Nanos = 1_000_000;

/// A batch of one family's requests: those from `sent` up to `queued.len()` have yet to leave.
pub(crate) struct Transmitter {
    batch: SendBatch,
    queued: Vec<Queued>,
    sent: usize,
    /// When the first of them was queued.
    queued_at: Nanos,
    /// How many to queue at once: few while the queue to the network is full.
    room: usize,
    scope: u32,
    /// How often the packet at `sent` has been refused.
    refusals: u32,
    departures: Departures,
    /// Nothing is sent before this moment.
    pub(crate) blocked_until: Nanos,
    /// The socket's own buffer is full: wait until it is writable.
    pub(crate) wants_room: bool,
}

#[derive(Debug, Clone, Copy)]
struct Queued {
    id: ProbeId,
    /// When it must have timed out.
    latest: Nanos,
}

/// A request that will not be sent, since the kernel refused it.
pub(crate) struct Failure {
    pub(crate) id: ProbeId,
    pub(crate) error: ProbeError,
    /// When it was given up.
    pub(crate) at: Nanos,
}

impl Transmitter {
    pub(crate) fn new(template: &EchoTemplate, packets: usize, scope: u32) -> Self {
        let mut batch = SendBatch::new(Layout {
            packets,
            packet_size: template.message_size(),
        });
        for at in 0..packets {
            template.prepare(batch.bytes(at));
        }
        Self {
            batch,
            queued: Vec::with_capacity(packets),
            sent: 0,
            queued_at: 0,
            room: packets,
            scope,
            refusals: 0,
            departures: Departures::default(),
            blocked_until: 0,
            wants_room: false,
        }
    }

    /// Whether another request fits.
    #[inline]
    pub(crate) fn has_room(&self) -> bool {
        self.queued.len() < self.room
    }

    /// Whether requests wait to leave.
    #[inline]
    pub(crate) fn is_pending(&self) -> bool {
        self.sent < self.queued.len()
    }

    /// Writes a request into the batch.
    #[inline]
    pub(crate) fn push(
        &mut self,
        channel: &Channel,
        template: &EchoTemplate,
        due: &Due,
        id: ProbeId,
        generation: u32,
        now: Nanos,
    ) {
        let at = self.queued.len();
        if at == 0 {
            self.queued_at = now;
        }
        let echo = EchoKey {
            id: channel.id(id.block()),
            sequence: id.sequence(),
            generation,
        };
        let bytes = self.batch.bytes(at);
        match channel.family {
            Family::V4 => template.write_v4(bytes, echo),
            Family::V6 => template.write_v6(bytes, echo),
        }
        let scope = match due.destination {
            IpAddr::V6(address) if address.is_unicast_link_local() => self.scope,
            _ => 0,
        };
        self.batch.address(
            at,
            Outgoing {
                destination: due.destination,
                scope,
            },
        );
        self.queued.push(Queued {
            id,
            latest: due.latest,
        });
    }

    /// Sends what waits, as far as the socket takes it. Returns how many left; `fail` gets those that never will.
    pub(crate) fn flush(
        &mut self,
        channel: &Channel,
        table: &mut InFlight,
        mut fail: impl FnMut(&mut InFlight, Failure),
    ) -> u64 {
        let mut left = 0;
        self.wants_room = false;
        let mut before = sys::monotonic();
        if before < self.blocked_until {
            return 0;
        }
        let full = self.queued.len() == self.batch.capacity();
        let window = if full { WINDOW_OF_FULL_BATCH } else { WINDOW };
        while self.is_pending() {
            let waited = before.saturating_sub(self.queued_at);
            let late = waited > NOTABLE_WAIT;
            if late && !table.waits(self.queued[self.sent].id) {
                self.sent += 1;
                continue;
            }
            let to = self.sent + if late { 1 } else { window };
            let to = to.min(self.queued.len());
            match self.batch.send(channel.sender(), self.sent, to) {
                Ok(count) => {
                    let after = sys::monotonic();
                    let queued = &self.queued[self.sent..self.sent + count];
                    let times = self.departures.between(before, after, count);
                    for (queued, time) in queued.iter().zip(times) {
                        if late {
                            table.postpone(queued.id, waited, queued.latest);
                        }
                        table.set_sent(queued.id, time);
                    }
                    before = after;
                    self.sent += count;
                    self.refusals = 0;
                    left += count as u64;
                }
                Err(error) => {
                    if !self.refused(&error) {
                        break;
                    }
                    before = sys::monotonic();
                    if self.refusals == 0 {
                        let failure = Failure {
                            id: self.queued[self.sent].id,
                            error: ProbeError::from_send(error.raw_os_error().unwrap_or(0)),
                            at: before,
                        };
                        self.sent += 1;
                        fail(table, failure);
                    }
                }
            }
        }
        if !self.is_pending() {
            self.queued.clear();
            self.sent = 0;
            self.room = (self.room * 2).min(self.batch.capacity());
        }
        left
    }

    /// Decides what to do about a refusal: `false` to stop for now; else go on, with `refusals` at 0 to give the packet
    /// up, or above to try it again.
    fn refused(&mut self, error: &io::Error) -> bool {
        self.refusals += 1;
        match error.raw_os_error() {
            Some(libc::EINTR) => true,
            Some(libc::EAGAIN) => {
                self.wants_room = true;
                false
            }
            Some(libc::ENOBUFS | libc::ENOMEM) => {
                if self.refusals < BACK_OFFS {
                    self.room = 1;
                    self.blocked_until = sys::monotonic() + BACK_OFF;
                    return false;
                }
                self.refusals = 0;
                true
            }
            // With an error queue, a call may fail for an error that came in for an earlier packet.
            _ => {
                if self.refusals > RETRIES {
                    self.refusals = 0;
                }
                true
            }
        }
    }
}
