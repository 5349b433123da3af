//! What is laid over the files: `PINGEXPORTER_…` environment variables, and flags of the command line.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt;

use pe_scrape::SinkRegistry;
use pe_scrape::settings::{Problem, nearest};

use super::{PREFIX, Section};
use crate::file::DiagnosticsBuilder;

/// Environment variables: settings are those that start with `PINGEXPORTER_`, and external labels may refer to any. Those that
/// are empty count as not set.
///
/// `Debug` shows names only, and those of settings: one of the variables holds a password.
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

    /// The value of the variable `name`, unless it is empty.
    pub(crate) fn variable(&self, name: &str) -> Option<&OsString> {
        self.variables.get(name).filter(|value| !value.is_empty())
    }

    /// Names of the variables that are settings, known or not. An empty one counts as not set.
    fn settings(&self) -> impl Iterator<Item = &String> {
        let set = self.variables.iter().filter(|(_, value)| !value.is_empty());
        set.map(|(name, _)| name)
            .filter(|name| name.starts_with(PREFIX))
    }

    /// The text of the variable `name`, if it is set and not empty; reports a value that is not UTF-8.
    pub(super) fn text(&self, name: &str, found: &DiagnosticsBuilder) -> Option<&str> {
        let text = self.variable(name)?.to_str();
        if text.is_none() {
            found.push_named(name, Problem::error("not UTF-8 text"));
        }
        text
    }

    /// Warns about variables that mean nothing.
    pub(crate) fn report_unknown(&self, sinks: &SinkRegistry, found: &DiagnosticsBuilder) {
        let mut known = Self::variables(sinks);
        known.extend(self.others.iter().cloned());
        for name in self.settings().filter(|name| !known.contains(name)) {
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
            .collect();
        Self {
            variables,
            others: BTreeSet::new(),
        }
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.settings()).finish()
    }
}

/// Settings given on the command line, the uppermost layer.
///
/// `Debug` shows keys only: one of the values may be a password.
///
/// ```
/// let overrides = pe_config::Overrides::new()
///     .set("--set push.grouping", "push.grouping", "config")
///     .set("--interval", "conf.interval", "10s");
/// # let _ = overrides;
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Overrides(Vec<Override>);

#[derive(Clone, PartialEq, Eq)]
struct Override {
    flag: String,
    key: String,
    value: String,
}

impl Overrides {
    /// No settings.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets `key` to `value`, in the name of `flag`, which stands in messages about the value.
    ///
    /// `key` is `push.` and a key of the push configuration, or `conf.` and a key of `conf`, such as `conf.pacer.rate`; the
    /// latter is set for all group files. A later setting of the same key wins. That there is no such key, or that it is
    /// set in files only, is told by the load.
    #[must_use]
    pub fn set(
        mut self,
        flag: impl Into<String>,
        key: impl Into<String>,
        value: impl Into<String>,
    ) -> Self {
        self.0.push(Override {
            flag: flag.into(),
            key: key.into(),
            value: value.into(),
        });
        self
    }

    /// The flag and the text of the setting of `path` within `section`.
    pub(super) fn find(&self, section: &str, path: &str) -> Option<(&str, &str)> {
        let mut overrides = self.0.iter().rev();
        let found = overrides.find(|over| {
            let rest = over.key.strip_prefix(section);
            rest.and_then(|rest| rest.strip_prefix('.')) == Some(path)
        })?;
        Some((&found.flag, &found.value))
    }

    /// Reports keys that are no setting.
    pub(crate) fn report_unknown(&self, sinks: &SinkRegistry, found: &DiagnosticsBuilder) {
        let sections = [Section::push(sinks), Section::conf()];
        let names = sections.iter().flat_map(Section::names);
        let known: Vec<String> = names.map(|(key, _)| key).collect();
        let file_only = |key: &str| {
            sections.iter().any(|section| {
                let mut keys = section.file_only.iter();
                keys.any(|other| key == format!("{}.{other}", section.name))
            })
        };
        for over in self.0.iter().filter(|over| !known.contains(&over.key)) {
            let key = &over.key;
            let problem = if file_only(key) {
                Problem::error(format!("`{key}` can be set in files only"))
            } else {
                let hint = nearest(key, known.iter().map(String::as_str))
                    .map(|nearest| format!("did you mean `{nearest}`?"));
                Problem::error(format!("there is no setting `{key}`")).hint(hint)
            };
            found.push_named(&over.flag, problem);
        }
    }
}

impl fmt::Debug for Overrides {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = self.0.iter().map(|over| &over.key);
        f.debug_set().entries(keys).finish()
    }
}
