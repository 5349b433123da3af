//! Spreads the probes of a batch, so that they do not all leave at once.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

/// A batch starts its probes within this share of its interval.
const SHARE: f64 = 0.5;

/// The longest time between two probes.
const LONGEST_GAP: Duration = Duration::from_millis(10);

/// When each probe of a batch may start.
#[derive(Debug)]
pub(crate) struct Spread {
    gap: Duration,
    next: Mutex<Instant>,
}

impl Spread {
    /// For `probes` within `interval`, no faster than `rate` a second.
    pub(crate) fn new(probes: usize, interval: Duration, rate: Option<f64>) -> Self {
        let even = interval.mul_f64(SHARE) / u32::try_from(probes.max(1)).unwrap_or(u32::MAX);
        let least = rate.map_or(Duration::ZERO, |rate| {
            Duration::try_from_secs_f64(1.0 / rate).unwrap_or(interval)
        });
        Self {
            gap: even.min(LONGEST_GAP).max(least),
            next: Mutex::new(Instant::now()),
        }
    }

    /// When the next probe may start.
    fn turn(&self) -> Instant {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        // What was not used in time is not made up for.
        let turn = (*next).max(Instant::now());
        *next = turn + self.gap;
        turn
    }

    /// Waits for a turn.
    pub(crate) async fn wait(&self) {
        let turn = self.turn();
        if turn > Instant::now() {
            tokio::time::sleep_until(turn.into()).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_leave_within_half_the_interval_and_no_faster_than_the_rate() {
        let interval = Duration::from_secs(10);
        let gap = |probes, rate| Spread::new(probes, interval, rate).gap;
        assert_eq!(gap(1_000, None), Duration::from_millis(5));
        assert_eq!(gap(10, None), LONGEST_GAP);
        assert_eq!(gap(1_000, Some(100.0)), Duration::from_millis(10));
        assert_eq!(gap(0, Some(1e-300)), interval);
        let spread = Spread::new(1_000, interval, None);
        let (first, second) = (spread.turn(), spread.turn());
        assert!(second >= first + spread.gap);
    }
}
