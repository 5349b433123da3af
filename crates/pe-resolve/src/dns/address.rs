//! The address of a name server.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;

/// The port of name servers (RFC 1035, section 4.2).
const PORT: u16 = 53;

/// The address of a name server, on a link that its zone names where it is a link-local one.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NameServer {
    /// The address.
    pub ip: IpAddr,
    /// The interface of a link-local address, by name or number. Interfaces come and go, so the name is looked up for each
    /// question.
    pub zone: Option<Arc<str>>,
    /// The port, for UDP and TCP.
    pub port: u16,
}

impl NameServer {
    /// The one of this machine.
    pub(crate) const LOCAL: Self = Self {
        ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
        zone: None,
        port: PORT,
    };

    /// The address with the number of its interface.
    pub(crate) fn scope(&self) -> std::io::Result<u32> {
        let Some(zone) = &self.zone else {
            return Ok(0);
        };
        match zone.parse() {
            Ok(number) => Ok(number),
            Err(_) => Ok(nix::net::if_::if_nametoindex(&**zone)?),
        }
    }
}

impl From<IpAddr> for NameServer {
    fn from(ip: IpAddr) -> Self {
        Self {
            ip,
            zone: None,
            port: PORT,
        }
    }
}

impl From<SocketAddr> for NameServer {
    fn from(address: SocketAddr) -> Self {
        let zone = match address {
            SocketAddr::V6(address) if address.scope_id() != 0 => {
                Some(address.scope_id().to_string().into())
            }
            _ => None,
        };
        Self {
            ip: address.ip(),
            zone,
            port: address.port(),
        }
    }
}

impl fmt::Display for NameServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.zone {
            Some(zone) => write!(f, "{}%{zone}", self.ip)?,
            None => write!(f, "{}", self.ip)?,
        }
        match self.port {
            PORT => Ok(()),
            port => write!(f, " port {port}"),
        }
    }
}

/// A text is no address of a name server.
#[derive(Clone, PartialEq, Eq, Error)]
#[error("not an address such as 192.0.2.53, 192.0.2.53:5353, [2001:db8::53]:5353 or fe80::53%eth0")]
pub struct NameServerError(());

pe_scrape::debug_with_causes!(NameServerError);

impl FromStr for NameServer {
    type Err = NameServerError;

    /// An address with or without a port, and with a zone where it is a link-local one: `192.0.2.53`, `[::1]:5353`,
    /// `fe80::53%eth0`, `[fe80::53%eth0]:5353`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(address.into());
        }
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Ok(ip.into());
        }
        let (address, port) = match text.strip_prefix('[').and_then(|text| text.split_once(']')) {
            Some((address, "")) => (address, Some(PORT)),
            Some((address, port)) => (
                address,
                port.strip_prefix(':').and_then(|port| port.parse().ok()),
            ),
            None => (text, Some(PORT)),
        };
        let (address, zone) = match address.split_once('%') {
            Some((address, zone)) => (address, Some(zone)),
            None => (address, None),
        };
        let ip = address.parse::<Ipv6Addr>().ok();
        let is_zone =
            |zone: &str| !zone.is_empty() && zone.len() < 16 && !zone.contains(['/', '%']);
        match (ip, zone, port) {
            (Some(ip), zone, Some(port)) if zone.is_none_or(is_zone) => Ok(Self {
                ip: ip.into(),
                zone: zone.map(Into::into),
                port,
            }),
            _ => Err(NameServerError(())),
        }
    }
}

/// The same address with a scope, where it is one of IPv6.
pub(super) fn scoped(address: SocketAddr, scope: u32) -> SocketAddr {
    match address {
        SocketAddr::V6(v6) if scope != 0 => {
            SocketAddrV6::new(*v6.ip(), v6.port(), v6.flowinfo(), scope).into()
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_and_zones_are_read() {
        for (text, ip, zone, port) in [
            ("127.0.0.1", "127.0.0.1", None, 53),
            ("127.0.0.1:5353", "127.0.0.1", None, 5353),
            ("::1", "::1", None, 53),
            ("[::1]", "::1", None, 53),
            ("[::1]:5353", "::1", None, 5353),
            ("fe80::1%eth0", "fe80::1", Some("eth0"), 53),
            ("fe80::1%3", "fe80::1", Some("3"), 53),
            ("[fe80::1%eth0]:5353", "fe80::1", Some("eth0"), 5353),
        ] {
            let server: NameServer = text.parse().unwrap();
            assert_eq!(server.ip, ip.parse::<IpAddr>().unwrap(), "{text}");
            assert_eq!(
                (server.zone.as_deref(), server.port),
                (zone, port),
                "{text}"
            );
        }
        for bad in [
            "",
            "ns.example",
            "127.0.0.1:x",
            "fe80::1%",
            "[::1]:",
            "127.0.0.1%eth0",
        ] {
            assert!(bad.parse::<NameServer>().is_err(), "{bad}");
        }
    }
}
