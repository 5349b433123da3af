//! How fast packets may leave: token buckets of a rate and a burst, which any number of senders share.
//!
//! A bucket is a line of time. Each packet uses up a piece of it that is as long as the rate gives to a packet, and a
//! piece may be used from its end on, for as long as the bucket is deep: the burst, as time. No two packets share a
//! piece, so whoever sends them, in any stretch of time no more than the burst and the rate's share of it leave.
//!
//! Senders book pieces with one compare-and-swap on the end of what is booked: those whose time has come, or, where there
//! are none, some that follow. So senders get their turns in the order in which they asked, each knows when its own turn
//! is and can sleep until then, and each turn is long enough for a batch. What is booked and not used in time is lost, never
//! saved up. A sender that woke too late for all that it had booked books more the next time, until its turn is long enough to
//! be met.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Nanos;

/// The longest time for which due packets are gathered before they are sent.
pub(crate) const GATHER_TIME: Nanos = 25_000_000;

/// The most due packets that are gathered before they are sent.
pub(crate) const GATHER_COUNT: u64 = 64;

/// The longest time for a packet: 52 days, so that instants stay far from the end of their range.
const MAX_GAP: Nanos = 1 << 52;

/// How late a sender may wake and still meet its turn.
const LATEST: Nanos = 100_000_000;

/// What is added to instants, so that a bucket can be deeper than the time since the clock's start.
const EPOCH: Nanos = 1 << 62;

/// How long to wait for more packets that follow each other every `gap`, so that one wake-up sends many.
pub(crate) fn gathering(gap: Nanos) -> Nanos {
    match gap {
        0 => 0,
        gap => gap * (GATHER_TIME / gap).min(GATHER_COUNT),
    }
}

/// A limit on how fast requests leave, for any number of [sweeps](crate::Sweep::pacer) together.
///
/// Clones are handles on the same limit: sweeps that are given clones of one pacer share its rate, also when they run on
/// several [`Pinger`](crate::Pinger)s. Each of them gets its turn; one may have to wait for some 25 ms for each of the
/// others. No locks are taken.
///
/// ```no_run
/// # async fn run(small: pe_ping::Pinger, large: pe_ping::Pinger) -> Result<(), Box<dyn std::error::Error>> {
/// use std::net::IpAddr;
/// use pe_ping::{Pacer, Sweep};
///
/// let targets = [IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2])];
/// let pacer = Pacer::new(1_000.0, 10);
/// // Together at most 1,000 requests a second.
/// let (small, large) = tokio::join!(
///     small.sweep(Sweep::new(targets).pacer(pacer.clone())),
///     large.sweep(Sweep::new(targets).pacer(pacer)),
/// );
/// # (small?, large?);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Pacer {
    bucket: Arc<Bucket>,
}

#[derive(Debug)]
struct Bucket {
    /// The time that the rate gives to a packet.
    gap: Nanos,
    /// How long a packet's time may be used after its end.
    depth: Nanos,
    /// How many packets' time is booked at once where none has come yet. Less than the depth, so that a sender that
    /// sleeps until the last of them has some time to wake.
    ahead: u64,
    /// The end of what is booked.
    booked_until: AtomicU64,
}

impl Pacer {
    /// A limit of `rate` requests a second, of which `burst` (at least 1) may leave back to back after a pause.
    ///
    /// A rate of less than one request in 52 days counts as that one.
    /// A burst of less than the requests of a few milliseconds can keep the rate from being reached, as a thread does not
    /// wake more exactly than that.
    ///
    /// # Panics
    /// When `rate` is not above 0.
    #[must_use]
    pub fn new(rate: f64, burst: u32) -> Self {
        assert!(rate > 0.0, "a pacer's rate must be above 0");
        let gap = ((1e9 / rate) as Nanos).clamp(1, MAX_GAP);
        let burst = u64::from(burst.max(1));
        let bucket = Bucket {
            gap,
            depth: gap.saturating_mul(burst).min(EPOCH),
            ahead: (GATHER_TIME / gap)
                .min(GATHER_COUNT)
                .min(burst - burst / 4)
                .max(1),
            booked_until: AtomicU64::new(0),
        };
        Self {
            bucket: Arc::new(bucket),
        }
    }
}

/// What one sender has booked of a pacer and not used: whole packets' time.
#[derive(Debug)]
struct Lease {
    bucket: Arc<Bucket>,
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
            self.book(now, wanted());
        }
        now.min(self.until).saturating_sub(self.from) / self.bucket.gap
    }

    /// Drops what was not used in time.
    #[inline]
    fn expire(&mut self, now: Nanos) {
        let gap = self.bucket.gap;
        let oldest = now.saturating_sub(self.bucket.depth);
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

    fn book(&mut self, now: Nanos, wanted: u64) {
        let Bucket {
            gap, depth, ahead, ..
        } = *self.bucket;
        let oldest = now.saturating_sub(depth);
        let longest = LATEST / gap;
        // Nothing but the value itself passes from thread to thread.
        let end = &self.bucket.booked_until;
        let mut booked = end.load(Ordering::Relaxed);
        loop {
            let from = booked.max(oldest);
            let past = now.saturating_sub(from) / gap;
            let count = match past {
                0 if self.lost > 0 => longest.min(1 << self.lost.min(32)),
                0 => ahead.min(wanted),
                past => past.min(GATHER_COUNT).min(wanted),
            };
            let until = from.saturating_add(gap.saturating_mul(count.max(1)));
            match end.compare_exchange_weak(booked, until, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => {
                    (self.from, self.until) = (from, until);
                    self.is_ahead = past == 0;
                    return;
                }
                Err(other) => booked = other,
            }
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
            bucket: pacer.bucket.clone(),
            from: 0,
            until: 0,
            is_ahead: false,
            lost: 0,
            keeps_last: pacers.len() > 1,
        };
        let mut leases: Vec<Lease> = pacers.iter().map(lease).collect();
        leases.sort_by_key(|lease| std::cmp::Reverse(lease.bucket.gap));
        Self { leases }
    }

    /// How many packets may leave at `now`. `wanted` tells how many there are to send, so that no more is kept from
    /// others. When this gives 0, [`ready`](Self::ready) tells when it will give more.
    #[inline]
    pub(crate) fn available(&mut self, now: Nanos, wanted: impl Fn() -> u64) -> u64 {
        let now = now + EPOCH;
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
            let time = lease.bucket.gap.saturating_mul(packets);
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
                let ready = lease.from.saturating_add(lease.bucket.gap);
                // Who woke too late the last time does not wait for others.
                (ready, if lease.lost > 0 { ready } else { lease.until })
            })
            .max()
            .map_or((0, 0), |(ready, best)| {
                (ready.saturating_sub(EPOCH), best.saturating_sub(EPOCH))
            })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

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
