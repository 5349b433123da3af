//! What ICMP errors mean, by type and code.

use crate::proto::icmp::{V4_FRAGMENTATION_NEEDED, v4, v6};

/// What an ICMP error says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IcmpError {
    /// Destination unreachable; the code means what it means in the family of the probe.
    Unreachable(Unreachable),
    /// Time exceeded: the TTL ran out on the way (code 0), or fragments did not arrive (code 1).
    TimeExceeded {
        /// The ICMP code.
        code: u8,
    },
    /// The packet does not fit the next link and must not be fragmented.
    PacketTooBig {
        /// The next link's MTU in bytes; 0 when the router did not say.
        mtu: u32,
    },
    /// A router or the host could not make sense of the header.
    ParameterProblem {
        /// Offset of the offending byte in the packet.
        pointer: u32,
    },
}

/// Why a destination is unreachable (RFC 792, RFC 1122, RFC 1812; RFC 4443).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Unreachable {
    /// No route to the network.
    Network,
    /// The host does not answer on its link.
    Host,
    /// The host does not know ICMP.
    Protocol,
    /// The port is closed.
    Port,
    /// A firewall says so.
    Prohibited,
    /// Another code.
    Other(u8),
}

impl Unreachable {
    fn from_v4(code: u8) -> Self {
        match code {
            0 | 6 | 8 | 11 => Self::Network,
            1 | 7 | 12 => Self::Host,
            2 => Self::Protocol,
            3 => Self::Port,
            9 | 10 | 13 => Self::Prohibited,
            other => Self::Other(other),
        }
    }

    fn from_v6(code: u8) -> Self {
        match code {
            0 | 2 => Self::Network,
            1 | 5 | 6 => Self::Prohibited,
            3 => Self::Host,
            4 => Self::Port,
            other => Self::Other(other),
        }
    }
}

impl IcmpError {
    /// Reads the type, code and second word of an ICMPv4 error; `None` for types that end no probe.
    #[must_use]
    pub fn from_v4(kind: u8, code: u8, info: u32) -> Option<Self> {
        Some(match (kind, code) {
            (v4::UNREACHABLE, V4_FRAGMENTATION_NEEDED) => Self::PacketTooBig { mtu: info & 0xffff },
            (v4::UNREACHABLE, code) => Self::Unreachable(Unreachable::from_v4(code)),
            (v4::TIME_EXCEEDED, code) => Self::TimeExceeded { code },
            (v4::PARAMETER_PROBLEM, _) => Self::ParameterProblem {
                pointer: info >> 24,
            },
            _ => return None,
        })
    }

    /// The same for ICMPv6.
    #[must_use]
    pub fn from_v6(kind: u8, code: u8, info: u32) -> Option<Self> {
        Some(match kind {
            v6::UNREACHABLE => Self::Unreachable(Unreachable::from_v6(code)),
            v6::TOO_BIG => Self::PacketTooBig { mtu: info },
            v6::TIME_EXCEEDED => Self::TimeExceeded { code },
            v6::PARAMETER_PROBLEM => Self::ParameterProblem { pointer: info },
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_what_they_mean() {
        use Unreachable::{Host, Network, Other, Port, Prohibited, Protocol};
        let v4 = |kind, code| IcmpError::from_v4(kind, code, 0x0102_0578);
        for (code, why) in [
            (0, Network),
            (1, Host),
            (2, Protocol),
            (3, Port),
            (13, Prohibited),
            (5, Other(5)),
        ] {
            assert_eq!(v4(3, code), Some(IcmpError::Unreachable(why)));
        }
        assert_eq!(v4(3, 4), Some(IcmpError::PacketTooBig { mtu: 0x578 }));
        assert_eq!(v4(11, 1), Some(IcmpError::TimeExceeded { code: 1 }));
        assert_eq!(v4(12, 0), Some(IcmpError::ParameterProblem { pointer: 1 }));
        assert_eq!(v4(4, 0), None);
        let v6 = |kind, code| IcmpError::from_v6(kind, code, 1280);
        for (code, why) in [
            (0, Network),
            (1, Prohibited),
            (3, Host),
            (4, Port),
            (7, Other(7)),
        ] {
            assert_eq!(v6(1, code), Some(IcmpError::Unreachable(why)));
        }
        assert_eq!(v6(2, 0), Some(IcmpError::PacketTooBig { mtu: 1280 }));
        assert_eq!(v6(3, 0), Some(IcmpError::TimeExceeded { code: 0 }));
        assert_eq!(
            v6(4, 0),
            Some(IcmpError::ParameterProblem { pointer: 1280 })
        );
        assert_eq!(v6(130, 0), None);
    }
}
