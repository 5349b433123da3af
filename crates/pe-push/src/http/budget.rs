//! How many bytes a second requests may take, for metered links. No I/O; takes every time as an argument.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Traffic that a link that was idle may take at once.
const BURST: Duration = Duration::from_secs(1);

/// Bytes a second that all who share it may send together.
#[derive(Debug)]
pub(crate) struct Budget {
    bytes_per_second: f64,
    /// When all bytes that were given out would have left at the rate.
    paid_until: Mutex<Option<Instant>>,
}

impl Budget {
    pub(crate) fn new(bytes_per_second: f64) -> Self {
        Self {
            bytes_per_second,
            paid_until: Mutex::new(None),
        }
    }

    /// Takes `bytes` out, and says how long to wait before they are sent.
    pub(crate) fn take(&self, now: Instant, bytes: usize) -> Duration {
        let mut paid_until = self
            .paid_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let idle_since = now.checked_sub(BURST).unwrap_or(now);
        let from = paid_until.map_or(idle_since, |paid| paid.max(idle_since));
        let cost = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second);
        let until = from + cost;
        *paid_until = Some(until);
        until.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_leave_at_the_rate_after_a_burst_of_a_second() {
        let budget = Budget::new(1000.0);
        // Instants begin when the machine does, which may be less than a second ago.
        let start = Instant::now() + Duration::from_secs(10);
        assert_eq!(budget.take(start, 600), Duration::ZERO);
        assert_eq!(budget.take(start, 400), Duration::ZERO);
        assert_eq!(budget.take(start, 500), Duration::from_millis(500));
        assert_eq!(budget.take(start, 500), Duration::from_secs(1));
        let later = start + Duration::from_secs(60);
        assert_eq!(budget.take(later, 1000), Duration::ZERO);
        assert_eq!(budget.take(later, 1), Duration::from_millis(1));
    }
}
