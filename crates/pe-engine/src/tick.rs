//! What becomes of a lane at a tick. No I/O, no clock.

use std::time::Duration;

/// How much later than its deadline, which well-behaved scrapers keep themselves, a batch is stopped.
pub(crate) const STOP_MARGIN: Duration = Duration::from_secs(1);

/// How much later than its deadline a batch is given up: its scraper blocks a thread, and cannot be stopped.
pub(crate) const GIVE_UP_MARGIN: Duration = Duration::from_secs(2);

/// How far the batch of a lane is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BatchState {
    /// Rows that are written.
    pub(crate) done: usize,
    /// Rows that are not.
    pub(crate) unfinished: usize,
    /// Whether each of those is being measured; else some wait for their turn.
    pub(crate) all_started: bool,
    /// Since the batch started.
    pub(crate) elapsed: Duration,
    /// How long the lane's settings let all probes of a device take.
    pub(crate) longest_cycle: Duration,
    /// Whether it goes on though it was to be stopped.
    pub(crate) is_stuck: bool,
}

/// What to do with a lane at a tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LaneStep {
    /// It has no batch: start one.
    Start,
    /// Publish what is done, leave the batch with the devices that hang in it behind, and start another for the rest.
    LeaveBehind,
    /// Let the batch go on, and skip the tick.
    GoOn(Blame),
}

/// Why a batch outlasts its interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blame {
    /// The settings ask for more than fits into the interval, or there are more devices than it has time for.
    Interval,
    /// The devices take longer than the settings allow.
    Devices,
}

impl LaneStep {
    /// Decides for a lane with or without a batch.
    ///
    /// A batch is left behind only when its devices have had all the time that their settings allow; one that may take
    /// longer than the interval is no reason to throw its results away. So is one that cannot be stopped, whatever it has.
    pub(crate) fn at_tick(batch: Option<&BatchState>, interval: Duration) -> Self {
        let Some(batch) = batch else {
            return Self::Start;
        };
        if batch.is_stuck {
            return Self::LeaveBehind;
        }
        let waits = batch.unfinished > 0 && !batch.all_started;
        if waits || batch.elapsed < batch.longest_cycle {
            return Self::GoOn(Blame::Interval);
        }
        if batch.done > 0 {
            return Self::LeaveBehind;
        }
        Self::GoOn(if batch.longest_cycle > interval {
            Blame::Interval
        } else {
            Blame::Devices
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn batch() -> BatchState {
        BatchState {
            done: 9,
            unfinished: 1,
            all_started: true,
            elapsed: SECOND,
            longest_cycle: SECOND / 2,
            is_stuck: false,
        }
    }

    fn step(batch: BatchState) -> LaneStep {
        LaneStep::at_tick(Some(&batch), SECOND)
    }

    #[test]
    fn a_lane_without_a_batch_starts() {
        assert_eq!(LaneStep::at_tick(None, SECOND), LaneStep::Start);
    }

    #[test]
    fn a_device_that_hangs_costs_itself_only() {
        assert_eq!(step(batch()), LaneStep::LeaveBehind);
    }

    #[test]
    fn a_scraper_that_lingers_after_its_last_row_delays_nobody() {
        let lingers = BatchState {
            done: 10,
            unfinished: 0,
            all_started: false,
            ..batch()
        };
        assert_eq!(step(lingers), LaneStep::LeaveBehind);
    }

    #[test]
    fn a_batch_that_cannot_be_stopped_is_left_behind_even_without_results() {
        let stuck = BatchState {
            done: 0,
            all_started: false,
            is_stuck: true,
            ..batch()
        };
        assert_eq!(step(stuck), LaneStep::LeaveBehind);
    }

    #[test]
    fn devices_that_wait_for_their_turn_do_not_fit_into_the_interval() {
        let waits = BatchState {
            all_started: false,
            ..batch()
        };
        assert_eq!(step(waits), LaneStep::GoOn(Blame::Interval));
    }

    #[test]
    fn results_that_may_take_longer_than_the_interval_are_waited_for() {
        let long = |elapsed| BatchState {
            elapsed,
            longest_cycle: SECOND * 5 / 2,
            ..batch()
        };
        assert_eq!(step(long(SECOND * 2)), LaneStep::GoOn(Blame::Interval));
        assert_eq!(step(long(SECOND * 3)), LaneStep::LeaveBehind);
        let none = BatchState {
            done: 0,
            ..long(SECOND * 3)
        };
        assert_eq!(step(none), LaneStep::GoOn(Blame::Interval));
    }

    #[test]
    fn an_interval_is_not_to_blame_for_a_scraper_in_which_everything_hangs() {
        let hangs = BatchState {
            done: 0,
            unfinished: 10,
            ..batch()
        };
        assert_eq!(step(hangs), LaneStep::GoOn(Blame::Devices));
    }
}
