//! Readings of the kernel's clocks, which on common machines take no system call.

use crate::proto::Nanos;
use crate::proto::timebase::ClockPair;

fn read(clock: libc::clockid_t) -> libc::timespec {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // Cannot fail for the two clocks used here.
    // SAFETY: `time` is a writable timespec.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    time
}

/// `CLOCK_MONOTONIC` in nanoseconds.
#[inline]
pub(crate) fn monotonic() -> Nanos {
    let time = read(libc::CLOCK_MONOTONIC);
    time.tv_sec as Nanos * 1_000_000_000 + time.tv_nsec as Nanos
}

/// `CLOCK_REALTIME` between two readings of `CLOCK_MONOTONIC`.
#[inline]
pub(crate) fn clock_pair() -> ClockPair {
    let before = monotonic();
    let time = read(libc::CLOCK_REALTIME);
    let wall = (time.tv_sec as i64)
        .saturating_mul(1_000_000_000)
        .saturating_add(time.tv_nsec as i64);
    let after = monotonic();
    ClockPair {
        before,
        wall,
        after,
    }
}
