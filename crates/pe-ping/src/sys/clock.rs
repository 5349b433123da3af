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

/// Whether the kernel says that the wall clock is synchronised, as NTP clients tell it to (adjtimex(2)); `None` where it does
/// not say.
pub(crate) fn is_synchronized() -> Option<bool> {
    // SAFETY: a timex is integers only, for which zeros are values.
    let mut times: libc::timex = unsafe { std::mem::zeroed() };
    // Without modes nothing is set, which anybody may do.
    // SAFETY: `times` is a writable timex.
    let state = unsafe { libc::adjtimex(&raw mut times) };
    let is_synchronized = state != libc::TIME_ERROR && times.status & libc::STA_UNSYNC == 0;
    (state >= 0).then_some(is_synchronized)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_says_whether_the_clock_is_synchronised() {
        assert!(is_synchronized().is_some());
    }
}
