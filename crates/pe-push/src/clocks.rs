//! The clocks of this machine.

use std::fs;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

use crate::SampleTime;

/// The clocks are read anew where more than this passed between two of them: else a thread that was interrupted there would see a step.
const APART: Duration = Duration::from_millis(1);

/// How often they are read at most; the closest readings count then.
const READINGS: usize = 20;

/// The time now, on the clocks that a block keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Now {
    pub(crate) wall: SystemTime,
    /// Nanoseconds since boot.
    pub(crate) boot_ns: u64,
    pub(crate) boot_id: u128,
}

impl Now {
    /// The times of something that was measured `ago`, and that the wall clock then called `wall`. What is older than this boot is of
    /// one that nobody knows.
    pub(crate) fn time_of(&self, wall: SystemTime, ago: Duration) -> SampleTime {
        let ago = u64::try_from(ago.as_nanos()).unwrap_or(u64::MAX);
        let (boot_ns, boot_id) = match self.boot_ns.checked_sub(ago) {
            Some(boot_ns) => (boot_ns, self.boot_id),
            None => (0, 0),
        };
        SampleTime {
            wall_ms: wall_ms(wall),
            boot_ns,
            boot_id,
            is_final: false,
        }
    }

    /// This very moment.
    pub(crate) fn time(&self) -> SampleTime {
        self.time_of(self.wall, Duration::ZERO)
    }
}

/// Milliseconds since 1970, rounded down.
pub(crate) fn wall_ms(time: SystemTime) -> i64 {
    let ms = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => ms(after),
        Err(before) => -ms(before.duration()),
    }
}

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

/// Nanoseconds since boot (`CLOCK_BOOTTIME`), suspended time included.
fn since_boot() -> u64 {
    let boot = clock_gettime(ClockId::Boottime);
    let (seconds, nanos) = (boot.tv_sec.unsigned_abs(), boot.tv_nsec.unsigned_abs());
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
}

/// Which boot this is (`/proc/sys/kernel/random/boot_id`); 0 where that is not told.
fn boot_id() -> u128 {
    static BOOT_ID: OnceLock<u128> = OnceLock::new();
    *BOOT_ID.get_or_init(|| {
        let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
        u128::from_str_radix(&digits, 16).unwrap_or(0)
    })
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

    #[test]
    fn what_is_older_than_this_boot_keeps_its_time() {
        let now = now();
        let uptime = Duration::from_nanos(now.boot_ns);
        let since_boot = now.time_of(now.wall - uptime, uptime);
        assert_eq!((since_boot.boot_ns, since_boot.boot_id), (0, now.boot_id));
        let older = uptime + Duration::from_secs(1);
        let before = now.time_of(now.wall - older, older);
        assert_eq!(
            (before.wall_ms, before.boot_id),
            (wall_ms(now.wall - older), 0)
        );
    }
}
