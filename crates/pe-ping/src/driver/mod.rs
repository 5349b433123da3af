//! The engine's thread: takes over work, sends what is due, reads what came, and waits for more.
//!
//! All I/O and all readings of the clock are here and in `transmit`. What a packet or a moment means is decided by `core`
//! and `work`.

mod binding;
mod core;
mod refused;
mod shared;
mod supervise;
mod transmit;
mod work;

use std::sync::Arc;
use std::time::Duration;

use pe_scrape::Family;

pub(crate) use binding::Binding;
pub(crate) use shared::{PingCommand, Shared};
pub(crate) use supervise::supervise;
pub(crate) use work::SweepCommand;

use self::core::Core;
use pe_scrape::Pacer;

use crate::channel::{Channel, MOST_DATAGRAM, Receiver};
use crate::packet::EchoTemplate;
use crate::proto::Nanos;
use crate::proto::pacer::{GATHER_TIME, Limits};
use crate::proto::zone::on_link;
use crate::sys::{self, Layout, ReceiveBatch};
use crate::{ProbeError, SocketKind};
use shared::Submitted;
use transmit::{Failure, Transmitter};

/// Packets for one system call, and bytes for all of their buffers at most.
const BATCH: usize = 64;
const BATCH_BYTES: usize = 1 << 20;

/// Received batches of one socket that are read before sending goes on.
const READS: usize = 64;

/// How long after its deadline a probe is given up. Until then a reply that arrived in time, as the kernel's stamp says,
/// may still be on its way through a busy machine to the socket.
const GRACE: Nanos = 10_000_000;

/// How long before a sweep's deadline its last probes must be given up: the grace, and two ticks of the timer wheel.
const MARGIN: Nanos = GRACE + (2 << 20);

/// While more is due to be sent, the driver sleeps at most this long without looking at the sockets: replies are stamped
/// by the kernel, so reading them later does not change their RTTs.
const QUANTUM: Nanos = GATHER_TIME;

/// What the driver needs to know of the user's settings.
pub(crate) struct DriverSettings {
    pub(crate) template: EchoTemplate,
    /// What the sockets are bound to, as seen before they were opened.
    pub(crate) binding: Option<Binding>,
    /// What all probes together must keep to.
    pub(crate) pacer: Option<Pacer>,
}

const _: () = assert!(Family::ALL.len() * MOST_DATAGRAM <= sys::MOST_READABLE);

/// The thread's state.
pub(crate) struct Driver {
    shared: Arc<Shared>,
    channels: Vec<Channel>,
    /// One for each channel.
    outgoing: Vec<Transmitter>,
    incoming: ReceiveBatch,
    /// What all probes together must keep to.
    limits: Limits,
    core: Core,
    submitted: Submitted,
    /// What the sockets are bound to.
    binding: Option<Binding>,
}

impl Driver {
    pub(crate) fn new(
        shared: Arc<Shared>,
        mut channels: Vec<Channel>,
        settings: DriverSettings,
    ) -> Self {
        let pair = sys::clock_pair();
        for channel in &mut channels {
            channel.set_empty_at(pair.after);
        }
        // Requests come back with their IP header, errors as long as they get (RFC 1812: 576 bytes, RFC 4443: 1280).
        let message = settings.template.message_size();
        let largest = (message + 60).max(1280);
        let packets = |size: usize| (BATCH_BYTES / size).clamp(1, BATCH);
        let limit = channels.iter().map(Channel::limit).min().unwrap_or(0);
        let binding = settings.binding;
        let scope = binding.as_ref().map_or(0, Binding::index);
        Self {
            limits: Limits::new(settings.pacer.as_slice()),
            incoming: ReceiveBatch::new(Layout {
                packets: packets(largest),
                packet_size: largest,
            }),
            outgoing: channels
                .iter()
                .map(|_| Transmitter::new(&settings.template, packets(message), scope))
                .collect(),
            core: Core::new(shared.clone(), settings.template, limit, pair),
            submitted: Submitted::default(),
            binding,
            shared,
            channels,
        }
    }

    /// Works until the last handle is gone.
    fn run(mut self) {
        while self.take_in() {
            #[cfg(test)]
            assert!(
                !self
                    .shared
                    .panics
                    .swap(false, std::sync::atomic::Ordering::SeqCst)
            );
            self.read_all();
            self.give_up();
            self.fill();
            self.flush();
            self.rest();
        }
    }

    /// Takes over what was submitted. Returns whether the driver shall go on.
    fn take_in(&mut self) -> bool {
        if !self.shared.take(&mut self.submitted) {
            return true;
        }
        let now = sys::monotonic();
        let work = &mut self.core.work;
        work.pings.extend(self.submitted.pings.drain(..));
        for command in self.submitted.sweeps.drain(..) {
            work.add_sweep(command, now, MARGIN);
        }
        !self.submitted.closed
    }

    /// Reads the sockets from which something is expected until they are empty, or [`READS`] times.
    fn read_all(&mut self) {
        let lingers = self.core.work.lingers();
        for channel in &mut self.channels {
            if lingers || self.core.table.len_of(channel.family) > 0 {
                read(channel, &mut self.incoming, &mut self.core);
            }
        }
    }

    /// Ends the probes whose time is over. A socket must have been read empty since, so that no reply that arrived in
    /// time still waits there.
    fn give_up(&mut self) {
        let now = sys::monotonic();
        let empty_at = self
            .channels
            .iter()
            .filter(|channel| self.core.table.len_of(channel.family) > 0)
            .map(Channel::empty_at)
            .fold(now, Nanos::min);
        let safe = empty_at.saturating_sub(GRACE);
        if self.core.may_expire(safe) {
            let now = sys::monotonic();
            for channel in &mut self.channels {
                look_for_drops(channel, &mut self.core, now);
            }
            self.core.expire(safe, now);
        }
        self.core.work.tidy(now);
    }

    /// Fills the batches with what is due and what the rate allows.
    fn fill(&mut self) {
        if self.outgoing.iter().any(Transmitter::is_pending) {
            return;
        }
        let now = sys::monotonic();
        if let Some(binding) = &mut self.binding {
            binding.follow(&mut self.channels, now);
            for outgoing in &mut self.outgoing {
                outgoing.scope = binding.index();
            }
        }
        let is_congested = self.outgoing.iter().any(Transmitter::is_congested);
        for (channel, outgoing) in self.channels.iter().zip(&mut self.outgoing) {
            outgoing.take_refused(channel, &self.core.template, &self.core.table, now);
        }
        if is_congested {
            return;
        }
        let mut allowed = self.limits.available(now, || u64::MAX);
        let mut taken = 0;
        let core = &mut self.core;
        while allowed > 0
            && core.table.has_room()
            && self.outgoing.iter().all(Transmitter::has_room)
        {
            let Some(mut due) = core
                .work
                .next_ping(now)
                .or_else(|| core.work.next_of_sweeps(now))
            else {
                break;
            };
            due.destination = on_link(due.destination, due.scope);
            let family = Family::of(due.destination);
            let Some(at) = self
                .channels
                .iter()
                .position(|channel| channel.family == family)
            else {
                let error = Err(ProbeError::NoSocket { family });
                core.work.end(due.owner, None, error, now);
                continue;
            };
            if let Some(absent) = self.channels[at].absent {
                self.shared.counters.send_errors.add_unshared(1);
                let error = Err(ProbeError::from_absent(absent));
                core.work.end(due.owner, None, error, now);
                continue;
            }
            let added = core.table.add(
                due.destination,
                due.owner,
                self.channels[at].flow(due.flow),
                now,
                due.deadline,
            );
            if let Some((id, generation)) = added {
                let channel = &self.channels[at];
                self.outgoing[at].push(channel, &core.template, &due, id, generation, now);
                taken += 1;
                allowed -= 1;
            }
        }
        self.limits.take(taken);
    }

    /// Sends the batches.
    fn flush(&mut self) {
        for (channel, outgoing) in self.channels.iter_mut().zip(&mut self.outgoing) {
            if !outgoing.is_pending() {
                continue;
            }
            let Core { table, work, .. } = &mut self.core;
            let counters = &self.shared.counters;
            let sent = outgoing.flush(channel, table, |table, Failure { id, error, at }| {
                counters.send_errors.add_unshared(1);
                if let Some(ended) = table.fail(id, at) {
                    work.end(ended.owner, Some(&ended), Err(error), at);
                }
            });
            counters.sent.add_unshared(sent);
        }
    }

    /// Waits until there is something to do.
    fn rest(&mut self) {
        let now = sys::monotonic();
        let Some(wait) = self.plan_wait(now) else {
            return;
        };
        if !self.shared.rest() {
            self.shared.rise();
            return;
        }
        let table = &self.core.table;
        let awaited = |channel: &&Channel| wait.for_replies && table.len_of(channel.family) > 0;
        let readable = self.channels.iter().filter(awaited);
        let readable = readable.flat_map(|channel| channel.receivers.iter().map(Receiver::fd));
        let timeout = wait
            .until
            .map(|until| Duration::from_nanos(until.saturating_sub(now)));
        sys::wait(&self.shared.wake, readable, timeout);
        self.shared.rise();
    }

    /// How long to wait, and for what; `None` to go on at once.
    fn plan_wait(&mut self, now: Nanos) -> Option<Wait> {
        let core = &mut self.core;
        if self.outgoing.iter().any(Transmitter::is_pending) {
            return None;
        }
        let mut until = Earliest::default();
        let mut sending = false;
        let retries = self.outgoing.iter().filter_map(Transmitter::next_retry);
        if let Some(retry) = retries.min() {
            if retry <= now {
                return None;
            }
            until.at(retry);
        }
        if core.table.has_room()
            && !self.outgoing.iter().any(Transmitter::is_congested)
            && let Some((due, best)) = core.work.next_due()
        {
            let (allowed, gathered) = self.limits.ready();
            let ready = due.max(allowed);
            if ready <= now {
                return None;
            }
            sending = true;
            until.at(if core.work.has_pings() {
                ready
            } else if allowed > due {
                gathered
            } else {
                best.max(ready)
            });
        }
        if let Some(expiry) = core.table.next_expiry() {
            until.at(expiry + GRACE + 1);
        }
        if let Some(tidy) = core.work.next_tidy() {
            until.at(tidy);
        }
        let in_flight = core.table.len() > 0;
        // While sending goes on, replies can wait a little to be read together.
        let patient = in_flight && sending && !core.work.has_pings();
        if patient {
            until.at(now + QUANTUM);
        }
        Some(Wait {
            until: until.0,
            for_replies: in_flight && !patient,
        })
    }
}

struct Wait {
    until: Option<Nanos>,
    for_replies: bool,
}

#[derive(Default)]
struct Earliest(Option<Nanos>);

impl Earliest {
    fn at(&mut self, time: Nanos) {
        self.0 = Some(self.0.map_or(time, |earliest| earliest.min(time)));
    }
}

/// Reads the sockets of a family until they are empty, or so often that others must have their turn.
fn read(channel: &mut Channel, incoming: &mut ReceiveBatch, core: &mut Core) {
    for at in 0..channel.receivers.len() {
        read_one(channel, at, incoming, core);
    }
}

fn read_one(channel: &mut Channel, at: usize, incoming: &mut ReceiveBatch, core: &mut Core) {
    let named = channel.family.is_v6() || channel.kind == SocketKind::Datagram;
    for _ in 0..READS {
        let before = sys::monotonic();
        let receiver = &channel.receivers[at];
        let count = match incoming.receive(receiver.fd(), named, 0) {
            Ok(count) => count,
            Err(_) => {
                // An error about a request is pending; what it says is in the error queue.
                read_errors(channel, at, incoming, core);
                continue;
            }
        };
        if count > 0 {
            let pair = sys::clock_pair();
            if core.process(channel, receiver, incoming, count, pair) {
                look_for_drops(channel, core, pair.after);
            }
        }
        if count < incoming.capacity() {
            channel.receivers[at].empty_at = before;
            break;
        }
    }
    if channel.kind == SocketKind::Datagram && core.table.len() > 0 {
        read_errors(channel, at, incoming, core);
    }
}

/// Asks the sockets of a family what they have discarded since the last look.
fn look_for_drops(channel: &mut Channel, core: &mut Core, now: Nanos) {
    let discarded = channel.look_for_drops(now);
    core.note_discarded(channel.family, discarded, now);
}

/// Reads a datagram socket's error queue.
fn read_errors(channel: &Channel, at: usize, incoming: &mut ReceiveBatch, core: &mut Core) {
    for _ in 0..READS {
        match incoming.receive(channel.receivers[at].fd(), true, libc::MSG_ERRQUEUE) {
            Ok(0) | Err(_) => break,
            Ok(count) => core.process_errors(channel, incoming, count, sys::monotonic()),
        }
    }
}
