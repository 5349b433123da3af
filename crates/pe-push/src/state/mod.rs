//! The state directory: what must survive a restart, kept for one agent at a time.
//!
//! ```text
//! DIR/lock     locked (flock) by the agent that has the directory; says which process that is
//! DIR/version  the number of the layout, 1
//! DIR/NAME     a file, always whole: written beside its place, synced, renamed, and its directory synced
//! ```
//!
//! So after a kill -9 or a power cut a file has its former content or its new one. A directory of a newer layout is refused. What is
//! in the files is said by those who write them.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use thiserror::Error;

/// The layout that is written, and the newest that can be read.
const VERSION: u32 = 1;

/// A directory that this process has to itself. Cloning is cheap; the last clone gives it free.
#[derive(Debug, Clone)]
pub struct StateDir(Arc<Opened>);

#[derive(Debug)]
struct Opened {
    path: PathBuf,
    /// Locked while it is open.
    _lock: File,
}

/// Why a state directory cannot be used.
#[derive(Error)]
#[non_exhaustive]
pub enum StateError {
    /// Another process has it.
    #[error("the state directory {} is in use by {holder}; give each agent its own", path.display())]
    Held {
        /// The directory.
        path: PathBuf,
        /// Who has it, as far as that is known.
        holder: String,
    },
    /// A newer release has written it.
    #[error(
        "the state directory {} has the layout {found} of a newer release; this one knows {VERSION}: use the newer release, or another directory",
        path.display()
    )]
    Version {
        /// The directory.
        path: PathBuf,
        /// Its layout.
        found: String,
    },
    /// The system refused.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

pe_scrape::debug_with_causes!(StateError);

impl StateError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}

/// Directories that this process has: its sinks share them, and a lock knows no threads.
static OPENED: Mutex<BTreeMap<PathBuf, Weak<Opened>>> = Mutex::new(BTreeMap::new());

impl StateDir {
    /// Opens a directory, which is made where it is missing, and locks it. Within a process all who open one share it. Blocking.
    ///
    /// # Errors
    /// [`StateError`]; after [`StateError::Held`] it is worth trying again later.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StateError> {
        let path = path.as_ref();
        std::fs::create_dir_all(path).map_err(StateError::io("make the state directory", path))?;
        let path = path
            .canonicalize()
            .map_err(StateError::io("find the state directory", path))?;
        let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = opened.get(&path).and_then(Weak::upgrade) {
            return Ok(Self(known));
        }
        let lock = lock(&path)?;
        check_version(&path)?;
        let own = Arc::new(Opened {
            path: path.clone(),
            _lock: lock,
        });
        opened.retain(|_, other| other.strong_count() > 0);
        opened.insert(path, Arc::downgrade(&own));
        Ok(Self(own))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// The content of a file; `None` where there is none. Blocking.
    ///
    /// # Errors
    /// [`StateError::Io`].
    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>, StateError> {
        let path = self.0.path.join(name);
        match std::fs::read(&path) {
            Ok(content) => Ok(Some(content)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StateError::io("read", &path)(error)),
        }
    }

    /// Puts `content` in the place of a file's former one. When this returns, it survives a power cut. Blocking.
    ///
    /// # Errors
    /// [`StateError::Io`]; the file has its former content then.
    pub fn write(&self, name: &str, content: &[u8]) -> Result<(), StateError> {
        replace(&self.0.path, name, content)
    }
}

/// Takes the lock of a directory.
fn lock(directory: &Path) -> Result<File, StateError> {
    let path = directory.join("lock");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(StateError::io("open", &path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let _ = (&mut file).take(100).read_to_string(&mut holder);
            let holder: String = holder.chars().filter(|c| !c.is_control()).collect();
            return Err(StateError::Held {
                path: directory.to_owned(),
                holder: match holder.is_empty() {
                    true => "another process".to_owned(),
                    false => holder,
                },
            });
        }
        Err(TryLockError::Error(error)) => return Err(StateError::io("lock", &path)(error)),
    }
    // Who has it is for people; the lock itself holds without.
    let _ = file
        .set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| write!(file, "process {}", std::process::id()));
    Ok(file)
}

/// Refuses a newer layout; notes ours where there is none yet.
fn check_version(directory: &Path) -> Result<(), StateError> {
    let path = directory.join("version");
    match std::fs::read_to_string(&path) {
        Ok(text) if text.trim().parse::<u32>().is_ok_and(|it| it <= VERSION) => Ok(()),
        Ok(text) => Err(StateError::Version {
            path: directory.to_owned(),
            found: text.trim().chars().take(20).collect(),
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            replace(directory, "version", format!("{VERSION}\n").as_bytes())
        }
        Err(error) => Err(StateError::io("read", &path)(error)),
    }
}

fn replace(directory: &Path, name: &str, content: &[u8]) -> Result<(), StateError> {
    let (beside, path) = (directory.join(format!("{name}.new")), directory.join(name));
    let written = File::create(&beside).and_then(|mut file| {
        file.write_all(content)?;
        file.sync_all()
    });
    if let Err(error) = written {
        // On a full disk this makes room again.
        let _ = std::fs::remove_file(&beside);
        return Err(StateError::io("write", &beside)(error));
    }
    std::fs::rename(&beside, &path)
        .and_then(|()| File::open(directory)?.sync_all())
        .map_err(StateError::io("replace", &path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_replaced_whole_and_found_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        {
            let state = StateDir::open(&path).unwrap();
            assert_eq!(state.read("a").unwrap(), None);
            state.write("a", b"one").unwrap();
            state.write("a", b"two").unwrap();
        }
        let state = StateDir::open(&path).unwrap();
        assert_eq!(state.read("a").unwrap().as_deref(), Some(&b"two"[..]));
        // What a crash left beside a file is no content of it.
        std::fs::write(path.join("a.new"), "half").unwrap();
        assert_eq!(state.read("a").unwrap().as_deref(), Some(&b"two"[..]));
        state.write("a", b"three").unwrap();
        assert!(!path.join("a.new").exists());
    }

    #[test]
    fn a_directory_is_shared_within_a_process_and_held_against_others() {
        let directory = tempfile::tempdir().unwrap();
        let first = StateDir::open(directory.path()).unwrap();
        let second = StateDir::open(directory.path()).unwrap();
        assert!(Arc::ptr_eq(&first.0, &second.0));
        // A lock of another process, as this process sees one.
        drop((first, second));
        let other = lock(directory.path()).unwrap();
        let error = StateDir::open(directory.path()).unwrap_err();
        let expected = format!("in use by process {}", std::process::id());
        assert!(error.to_string().contains(&expected), "{error}");
        assert!(matches!(error, StateError::Held { .. }));
        drop(other);
        StateDir::open(directory.path()).unwrap();
    }

    #[test]
    fn a_newer_layout_and_a_place_that_is_no_directory_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("version"), "2\n").unwrap();
        let error = StateDir::open(directory.path()).unwrap_err();
        assert!(matches!(error, StateError::Version { .. }), "{error}");
        let error = StateDir::open(directory.path().join("version")).unwrap_err();
        assert!(matches!(error, StateError::Io { .. }), "{error}");
    }
}
