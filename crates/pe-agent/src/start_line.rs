//! What the log says of a program that has started.

use std::path::PathBuf;

use caps::{CapSet, Capability};
use pe_scrape::{Config, Group};
use serde_json::Value;
use tracing::info;

/// What will happen, in one line.
pub(crate) struct StartLine {
    version: &'static str,
    groups: usize,
    devices: usize,
    probes_per_second: f64,
    /// The names of the sinks of the configuration.
    sinks: Option<String>,
    sockets: &'static str,
    state_dir: Option<PathBuf>,
}

impl StartLine {
    pub(crate) fn new(version: &'static str, config: &Config) -> Self {
        let sinks = config.sinks.iter().map(|sink| &*sink.settings.name);
        let sinks: Vec<&str> = sinks.collect();
        Self {
            version,
            groups: config.groups.len(),
            devices: config.device_count(),
            probes_per_second: probes_per_second(config),
            sinks: (!sinks.is_empty()).then(|| sinks.join(",")),
            sockets: "datagram",
            state_dir: None,
        }
    }

    pub(crate) fn state_dir(mut self, directory: Option<PathBuf>) -> Self {
        self.state_dir = directory;
        self
    }

    /// The same, with the kind of ICMP sockets that this process may have, alone or with a helper.
    pub(crate) fn with_sockets(mut self, has_helper: bool) -> Self {
        let may = || caps::has_cap(None, CapSet::Effective, Capability::CAP_NET_RAW);
        self.sockets = match has_helper {
            true => "raw, opened by the helper",
            false if may().unwrap_or(false) => "raw",
            false => "datagram",
        };
        self
    }

    pub(crate) fn has_sinks(&self) -> bool {
        self.sinks.is_some()
    }

    /// Logs it, with where results are served.
    pub(crate) fn log(&self, results: Option<&str>) {
        let Self {
            version,
            groups,
            devices,
            probes_per_second,
            sinks,
            sockets,
            state_dir,
        } = self;
        let state_dir = state_dir.as_ref().map(|path| path.display());
        let state_dir = state_dir.as_ref().map(tracing::field::display);
        info!(
            version,
            groups,
            devices,
            probes_per_second,
            sinks = sinks.as_deref(),
            results,
            sockets,
            state_dir,
            "started"
        );
    }
}

/// Probes that all devices cause on average, to a tenth: what the scrapers send for one probe may be several packets.
fn probes_per_second(config: &Config) -> f64 {
    let of_group = |group: &Group| {
        let scrapers = group.devices.iter().flat_map(|device| &*device.scrapers);
        let probes: f64 = scrapers
            .map(|scraper| {
                // A scraper that is asked for several probes calls them so, as the group does.
                let own = scraper.settings.own.get("count").and_then(Value::as_f64);
                own.unwrap_or(scraper.settings.count.into())
            })
            .sum();
        probes / group.interval().as_secs_f64()
    };
    let all: f64 = config.groups.iter().map(of_group).sum();
    (all * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn probes_are_counted_over_all_groups() {
        let slow = Group::builder("slow", Duration::from_secs(30))
            .count(5)
            .device("a", "127.0.0.1")
            .device("b", "127.0.0.2")
            .build()
            .unwrap();
        let fast = Group::builder("fast", Duration::from_millis(500))
            .device("c", "127.0.0.3")
            .build()
            .unwrap();
        let own = Group::builder("own", Duration::from_secs(10))
            .scraper("ping", serde_json::json!({ "count": 20 }))
            .device("d", "127.0.0.4")
            .build()
            .unwrap();
        let config = Config::new(vec![slow, fast, own], Vec::new());
        assert_eq!(probes_per_second(&config), 4.3);
        assert_eq!(probes_per_second(&Config::default()), 0.0);
    }
}
