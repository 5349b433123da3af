//! Reading files from the disk.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::path::Path;

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
