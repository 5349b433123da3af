//! Waiting for a condition, never for a fixed time.

use std::time::{Duration, Instant};

/// How long [`until`] waits before it gives up: far longer than anything takes on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Polls `condition` until it gives a value, and returns that.
///
/// # Panics
/// After [`PATIENCE`], with `what` in the message.
pub fn until<T>(what: &str, condition: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, condition).unwrap_or_else(|| panic!("waited {PATIENCE:?} in vain for {what}"))
}

/// Polls `condition` until it is true.
///
/// # Panics
/// After [`PATIENCE`], with `what` in the message.
pub fn until_true(what: &str, mut condition: impl FnMut() -> bool) {
    until(what, || condition().then_some(()));
}

/// The most that one look at a condition takes of the patience: a machine that stands still in between is not the program's delay.
const MOST_AT_ONCE: Duration = Duration::from_secs(2);

/// Polls `condition` until it gives a value or `patience` is over.
pub fn within<T>(patience: Duration, mut condition: impl FnMut() -> Option<T>) -> Option<T> {
    let mut waited = Duration::ZERO;
    let mut latest = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(value) = condition() {
            return Some(value);
        }
        let now = Instant::now();
        waited += (now - latest).min(MOST_AT_ONCE);
        latest = now;
        if waited > patience {
            return None;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}
