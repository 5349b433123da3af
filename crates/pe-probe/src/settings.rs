//! The keys that all probes have.

use std::fmt;
use std::time::Duration;

use pe_scrape::settings::Setting;

/// What may be set for every probe.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct CommonSettings {
    /// Value of the label `probe`.
    pub name: Option<String>,
    /// Whether the probe says that the device is up; `None`: where no other scraper does.
    pub up: Option<bool>,
    /// How long the probe may take in all; `None` for that of the device.
    pub timeout: Option<Duration>,
    /// Devices that are asked at once.
    pub concurrency: u32,
}

impl CommonSettings {
    /// Put together by [`probe_settings!`](crate::probe_settings).
    #[must_use]
    pub fn new(
        name: Option<String>,
        up: Option<bool>,
        timeout: Option<Duration>,
        concurrency: u32,
    ) -> Self {
        Self {
            name,
            up,
            timeout,
            concurrency,
        }
    }
}

/// Settings of a probe, declared by [`probe_settings!`](crate::probe_settings).
pub trait ProbeSettings: Setting + Clone + fmt::Debug + PartialEq + Send + Sync + 'static {
    /// What may be set for every probe.
    fn common(&self) -> CommonSettings;
}

/// Declares the settings of a probe, as [`settings!`](macro@pe_scrape::settings) does, with the keys that all probes have
/// at their end: `name`, `up`, `timeout` and `concurrency`. The crate that uses it needs `pe-scrape`.
#[macro_export]
macro_rules! probe_settings {
    ($(#[doc = $about:literal])+ $vis:vis struct $settings:ident { $($keys:tt)+ }) => {
        pe_scrape::settings! {
            $(#[doc = $about])+
            $vis struct $settings("") {
                $($keys)+
                /// Value of the label `probe`, which tells the probes of one device apart.
                name: Option<String>, otherwise("kind and port, such as `tcp:22`");
                /// Whether the device counts as up when this probe succeeds, and as down when it fails. Where several metrics of a
                /// device say so, it is up when one of them succeeds.
                up: Option<bool>, otherwise("only if no other metric of the device says whether it is up, as `ping` does");
                /// How long the probe may take in all, from the look-up of the device's name on; below `interval`.
                timeout: Option<::std::time::Duration>, otherwise("that of the device");
                /// Devices that are asked at once, at the most.
                concurrency: u32 = 256, range(1.0, 10_000.0);
            }
        }

        impl $crate::ProbeSettings for $settings {
            fn common(&self) -> $crate::CommonSettings {
                $crate::CommonSettings::new(self.name.clone(), self.up, self.timeout, self.concurrency)
            }
        }
    };
}
