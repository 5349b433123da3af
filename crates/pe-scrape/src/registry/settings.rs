//! What a factory is told about the scraper or sink to make.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::settings::{Problems, Setting, decode, show_duration};
use crate::{GroupSettings, Labels, ScraperSettings, SettingsError};

impl Default for ScraperSettings {
    fn default() -> Self {
        let group = GroupSettings::new("default".to_owned(), Duration::from_secs(60));
        let settings = group.common(&mut Problems::default());
        settings.expect("defaults go together")
    }
}

impl ScraperSettings {
    /// The same with other settings of the scraper's own.
    #[must_use]
    pub fn with_own(&self, own: Value) -> Self {
        Self {
            own,
            ..self.clone()
        }
    }

    /// Decodes the scraper's own settings.
    ///
    /// # Errors
    /// [`SettingsError`] with every problem.
    pub fn parse<T: Setting>(&self) -> Result<T, SettingsError> {
        decode(&self.own)
    }

    /// How long all probes of a device take at most: the last one leaves after (count − 1) × probe_interval and may take
    /// `timeout` to be answered.
    #[must_use]
    pub fn longest_cycle(&self) -> Duration {
        let probes = self
            .probe_interval
            .checked_mul(self.count.saturating_sub(1));
        probes
            .and_then(|probes| probes.checked_add(self.timeout))
            .unwrap_or(Duration::MAX)
    }

    /// What to say of a cycle that is longer than its interval, with a hint.
    #[must_use]
    pub fn overrun(&self) -> Option<(String, String)> {
        let cycle = self.longest_cycle();
        if cycle <= self.interval {
            return None;
        }
        let message = format!(
            "a cycle of {} probes, {} apart, with a timeout of {} takes {}, longer than the interval of {}",
            self.count,
            show_duration(self.probe_interval),
            show_duration(self.timeout),
            show_duration(cycle),
            show_duration(self.interval),
        );
        let hint = "use fewer probes, a shorter probe_interval or a longer interval; else ticks are skipped";
        Some((message, hint.to_owned()))
    }
}

/// What a factory is told about the sink to make.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct SinkSettings {
    /// The sink's name, for its logs.
    pub name: Arc<str>,
    /// Labels of the agent, which everything that leaves it carries.
    pub external_labels: Labels,
    /// The sink's own settings: an object. They may hold secrets.
    pub own: Value,
}

impl SinkSettings {
    /// Settings of a sink of that name, without external labels.
    pub fn new(name: impl Into<Arc<str>>, own: Value) -> Self {
        Self {
            name: name.into(),
            external_labels: Labels::default(),
            own,
        }
    }

    /// Decodes the sink's own settings.
    ///
    /// # Errors
    /// [`SettingsError`] with every problem.
    pub fn parse<T: Setting>(&self) -> Result<T, SettingsError> {
        decode(&self.own)
    }
}

impl fmt::Debug for SinkSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SinkSettings")
            .field("name", &self.name)
            .field("external_labels", &self.external_labels)
            .field("own", &own_keys(&self.own))
            .finish()
    }
}

/// A sink of the configuration: which kind, and its settings.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct SinkConfig {
    /// The sink's name in the registry, such as `pushgateway`.
    pub kind: Arc<str>,
    /// Its settings, with a name that no other sink has.
    pub settings: SinkSettings,
}

impl SinkConfig {
    /// A sink of the kind `kind`, called `name`, with its own settings.
    pub fn new(kind: impl Into<Arc<str>>, name: impl Into<Arc<str>>, own: Value) -> Self {
        Self {
            kind: kind.into(),
            settings: SinkSettings::new(name, own),
        }
    }
}

/// The keys of a plug-in's own settings, whose values may be secret.
pub(crate) fn own_keys(own: &Value) -> Vec<&String> {
    let own = own.as_object().into_iter();
    own.flat_map(|own| own.keys()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_never_show_their_values() {
        let own = serde_json::json!({"password": "hunter2"});
        let scraper = ScraperSettings::default().with_own(own.clone());
        let shown = format!("{scraper:?} {:?}", SinkConfig::new("pushgateway", "g", own));
        assert!(
            shown.contains("password") && !shown.contains("hunter2"),
            "{shown}"
        );
    }
}
