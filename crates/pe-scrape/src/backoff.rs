//! How long to wait before the next try. No I/O, no clock.

use std::time::Duration;

/// The pause after the first failure: long enough for a peer that restarts.
const SHORTEST: Duration = Duration::from_secs(1);

/// Failures in a row, and the pause that follows them: 1 second after the first, twice as long after each further one, at
/// most [`LONGEST`](Self::LONGEST).
///
/// ```
/// use pe_scrape::Backoff;
/// use std::time::Duration;
///
/// let mut backoff = Backoff::default();
/// assert_eq!(backoff.pause(0.3), None);
/// backoff.failed();
/// assert_eq!(backoff.pause(0.3), Some(Duration::from_millis(650)));
/// ```
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The longest pause: a peer that is back is noticed within a minute. A task that ran longer than this before it
    /// failed is not failing in a row.
    pub const LONGEST: Duration = Duration::from_secs(60);

    /// Notes a failure.
    pub fn failed(&mut self) {
        self.failures = self.failures.saturating_add(1);
    }

    /// Notes that a task failed after it had run for so long, and says when to start it again: the whole time, since the parts of one
    /// program share no peer. A run of more than [`LONGEST`](Self::LONGEST) begins with the shortest pause again.
    #[must_use]
    pub fn failed_after(&mut self, ran: Duration) -> Duration {
        if ran > Self::LONGEST {
            self.reset();
        }
        self.failed();
        self.pause(1.0).unwrap_or_default()
    }

    /// Forgets all failures.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// The time to wait, or `None` without a failure: doubled with each failure, and spread over its second half, so that
    /// many agents do not come back at once. `jitter` is a random number from 0 to 1; 1 is the whole time.
    #[must_use]
    pub fn pause(&self, jitter: f64) -> Option<Duration> {
        let doublings = self.failures.checked_sub(1)?.min(16);
        let longest = SHORTEST.saturating_mul(1 << doublings).min(Self::LONGEST);
        Some(longest.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_minute() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.pause(1.0), None);
        let pauses: Vec<u64> = (0..8)
            .map(|_| {
                backoff.failed();
                backoff.pause(1.0).unwrap().as_secs()
            })
            .collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        backoff.failures = u32::MAX;
        backoff.failed();
        assert_eq!(backoff.pause(1.0), Some(Backoff::LONGEST));
        backoff.reset();
        assert_eq!(backoff.pause(1.0), None);
    }

    #[test]
    fn pauses_are_spread_over_their_second_half() {
        let mut backoff = Backoff::default();
        backoff.failed();
        for (jitter, milliseconds) in [(-1.0, 500), (0.0, 500), (0.5, 750), (2.0, 1000)] {
            let expected = Duration::from_millis(milliseconds);
            assert_eq!(backoff.pause(jitter), Some(expected));
        }
    }
}
