//! Matches packets to probes and ends probes. A probe ends exactly once: by a reply, an error, its deadline, or a refusal
//! of its request.
//!
//! Takes every time as an argument; no I/O. Reading the sockets and the clock, and asking a socket for its drops, is left
//! to the driver.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use pe_scrape::Family;
use tracing::warn;

use super::Shared;
use super::work::WorkList;
use crate::channel::{Channel, Discarded, Receiver};
use crate::packet::{
    self, EchoKey, EchoTemplate, IcmpError, Message, Quote, Recognition, Reject, V4Packet,
};
use crate::proto::Nanos;
use crate::proto::control::Control;
use crate::proto::drops::Drops;
use crate::proto::inflight::{Ended, Flight, InFlight, Match};
use crate::proto::timebase::{ClockPair, TimeBase};
use crate::proto::zone::{is_sent_to, off_link, on_link};
use crate::sys::{ReceiveBatch, Received};
use crate::{EventKind, ProbeError, Reply, SocketKind};

/// How long an ended probe's slot is kept, so that its duplicates are known for what they are.
const LINGER: Nanos = 1_000_000_000;

/// How long a stamp may have been on its way before the driver saw it.
const STALE: Nanos = 1_000_000_000;

/// Destinations for which somebody else answered that are remembered, at most; further ones are only counted.
const MOST_REPLIERS: usize = 1024;

/// Probes in flight, work, and what relates the clocks.
pub(crate) struct Core {
    pub(crate) table: InFlight,
    pub(crate) work: WorkList,
    pub(crate) template: EchoTemplate,
    base: TimeBase,
    shared: Arc<Shared>,
    /// For IPv4 and IPv6.
    drops: [Drops; 2],
    /// Who answered last for a destination, where it was somebody else: told in the log once, and again when it changes.
    repliers: HashMap<IpAddr, IpAddr>,
}

/// What is known of a reply before it is matched.
struct Arrival {
    time: Nanos,
    ttl: Option<u8>,
    payload: usize,
    truncated: bool,
}

impl Arrival {
    fn reply(&self, sent: Nanos) -> Reply {
        Reply {
            rtt: Duration::from_nanos(self.time.saturating_sub(sent)),
            ttl: self.ttl,
            payload: self.payload as u16,
            truncated: self.truncated,
        }
    }
}

impl Core {
    pub(crate) fn new(
        shared: Arc<Shared>,
        template: EchoTemplate,
        limit: usize,
        pair: ClockPair,
    ) -> Self {
        Self {
            table: InFlight::new(pair.after, limit, LINGER),
            work: WorkList::default(),
            template,
            base: TimeBase::new(pair),
            shared,
            drops: [Drops::default(), Drops::default()],
            repliers: HashMap::new(),
        }
    }

    /// Takes the first `count` packets of a batch that `receiver` received before `pair` was read. Returns whether that
    /// has dropped packets that are not known yet.
    pub(crate) fn process(
        &mut self,
        channel: &Channel,
        receiver: &Receiver,
        incoming: &ReceiveBatch,
        count: usize,
        pair: ClockPair,
    ) -> bool {
        if self.base.observe(pair) {
            self.shared.counters.clock_steps.add_unshared(1);
        }
        let earliest = receiver.empty_at.saturating_sub(STALE);
        let mut dropped = false;
        for at in 0..count {
            let received = incoming.packet(at);
            let control = Control::parse(received.control);
            let time = control.stamp.map_or(pair.after, |stamp| {
                self.base.monotonic(stamp, earliest, pair.after)
            });
            dropped |= control
                .dropped
                .is_some_and(|drops| receiver.has_new_drops(drops));
            self.packet(channel, &received, &control, time);
        }
        dropped
    }

    #[inline]
    fn packet(
        &mut self,
        channel: &Channel,
        received: &Received<'_>,
        control: &Control,
        time: Nanos,
    ) {
        let Received {
            bytes, cut, name, ..
        } = *received;
        let parsed = match (channel.family, channel.kind) {
            (Family::V6, _) => {
                packet::parse_v6(bytes, cut).map(|message| (message, name, control.hop_limit))
            }
            (Family::V4, SocketKind::Raw) => packet::parse_v4(bytes, cut).map(
                |V4Packet {
                     source,
                     ttl,
                     message,
                 }| (message, Some(source.into()), Some(ttl)),
            ),
            (Family::V4, SocketKind::Datagram) => {
                packet::parse_v4_icmp(bytes, cut).map(|message| (message, name, control.hop_limit))
            }
        };
        let counters = &self.shared.counters;
        match parsed {
            Err(Reject::BadChecksum) => counters.bad_checksum.add_unshared(1),
            Err(Reject::Irrelevant) | Ok((_, None, _)) => counters.foreign.add_unshared(1),
            Ok((
                Message::EchoReply {
                    id,
                    sequence,
                    payload,
                },
                Some(source),
                ttl,
            )) => {
                let Some(block) = channel.block(id) else {
                    return counters.foreign.add_unshared(1);
                };
                let (from, recognised) = self.recognise(source, received.link, payload);
                match recognised {
                    Recognition::Foreign => {
                        self.not_from(source, block, sequence, payload);
                    }
                    Recognition::Altered => counters.altered.add_unshared(1),
                    Recognition::Ours {
                        generation,
                        truncated,
                    } => {
                        let arrival = Arrival {
                            time,
                            ttl,
                            payload: payload.len(),
                            truncated,
                        };
                        let matched = self.table.reply(block, sequence, from, generation, time);
                        self.matched(matched, &arrival);
                    }
                }
            }
            Ok((Message::Error { error, quote }, Some(from), _)) => {
                self.icmp_error(channel, error, &quote, from, time);
            }
        }
    }

    /// Judges the payload of a reply from `source`, which came over `link` if that is not 0. Returns the address that its request
    /// was sent to, with the link in it if that was given.
    #[inline]
    fn recognise(&self, source: IpAddr, link: u32, payload: &[u8]) -> (IpAddr, Recognition) {
        let judge = |from| {
            (
                from,
                self.template.recognise(payload, self.template.secret(from)),
            )
        };
        let from = on_link(source, link);
        match judge(from) {
            (_, Recognition::Foreign) if from != source => judge(source),
            judged => judged,
        }
    }

    #[inline]
    fn matched(&mut self, matched: Match, arrival: &Arrival) {
        let counters = &self.shared.counters;
        match matched {
            Match::Reply(ended) => {
                counters.received.add_unshared(1);
                let reply = arrival.reply(ended.sent);
                self.work
                    .end(ended.owner, Some(&ended), Ok(reply), arrival.time);
            }
            Match::Duplicate(ended) => {
                counters.duplicates.add_unshared(1);
                let reply = arrival.reply(ended.sent);
                self.work.again(&ended, EventKind::Duplicate(reply));
            }
            Match::Late(ended) => {
                counters.late.add_unshared(1);
                if let Some(ended) = ended {
                    let reply = arrival.reply(ended.sent);
                    self.work.again(&ended, EventKind::Late(reply));
                }
            }
            Match::Unknown => counters.foreign.add_unshared(1),
        }
    }

    /// A reply without the cookie of requests to `source`. It may be to a request that went elsewhere: a device answered from
    /// another of its addresses, or somebody else for it.
    fn not_from(&mut self, source: IpAddr, block: u16, sequence: u16, payload: &[u8]) {
        let counters = &self.shared.counters;
        let asked = self.table.probes(block, sequence).find(|(_, flight)| {
            let secret = self.template.secret(flight.destination);
            let recognised = self.template.recognise(payload, secret);
            matches!(
                recognised,
                Recognition::Ours { generation: told, .. }
                    if told.is_none_or(|told| told == flight.generation)
            )
        });
        let Some((_, Flight { destination, .. })) = asked else {
            return counters.foreign.add_unshared(1);
        };
        counters.wrong_source.add_unshared(1);
        let is_new = self.repliers.get(&destination) != Some(&source);
        if is_new && self.repliers.len() < MOST_REPLIERS {
            self.repliers.insert(destination, source);
            let destination = off_link(destination);
            warn!(%destination, replier = %source, "a request is answered from another address");
        }
    }

    /// An ICMP error that came in as a packet.
    fn icmp_error(
        &mut self,
        channel: &Channel,
        error: IcmpError,
        quote: &Quote<'_>,
        from: IpAddr,
        now: Nanos,
    ) {
        let ended = channel.block(quote.id).and_then(|block| {
            let mut probes = self.table.probes(block, quote.sequence);
            let (id, _) = probes.find(|(_, flight)| {
                let echo = EchoKey {
                    id: quote.id,
                    sequence: quote.sequence,
                    generation: flight.generation,
                    secret: self.template.secret(flight.destination),
                };
                is_sent_to(flight.destination, quote.destination)
                    && self.template.fits_quote(quote, echo)
            })?;
            drop(probes);
            self.table.fail(id, now)
        });
        let counters = &self.shared.counters;
        let Some(ended) = ended else {
            return counters.foreign.add_unshared(1);
        };
        counters.icmp_errors.add_unshared(1);
        let outcome = Err(probe_error(error, from));
        self.work.end(ended.owner, Some(&ended), outcome, now);
    }

    /// Takes the entries of a datagram socket's error queue: each holds the request that an ICMP error is about.
    pub(crate) fn process_errors(
        &mut self,
        channel: &Channel,
        incoming: &ReceiveBatch,
        count: usize,
        now: Nanos,
    ) {
        for at in 0..count {
            let received = incoming.packet(at);
            let control = Control::parse(received.control);
            let (Some(told), Some(destination)) = (control.error, received.name) else {
                continue;
            };
            let error = match told.origin {
                // The second word of the message is not passed on; the MTU is, as `info`.
                libc::SO_EE_ORIGIN_ICMP => IcmpError::from_v4(told.kind, told.code, told.info),
                libc::SO_EE_ORIGIN_ICMP6 => IcmpError::from_v6(told.kind, told.code, told.info),
                _ => continue,
            };
            let quote = packet::quoted_request(received.bytes, destination);
            if let (Some(error), Some(quote)) = (error, quote) {
                let from = told.offender.unwrap_or(destination);
                self.icmp_error(channel, error, &quote, from, now);
            }
        }
    }

    /// Whether [`expire`](Self::expire) may have something to end at `safe`.
    pub(crate) fn may_expire(&self, safe: Nanos) -> bool {
        self.table
            .next_expiry()
            .is_some_and(|expiry| expiry <= safe)
    }

    /// Ends the probes whose deadline has passed at `safe`, a moment up to which all replies have been read. What the
    /// sockets have dropped until `now` must have been [noted](Self::note_discarded).
    pub(crate) fn expire(&mut self, safe: Nanos, now: Nanos) {
        while let Some(ended) = self.table.expire(safe) {
            self.timed_out(&ended, now);
        }
    }

    fn timed_out(&mut self, ended: &Ended, now: Nanos) {
        let drops = &self.drops[ended.family as usize];
        let error = if !ended.left {
            self.shared.counters.send_errors.add_unshared(1);
            ProbeError::NoBuffers
        } else if drops.may_concern(ended.sent, ended.deadline) {
            ProbeError::DroppedLocally
        } else {
            ProbeError::Timeout
        };
        self.work.end(ended.owner, Some(ended), Err(error), now);
    }

    /// Notes what the socket of a family has discarded between the last look and the one at `now`.
    pub(crate) fn note_discarded(&mut self, family: Family, discarded: Discarded, now: Nanos) {
        let counters = &self.shared.counters;
        counters
            .receive_drops
            .add_unshared(discarded.overflow.into());
        counters
            .bad_checksum
            .add_unshared(discarded.corrupted.into());
        self.drops[family as usize].look(now, discarded.overflow > 0);
    }
}

fn probe_error(error: IcmpError, from: IpAddr) -> ProbeError {
    match error {
        IcmpError::Unreachable(why) => ProbeError::Unreachable { why, from },
        IcmpError::TimeExceeded { .. } => ProbeError::TimeExceeded { from },
        IcmpError::PacketTooBig { mtu } => ProbeError::PacketTooBig {
            mtu,
            from: Some(from),
        },
        IcmpError::ParameterProblem { pointer } => ProbeError::ParameterProblem { from, pointer },
    }
}
