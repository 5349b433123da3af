//! What has to be executed so that programs can run: the loader that a program's file names (ELF), and the interpreter of a
//! script.
//!
//! What a program starts by itself is not known from its file.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Bytes at the front of a file that are looked at. Linkers put what names the loader there.
const FRONT: u64 = 4096;

/// Files and directories that are looked at, at the most, so that a directory that is too large costs no more than a moment.
const MOST_FILES: usize = 10_000;

/// Where `env` finds programs that are named without a directory, when it has no `PATH`.
const PATH: [&str; 6] = [
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
];

/// What else has to be executed for these programs, and for those below these directories.
pub(super) fn of(programs: &[PathBuf]) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut open: Vec<PathBuf> = programs.to_vec();
    let mut looked_at = 0;
    while let Some(path) = open.pop() {
        looked_at += 1;
        if looked_at > MOST_FILES {
            break;
        }
        // Links to directories could lead in circles.
        let is_directory = match programs.contains(&path) {
            true => path.is_dir(),
            false => path.symlink_metadata().is_ok_and(|found| found.is_dir()),
        };
        if is_directory {
            let entries = fs::read_dir(&path).into_iter().flatten().flatten();
            open.extend(entries.map(|entry| entry.path()));
            continue;
        }
        for needed in front(&path).iter().flat_map(|front| needed_by(front)) {
            // An interpreter may need a loader.
            if found.insert(needed.clone()) {
                open.push(needed);
            }
        }
    }
    found
}

fn front(path: &Path) -> Option<Vec<u8>> {
    // A pipe or a device would be waited for.
    if !path.metadata().ok()?.is_file() {
        return None;
    }
    let mut front = Vec::new();
    let read = File::open(path).ok()?.take(FRONT).read_to_end(&mut front);
    read.ok().map(|_| front)
}

/// What the front of a file names: the interpreter of a script, and what that is told to run; or the loader of a program.
fn needed_by(front: &[u8]) -> Vec<PathBuf> {
    let Some(line) = front.strip_prefix(b"#!") else {
        return loader(front).into_iter().collect();
    };
    let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let mut words = line
        .split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty());
    let Some(interpreter) = words.next().map(path_of) else {
        return Vec::new();
    };
    let mut needed = vec![interpreter];
    if needed[0].file_name().is_some_and(|name| name == "env") {
        // Options and variables are not the program.
        let program = words.find(|word| !word.starts_with(b"-") && !word.contains(&b'='));
        if let Some(program) = program.map(path_of) {
            needed.extend(PATH.iter().map(|place| Path::new(place).join(&program)));
        }
    }
    needed.retain(|path| path.is_file());
    needed
}

fn path_of(bytes: &[u8]) -> PathBuf {
    Path::new(std::ffi::OsStr::from_bytes(bytes)).to_owned()
}

/// The loader that an ELF file names, of 64 or 32 bits in the byte order of this machine.
///
/// Source: `elf(5)`.
fn loader(front: &[u8]) -> Option<PathBuf> {
    const INTERPRETER: u64 = 3;
    front.strip_prefix(b"\x7fELF")?;
    let is_wide = *front.get(4)? == 2;
    let number = |at: usize, length: usize| -> Option<u64> {
        let bytes = front.get(at..at.checked_add(length)?)?;
        let mut wide = [0; 8];
        match cfg!(target_endian = "big") {
            true => {
                wide[8 - length..].copy_from_slice(bytes);
                Some(u64::from_be_bytes(wide))
            }
            false => {
                wide[..length].copy_from_slice(bytes);
                Some(u64::from_le_bytes(wide))
            }
        }
    };
    let word = if is_wide { 8 } else { 4 };
    let (table, size, count) = match is_wide {
        true => (number(32, word)?, number(54, 2)?, number(56, 2)?),
        false => (number(28, word)?, number(42, 2)?, number(44, 2)?),
    };
    let (offset, length) = if is_wide { (8, 32) } else { (4, 16) };
    for index in 0..count {
        let at = usize::try_from(table.checked_add(index.checked_mul(size)?)?).ok()?;
        if number(at, 4)? != INTERPRETER {
            continue;
        }
        let start = usize::try_from(number(at.checked_add(offset)?, word)?).ok()?;
        let length = usize::try_from(number(at.checked_add(length)?, word)?).ok()?;
        let name = front.get(start..start.checked_add(length)?)?;
        return Some(path_of(name.strip_suffix(b"\0").unwrap_or(name)));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loader_of_a_program_and_the_interpreter_of_a_script_are_found() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::create_dir(at("more")).unwrap();
        fs::write(at("script"), "#! /bin/sh -e\n").unwrap();
        fs::write(at("more/with-env"), "#!/usr/bin/env -S A=b sh\n").unwrap();
        fs::write(at("text"), "nothing").unwrap();
        std::os::unix::fs::symlink(directory.path(), at("more/circle")).unwrap();
        let found = of(&[directory.path().to_owned()]);
        for needed in ["/bin/sh", "/usr/bin/env", "/usr/bin/sh"] {
            assert!(found.contains(Path::new(needed)), "{needed}: {found:?}");
        }
        // That of the shell, however it is called on this machine.
        let own = of(&[PathBuf::from("/bin/sh")]);
        assert!(
            own.iter()
                .all(|loader| loader.is_file() && found.contains(loader)),
            "{own:?}"
        );
        assert!(!own.is_empty());
    }

    #[test]
    fn files_that_lie_are_no_trouble() {
        let mut lie = b"\x7fELF\x02".to_vec();
        lie.resize(128, 0xff);
        for end in 0..lie.len() {
            assert!(needed_by(&lie[..end]).is_empty());
        }
        lie[32..40].copy_from_slice(&64_u64.to_le_bytes());
        assert!(needed_by(&lie).is_empty());
        for text in ["#!", "#!\n", "#! \t", "#!/usr/bin/env", "#!/nosuch/program"] {
            let needed = needed_by(text.as_bytes());
            assert!(needed.iter().all(|path| path.ends_with("env")), "{text}");
        }
    }
}
