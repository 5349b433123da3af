//! Signals, as streams.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::failure::Failure;

/// The signals that a service answers. From the moment this is made, none of them ends the process by itself.
pub(crate) struct Signals {
    pub(crate) stop: Stop,
    pub(crate) hangup: Signal,
}

/// SIGINT and SIGTERM.
pub(crate) struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    pub(crate) fn new() -> Result<Self, Failure> {
        let listen =
            |kind| signal(kind).map_err(|error| Failure::cannot("listen for signals", error));
        Ok(Self {
            stop: Stop {
                interrupt: listen(SignalKind::interrupt())?,
                terminate: listen(SignalKind::terminate())?,
            },
            hangup: listen(SignalKind::hangup())?,
        })
    }
}

impl Stop {
    /// Waits for one of the signals, and says which it was.
    ///
    /// # Cancel safety
    /// A signal is not lost when the future is dropped.
    pub(crate) async fn received(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}
