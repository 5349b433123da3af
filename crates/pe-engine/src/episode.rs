//! When a state that comes and goes begins, and when it has ended for good. No I/O, no clock.

use std::time::Duration;

/// A state ends when it was absent for so long. A cycle near its interval misses every second or third tick, and a device
/// at its limit hangs in every other cycle: without this each of them would be told again and again. With it, a state
/// makes two lines a minute at the most, whatever the interval.
const QUIET_TIME: Duration = Duration::from_secs(60);

/// And for so many ticks, where these take longer.
const QUIET_TICKS: u32 = 3;

/// A state that is looked at once in each interval.
#[derive(Debug, Clone)]
pub(crate) struct Episode {
    needed: u32,
    /// Looks in a row at which the state was absent.
    quiet: u32,
    active: bool,
}

/// A change to tell of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Edge {
    Begins,
    Ends,
}

impl Episode {
    pub(crate) fn new(interval: Duration) -> Self {
        let ticks = QUIET_TIME.as_nanos().div_ceil(interval.as_nanos().max(1));
        Self {
            needed: u32::try_from(ticks).unwrap_or(u32::MAX).max(QUIET_TICKS),
            quiet: 0,
            active: false,
        }
    }

    /// Notes whether the state is there.
    pub(crate) fn observe(&mut self, present: bool) -> Option<Edge> {
        if present {
            self.quiet = 0;
            let begins = !std::mem::replace(&mut self.active, true);
            return begins.then_some(Edge::Begins);
        }
        if !self.active {
            return None;
        }
        self.quiet += 1;
        if self.quiet < self.needed {
            return None;
        }
        self.active = false;
        Some(Edge::Ends)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_that_flaps_is_told_once() {
        let mut episode = Episode::new(Duration::from_secs(1));
        let told = (0..600).filter_map(|tick| episode.observe(tick % 3 == 1));
        assert_eq!(told.collect::<Vec<_>>(), [Edge::Begins]);
        let told: Vec<_> = (0..120).filter_map(|_| episode.observe(false)).collect();
        assert_eq!(told, [Edge::Ends]);
    }

    #[test]
    fn a_state_ends_after_a_minute_or_three_ticks() {
        for (interval, needed) in [(1, 60), (7, 9), (60, 3), (3600, 3)] {
            let mut episode = Episode::new(Duration::from_secs(interval));
            episode.observe(true);
            let quiet = (1..).find(|_| episode.observe(false).is_some());
            assert_eq!(quiet, Some(needed), "{interval}");
        }
    }
}
