//! What the service manager is told: that the program is ready, that it loads its configuration again, that it stops, and that it
//! is alive.
//!
//! The protocol is that of `sd_notify(3)`; where nobody listens (`$NOTIFY_SOCKET` is not set) nothing happens. Messages leave from
//! a thread of their own, since a service manager that does not read must not hold anything up.

use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use pe_engine::EngineHandle;
use sd_notify::NotifyState;

/// How many times a heartbeat is due within the time that a watchdog waits for one.
const BEATS: u32 = 3;

/// Messages that may wait for a manager that does not read. Further ones are dropped: it has heard nothing for minutes.
const WAITING: usize = 64;

/// Tells the service manager how things are, if there is one. Cloning is cheap.
#[derive(Debug, Clone, Default)]
pub(crate) struct ServiceManager {
    messages: Option<SyncSender<Message>>,
}

#[derive(Debug, Clone, Copy)]
enum Message {
    Ready,
    Reloading,
    Stopping,
    Alive,
}

impl ServiceManager {
    /// The manager that started this process, if one did and wants to be told.
    pub(crate) fn of_this_process() -> Self {
        if std::env::var_os("NOTIFY_SOCKET").is_none() {
            return Self::default();
        }
        let (messages, received) = sync_channel(WAITING);
        let forward = move || {
            for message in received {
                // One that cannot be told goes by what it sees.
                let _ = send(message);
            }
        };
        let thread = std::thread::Builder::new().name("sd-notify".to_owned());
        let started = thread.spawn(forward);
        Self {
            messages: started.is_ok().then_some(messages),
        }
    }

    /// All devices are being measured by the configuration in force.
    pub(crate) fn ready(&self) {
        self.tell(Message::Ready);
    }

    /// The configuration is being loaded again, until the returned value is dropped: also where the reload panics.
    #[must_use]
    pub(crate) fn reloading(&self) -> Reloading {
        self.tell(Message::Reloading);
        Reloading(self.clone())
    }

    /// The program is about to end.
    pub(crate) fn stopping(&self) {
        self.tell(Message::Stopping);
    }

    /// Feeds the watchdog for ever, if there is one: while tasks run, blocking calls find a thread, and the engine takes orders.
    /// Cycles that take long, peers that hang and files that cannot be read do not matter.
    pub(crate) async fn feed_watchdog(self, engine: EngineHandle) {
        let Some(patience) = sd_notify::watchdog_enabled() else {
            return std::future::pending().await;
        };
        let mut beats = tokio::time::interval((patience / BEATS).max(Duration::from_millis(1)));
        beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            beats.tick().await;
            let blocking = tokio::task::spawn_blocking(|| ());
            // An engine that has stopped ends the program by itself.
            let (_, _) = tokio::join!(blocking, engine.answers());
            self.tell(Message::Alive);
        }
    }

    fn tell(&self, message: Message) {
        if let Some(messages) = &self.messages {
            let _ = messages.try_send(message);
        }
    }
}

/// A reload under way. Its end is told when it is dropped.
#[derive(Debug)]
pub(crate) struct Reloading(ServiceManager);

impl Drop for Reloading {
    fn drop(&mut self) {
        self.0.ready();
    }
}

fn send(message: Message) -> std::io::Result<()> {
    match message {
        Message::Ready => sd_notify::notify(&[NotifyState::Ready]),
        // A reload is told with its time, so that the manager knows which of two it hears of (systemd 253).
        Message::Reloading => {
            let now = NotifyState::monotonic_usec_now()?;
            sd_notify::notify(&[NotifyState::Reloading, now])
        }
        Message::Stopping => sd_notify::notify(&[NotifyState::Stopping]),
        Message::Alive => sd_notify::notify(&[NotifyState::Watchdog]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reload_that_panics_is_over_for_the_manager_too() {
        let (messages, received) = sync_channel(WAITING);
        let manager = ServiceManager {
            messages: Some(messages),
        };
        let reload = std::panic::AssertUnwindSafe(|| {
            let _reloading = manager.reloading();
            panic!("as always");
        });
        assert!(std::panic::catch_unwind(reload).is_err());
        let told: Vec<Message> = received.try_iter().collect();
        assert!(matches!(told[..], [Message::Reloading, Message::Ready]));
    }

    #[test]
    fn a_manager_that_does_not_read_costs_a_few_messages() {
        let (messages, received) = sync_channel(WAITING);
        let manager = ServiceManager {
            messages: Some(messages),
        };
        for _ in 0..10 * WAITING {
            manager.tell(Message::Alive);
        }
        assert_eq!(received.try_iter().count(), WAITING);
    }
}
