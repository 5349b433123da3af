//! Addresses and address families.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both families, IPv4 first.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// The family of an address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// Whether this is IPv6.
    #[must_use]
    pub fn is_v6(self) -> bool {
        self == Self::V6
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

crate::choices! {
    /// Which addresses of a host name are used.
    pub enum FamilyChoice {
        /// IPv4 only.
        V4 = "4",
        /// IPv6 only.
        V6 = "6",
        /// One address, whatever the resolver puts first.
        #[default]
        Any = "any",
        /// One address of each family, as two devices.
        Both = "both",
    }
}

impl FamilyChoice {
    /// The one family that is wanted; `None` for either.
    #[must_use]
    pub fn only(self) -> Option<Family> {
        match self {
            Self::V4 => Some(Family::V4),
            Self::V6 => Some(Family::V6),
            Self::Any | Self::Both => None,
        }
    }

    /// Whether an address of this family is one of those wanted.
    #[must_use]
    pub fn admits(self, family: Family) -> bool {
        self.only().is_none_or(|only| only == family)
    }
}

/// Where a target is: an address, or a host name that the scraper resolves.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Address {
    /// A literal address.
    Ip(IpAddr),
    /// A link-local IPv6 address, with the link that it is on.
    Zoned {
        /// The address.
        ip: Ipv6Addr,
        /// The interface of the link, by name or number: `eth0`. Which one that is, is looked up when packets leave.
        zone: Arc<str>,
    },
    /// A host name, and the family to resolve it to.
    Name {
        /// The host name, without a port.
        host: Arc<str>,
        /// The family of the address to use; `None` for whichever the resolver puts first.
        family: Option<Family>,
    },
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(ip) => ip.fmt(f),
            Self::Zoned { ip, zone } => write!(f, "{ip}%{zone}"),
            Self::Name { host, .. } => f.write_str(host),
        }
    }
}
