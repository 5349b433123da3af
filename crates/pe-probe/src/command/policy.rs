//! Which programs may be run. None, unless whoever makes the scrapers says so.

use std::path::{Path, PathBuf};

use rustix::fs::getxattr;

/// Programs that may be run.
#[derive(Debug, Clone, Default)]
pub(super) struct Policy {
    /// Programs, and directories of programs.
    pub(super) allowed: Vec<PathBuf>,
    /// What a user can do about a refusal.
    pub(super) advice: String,
}

impl Policy {
    /// Why a program may not be run, if so.
    pub(super) fn refuse(&self, program: &Path) -> Option<String> {
        let advice = match self.advice.as_str() {
            "" => String::new(),
            advice => format!("; {advice}"),
        };
        let shown = program.display();
        if self.allowed.is_empty() {
            return Some(format!("{shown} is not run: no program is allowed{advice}"));
        }
        // Links are followed on both sides, as the kernel does. What is not there yet is compared as it is written.
        let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let program = real(program);
        let is_allowed = self
            .allowed
            .iter()
            .any(|path| program.starts_with(real(path)));
        (!is_allowed).then(|| {
            let allowed: Vec<_> = self
                .allowed
                .iter()
                .map(|path| path.display().to_string())
                .collect();
            format!(
                "{shown} is not run: it is not below what is allowed, {}{advice}",
                allowed.join(", ")
            )
        })
    }
}

/// What a program takes from its file that a command does not get, in words.
pub(super) fn rights_of_file(program: &Path) -> Option<&'static str> {
    use std::os::unix::fs::MetadataExt;
    let mode = program.metadata().ok()?.mode();
    if mode & 0o4000 != 0 {
        return Some("the user that owns its file (setuid)");
    }
    // Without the right to execute for the group, the bit means something else.
    if mode & 0o2010 == 0o2010 {
        return Some("the group of its file (setgid)");
    }
    let mut value = [0_u8; 64];
    let read = getxattr(program, "security.capability", &mut value);
    read.is_ok_and(|length| length > 0)
        .then_some("the capabilities of its file")
}

/// Why a program cannot be run as it is, if so.
pub(super) fn defect(program: &Path) -> Option<String> {
    use std::os::unix::fs::PermissionsExt;
    let shown = program.display();
    match program.metadata() {
        Err(error) => Some(format!("cannot find {shown}: {error}")),
        Ok(found) if !found.is_file() => Some(format!("{shown} is no file")),
        Ok(found) if found.permissions().mode() & 0o111 == 0 => {
            Some(format!("{shown} is not executable"))
        }
        Ok(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn only_what_is_allowed_is_run_and_links_do_not_lead_out() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::create_dir(at("plugins")).unwrap();
        for file in ["plugins/check", "other"] {
            fs::write(at(file), "").unwrap();
        }
        symlink(at("other"), at("plugins/link")).unwrap();
        symlink(at("plugins"), at("alias")).unwrap();
        let policy = |allowed: &[&str]| Policy {
            allowed: allowed.iter().map(|name| at(name)).collect(),
            advice: "ask".to_owned(),
        };
        let allows =
            |allowed: &[&str], program: &str| policy(allowed).refuse(&at(program)).is_none();
        assert!(allows(&["plugins"], "plugins/check"));
        assert!(allows(&["alias"], "plugins/check"));
        assert!(allows(&["plugins"], "alias/check"));
        assert!(allows(&["plugins/check"], "plugins/check"));
        assert!(allows(&["plugins"], "plugins/later"));
        assert!(!allows(&["plugins"], "plugins/link"));
        assert!(!allows(&["plugins"], "plugins/../other"));
        assert!(!allows(&["plugins/check"], "plugins/checkers"));
        let told = policy(&[]).refuse(Path::new("/bin/sh")).unwrap();
        assert_eq!(told, "/bin/sh is not run: no program is allowed; ask");
    }

    #[test]
    fn rights_that_a_file_gives_are_seen() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("check");
        fs::write(&file, "").unwrap();
        let mode = |mode| fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        mode(0o755);
        assert_eq!(rights_of_file(&file), None);
        mode(0o4755);
        assert!(rights_of_file(&file).unwrap().contains("setuid"));
        mode(0o2755);
        assert!(rights_of_file(&file).unwrap().contains("setgid"));
        mode(0o644);
        assert!(defect(&file).unwrap().ends_with("is not executable"));
        assert!(defect(directory.path()).unwrap().ends_with("is no file"));
        assert!(
            defect(&directory.path().join("nosuch"))
                .unwrap()
                .starts_with("cannot find")
        );
    }
}
