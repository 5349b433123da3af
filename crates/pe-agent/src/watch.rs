//! Noticing that configuration files change.
//!
//! The system tells when something happens in the directories of the files, links followed; where it cannot (network file
//! systems, no inotify watch left) a slow poll does. What counts is a comparison of fingerprints, and a fingerprint is
//! taken before the files are read, so that a change while they are read is seen afterwards. Which files there are is
//! known only once they were read: where that differs from what was known before, and one of them is so new that it may
//! have changed meanwhile, they are read once more.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use pe_config::{Fingerprint, LoadError, Loaded, TargetFiles, Watched};
use tokio::sync::mpsc;
use tokio::task::{block_in_place, spawn_blocking};
use tokio::time::timeout;
use tracing::{debug, warn};

use crate::failure::Failure;
use crate::load::Loader;
use crate::supervise::why;

/// Files are often written in several steps: changes count when so much time has passed without another,
const QUIET: Duration = Duration::from_millis(300);
/// but no later than this, as something else in the directory may change all the time: a log, for instance.
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// How often files are looked at without a word from the system,
const POLL: Duration = Duration::from_secs(30);
/// and while one of their directories cannot be watched, as it is missing, for instance, or being made anew.
const POLL_UNWATCHED: Duration = Duration::from_secs(3);
/// A file that is older than this before the load began did not change during it. File servers have clocks of their own.
const CLOCK_MARGIN: Duration = Duration::from_secs(10);

/// What a load consisted of.
pub(crate) struct Seen {
    watched: Watched,
    fingerprint: Fingerprint,
    /// Whether the fingerprint is that of what was read.
    is_sure: bool,
}

/// Why the configuration should be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// A file changed.
    Files,
    /// A file may have changed during the load before.
    Unsure,
}

/// Loads the configuration on a thread where waiting does no harm. `before` is what the load before consisted of.
pub(crate) async fn read(
    loader: Loader,
    previous: Option<TargetFiles>,
    before: Option<Watched>,
) -> Result<(Result<Loaded, LoadError>, Seen), Failure> {
    let read = spawn_blocking(move || {
        let began = SystemTime::now();
        let before = before.map(|watched| (watched.fingerprint(), watched));
        let result = loader.load(previous);
        let watched = match &result {
            Ok(loaded) => &loaded.watched,
            Err(error) => &error.watched,
        };
        let seen = Seen::new(watched, before, began);
        (result, seen)
    });
    read.await
        .map_err(|error| Failure::cannot("load the configuration", why(error)))
}

impl Seen {
    fn new(watched: &Watched, before: Option<(Fingerprint, Watched)>, began: SystemTime) -> Self {
        let before = before.filter(|(_, known)| known == watched);
        let is_known = before.is_some();
        let fingerprint = before.map(|(fingerprint, _)| fingerprint);
        Self {
            fingerprint: fingerprint.unwrap_or_else(|| watched.fingerprint()),
            is_sure: is_known || !is_younger(watched, began),
            watched: watched.clone(),
        }
    }
}

/// Whether one of the files or directories may have changed since `began`.
fn is_younger(watched: &Watched, began: SystemTime) -> bool {
    let mut paths = watched.files.iter().chain(&watched.directories);
    paths.any(|path| {
        let modified = std::fs::metadata(path).and_then(|metadata| metadata.modified());
        modified.is_ok_and(|modified| modified + CLOCK_MARGIN >= began)
    })
}

/// Watches the directories of a configuration's files, where new files appear and old ones are replaced by renaming.
pub(crate) struct Watcher {
    system: Option<RecommendedWatcher>,
    changes: mpsc::Receiver<()>,
    directories: BTreeSet<PathBuf>,
    /// How often to look without a word from the system.
    poll: Duration,
    seen: Seen,
}

impl Watcher {
    pub(crate) fn new(seen: Seen) -> Self {
        let (sender, changes) = mpsc::channel(1);
        let noticed = move |event: notify::Result<Event>| {
            // Our own reading is no change.
            let is_change = event.is_ok_and(|event| !matches!(event.kind, EventKind::Access(_)));
            if is_change {
                // A full channel means that a change is known already.
                let _ = sender.try_send(());
            }
        };
        let poll_seconds = POLL.as_secs();
        let system = notify::recommended_watcher(noticed)
            .inspect_err(|error| {
                warn!(%error, poll_seconds, "changed files are noticed by polling only");
            })
            .ok();
        let mut watcher = Self {
            system,
            changes,
            directories: BTreeSet::new(),
            poll: POLL,
            seen,
        };
        watcher.follow_directories();
        watcher
    }

    /// What the latest load consisted of.
    pub(crate) fn watched(&self) -> &Watched {
        &self.seen.watched
    }

    /// Watches what a newly loaded configuration consists of.
    pub(crate) fn follow(&mut self, seen: Seen) {
        self.seen = seen;
        self.follow_directories();
    }

    fn follow_directories(&mut self) {
        // Adding a watch is a system call that may hang on a file system that does.
        block_in_place(|| {
            let wanted = directories(&self.seen.watched);
            let Some(system) = &mut self.system else {
                return;
            };
            // All anew: a directory that was removed and made again is another one to the system.
            for former in &self.directories {
                let _ = system.unwatch(former);
            }
            self.poll = POLL;
            for directory in &wanted {
                if let Err(error) = system.watch(directory, RecursiveMode::NonRecursive) {
                    self.poll = POLL_UNWATCHED;
                    // Told when it begins.
                    if !self.directories.contains(directory) {
                        let (directory, poll_seconds) = (directory.display(), self.poll.as_secs());
                        warn!(%directory, %error, poll_seconds, "changes are noticed by polling only");
                    }
                }
            }
            self.directories = wanted;
        });
    }

    /// Waits until a file of the configuration has changed.
    ///
    /// # Cancel safety
    /// A change that was noticed already may be forgotten, until the next load compares.
    pub(crate) async fn changed(&mut self) -> Change {
        if !self.seen.is_sure {
            tokio::time::sleep(QUIET).await;
            return Change::Unsure;
        }
        loop {
            match timeout(self.poll, self.changes.recv()).await {
                Ok(Some(())) => self.wait_for_quiet().await,
                Ok(None) => tokio::time::sleep(POLL).await,
                Err(_) => {}
            }
            let watched = self.seen.watched.clone();
            let now = spawn_blocking(move || watched.fingerprint()).await;
            match now {
                Ok(now) if now == self.seen.fingerprint => {}
                Ok(_) => return Change::Files,
                Err(error) => debug!(error = why(error), "files could not be looked at"),
            }
        }
    }

    async fn wait_for_quiet(&mut self) {
        let quiet = async { while let Ok(Some(())) = timeout(QUIET, self.changes.recv()).await {} };
        let _ = timeout(LONGEST_WAIT, quiet).await;
    }
}

/// The directories in which a change of `watched` shows: those of the files, and where links are on the way, those of the
/// links and of what they lead to.
fn directories(watched: &Watched) -> BTreeSet<PathBuf> {
    let mut wanted = BTreeSet::new();
    for file in &watched.files {
        wanted.insert(parent(file));
        if file.is_symlink()
            && let Ok(target) = file.canonicalize()
        {
            wanted.insert(parent(&target));
        }
    }
    for directory in &watched.directories {
        wanted.insert(directory.clone());
        if directory.is_symlink() {
            wanted.insert(parent(directory));
        }
    }
    // The empty path is the working directory.
    let here = |path: PathBuf| match path.as_os_str().is_empty() {
        true => PathBuf::from("."),
        false => path,
    };
    wanted.into_iter().map(here).collect()
}

fn parent(path: &Path) -> PathBuf {
    path.parent().unwrap_or(path).to_owned()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn watched(directory: &Path) -> Watched {
        let mut watched = Watched::default();
        watched.files.push(directory.join("a.json"));
        watched.directories.push(directory.to_owned());
        watched
    }

    /// A directory with `a.json`, and what there is to watch.
    fn files() -> (tempfile::TempDir, Watched) {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("a.json"), "1").unwrap();
        let watched = watched(directory.path());
        (directory, watched)
    }

    fn old() -> SystemTime {
        SystemTime::now() + 2 * CLOCK_MARGIN
    }

    #[test]
    fn a_fingerprint_from_before_the_load_is_kept_where_the_files_are_the_same() {
        let (directory, watched) = files();
        let before = watched.fingerprint();
        fs::write(directory.path().join("a.json"), "changed").unwrap();
        let known = Some((before.clone(), watched.clone()));
        let seen = Seen::new(&watched, known, SystemTime::now());
        assert!(seen.is_sure && seen.fingerprint == before);

        let other = Some((before.clone(), Watched::default()));
        let seen = Seen::new(&watched, other, SystemTime::now());
        assert!(!seen.is_sure && seen.fingerprint != before);
        let seen = Seen::new(&watched, None, old());
        assert!(seen.is_sure);
    }

    #[test]
    fn links_are_watched_at_both_ends() {
        let (directory, _) = files();
        let (elsewhere, _) = files();
        let path = directory.path().canonicalize().unwrap();
        let target = elsewhere.path().canonicalize().unwrap();
        let link = path.join("link");
        symlink(&target, &link).unwrap();
        symlink(target.join("a.json"), path.join("b.json")).unwrap();
        let mut watched = Watched::default();
        watched.directories.push(link.clone());
        watched.files.push(path.join("b.json"));
        watched.files.push("c.json".into());
        let expected = [PathBuf::from("."), path, target, link];
        assert_eq!(directories(&watched), expected.into_iter().collect());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_change_is_noticed_and_a_look_is_not() {
        let (directory, watched) = files();
        let file = directory.path().join("a.json");
        let mut watcher = Watcher::new(Seen::new(&watched, None, old()));
        fs::read(&file).unwrap();
        assert!(timeout(2 * QUIET, watcher.changed()).await.is_err());
        fs::write(&file, "changed").unwrap();
        assert_eq!(watcher.changed().await, Change::Files);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_directory_that_is_made_again_is_noticed_within_seconds() {
        let (directory, watched) = files();
        let path = directory.path().to_owned();
        let mut watcher = Watcher::new(Seen::new(&watched, None, old()));
        fs::remove_dir_all(&path).unwrap();
        assert_eq!(watcher.changed().await, Change::Files);
        watcher.follow(Seen::new(&watched, None, old()));
        fs::create_dir(&path).unwrap();
        fs::write(path.join("a.json"), "2").unwrap();
        let noticed = timeout(POLL / 2, watcher.changed()).await;
        assert_eq!(noticed.unwrap(), Change::Files);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_load_of_files_that_are_new_is_done_again() {
        let (_directory, watched) = files();
        let seen = Seen::new(&watched, None, SystemTime::now());
        let mut watcher = Watcher::new(seen);
        assert_eq!(watcher.changed().await, Change::Unsure);
        let known = Some((watched.fingerprint(), watched.clone()));
        watcher.follow(Seen::new(&watched, known, SystemTime::now()));
        assert!(timeout(2 * QUIET, watcher.changed()).await.is_err());
    }
}
