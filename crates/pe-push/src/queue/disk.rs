//! What the queue needs of a file system: a few operations on files of one directory.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Files of one directory, by name. What was not synchronised may be lost in a crash, in any part; that a file exists survives
/// one once the directory was synchronised.
pub trait Disk: Send {
    /// Names and lengths of all files.
    ///
    /// # Errors
    /// When the directory cannot be read.
    fn list(&mut self) -> io::Result<Vec<(String, u64)>>;

    /// Makes an empty file; one of that name is emptied.
    ///
    /// # Errors
    /// When it cannot.
    fn create(&mut self, name: &str) -> io::Result<()>;

    /// Appends to a file. When it fails, any part may have been written.
    ///
    /// # Errors
    /// When not all was written: `StorageFull` if there is no room.
    fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()>;

    /// Makes what a file holds survive a crash.
    ///
    /// # Errors
    /// When that is not certain.
    fn sync(&mut self, name: &str) -> io::Result<()>;

    /// Makes which files exist survive a crash.
    ///
    /// # Errors
    /// When that is not certain.
    fn sync_directory(&mut self) -> io::Result<()>;

    /// Reads from `offset` on, as much as there is and fits; 0 at the end.
    ///
    /// # Errors
    /// When it cannot.
    fn read(&mut self, name: &str, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;

    /// Removes a file.
    ///
    /// # Errors
    /// When it cannot.
    fn remove(&mut self, name: &str) -> io::Result<()>;
}

/// A directory of the file system.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    /// The file that was appended to last, open.
    writing: Option<(String, File)>,
    /// The file that was read last, open.
    reading: Option<(String, File)>,
}

impl Directory {
    /// The directory at `path`, made if there is none.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        fs::create_dir_all(&path)?;
        Ok(Self::existing(path))
    }

    /// The directory at `path`, for reading: nothing is made.
    pub fn existing(path: impl AsRef<Path>) -> Self {
        Self {
            path: path.as_ref().to_owned(),
            writing: None,
            reading: None,
        }
    }
}

/// The open file of that name: the one in `slot`, else a new one.
fn opened<'f>(
    slot: &'f mut Option<(String, File)>,
    name: &str,
    open: impl FnOnce() -> io::Result<File>,
) -> io::Result<&'f mut File> {
    let held = slot.take().filter(|(held, _)| held == name);
    let file = match held {
        Some((_, file)) => file,
        None => open()?,
    };
    Ok(&mut slot.insert((name.to_owned(), file)).1)
}

impl Disk for Directory {
    fn list(&mut self) -> io::Result<Vec<(String, u64)>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            if let (true, Ok(name)) = (metadata.is_file(), entry.file_name().into_string()) {
                files.push((name, metadata.len()));
            }
        }
        Ok(files)
    }

    fn create(&mut self, name: &str) -> io::Result<()> {
        let file = File::create(self.path.join(name))?;
        self.writing = Some((name.to_owned(), file));
        Ok(())
    }

    fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let path = self.path.join(name);
        let open = || OpenOptions::new().append(true).open(path);
        opened(&mut self.writing, name, open)?.write_all(bytes)
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        let path = self.path.join(name);
        let open = || OpenOptions::new().append(true).open(path);
        opened(&mut self.writing, name, open)?.sync_data()
    }

    fn sync_directory(&mut self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    fn read(&mut self, name: &str, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let path = self.path.join(name);
        let file = opened(&mut self.reading, name, || File::open(path))?;
        let mut length = 0;
        while length < buffer.len() {
            match file.read_at(&mut buffer[length..], offset + length as u64) {
                Ok(0) => break,
                Ok(read) => length += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(length)
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        for slot in [&mut self.writing, &mut self.reading] {
            slot.take_if(|(held, _)| held == name);
        }
        fs::remove_file(self.path.join(name))
    }
}

/// Files in memory: where there is no directory, a queue can do without. Clones are the same files.
#[derive(Debug, Clone, Default)]
pub struct MemoryDisk {
    files: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
}

impl MemoryDisk {
    /// No files.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Changes a byte.
    #[cfg(test)]
    pub(crate) fn flip(&self, name: &str, at: usize) {
        let mut files = self.files();
        files.get_mut(name).expect("a file")[at] ^= 0x10;
    }

    fn files(&self) -> MutexGuard<'_, BTreeMap<String, Vec<u8>>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn no_file() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl Disk for MemoryDisk {
    fn list(&mut self) -> io::Result<Vec<(String, u64)>> {
        let files = self.files();
        let files = files.iter();
        Ok(files
            .map(|(name, bytes)| (name.clone(), bytes.len() as u64))
            .collect())
    }

    fn create(&mut self, name: &str) -> io::Result<()> {
        self.files().insert(name.to_owned(), Vec::new());
        Ok(())
    }

    fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut files = self.files();
        let file = files.get_mut(name).ok_or_else(no_file)?;
        file.extend_from_slice(bytes);
        Ok(())
    }

    fn sync(&mut self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn sync_directory(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn read(&mut self, name: &str, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let files = self.files();
        let file = files.get(name).ok_or_else(no_file)?;
        let start = usize::try_from(offset)
            .unwrap_or(usize::MAX)
            .min(file.len());
        let length = buffer.len().min(file.len() - start);
        buffer[..length].copy_from_slice(&file[start..start + length]);
        Ok(length)
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        let removed = self.files().remove(name);
        removed.map(drop).ok_or_else(no_file)
    }
}
