//! Filling batches of requests and sending them.

use std::io;
use std::net::IpAddr;

use pe_scrape::Family;

use super::refused::{Refusals, Refused};
use super::work::Due;
use crate::ProbeError;
use crate::channel::{Channel, Lane};
use crate::packet::{EchoKey, EchoTemplate};
use crate::proto::Nanos;
use crate::proto::departure::Departures;
use crate::proto::inflight::{Flight, InFlight, ProbeId};
use crate::proto::zone::off_this_link;
use crate::sys::{self, Layout, Outgoing, SendBatch};

/// Packets that leave between two readings of the clock: the fewer, the more exact their departures, and the more they
/// cost (see `docs/performance.md`). A full batch shows that the machine has much to do.
const WINDOW: usize = 2;
const WINDOW_OF_FULL_BATCH: usize = 4;

/// How often a packet is tried again when an error may be about an earlier one.
const RETRIES: u32 = 2;

/// How often a packet is tried again for errors that are known to be about earlier ones.
const EXPLAINED_RETRIES: u32 = 64;

/// A wait before sending that is made up for in the deadlines.
const NOTABLE_WAIT: Nanos = 1_000_000;

/// A batch of one family's requests: those from `sent` up to `queued.len()` have yet to leave.
pub(crate) struct Transmitter {
    batch: SendBatch,
    queued: Vec<Queued>,
    sent: usize,
    /// The interface index that IPv6 link-local addresses need; 0 for none.
    pub(crate) scope: u32,
    /// How often the packet at `sent` has failed for an error that may be an earlier one's.
    retries: u32,
    explained: u32,
    departures: Departures,
    refused: Refused,
}

/// A request that waits to leave.
#[derive(Debug, Clone, Copy)]
pub(super) struct Queued {
    pub(super) id: ProbeId,
    /// Which of the probes that use the slot.
    generation: u32,
    /// When it must have timed out.
    latest: Nanos,
    /// When it was due.
    since: Nanos,
    /// The link of a link-local destination; 0 for that of the engine.
    scope: u32,
    /// Which sockets it leaves through.
    lane: Lane,
    /// Whether its destination did not answer last time.
    pub(super) lost: bool,
    pub(super) refusals: Refusals,
}

impl Queued {
    pub(super) fn new(id: ProbeId, generation: u32, latest: Nanos, since: Nanos) -> Self {
        Self {
            id,
            generation,
            latest,
            since,
            scope: 0,
            lane: Lane::First,
            lost: false,
            refusals: Refusals::default(),
        }
    }
}

/// What to do about a packet that the kernel did not take.
enum Verdict {
    /// Try it again at once, through another socket where this one is full.
    Again,
    /// Set it aside.
    Hold,
    /// It will not leave.
    GiveUp,
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
            scope,
            retries: 0,
            explained: 0,
            departures: Departures::default(),
            refused: Refused::default(),
        }
    }

    /// Whether another request fits, and may leave before those that were refused.
    #[inline]
    pub(crate) fn has_room(&self) -> bool {
        self.queued.len() < self.batch.capacity() && !self.refused.is_congested()
    }

    /// Whether requests wait to leave.
    #[inline]
    pub(crate) fn is_pending(&self) -> bool {
        self.sent < self.queued.len()
    }

    /// When requests that were refused are to be tried again.
    #[inline]
    pub(crate) fn next_retry(&self) -> Option<Nanos> {
        self.refused.next_retry()
    }

    /// Whether requests that were refused must leave before new ones are taken.
    pub(crate) fn is_congested(&self) -> bool {
        self.refused.is_congested()
    }

    /// Fills the batch with the requests that were refused and are to be tried again at `now`.
    #[inline]
    pub(crate) fn take_refused(
        &mut self,
        channel: &Channel,
        template: &EchoTemplate,
        table: &InFlight,
        now: Nanos,
    ) {
        if self.refused.next_retry().is_none_or(|at| at > now) {
            return;
        }
        let mut taken = Vec::new();
        let most = self.batch.capacity() - self.queued.len();
        self.refused.take(now, most, |queued| taken.push(queued));
        for queued in taken {
            // Its deadline may have come first, and another probe may wait in its slot.
            if let Some(flight) = table.waiting(queued.id)
                && flight.generation == queued.generation
            {
                self.write(channel, template, queued, flight);
            }
        }
    }

    /// Puts a request that is due into the batch.
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
        let queued = Queued {
            scope: due.scope,
            lane: channel.lane(due.flow, due.lost),
            lost: due.lost,
            ..Queued::new(id, generation, due.latest, now)
        };
        let flight = Flight {
            destination: due.destination,
            generation,
            flow: channel.flow(due.flow),
        };
        self.write(channel, template, queued, flight);
    }

    /// Writes a request into the batch.
    #[inline]
    fn write(
        &mut self,
        channel: &Channel,
        template: &EchoTemplate,
        queued: Queued,
        flight: Flight,
    ) {
        let Flight {
            destination,
            generation,
            flow,
        } = flight;
        let at = self.queued.len();
        let echo = EchoKey {
            id: channel.id(queued.id.block(), flow),
            sequence: queued.id.sequence(),
            generation,
            secret: template.secret(destination),
        };
        let bytes = self.batch.bytes(at);
        match channel.family {
            Family::V4 => template.write_v4(bytes, echo),
            Family::V6 => template.write_v6(bytes, echo),
        }
        let (destination, scope) = match destination {
            IpAddr::V6(address) if address.is_unicast_link_local() => match queued.scope {
                0 => (destination, self.scope),
                scope => (off_this_link(destination, scope), scope),
            },
            _ => (destination, 0),
        };
        self.batch.address(at, Outgoing { destination, scope });
        self.queued.push(queued);
    }

    /// Sends what waits, as far as the kernel takes it; what finds no room is set aside. Returns how many left; `fail` gets
    /// those that never will.
    pub(crate) fn flush(
        &mut self,
        channel: &mut Channel,
        table: &mut InFlight,
        mut fail: impl FnMut(&mut InFlight, Failure),
    ) -> u64 {
        let mut left = 0;
        let mut before = sys::monotonic();
        let full = self.queued.len() == self.batch.capacity();
        let window = if full { WINDOW_OF_FULL_BATCH } else { WINDOW };
        while self.is_pending() {
            let next = self.queued[self.sent];
            let waited = before.saturating_sub(next.since);
            let late = waited > NOTABLE_WAIT;
            if late && !table.waits(next.id) {
                self.sent += 1;
                continue;
            }
            let to = if late {
                self.sent + 1
            } else {
                self.end_of_window(window, channel)
            };
            let sender = channel.choose_sender(next.lane, before);
            let sent = match sender {
                Some(sender) => self.batch.send(channel.sender(sender), self.sent, to),
                None => Err(io::Error::from_raw_os_error(libc::ENOBUFS)),
            };
            match sent {
                Ok(count) => {
                    let after = sys::monotonic();
                    let queued = &self.queued[self.sent..self.sent + count];
                    let times = self.departures.between(before, after, count);
                    for (queued, time) in queued.iter().zip(times) {
                        if late {
                            table.postpone(queued.id, waited, queued.latest);
                        }
                        table.set_sent(queued.id, time);
                        if !queued.refusals.is_none() {
                            self.refused.note_relief();
                        }
                    }
                    before = after;
                    self.sent += count;
                    (self.retries, self.explained) = (0, 0);
                    left += count as u64;
                }
                Err(error) => {
                    let verdict = match sender {
                        Some(sender) => self.judge(channel, sender, &error, before),
                        None => Verdict::Hold,
                    };
                    before = sys::monotonic();
                    let lost = match verdict {
                        Verdict::Again => continue,
                        Verdict::Hold => self.refused.hold(next, before),
                        Verdict::GiveUp => Some(next),
                    };
                    self.sent += 1;
                    (self.retries, self.explained) = (0, 0);
                    if let Some(Queued { id, .. }) = lost {
                        let error =
                            refusal(&error, table.waiting(id).map(|flight| flight.destination));
                        let at = before;
                        fail(table, Failure { id, error, at });
                    }
                }
            }
        }
        self.queued.clear();
        self.sent = 0;
        left
    }

    /// Up to which request one call sends: as many as the window takes, and only those that leave through the same socket.
    #[inline]
    fn end_of_window(&self, window: usize, channel: &Channel) -> usize {
        let to = (self.sent + window).min(self.queued.len());
        if channel.has_one_sender() {
            return to;
        }
        let lane = self.queued[self.sent].lane;
        let others = self.queued[self.sent..to].iter();
        self.sent + others.take_while(|queued| queued.lane == lane).count()
    }

    /// Decides what to do about a refusal of the packet at `sent` by a sending socket.
    fn judge(
        &mut self,
        channel: &mut Channel,
        sender: usize,
        error: &io::Error,
        now: Nanos,
    ) -> Verdict {
        match error.raw_os_error() {
            Some(libc::EINTR) => Verdict::Again,
            Some(libc::EAGAIN) => {
                channel.rest(sender, now);
                Verdict::Again
            }
            // A raw socket says the same of its own buffer as of a queue or a table that is full.
            Some(libc::ENOBUFS | libc::ENOMEM) if channel.rest_if_full(sender, now) => {
                Verdict::Again
            }
            Some(libc::ENOBUFS | libc::ENOMEM) => Verdict::Hold,
            Some(errno) if comes_with_icmp(errno) => {
                let is_explained = channel.clear_sender_errors(sender) > 0;
                if is_explained && self.explained < EXPLAINED_RETRIES {
                    self.explained += 1;
                    return Verdict::Again;
                }
                self.retries += 1;
                if self.retries <= RETRIES {
                    Verdict::Again
                } else {
                    Verdict::GiveUp
                }
            }
            _ => Verdict::GiveUp,
        }
    }
}

/// Whether an error may be an ICMP error about an earlier packet (`icmp_err_convert` and `icmpv6_err_convert` of the kernel):
/// with an error queue, the next call fails for it.
fn comes_with_icmp(errno: i32) -> bool {
    matches!(
        errno,
        libc::ENETUNREACH
            | libc::EHOSTUNREACH
            | libc::ENOPROTOOPT
            | libc::ECONNREFUSED
            | libc::EMSGSIZE
            | libc::EOPNOTSUPP
            | libc::EHOSTDOWN
            | libc::ENONET
            | libc::EPROTO
            | libc::EACCES
    )
}

/// Why a request to `destination` did not leave.
fn refusal(error: &io::Error, destination: Option<IpAddr>) -> ProbeError {
    match (error.raw_os_error(), destination) {
        (Some(libc::EACCES), Some(IpAddr::V4(to))) if sys::is_broadcast(to) => {
            ProbeError::Broadcast
        }
        (errno, _) => ProbeError::from_send(errno.unwrap_or(0)),
    }
}
