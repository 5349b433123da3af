//! The clocks of this machine: a thin driver for `clock`.

use std::time::{Duration, SystemTime};

use super::blocks::Now;
use crate::boot::{boot_id, since_boot};

/// The clocks are read anew where more than this passed between two of them: else a thread that was interrupted there would see a step.
const APART: Duration = Duration::from_millis(1);

/// How often they are read at most; the closest readings count then.
const READINGS: usize = 20;

/// Reads all clocks, as at one moment.
pub(crate) fn now() -> Now {
    let (mut closest, mut now) = read();
    for _ in 1..READINGS {
        if closest <= APART {
            break;
        }
        let (apart, again) = read();
        if apart < closest {
            (closest, now) = (apart, again);
        }
    }
    now
}

/// Reads all clocks, one after the other, and says how long that took.
fn read() -> (Duration, Now) {
    let before = since_boot();
    let wall = SystemTime::now();
    let after = since_boot();
    let now = Now {
        wall,
        boot_ns: before.midpoint(after),
        boot_id: boot_id(),
    };
    (Duration::from_nanos(after.saturating_sub(before)), now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_tells_its_clocks() {
        let (first, second) = (now(), now());
        assert!(first.boot_ns > 0 && second.boot_ns >= first.boot_ns);
        assert!(first.boot_id != 0 && first.boot_id == second.boot_id);
    }
}
