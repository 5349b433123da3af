//! The queue that sinks share, and what belongs to the sinks of one name. They outlive the sinks, which a reload replaces when a
//! setting changes, and with a state directory the program.
//!
//! ```text
//! DIR/queue/       the queue of all sinks, as the crate's `queue` writes it
//! DIR/queue-NAME/  the queue of the sink NAME alone, which an earlier version wrote: read, and removed when it is empty
//! DIR/clock        is there once the system's clock was seen synchronised
//! ```
//!
//! While the directory cannot be used, everything is kept in memory, and it is tried again.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;
use std::{fs, io};

use pe_scrape::with_causes;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::sleep;
use tracing::{info, warn};

use super::feed::Feed;
use super::sink::Shared;
use crate::SampleBlock;
use crate::host::host_name;
use crate::queue::{
    Directory, DropReason, Order, Queue, QueueError, QueueHandle, QueueLimits, drop_all,
};
use crate::state::StateDir;

/// Time between two tries to open the state directory.
const PAUSE: Duration = Duration::from_secs(5);

/// The file that says that the clock was seen synchronised.
const CLOCK: &str = "clock";

/// The directory of the queue of all sinks.
const SHARED: &str = "queue";

/// What the names of the directories of queues of one sink begin with.
const PREFIX: &str = "queue-";

/// The queues in a state directory: that of all sinks, which has no name, and those of one sink, which earlier versions wrote, by
/// its name. Nothing is opened. Blocking.
///
/// # Errors
/// When the directory cannot be read, as where there is none.
pub fn queue_directories(
    state_dir: impl AsRef<Path>,
) -> io::Result<Vec<(Option<String>, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(state_dir)? {
        let entry = entry?;
        let name = entry.file_name().into_string().unwrap_or_default();
        let sink = match name.strip_prefix(PREFIX) {
            None if name == SHARED => None,
            None => continue,
            Some(encoded) => match percent_decode_str(encoded).decode_utf8() {
                Ok(sink) => Some(sink.into_owned()),
                Err(_) => continue,
            },
        };
        if entry.file_type()?.is_dir() {
            found.push((sink, entry.path()));
        }
    }
    found.sort();
    Ok(found)
}

/// The stores of an agent's sinks.
#[derive(Default)]
pub(super) struct Stores {
    directory: Option<PathBuf>,
    shared: Mutex<Weak<SharedQueue>>,
}

/// The queue of all sinks, and what fills it.
pub(super) struct SharedQueue {
    directory: Option<PathBuf>,
    opened: OnceLock<Opened>,
    feed: Mutex<Feed>,
    /// The stores of all sinks, by their names.
    stores: Mutex<BTreeMap<Arc<str>, Weak<Store>>>,
    /// The sinks, which are told of what is appended.
    members: Mutex<Vec<Weak<Shared>>>,
    /// Held by the one who moves what is in memory to a disk.
    moving: AsyncMutex<()>,
}

/// What belongs to the sinks of one name, one after the other.
pub(super) struct Store {
    name: Arc<str>,
    pub(super) shared: Arc<SharedQueue>,
    former: Mutex<Former>,
    /// Whether the configuration has no such sink any more.
    is_removed: AtomicBool,
    /// Held by the sender that is at work. Its successor waits for it.
    pub(super) lease: AsyncMutex<()>,
}

/// The queue that an earlier version wrote for a sink.
enum Former {
    /// It was not looked for yet.
    Unknown,
    None,
    There(QueueHandle, PathBuf),
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
            shared: Mutex::default(),
        }
    }

    /// The store of the sinks of that name. Nothing is opened yet.
    pub(super) fn store(&self, name: &Arc<str>) -> Arc<Store> {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let queue = shared.upgrade().unwrap_or_else(|| {
            let queue = Arc::new(SharedQueue {
                directory: self.directory.clone(),
                opened: OnceLock::new(),
                feed: Mutex::new(Feed::new(&host_name())),
                stores: Mutex::default(),
                members: Mutex::default(),
                moving: AsyncMutex::new(()),
            });
            *shared = Arc::downgrade(&queue);
            queue
        });
        let mut stores = queue.stores();
        if let Some(store) = stores.get(name).and_then(Weak::upgrade) {
            return store;
        }
        let store = Arc::new(Store {
            name: name.clone(),
            shared: queue.clone(),
            former: Mutex::new(Former::Unknown),
            is_removed: AtomicBool::new(false),
            lease: AsyncMutex::new(()),
        });
        stores.retain(|_, store| store.strong_count() > 0);
        stores.insert(name.clone(), Arc::downgrade(&store));
        drop(stores);
        store
    }
}

impl SharedQueue {
    /// The queue. The first call opens it, and may block.
    pub(super) fn queue(&self) -> &QueueHandle {
        &self.opened().queue
    }

    /// What makes blocks for it.
    pub(super) fn feed(&self) -> MutexGuard<'_, Feed> {
        self.feed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a sink to those that are told of what is appended.
    pub(super) fn join(&self, sink: &Arc<Shared>) {
        sink.store.set_removed(false);
        let mut members = self.lock_members();
        members.retain(|member| member.strong_count() > 0);
        members.push(Arc::downgrade(sink));
    }

    /// The sinks that blocks are appended for.
    pub(super) fn members(&self) -> Vec<Arc<Shared>> {
        let members = self.lock_members();
        let members = members.iter().filter_map(Weak::upgrade);
        members
            .filter(|member| !member.store.is_removed())
            .collect()
    }

    /// Whether there are no sinks of another name.
    pub(super) fn is_alone(&self) -> bool {
        self.living().len() == 1
    }

    /// Whether a sink of the same name has taken the place of this one.
    pub(super) fn has_successor(&self, sink: &Arc<Shared>) -> bool {
        let members = self.lock_members();
        let later = members.iter().filter_map(Weak::upgrade);
        let mut later = later
            .skip_while(|member| !Arc::ptr_eq(member, sink))
            .skip(1);
        later.any(|member| Arc::ptr_eq(&member.store, &sink.store))
    }

    /// Appends blocks for all sinks. The caller holds the feed, so that they are in order.
    pub(super) fn append(&self, blocks: Vec<SampleBlock>) {
        if blocks.is_empty() {
            return;
        }
        let count = blocks.len() as u64;
        for block in blocks {
            self.queue().append(Arc::new(block));
        }
        for member in self.members() {
            member.note_appended(count);
        }
    }

    fn lock_members(&self) -> MutexGuard<'_, Vec<Weak<Shared>>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stores(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Weak<Store>>> {
        self.stores.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The stores of the sinks that there are.
    fn living(&self) -> Vec<Arc<Store>> {
        let stores = self.stores();
        stores.values().filter_map(Weak::upgrade).collect()
    }

    fn opened(&self) -> &Opened {
        self.opened.get_or_init(|| self.open())
    }

    fn open(&self) -> Opened {
        let in_memory = || {
            let queue = QueueHandle::in_memory(QueueLimits::in_memory());
            self.attach(&queue);
            Opened {
                queue,
                state: Mutex::new(None),
                was_synchronized: false,
            }
        };
        let Some(directory) = &self.directory else {
            return in_memory();
        };
        match self.open_on_disk(directory) {
            Ok((state, queue)) => Opened {
                queue,
                was_synchronized: matches!(state.read(CLOCK), Ok(Some(_))),
                state: Mutex::new(Some(state)),
            },
            Err(error) => {
                warn!(
                    error,
                    "samples that wait are kept in memory only, until the directory can be used"
                );
                in_memory()
            }
        }
    }

    fn open_on_disk(&self, directory: &Path) -> Result<(StateDir, QueueHandle), String> {
        let state = StateDir::open(directory).map_err(|error| with_causes(&error))?;
        let path = state.path().join(SHARED);
        let stores = self.living();
        let names: Vec<&str> = stores.iter().map(|store| &*store.name).collect();
        let Found {
            mut latest,
            mut waiting,
        } = look(&path, &names).map_err(|error| with_causes(&error))?;
        let mut of_formers = Vec::new();
        for (store, waiting) in stores.iter().zip(&mut waiting) {
            let path = store.former_path(&state);
            // What cannot be read is told when it is opened.
            if path.is_dir()
                && let Ok(found) = look(&path, &[&*store.name])
            {
                of_formers.extend(found.latest);
                *waiting += found.waiting[0];
            }
            if *waiting > 0 {
                info!(
                    sink = &*store.name,
                    samples = *waiting,
                    "samples of an earlier run wait"
                );
            }
        }
        if latest.is_empty() {
            // Later than at the first start after an update, the shared queue knows more.
            latest = of_formers;
            latest.sort_by_key(|block| Reverse(block.time.wall_ms));
        }
        self.feed().tracker.adopt(latest);
        let disk = Directory::open(&path).map_err(|error| error.to_string())?;
        let (queue, _) = QueueHandle::open(Box::new(disk), QueueLimits::default())
            .map_err(|error| with_causes(&error))?;
        self.attach(&queue);
        Ok((state, queue))
    }

    /// Gives all sinks their cursors, and drops those of others.
    fn attach(&self, queue: &QueueHandle) {
        let stores = self.living();
        let names: Vec<&str> = stores.iter().map(|store| &*store.name).collect();
        for name in &names {
            // The cursor is what counts; the sink's sender makes a reader of its own.
            drop(queue.reader(name, Order::Strict));
        }
        queue.retain(&names);
    }

    /// Moves the queue to the state directory as soon as that can be used, if it is in memory. Returns at once where there is nothing
    /// to move.
    ///
    /// # Cancel safety
    /// A move that has begun takes place.
    pub(super) async fn move_to_disk(self: &Arc<Self>) {
        if self.directory.is_none() {
            return;
        }
        while self.opened().state().is_none() {
            sleep(PAUSE).await;
            let this = self.clone();
            // In a task of its own, so that a move is noted however this ends.
            let tried = tokio::spawn(async move { this.try_to_move().await });
            // Had it panicked, it is tried again.
            let _ = tried.await;
        }
    }

    async fn try_to_move(&self) {
        let (opened, Some(directory)) = (self.opened(), self.directory.clone()) else {
            return;
        };
        // One of the sinks does it for all.
        let _moving = self.moving.lock().await;
        if opened.state().is_some() {
            return;
        }
        let state = tokio::task::spawn_blocking(move || StateDir::open(directory)).await;
        let Ok(Ok(state)) = state else { return };
        let Ok(disk) = Directory::open(state.path().join(SHARED)) else {
            return;
        };
        let moved = opened.queue.move_to(Box::new(disk), QueueLimits::default());
        if moved.await.is_ok() {
            let stores = self.living();
            let names: Vec<&str> = stores.iter().map(|store| &*store.name).collect();
            opened.queue.retain(&names);
            *opened.state() = Some(state);
            info!("samples that wait are kept on disk from now on");
        }
    }
}

/// What is in a queue at the start.
struct Found {
    latest: Vec<SampleBlock>,
    /// Samples that wait for each sink.
    waiting: Vec<u64>,
}

fn look(path: &Path, sinks: &[&str]) -> Result<Found, QueueError> {
    let disk = Directory::open(path).map_err(|source| QueueError::Io {
        action: "make",
        file: path.display().to_string(),
        source,
    })?;
    let (mut queue, _) = Queue::open(Box::new(disk), QueueLimits::default())?;
    let latest = queue.latest().unwrap_or_else(|error| {
        warn!(
            error = with_causes(&error),
            "series that ended while the agent was away get no marker"
        );
        Vec::new()
    });
    // What cannot be read now is told when it is.
    let mut waiting = |sink: &&str| queue.backlog(sink).unwrap_or_default().samples;
    let waiting = sinks.iter().map(&mut waiting).collect();
    Ok(Found { latest, waiting })
}

impl Store {
    /// Whether an earlier run saw the clock synchronised.
    pub(super) fn was_synchronized(&self) -> bool {
        self.shared.opened().was_synchronized
    }

    /// Notes for later runs that the clock was seen synchronised. Blocking.
    pub(super) fn note_synchronized(&self) {
        let state = self.shared.opened().state();
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

    /// Samples that were dropped for this reason before the sink had them; 0 before anything is opened.
    pub(super) fn dropped_samples(&self, reason: DropReason) -> u64 {
        let opened = self.shared.opened.get();
        let shared = opened.map_or(0, |it| it.queue.dropped_samples(&self.name, reason));
        match &*self.lock_former() {
            Former::There(former, _) => shared + former.dropped_samples(&self.name, reason),
            Former::Unknown | Former::None => shared,
        }
    }

    /// The queue that an earlier version wrote for this sink, if there is one and the state directory can be used. The first call
    /// opens it, and may block.
    pub(super) fn former(&self) -> Option<QueueHandle> {
        let mut former = self.lock_former();
        if matches!(*former, Former::Unknown)
            && let Some(state) = &*self.shared.opened().state()
        {
            *former = self.open_former(state);
        }
        match &*former {
            Former::There(queue, _) => Some(queue.clone()),
            Former::Unknown | Former::None => None,
        }
    }

    fn open_former(&self, state: &StateDir) -> Former {
        let path = self.former_path(state);
        if !path.is_dir() {
            return Former::None;
        }
        let disk = Box::new(Directory::existing(&path));
        match QueueHandle::open(disk, QueueLimits::default()) {
            Ok((queue, _)) => Former::There(queue, path),
            Err(error) => {
                warn!(
                    sink = &*self.name,
                    directory = %path.display(),
                    error = with_causes(&error),
                    "what an earlier version left for the sink cannot be read; it is left alone"
                );
                Former::None
            }
        }
    }

    fn former_path(&self, state: &StateDir) -> PathBuf {
        let name = utf8_percent_encode(&self.name, NON_ALPHANUMERIC);
        state.path().join(format!("{PREFIX}{name}"))
    }

    /// Removes the queue that an earlier version wrote, of which the sink needs nothing any more.
    ///
    /// # Cancel safety
    /// A removal that has begun takes place.
    pub(super) async fn remove_former(&self) {
        let former = std::mem::replace(&mut *self.lock_former(), Former::None);
        let Former::There(queue, path) = former else {
            return;
        };
        queue.retain(&[]);
        queue.flush().await;
        drop(queue);
        let removed = tokio::task::spawn_blocking(move || {
            // What cannot be removed now is found empty at the next start.
            let _ = drop_all(&mut Directory::existing(&path));
            let _ = fs::remove_dir(&path);
        });
        let _ = removed.await;
    }

    pub(super) fn is_removed(&self) -> bool {
        self.is_removed.load(Ordering::Relaxed)
    }

    /// Says whether there is to be no such sink any more.
    pub(super) fn set_removed(&self, is_removed: bool) {
        self.is_removed.store(is_removed, Ordering::Relaxed);
    }

    fn lock_former(&self) -> MutexGuard<'_, Former> {
        self.former.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if self.is_removed()
            && let Some(opened) = self.shared.opened.get()
        {
            opened.queue.forget(&self.name);
        }
    }
}

impl Opened {
    fn state(&self) -> MutexGuard<'_, Option<StateDir>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
