//! When cycles start: fixed-rate ticks without drift. Decides by instants that are passed in; only [`now`] reads the clock.

use std::time::{Duration, Instant};

use tokio::sync::watch;

/// The starts of groups are spread over this time at the most, so that first results come soon even where
/// intervals are long.
const LONGEST_SPREAD: Duration = Duration::from_secs(1);

/// The monotonic time by the runtime's clock, which tests can steer.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// A moment so much later; in a hundred years where the clock does not go that far.
pub(crate) fn after(start: Instant, time: Duration) -> Instant {
    let century = Duration::from_secs(100 * 365 * 24 * 60 * 60);
    start.checked_add(time.min(century)).unwrap_or(start)
}

/// Returns when the engine is to stop.
pub(crate) async fn stopped(mut stop: watch::Receiver<bool>) {
    // The sender lives as long as the engine; without it, it is time to stop as well.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// How long after the engine's start the cycle at `index` of `count` starts, so that starts are spread evenly.
pub(crate) fn stagger(index: usize, count: usize, interval: Duration) -> Duration {
    let share = index as f64 / count.max(1) as f64;
    interval.min(LONGEST_SPREAD).mul_f64(share)
}

/// The ticks of one cycle: `base`, `base + interval`, `base + 2 × interval`, …
#[derive(Debug, Clone)]
pub(crate) struct Ticks {
    base: Instant,
    interval: Duration,
    next: u64,
}

/// One tick that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tick {
    /// Its number, counted from 0.
    pub(crate) number: u64,
    /// Ticks that passed since the one taken before.
    pub(crate) skipped: u64,
}

impl Ticks {
    pub(crate) fn new(base: Instant, interval: Duration) -> Self {
        Self {
            base,
            interval: interval.max(Duration::from_millis(1)),
            next: 0,
        }
    }

    /// When the next tick is due.
    pub(crate) fn next_at(&self) -> Instant {
        self.at(self.next)
    }

    /// Takes the latest tick that is due at `now`; those before it are skipped. `None` when none is due.
    pub(crate) fn take(&mut self, now: Instant) -> Option<Tick> {
        if now < self.next_at() {
            return None;
        }
        let passed = now.duration_since(self.base).as_nanos() / self.interval.as_nanos();
        let number = u64::try_from(passed).unwrap_or(u64::MAX - 1).max(self.next);
        let skipped = number - self.next;
        self.next = number + 1;
        Some(Tick { number, skipped })
    }

    /// Goes on with another interval from the next tick on.
    pub(crate) fn change_interval(&mut self, interval: Duration, now: Instant) {
        if interval != self.interval {
            let base = self.next_at().min(now + interval);
            *self = Self::new(base, interval);
        }
    }

    fn at(&self, number: u64) -> Instant {
        let nanos = self.interval.as_nanos().saturating_mul(u128::from(number));
        self.base + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX / 2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_do_not_drift_and_late_ones_are_skipped() {
        let base = Instant::now();
        let second = Duration::from_secs(1);
        let mut ticks = Ticks::new(base, second);
        assert_eq!(
            ticks.take(base),
            Some(Tick {
                number: 0,
                skipped: 0
            })
        );
        // Late by a little: the tick after it is still on the grid.
        assert_eq!(ticks.take(base + second / 2), None);
        assert_eq!(
            ticks.take(base + second + second / 3),
            Some(Tick {
                number: 1,
                skipped: 0
            })
        );
        assert_eq!(ticks.next_at(), base + second * 2);
        // Late by several intervals: one tick is taken, the others are counted.
        assert_eq!(
            ticks.take(base + second * 5),
            Some(Tick {
                number: 5,
                skipped: 3
            })
        );
        assert_eq!(ticks.next_at(), base + second * 6);
    }

    #[test]
    fn a_new_interval_neither_waits_for_the_old_one_nor_starts_at_once() {
        let base = Instant::now();
        let second = Duration::from_secs(1);
        let mut ticks = Ticks::new(base, second * 3600);
        ticks.take(base);
        ticks.change_interval(second, base + second * 10);
        assert_eq!(ticks.next_at(), base + second * 11);
        assert_eq!(
            ticks.take(base + second * 11),
            Some(Tick {
                number: 0,
                skipped: 0
            })
        );
    }

    #[test]
    fn starts_are_spread_evenly() {
        let interval = Duration::from_millis(400);
        let starts: Vec<_> = (0..4)
            .map(|index| stagger(index, 4, interval).as_millis())
            .collect();
        assert_eq!(starts, [0, 100, 200, 300]);
        assert_eq!(stagger(1, 2, Duration::from_secs(3600)), LONGEST_SPREAD / 2);
    }
}
