//! What the driver works on: single pings and sweeps, what is due of them, and telling their owners.
//!
//! Takes every time as an argument; no I/O. An observer that panics ends its own sweep and nothing else.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use tokio::sync::oneshot;

use super::PingCommand;
use crate::proto::inflight::{Ended, Owner};
use crate::proto::pacer::{Limits, gathering};
use crate::proto::{Nanos, nanos};
use crate::{EventKind, Outcome, ProbeError, ProbeEvent, Stats, Sweep, SweepResult};

pub(crate) type Observer = Box<dyn FnMut(ProbeEvent) + Send>;

/// A sweep to run.
pub(crate) struct SweepCommand {
    pub(crate) sweep: Sweep,
    pub(crate) timeout: Nanos,
    /// When it was handed over.
    pub(crate) start: Nanos,
    /// When it must be over; `Nanos::MAX` for no limit.
    pub(crate) deadline: Nanos,
    pub(crate) observer: Option<Observer>,
    pub(crate) done: oneshot::Sender<SweepResult>,
}

/// A probe that is due.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Due {
    pub(crate) destination: IpAddr,
    /// The link of a link-local destination; 0 for that of the engine.
    pub(crate) scope: u32,
    pub(crate) owner: Owner,
    /// Which flow it belongs to.
    pub(crate) flow: u8,
    /// Whether the destination did not answer last time.
    pub(crate) lost: bool,
    /// When it times out if it is sent now.
    pub(crate) deadline: Nanos,
    /// When it times out at the latest, however late it is sent.
    pub(crate) latest: Nanos,
}

enum Work {
    Ping(oneshot::Sender<Outcome>),
    Sweep(Box<Running>),
}

struct WorkItem {
    /// When this slot was taken. What comes late for an earlier probe belongs to its previous owner.
    since: Nanos,
    work: Work,
}

/// A sweep under way.
struct Running {
    sweep: Sweep,
    observer: Option<Observer>,
    done: Option<oneshot::Sender<SweepResult>>,
    stats: Vec<Stats>,
    /// The probe to send next: which target, in which round.
    target: u32,
    round: u32,
    /// Probes that have not ended.
    remaining: u64,
    start: Nanos,
    timeout: Nanos,
    /// The time from one probe to the next of the same round.
    gap: f64,
    limits: Limits,
    interval: Nanos,
    /// When the last probe must have ended.
    deadline: Nanos,
    /// When its probes' duplicates are no longer of interest, once it has ended.
    forget_at: Option<Nanos>,
}

impl Running {
    fn unsent(&self) -> bool {
        self.done.is_some() && self.round < self.sweep.count && !self.sweep.targets.is_empty()
    }

    /// Sends nothing more, and keeps its place until the probes that it has sent, or that wait to be sent, have ended: they must
    /// not be told to whoever comes next.
    fn abandon(&mut self) {
        let rounds = u64::from(self.sweep.count.saturating_sub(self.round));
        let unsent = rounds * self.sweep.targets.len() as u64 - u64::from(self.target);
        self.remaining -= unsent;
        (self.round, self.target) = (self.sweep.count, 0);
        (self.observer, self.done) = (None, None);
        self.stats = Vec::new();
    }

    /// When the next probe is due by the plan, whatever the rate allows.
    fn planned_at(&self) -> Nanos {
        self.start
            .saturating_add(u64::from(self.round).saturating_mul(self.interval))
            .saturating_add((f64::from(self.target) * self.gap) as Nanos)
    }

    /// When the next probe may leave, and when it is best sent: together with those that follow closely.
    fn due_at(&self) -> (Nanos, Nanos) {
        let planned = self.planned_at();
        let (allowed, gathered) = self.limits.ready();
        if allowed > planned {
            (allowed, gathered)
        } else {
            (planned, planned + gathering(self.gap as Nanos))
        }
    }

    /// Takes the next probe's turn at `now`, if it is due and allowed.
    fn may_send(&mut self, now: Nanos) -> bool {
        let planned = self.planned_at();
        if planned > now {
            return false;
        }
        // Those of the round that are due.
        let left = (self.sweep.targets.len() - self.target as usize) as u64;
        let gap = self.gap as Nanos;
        let due = || match (now - planned).checked_div(gap) {
            Some(more) => left.min(more + 1),
            None => left,
        };
        let allowed = self.limits.available(now, due) > 0;
        if allowed {
            self.limits.take(1);
        }
        allowed
    }

    fn advance(&mut self) {
        self.target += 1;
        if self.target as usize == self.sweep.targets.len() {
            self.target = 0;
            self.round += 1;
        }
    }

    /// Whether nobody waits for it any more.
    fn is_abandoned(&self) -> bool {
        self.done.as_ref().is_some_and(oneshot::Sender::is_closed)
    }

    fn event(&mut self, ended: Option<&Ended>, owner: Owner, kind: EventKind) {
        let Some(observer) = &mut self.observer else {
            return;
        };
        let event = ProbeEvent {
            target: owner.target,
            round: owner.round,
            sent: ended
                .filter(|ended| ended.left)
                .map(|ended| Duration::from_nanos(ended.sent.saturating_sub(self.start))),
            kind,
        };
        if catch_unwind(AssertUnwindSafe(|| observer(event))).is_err() {
            // Its owner learns of it, and nobody else.
            self.observer = None;
            self.done = None;
        }
    }
}

/// Everything that the driver works on.
#[derive(Default)]
pub(crate) struct WorkList {
    /// Pings that have not been sent.
    pub(crate) pings: VecDeque<PingCommand>,
    slots: Vec<Option<WorkItem>>,
    free: Vec<u32>,
    /// Sweeps that are in the list, in the order of their turns.
    sweeps: Vec<u32>,
    turn: usize,
    /// Pings that were sent and not answered.
    waiting: usize,
}

impl WorkList {
    fn add(&mut self, item: WorkItem) -> u32 {
        if let Some(slot) = self.free.pop() {
            self.slots[slot as usize] = Some(item);
            return slot;
        }
        self.slots.push(Some(item));
        (self.slots.len() - 1) as u32
    }

    fn remove(&mut self, slot: u32) -> Option<WorkItem> {
        let item = self.slots[slot as usize].take();
        if item.is_some() {
            self.free.push(slot);
        }
        item
    }

    fn sweep(&mut self, slot: u32) -> Option<&mut Running> {
        match &mut self.slots.get_mut(slot as usize)?.as_mut()?.work {
            Work::Sweep(running) => Some(running),
            Work::Ping(_) => None,
        }
    }

    /// Takes over a sweep. `margin` is how long before its deadline the last probe must be given up.
    pub(crate) fn add_sweep(&mut self, command: SweepCommand, now: Nanos, margin: Nanos) {
        let SweepCommand {
            sweep,
            timeout,
            start,
            deadline,
            observer,
            done,
        } = command;
        let deadline = match deadline {
            Nanos::MAX => deadline,
            _ => deadline.saturating_sub(margin),
        };
        let targets = sweep.targets.len();
        let running = Running {
            stats: vec![Stats::default(); targets],
            remaining: sweep.probes(),
            gap: sweep.spread.as_nanos() as f64 / targets.max(1) as f64,
            limits: Limits::new(&sweep.pacers),
            interval: nanos(sweep.probe_interval),
            timeout,
            sweep,
            observer,
            done: Some(done),
            target: 0,
            round: 0,
            start,
            deadline,
            forget_at: None,
        };
        let empty = running.remaining == 0;
        let slot = self.add(WorkItem {
            since: now,
            work: Work::Sweep(Box::new(running)),
        });
        self.sweeps.push(slot);
        if empty {
            self.finish_sweep(slot, now);
        }
    }

    /// Takes the next single ping that somebody still waits for.
    pub(crate) fn next_ping(&mut self, now: Nanos) -> Option<Due> {
        loop {
            let command = self.pings.pop_front()?;
            if command.done.is_closed() {
                continue;
            }
            let slot = self.add(WorkItem {
                since: now,
                work: Work::Ping(command.done),
            });
            self.waiting += 1;
            return Some(Due {
                destination: command.destination,
                scope: 0,
                owner: Owner {
                    item: slot,
                    target: 0,
                    round: 0,
                },
                flow: 0,
                lost: false,
                deadline: now.saturating_add(command.timeout),
                latest: Nanos::MAX,
            });
        }
    }

    /// Takes the next probe of a sweep that is due at `now`. Sweeps take turns.
    pub(crate) fn next_of_sweeps(&mut self, now: Nanos) -> Option<Due> {
        for _ in 0..self.sweeps.len() {
            let slot = *self.sweeps.get(self.turn)?;
            self.turn = (self.turn + 1) % self.sweeps.len();
            let Some(running) = self.sweep(slot) else {
                continue;
            };
            if !running.unsent() || now >= running.deadline || !running.may_send(now) {
                continue;
            }
            let due = Due {
                destination: running.sweep.targets[running.target as usize].to_canonical(),
                scope: running.sweep.scope(running.target),
                owner: Owner {
                    item: slot,
                    target: running.target,
                    round: running.round,
                },
                flow: running.sweep.flow(running.target),
                lost: running.sweep.is_lost(running.target),
                deadline: now.saturating_add(running.timeout).min(running.deadline),
                latest: running.deadline,
            };
            running.advance();
            return Some(due);
        }
        None
    }

    /// Whether somebody still wants to hear of duplicates to probes that have ended.
    pub(crate) fn lingers(&mut self) -> bool {
        (0..self.sweeps.len()).any(|at| {
            let slot = self.sweeps[at];
            self.sweep(slot)
                .is_some_and(|running| running.forget_at.is_some())
        })
    }

    /// Whether a single ping waits to be sent, or for its answer.
    pub(crate) fn has_pings(&self) -> bool {
        self.waiting > 0 || !self.pings.is_empty()
    }

    /// When the next probe of a sweep is due, and when it is best sent; zeros when a ping waits to be sent.
    pub(crate) fn next_due(&mut self) -> Option<(Nanos, Nanos)> {
        if !self.pings.is_empty() {
            return Some((0, 0));
        }
        let mut next: Option<(Nanos, Nanos)> = None;
        for at in 0..self.sweeps.len() {
            let slot = self.sweeps[at];
            if let Some(running) = self.sweep(slot)
                && running.unsent()
            {
                let (due, best) = running.due_at();
                next = Some(next.map_or((due, best), |next| (next.0.min(due), next.1.min(best))));
            }
        }
        next
    }

    /// When [`tidy`](Self::tidy) has something to do.
    pub(crate) fn next_tidy(&mut self) -> Option<Nanos> {
        let mut next = None;
        for at in 0..self.sweeps.len() {
            let slot = self.sweeps[at];
            if let Some(running) = self.sweep(slot) {
                let at = match running.forget_at {
                    Some(at) => at,
                    None if running.unsent() && running.deadline != Nanos::MAX => running.deadline,
                    None => continue,
                };
                next = Some(next.map_or(at, |next: Nanos| next.min(at)));
            }
        }
        next
    }

    /// Ends what is overdue, abandoned or to be forgotten.
    pub(crate) fn tidy(&mut self, now: Nanos) {
        let mut at = 0;
        while at < self.sweeps.len() {
            let slot = self.sweeps[at];
            let Some(running) = self.sweep(slot) else {
                self.sweeps.swap_remove(at);
                continue;
            };
            let ended = running.forget_at.is_some();
            if !ended && (running.is_abandoned() || running.done.is_none()) {
                running.abandon();
                if running.remaining == 0 {
                    running.forget_at = Some(now);
                }
            }
            if running.forget_at.is_some_and(|forget_at| forget_at <= now) {
                self.remove(slot);
                self.sweeps.swap_remove(at);
                continue;
            }
            if !ended && now >= running.deadline && running.unsent() {
                self.cut_short(slot, now);
            }
            at += 1;
        }
        if self.turn >= self.sweeps.len() {
            self.turn = 0;
        }
    }

    /// Ends the probes of a sweep that have not been sent.
    fn cut_short(&mut self, slot: u32, now: Nanos) {
        loop {
            let Some(running) = self.sweep(slot) else {
                return;
            };
            if !running.unsent() {
                return;
            }
            let owner = Owner {
                item: slot,
                target: running.target,
                round: running.round,
            };
            running.advance();
            self.end(owner, None, Err(ProbeError::NotSent), now);
        }
    }

    /// Tells the owner of a probe what became of it. `ended` is what the table knew of it, `None` when it was never in
    /// the table.
    #[inline]
    pub(crate) fn end(
        &mut self,
        owner: Owner,
        ended: Option<&Ended>,
        outcome: Outcome,
        now: Nanos,
    ) {
        let Some(Some(item)) = self.slots.get_mut(owner.item as usize) else {
            return;
        };
        match &mut item.work {
            Work::Ping(_) => {
                self.waiting -= 1;
                if let Some(WorkItem {
                    work: Work::Ping(done),
                    ..
                }) = self.remove(owner.item)
                {
                    // Nobody waits any more if this fails.
                    let _ = done.send(outcome);
                }
            }
            Work::Sweep(running) => {
                if let Some(stats) = running.stats.get_mut(owner.target as usize) {
                    stats.record(&outcome);
                }
                let kind = outcome.map_or_else(EventKind::Failed, EventKind::Reply);
                running.event(ended, owner, kind);
                running.remaining -= 1;
                if running.remaining == 0 {
                    self.finish_sweep(owner.item, now);
                }
            }
        }
    }

    /// Tells the owner of a probe that has ended of a reply after its end: `kind` is a duplicate or a late one.
    pub(crate) fn again(&mut self, ended: &Ended, kind: EventKind) {
        let Some(Some(item)) = self.slots.get_mut(ended.owner.item as usize) else {
            return;
        };
        if ended.sent < item.since {
            return;
        }
        if let Work::Sweep(running) = &mut item.work {
            let stats = running.stats.get_mut(ended.owner.target as usize);
            match (stats, kind) {
                (Some(stats), EventKind::Late(_)) => stats.record_late(),
                (Some(stats), EventKind::Duplicate(_)) => stats.record_duplicate(),
                _ => {}
            }
            running.event(Some(ended), ended.owner, kind);
        }
    }

    fn finish_sweep(&mut self, slot: u32, now: Nanos) {
        let Some(running) = self.sweep(slot) else {
            return;
        };
        if let Some(done) = running.done.take() {
            let result = SweepResult {
                targets: running.sweep.targets.clone(),
                stats: std::mem::take(&mut running.stats),
                elapsed: Duration::from_nanos(now.saturating_sub(running.start)),
            };
            // Nobody waits any more if this fails.
            let _ = done.send(result);
        }
        let linger = if running.observer.is_some() {
            nanos(running.sweep.linger)
        } else {
            0
        };
        running.forget_at = Some(now.saturating_add(linger));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::departure::{Departure, Doubt};
    use crate::proto::inflight::{InFlight, ProbeId};

    const SECOND: Nanos = 1_000_000_000;

    /// Adds a sweep of so many targets.
    fn sweep(
        work: &mut WorkList,
        targets: u8,
        observer: Option<Observer>,
        now: Nanos,
    ) -> oneshot::Receiver<SweepResult> {
        let (done, result) = oneshot::channel();
        let targets = (1..=targets).map(|n| [127, 0, 0, n]);
        let command = SweepCommand {
            sweep: targets.collect(),
            timeout: SECOND,
            start: now,
            deadline: Nanos::MAX,
            observer,
            done,
        };
        work.add_sweep(command, now, 0);
        result
    }

    /// Puts the next probe into the table.
    fn add(work: &mut WorkList, table: &mut InFlight, now: Nanos) -> ProbeId {
        let due = work.next_of_sweeps(now).unwrap();
        let added = table.add(due.destination, due.owner, 0, now, due.deadline);
        added.unwrap().0
    }

    fn leave(table: &mut InFlight, id: ProbeId, early: Nanos) {
        let doubt = Doubt::default();
        table.set_sent(id, Departure { early, doubt });
    }

    /// Ends all that is in the table.
    fn expire(work: &mut WorkList, table: &mut InFlight, now: Nanos) {
        while let Some(ended) = table.expire(now) {
            work.end(ended.owner, Some(&ended), Err(ProbeError::Timeout), now);
        }
    }

    /// A sweep that is given up at 10 while one of its probes has left and another waits, then one in its place.
    fn another_takes_its_place(
        give_up: impl FnOnce(&mut WorkList, &mut InFlight, ProbeId, oneshot::Receiver<SweepResult>),
        observer: Option<Observer>,
    ) {
        let mut work = WorkList::default();
        let mut table = InFlight::new(0, 1000, SECOND);
        let result = sweep(&mut work, 4, observer, 0);
        let left = add(&mut work, &mut table, 1);
        leave(&mut table, left, 2);
        let waits = add(&mut work, &mut table, 3);
        give_up(&mut work, &mut table, left, result);
        work.tidy(10);
        assert!(work.next_of_sweeps(11).is_none(), "it sends on");

        let mut other = sweep(&mut work, 2, None, 20);
        // What the kernel had no room for leaves now.
        leave(&mut table, waits, 30);
        for _ in 0..2 {
            let id = add(&mut work, &mut table, SECOND);
            leave(&mut table, id, SECOND);
        }
        expire(&mut work, &mut table, SECOND + SECOND / 2);
        work.tidy(SECOND + SECOND / 2);
        assert!(other.try_recv().is_err(), "another's probe has ended it");
        expire(&mut work, &mut table, 3 * SECOND);
        let result = other.try_recv().unwrap();
        let lost: Vec<u32> = result.iter().map(|(_, stats)| stats.sent()).collect();
        assert_eq!(lost, [1, 1]);
        work.tidy(3 * SECOND);
        assert!(work.sweeps.is_empty(), "a sweep is kept for ever");
        assert_eq!(work.free.len(), work.slots.len());
    }

    #[test]
    fn what_an_abandoned_sweep_could_not_send_is_not_told_to_the_next() {
        another_takes_its_place(|_, _, _, result| drop(result), None);
    }

    #[test]
    fn what_a_panicking_observer_has_sent_is_not_told_to_the_next_sweep() {
        let panics = |work: &mut WorkList, table: &mut InFlight, left, _| {
            let ended = table.fail(left, 5).unwrap();
            work.end(ended.owner, Some(&ended), Err(ProbeError::NoBuffers), 5);
        };
        another_takes_its_place(panics, Some(Box::new(|_| panic!("an observer of a test"))));
    }
}
