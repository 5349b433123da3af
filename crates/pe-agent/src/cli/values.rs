//! Values of options.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use pe_scrape::settings::parse_duration;
use pe_web::ListenAddress;

/// A duration, as files write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Time(pub(crate) Duration);

impl FromStr for Time {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse_duration(text)
            .map(Self)
            .map_err(|error| error.to_string())
    }
}

/// Requests a second; 0 for no limit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Rate(pub(crate) f64);

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rate = text.parse().ok();
        rate.filter(|rate: &f64| rate.is_finite() && *rate >= 0.0)
            .map(Self)
            .ok_or_else(|| "not a number from 0 on".to_owned())
    }
}

/// A key of the configuration, and its value as text.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Assignment {
    pub(crate) key: String,
    pub(crate) value: String,
}

impl FromStr for Assignment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('=') {
            Some((key, value)) if !key.trim().is_empty() => Ok(Self {
                key: key.trim().to_owned(),
                value: value.to_owned(),
            }),
            _ => Err("not KEY=VALUE, such as conf.interval=10s".to_owned()),
        }
    }
}

impl fmt::Debug for Assignment {
    /// The value may be a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}=…", self.key)
    }
}

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bytes(pub(crate) usize);

impl FromStr for Bytes {
    type Err = String;

    /// Decimal units, since those of the documentation are.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
        let unit = match text[digits.len()..].to_ascii_uppercase().as_str() {
            "" | "B" => Some(1),
            "K" | "KB" => Some(1_000),
            "M" | "MB" => Some(1_000_000),
            "G" | "GB" => Some(1_000_000_000),
            _ => None,
        };
        let number: Option<usize> = digits.trim().parse().ok();
        number
            .zip(unit)
            .and_then(|(number, unit)| number.checked_mul(unit))
            .map(Self)
            .ok_or_else(|| "not a number of bytes, such as 80MB or 500000".to_owned())
    }
}

/// Where to serve HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Listen {
    None,
    On(ListenAddress),
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "none" {
            return Ok(Self::None);
        }
        let port = text.strip_prefix(':').map(str::parse);
        let all = port.and_then(Result::ok).map(ListenAddress::All);
        let one = || text.parse().ok().map(ListenAddress::One);
        all.or_else(one).map(Self::On).ok_or_else(|| {
            "not an address with a port, such as 127.0.0.1:9516, [::1]:9516 or, for all interfaces, :9516, and not \"none\""
                .to_owned()
        })
    }
}

/// Paths that are taken.
const OWN_PATHS: [&str; 4] = ["/-/", "/api/", "/device/", "/static/"];

/// The path of the metrics.
pub(crate) fn telemetry_path(text: &str) -> Result<String, String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
    let is_path = text.len() > 1 && text.starts_with('/') && text.bytes().all(is_plain);
    if !is_path || text.contains("//") {
        return Err("not a path such as /metrics: letters, digits and -._~ between slashes".into());
    }
    match OWN_PATHS
        .iter()
        .find(|own| format!("{text}/").starts_with(**own))
    {
        Some(own) => Err(format!("what begins with {own} is something else")),
        None => Ok(text.to_owned()),
    }
}

/// A path that means the same wherever the program is started.
pub(crate) fn absolute_path(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    match path.is_absolute() {
        true => Ok(path),
        false => Err("not an absolute path, such as /usr/lib/nagios/plugins".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    #[test]
    fn times_are_seconds_or_have_units() {
        for (text, milliseconds) in [
            ("0.2", 200),
            ("1", 1000),
            ("250ms", 250),
            ("1m 30s", 90_000),
            ("0.001", 1),
        ] {
            assert_eq!(
                text.parse(),
                Ok(Time(Duration::from_millis(milliseconds))),
                "{text}"
            );
        }
        for bad in ["", "-1", "0", "0.0001", "nan", "inf", "1 parsec", "1e9"] {
            assert!(bad.parse::<Time>().is_err(), "{bad}");
        }
    }

    #[test]
    fn rates_are_not_negative() {
        assert_eq!("0".parse(), Ok(Rate(0.0)));
        assert_eq!("0.5".parse(), Ok(Rate(0.5)));
        for bad in ["-1", "nan", "inf", "fast"] {
            assert!(bad.parse::<Rate>().is_err(), "{bad}");
        }
    }

    #[test]
    fn bytes_have_decimal_units() {
        for (text, bytes) in [
            ("0", 0),
            ("500000", 500_000),
            ("80MB", 80_000_000),
            ("3 g", 3_000_000_000),
            ("64k", 64_000),
        ] {
            assert_eq!(text.parse(), Ok(Bytes(bytes)), "{text}");
        }
        for bad in ["", "MB", "-1", "1.5MB", "80MiB", "99999999999999GB"] {
            assert!(bad.parse::<Bytes>().is_err(), "{bad}");
        }
    }

    #[test]
    fn listening_addresses() {
        assert_eq!("none".parse(), Ok(Listen::None));
        assert_eq!(":80".parse(), Ok(Listen::On(ListenAddress::All(80))));
        let one = "[::1]:80".parse::<SocketAddr>().unwrap();
        assert_eq!("[::1]:80".parse(), Ok(Listen::On(one.into())));
        assert!(":http".parse::<Listen>().is_err());
        assert!("9516".parse::<Listen>().is_err());
    }

    #[test]
    fn the_metrics_have_a_path_of_their_own() {
        assert_eq!(telemetry_path("/ping/metrics"), Ok("/ping/metrics".into()));
        for bad in [
            "",
            "/",
            "metrics",
            "/a b",
            "/{x}",
            "//x",
            "/-/healthy",
            "/api/v1",
            "/device",
        ] {
            assert!(telemetry_path(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_setting_never_shows_its_value() {
        let set: Assignment = "push.pass_pushgateway=hunter2".parse().unwrap();
        assert_eq!(format!("{set:?}"), "push.pass_pushgateway=…");
    }
}
