//! What to watch for changes of the configuration.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Files and directories of which a change may change the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Watched {
    /// Files that were read or should have been, sorted. A file may be replaced by renaming another one,
    /// so a watch on the file alone misses changes: watch its directory too.
    pub files: Vec<PathBuf>,
    /// Directories in which files may appear or vanish, sorted.
    pub directories: Vec<PathBuf>,
}

impl Watched {
    /// Sorts the paths and drops repetitions.
    pub(crate) fn tidy(&mut self) {
        for paths in [&mut self.files, &mut self.directories] {
            paths.sort();
            paths.dedup();
        }
    }

    /// The state of all of it now, for those who poll: two fingerprints differ when a file was written,
    /// replaced, added or removed between them. Costs one system call for each file, and a listing of each
    /// directory.
    pub fn fingerprint(&self) -> Fingerprint {
        let files = self.files.iter().map(|path| stamp(path)).collect();
        let directories = self
            .directories
            .iter()
            .map(|path| configuration_files(path))
            .collect();
        Fingerprint { files, directories }
    }
}

/// The state of [`Watched`] files and directories at a moment. Worth nothing but to be compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint {
    files: Vec<Option<Stamp>>,
    directories: Vec<Option<Vec<OsString>>>,
}

/// What changes when a file is written or replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    length: u64,
    inode: u64,
}

fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = std::fs::metadata(path).ok()?;
    #[cfg(unix)]
    let inode = std::os::unix::fs::MetadataExt::ino(&metadata);
    #[cfg(not(unix))]
    let inode = 0;
    Some(Stamp {
        modified: metadata.modified().ok(),
        length: metadata.len(),
        inode,
    })
}

/// Names of the files in a directory that may be group or targets files, sorted; `None` when it cannot be listed.
fn configuration_files(directory: &Path) -> Option<Vec<OsString>> {
    let here = match directory.as_os_str().is_empty() {
        true => Path::new("."),
        false => directory,
    };
    let mut names: Vec<OsString> = std::fs::read_dir(here)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.file_name()))
        .filter(|name| {
            Path::new(name).extension().is_some_and(|extension| {
                ["json", "yml", "yaml"]
                    .iter()
                    .any(|known| extension == *known)
            })
        })
        .collect();
    names.sort();
    Some(names)
}
