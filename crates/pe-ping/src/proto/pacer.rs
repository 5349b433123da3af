//! Keeping to pacers: what a sender has booked of each and not used yet.
//!
//! A sender that woke too late for all that it had booked books more the next time, until its turn is long enough to be met.

use pe_scrape::Pacer;

use super::Nanos;

/// The longest time for which due packets are gathered before they are sent.
pub(crate) const GATHER_TIME: Nanos = 25_000_000;

/// The most due packets that are gathered before they are sent.
pub(crate) const GATHER_COUNT: u64 = 64;

/// How long to wait for more packets that follow each other every `gap`, so that one wake-up sends many.
pub(crate) fn gathering(gap: Nanos) -> Nanos {
    match gap {
        0 => 0,
        gap => gap * (GATHER_TIME / gap).min(GATHER_COUNT),
    }
}

/// What one sender has booked of a pacer and not used: whole packets' time.
#[derive(Debug)]
struct Lease {
    pacer: Pacer,
    from: Nanos,
    until: Nanos,
    /// Nothing of it had come when it was booked, and nothing of it has been used.
    is_ahead: bool,
    /// How many leases in a row were lost because the sender woke too late.
    lost: u32,
    /// The last packet's time is kept even when it is past: it may have waited for another pacer.
    keeps_last: bool,
}

impl Lease {
    /// How many packets may leave at `now`. Where nothing is booked any more, books for up to `wanted` packets.
    #[inline]
    fn available(&mut self, now: Nanos, wanted: impl Fn() -> u64) -> u64 {
        self.expire(now);
        if self.until == self.from {
            (self.from, self.until) = self.pacer.book(now, wanted(), self.lost);
            self.is_ahead = self.from.saturating_add(self.pacer.gap()) > now;
        }
        now.min(self.until).saturating_sub(self.from) / self.pacer.gap()
    }

    /// Drops what was not used in time.
    #[inline]
    fn expire(&mut self, now: Nanos) {
        let gap = self.pacer.gap();
        let oldest = self.pacer.oldest(now);
        if self.until == self.from || self.from.saturating_add(gap) >= oldest {
            return;
        }
        let left = match self.until.checked_sub(oldest) {
            Some(time) => (time / gap + 1) * gap,
            None if self.keeps_last => gap,
            None => 0,
        };
        self.from = self.until - left;
        if left == 0 && self.is_ahead {
            self.lost += 1;
        }
    }
}

/// The pacers that one sender must keep to, all of them.
#[derive(Debug, Default)]
pub(crate) struct Limits {
    /// The slowest first: the time of faster ones is booked only when a slower one's has come.
    leases: Vec<Lease>,
}

impl Limits {
    pub(crate) fn new(pacers: &[Pacer]) -> Self {
        let lease = |pacer: &Pacer| Lease {
            pacer: pacer.clone(),
            from: 0,
            until: 0,
            is_ahead: false,
            lost: 0,
            keeps_last: pacers.len() > 1,
        };
        let mut leases: Vec<Lease> = pacers.iter().map(lease).collect();
        leases.sort_by_key(|lease| std::cmp::Reverse(lease.pacer.gap()));
        Self { leases }
    }

    /// How many packets may leave at `now`. `wanted` tells how many there are to send, so that no more is kept from
    /// others. When this gives 0, [`ready`](Self::ready) tells when it will give more.
    #[inline]
    pub(crate) fn available(&mut self, now: Nanos, wanted: impl Fn() -> u64) -> u64 {
        let now = now + Pacer::OFFSET;
        let mut allowed = u64::MAX;
        for lease in &mut self.leases {
            allowed = allowed.min(lease.available(now, || wanted().min(allowed)));
            if allowed == 0 {
                break;
            }
        }
        allowed
    }

    /// Takes the time of `packets` that leave, of those that were [available](Self::available).
    #[inline]
    pub(crate) fn take(&mut self, packets: u64) {
        for lease in &mut self.leases {
            let time = lease.pacer.gap().saturating_mul(packets);
            lease.from = lease.from.saturating_add(time).min(lease.until);
            (lease.is_ahead, lease.lost) = (false, 0);
        }
    }

    /// From when on the next packet may leave, and when it is best sent, as others that are booked may leave with it.
    /// Both are 0 where only the next call of [`available`](Self::available) can tell.
    pub(crate) fn ready(&self) -> (Nanos, Nanos) {
        let leases = self.leases.iter().filter(|lease| lease.until > lease.from);
        leases
            .map(|lease| {
                let ready = lease.from.saturating_add(lease.pacer.gap());
                // Who woke too late the last time does not wait for others.
                (ready, if lease.lost > 0 { ready } else { lease.until })
            })
            .max()
            .map_or((0, 0), |(ready, best)| {
                (
                    ready.saturating_sub(Pacer::OFFSET),
                    best.saturating_sub(Pacer::OFFSET),
                )
            })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicU64, Ordering};

    use proptest::prelude::*;

    use super::*;

    const START: Nanos = 1_000_000_000_000;

    fn limits(pacer: &Pacer) -> Limits {
        Limits::new(std::slice::from_ref(pacer))
    }

    /// Takes all there is at `now`, but at most `most`.
    fn take_up_to(limits: &mut Limits, now: Nanos, most: u64) -> u64 {
        let mut taken = 0;
        while taken < most {
            let allowed = limits.available(now, || most - taken).min(most - taken);
            if allowed == 0 {
                break;
            }
            limits.take(allowed);
            taken += allowed;
        }
        taken
    }

    /// Whether the packets in `sent`, by time, keep to a rate and a burst over every stretch.
    fn keeps_to(sent: &[(Nanos, u64)], rate: f64, burst: u32) -> Result<(), TestCaseError> {
        for first in 0..sent.len() {
            let mut sum = 0;
            for &(at, n) in &sent[first..] {
                sum += n;
                let time = (at - sent[first].0) as f64 / 1e9;
                // A gap is a whole number of nanoseconds, which makes the rate a little higher.
                let rate = rate / (1.0 - rate / 1e9).max(0.5);
                let allowed = f64::from(burst) + time * rate + 1.0;
                prop_assert!(sum as f64 <= allowed + 1e-6, "{sum} > {allowed}");
            }
        }
        Ok(())
    }

    #[test]
    fn no_pacer_means_no_limit() {
        let mut limits = Limits::new(&[]);
        assert_eq!(limits.available(0, || 1), u64::MAX);
        limits.take(1_000_000);
        assert_eq!(limits.available(0, || 1), u64::MAX);
        assert_eq!(limits.ready(), (0, 0));
    }

    #[test]
    fn waiting_until_ready_is_enough() {
        let mut limits = limits(&Pacer::new(1_000.0, 10));
        let start = 5_000_000_000;
        assert_eq!(take_up_to(&mut limits, start, u64::MAX), 10);
        let (ready, best) = limits.ready();
        assert_eq!((ready, best), (start + 1_000_000, start + 8_000_000));
        assert_eq!(limits.available(ready - 1, || 9), 0);
        assert_eq!(limits.available(ready, || 9), 1);
        assert_eq!(limits.available(best, || 9), 8);
    }

    #[test]
    fn a_gap_longer_than_the_clock_has_run_does_not_hold_back_the_first_packet() {
        let mut limits = limits(&Pacer::new(1e-6, 2));
        assert_eq!(take_up_to(&mut limits, 1_000, 5), 2);
        assert_eq!(limits.available(2_000_000_000, || 5), 0);
    }

    #[test]
    fn no_more_is_booked_than_is_wanted() {
        let pacer = Pacer::new(1_000.0, 100);
        let (mut one, mut other) = (limits(&pacer), limits(&pacer));
        assert_eq!(one.available(START, || 3), 3);
        assert_eq!(take_up_to(&mut other, START, u64::MAX), 97);
        one.take(3);
        assert_eq!(one.available(START, || 2), 0);
        // Behind what the other booked ahead.
        assert_eq!(one.ready().1, START + (25 + 2) * 1_000_000);
    }

    /// Senders that sleep until their turn is best used, and wake a little late.
    #[test]
    fn senders_that_share_a_pacer_get_equal_shares_and_all_of_the_rate() {
        for (rate, burst) in [
            (200.0, 8),
            (1_000.0, 1),
            (5_000.0, 64),
            (5_000.0, 1_000),
            (50_000.0, 64),
        ] {
            let pacer = Pacer::new(rate, burst);
            let mut senders: Vec<(Limits, Nanos, u64)> = (0..3)
                .map(|at| (limits(&pacer), START + at * 40_000, 0))
                .collect();
            let end = START + 20_000_000_000;
            loop {
                let next = senders.iter_mut().min_by_key(|sender| sender.1).unwrap();
                let now = next.1;
                if now > end {
                    break;
                }
                next.2 += take_up_to(&mut next.0, now, u64::MAX);
                next.1 = next.0.ready().1.max(now) + 60_000;
            }
            let total: u64 = senders.iter().map(|sender| sender.2).sum();
            assert!(total as f64 > rate * 20.0 * 0.97, "{total} at {rate}");
            for (_, _, sent) in &senders {
                let share = *sent as f64 / total as f64;
                assert!((0.28..0.39).contains(&share), "{share} at {rate}");
            }
        }
    }

    #[test]
    fn a_sender_that_wakes_late_reaches_the_rate_of_a_burst_of_one() {
        let mut limits = limits(&Pacer::new(1_000.0, 1));
        let (mut now, mut sent) = (START, 0);
        while now < START + 1_000_000_000 {
            sent += take_up_to(&mut limits, now, u64::MAX);
            now = limits.ready().1.max(now) + 300_000;
        }
        assert!(sent > 990, "{sent}");
    }

    /// Each wakes so late that all it has booked has expired.
    #[test]
    fn senders_that_always_wake_too_late_still_get_their_turns() {
        for late in [30_000, 50_000, 75_000, 199_000, 1_000_000, 20_000_000] {
            let pacer = Pacer::new(20_000.0, 1);
            let mut senders: Vec<(Limits, Nanos, u64)> =
                (0..2).map(|at| (limits(&pacer), START + at, 0)).collect();
            for _ in 0..2_000 {
                let next = senders.iter_mut().min_by_key(|sender| sender.1).unwrap();
                let now = next.1;
                next.2 += take_up_to(&mut next.0, now, 1);
                next.1 = next.0.ready().1.max(now) + late;
            }
            for (_, _, sent) in &senders {
                assert!(*sent > 20, "{sent}, {late} ns late");
            }
        }
    }

    #[test]
    fn time_that_nobody_used_is_there_for_the_next_packet() {
        let mut limits = limits(&Pacer::new(10.0, 1));
        // Looked at now and then, as the engine does before there is anything to send.
        for step in 0..1_000 {
            assert_eq!(limits.available(START + step * 7_000_000, || u64::MAX), 1);
        }
    }

    #[test]
    fn a_sender_with_several_pacers_keeps_to_the_slowest_and_takes_no_more_from_the_others() {
        let (slow, fast) = (Pacer::new(100.0, 1), Pacer::new(10_000.0, 64));
        let mut both = Limits::new(&[fast.clone(), slow]);
        let mut rest = limits(&fast);
        let (mut with_both, mut others) = (0, 0);
        for step in 0..100_000 {
            let now = START + step * 100_000;
            with_both += take_up_to(&mut both, now, u64::MAX);
            others += take_up_to(&mut rest, now, u64::MAX);
        }
        assert!((980..=1_002).contains(&with_both), "{with_both}");
        assert!(others > 98_000, "{others}");
    }

    #[test]
    fn threads_that_share_a_pacer_take_no_more_together_than_one_may_alone() {
        const THREADS: u64 = 4;
        const STEP: Nanos = 20_000;
        let (rate, burst) = (10_000.0, 50);
        let pacer = Pacer::new(rate, burst);
        let clock = AtomicU64::new(START);
        let start = Barrier::new(THREADS as usize);
        let taken: Vec<u64> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS)
                .map(|_| {
                    scope.spawn(|| {
                        let mut limits = limits(&pacer);
                        start.wait();
                        let mut taken = 0;
                        for _ in 0..100_000 {
                            let now = clock.fetch_add(STEP, Ordering::Relaxed);
                            taken += take_up_to(&mut limits, now, 7);
                        }
                        taken
                    })
                })
                .collect();
            let threads = threads.into_iter();
            threads.map(|thread| thread.join().unwrap()).collect()
        });
        let time = (clock.into_inner() - START) as f64 / 1e9;
        let total: u64 = taken.iter().sum();
        assert!(total as f64 <= f64::from(burst) + rate * time + 1.0);
        assert!(taken.iter().all(|taken| *taken > 0), "{taken:?}");
    }

    proptest! {
        /// Over any stretch of time, no more than the burst and the rate's share leaves, however many senders there are
        /// and whatever they want.
        #[test]
        fn never_faster_than_rate_and_burst(
            rate in 1.0..1e6_f64,
            burst in 1..200_u32,
            senders in 1..5_usize,
            steps in proptest::collection::vec((0..50_000_000_u64, 0..5_usize, 1..100_u64), 1..200),
        ) {
            let pacer = Pacer::new(rate, burst);
            let mut senders: Vec<Limits> = (0..senders).map(|_| limits(&pacer)).collect();
            let mut now = START;
            let mut sent = Vec::new();
            for (step, sender, most) in steps {
                now += step;
                let sender = sender % senders.len();
                sent.push((now, take_up_to(&mut senders[sender], now, most)));
            }
            keeps_to(&sent, rate, burst)?;
        }

        /// What one sender keeps for want of another pacer's time is one packet.
        #[test]
        fn never_faster_than_any_of_several_pacers(
            pacers in proptest::collection::vec((1.0..1e5_f64, 1..100_u32), 2..4),
            steps in proptest::collection::vec((0..50_000_000_u64, 1..100_u64), 1..100),
        ) {
            let shared: Vec<Pacer> = pacers.iter().map(|&(rate, burst)| Pacer::new(rate, burst)).collect();
            let mut limits = Limits::new(&shared);
            let mut now = START;
            let mut sent = Vec::new();
            for (step, most) in steps {
                now += step;
                sent.push((now, take_up_to(&mut limits, now, most)));
            }
            for (rate, burst) in pacers {
                keeps_to(&sent, rate, burst + 1)?;
            }
        }
    }
}
