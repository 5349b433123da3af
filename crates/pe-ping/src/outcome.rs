//! How a probe ends: with a reply or an error, and the reasons by which errors are counted.

use std::net::IpAddr;
use std::time::Duration;

use pe_scrape::Family;
use thiserror::Error;

use crate::packet::Unreachable;
use crate::sys::Absent;

/// How one probe ended.
pub type Outcome = Result<Reply, ProbeError>;

/// An answer to a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply {
    /// The round-trip time: from the moment the request left to the kernel's time stamp of the reply. See
    /// [how exact the RTTs are](crate#how-exact-the-rtts-are).
    pub rtt: Duration,
    /// The TTL or hop limit left in the reply, where the kernel told it.
    pub ttl: Option<u8>,
    /// Bytes of the reply's payload.
    pub payload: u16,
    /// The reply's payload ends early, behind the cookie. Some large services cut replies short.
    pub truncated: bool,
}

/// Why a probe has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// Nothing came back before the deadline.
    #[error("no reply in time")]
    Timeout,
    /// No reply was seen, but meanwhile this machine discarded packets because the receive buffer was full. Whether the
    /// device answered is unknown.
    #[error("unknown: this machine's receive buffer overflowed while the reply was awaited")]
    DroppedLocally,
    /// A router, or the device itself, says that it cannot be reached.
    #[error("{} says: destination unreachable ({})", from, reason_words(*why))]
    Unreachable {
        /// Why.
        why: Unreachable,
        /// Who says so. This machine's own address, when the device does not answer on the local link.
        from: IpAddr,
    },
    /// The TTL ran out on the way.
    #[error("{from} says: time exceeded")]
    TimeExceeded {
        /// The router at which it ran out.
        from: IpAddr,
    },
    /// The request is too large for a link on the way and must not be fragmented.
    #[error("the packet is too big for a link on the way (MTU {mtu})")]
    PacketTooBig {
        /// The link's MTU in bytes, 0 where it is not known.
        mtu: u32,
        /// Who says so; `None` when it is this machine.
        from: Option<IpAddr>,
    },
    /// A router or the device could not make sense of the request's header.
    #[error("{from} says: parameter problem at byte {pointer}")]
    ParameterProblem {
        /// Who says so.
        from: IpAddr,
        /// Offset of the offending byte.
        pointer: u32,
    },
    /// Never sent: this machine has no route to the address.
    #[error("not sent: this machine has no route to the address")]
    NoRoute,
    /// Never sent: this machine has no interface of the name that is to be used, for now.
    #[error("not sent: this machine has no interface of that name, for now")]
    NoInterface,
    /// Never sent: the address to send from is not this machine's, for now.
    #[error("not sent: the address to send from is not this machine's, for now")]
    NoSource,
    /// Never sent: this machine's firewall, a full connection-tracking table, a route that prohibits it, or the lack of a
    /// right forbids it.
    #[error("not sent: this machine's firewall or permissions forbid it")]
    PermissionDenied,
    /// Never sent: the address is the broadcast address of a subnet of this machine, and no device's.
    #[error(
        "not sent: the address is the broadcast address of one of this machine's own subnets, and no device's"
    )]
    Broadcast,
    /// Never sent: this machine's queue to the network stayed full, or its neighbour table had no room for the address.
    #[error("not sent: this machine's queue to the network, or its neighbour table, is full")]
    NoBuffers,
    /// Never sent, for another reason.
    #[error("not sent: {}", std::io::Error::from_raw_os_error(*errno))]
    SendFailed {
        /// The error number (`errno(3)`).
        errno: i32,
    },
    /// Never sent: the sweep's deadline came first, or it was its turn too late to be answered.
    #[error("not sent: the deadline came first")]
    NotSent,
    /// Never sent: there is no socket of the address's family.
    #[error("not sent: this machine has no {family} socket")]
    NoSocket {
        /// The family that is missing.
        family: Family,
    },
    /// The engine's thread panicked, and has not been started again yet.
    #[error("the ICMP thread failed")]
    Closed,
}

fn reason_words(why: Unreachable) -> &'static str {
    match why {
        Unreachable::Network => "network",
        Unreachable::Host => "host",
        Unreachable::Protocol => "protocol",
        Unreachable::Port => "port",
        Unreachable::Prohibited => "administratively prohibited",
        _ => "other reason",
    }
}

/// A class of [`ProbeError`]s, the value of the label `reason` in `ping_errors_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
#[repr(u8)]
pub enum Reason {
    /// Nothing came back before the deadline.
    Timeout,
    /// Destination unreachable: no route to the network.
    NetworkUnreachable,
    /// Destination unreachable: the host does not answer on its link.
    HostUnreachable,
    /// Destination unreachable: a firewall says so.
    Prohibited,
    /// Destination unreachable, another code.
    Unreachable,
    /// Time exceeded.
    TimeExceeded,
    /// A router says that the packet does not fit a link on the way.
    PacketTooBig,
    /// Parameter problem.
    ParameterProblem,
    /// Never sent: no route from this machine.
    NoRoute,
    /// Never sent: forbidden on this machine.
    PermissionDenied,
    /// Never sent: this machine's queue is full.
    NoBuffers,
    /// Never sent: another local error.
    SendFailed,
    /// Never sent: no time was left, or the engine has ended.
    NotSent,
    /// Unknown: this machine dropped packets that had arrived.
    DroppedLocally,
    /// The host name has no address: a name server, or the hosts file, said so.
    Dns,
    /// Unknown: no name server answered for the host name.
    DnsUnanswered,
    /// Never sent: the packet does not fit this machine's own link.
    PacketTooBigLocally,
    /// Never sent: the broadcast address of a subnet of this machine.
    Broadcast,
    /// Never sent: the interface to send through is not there.
    NoInterface,
    /// Never sent: the address to send from is not there.
    NoSource,
    /// Never sent: the host name has an address that is not to be measured.
    Excluded,
    /// Never left: the link to the target has no carrier.
    NoCarrier,
}

impl Reason {
    /// All reasons, in the order of their discriminants.
    pub const ALL: [Self; 22] = [
        Self::Timeout,
        Self::NetworkUnreachable,
        Self::HostUnreachable,
        Self::Prohibited,
        Self::Unreachable,
        Self::TimeExceeded,
        Self::PacketTooBig,
        Self::ParameterProblem,
        Self::NoRoute,
        Self::PermissionDenied,
        Self::NoBuffers,
        Self::SendFailed,
        Self::NotSent,
        Self::DroppedLocally,
        Self::Dns,
        Self::DnsUnanswered,
        Self::PacketTooBigLocally,
        Self::Broadcast,
        Self::NoInterface,
        Self::NoSource,
        Self::Excluded,
        Self::NoCarrier,
    ];

    /// The label's value.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::NetworkUnreachable => "network_unreachable",
            Self::HostUnreachable => "host_unreachable",
            Self::Prohibited => "prohibited",
            Self::Unreachable => "unreachable",
            Self::TimeExceeded => "time_exceeded",
            Self::PacketTooBig => "packet_too_big",
            Self::ParameterProblem => "parameter_problem",
            Self::NoRoute => "no_route",
            Self::PermissionDenied => "permission_denied",
            Self::NoBuffers => "no_buffers",
            Self::SendFailed => "send_failed",
            Self::NotSent => "not_sent",
            Self::DroppedLocally => "dropped_locally",
            Self::Dns => "dns",
            Self::DnsUnanswered => "dns_unanswered",
            Self::PacketTooBigLocally => "packet_too_big_locally",
            Self::Broadcast => "broadcast",
            Self::NoInterface => "no_interface",
            Self::NoSource => "no_source_address",
            Self::Excluded => "excluded",
            Self::NoCarrier => "no_carrier",
        }
    }

    /// Whether nothing was learned about the device, because this machine could not ask or hear: the request never left, the
    /// reply may have been dropped here, or no name server told the address. Such a probe counts neither for nor against
    /// the device.
    ///
    /// Otherwise the device is up or down: it was asked, or it is known that its name has no address. An ICMP error counts
    /// against it, also one that this machine's own kernel raises because nobody answers for the address on the local link.
    #[must_use]
    pub fn is_unknown(self) -> bool {
        match self {
            Self::Timeout
            | Self::NetworkUnreachable
            | Self::HostUnreachable
            | Self::Prohibited
            | Self::Unreachable
            | Self::TimeExceeded
            | Self::PacketTooBig
            | Self::ParameterProblem
            | Self::Dns => false,
            Self::NoRoute
            | Self::PermissionDenied
            | Self::NoBuffers
            | Self::SendFailed
            | Self::NotSent
            | Self::DroppedLocally
            | Self::DnsUnanswered
            | Self::PacketTooBigLocally
            | Self::Broadcast
            | Self::NoInterface
            | Self::NoSource
            | Self::Excluded
            | Self::NoCarrier => true,
        }
    }
}

impl ProbeError {
    /// The class of the error.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Timeout => Reason::Timeout,
            Self::DroppedLocally => Reason::DroppedLocally,
            Self::Unreachable { why, .. } => match why {
                Unreachable::Network => Reason::NetworkUnreachable,
                Unreachable::Host => Reason::HostUnreachable,
                Unreachable::Prohibited => Reason::Prohibited,
                _ => Reason::Unreachable,
            },
            Self::TimeExceeded { .. } => Reason::TimeExceeded,
            Self::PacketTooBig { from: None, .. } => Reason::PacketTooBigLocally,
            Self::PacketTooBig { .. } => Reason::PacketTooBig,
            Self::ParameterProblem { .. } => Reason::ParameterProblem,
            Self::NoRoute | Self::NoSocket { .. } => Reason::NoRoute,
            Self::PermissionDenied => Reason::PermissionDenied,
            Self::Broadcast => Reason::Broadcast,
            Self::NoInterface => Reason::NoInterface,
            Self::NoSource => Reason::NoSource,
            Self::NoBuffers => Reason::NoBuffers,
            Self::SendFailed { .. } => Reason::SendFailed,
            Self::NotSent | Self::Closed => Reason::NotSent,
        }
    }

    /// Whether the request left this machine, so that its lack of an answer says something about the network.
    #[must_use]
    pub(crate) fn was_sent(&self) -> bool {
        match self {
            Self::Timeout
            | Self::DroppedLocally
            | Self::Unreachable { .. }
            | Self::TimeExceeded { .. }
            | Self::ParameterProblem { .. } => true,
            Self::PacketTooBig { from, .. } => from.is_some(),
            _ => false,
        }
    }

    /// Whether nothing was learned about the device; see [`Reason::is_unknown`].
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        self.reason().is_unknown()
    }

    /// The error for a request that cannot leave for want of this.
    pub(crate) fn from_absent(absent: Absent) -> Self {
        match absent {
            Absent::Interface => Self::NoInterface,
            Absent::Source => Self::NoSource,
        }
    }

    /// The error for a request that `send(2)` refused.
    pub(crate) fn from_send(errno: i32) -> Self {
        match errno {
            libc::ENETUNREACH
            | libc::EHOSTUNREACH
            | libc::ENETDOWN
            | libc::EHOSTDOWN
            | libc::ENODEV
            | libc::ENXIO
            | libc::EADDRNOTAVAIL => Self::NoRoute,
            libc::EPERM | libc::EACCES => Self::PermissionDenied,
            libc::ENOBUFS | libc::ENOMEM => Self::NoBuffers,
            libc::EMSGSIZE => Self::PacketTooBig { mtu: 0, from: None },
            errno => Self::SendFailed { errno },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Stats;

    #[test]
    fn reasons_are_in_the_order_of_their_discriminants_and_distinct() {
        for (position, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, position);
            assert!(
                Reason::ALL[..position]
                    .iter()
                    .all(|other| other.as_str() != reason.as_str())
            );
        }
    }

    #[test]
    fn an_error_and_statistics_of_it_alone_agree_on_what_is_unknown() {
        let from = IpAddr::from([192, 0, 2, 1]);
        for error in [
            ProbeError::Timeout,
            ProbeError::DroppedLocally,
            ProbeError::TimeExceeded { from },
            ProbeError::NoRoute,
            ProbeError::PermissionDenied,
            ProbeError::Broadcast,
            ProbeError::NoInterface,
            ProbeError::NoSource,
            ProbeError::PacketTooBig { mtu: 0, from: None },
            ProbeError::PacketTooBig {
                mtu: 1400,
                from: Some(from),
            },
            ProbeError::NoBuffers,
            ProbeError::SendFailed { errno: 5 },
            ProbeError::NotSent,
            ProbeError::NoSocket { family: Family::V6 },
            ProbeError::Closed,
        ] {
            let stats = Stats::from(error);
            assert_eq!(error.is_unknown(), stats.is_unknown(), "{error:?}");
            // What left may be lost on the way; what did not says nothing of the device.
            assert!(error.was_sent() || error.is_unknown(), "{error:?}");
        }
        assert!(ProbeError::Closed.is_unknown() && ProbeError::NotSent.is_unknown());
    }
}
