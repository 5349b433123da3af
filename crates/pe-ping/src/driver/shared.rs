//! What the handles and the thread share: a queue of work, an eventfd that wakes the driver, and
//! the counters.

use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::SweepCommand;
use crate::Outcome;
use crate::counters::LiveCounters;
use crate::proto::Nanos;
use crate::sys::Wake;

/// How long work may wait to be refused.
const REFUSING: Duration = Duration::from_millis(20);

/// A single ping to send.
pub(crate) struct PingCommand {
    pub(crate) destination: IpAddr,
    pub(crate) timeout: Nanos,
    pub(crate) done: oneshot::Sender<Outcome>,
}

/// Work that the driver has not taken over yet.
#[derive(Default)]
pub(crate) struct Submitted {
    pub(crate) pings: Vec<PingCommand>,
    pub(crate) sweeps: Vec<SweepCommand>,
    /// No more will come: the last handle is gone, or the thread has ended.
    pub(crate) closed: bool,
}

/// The part of an engine that any thread may use.
pub(crate) struct Shared {
    queue: Mutex<Submitted>,
    /// Whether there may be something in the queue; spares the driver the lock.
    pending: AtomicBool,
    /// Whether the driver waits, or is about to, and must be woken.
    resting: AtomicBool,
    pub(crate) wake: Wake,
    pub(crate) counters: LiveCounters,
    /// How often the driver was replaced after a panic.
    pub(crate) restarts: pe_scrape::Counter,
    /// Whether the driver shall panic.
    #[cfg(test)]
    pub(crate) panics: AtomicBool,
}

impl Shared {
    pub(crate) fn new() -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            queue: Mutex::default(),
            pending: AtomicBool::new(false),
            resting: AtomicBool::new(false),
            wake: Wake::new()?,
            counters: LiveCounters::default(),
            restarts: pe_scrape::Counter::default(),
            #[cfg(test)]
            panics: AtomicBool::new(false),
        }))
    }

    fn queue(&self) -> MutexGuard<'_, Submitted> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands work over. After the engine's end it is dropped, which its owner notices.
    fn submit(&self, add: impl FnOnce(&mut Submitted)) {
        let mut queue = self.queue();
        if queue.closed {
            return;
        }
        add(&mut queue);
        drop(queue);
        self.pending.store(true, Ordering::SeqCst);
        if self.resting.swap(false, Ordering::SeqCst) {
            self.wake.wake();
        }
    }

    pub(crate) fn submit_ping(&self, command: PingCommand) {
        self.submit(|queue| queue.pings.push(command));
    }

    pub(crate) fn submit_sweep(&self, command: SweepCommand) {
        self.submit(|queue| queue.sweeps.push(command));
    }

    /// Tells the driver to end.
    pub(crate) fn close(&self) {
        self.submit(|queue| queue.closed = true);
    }

    /// What was submitted since the last call, for the driver. `into` is an empty queue whose allocations are used for
    /// what comes next.
    pub(crate) fn take(&self, into: &mut Submitted) -> bool {
        if !self.pending.swap(false, Ordering::SeqCst) {
            return false;
        }
        let mut queue = self.queue();
        into.closed = queue.closed;
        std::mem::swap(&mut queue.pings, &mut into.pings);
        std::mem::swap(&mut queue.sweeps, &mut into.sweeps);
        true
    }

    /// Drops what is submitted for so long, so that nobody waits for a driver that is not there. Returns whether another one shall be:
    /// there is still a handle.
    pub(crate) fn refuse_for(&self, pause: Duration) -> bool {
        let end = Instant::now() + pause;
        let mut refused = Submitted::default();
        loop {
            if self.take(&mut refused) && refused.closed {
                return false;
            }
            refused.pings.clear();
            refused.sweeps.clear();
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            std::thread::sleep(left.min(REFUSING));
        }
    }

    /// Says that the driver is about to wait. Returns whether it may: nothing was submitted meanwhile.
    pub(crate) fn rest(&self) -> bool {
        self.resting.store(true, Ordering::SeqCst);
        !self.pending.load(Ordering::SeqCst)
    }

    /// Says that the driver is awake.
    pub(crate) fn rise(&self) {
        self.resting.store(false, Ordering::SeqCst);
    }

    /// Closes the queue when dropped, so that nobody waits for a thread that has ended.
    pub(crate) fn guard(self: &Arc<Self>) -> impl Drop + use<> {
        struct Guard(Arc<Shared>);
        impl Drop for Guard {
            fn drop(&mut self) {
                let mut queue = self.0.queue();
                *queue = Submitted {
                    closed: true,
                    ..Submitted::default()
                };
            }
        }
        Guard(self.clone())
    }
}
