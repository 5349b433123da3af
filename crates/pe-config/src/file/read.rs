//! Reading files from the disk.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// The bytes of a regular file (or a link to one). Anything else is refused before it is opened: a named
/// pipe would block for ever.
///
/// # Errors
/// With a text that says what is wrong with the file.
pub(crate) fn regular_file(path: &Path) -> io::Result<Vec<u8>> {
    let metadata = std::fs::metadata(path).map_err(|error| explain(&error))?;
    if metadata.is_dir() {
        return Err(io::Error::new(
            io::ErrorKind::IsADirectory,
            "is a directory, not a file",
        ));
    }
    if !metadata.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "is not a regular file",
        ));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0));
    File::open(path)
        .and_then(|mut file| file.read_to_end(&mut bytes))
        .map_err(|error| explain(&error))?;
    Ok(bytes)
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
