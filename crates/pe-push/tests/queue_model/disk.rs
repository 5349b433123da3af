//! A disk that behaves as badly as a real one may.
//!
//! What was written and not synchronised is lost or torn by a crash: a file has any length between what was synchronised and what
//! was written, and each sector there holds what was written, nothing, or rubbish. Whether a file that was made or removed is there
//! after a crash is open until the directory is synchronised, for each file alone. Beside crashes: bits that flip, a disk that is
//! full in the middle of a write, writes and synchronisations that fail.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use fastrand::Rng;
use pe_push::queue::Disk;

/// Bytes that reach a disk together.
const SECTOR: usize = 512;

/// A disk, and what survives a crash of its machine. Clones are the same disk.
#[derive(Clone)]
pub(crate) struct SimulatedDisk(Arc<Mutex<State>>);

struct State {
    rng: Rng,
    /// Files by number: as they are, and what is certain to survive.
    files: Vec<File>,
    names: BTreeMap<String, usize>,
    certain_names: BTreeMap<String, usize>,
    capacity: usize,
    failing: Option<Failure>,
}

#[derive(Default)]
struct File {
    bytes: Vec<u8>,
    certain: Vec<u8>,
    /// Whether it was emptied since it was synchronised.
    emptied: bool,
    /// What the disk has of the first bytes, since a synchronisation failed: the system forgets what it could not write.
    spoilt: Vec<u8>,
}

/// What fails next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Failure {
    Append,
    Sync,
    Create,
}

impl SimulatedDisk {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            rng: Rng::with_seed(seed),
            files: Vec::new(),
            names: BTreeMap::new(),
            certain_names: BTreeMap::new(),
            capacity: usize::MAX,
            failing: None,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Cuts the power.
    pub(crate) fn crash(&self) {
        let mut state = self.lock();
        let State {
            rng,
            files,
            names,
            certain_names,
            ..
        } = &mut *state;
        let all: BTreeSet<String> = names.keys().chain(certain_names.keys()).cloned().collect();
        for name in all {
            let (new, old) = (names.get(&name).copied(), certain_names.get(&name).copied());
            match if rng.bool() { new } else { old } {
                Some(file) => names.insert(name, file),
                None => names.remove(&name),
            };
        }
        certain_names.clone_from(names);
        for file in files {
            file.crash(rng);
        }
        state.failing = None;
    }

    /// Flips a bit of what is on the disk; returns the file's name.
    pub(crate) fn flip(&self) -> Option<String> {
        let mut state = self.lock();
        let State {
            rng, files, names, ..
        } = &mut *state;
        let names: Vec<_> = names.iter().collect();
        let (name, file) = names.get(rng.usize(..names.len().max(1)))?;
        let file = &mut files[**file];
        if file.bytes.is_empty() {
            return None;
        }
        let at = rng.usize(..file.bytes.len());
        let bit = 1 << rng.u8(..8);
        file.bytes[at] ^= bit;
        if let Some(byte) = file.certain.get_mut(at) {
            *byte = file.bytes[at];
        }
        Some((*name).clone())
    }

    /// The next operation of this kind fails.
    pub(crate) fn fail(&self, failure: Failure) {
        self.lock().failing = Some(failure);
    }

    /// So many bytes more have room; `None` for no end.
    pub(crate) fn set_room(&self, room: Option<usize>) {
        let mut state = self.lock();
        state.capacity = room.map_or(usize::MAX, |room| state.used() + room);
    }

    /// Names of the files that are there.
    pub(crate) fn names(&self) -> Vec<String> {
        self.lock().names.keys().cloned().collect()
    }
}

impl File {
    fn crash(&mut self, rng: &mut Rng) {
        if self.emptied && rng.bool() {
            // The disk never heard of it.
            self.bytes.clone_from(&self.certain);
            self.emptied = false;
            return;
        }
        let certain = if self.emptied { 0 } else { self.certain.len() };
        let length = rng.usize(certain..=self.bytes.len().max(certain));
        self.bytes.truncate(length);
        let mut start = certain;
        while start < length {
            let end = (start / SECTOR + 1) * SECTOR;
            let sector = &mut self.bytes[start..end.min(length)];
            match rng.u8(..6) {
                0 => sector.fill(0),
                1 => rng.fill(sector),
                _ => {}
            }
            start = end;
        }
        self.certain.clone_from(&self.bytes);
        self.emptied = false;
        self.spoilt.clear();
    }
}

impl State {
    fn used(&self) -> usize {
        let files = self
            .names
            .values()
            .map(|file| self.files[*file].bytes.len());
        files.sum()
    }

    fn fails(&mut self, failure: Failure) -> bool {
        let fails = self.failing == Some(failure);
        if fails {
            self.failing = None;
        }
        fails
    }

    fn file(&mut self, name: &str) -> io::Result<&mut File> {
        let file = self.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(&mut self.files[*file])
    }
}

/// An error of the medium.
fn medium() -> io::Error {
    io::Error::from_raw_os_error(5)
}

impl Disk for SimulatedDisk {
    fn list(&mut self) -> io::Result<Vec<(String, u64)>> {
        let state = self.lock();
        let names = state.names.iter();
        let files = names.map(|(name, file)| (name.clone(), state.files[*file].bytes.len() as u64));
        Ok(files.collect())
    }

    fn create(&mut self, name: &str) -> io::Result<()> {
        let mut state = self.lock();
        if state.fails(Failure::Create) {
            return Err(medium());
        }
        if let Ok(file) = state.file(name) {
            file.bytes.clear();
            file.spoilt.clear();
            file.emptied = true;
            return Ok(());
        }
        let number = state.files.len();
        state.files.push(File::default());
        state.names.insert(name.to_owned(), number);
        Ok(())
    }

    fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.lock();
        let room = state.capacity.saturating_sub(state.used());
        let failing = state.fails(Failure::Append);
        let part = state.rng.usize(..=bytes.len());
        let taken = if failing {
            part.min(room)
        } else {
            bytes.len().min(room)
        };
        state.file(name)?.bytes.extend_from_slice(&bytes[..taken]);
        match (failing, taken == bytes.len()) {
            (true, _) => Err(medium()),
            (false, false) => Err(io::ErrorKind::StorageFull.into()),
            (false, true) => Ok(()),
        }
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        let mut state = self.lock();
        let failing = state.fails(Failure::Sync);
        if failing {
            let State {
                rng, names, files, ..
            } = &mut *state;
            let file = &mut files[*names.get(name).ok_or(io::ErrorKind::NotFound)?];
            let seen = file.bytes.clone();
            file.crash(rng);
            file.spoilt = std::mem::replace(&mut file.bytes, seen);
            file.spoilt.resize(file.bytes.len(), 0);
            return Err(medium());
        }
        let file = state.file(name)?;
        file.certain.clone_from(&file.spoilt);
        file.certain
            .extend_from_slice(&file.bytes[file.spoilt.len()..]);
        file.emptied = false;
        Ok(())
    }

    fn sync_directory(&mut self) -> io::Result<()> {
        let mut state = self.lock();
        if state.fails(Failure::Sync) {
            return Err(medium());
        }
        state.certain_names = state.names.clone();
        Ok(())
    }

    fn read(&mut self, name: &str, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut state = self.lock();
        let file = state.file(name)?;
        let start = usize::try_from(offset).unwrap().min(file.bytes.len());
        let length = buffer.len().min(file.bytes.len() - start);
        buffer[..length].copy_from_slice(&file.bytes[start..start + length]);
        Ok(length)
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        let mut state = self.lock();
        let removed = state.names.remove(name);
        removed
            .map(|_| ())
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}
