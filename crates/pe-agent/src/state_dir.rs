//! Which directory holds what must survive a restart. Nothing is made or opened here.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

/// What a service manager sets, such as systemd for `StateDirectory=` (systemd.exec(5)): paths, with a colon between.
const VARIABLE: &str = "STATE_DIRECTORY";

/// Where state is kept if something must be kept and nobody said where, in the working directory.
const DEFAULT: &str = "pingexporter-data";

/// [`choose`], with the variable of this process.
pub(crate) fn choose_from_environment(
    given: Option<PathBuf>,
    is_needed: impl FnOnce() -> bool,
) -> Option<PathBuf> {
    choose(given, std::env::var_os(VARIABLE), is_needed)
}

/// The directory that was `given`, else the first of `variable`, else the default where one `is_needed`.
fn choose(
    given: Option<PathBuf>,
    variable: Option<OsString>,
    is_needed: impl FnOnce() -> bool,
) -> Option<PathBuf> {
    given
        .or_else(|| first_path(&variable?))
        .or_else(|| is_needed().then(|| DEFAULT.into()))
}

fn first_path(paths: &OsStr) -> Option<PathBuf> {
    let mut paths = paths.as_bytes().split(|byte| *byte == b':');
    let first = paths.find(|path| !path.is_empty())?;
    Some(OsString::from_vec(first.to_owned()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_was_given_comes_before_the_service_managers() {
        let chosen = |given: Option<&str>, variable: Option<&str>, needed: bool| {
            let chosen = choose(given.map(Into::into), variable.map(Into::into), || needed);
            chosen.map(|path| path.to_string_lossy().into_owned())
        };
        assert_eq!(chosen(Some("a"), Some("b:c"), true).as_deref(), Some("a"));
        assert_eq!(chosen(None, Some("/b:/c"), false).as_deref(), Some("/b"));
        assert_eq!(chosen(None, Some(":/c"), false).as_deref(), Some("/c"));
        for empty in [None, Some(""), Some(":")] {
            assert_eq!(chosen(None, empty, true).as_deref(), Some(DEFAULT));
            assert_eq!(chosen(None, empty, false), None);
        }
    }
}
