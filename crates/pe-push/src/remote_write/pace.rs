//! How fast a backlog is sent: a recovered uplink is not flooded, and a receiver that keeps up is not kept waiting. No I/O; takes
//! every time as an argument.
//!
//! After an outage one request is under way at a time, and a pause as long as the request follows each, so that a receiver to
//! which a whole fleet comes back is never asked for more than half of what it can do. Agents do not come back at one time, since
//! their pauses between tries are spread. Where the backlog does not shrink that way, pauses end, then more requests are under
//! way.

use std::time::{Duration, Instant};

/// How long a way of sending is tried before another is.
const TRIAL: Duration = Duration::from_secs(20);

/// Most requests under way at one time.
const MOST_CONNECTIONS: usize = 8;

/// How fast to send.
#[derive(Debug)]
pub(crate) struct Pace {
    /// 0 with pauses, 1 without, each further level doubles the requests under way.
    level: u32,
    /// When the present trial began, and what waited then.
    trial: Option<(Instant, u64)>,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            level: 1,
            trial: None,
        }
    }
}

impl Pace {
    /// An outage is over.
    pub(crate) fn recovered(&mut self) {
        self.level = 0;
        self.trial = None;
    }

    /// Takes in how many samples wait.
    pub(crate) fn note(&mut self, now: Instant, waiting: u64) {
        if waiting == 0 {
            self.trial = None;
            self.level = self.level.max(1);
            return;
        }
        let Some((began, before)) = self.trial else {
            self.trial = Some((now, waiting));
            return;
        };
        if now.duration_since(began) < TRIAL {
            return;
        }
        if waiting >= before && self.connections() < MOST_CONNECTIONS {
            self.level += 1;
        }
        self.trial = Some((now, waiting));
    }

    /// Requests that may be under way at one time.
    pub(crate) fn connections(&self) -> usize {
        1 << self.level.saturating_sub(1)
    }

    /// How long to wait after a request that took this long.
    pub(crate) fn pause(&self, took: Duration) -> Duration {
        if self.level == 0 {
            took
        } else {
            Duration::ZERO
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backlog_that_shrinks_is_sent_with_pauses_after_an_outage() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        let took = Duration::from_millis(30);
        assert_eq!((pace.connections(), pace.pause(took)), (1, Duration::ZERO));
        pace.recovered();
        for second in 0..100 {
            pace.note(start + Duration::from_secs(second), 1_000 - second);
            assert_eq!((pace.connections(), pace.pause(took)), (1, took));
        }
        pace.note(start + Duration::from_secs(100), 0);
        assert_eq!(pace.pause(took), Duration::ZERO);
    }

    #[test]
    fn a_backlog_that_grows_ends_the_pauses_then_takes_more_connections() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        pace.recovered();
        let mut seen = Vec::new();
        for second in 0..200 {
            pace.note(start + Duration::from_secs(second), 1_000 + second);
            let now = (
                pace.connections(),
                pace.pause(Duration::from_secs(1)).as_secs(),
            );
            if seen.last() != Some(&now) {
                seen.push(now);
            }
        }
        assert_eq!(seen, [(1, 1), (1, 0), (2, 0), (4, 0), (8, 0)]);
    }
}
