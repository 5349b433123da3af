//! Noticing that configuration files change.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use pe_config::{Fingerprint, Watched};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tracing::warn;

/// Files are often written in several steps: changes count when so much time has passed without another,
const QUIET: Duration = Duration::from_millis(300);
/// but no later than this, as something else in the directory may change all the time: a log, for instance.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// Watches the directories of a configuration's files, where new files appear and old ones are replaced by renaming.
pub(crate) struct Watcher {
    system: Option<RecommendedWatcher>,
    changes: mpsc::Receiver<()>,
    directories: BTreeSet<PathBuf>,
    watched: Watched,
    fingerprint: Fingerprint,
}

impl Watcher {
    pub(crate) fn new(watched: &Watched) -> Self {
        let (sender, changes) = mpsc::channel(1);
        let noticed = move |event: notify::Result<Event>| {
            // Our own reading is no change.
            let change = event.is_ok_and(|event| !matches!(event.kind, EventKind::Access(_)));
            if change {
                // A full channel means that a change is known already.
                let _ = sender.try_send(());
            }
        };
        let system = notify::recommended_watcher(noticed)
            .inspect_err(|error| warn!("changed files are not noticed, only SIGHUP is: {error}"))
            .ok();
        let mut watcher = Self {
            system,
            changes,
            directories: BTreeSet::new(),
            watched: watched.clone(),
            fingerprint: watched.fingerprint(),
        };
        watcher.follow(watched);
        watcher
    }

    /// Watches what a newly loaded configuration consists of.
    pub(crate) fn follow(&mut self, watched: &Watched) {
        if *watched != self.watched {
            self.watched = watched.clone();
            self.fingerprint = watched.fingerprint();
        }
        let parents = watched.files.iter().filter_map(|file| file.parent());
        let wanted: BTreeSet<PathBuf> = parents
            .chain(watched.directories.iter().map(PathBuf::as_path))
            .map(|directory| {
                if directory.as_os_str().is_empty() {
                    Path::new(".")
                } else {
                    directory
                }
            })
            .map(Path::to_owned)
            .collect();
        let Some(system) = &mut self.system else {
            return;
        };
        // All anew: a directory that was removed and made again is another one to the system.
        for former in &self.directories {
            let _ = system.unwatch(former);
        }
        for directory in &wanted {
            if let Err(error) = system.watch(directory, RecursiveMode::NonRecursive) {
                warn!(
                    "changes in {} are not noticed: {error}",
                    directory.display()
                );
            }
        }
        self.directories = wanted;
    }

    /// Takes the files' present state as known.
    pub(crate) fn mark(&mut self) {
        self.fingerprint = self.watched.fingerprint();
    }

    /// Waits until a file of the configuration has changed. Never returns where nothing can be watched.
    pub(crate) async fn changed(&mut self) {
        loop {
            if self.changes.recv().await.is_none() {
                std::future::pending::<()>().await;
            }
            let quiet =
                async { while let Ok(Some(())) = timeout(QUIET, self.changes.recv()).await {} };
            let _ = timeout(LONGEST_WAIT, quiet).await;
            let now = self.watched.fingerprint();
            if now != self.fingerprint {
                self.fingerprint = now;
                return;
            }
        }
    }
}
