//! Making sinks from what a configuration says.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use pe_scrape::resolve::{Resolve, SystemResolver};
use pe_scrape::settings::Table;
use pe_scrape::{Group, Remark, SettingsError, Sink, SinkFactory, SinkSettings};

use super::ledger::Ledger;
use super::review::review;
use super::sink::Surroundings;
use super::{PushgatewaySettings, PushgatewaySink};

/// Makes [`PushgatewaySink`]s, to be registered under the name `pushgateway`.
///
/// ```
/// let mut registry = pe_scrape::SinkRegistry::new();
/// registry.register("pushgateway", pe_push::PushgatewayFactory::new())?;
/// # Ok::<(), pe_scrape::RegistryError>(())
/// ```
#[derive(Clone)]
pub struct PushgatewayFactory {
    resolver: Arc<dyn Resolve>,
    ledger: Arc<Ledger>,
}

impl PushgatewayFactory {
    /// The factory, with the system's resolver.
    #[must_use]
    pub fn new() -> Self {
        Self {
            resolver: Arc::new(SystemResolver),
            ledger: Arc::default(),
        }
    }

    /// Keeps what is on gateways in a [`StateDir`](crate::StateDir), so that what is no longer wanted is deleted also after a
    /// restart. It is opened with the first results; while it cannot be used, everything is kept in memory. `None` is memory only.
    #[must_use]
    pub fn state_dir(mut self, path: Option<PathBuf>) -> Self {
        self.ledger = Arc::new(path.map_or_else(Ledger::default, Ledger::in_directory));
        self
    }

    /// Resolves the names of gateways and proxies with `resolver`.
    #[must_use]
    pub fn resolver(mut self, resolver: Arc<dyn Resolve>) -> Self {
        self.resolver = resolver;
        self
    }
}

impl Default for PushgatewayFactory {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for PushgatewayFactory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PushgatewayFactory").finish_non_exhaustive()
    }
}

impl SinkFactory for PushgatewayFactory {
    fn create(&self, settings: &SinkSettings) -> Result<Arc<dyn Sink>, SettingsError> {
        let own: PushgatewaySettings = settings.parse()?;
        let surroundings = Surroundings {
            resolver: self.resolver.clone(),
            external_labels: settings.external_labels.clone(),
            ledger: self.ledger.clone(),
        };
        let sink = PushgatewaySink::within(settings.name.clone(), &own, surroundings)?;
        Ok(Arc::new(sink))
    }

    fn review(&self, settings: &SinkSettings, groups: &[Group]) -> Vec<Remark> {
        let own: Result<PushgatewaySettings, _> = settings.parse();
        own.map_or_else(
            |_| Vec::new(),
            |own| review(&own, &settings.external_labels, groups),
        )
    }

    fn table(&self) -> Option<&'static Table> {
        Some(PushgatewaySettings::TABLE)
    }
}

#[cfg(test)]
mod tests {
    use pe_scrape::{SinkConfig, SinkRegistry};
    use serde_json::json;

    use super::*;

    fn registry() -> SinkRegistry {
        let mut registry = SinkRegistry::new();
        registry
            .register("pushgateway", PushgatewayFactory::new())
            .unwrap();
        registry
    }

    #[test]
    fn every_key_of_the_table_is_understood() {
        let config = SinkConfig::new(
            "pushgateway",
            "gateway",
            json!({
                "url": "http://gateway.example/push", "username": "operator", "password": "hunter2",
                "grouping": "config", "timeout": "2.5s", "max_parallel_pushes": 2,
            }),
        );
        registry().check(&config).unwrap();
        assert_eq!(registry().review(&config, &[]).len(), 2);
        let keys = registry().table("pushgateway").unwrap().keys;
        let names: Vec<_> = keys.iter().map(|key| key.name).collect();
        assert_eq!(
            names,
            [
                "url",
                "username",
                "password",
                "password_file",
                "bearer_token_file",
                "headers",
                "tls",
                "keep",
                "drop",
                "max_bytes_per_second",
                "timeout",
                "grouping",
                "compression",
                "delete_on_shutdown",
                "max_parallel_pushes"
            ]
        );
    }

    #[test]
    fn what_is_wrong_is_told_with_the_choices_and_without_the_password() {
        let config = SinkConfig::new(
            "pushgateway",
            "gateway",
            json!({"usernme": "operator", "password": "hunter2", "grouping": "devices", "max_parallel_pushes": 2000}),
        );
        let error = pe_scrape::with_causes(&registry().check(&config).unwrap_err());
        for words in [
            "unknown key `usernme` (did you mean `username`?)",
            "missing key `url`",
            "grouping: found `devices`, expected `device` or `config`; did you mean `device`?",
            "max_parallel_pushes: out of range, expected a whole number from 1 to 1024",
        ] {
            assert!(error.contains(words), "no {words:?} in {error}");
        }
        assert!(!error.contains("hunter2"), "{error}");
        assert!(registry().review(&config, &[]).is_empty());
    }
}
