//! ICMP messages as bytes: echo requests built in place, replies and errors parsed without copying.
//!
//! Nothing here does I/O, allocates or panics on any input. Sources: RFC 792 (ICMPv4), RFC 4443 (ICMPv6), RFC 791 and
//! RFC 8200 (the headers around them).

mod echo;
mod error;
mod parse;

pub use echo::{CookieKey, EchoKey, EchoTemplate, Recognition, Secret};
pub use error::{IcmpError, Unreachable};
pub use parse::{
    Message, Quote, Reject, V4Packet, parse_v4, parse_v4_icmp, parse_v6, quote_v4, quote_v6,
    quoted_request,
};

/// Bytes of an ICMP echo header: type, code, checksum, identifier, sequence.
pub const ECHO_HEADER: usize = 8;
/// Bytes of the cookie at the start of each payload: 8 that are random per engine, 4 that count the probes.
pub const COOKIE: usize = 12;
/// The largest payload of an IPv4 echo request: 65,535 less the IP and the ICMP header.
pub const MAX_PAYLOAD: usize = 65_507;

#[cfg(test)]
mod tests;
