//! Tests that cannot run say so: on their own line, counted, and as a failure where `CI=true`.

use std::fmt;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::netns;

/// The environment variable that names a file to which every skipped test appends its line.
///
/// `cargo xtask test` sets it to count the skipped tests of all test programs of a run.
pub const SKIPS_FILE: &str = "PE_TESTKIT_SKIPS";

/// Something that a test needs from the machine it runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Need {
    /// The process runs as root.
    Root,
    /// The process may make network namespaces and the program `ip` is there to configure them.
    Namespaces,
    /// As [`Need::Namespaces`], and TUN devices can be made in them.
    Tun,
    /// A program of this name is found in `PATH` or in one of the `sbin` directories.
    Program(&'static str),
    /// A file is there that `cargo xtask packages` puts there.
    File(&'static str),
    /// The machine has IPv6 (`::1` can be bound).
    Ipv6,
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => f.write_str("needs root"),
            Self::Namespaces => f.write_str("needs network namespaces (root and iproute2)"),
            Self::Tun => f.write_str(
                "needs TUN devices in network namespaces (root, iproute2 and /dev/net/tun)",
            ),
            Self::Program(name) => write!(f, "needs the program `{name}`"),
            Self::File(path) => write!(f, "needs {path}, which `cargo xtask packages` installs"),
            Self::Ipv6 => f.write_str("needs IPv6 on the loopback interface"),
        }
    }
}

impl Need {
    /// Whether this machine and process have it.
    pub fn is_met(self) -> bool {
        match self {
            Self::Root => rustix::process::geteuid().is_root(),
            Self::Namespaces => {
                static MET: OnceLock<bool> = OnceLock::new();
                *MET.get_or_init(|| find_program("ip").is_some() && netns::available())
            }
            Self::Tun => Self::Namespaces.is_met() && Path::new("/dev/net/tun").exists(),
            Self::Program(name) => find_program(name).is_some(),
            Self::File(path) => Path::new(path).is_file(),
            Self::Ipv6 => std::net::UdpSocket::bind("[::1]:0").is_ok(),
        }
    }
}

/// Where the program `name` is: `PATH` first, then the `sbin` directories, which a user's `PATH`
/// often lacks.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file())
}

/// Whether all `needs` are met; if not, the test called `test` is reported as skipped.
///
/// Most tests use the macro [`require!`](crate::require!) instead, which knows the name of the test
/// and returns from it.
///
/// # Panics
/// Where a need is not met and `CI=true`.
pub fn require(test: &str, needs: &[Need]) -> bool {
    let missing: Vec<String> = needs
        .iter()
        .filter(|need| !need.is_met())
        .map(ToString::to_string)
        .collect();
    if missing.is_empty() {
        return true;
    }
    skip(test, &missing.join(", "));
    false
}

/// Reports that `test` cannot run, and why: a line `SKIPPED test: reason` on standard error (past the
/// capture of the test harness) and in the file that [`SKIPS_FILE`] names.
///
/// # Panics
/// Where `CI=true`: there nothing may be skipped. Also if the file of [`SKIPS_FILE`] cannot be
/// written, since the count would then be wrong.
pub fn skip(test: &str, reason: &str) {
    assert!(
        std::env::var_os("CI").is_none_or(|value| value != "true"),
        "{test} cannot run, and CI=true allows no skipped test: {reason}"
    );
    let line = format!("SKIPPED {test}: {reason}\n");
    // The harness captures `eprint!` only; a direct write is seen.
    let _ = std::io::stderr().lock().write_all(line.as_bytes());
    if let Some(file) = std::env::var_os(SKIPS_FILE) {
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(&file)
            .and_then(|mut file| file.write_all(line.as_bytes()))
            .unwrap_or_else(|error| {
                panic!(
                    "cannot count a skipped test in {}: {error}",
                    Path::new(&file).display()
                )
            });
    }
}

/// Returns from the calling test, reported as skipped, unless the machine has all that is listed.
///
/// The items are [`Need`](crate::Need)s by their bare names.
///
/// ```
/// // In a test:
/// fn pushes_to_a_real_gateway() {
///     pe_testkit::require!(Program("prometheus-pushgateway"));
///     // …
/// }
/// # fn also() { pe_testkit::require!(Root, Namespaces, Program("nft")); }
/// ```
#[macro_export]
macro_rules! require {
    ($($need:ident $(($argument:expr))?),+ $(,)?) => {{
        fn here() {}
        let name = ::std::any::type_name_of_val(&here);
        let name = name.strip_suffix("::here").unwrap_or(name);
        let name = name.strip_suffix("::{{closure}}").unwrap_or(name);
        if !$crate::require_needs(name, &[$($crate::Need::$need $(($argument))?),+]) {
            return;
        }
    }};
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_where_a_shell_would_find_them() {
        assert!(find_program("sh").is_some());
        assert!(find_program("no-such-program-anywhere").is_none());
        assert!(!Need::Program("no-such-program-anywhere").is_met());
    }

    #[test]
    fn a_skipped_test_is_written_to_the_skips_file_or_panics_in_ci() {
        // In a child process: the environment of this one is shared by all tests.
        let Some(shell) = std::env::current_exe().ok() else {
            panic!("no path of this program")
        };
        let file = tempfile::NamedTempFile::new().unwrap();
        let run = |ci: &str| {
            std::process::Command::new(&shell)
                .args(["--exact", "require::tests::child_that_skips", "--ignored"])
                .env(SKIPS_FILE, file.path())
                .env("CI", ci)
                .output()
                .unwrap()
        };
        let output = run("false");
        assert!(output.status.success());
        let expected = "SKIPPED pe_testkit::require::tests::child_that_skips: \
                        needs the program `no-such-program-anywhere`\n";
        assert_eq!(std::fs::read_to_string(file.path()).unwrap(), expected);
        assert!(String::from_utf8_lossy(&output.stderr).contains(expected));

        assert!(!run("true").status.success());
        assert_eq!(std::fs::read_to_string(file.path()).unwrap(), expected);
    }

    #[test]
    #[ignore = "run by a_skipped_test_is_written_to_the_skips_file_or_panics_in_ci"]
    fn child_that_skips() {
        crate::require!(Program("no-such-program-anywhere"));
        panic!("a need that is not met lets the test run");
    }
}
