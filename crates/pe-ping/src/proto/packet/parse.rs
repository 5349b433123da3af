//! Parsing received messages, and the requests that ICMP errors quote.

use std::net::{IpAddr, Ipv4Addr};

use pe_scrape::Family;

use super::{ECHO_HEADER, IcmpError};
use crate::proto::checksum;
use crate::proto::icmp::{echo_request, next_header, v4, v6};

/// A received ICMP message that may concern us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message<'a> {
    /// An echo reply.
    EchoReply {
        /// The ICMP identifier.
        id: u16,
        /// The ICMP sequence number.
        sequence: u16,
        /// What follows the ICMP header.
        payload: &'a [u8],
    },
    /// An error that quotes an echo request.
    Error {
        /// What went wrong.
        error: IcmpError,
        /// The beginning of the request.
        quote: Quote<'a>,
    },
}

/// The beginning of an echo request, as an ICMP error quotes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quote<'a> {
    /// Where the request was going.
    pub destination: IpAddr,
    /// Where it came from, as far as the IP header is quoted.
    pub source: Option<IpAddr>,
    /// The ICMP identifier.
    pub id: u16,
    /// The ICMP sequence number.
    pub sequence: u16,
    /// The ICMP checksum.
    pub checksum: u16,
    /// As much of the payload as is quoted.
    pub payload: &'a [u8],
}

/// A message as a raw IPv4 socket delivers it, with what its IP header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct V4Packet<'a> {
    /// Who sent it.
    pub source: Ipv4Addr,
    /// The TTL left on arrival.
    pub ttl: u8,
    /// The ICMP message.
    pub message: Message<'a>,
}

/// Why received bytes are of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reject {
    /// Too short for what its headers promise, or not an ICMP message that could concern a probe.
    Irrelevant,
    /// The ICMP checksum does not fit the message.
    BadChecksum,
}

#[inline]
fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}

#[inline]
fn double_word(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(u32::from_be_bytes(bytes))
}

/// Splits an IPv4 packet into header and content, as far as the content is there. `whole` demands all of it.
#[inline]
fn split_v4(packet: &[u8], whole: bool) -> Option<(&[u8], &[u8])> {
    let first = *packet.first()?;
    let header_size = usize::from(first & 0x0f) * 4;
    let total = usize::from(word(packet, 2)?);
    if first >> 4 != 4 || header_size < 20 || packet.len() < header_size || total < header_size {
        return None;
    }
    if whole && total > packet.len() {
        return None;
    }
    let end = total.min(packet.len());
    Some((&packet[..header_size], &packet[header_size..end]))
}

/// Parses what a raw IPv4 socket delivers: the IP header and the ICMP message behind it.
///
/// `cut` says that the end of the packet did not fit the receive buffer; the checksum cannot be verified then, and only
/// errors are accepted.
///
/// # Errors
/// [`Reject`] for anything but an intact echo reply or an intact error that quotes an echo request.
#[inline]
pub fn parse_v4(packet: &[u8], cut: bool) -> Result<V4Packet<'_>, Reject> {
    let (header, icmp) = split_v4(packet, !cut).ok_or(Reject::Irrelevant)?;
    // A first fragment never gets here: the kernel reassembles before it delivers.
    if header[9] != next_header::ICMP {
        return Err(Reject::Irrelevant);
    }
    let message = parse_v4_icmp(icmp, cut)?;
    Ok(V4Packet {
        source: Ipv4Addr::new(header[12], header[13], header[14], header[15]),
        ttl: header[8],
        message,
    })
}

/// Parses an ICMPv4 message without its IP header, as a datagram ICMP socket delivers it.
///
/// # Errors
/// As [`parse_v4`].
#[inline]
pub fn parse_v4_icmp(icmp: &[u8], cut: bool) -> Result<Message<'_>, Reject> {
    if icmp.len() < ECHO_HEADER {
        return Err(Reject::Irrelevant);
    }
    let (kind, code) = (icmp[0], icmp[1]);
    if kind == v4::ECHO_REPLY {
        if code != 0 || cut {
            return Err(Reject::Irrelevant);
        }
        if !checksum::is_intact(icmp) {
            return Err(Reject::BadChecksum);
        }
        return echo_reply(icmp).ok_or(Reject::Irrelevant);
    }
    let info = double_word(icmp, 4).ok_or(Reject::Irrelevant)?;
    let error = IcmpError::from_v4(kind, code, info).ok_or(Reject::Irrelevant)?;
    let quote = quote_v4(&icmp[ECHO_HEADER..]).ok_or(Reject::Irrelevant)?;
    if !cut && !checksum::is_intact(icmp) {
        return Err(Reject::BadChecksum);
    }
    Ok(Message::Error { error, quote })
}

/// Parses an ICMPv6 message, as raw and datagram IPv6 sockets deliver it: without the IP header, and with the checksum
/// already verified by the kernel.
///
/// # Errors
/// [`Reject::Irrelevant`] for anything but an echo reply or an error that quotes an echo request.
#[inline]
pub fn parse_v6(icmp: &[u8], cut: bool) -> Result<Message<'_>, Reject> {
    parse_v6_icmp(icmp, cut).ok_or(Reject::Irrelevant)
}

fn parse_v6_icmp(icmp: &[u8], cut: bool) -> Option<Message<'_>> {
    if icmp.len() < ECHO_HEADER {
        return None;
    }
    let (kind, code) = (icmp[0], icmp[1]);
    if kind == v6::ECHO_REPLY {
        if code != 0 || cut {
            return None;
        }
        return echo_reply(icmp);
    }
    let error = IcmpError::from_v6(kind, code, double_word(icmp, 4)?)?;
    let quote = quote_v6(&icmp[ECHO_HEADER..])?;
    Some(Message::Error { error, quote })
}

#[inline]
fn echo_reply(icmp: &[u8]) -> Option<Message<'_>> {
    Some(Message::EchoReply {
        id: word(icmp, 4)?,
        sequence: word(icmp, 6)?,
        payload: icmp.get(ECHO_HEADER..)?,
    })
}

/// Parses the packet inside an ICMPv4 error: an IPv4 header and at least 8 bytes of an echo request.
#[must_use]
pub fn quote_v4(packet: &[u8]) -> Option<Quote<'_>> {
    let (header, icmp) = split_v4(packet, false)?;
    let fragment_offset = word(header, 6)? & 0x1fff;
    if header[9] != next_header::ICMP || fragment_offset != 0 {
        return None;
    }
    let address =
        |at: usize| IpAddr::from([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let quote = quoted_request(icmp, address(16))?;
    Some(Quote {
        source: Some(address(12)),
        ..quote
    })
}

/// Parses the packet inside an ICMPv6 error: an IPv6 header, possibly extension headers, and the beginning of an echo
/// request.
#[must_use]
pub fn quote_v6(packet: &[u8]) -> Option<Quote<'_>> {
    if packet.first()? >> 4 != 6 {
        return None;
    }
    let source: [u8; 16] = packet.get(8..24)?.try_into().ok()?;
    let destination: [u8; 16] = packet.get(24..40)?.try_into().ok()?;
    let mut next = packet[6];
    let mut rest = &packet[40..];
    // Hop-by-hop, routing, destination options; a fragment header only where it is the first fragment.
    for _ in 0..4 {
        match next {
            next_header::ICMPV6 => {
                let quote = quoted_request(rest, destination.into())?;
                return Some(Quote {
                    source: Some(source.into()),
                    ..quote
                });
            }
            next_header::HOP_BY_HOP | next_header::ROUTING | next_header::DESTINATION_OPTIONS => {
                let size = 8 + usize::from(*rest.get(1)?) * 8;
                next = rest[0];
                rest = rest.get(size..)?;
            }
            next_header::FRAGMENT => {
                if word(rest, 2)? & 0xfff8 != 0 {
                    return None;
                }
                next = rest[0];
                rest = rest.get(8..)?;
            }
            _ => return None,
        }
    }
    None
}

/// Parses a quoted echo request to `destination` of which the IP header is already gone.
#[must_use]
pub fn quoted_request(icmp: &[u8], destination: IpAddr) -> Option<Quote<'_>> {
    let kind = echo_request(Family::of(destination));
    if icmp.len() < ECHO_HEADER || icmp[0] != kind || icmp[1] != 0 {
        return None;
    }
    Some(Quote {
        destination,
        source: None,
        id: word(icmp, 4)?,
        sequence: word(icmp, 6)?,
        checksum: word(icmp, 2)?,
        payload: &icmp[ECHO_HEADER..],
    })
}
