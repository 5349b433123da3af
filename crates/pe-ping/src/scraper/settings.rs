//! The settings of a ping scraper, as they stand in a configuration file.

use std::net::IpAddr;
use std::time::Duration;

use pe_scrape::{FamilyChoice, HistogramSpec, NativeBuckets, ScraperSettings, SettingsError};
use serde::Deserialize;
use serde_json::Value;

use crate::{Pinger, PingerBuilder};

/// A ping scraper's own settings. What is left out comes from the configuration's common values.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Own {
    count: Option<u32>,
    probe_interval: Option<Value>,
    timeout: Option<Value>,
    rate: Option<f64>,
    burst: Option<u32>,
    size: Option<usize>,
    ttl: Option<u8>,
    dscp: Option<u8>,
    dont_fragment: bool,
    source: Option<IpAddr>,
    interface: Option<String>,
    mark: Option<u32>,
    family: Option<FamilyChoice>,
    histogram: Option<Histogram>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Histogram {
    Wanted(bool),
    Shape(HistogramShape),
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct HistogramShape {
    buckets: Option<Vec<f64>>,
    native: bool,
}

/// Upper bounds of the classic buckets of `ping_rtt_seconds`, in seconds, if no others are set: 100 µs to 10 s.
pub const DEFAULT_BUCKETS: [f64; 16] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0,
];

/// Requests a second of one cycle, where neither the configuration nor the number of devices asks for another.
const DEFAULT_RATE: f64 = 5_000.0;
/// What a cycle with many devices gets at most, where the configuration asks for nothing.
const MAX_DEFAULT_RATE: f64 = 100_000.0;
/// A cycle without a rate of its own sends all its probes in this share of its interval.
const SENDING_SHARE: f64 = 0.25;

/// Everything a ping scraper needs to know, checked.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) count: u32,
    pub(super) probe_interval: Duration,
    pub(super) timeout: Duration,
    pub(super) interval: Duration,
    pub(super) value_dev_down: f64,
    pub(super) rate: Option<f64>,
    pub(super) burst: u32,
    pub(super) family: Option<FamilyChoice>,
    pub(super) histogram: Option<HistogramSpec>,
    pub(super) socket: SocketSettings,
}

/// What must be the same for scrapers to share sockets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct SocketSettings {
    size: usize,
    ttl: Option<u8>,
    dscp: u8,
    dont_fragment: bool,
    source: Option<IpAddr>,
    interface: Option<String>,
    mark: Option<u32>,
}

impl SocketSettings {
    pub(super) fn builder(&self) -> PingerBuilder {
        // Each cycle has its own rate; the sockets need none.
        let mut builder = Pinger::builder()
            .unlimited_rate()
            .payload_size(self.size)
            .dscp(self.dscp)
            .dont_fragment(self.dont_fragment);
        if let Some(ttl) = self.ttl {
            builder = builder.ttl(ttl);
        }
        if let Some(source) = self.source {
            builder = builder.source(source);
        }
        if let Some(interface) = &self.interface {
            builder = builder.interface(interface);
        }
        if let Some(mark) = self.mark {
            builder = builder.mark(mark);
        }
        builder
    }
}

impl Settings {
    pub(super) fn new(common: &ScraperSettings) -> Result<Self, SettingsError> {
        if !common.own.is_null() && !common.own.is_object() {
            return Err(SettingsError::new("the settings must be an object"));
        }
        let own: Own = common.parse()?;
        let settings = Self {
            count: own.count.unwrap_or(common.count),
            probe_interval: duration("probe_interval", own.probe_interval, common.probe_interval)?,
            timeout: duration("timeout", own.timeout, common.timeout)?,
            interval: common.interval,
            value_dev_down: common.value_dev_down,
            rate: own.rate.or(common.rate),
            burst: own.burst.or(common.burst).unwrap_or(64),
            family: own.family,
            histogram: own.histogram.map(spec).transpose()?.flatten(),
            socket: SocketSettings {
                size: own.size.unwrap_or(56),
                ttl: own.ttl,
                dscp: own.dscp.unwrap_or(0),
                dont_fragment: own.dont_fragment,
                source: own.source,
                interface: own.interface,
                mark: own.mark,
            },
        };
        settings.check()?;
        Ok(settings)
    }

    fn check(&self) -> Result<(), SettingsError> {
        let refuse = |key: &str, message: String| Err(SettingsError::at(key, message));
        if self.count == 0 {
            return refuse("count", "count must be at least 1".into());
        }
        if self.count > MAX_COUNT {
            return refuse("count", format!("count must be at most {MAX_COUNT}"));
        }
        if self.timeout.is_zero() {
            return refuse("timeout", "timeout must be above 0".into());
        }
        if self
            .rate
            .is_some_and(|rate| !(rate > 0.0 && rate.is_finite()))
        {
            return refuse("rate", "rate must be above 0 requests a second".into());
        }
        if self.burst == 0 {
            return refuse("burst", "burst must be at least 1".into());
        }
        let socket = &self.socket;
        if socket.size > crate::packet::MAX_PAYLOAD {
            let most = crate::packet::MAX_PAYLOAD;
            return refuse("size", format!("size must be at most {most} bytes"));
        }
        if socket.ttl == Some(0) {
            return refuse("ttl", "ttl must be from 1 to 255".into());
        }
        if socket.dscp > 63 {
            return refuse("dscp", "dscp must be from 0 to 63".into());
        }
        if socket
            .interface
            .as_ref()
            .is_some_and(|name| name.is_empty() || name.len() > 15 || name.contains(['/', '\0']))
        {
            return refuse(
                "interface",
                "interface must be the name of a network interface".into(),
            );
        }
        if let (Some(source), Some(family)) = (socket.source, self.family)
            && !family.admits(source)
        {
            return refuse(
                "source",
                format!("source {source} is not of the wanted family"),
            );
        }
        Ok(())
    }

    /// Requests a second for a batch of `targets`: what was asked for, else enough to send a round within the interval
    /// of its probes, and everything within a quarter of the cycle's.
    pub(super) fn rate(&self, targets: usize) -> f64 {
        self.rate.unwrap_or_else(|| {
            let targets = targets as f64;
            let whole = targets * f64::from(self.count)
                / (self.interval.as_secs_f64() * SENDING_SHARE).max(1e-3);
            let round = if self.count > 1 {
                targets / self.probe_interval.as_secs_f64().max(1e-3)
            } else {
                0.0
            };
            DEFAULT_RATE.max(whole).max(round).min(MAX_DEFAULT_RATE)
        })
    }
}

/// Probes for one device in one cycle at most.
const MAX_COUNT: u32 = 10_000;

/// Seconds as a number, or a text such as `"1.5s"` or `"250ms"`.
fn duration(key: &str, value: Option<Value>, default: Duration) -> Result<Duration, SettingsError> {
    let Some(value) = value else {
        return Ok(default);
    };
    let seconds = match &value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => parse_duration(text),
        _ => None,
    };
    seconds
        .filter(|seconds| (0.0..=86_400.0 * 366.0).contains(seconds))
        .map(Duration::from_secs_f64)
        .ok_or_else(|| {
            let message = format!("{key} must be seconds, or a text such as \"1.5s\" or \"250ms\"");
            SettingsError::at(key, message)
        })
}

fn parse_duration(text: &str) -> Option<f64> {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let factor = match unit.trim_start() {
        "us" | "µs" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3_600.0,
        _ => return None,
    };
    Some(number.parse::<f64>().ok()? * factor)
}

fn spec(histogram: Histogram) -> Result<Option<HistogramSpec>, SettingsError> {
    let shape = match histogram {
        Histogram::Wanted(false) => return Ok(None),
        Histogram::Wanted(true) => HistogramShape::default(),
        Histogram::Shape(shape) => shape,
    };
    let buckets = shape.buckets.unwrap_or_else(|| DEFAULT_BUCKETS.to_vec());
    let ascending = buckets.windows(2).all(|pair| pair[0] < pair[1]);
    if !ascending || buckets.iter().any(|bound| !bound.is_finite()) || buckets.len() > 200 {
        let message = "histogram.buckets must be at most 200 ascending numbers of seconds";
        return Err(SettingsError::at("histogram", message));
    }
    let spec = HistogramSpec::classic(buckets);
    Ok(Some(if shape.native {
        spec.with_native(NativeBuckets::RTT_SECONDS)
    } else {
        spec
    }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(own: Value) -> Result<Settings, SettingsError> {
        Settings::new(&ScraperSettings {
            own,
            ..ScraperSettings::default()
        })
    }

    #[test]
    fn own_settings_win_over_common_ones() {
        let settings =
            read(json!({"count": 5, "timeout": "250ms", "probe_interval": 0.2})).unwrap();
        assert_eq!(settings.count, 5);
        assert_eq!(settings.timeout, Duration::from_millis(250));
        assert_eq!(settings.probe_interval, Duration::from_millis(200));
        let settings = read(Value::Null).unwrap();
        assert_eq!(
            (settings.count, settings.timeout),
            (1, Duration::from_secs(3))
        );
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_its_key() {
        for (own, key) in [
            (json!({"count": 0}), "count"),
            (json!({"timeout": 0}), "timeout"),
            (json!({"timeout": "soon"}), "timeout"),
            (json!({"probe_interval": "-1s"}), "probe_interval"),
            (json!({"probe_interval": []}), "probe_interval"),
            (json!({"rate": 0}), "rate"),
            (json!({"burst": 0}), "burst"),
            (json!({"size": 65_508}), "size"),
            (json!({"ttl": 0}), "ttl"),
            (json!({"dscp": 64}), "dscp"),
            (json!({"interface": ""}), "interface"),
            (json!({"source": "10.0.0.1", "family": "6"}), "source"),
            (json!({"histogram": {"buckets": [2, 1]}}), "histogram"),
        ] {
            let error = read(own.clone()).expect_err(&own.to_string());
            assert_eq!(error.key(), Some(key), "{own}");
        }
        for own in [
            json!({"cuont": 1}),
            json!({"source": "x"}),
            json!([]),
            json!({"size": -1}),
        ] {
            assert!(read(own.clone()).is_err(), "{own}");
        }
    }

    #[test]
    fn the_default_rate_fits_the_cycle() {
        let settings = read(Value::Null).unwrap();
        assert_eq!(settings.rate(50), 5_000.0);
        // A quarter of 60 s for 100,000 devices.
        assert!((settings.rate(100_000) - 100_000.0 / 15.0).abs() < 1e-6);
        let settings = read(json!({"count": 5, "probe_interval": 0.1})).unwrap();
        assert_eq!(settings.rate(2_000), 20_000.0);
        assert_eq!(read(json!({"rate": 10})).unwrap().rate(100_000), 10.0);
    }
}
