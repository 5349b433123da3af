//! Looks at the program all the time: how much memory it has, and how long its health check takes.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::client::get;
use crate::program::memory;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// What stands for a check without an answer.
const NO_ANSWER: Duration = Duration::from_secs(60);

/// What was seen in one phase.
pub(crate) struct Phase {
    pub(crate) name: &'static str,
    pub(crate) slowest_health: Duration,
    /// Bytes.
    pub(crate) most_resident: u64,
}

#[derive(Default)]
struct Seen {
    phases: Vec<Phase>,
    is_over: bool,
}

/// A thread that looks.
pub(crate) struct Watch {
    seen: Arc<Mutex<Seen>>,
    thread: JoinHandle<()>,
}

impl Watch {
    pub(crate) fn start(address: SocketAddr, process: u32) -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let shared = seen.clone();
        let thread = thread::spawn(move || {
            loop {
                let health = get(address, "/-/healthy");
                let resident = memory(process, "VmRSS:").unwrap_or_default();
                let mut seen = lock(&shared);
                if seen.is_over {
                    return;
                }
                if let Some(phase) = seen.phases.last_mut() {
                    phase.most_resident = phase.most_resident.max(resident);
                    // The port is not open at first.
                    let is_first = phase.name == super::START;
                    let took = match health {
                        Ok(answer) => answer.took,
                        Err(_) if is_first => Duration::ZERO,
                        Err(_) => NO_ANSWER,
                    };
                    phase.slowest_health = phase.slowest_health.max(took);
                }
                drop(seen);
                thread::sleep(PAUSE);
            }
        });
        Self { seen, thread }
    }

    /// What is seen from now on is of this phase.
    pub(crate) fn phase(&self, name: &'static str) {
        println!("… {name}");
        lock(&self.seen).phases.push(Phase {
            name,
            slowest_health: Duration::ZERO,
            most_resident: 0,
        });
    }

    pub(crate) fn stop(self) -> Vec<Phase> {
        lock(&self.seen).is_over = true;
        // A panic there leaves what it saw.
        let _ = self.thread.join();
        std::mem::take(&mut lock(&self.seen).phases)
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}
