//! Descriptors that a program that is started would get.

use std::io;

/// Closes all descriptors of this process but the first three in each program that it starts from now on. It keeps them itself.
/// Linux 5.11 or newer.
pub(crate) fn keep_descriptors() -> io::Result<()> {
    let first: libc::c_uint = 3;
    let flags = libc::CLOSE_RANGE_CLOEXEC as libc::c_uint;
    // SAFETY: takes three numbers; the flag closes no descriptor of this process.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, flags) };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
