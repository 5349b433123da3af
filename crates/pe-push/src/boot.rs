//! This boot: its name and its clock, which nobody sets.

use std::fs;
use std::sync::OnceLock;

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds since boot (`CLOCK_BOOTTIME`), suspended time included.
pub(crate) fn since_boot() -> u64 {
    let boot = clock_gettime(ClockId::Boottime);
    let (seconds, nanos) = (boot.tv_sec.unsigned_abs(), boot.tv_nsec.unsigned_abs());
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
}

/// Which boot this is (`/proc/sys/kernel/random/boot_id`); 0 where that is not told.
pub(crate) fn boot_id() -> u128 {
    static BOOT_ID: OnceLock<u128> = OnceLock::new();
    *BOOT_ID.get_or_init(|| {
        let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
        u128::from_str_radix(&digits, 16).unwrap_or(0)
    })
}
