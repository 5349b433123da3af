//! What the loader needs to know about scrapers.

use std::time::Duration;

use serde_json::Value;

/// The scrapers that a program knows. The program plugs its registry in here, so that metric names
/// and settings are checked together with the rest of the files.
pub trait ScraperCatalog {
    /// Names of all scrapers.
    fn names(&self) -> Vec<String>;

    /// Whether the scraper `name` accepts `settings` (an object, or `null` where none were given).
    ///
    /// # Errors
    /// The first problem with the settings.
    fn check(
        &self,
        name: &str,
        settings: &Value,
        common: &CommonSettings,
    ) -> Result<(), SettingsProblem>;

    /// Whether a device may list the scraper `name` more than once with different settings. That makes
    /// sense only for a scraper whose settings show in its labels, so the default is `false`.
    fn repeatable(&self, name: &str) -> bool {
        let _ = name;
        false
    }

    /// Label names that the series of the scraper `name` carry of their own, beside those of the
    /// device; a configured label of that name would clash.
    fn label_names(&self, name: &str) -> Vec<String> {
        let _ = name;
        Vec::new()
    }
}

/// The settings of a device that every scraper gets, beside its own.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CommonSettings {
    /// Time between the starts of two cycles.
    pub interval: Duration,
    /// How long a probe waits for its answer.
    pub timeout: Duration,
    /// Value of `dev_ping` for a device that is down, in milliseconds.
    pub value_dev_down: f64,
    /// Probes in each cycle.
    pub count: u32,
    /// Time between two probes of one device within a cycle.
    pub probe_interval: Duration,
    /// Probes a second that the devices of one cycle may cause together; `None` leaves it to the scraper.
    pub rate: Option<f64>,
    /// Probes that may leave back to back; `None` leaves it to the scraper.
    pub burst: Option<u32>,
}

/// Why a scraper does not accept its settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsProblem {
    /// JSON pointer (RFC 6901) to the value at fault within the settings, such as `/size`; `None` for
    /// the settings as a whole.
    pub pointer: Option<String>,
    /// What is wrong.
    pub message: String,
}

impl SettingsProblem {
    /// A problem with the value at `pointer`.
    pub fn at(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            pointer: Some(pointer.into()),
            message: message.into(),
        }
    }

    /// A problem with the settings as a whole.
    pub fn whole(message: impl Into<String>) -> Self {
        Self {
            pointer: None,
            message: message.into(),
        }
    }
}
