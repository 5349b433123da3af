//! The clocks of this machine: a thin driver for `clock`.

use std::fs;
use std::sync::OnceLock;
use std::time::SystemTime;

use rustix::time::{ClockId, clock_gettime};

use super::blocks::Now;

/// Reads all clocks.
pub(crate) fn now() -> Now {
    let boot = clock_gettime(ClockId::Boottime);
    let (seconds, nanos) = (boot.tv_sec.unsigned_abs(), boot.tv_nsec.unsigned_abs());
    Now {
        wall: SystemTime::now(),
        boot_ns: seconds.saturating_mul(1_000_000_000).saturating_add(nanos),
        boot_id: boot_id(),
    }
}

/// Which boot this is; 0 where that is not told.
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
}
