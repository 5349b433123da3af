//! The disk: what is read from it, and what to watch for changes.

use std::ffi::OsString;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Most bytes of a file that holds devices: a million of them take some 150 MB.
pub(crate) const MOST_BYTES: u64 = 256 << 20;

/// Most bytes of a file that holds one secret.
pub(crate) const MOST_SECRET_BYTES: u64 = 64 << 10;

/// The bytes of a regular file (or a link to one), `most` of them at most. Anything else is refused before it is opened: a
/// named pipe would block for ever, and a device may do anything.
///
/// # Errors
/// With a text that says what is wrong with the file.
pub(crate) fn regular_file(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    refuse(
        &std::fs::metadata(path).map_err(|error| explain(&error))?,
        most,
    )?;
    let file = open(path).map_err(|error| explain(&error))?;
    // It may be another one by now.
    let metadata = file.metadata().map_err(|error| explain(&error))?;
    refuse(&metadata, most)?;
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0));
    // It may grow while it is read, and some files tell no length.
    let read = file.take(most + 1).read_to_end(&mut bytes);
    match read {
        Ok(length) if length as u64 > most => Err(too_large(most)),
        Ok(_) => Ok(bytes),
        Err(error) => Err(explain(&error)),
    }
}

/// Opens a file for reading. A pipe that has taken its place makes nobody wait.
fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.custom_flags(rustix::fs::OFlags::NONBLOCK.bits() as i32);
    }
    options.open(path)
}

fn refuse(metadata: &Metadata, most: u64) -> io::Result<()> {
    let (kind, text) = if metadata.is_dir() {
        (io::ErrorKind::IsADirectory, "is a directory, not a file")
    } else if !metadata.is_file() {
        (io::ErrorKind::InvalidInput, "is not a regular file")
    } else if metadata.len() > most {
        return Err(too_large(most));
    } else {
        return Ok(());
    };
    Err(io::Error::new(kind, text))
}

fn too_large(most: u64) -> io::Error {
    let text = match most >> 20 {
        0 => format!("is larger than {} KiB", most >> 10),
        mebibytes => format!("is larger than {mebibytes} MiB"),
    };
    io::Error::new(io::ErrorKind::FileTooLarge, text)
}

/// An error in words that do not differ between systems.
pub(crate) fn explain(error: &io::Error) -> io::Error {
    let text = match error.kind() {
        io::ErrorKind::NotFound => "does not exist".to_owned(),
        io::ErrorKind::PermissionDenied => "may not be read by this user".to_owned(),
        _ => format!("cannot be read: {error}"),
    };
    io::Error::new(error.kind(), text)
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_may_have_as_many_bytes_as_are_allowed_and_no_more() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, "12345").unwrap();
        assert_eq!(regular_file(&path, 5).unwrap(), b"12345");
        let refused = regular_file(&path, 4).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::FileTooLarge);
        // It tells no length.
        let endless = regular_file(Path::new("/proc/self/maps"), 100).unwrap_err();
        assert_eq!(endless.to_string(), "is larger than 0 KiB");
    }
}
