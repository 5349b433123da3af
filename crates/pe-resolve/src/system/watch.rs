//! Reading small files of the system, and noticing that they have changed.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Bytes of a file that are read at most: a hosts file with a hundred thousand names has 3 MB.
const LIMIT: u64 = 16 << 20;

/// What differs between two versions of a file; `None` while there is none.
pub(crate) type Fingerprint = Option<[i128; 5]>;

/// The fingerprint of the file that `path` leads to now.
pub(crate) fn fingerprint(path: &Path) -> Fingerprint {
    let data = fs::metadata(path).ok()?;
    let nanos = |seconds: i64, nanos: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
    Some([
        data.dev().into(),
        data.ino().into(),
        data.size().into(),
        nanos(data.mtime(), data.mtime_nsec()),
        nanos(data.ctime(), data.ctime_nsec()),
    ])
}

/// The bytes of a regular file; of what is none, as a pipe, nothing is read.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(LIMIT).read_to_end(&mut bytes)?;
    Ok(bytes)
}
