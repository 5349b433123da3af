//! The settings of a ping scraper: what files may say, and what the scraper makes of it.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use pe_scrape::settings::{Bounds, Kind, Node, Problem, Problems, Setting, View, show_duration};
use pe_scrape::{
    Family, FamilyChoice, HistogramSpec, MAX_COUNT, NativeBuckets, ScraperSettings, SettingsError,
    Value,
};

use super::carrier::Way;
use crate::packet::MAX_PAYLOAD;
use crate::{Pinger, PingerBuilder};

pe_scrape::settings! {
    /// Settings of `ping`.
    pub struct PingSettings("") {
        /// Probes for each device and cycle.
        count: Option<u32>, range(1.0, MAX_COUNT), otherwise("that of the device");
        /// Time between two probes of one device within a cycle.
        probe_interval: Option<Duration>, otherwise("that of the device");
        /// How long a probe waits for its reply; below `interval`.
        timeout: Option<Duration>, otherwise("that of the device");
        /// Requests a second for the devices that this entry is for, beside `pacer.rate`, which holds for all devices of the
        /// file.
        rate: Option<f64>, above(0.0), otherwise("enough to send everything within a quarter of the cycle");
        /// Requests that may leave back to back.
        burst: Option<u32>, range(1.0, 65_536.0), otherwise("`pacer.burst`, else 64");
        /// Bytes of each request's payload.
        size: u32 = 56, range(0.0, MAX_PAYLOAD as f64);
        /// TTL or hop limit of the requests.
        ttl: Option<u8>, range(1.0, 255.0), otherwise("the system's");
        /// Differentiated Services code point of the requests (RFC 2474).
        dscp: u8 = 0, range(0.0, 63.0);
        /// Forbids fragmentation: a request that is too large for a link on the way ends as `packet_too_big`.
        dont_fragment: bool = false;
        /// Address that requests are sent from; one of this machine's. While it is not, the devices are unknown
        /// (`no_source_address`). Host names are resolved to addresses of its family.
        source: Option<IpAddr>, otherwise("chosen by the system");
        /// Network interface that requests leave and replies enter through. While there is none of that name, the devices are
        /// unknown (`no_interface`).
        interface: Option<String>, otherwise("chosen by the system");
        /// Firewall mark of the requests, for policy routing.
        mark: Option<u32>;
        /// Which address of a host name is pinged.
        family: Option<OneFamily>, otherwise("that of the device");
        /// Keeps a histogram of round-trip times, `ping_rtt_seconds`: `true` for the default buckets, or an object.
        histogram: Histogram = Histogram::Off;
    }
}

pe_scrape::choices! {
    /// Which address of a host name is pinged.
    pub enum OneFamily {
        /// An IPv4 address.
        V4 = "4",
        /// An IPv6 address.
        V6 = "6",
        /// Whichever the resolver puts first.
        #[default]
        Any = "any",
    }
}

pe_scrape::settings! {
    /// The buckets of the histogram `ping_rtt_seconds`.
    pub struct HistogramShape("histogram") {
        /// Upper bounds of the buckets in seconds, ascending, at most 200.
        buckets: Option<Vec<f64>>, otherwise("100 µs to 10 s in 16 steps");
        /// Keeps the exponential buckets of a native histogram beside them.
        native: bool = false;
    }
}

/// Whether a histogram is kept.
#[derive(Debug, Clone, PartialEq)]
pub enum Histogram {
    /// None.
    Off,
    /// With the default buckets.
    Default,
    /// With these buckets.
    Shape(HistogramShape),
}

impl Setting for Histogram {
    const KIND: Kind = Kind::Either(&[Kind::Flag, Kind::Object(HistogramShape::TABLE)]);

    fn decode<'v, N: Node<'v>>(node: N, bounds: &Bounds, problems: &mut Problems) -> Option<Self> {
        match node.view() {
            View::Flag(false) => Some(Self::Off),
            View::Flag(true) => Some(Self::Default),
            View::Object => HistogramShape::decode(node, bounds, problems).map(Self::Shape),
            other => {
                problems.refuse(format_args!(
                    "found {}, expected true, false or an object with buckets and native",
                    other.describe()
                ));
                None
            }
        }
    }

    fn encode(&self) -> Value {
        match self {
            Self::Off => false.into(),
            Self::Default => true.into(),
            Self::Shape(shape) => shape.encode(),
        }
    }
}

/// Upper bounds of the classic buckets of `ping_rtt_seconds`, in seconds, if no others are set: 100 µs to 10 s.
pub(crate) const DEFAULT_BUCKETS: [f64; 16] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0,
];

/// Most buckets of a histogram: each is a series of every device.
const MAX_BUCKETS: usize = 200;
/// Longest name of a network interface (`IFNAMSIZ` less the closing zero).
const MAX_INTERFACE: usize = 15;
/// Requests that may leave back to back, where nothing else is said.
const DEFAULT_BURST: u32 = 64;
/// Requests a second of one cycle, where neither the configuration nor the number of devices asks for another.
const DEFAULT_RATE: f64 = 5_000.0;
/// What a cycle with many devices gets at most, where the configuration asks for nothing.
const MAX_DEFAULT_RATE: f64 = 100_000.0;
/// A cycle without a rate of its own sends all its probes in this share of its interval.
const SENDING_SHARE: f64 = 0.25;

/// Everything a ping scraper needs to know, checked.
#[derive(Debug, Clone)]
pub(super) struct Resolved {
    pub(super) count: u32,
    pub(super) probe_interval: Duration,
    pub(super) timeout: Duration,
    pub(super) interval: Duration,
    pub(super) down: Down,
    /// The scraper's own limit, beside that of the cycle.
    pub(super) rate: Option<f64>,
    pub(super) burst: u32,
    /// The family that takes the place of the device's: `Some(None)` for either.
    pub(super) family: Option<Option<Family>>,
    /// The only family that requests can be sent with.
    pub(super) source_family: Option<Family>,
    pub(super) histogram: Option<HistogramSpec>,
    pub(super) socket: SocketKey,
}

/// What `dev_ping` and `ping_up` show where there is no reply.
#[derive(Debug, Clone, Copy)]
pub(super) struct Down {
    /// `dev_ping` of a device that is down, in milliseconds.
    pub(super) value: f64,
    /// A device of which nothing could be learned counts as down.
    pub(super) includes_unknown: bool,
}

/// What must be the same for scrapers to share sockets.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct SocketKey {
    size: usize,
    ttl: Option<u8>,
    dscp: u8,
    dont_fragment: bool,
    source: Option<IpAddr>,
    interface: Option<String>,
    mark: Option<u32>,
}

impl SocketKey {
    /// How the requests leave.
    pub(super) fn way(&self) -> Way<'_> {
        Way {
            source: self.source,
            interface: self.interface.as_deref(),
            mark: self.mark,
        }
    }

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

impl Resolved {
    /// Decodes the scraper's own settings, and takes from the device's what they leave out.
    pub(super) fn new(common: &ScraperSettings) -> Result<Self, SettingsError> {
        let own: PingSettings = common.parse()?;
        let mut problems = Problems::default();
        let histogram = own.histogram_spec(&mut problems);
        own.check_together(common, &mut problems);
        if problems.has_errors() {
            return Err(problems.into());
        }
        Ok(Self {
            count: own.count.unwrap_or(common.count),
            probe_interval: own.probe_interval.unwrap_or(common.probe_interval),
            timeout: own.timeout.unwrap_or(common.timeout),
            interval: common.interval,
            down: Down {
                value: common.value_dev_down,
                includes_unknown: common.unknown_is_down,
            },
            rate: own.rate,
            burst: own.burst.or(common.burst).unwrap_or(DEFAULT_BURST),
            family: own.family.map(OneFamily::only),
            source_family: own.source.map(Family::of),
            histogram,
            socket: SocketKey {
                size: own.size as usize,
                ttl: own.ttl,
                dscp: own.dscp,
                dont_fragment: own.dont_fragment,
                source: own.source,
                interface: own.interface,
                mark: own.mark,
            },
        })
    }

    /// What is unwise about settings that are in order: a count of the scraper's own by which its cycle does not fit.
    pub(super) fn review(common: &ScraperSettings) -> Vec<Problem> {
        let Ok(own) = common.parse::<PingSettings>() else {
            return Vec::new();
        };
        if own.count.is_none() && own.probe_interval.is_none() && own.timeout.is_none() {
            return Vec::new();
        }
        let mut together = common.clone();
        together.count = own.count.unwrap_or(common.count);
        together.probe_interval = own.probe_interval.unwrap_or(common.probe_interval);
        together.timeout = own.timeout.unwrap_or(common.timeout);
        let key = if own.count.is_some() {
            "count"
        } else if own.probe_interval.is_some() {
            "probe_interval"
        } else {
            "timeout"
        };
        let overrun = together.overrun().into_iter();
        overrun
            .map(|(message, hint)| {
                Problem::error(message)
                    .at([key.into()])
                    .hint(hint)
                    .warning()
            })
            .collect()
    }

    /// Requests a second for a batch of `targets` where nobody asks for a rate: enough to send a round within the interval
    /// of its probes, and everything within a quarter of the cycle's.
    pub(super) fn default_rate(&self, targets: usize) -> f64 {
        let targets = targets as f64;
        let whole = targets * f64::from(self.count)
            / (self.interval.as_secs_f64() * SENDING_SHARE).max(1e-3);
        let round = if self.count > 1 {
            targets / self.probe_interval.as_secs_f64().max(1e-3)
        } else {
            0.0
        };
        DEFAULT_RATE.max(whole).max(round).min(MAX_DEFAULT_RATE)
    }
}

impl OneFamily {
    fn only(self) -> Option<Family> {
        match self {
            Self::V4 => FamilyChoice::V4.only(),
            Self::V6 => FamilyChoice::V6.only(),
            Self::Any => None,
        }
    }
}

impl PingSettings {
    /// Reports values that do not go together, with each other or with those of the device.
    fn check_together(&self, common: &ScraperSettings, problems: &mut Problems) {
        if let Some(name) = &self.interface
            && (name.len() > MAX_INTERFACE || name.contains(['/', '\0']) || name.contains(' '))
        {
            problems.within("interface", |problems| {
                problems.refuse("not the name of a network interface");
            });
        }
        if let (Some(source), Some(family)) = (self.source, self.family.and_then(OneFamily::only))
            && Family::of(source) != family
        {
            problems.within("source", |problems| {
                problems.refuse(format_args!(
                    "{source} is no {family} address, which `family` asks for"
                ));
            });
        }
        if let Some(source) = self.source
            && (source.is_multicast()
                || source.is_unspecified()
                || source == IpAddr::V4(Ipv4Addr::BROADCAST))
        {
            problems.within("source", |problems| {
                problems.refuse(format_args!("{source} is not a unicast address"));
            });
        }
        if let Some(timeout) = self.timeout
            && timeout >= common.interval
        {
            let (timeout, interval) = (show_duration(timeout), show_duration(common.interval));
            problems.within("timeout", |problems| {
                problems.refuse(format_args!(
                    "{timeout} must be below interval ({interval})"
                ));
            });
        }
    }

    /// The buckets that are asked for, if any; reports those that cannot be.
    fn histogram_spec(&self, problems: &mut Problems) -> Option<HistogramSpec> {
        let (buckets, native) = match &self.histogram {
            Histogram::Off => return None,
            Histogram::Default => (None, false),
            Histogram::Shape(shape) => (shape.buckets.clone(), shape.native),
        };
        let buckets = buckets.unwrap_or_else(|| DEFAULT_BUCKETS.to_vec());
        let ascending = buckets.windows(2).all(|pair| pair[0] < pair[1]);
        if !ascending || buckets.is_empty() || buckets.len() > MAX_BUCKETS {
            problems.within("histogram", |problems| {
                problems.within("buckets", |problems| {
                    problems.refuse(format_args!(
                        "expected 1 to {MAX_BUCKETS} ascending numbers of seconds"
                    ));
                });
            });
            return None;
        }
        let spec = HistogramSpec::classic(buckets);
        Some(if native {
            spec.with_native(NativeBuckets::RTT_SECONDS)
        } else {
            spec
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(own: Value) -> Result<Resolved, SettingsError> {
        Resolved::new(&ScraperSettings::default().with_own(own))
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
            (1, Duration::from_secs(1))
        );
        let wanted = read(json!({"family": 6})).unwrap().family;
        assert_eq!(wanted, Some(Some(Family::V6)));
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_its_key() {
        for (own, key) in [
            (json!({"count": 0}), "count"),
            (json!({"timeout": 0}), "timeout"),
            (json!({"timeout": "soon"}), "timeout"),
            (json!({"timeout": "60s"}), "timeout"),
            (json!({"probe_interval": "-1s"}), "probe_interval"),
            (json!({"probe_interval": []}), "probe_interval"),
            (json!({"rate": 0}), "rate"),
            (json!({"burst": 0}), "burst"),
            (json!({"size": 65_508}), "size"),
            (json!({"size": -1}), "size"),
            (json!({"ttl": 0}), "ttl"),
            (json!({"dscp": 64}), "dscp"),
            (json!({"interface": ""}), "interface"),
            (json!({"interface": "a/b"}), "interface"),
            (json!({"source": "x"}), "source"),
            (json!({"source": "10.0.0.1", "family": "6"}), "source"),
            (json!({"source": "224.0.0.1"}), "source"),
            (json!({"source": "255.255.255.255"}), "source"),
            (json!({"family": "both"}), "family"),
            (json!({"histogram": 1}), "histogram"),
            (json!({"histogram": {"buckets": [2, 1]}}), "histogram"),
            (json!({"histogram": {"buckets": []}}), "histogram"),
            (json!({"cuont": 1}), "cuont"),
        ] {
            let error = read(own.clone()).expect_err(&own.to_string());
            assert_eq!(error.key(), Some(key), "{own}");
        }
        assert!(read(json!([])).is_err());
    }

    #[test]
    fn mistakes_are_told_with_the_choices() {
        let told = |own| read(own).unwrap_err().to_string();
        assert_eq!(
            told(json!({"histogram": "yes"})),
            "histogram: found a string, expected true, false or an object with buckets and native"
        );
        assert_eq!(
            told(json!({"histogram": {"bukets": [1]}})),
            "unknown key `bukets` in histogram (did you mean `buckets`?)"
        );
        assert_eq!(
            told(json!({"family": 5, "dscp": 64})),
            "dscp: out of range, expected a whole number from 0 to 63; \
             family: found `5`, expected `4`, `6` or `any`"
        );
    }

    #[test]
    fn a_count_that_does_not_fit_the_cycle_is_told() {
        let common = ScraperSettings::default().with_own(json!({"count": 100}));
        let told = Resolved::review(&common);
        assert_eq!(told[0].pointer(), "/count");
        assert!(
            told[0].message.contains("longer than the interval of 1m"),
            "{told:?}"
        );
        assert!(Resolved::review(&ScraperSettings::default()).is_empty());
    }

    #[test]
    fn the_default_rate_fits_the_cycle() {
        let settings = read(Value::Null).unwrap();
        assert_eq!(settings.default_rate(50), 5_000.0);
        // A quarter of 60 s for 100,000 devices.
        assert!((settings.default_rate(100_000) - 100_000.0 / 15.0).abs() < 1e-6);
        let settings = read(json!({"count": 5, "probe_interval": 0.1})).unwrap();
        assert_eq!(settings.default_rate(2_000), 20_000.0);
    }
}
