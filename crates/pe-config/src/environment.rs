//! Settings from `PINGEXPORTER_…` environment variables.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt;

use crate::diagnostic::{Diagnostic, Severity};
use crate::layers::{CONF_SETTINGS, PUSH_SETTINGS, Settings};
use crate::report::Report;
use crate::suggest;

/// What all our variables start with.
pub(crate) const PREFIX: &str = "PINGEXPORTER_";

/// Variables of the command line, which are not settings of the files.
const COMMAND_LINE: &[&str] = &[
    "PINGEXPORTER_CONFIGS",
    "PINGEXPORTER_LISTEN",
    "PINGEXPORTER_LOG_FORMAT",
    "PINGEXPORTER_PUSH_CONFIG",
];

/// The environment variables that start with `PINGEXPORTER_`. Those that are empty count as not set.
///
/// `Debug` shows names only: one of the variables holds a password.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Environment {
    variables: BTreeMap<String, OsString>,
    others: BTreeSet<String>,
}

impl Environment {
    /// The environment of this process.
    pub fn process() -> Self {
        std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
            .collect()
    }

    /// No variables at all.
    pub fn empty() -> Self {
        Self::default()
    }

    /// Names of all variables that are settings of the files.
    pub fn variables() -> Vec<String> {
        [PUSH_SETTINGS, CONF_SETTINGS]
            .iter()
            .flat_map(Settings::variables)
            .collect()
    }

    /// Declares variables that are known to the program and are not settings of the files, so that they
    /// draw no warning. Those of the standard command line are known already.
    #[must_use]
    pub fn with_others<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.others.extend(names.into_iter().map(Into::into));
        self
    }

    /// The text of the variable `name`, if it is set and not empty; reports a value that is not UTF-8.
    pub(crate) fn text(&self, name: &str, report: &Report) -> Option<&str> {
        let value = self.variables.get(name)?;
        let text = value.to_str();
        if text.is_none() {
            report.push(Diagnostic::named(
                Severity::Error,
                name,
                "not UTF-8 text",
                None,
            ));
        }
        text.filter(|text| !text.is_empty())
    }

    /// Warns about variables that mean nothing.
    pub(crate) fn report_unknown(&self, report: &Report) {
        let known: Vec<String> = Self::variables()
            .into_iter()
            .chain(COMMAND_LINE.iter().map(|name| (*name).to_owned()))
            .chain(self.others.iter().cloned())
            .collect();
        for name in self.variables.keys().filter(|name| !known.contains(name)) {
            let names = known.iter().filter_map(|name| name.strip_prefix(PREFIX));
            let hint = suggest::nearest(name.strip_prefix(PREFIX).unwrap_or(name), names)
                .map(|nearest| format!("did you mean `{PREFIX}{nearest}`?"));
            let message = "unknown environment variable, ignored";
            report.push(Diagnostic::named(Severity::Warning, name, message, hint));
        }
    }
}

impl<N: Into<String>, V: Into<OsString>> FromIterator<(N, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(variables: I) -> Self {
        let variables = variables
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()))
            .filter(|(name, _): &(String, OsString)| name.starts_with(PREFIX))
            .collect();
        Self {
            variables,
            others: BTreeSet::new(),
        }
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.variables.keys()).finish()
    }
}
