//! Which URLs can be pushed to. No I/O.

use std::net::IpAddr;

use hyper::Uri;
use hyper::http::uri::Authority;

use crate::PushError;

/// Where requests go: a scheme, a host, perhaps a port and a path. Never credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BaseUrl {
    text: String,
    tls: bool,
    host: String,
}

impl BaseUrl {
    /// Reads a URL, without slashes at its end.
    pub(crate) fn parse(url: &str) -> Result<Self, PushError> {
        let text = url.trim_end_matches('/');
        // Credentials in a URL would end up in logs; they are given apart.
        let shown = text.rsplit_once('@').map_or(text, |(_, host)| host);
        let refused = |reason: &str| PushError::Url {
            url: shown.to_owned(),
            reason: reason.to_owned(),
        };
        let uri = Uri::try_from(text).map_err(|error| refused(&error.to_string()))?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") if cfg!(feature = "tls") => true,
            Some("https") => {
                return Err(refused(
                    "https needs the feature \"tls\" of the crate pe-push",
                ));
            }
            _ => return Err(refused("it must start with http:// or https://")),
        };
        let Some(authority) = uri.authority().filter(|it| !it.host().is_empty()) else {
            return Err(refused("it has no host"));
        };
        if authority.as_str().contains('@') {
            return Err(refused("give user and password apart from the URL"));
        }
        if !has_sound_port(authority) {
            return Err(refused("a port is a whole number from 1 to 65535"));
        }
        if uri.query().is_some() {
            return Err(refused("it must not have a query"));
        }
        if text.contains('#') {
            return Err(refused("it must not have a fragment"));
        }
        Ok(Self {
            tls,
            host: authority.host().to_ascii_lowercase(),
            text: text.to_owned(),
        })
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether connections are encrypted.
    pub(crate) fn is_tls(&self) -> bool {
        self.tls
    }

    /// Whether what is sent can be read on a network: it goes to another machine, unencrypted.
    pub(crate) fn is_exposed(&self) -> bool {
        !self.tls && !self.is_loopback()
    }

    /// Whether the server is on this machine, as far as the name tells.
    pub(crate) fn is_loopback(&self) -> bool {
        match self.host.trim_matches(['[', ']']).parse::<IpAddr>() {
            Ok(address) => address.to_canonical().is_loopback(),
            Err(_) => self.host == "localhost" || self.host.ends_with(".localhost"),
        }
    }

    /// The URL of a path below this one.
    pub(crate) fn join(&self, path: &str) -> Result<Uri, PushError> {
        Uri::try_from(format!("{}{path}", self.text)).map_err(|error| PushError::Url {
            url: self.text.clone(),
            reason: error.to_string(),
        })
    }
}

/// The host of a URL, an IPv6 address without its brackets.
pub(super) fn host_of(uri: &Uri) -> &str {
    uri.host().unwrap_or_default().trim_matches(['[', ']'])
}

/// The port of a URL, else that of its scheme.
pub(super) fn port_of(uri: &Uri) -> u16 {
    let default = if uri.scheme_str() == Some("https") {
        443
    } else {
        80
    };
    uri.port_u16().unwrap_or(default)
}

/// Whether the port is left out, or one. [`Authority::port`] passes over others without a word.
fn has_sound_port(authority: &Authority) -> bool {
    let rest = authority.as_str().strip_prefix(authority.host());
    match rest.and_then(|rest| rest.strip_prefix(':')) {
        None | Some("") => true,
        Some(port) => port.parse::<u16>().is_ok_and(|port| port > 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_that_cannot_be_a_gateway_are_refused() {
        for (url, reason) in [
            ("ftp://host", "must start with http:// or https://"),
            ("host:9091", "must start with http:// or https://"),
            ("http://", ""),
            ("http://:9091", ""),
            ("http://user:secret@host", "user and password apart"),
            ("http://host:0", "a port is"),
            ("http://host:99999/path", "a port is"),
            ("http://host/?a=b", "query"),
            ("http://host/#a", "fragment"),
            ("http://ho st", ""),
        ] {
            let error = BaseUrl::parse(url).unwrap_err();
            let words = error.to_string();
            assert!(
                matches!(error, PushError::Url { .. }) && words.contains(reason),
                "{url}: {words}"
            );
            assert!(!words.contains("secret"), "{words}");
        }
    }

    #[test]
    fn slashes_at_the_end_are_dropped() {
        for url in [
            "http://[::1]:9091",
            "http://127.0.0.1:9091/",
            "http://h/push//",
        ] {
            let parsed = BaseUrl::parse(url).unwrap();
            assert_eq!(parsed.as_str(), url.trim_end_matches('/'));
            let joined = parsed.join("/metrics/job/a").unwrap();
            assert!(joined.path().ends_with("/metrics/job/a") && !joined.path().contains("//"));
        }
    }

    #[test]
    fn plain_http_to_another_machine_is_exposed() {
        for (url, exposed) in [
            ("http://gateway.example", true),
            ("http://192.0.2.1:9091", true),
            ("http://[2001:db8::1]", true),
            ("http://notlocalhost", true),
            ("http://127.0.0.1:9091", false),
            ("http://127.255.0.1", false),
            ("http://[::1]:9091/x", false),
            ("http://[::ffff:127.0.0.1]:9091/x", false),
            ("http://LocalHost", false),
            ("http://gateway.localhost", false),
        ] {
            assert_eq!(BaseUrl::parse(url).unwrap().is_exposed(), exposed, "{url}");
        }
    }

    #[test]
    #[cfg(feature = "tls")]
    fn https_is_not_exposed() {
        let url = BaseUrl::parse("HTTPS://gateway.example/push/").unwrap();
        assert!(url.is_tls() && !url.is_exposed());
    }
}
