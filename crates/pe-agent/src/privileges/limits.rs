//! Landlock: where files may be written, and which may be executed.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, AccessFs, BitFlags, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetError, RulesetStatus,
};

/// The newest version of Landlock whose file rights are known here; an older kernel limits what it can.
const VERSION: ABI = ABI::V5;

/// What a program may write to wherever it runs: a child's output that nobody wants.
const NULL: &str = "/dev/null";

/// What files may be used for.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Allowed<'a> {
    /// Directories below which files may be written. Where one is not there yet, its nearest parent that is there is opened
    /// instead, since the directory may be made later.
    pub(super) writable: &'a [PathBuf],
    /// Files, and directories below which all files may be executed. What is not there is left out.
    pub(super) executable: &'a [PathBuf],
}

/// Forbids this thread, and those that it starts, to write and to execute files, but for what is allowed.
///
/// Returns whether that holds now: a kernel without Landlock limits nothing.
///
/// # Errors
/// When the rules cannot be made.
pub(super) fn limit_files(allowed: Allowed<'_>) -> Result<bool, RulesetError> {
    let limited = AccessFs::from_write(VERSION) | AccessFs::Execute;
    let mut rules = Ruleset::default().handle_access(limited)?.create()?;
    for path in allowed.writable {
        if let Some(directory) = nearest(path) {
            rules = rules.add_rule(PathBeneath::new(directory, AccessFs::from_write(VERSION)))?;
        }
    }
    for path in allowed.executable {
        if let Ok(opened) = PathFd::new(path) {
            rules = rules.add_rule(PathBeneath::new(opened, AccessFs::Execute))?;
        }
    }
    if let Ok(null) = PathFd::new(NULL) {
        let write: BitFlags<AccessFs> = AccessFs::WriteFile | AccessFs::Truncate;
        rules = rules.add_rule(PathBeneath::new(null, write))?;
    }
    let status = rules.restrict_self()?;
    Ok(status.ruleset != RulesetStatus::NotEnforced)
}

/// The directory, or its nearest parent that is there.
fn nearest(path: &Path) -> Option<PathFd> {
    let path = std::path::absolute(path).ok()?;
    path.ancestors().find_map(|path| PathFd::new(path).ok())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::ErrorKind;
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    use super::*;

    #[test]
    fn files_are_written_where_they_may_be_and_read_everywhere() {
        let directory = tempfile::tempdir().unwrap();
        let (open, closed) = (
            directory.path().join("open"),
            directory.path().join("closed"),
        );
        for directory in [&open, &closed] {
            fs::create_dir(directory).unwrap();
            fs::write(directory.join("old"), "old").unwrap();
        }
        let later = open.join("later/state");
        // The rules hold for this thread alone.
        let limited = std::thread::spawn(move || {
            let allowed = Allowed {
                writable: std::slice::from_ref(&later),
                ..Allowed::default()
            };
            if !limit_files(allowed).unwrap() {
                return pe_testkit::skip("landlock", "the kernel has no Landlock");
            }
            fs::create_dir_all(&later).unwrap();
            fs::write(later.join("new"), "new").unwrap();
            fs::rename(later.join("new"), later.join("newer")).unwrap();
            fs::write("/dev/null", "nothing").unwrap();
            assert_eq!(fs::read(closed.join("old")).unwrap(), b"old");
            let refused = |result: std::io::Result<()>| {
                assert_eq!(result.unwrap_err().kind(), ErrorKind::PermissionDenied);
            };
            refused(fs::write(closed.join("new"), "new"));
            refused(fs::write(closed.join("old"), "new"));
            refused(fs::remove_file(closed.join("old")));
            refused(Command::new("/bin/true").status().map(drop));
        });
        limited.join().unwrap();
    }

    #[test]
    fn only_what_is_allowed_is_executed() {
        let directory = tempfile::tempdir().unwrap();
        let plugin = directory.path().join("plugin");
        fs::write(
            &plugin,
            "#!/bin/sh\n[ \"$1\" = run ] && exit 7\n/bin/true\n",
        )
        .unwrap();
        fs::set_permissions(&plugin, fs::Permissions::from_mode(0o755)).unwrap();
        let limited = std::thread::spawn(move || {
            let plugins = [plugin.clone()];
            let mut executable: Vec<PathBuf> = plugins.to_vec();
            executable.extend(super::super::interpreters::of(&plugins));
            let allowed = Allowed {
                executable: &executable,
                ..Allowed::default()
            };
            if !limit_files(allowed).unwrap() {
                return pe_testkit::skip("landlock", "the kernel has no Landlock");
            }
            let code =
                |argument: &str| Command::new(&plugin).arg(argument).status().unwrap().code();
            assert_eq!(code("run"), Some(7));
            // The plugin may start nothing else: a shell says so by 126.
            assert_eq!(code("others"), Some(126));
            let refused = Command::new("/bin/true").status().unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::PermissionDenied);
        });
        limited.join().unwrap();
    }
}
