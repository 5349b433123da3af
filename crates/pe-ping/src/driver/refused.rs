//! Requests for which the kernel had no room: how long each is held, and when it is tried again.
//!
//! `ENOBUFS` has several causes that look the same. The queue to the network is full: every request meets it, and it has passed
//! within milliseconds. The neighbour table is full: that holds for one address of the local link, and may last. Or neighbours
//! that do not answer fill the send buffers of all sockets, see `channel::senders`. So a request that was refused is set aside,
//! and others go on. While those that were set aside do leave when they are tried again, the queue is taken to be the
//! cause, and nothing new is sent before them. One that was refused several times though no other could leave is parked:
//! it no longer holds anything back, and gets some last tries, further and further apart. A request to a target that was lost last
//! time is parked at once, and gets one last try: room is for those that are likely to answer.
//!
//! Takes every time as an argument; no I/O.

use std::collections::VecDeque;

use super::transmit::Queued;
use crate::proto::Nanos;

/// The time from one try to the next.
const RETRY: Nanos = 1_000_000;

/// So many refused requests at once hold new ones back.
const CONGESTED: usize = 32;

/// A request that was refused so often while none of the others could leave does not wait for the queue; one time is enough
/// once [`CONGESTED`] requests in a row were parked.
const STRIKES: u8 = 4;

/// The times to the last tries of a request that no longer holds others back: entries of the neighbour table and room in send
/// buffers become free as other addresses fail to answer. Tries end with the request's timeout.
const PARKED: [Nanos; 5] = [
    25_000_000,
    50_000_000,
    100_000_000,
    200_000_000,
    400_000_000,
];

/// Which of these is the one try of a request to a target that was lost last time.
const PARKED_LOST: usize = 2;

/// The longest time that a request waits for a full queue: enough for [`CONGESTED`] small requests on a link of 100 kbit/s.
const LONGEST: Nanos = 250_000_000;

/// How often a request was refused.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Refusals {
    /// When it was refused first; 0 for never.
    first: Nanos,
    /// How many others had left on a further try by then.
    relieved: u64,
    strikes: u8,
    /// How often it was parked.
    parked: u8,
}

impl Refusals {
    pub(super) fn is_none(self) -> bool {
        self.first == 0
    }
}

/// The requests of one family that were refused.
#[derive(Debug, Default)]
pub(super) struct Refused {
    /// Tried again at `retry_at`, in this order.
    held: VecDeque<Queued>,
    retry_at: Nanos,
    /// For each time of [`PARKED`], those that wait so long, each with the moment of its next try, in that order.
    parked: [VecDeque<(Nanos, Queued)>; PARKED.len()],
    /// How many have left on a further try.
    relieved: u64,
    /// How many were parked since one left on a further try.
    in_vain: usize,
}

impl Refused {
    /// Sets a request aside that was refused at `now`. Returns it when it is to be given up.
    pub(super) fn hold(&mut self, mut queued: Queued, now: Nanos) -> Option<Queued> {
        let refusals = &mut queued.refusals;
        if refusals.is_none() {
            refusals.first = now;
        }
        if queued.lost {
            return if refusals.parked == 0 {
                self.park(queued, PARKED_LOST, now);
                None
            } else {
                Some(queued)
            };
        }
        if refusals.parked > 0 {
            let next = usize::from(refusals.parked);
            if next == PARKED.len() {
                return Some(queued);
            }
            self.park(queued, next, now);
            return None;
        }
        if now.saturating_sub(refusals.first) > LONGEST {
            return Some(queued);
        }
        if refusals.relieved == self.relieved {
            refusals.strikes += 1;
        } else {
            refusals.relieved = self.relieved;
        }
        let strikes = if self.in_vain < CONGESTED { STRIKES } else { 1 };
        if refusals.strikes > strikes {
            self.in_vain += 1;
            self.park(queued, 0, now);
        } else {
            if self.held.is_empty() || self.retry_at <= now {
                self.retry_at = now + RETRY;
            }
            self.held.push_back(queued);
        }
        None
    }

    fn park(&mut self, mut queued: Queued, time: usize, now: Nanos) {
        queued.refusals.parked = time as u8 + 1;
        self.parked[time].push_back((now + PARKED[time], queued));
    }

    /// Notes that a request has left that had been refused.
    pub(super) fn note_relief(&mut self) {
        self.relieved += 1;
        self.in_vain = 0;
    }

    /// Whether nothing new is to be sent before what waits here.
    #[inline]
    pub(super) fn is_congested(&self) -> bool {
        self.held.len() >= CONGESTED
    }

    /// When the next is to be tried again.
    #[inline]
    pub(super) fn next_retry(&self) -> Option<Nanos> {
        let held = (!self.held.is_empty()).then_some(self.retry_at);
        let parked = self.parked.iter().filter_map(|parked| parked.front());
        held.into_iter().chain(parked.map(|(at, _)| *at)).min()
    }

    /// Takes up to `most` that are to be tried at `now`.
    pub(super) fn take(&mut self, now: Nanos, most: usize, mut each: impl FnMut(Queued)) {
        let mut left = most;
        if self.retry_at <= now {
            let count = self.held.len().min(left);
            left -= count;
            self.held.drain(..count).for_each(&mut each);
        }
        for parked in &mut self.parked {
            while left > 0
                && let Some((_, queued)) = parked.pop_front_if(|(at, _)| *at <= now)
            {
                left -= 1;
                each(queued);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::inflight::ProbeId;

    fn request(number: u32) -> Queued {
        Queued::new(ProbeId(number), number, Nanos::MAX, 0)
    }

    /// Tries all that are due, letting those leave for which `leaves` says so. Returns what was given up.
    fn retry(refused: &mut Refused, now: Nanos, mut leaves: impl FnMut(u32) -> bool) -> Vec<u32> {
        let mut taken = Vec::new();
        refused.take(now, 64, |queued| taken.push(queued));
        let mut given_up = Vec::new();
        for queued in taken {
            if leaves(queued.id.0) {
                refused.note_relief();
            } else if let Some(lost) = refused.hold(queued, now) {
                given_up.push(lost.id.0);
            }
        }
        given_up
    }

    #[test]
    fn addresses_that_are_always_refused_hold_others_back_for_milliseconds_only() {
        let mut refused = Refused::default();
        let start: Nanos = 1_000_000_000;
        for number in 0..64 {
            assert!(refused.hold(request(number), start).is_none());
        }
        assert!(refused.is_congested());
        let mut now = start;
        while refused.is_congested() {
            now = refused.next_retry().unwrap();
            assert!(retry(&mut refused, now, |_| false).is_empty());
        }
        assert!(now - start <= 5 * RETRY, "{}", now - start);
        // The next ones hold others back for a shorter time.
        let start = now;
        for number in 64..128 {
            assert!(refused.hold(request(number), start).is_none());
        }
        while refused.is_congested() {
            now = refused.next_retry().unwrap();
            assert!(retry(&mut refused, now, |_| false).is_empty());
        }
        assert!(now - start <= 2 * RETRY, "{}", now - start);
        // Each gets some more tries, and is then given up.
        let mut given_up = 0;
        while let Some(at) = refused.next_retry() {
            given_up += retry(&mut refused, at, |_| false).len();
            assert!(at - start <= 800_000_000);
        }
        assert_eq!(given_up, 128);
    }

    #[test]
    fn targets_that_were_lost_hold_nobody_back() {
        let mut refused = Refused::default();
        let start: Nanos = 1_000_000_000;
        for number in 0..100 {
            let mut request = request(number);
            request.lost = true;
            assert!(refused.hold(request, start).is_none());
        }
        assert!(!refused.is_congested());
        let at = refused.next_retry().unwrap();
        assert_eq!(retry(&mut refused, at, |_| false).len(), 64);
        assert_eq!(retry(&mut refused, at, |_| false).len(), 36);
        assert_eq!(refused.next_retry(), None);
    }

    #[test]
    fn a_full_queue_is_waited_for_as_long_as_it_lets_some_pass() {
        let mut refused = Refused::default();
        let start: Nanos = 1_000_000_000;
        for number in 0..64 {
            refused.hold(request(number), start);
        }
        let (mut left, mut now) = (0, start);
        while let Some(at) = refused.next_retry() {
            now = at;
            // One a millisecond.
            let mut room = 1;
            let given_up = retry(&mut refused, now, |_| {
                let leaves = room > 0;
                room -= i32::from(leaves);
                left += u32::from(leaves);
                leaves
            });
            assert_eq!(given_up, [0; 0]);
        }
        assert_eq!(left, 64);
        assert!(now - start <= LONGEST);
    }
}
