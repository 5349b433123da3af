//! The registry as the configuration's loader sees it.

use pe_config::{CommonSettings, ScraperCatalog, SettingsProblem};
use pe_scrape::{RegistryError, ScraperRegistry, ScraperSettings};
use serde_json::Value;

/// Lets `pe_config::load` check scraper names and settings against a registry.
#[derive(Debug, Clone, Copy)]
pub struct RegistryCatalog<'a>(pub &'a ScraperRegistry);

impl ScraperCatalog for RegistryCatalog<'_> {
    fn names(&self) -> Vec<String> {
        self.0.names().into_iter().map(str::to_owned).collect()
    }

    fn check(
        &self,
        name: &str,
        settings: &Value,
        common: &CommonSettings,
    ) -> Result<(), SettingsProblem> {
        let settings = ScraperSettings {
            timeout: common.timeout,
            interval: common.interval,
            value_dev_down: common.value_dev_down,
            count: common.count,
            probe_interval: common.probe_interval,
            rate: common.rate,
            burst: common.burst,
            own: settings.clone(),
        };
        self.0.check(name, &settings).map_err(|error| match error {
            RegistryError::Create { source, .. } => SettingsProblem {
                pointer: source.key().map(|key| format!("/{key}")),
                message: source.to_string(),
            },
            other => SettingsProblem::whole(other.to_string()),
        })
    }

    fn label_names(&self, name: &str) -> Vec<String> {
        self.0.label_names(name)
    }
}
