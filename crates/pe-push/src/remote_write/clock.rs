//! Whether the times of samples can be believed, and how they are corrected. No I/O; takes every time as an argument.
//!
//! An agent may boot with a wrong clock and no uplink. Blocks keep the wall clock's time and the time since boot, so that once
//! the wall clock is right, the time of a block of this boot is what the wall clock says now, less what has passed since.
//!
//! - A block's time is final, and the queue has it, before it is first sent. Until then, it follows every step of the wall clock.
//! - Nothing is held back because a clock is not synchronised: many machines never say that they are. Samples wait, for
//!   `clock_wait` after the receiver first answered, only while the clock is not synchronised and an earlier run saw it be, or
//!   while it is off by more than [`FAR_OFF`] from the receiver's.
//! - Blocks of an earlier boot cannot be corrected. They keep their time, and are counted where the clock stepped since.

use std::time::Duration;

use crate::SampleTime;
use crate::clocks::{Now, wall_ms};

/// Difference to the receiver's clock above which ours is doubted. Answers have whole seconds and take their time.
const FAR_OFF: Duration = Duration::from_secs(30);

/// Steps below this are not corrected: reading two clocks one after the other differs by less.
const SMALLEST_STEP: i64 = 50;

/// Steps that differ by less are the same: times are rounded to milliseconds, and a clock is slewed after it was set.
const SAME_STEP: i64 = 5;

/// What is known of the clocks.
#[derive(Debug)]
pub(crate) struct ClockTruth {
    /// How long samples may be held back.
    wait: Duration,
    /// Whether an earlier run saw the clock synchronised.
    was_synchronized: bool,
    synchronized: Option<bool>,
    /// How far our clock was ahead of the receiver's, in milliseconds, at the latest answer that told.
    ahead: Option<(i64, Now)>,
    /// Nanoseconds since boot at which the receiver first answered.
    answered_ns: Option<u64>,
    /// Once samples were let go, they are not held again.
    is_released: bool,
}

/// What a correction did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Correction {
    /// The time stands.
    None,
    /// The clock was stepped since, by so many milliseconds.
    Stepped(i64),
    /// The block is of an earlier boot, and its time stands.
    EarlierBoot,
}

impl ClockTruth {
    pub(crate) fn new(wait: Duration, was_synchronized: bool) -> Self {
        Self {
            wait,
            was_synchronized,
            synchronized: None,
            ahead: None,
            answered_ns: None,
            is_released: false,
        }
    }

    /// Takes in what the system says of its clock; `None` where it says nothing. Returns whether it says for the first time, in
    /// all runs, that it is synchronised.
    pub(crate) fn note_synchronized(&mut self, synchronized: Option<bool>) -> bool {
        self.synchronized = synchronized;
        let is_first = synchronized == Some(true) && !self.was_synchronized;
        self.was_synchronized |= is_first;
        is_first
    }

    /// Takes in an answer, with the receiver's time where it told it.
    pub(crate) fn note_answer(&mut self, receiver_ms: Option<i64>, now: Now) {
        self.answered_ns.get_or_insert(now.boot_ns);
        if let Some(receiver_ms) = receiver_ms {
            // The receiver cut its milliseconds off: half a second is the best guess.
            self.ahead = Some((wall_ms(now.wall) - receiver_ms - 500, now));
        }
    }

    /// How far our clock is ahead of the receiver's, in seconds.
    pub(crate) fn ahead_seconds(&self) -> Option<f64> {
        self.ahead.map(|(ms, _)| ms as f64 / 1000.0)
    }

    /// Whether the receiver must be asked for its time before samples are sent.
    pub(crate) fn wants_answer(&self) -> bool {
        self.answered_ns.is_none()
    }

    /// How long samples are to be held back from now on, at most; `None` when they may go.
    pub(crate) fn hold(&mut self, now: Now) -> Option<Duration> {
        if self.is_released {
            return None;
        }
        // The receiver is not asked again meanwhile: a step of our clock is seen without it.
        let is_far_off = self.ahead.is_some_and(|(ms, then)| {
            let ahead_ms = ms.saturating_add(step_since(then, now));
            ahead_ms.unsigned_abs() > FAR_OFF.as_millis() as u64
        });
        let is_awaited = self.was_synchronized && self.synchronized == Some(false);
        let since = self.answered_ns.unwrap_or(now.boot_ns);
        let waited = Duration::from_nanos(now.boot_ns.saturating_sub(since));
        let rest = self.wait.saturating_sub(waited);
        if rest.is_zero() || !(is_far_off || is_awaited) {
            // Before the receiver has told its time there is nothing to release.
            self.is_released = self.answered_ns.is_some();
            return None;
        }
        Some(rest)
    }
}

/// Sets the time of a block that was never sent to what it is by the wall clock of now.
pub(crate) fn correct(time: &mut SampleTime, now: Now) -> Correction {
    if time.is_final {
        return Correction::None;
    }
    if time.boot_id != now.boot_id || time.boot_id == 0 {
        return Correction::EarlierBoot;
    }
    if time.boot_ns > now.boot_ns {
        // It was measured after the clocks were read, which say nothing of it.
        return Correction::None;
    }
    let ago_ms = now.boot_ns.saturating_sub(time.boot_ns) / 1_000_000;
    let ago_ms = i64::try_from(ago_ms).unwrap_or(i64::MAX);
    let right = wall_ms(now.wall).saturating_sub(ago_ms);
    let step = right.saturating_sub(time.wall_ms);
    if step.abs() < SMALLEST_STEP {
        return Correction::None;
    }
    time.wall_ms = right;
    Correction::Stepped(step)
}

/// Makes the steps of neighbours equal, which the queue then keeps as one.
#[derive(Debug, Default)]
pub(crate) struct Steady(Option<i64>);

impl Steady {
    /// The step to correct by: the latest one, where this is the same.
    pub(crate) fn step(&mut self, step: i64) -> i64 {
        let latest = self.0.filter(|latest| (step - latest).abs() < SAME_STEP);
        *self.0.insert(latest.unwrap_or(step))
    }
}

/// Whether the wall clock was stepped between two moments of one run.
pub(crate) fn has_stepped(before: Now, now: Now) -> bool {
    step_since(before, now) != 0
}

/// By how many milliseconds the wall clock was stepped between two moments of one run.
fn step_since(before: Now, now: Now) -> i64 {
    match correct(&mut before.time(), now) {
        Correction::Stepped(step) => step,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remote_write::testing::now;

    const WAIT: Duration = Duration::from_secs(120);

    fn later(start: Now, seconds: u64, step_seconds: i64) -> Now {
        let passed = Duration::from_secs(seconds);
        let step = Duration::from_secs(step_seconds.unsigned_abs());
        let wall = start.wall + passed;
        Now {
            wall: if step_seconds < 0 {
                wall - step
            } else {
                wall + step
            },
            boot_ns: start.boot_ns + passed.as_nanos() as u64,
            boot_id: start.boot_id,
        }
    }

    #[test]
    fn what_was_measured_after_the_clocks_were_read_keeps_its_time() {
        let start = now(1_000_000);
        let mut time = later(start, 1, 0).time();
        let measured = time;
        assert_eq!(correct(&mut time, start), Correction::None);
        assert_eq!(time, measured);
    }

    #[test]
    fn a_clock_that_is_not_synchronised_holds_nothing_back_by_itself() {
        let mut truth = ClockTruth::new(WAIT, false);
        truth.note_synchronized(Some(false));
        truth.note_answer(Some(1_000_000_000), now(1_000_010_000));
        assert_eq!(truth.hold(now(1_000_010_000)), None);
        let mut silent = ClockTruth::new(WAIT, true);
        silent.note_synchronized(None);
        assert_eq!(silent.hold(now(0)), None);
    }

    #[test]
    fn samples_wait_for_a_clock_that_was_synchronised_before() {
        let start = now(1_000_000_000);
        let mut truth = ClockTruth::new(WAIT, true);
        truth.note_synchronized(Some(false));
        assert_eq!(
            truth.hold(later(start, 600, 0)),
            Some(WAIT),
            "no answer yet"
        );
        truth.note_answer(Some(1_000_000_000), start);
        assert_eq!(truth.hold(start), Some(WAIT));
        assert_eq!(
            truth.hold(later(start, 100, 0)),
            Some(Duration::from_secs(20))
        );
        truth.note_synchronized(Some(true));
        assert_eq!(truth.hold(later(start, 101, 0)), None);
        // Once they go, they go.
        truth.note_synchronized(Some(false));
        assert_eq!(truth.hold(later(start, 102, 0)), None);
    }

    #[test]
    fn samples_wait_two_minutes_at_most() {
        let start = now(1_000_000_000);
        let mut truth = ClockTruth::new(WAIT, false);
        truth.note_answer(Some(2_000_000_000), start);
        assert!(truth.ahead_seconds().unwrap() < -900_000.0);
        assert_eq!(
            truth.hold(later(start, 119, 0)),
            Some(Duration::from_secs(1))
        );
        assert_eq!(truth.hold(later(start, 120, 0)), None);
    }

    #[test]
    fn a_difference_that_is_gone_releases_at_once() {
        let start = now(1_000_000_000);
        let held = || {
            let mut truth = ClockTruth::new(WAIT, false);
            truth.note_answer(Some(2_000_000_000), start);
            assert!(truth.hold(start).is_some());
            truth
        };
        // Told by another answer, or by the step alone.
        let set = later(start, 5, 1_000_000);
        let mut told = held();
        told.note_answer(Some(2_000_005_000), set);
        assert_eq!(told.hold(set), None);
        assert_eq!(held().hold(set), None);
        for further_off in [later(start, 5, 0), later(start, 5, -1_000_000)] {
            assert!(held().hold(further_off).is_some());
        }
    }

    #[test]
    fn steps_that_differ_by_rounding_are_one() {
        let mut steady = Steady::default();
        let steps = [70_000, 69_999, 70_002, 70_005, 70_004, -20].map(|step| steady.step(step));
        assert_eq!(steps, [70_000, 70_000, 70_000, 70_005, 70_005, -20]);
    }

    #[test]
    fn times_follow_the_steps_of_the_clock_within_a_boot() {
        let start = now(1_000_000_000);
        let mut time = start.time();
        assert_eq!(correct(&mut time, later(start, 60, 0)), Correction::None);
        let forward = correct(&mut time, later(start, 60, 86_400));
        assert_eq!(forward, Correction::Stepped(86_400_000));
        assert_eq!(time.wall_ms, 1_086_400_000);
        let back = correct(&mut time, later(start, 70, -5));
        assert_eq!(
            (back, time.wall_ms),
            (Correction::Stepped(-86_405_000), 999_995_000)
        );
        assert!(has_stepped(start, later(start, 9, -5)) && !has_stepped(start, later(start, 9, 0)));
        time.is_final = true;
        assert_eq!(correct(&mut time, later(start, 70, 99)), Correction::None);
        (time.boot_id, time.is_final) = (99, false);
        assert_eq!(
            correct(&mut time, later(start, 80, 0)),
            Correction::EarlierBoot
        );
        assert_eq!(time.wall_ms, 999_995_000);
    }
}
