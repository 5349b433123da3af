//! What was made from files, made anew when they change.
//!
//! A look at the files is a blocking call, in the blocking pool, and happens at most once in [`PAUSE`]. While they cannot be
//! used, what was made before stays; that is logged when it begins and when it ends.

use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::{info, warn};

/// Time between two looks at the files.
const PAUSE: Duration = Duration::from_secs(1);

/// A value that is made from files.
pub(crate) struct Watched<T> {
    files: Vec<PathBuf>,
    make: Box<dyn Fn() -> Result<T, String> + Send + Sync>,
    state: Mutex<State<T>>,
}

struct State<T> {
    value: T,
    stamps: Stamps,
    looked: Instant,
    is_failing: bool,
}

/// What tells one content of the files from the next; none for a file that cannot be looked at.
type Stamps = Vec<Option<(u64, u64, i64, i64)>>;

impl<T: Clone + Send + 'static> Watched<T> {
    /// Makes the value.
    ///
    /// # Errors
    /// Why that fails.
    pub(crate) fn new(
        files: Vec<PathBuf>,
        make: impl Fn() -> Result<T, String> + Send + Sync + 'static,
    ) -> Result<Arc<Self>, String> {
        // Looked at before reading, so that no change is missed.
        let stamps = stamps(&files);
        let state = State {
            value: make()?,
            stamps,
            looked: Instant::now(),
            is_failing: false,
        };
        Ok(Arc::new(Self {
            files,
            make: Box::new(make),
            state: Mutex::new(state),
        }))
    }

    /// The value of the files as they are now.
    pub(crate) async fn get(self: &Arc<Self>) -> T {
        {
            let mut state = self.state();
            if state.looked.elapsed() < PAUSE {
                return state.value.clone();
            }
            // Whoever comes meanwhile takes what is there.
            state.looked = Instant::now();
        }
        let this = self.clone();
        let looked = tokio::task::spawn_blocking(move || this.look()).await;
        if looked.is_err() {
            tracing::debug!("the runtime is shutting down");
        }
        self.state().value.clone()
    }

    fn look(&self) {
        let stamps = stamps(&self.files);
        if self.state().stamps == stamps {
            return;
        }
        let made = (self.make)();
        let mut state = self.state();
        state.stamps = stamps;
        let was_failing = std::mem::replace(&mut state.is_failing, made.is_err());
        let failed = match made {
            Ok(value) => {
                state.value = value;
                None
            }
            Err(error) => Some(error),
        };
        drop(state);
        match failed {
            Some(error) => warn!(
                error,
                "a changed file cannot be used; its former content stays"
            ),
            None if was_failing => info!(files = ?self.files, "changed files can be used again"),
            None => info!(files = ?self.files, "changed files are used"),
        }
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> fmt::Debug for Watched<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched")
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

fn stamps(files: &[PathBuf]) -> Stamps {
    let stamp = |file: &PathBuf| {
        let found = std::fs::metadata(file).ok()?;
        Some((found.ino(), found.len(), found.mtime(), found.mtime_nsec()))
    };
    files.iter().map(stamp).collect()
}
