//! The queues of sinks and what is known of their series. They outlive the sinks, which a reload replaces when a setting changes,
//! and with a state directory the program.
//!
//! ```text
//! DIR/queue-NAME/  the queue of the sink NAME, as the crate's `queue` writes it
//! DIR/clock        is there once the system's clock was seen synchronised
//! ```
//!
//! While the directory cannot be used, everything is kept in memory, and it is tried again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;
use std::{fs, io};

use pe_scrape::with_causes;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::sleep;
use tracing::{info, warn};

use super::stale::StaleTracker;
use crate::queue::{Directory, Queue, QueueCounters, QueueHandle, QueueLimits};
use crate::state::StateDir;

/// Time between two tries to open the state directory.
const PAUSE: Duration = Duration::from_secs(5);

/// The file that says that the clock was seen synchronised.
const CLOCK: &str = "clock";

/// What the names of the queues' directories begin with.
const PREFIX: &str = "queue-";

/// The queues in a state directory, by the names of their sinks. Nothing is opened. Blocking.
///
/// # Errors
/// When the directory cannot be read, as where there is none.
pub fn queue_directories(state_dir: impl AsRef<Path>) -> io::Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(state_dir)? {
        let entry = entry?;
        let name = entry.file_name().into_string().unwrap_or_default();
        if let Some(encoded) = name.strip_prefix(PREFIX)
            && let Ok(sink) = percent_decode_str(encoded).decode_utf8()
            && entry.file_type()?.is_dir()
        {
            found.push((sink.into_owned(), entry.path()));
        }
    }
    found.sort();
    Ok(found)
}

/// The stores of an agent's sinks, by their names.
#[derive(Default)]
pub(super) struct Stores {
    directory: Option<PathBuf>,
    known: Mutex<BTreeMap<Arc<str>, Weak<Store>>>,
}

/// What belongs to the sinks of one name, one after the other.
pub(super) struct Store {
    name: Arc<str>,
    directory: Option<PathBuf>,
    opened: OnceLock<Opened>,
    tracker: Mutex<StaleTracker>,
    /// Held by the sender that is at work. Its successor waits for it.
    pub(super) lease: AsyncMutex<()>,
}

struct Opened {
    queue: QueueHandle,
    state: Mutex<Option<StateDir>>,
    was_synchronized: bool,
}

impl Stores {
    pub(super) fn in_directory(directory: Option<PathBuf>) -> Self {
        Self {
            directory,
            known: Mutex::default(),
        }
    }

    /// The store of the sinks of that name. Nothing is opened yet.
    pub(super) fn store(&self, name: &Arc<str>) -> Arc<Store> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(store) = known.get(name).and_then(Weak::upgrade) {
            return store;
        }
        let store = Arc::new(Store {
            name: name.clone(),
            directory: self.directory.clone(),
            opened: OnceLock::new(),
            tracker: Mutex::default(),
            lease: AsyncMutex::new(()),
        });
        known.retain(|_, store| store.strong_count() > 0);
        known.insert(name.clone(), Arc::downgrade(&store));
        store
    }
}

impl Store {
    /// The queue. The first call opens it, and may block.
    pub(super) fn queue(&self) -> &QueueHandle {
        &self.opened().queue
    }

    /// What the queue counts; `None` before it is opened.
    pub(super) fn counters(&self) -> Option<QueueCounters> {
        self.opened.get().map(|opened| opened.queue.counters())
    }

    /// Whether an earlier run saw the clock synchronised.
    pub(super) fn was_synchronized(&self) -> bool {
        self.opened().was_synchronized
    }

    /// Notes for later runs that the clock was seen synchronised. Blocking.
    pub(super) fn note_synchronized(&self) {
        let state = self.opened().state();
        if let Some(state) = &*state
            && let Err(error) = state.write(CLOCK, b"synchronized\n")
        {
            warn!(
                sink = &*self.name,
                error = with_causes(&error),
                "it could not be noted that the clock is synchronised"
            );
        }
    }

    /// What is known of the series.
    pub(super) fn tracker(&self) -> MutexGuard<'_, StaleTracker> {
        self.tracker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn opened(&self) -> &Opened {
        self.opened.get_or_init(|| self.open())
    }

    fn open(&self) -> Opened {
        let in_memory = || QueueHandle::in_memory(QueueLimits::in_memory());
        let Some(directory) = &self.directory else {
            return Opened {
                queue: in_memory(),
                state: Mutex::new(None),
                was_synchronized: false,
            };
        };
        match self.open_on_disk(directory) {
            Ok((state, queue)) => Opened {
                queue,
                was_synchronized: matches!(state.read(CLOCK), Ok(Some(_))),
                state: Mutex::new(Some(state)),
            },
            Err(error) => {
                warn!(
                    sink = &*self.name,
                    error,
                    "samples that wait are kept in memory only, until the directory can be used"
                );
                Opened {
                    queue: in_memory(),
                    state: Mutex::new(None),
                    was_synchronized: false,
                }
            }
        }
    }

    fn open_on_disk(&self, directory: &Path) -> Result<(StateDir, QueueHandle), String> {
        let state = StateDir::open(directory).map_err(|error| with_causes(&error))?;
        let path = self.path(&state);
        let open = || Directory::open(&path).map_err(|error| error.to_string());
        let (mut queue, _) = Queue::open(Box::new(open()?), QueueLimits::default())
            .map_err(|error| with_causes(&error))?;
        match queue.latest() {
            Ok(latest) => self.tracker().adopt(latest),
            Err(error) => warn!(
                sink = &*self.name,
                error = with_causes(&error),
                "series that ended while the agent was away get no marker"
            ),
        }
        // What cannot be read now is told when it is.
        let waiting = queue.backlog(&self.name).unwrap_or_default();
        drop(queue);
        let (queue, _) = QueueHandle::open(Box::new(open()?), QueueLimits::default())
            .map_err(|error| with_causes(&error))?;
        if waiting.samples > 0 {
            info!(
                sink = &*self.name,
                samples = waiting.samples,
                "samples of an earlier run wait"
            );
        }
        Ok((state, queue))
    }

    fn path(&self, state: &StateDir) -> PathBuf {
        let name = utf8_percent_encode(&self.name, NON_ALPHANUMERIC);
        state.path().join(format!("{PREFIX}{name}"))
    }

    /// Moves a queue that is in memory to the state directory as soon as that can be used. Returns at once where there is nothing
    /// to move.
    ///
    /// # Cancel safety
    /// A move that has begun takes place.
    pub(super) async fn move_to_disk(&self) {
        let opened = self.opened();
        let Some(directory) = &self.directory else {
            return;
        };
        while opened.state().is_none() {
            sleep(PAUSE).await;
            let path = directory.clone();
            let state = tokio::task::spawn_blocking(move || StateDir::open(path)).await;
            let Ok(Ok(state)) = state else { continue };
            let Ok(disk) = Directory::open(self.path(&state)) else {
                continue;
            };
            let moved = opened.queue.move_to(Box::new(disk), QueueLimits::default());
            if moved.await.is_ok() {
                *opened.state() = Some(state);
                info!(
                    sink = &*self.name,
                    "samples that wait are kept on disk from now on"
                );
            }
        }
    }
}

impl Opened {
    fn state(&self) -> MutexGuard<'_, Option<StateDir>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
