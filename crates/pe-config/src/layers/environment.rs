//! Settings from `PINGEXPORTER_…` environment variables.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt;

use pe_scrape::SinkRegistry;
use pe_scrape::settings::{Problem, nearest};

use super::{PREFIX, Section};
use crate::file::DiagnosticsBuilder;

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
    #[must_use]
    pub fn process() -> Self {
        std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
            .collect()
    }

    /// No variables at all.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// Names of all variables that are settings of the files. Those of the push configuration depend on the settings of the
    /// sink `pushgateway`.
    #[must_use]
    pub fn variables(sinks: &SinkRegistry) -> Vec<String> {
        let sections = [Section::push(sinks), Section::conf()];
        let names = sections.iter().flat_map(Section::names);
        names.map(|(_, variable)| variable.to_owned()).collect()
    }

    /// Declares variables that the program knows and that are not settings of the files, so that they draw no warning.
    #[must_use]
    pub fn with_others<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.others.extend(names.into_iter().map(Into::into));
        self
    }

    /// The text of the variable `name`, if it is set and not empty; reports a value that is not UTF-8.
    pub(super) fn text(&self, name: &str, found: &DiagnosticsBuilder) -> Option<&str> {
        let value = self.variables.get(name)?;
        let text = value.to_str();
        if text.is_none() {
            found.push_named(name, Problem::error("not UTF-8 text"));
        }
        text.filter(|text| !text.is_empty())
    }

    /// Warns about variables that mean nothing.
    pub(crate) fn report_unknown(&self, sinks: &SinkRegistry, found: &DiagnosticsBuilder) {
        let mut known = Self::variables(sinks);
        known.extend(self.others.iter().cloned());
        for name in self.variables.keys().filter(|name| !known.contains(name)) {
            let names = known.iter().filter_map(|name| name.strip_prefix(PREFIX));
            let hint = nearest(name.strip_prefix(PREFIX).unwrap_or(name), names)
                .map(|nearest| format!("did you mean `{PREFIX}{nearest}`?"));
            let problem = Problem::error("unknown environment variable, ignored").hint(hint);
            found.push_named(name, problem.warning());
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
