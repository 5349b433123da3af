//! What was made from files, made anew when they change.
//!
//! A look at the files is a blocking call, in the blocking pool, and happens at most once in [`PAUSE`]. While they cannot be
//! used, what was made before stays; that is logged when it begins and when it ends. What could never be made is told to whoever
//! asks for it.

use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::{info, warn};

/// Time between two looks at the files.
const PAUSE: Duration = Duration::from_secs(1);

/// A value that is made from files.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let directory = tempfile::tempdir()?;
/// let file = directory.path().join("greeting");
/// std::fs::write(&file, "hello")?;
/// let read = file.clone();
/// let greeting = pe_scrape::FileBacked::new(vec![file], move || {
///     std::fs::read_to_string(&read).map_err(|error| error.to_string())
/// });
/// assert_eq!(greeting.get().await.as_deref(), Ok("hello"));
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap();
/// ```
pub struct FileBacked<T> {
    files: Vec<PathBuf>,
    make: Box<dyn Fn() -> Result<T, String> + Send + Sync>,
    state: Mutex<State<T>>,
    /// Held while the files are looked at.
    looking: Mutex<()>,
}

struct State<T> {
    /// What was made last, or why nothing could be made so far.
    value: Result<T, String>,
    /// What the files were like when that was made; `None` before the first look.
    stamps: Option<Stamps>,
    looked: Option<Instant>,
    is_failing: bool,
}

/// What tells one content of the files from the next; none for a file that cannot be looked at.
type Stamps = Vec<Option<(u64, u64, i64, i64)>>;

impl<T: Clone + Send + 'static> FileBacked<T> {
    /// A value that is made by `make` of `files` when it is first asked for.
    #[must_use]
    pub fn new(
        files: Vec<PathBuf>,
        make: impl Fn() -> Result<T, String> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            files,
            make: Box::new(make),
            state: Mutex::new(State {
                value: Err("not read so far".to_owned()),
                stamps: None,
                looked: None,
                is_failing: false,
            }),
            looking: Mutex::new(()),
        })
    }

    /// A value that is made now. This call blocks.
    ///
    /// # Errors
    /// Why that fails.
    pub fn read(
        files: Vec<PathBuf>,
        make: impl Fn() -> Result<T, String> + Send + Sync + 'static,
    ) -> Result<Arc<Self>, String> {
        let this = Self::new(files, make);
        this.look();
        this.state().value.clone()?;
        Ok(this)
    }

    /// The value of the files as they are now, or of what they were when it could last be made.
    ///
    /// # Errors
    /// Why it could never be made.
    ///
    /// # Cancel safety
    /// A look at the files that has begun goes on.
    pub async fn get(self: &Arc<Self>) -> Result<T, String> {
        {
            let mut state = self.state();
            if state.looked.is_some_and(|at| at.elapsed() < PAUSE) {
                return state.value.clone();
            }
            // Whoever comes meanwhile takes what is there; before the first look nothing is.
            if state.looked.is_some() {
                state.looked = Some(Instant::now());
            }
        }
        let this = self.clone();
        let looked = tokio::task::spawn_blocking(move || this.look()).await;
        if looked.is_err() {
            tracing::debug!("the runtime is shutting down");
        }
        self.state().value.clone()
    }

    fn look(&self) {
        let _one = self.looking.lock().unwrap_or_else(PoisonError::into_inner);
        // Looked at before reading, so that no change is missed.
        let stamps = Some(stamps(&self.files));
        if self.state().stamps == stamps {
            return;
        }
        let made = (self.make)();
        let mut state = self.state();
        let is_first = state.stamps.is_none();
        state.stamps = stamps;
        state.looked = Some(Instant::now());
        let was_failing = std::mem::replace(&mut state.is_failing, made.is_err());
        let failed = match (made, &state.value) {
            (Err(error), Ok(_)) => Some(error),
            (made, _) => {
                state.value = made;
                None
            }
        };
        let is_told_by_caller = is_first || state.value.is_err();
        drop(state);
        match failed {
            Some(error) => warn!(
                error,
                "a changed file cannot be used; its former content stays"
            ),
            None if is_told_by_caller => {}
            None if was_failing => info!(files = ?self.files, "changed files can be used again"),
            None => info!(files = ?self.files, "changed files are used"),
        }
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> fmt::Debug for FileBacked<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileBacked")
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

/// The bytes of a file, `longest` at most. Nothing but a file is opened: a named pipe would block for ever.
///
/// # Errors
/// Why it cannot be read.
pub(crate) fn read_file(path: &Path, longest: u64) -> Result<Vec<u8>, String> {
    let found = std::fs::metadata(path).map_err(|error| error.to_string())?;
    if !found.is_file() {
        return Err("not a file".to_owned());
    }
    if found.len() > longest {
        return Err(format!("too long: more than {longest} bytes"));
    }
    std::fs::read(path).map_err(|error| error.to_string())
}

fn stamps(files: &[PathBuf]) -> Stamps {
    let stamp = |file: &PathBuf| {
        let found = std::fs::metadata(file).ok()?;
        Some((found.ino(), found.len(), found.mtime(), found.mtime_nsec()))
    };
    files.iter().map(stamp).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn the_first_ones_wait_for_one_reading() {
        let made = Arc::new(AtomicUsize::new(0));
        let count = made.clone();
        let backed = FileBacked::new(Vec::new(), move || {
            std::thread::yield_now();
            Ok(count.fetch_add(1, Ordering::SeqCst))
        });
        let all = futures_util::future::join_all((0..64).map(|_| backed.get())).await;
        assert_eq!(all, vec![Ok(0); 64]);
        assert_eq!(made.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn what_could_be_used_stays_and_what_could_not_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("number");
        let number = || {
            let file = file.clone();
            move || {
                let text = fs::read_to_string(&file).map_err(|error| error.to_string())?;
                text.parse::<u32>().map_err(|error| error.to_string())
            }
        };
        let files = vec![file.clone()];
        assert!(FileBacked::read(files.clone(), number()).is_err());
        let later = FileBacked::new(files.clone(), number());
        later.look();
        assert!(later.state().value.is_err());
        fs::write(&file, "7").unwrap();
        let now = FileBacked::read(files, number()).unwrap();
        for backed in [&later, &now] {
            backed.look();
            assert_eq!(backed.state().value, Ok(7));
        }
        fs::write(&file, "no number").unwrap();
        now.look();
        assert_eq!(now.state().value, Ok(7));
        fs::remove_file(&file).unwrap();
        now.look();
        assert_eq!(now.state().value, Ok(7));
        fs::write(&file, "12").unwrap();
        now.look();
        assert_eq!(now.state().value, Ok(12));
    }
}
