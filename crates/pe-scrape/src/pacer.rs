//! How fast probes may leave: a limit that any number of senders share.
//!
//! A pacer is a line of time. Each probe uses up a piece of it that is as long as the rate gives to a probe, and a piece may
//! be used from its end on, for as long as the pacer is deep: the burst, as time. No two probes share a piece, so whoever
//! sends them, in any stretch of time no more than the burst and the rate's share of it leave.
//!
//! Senders book pieces with one compare-and-swap on the end of what is booked: those whose time has come, or, where there
//! are none, some that follow. So senders get their turns in the order in which they asked, each knows when its own turn
//! is and can sleep until then, and each turn is long enough for a batch. What is booked and not used in time is lost, never
//! saved up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The longest time for which probes are booked ahead, in nanoseconds.
const AHEAD_TIME: u64 = 25_000_000;

/// The most probes that are booked at once.
const MOST_BOOKED: u64 = 64;

/// The longest time for a probe: 52 days, so that instants stay far from the end of their range.
const MAX_GAP: u64 = 1 << 52;

/// How late a sender may wake and still meet its turn, in nanoseconds.
const LATEST: u64 = 100_000_000;

/// A limit on how fast probes leave, for all who hold a clone of it, on any thread: the scrapers of one cycle.
///
/// All times are nanoseconds of one clock that all holders read, plus [`OFFSET`](Self::OFFSET). No locks are taken.
#[derive(Debug, Clone)]
pub struct Pacer {
    bucket: Arc<Bucket>,
}

#[derive(Debug)]
struct Bucket {
    /// The time that the rate gives to a probe.
    gap: u64,
    /// How long a probe's time may be used after its end.
    depth: u64,
    /// How many probes' time is booked at once where none has come yet. Less than the depth, so that a sender that
    /// sleeps until the last of them has some time to wake.
    ahead: u64,
    /// The end of what is booked.
    booked_until: AtomicU64,
}

impl Pacer {
    /// What is added to a clock's nanoseconds, so that a pacer can be deeper than the time since the clock's start.
    pub const OFFSET: u64 = 1 << 62;

    /// A limit of `rate` probes a second, of which `burst` (at least 1) may leave back to back after a pause.
    ///
    /// A rate of less than one probe in 52 days counts as that one. A burst of less than the probes of a few milliseconds can keep the rate from being reached, as a thread does not wake
    /// more exactly than that.
    ///
    /// # Panics
    /// When `rate` is not above 0.
    #[must_use]
    pub fn new(rate: f64, burst: u32) -> Self {
        assert!(rate > 0.0, "a pacer's rate must be above 0");
        let gap = ((1e9 / rate) as u64).clamp(1, MAX_GAP);
        let burst = u64::from(burst.max(1));
        let bucket = Bucket {
            gap,
            depth: gap.saturating_mul(burst).min(Self::OFFSET),
            ahead: (AHEAD_TIME / gap)
                .min(MOST_BOOKED)
                .min(burst - burst / 4)
                .max(1),
            booked_until: AtomicU64::new(0),
        };
        Self {
            bucket: Arc::new(bucket),
        }
    }

    /// The time that the rate gives to each probe, in nanoseconds.
    #[inline]
    #[must_use]
    pub fn gap(&self) -> u64 {
        self.bucket.gap
    }

    /// The moment before which booked time is lost at `now`.
    #[inline]
    #[must_use]
    pub fn oldest(&self, now: u64) -> u64 {
        now.saturating_sub(self.bucket.depth)
    }

    /// Books time for up to `wanted` probes: from when on it starts, and when it ends. A probe may leave when its
    /// [`gap`](Self::gap) within that has passed. A sender that woke too late for all it had booked, `lost` times in a row,
    /// gets more, so that its turn is long enough to be met.
    #[must_use]
    pub fn book(&self, now: u64, wanted: u64, lost: u32) -> (u64, u64) {
        let Bucket { gap, ahead, .. } = *self.bucket;
        let oldest = self.oldest(now);
        // Nothing but the value itself passes from thread to thread.
        let end = &self.bucket.booked_until;
        let mut booked = end.load(Ordering::Relaxed);
        loop {
            let from = booked.max(oldest);
            let count = match now.saturating_sub(from) / gap {
                0 if lost > 0 => (LATEST / gap).min(1 << lost.min(32)),
                0 => ahead.min(wanted),
                past => past.min(MOST_BOOKED).min(wanted),
            };
            let until = from.saturating_add(gap.saturating_mul(count.max(1)));
            match end.compare_exchange_weak(booked, until, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return (from, until),
                Err(other) => booked = other,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_there_at_once_and_then_the_rate_holds() {
        let pacer = Pacer::new(1_000.0, 10);
        let now = Pacer::OFFSET + 5_000_000_000;
        assert_eq!(pacer.book(now, 64, 0), (now - 10_000_000, now));
        // Then time is booked ahead, one after the other.
        assert_eq!(pacer.book(now, 2, 0), (now, now + 2_000_000));
        assert_eq!(pacer.book(now, 1, 0), (now + 2_000_000, now + 3_000_000));
    }
}
