//! The numbers of the protocols: ICMP types, and what follows an IP header.
//!
//! Sources: RFC 792 (ICMPv4), RFC 4443 (ICMPv6), RFC 8200 (extension headers), and IANA's registries of both.

use pe_scrape::Family;

/// Types of ICMPv4 messages.
pub(crate) mod v4 {
    pub(crate) const ECHO_REPLY: u8 = 0;
    pub(crate) const UNREACHABLE: u8 = 3;
    pub(crate) const ECHO_REQUEST: u8 = 8;
    pub(crate) const TIME_EXCEEDED: u8 = 11;
    pub(crate) const PARAMETER_PROBLEM: u8 = 12;
}

/// Types of ICMPv6 messages.
pub(crate) mod v6 {
    pub(crate) const UNREACHABLE: u8 = 1;
    pub(crate) const TOO_BIG: u8 = 2;
    pub(crate) const TIME_EXCEEDED: u8 = 3;
    pub(crate) const PARAMETER_PROBLEM: u8 = 4;
    pub(crate) const ECHO_REQUEST: u8 = 128;
    pub(crate) const ECHO_REPLY: u8 = 129;
}

/// What may follow an IP header, by its protocol or next-header number.
pub(crate) mod next_header {
    pub(crate) const HOP_BY_HOP: u8 = 0;
    pub(crate) const ICMP: u8 = 1;
    pub(crate) const ROUTING: u8 = 43;
    pub(crate) const FRAGMENT: u8 = 44;
    pub(crate) const ICMPV6: u8 = 58;
    pub(crate) const DESTINATION_OPTIONS: u8 = 60;
}

/// The code of an ICMPv4 "unreachable" that means "fragmentation needed".
pub(crate) const V4_FRAGMENTATION_NEEDED: u8 = 4;

/// The type of an echo request.
pub(crate) fn echo_request(family: Family) -> u8 {
    match family {
        Family::V4 => v4::ECHO_REQUEST,
        Family::V6 => v6::ECHO_REQUEST,
    }
}

/// The types of messages that may concern a probe: echo replies, and the errors that quote a request.
pub(crate) fn types_of_interest(family: Family) -> &'static [u8] {
    match family {
        Family::V4 => &[
            v4::ECHO_REPLY,
            v4::UNREACHABLE,
            v4::TIME_EXCEEDED,
            v4::PARAMETER_PROBLEM,
        ],
        Family::V6 => &[
            v6::UNREACHABLE,
            v6::TOO_BIG,
            v6::TIME_EXCEEDED,
            v6::PARAMETER_PROBLEM,
            v6::ECHO_REPLY,
        ],
    }
}
