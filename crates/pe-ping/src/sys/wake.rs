//! Waiting for sockets, and being woken by other threads.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// An `eventfd(2)` with which any thread ends another's [`wait`].
#[derive(Debug)]
pub(crate) struct Wake(OwnedFd);

impl Wake {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: no memory is passed.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `fd` was just made, is open, and nobody else has it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Ends the current or the next wait.
    pub(crate) fn wake(&self) {
        let one = 1_u64.to_ne_bytes();
        // Fails only if the counter is full; the wait ends then too.
        // SAFETY: `one` is 8 readable bytes.
        unsafe { libc::write(self.0.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }

    /// Takes back all wake-ups so far.
    fn clear(&self) {
        let mut count = [0_u8; 8];
        // Fails only if there was no wake-up; nothing is to be taken back then.
        // SAFETY: `count` is 8 writable bytes.
        unsafe { libc::read(self.0.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
    }
}

/// The most sockets that are waited for at once.
pub(crate) const MOST_READABLE: usize = 32;

/// Waits until `wake` is used, one of the first [`MOST_READABLE`] sockets of `readable` can be read, or the time has passed.
pub(crate) fn wait<'s>(
    wake: &Wake,
    readable: impl IntoIterator<Item = BorrowedFd<'s>>,
    timeout: Option<Duration>,
) {
    let none = libc::pollfd {
        fd: -1,
        events: libc::POLLIN,
        revents: 0,
    };
    let mut polled = [none; 1 + MOST_READABLE];
    polled[0].fd = wake.0.as_raw_fd();
    let mut used = 1;
    for (entry, fd) in polled[1..].iter_mut().zip(readable) {
        entry.fd = fd.as_raw_fd();
        used += 1;
    }
    let time = timeout.map(|timeout| libc::timespec {
        tv_sec: timeout.as_secs().min(86_400) as libc::time_t,
        tv_nsec: timeout.subsec_nanos() as libc::c_long,
    });
    let time = time.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: `polled` holds that many pollfds, whose descriptors are borrowed and so open; `time` is null or points to a
    // timespec that outlives the call; a null signal mask changes nothing.
    let ready = unsafe { libc::ppoll(polled.as_mut_ptr(), used, time, std::ptr::null()) };
    if ready > 0 && polled[0].revents != 0 {
        wake.clear();
    }
}
