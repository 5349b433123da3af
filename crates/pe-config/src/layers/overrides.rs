//! Settings from the command line.

use std::fmt;

use pe_scrape::SinkRegistry;
use pe_scrape::settings::{Problem, nearest};

use super::Section;
use crate::file::DiagnosticsBuilder;

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
