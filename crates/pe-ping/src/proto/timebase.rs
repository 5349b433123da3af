//! One base for all times: the monotonic clock.
//!
//! The kernel stamps packets with the wall clock, which may be stepped at any moment; deadlines and RTTs are times of
//! the monotonic clock. Between steps the two differ by a constant (both are slewed alike), so a pair of readings relates
//! them; a step shows as a new difference.

use super::Nanos;

/// Relates wall-clock stamps to the monotonic clock.
#[derive(Debug, Clone)]
pub(crate) struct TimeBase {
    /// Wall clock less monotonic clock, now and before the last step.
    offset: i64,
    before_step: i64,
    /// How far `offset` may be off: the time that the pair of readings took.
    error: u64,
    stepped_at: Nanos,
}

/// A wall-clock reading between two readings of the monotonic clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ClockPair {
    pub(crate) before: Nanos,
    pub(crate) wall: i64,
    pub(crate) after: Nanos,
}

/// How long after a step stamps from before it may still come in.
const UNSETTLED: Nanos = 2_000_000_000;

/// Differences below this are noise of the readings, not a step.
const NOISE: u64 = 1_000;

impl TimeBase {
    pub(crate) fn new(pair: ClockPair) -> Self {
        let (offset, error) = relate(pair);
        Self {
            offset,
            before_step: offset,
            error,
            stepped_at: 0,
        }
    }

    /// Takes a new pair of readings. Returns whether the wall clock was stepped since the last one.
    #[inline]
    pub(crate) fn observe(&mut self, pair: ClockPair) -> bool {
        let (offset, error) = relate(pair);
        if offset.abs_diff(self.offset) > error + self.error + NOISE {
            self.before_step = self.offset;
            self.offset = offset;
            self.error = error;
            self.stepped_at = pair.after;
            return true;
        }
        let settled = pair.after.saturating_sub(self.stepped_at) > UNSETTLED;
        if error < self.error {
            self.offset = offset;
            self.error = error;
        }
        if settled {
            self.before_step = self.offset;
        }
        false
    }

    /// The monotonic time of a wall-clock stamp that was taken after `earliest` and not after `now`.
    ///
    /// Where a step makes the stamp ambiguous, the reading that lies in that window, and closer to `now`, is taken; a
    /// stamp that fits neither way is moved to the nearer end of the window.
    #[inline]
    pub(crate) fn monotonic(&self, stamp: i64, earliest: Nanos, now: Nanos) -> Nanos {
        let with = |offset: i64| stamp.saturating_sub(offset).max(0) as Nanos;
        let current = with(self.offset);
        if self.before_step == self.offset && current <= now {
            return current.max(earliest.min(now));
        }
        let previous = with(self.before_step);
        [current, previous]
            .into_iter()
            .filter(|time| (earliest..=now).contains(time))
            .max()
            .unwrap_or_else(|| current.clamp(earliest.min(now), now))
    }
}

#[inline]
fn relate(pair: ClockPair) -> (i64, u64) {
    let width = pair.after.saturating_sub(pair.before);
    let middle = pair.before + width / 2;
    (pair.wall.saturating_sub(middle as i64), width)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pair(mono: Nanos, wall: i64) -> ClockPair {
        ClockPair {
            before: mono - 20,
            wall,
            after: mono + 20,
        }
    }

    proptest! {
        /// Stamps from before and after a step of any size, either way, map to the moment they were taken: exactly when
        /// the step exceeds the time until the stamp is read, and never outside the window.
        #[test]
        fn a_step_between_stamp_and_reading_does_no_harm(
            mono in 1_000_000_000_000..2_000_000_000_000_u64,
            offset in 1_600_000_000_000_000_000..1_700_000_000_000_000_000_i64,
            step in prop_oneof![-4_000_000_000_000_i64..-100_000, 100_000..4_000_000_000_000_i64],
            before in 1..90_000_u64,
            after in 1..90_000_u64,
        ) {
            let mut base = TimeBase::new(pair(mono, mono as i64 + offset));
            let early = mono + 1_000_000;
            let late = early + before;
            let now = late + after;
            let early_stamp = early as i64 + offset;
            let late_stamp = late as i64 + offset + step;
            prop_assert!(base.observe(pair(now, now as i64 + offset + step)));
            prop_assert_eq!(base.monotonic(late_stamp, mono, now), late);
            // The early stamp is read at most 180 µs later; a smaller step leaves both readings possible.
            let got = base.monotonic(early_stamp, mono, now);
            if step.unsigned_abs() > before + after {
                prop_assert_eq!(got, early);
            }
            prop_assert!((mono..=now).contains(&got));
        }

        #[test]
        fn noise_is_no_step(
            readings in proptest::collection::vec((0..400_u64, 0..400_u64), 1..50),
        ) {
            let offset = 1_650_000_000_000_000_000_i64;
            let mut mono = 5_000_000_000_u64;
            let mut base = TimeBase::new(pair(mono, mono as i64 + offset));
            for (left, right) in readings {
                mono += 1_000_000;
                let reading = ClockPair { before: mono - left, wall: mono as i64 + offset, after: mono + right };
                prop_assert!(!base.observe(reading));
                let got = base.monotonic(mono as i64 + offset, 0, mono + 1_000);
                prop_assert!(got.abs_diff(mono) <= 20);
            }
        }

        #[test]
        fn any_stamp_stays_in_its_window(stamp: i64, earliest in 0..1_u64 << 62, length in 0..1_u64 << 40, wall: i64) {
            let mut base = TimeBase::new(pair(1_000, 5_000));
            base.observe(pair(2_000, wall));
            let got = base.monotonic(stamp, earliest, earliest + length);
            prop_assert!((earliest..=earliest + length).contains(&got));
        }
    }
}
