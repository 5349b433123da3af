//! Settings from several layers: defaults < file < environment < flags.
//!
//! figment merges the layers and remembers which of them each value came from, so that a problem with a
//! value is reported where it was written.

use figment::providers::Serialized;
use figment::value::{Dict, Map, Tag, Value};
use figment::{Figment, Metadata, Profile, Provider};
use jsonc_parser::ast;

use crate::diagnostic::{Diagnostic, Severity};
use crate::environment::{Environment, PREFIX};
use crate::fields;
use crate::report::{Report, Scope};

/// The settings of a kind of file that the environment and flags can override.
#[derive(Clone, Copy)]
pub(crate) struct Settings {
    /// The prefix of their keys among the flags: `push` or `conf`.
    pub(crate) section: &'static str,
    /// What stands between `PINGEXPORTER_` and the key in the name of a variable.
    infix: &'static str,
    /// Path of each setting within the object, parts joined by `.`.
    keys: &'static [&'static str],
    /// What holds where no layer says otherwise.
    defaults: fn() -> serde_json::Value,
}

/// Settings of the push configuration.
pub(crate) const PUSH_SETTINGS: Settings = Settings {
    section: "push",
    infix: "",
    keys: &[
        "ip_pushgateway",
        "port_pushgateway",
        "username_pushgateway",
        "pass_pushgateway",
        "pass_pushgateway_file",
        "grouping",
        "timeout_pushgateway",
        "max_parallel_pushes",
    ],
    defaults: || {
        serde_json::json!({
            "grouping": "device",
            "timeout_pushgateway": 10,
            "max_parallel_pushes": 8,
        })
    },
};

/// Settings of the `conf` object of a group file.
pub(crate) const CONF_SETTINGS: Settings = Settings {
    section: "conf",
    infix: "CONF_",
    keys: &[
        "interval",
        "timeout",
        "value_dev_down",
        "count",
        "probe_interval",
        "max_targets",
        "family",
        "pacer.rate",
        "pacer.burst",
    ],
    defaults: || {
        serde_json::json!({
            "count": 1,
            "probe_interval": 1,
            "max_targets": 65536,
            "family": "any",
        })
    },
};

impl Settings {
    /// Name of the variable that overrides `key`.
    pub(crate) fn variable(&self, key: &str) -> String {
        let key = key.replace('.', "_").to_uppercase();
        format!("{PREFIX}{}{key}", self.infix)
    }

    /// Names of all variables that override a setting.
    pub(crate) fn variables(&self) -> impl Iterator<Item = String> {
        let settings = *self;
        self.keys.iter().map(move |key| settings.variable(key))
    }
}

/// Settings given on the command line, the uppermost layer.
///
/// ```
/// let overrides = pe_config::Overrides::new()
///     .set("--grouping", "push.grouping", "config")
///     .set("--interval", "conf.interval", "10s");
/// # let _ = overrides;
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides(Vec<Override>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Override {
    flag: String,
    key: String,
    value: String,
}

impl Overrides {
    /// No settings.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets `key` to `value`, in the name of `flag`, which stands in messages about the value. `key` is
    /// `push.` and a key of the push configuration, or `conf.` and a key of `conf`; the latter is set for
    /// all group files. A later setting of the same key wins.
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

    /// Whether `key` of `section` is set.
    pub(crate) fn has(&self, section: &str, key: &str) -> bool {
        self.find(section, key).is_some()
    }

    /// The setting of `key` within `section`.
    fn find(&self, section: &str, key: &str) -> Option<&Override> {
        self.0.iter().rev().find(|over| {
            over.key
                .strip_prefix(section)
                .and_then(|rest| rest.strip_prefix('.'))
                == Some(key)
        })
    }

    /// Reports keys that are no setting.
    pub(crate) fn report_unknown(&self, report: &Report) {
        for over in &self.0 {
            let known = [PUSH_SETTINGS, CONF_SETTINGS].iter().any(|settings| {
                settings
                    .keys
                    .iter()
                    .any(|key| over.key == format!("{}.{key}", settings.section))
            });
            if !known {
                let message = format!("there is no setting `{}`", over.key);
                report.push(Diagnostic::named(
                    Severity::Error,
                    &over.flag,
                    message,
                    None,
                ));
            }
        }
    }
}

/// Where a value was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// In the file, at this byte offset.
    File(usize),
    /// In the environment variable of this name.
    Variable(String),
    /// On the command line, with this flag.
    Flag(String),
    /// Nowhere: a default.
    Default,
}

impl Origin {
    /// Reports a problem with the value. Something written nowhere is reported at `fallback`.
    pub(crate) fn report(
        &self,
        scope: Scope<'_, '_>,
        fallback: usize,
        severity: Severity,
        message: impl Into<String>,
        hint: impl Into<Option<String>>,
    ) {
        let offset = match self {
            Self::File(offset) => *offset,
            Self::Variable(name) | Self::Flag(name) => {
                scope
                    .report
                    .push(Diagnostic::named(severity, name, message, hint.into()));
                return;
            }
            Self::Default => fallback,
        };
        match severity {
            Severity::Error => scope.error_hint(offset, message, hint),
            Severity::Warning => scope.warn(offset, message, hint),
        }
    }

    /// How high the layer is.
    pub(crate) fn rank(&self) -> u8 {
        match self {
            Self::Default => 0,
            Self::File(_) => 1,
            Self::Variable(_) => 2,
            Self::Flag(_) => 3,
        }
    }

    /// Whether the value is text from outside a file, where numbers are written as text too.
    pub(crate) fn is_text(&self) -> bool {
        matches!(self, Self::Variable(_) | Self::Flag(_))
    }
}

/// A value and where it was written.
#[derive(Debug, Clone)]
pub(crate) struct Setting {
    /// The value.
    pub(crate) value: Value,
    /// Where it was written.
    pub(crate) origin: Origin,
}

/// The merged settings of one file.
pub(crate) struct Layered {
    settings: Vec<(&'static str, Setting)>,
}

impl Layered {
    /// Merges the layers over `object`, the object of the file that holds the settings.
    pub(crate) fn merge(
        settings: Settings,
        object: Option<&ast::Object<'_>>,
        env: &Environment,
        overrides: &Overrides,
        report: &Report,
    ) -> Self {
        let mut file = Dict::new();
        let mut variables = Dict::new();
        let mut flags = Dict::new();
        for key in settings.keys {
            if let Some(node) = object.and_then(|object| find(object, key)) {
                let value = Value::serialize(fields::to_json(node)).unwrap_or_else(|_| "".into());
                insert(&mut file, key, value);
            }
            if let Some(text) = env.text(&settings.variable(key), report) {
                insert(&mut variables, key, text.into());
            }
            if let Some(over) = overrides.find(settings.section, key) {
                insert(&mut flags, key, over.value.as_str().into());
            }
        }
        let figment = Figment::new()
            .merge(Serialized::defaults((settings.defaults)()))
            .merge(Layer {
                name: "file",
                values: file,
            })
            .merge(Layer {
                name: "environment",
                values: variables,
            })
            .merge(Layer {
                name: "flags",
                values: flags,
            });
        let merged = figment.data().unwrap_or_default().remove(&Profile::Default);
        let merged = Value::Dict(Tag::Default, merged.unwrap_or_default());
        let found = |key: &'static str| {
            let value = merged.find_ref(key)?.clone();
            let layer = figment
                .get_metadata(value.tag())
                .map_or("", |layer| &layer.name);
            let origin = match layer {
                "file" => object
                    .and_then(|object| find(object, key))
                    .map_or(Origin::Default, |node| Origin::File(fields::start(node))),
                "environment" => Origin::Variable(settings.variable(key)),
                "flags" => overrides
                    .find(settings.section, key)
                    .map_or(Origin::Default, |over| Origin::Flag(over.flag.clone())),
                _ => Origin::Default,
            };
            Some((key, Setting { value, origin }))
        };
        Self {
            settings: settings.keys.iter().filter_map(|key| found(key)).collect(),
        }
    }

    /// The setting `key`, from the uppermost layer that has it.
    pub(crate) fn get(&self, key: &str) -> Option<&Setting> {
        self.settings
            .iter()
            .find(|(known, _)| *known == key)
            .map(|(_, setting)| setting)
    }
}

/// The value under a path of keys joined by `.`.
fn find<'o, 'a>(object: &'o ast::Object<'a>, path: &str) -> Option<&'o ast::Value<'a>> {
    let (key, rest) = path.split_once('.').unwrap_or((path, ""));
    let value = &object
        .properties
        .iter()
        .find(|p| p.name.as_str() == key)?
        .value;
    if rest.is_empty() {
        return Some(value);
    }
    find(value.as_object()?, rest)
}

/// Puts `value` under a path of keys joined by `.`.
fn insert(dict: &mut Dict, path: &str, value: Value) {
    let Some((key, rest)) = path.split_once('.') else {
        dict.insert(path.to_owned(), value);
        return;
    };
    let inner = dict
        .entry(key.to_owned())
        .or_insert_with(|| Value::from(Dict::new()));
    if let Value::Dict(_, inner) = inner {
        insert(inner, rest, value);
    }
}

/// One layer, for figment.
struct Layer {
    name: &'static str,
    values: Dict,
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name)
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Profile::Default.collect(self.values.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{CONF_KEYS, PACER_KEYS, PUSH_KEYS};

    #[test]
    fn every_setting_is_a_key_of_the_schema() {
        for key in CONF_SETTINGS.keys {
            match key.strip_prefix("pacer.") {
                Some(key) => assert!(PACER_KEYS.iter().any(|known| known == key), "{key}"),
                None => assert!(CONF_KEYS.iter().any(|known| known == key), "{key}"),
            }
        }
        for key in PUSH_SETTINGS.keys {
            assert!(PUSH_KEYS.iter().any(|known| known == key), "{key}");
        }
        let settable = PUSH_KEYS.iter().filter(|key| *key != "$schema").count();
        assert_eq!(PUSH_SETTINGS.keys.len(), settable);
    }
}
