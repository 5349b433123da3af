//! Echo requests taken apart, and all that a network can answer put together, as bytes.
//!
//! Sources: RFC 791 and RFC 8200 (headers), RFC 792 and RFC 4443 (messages), RFC 1071 (checksum).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const V4_HEADER: usize = 20;
const V6_HEADER: usize = 40;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

/// An echo request as it came out of the network device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EchoRequest<'a> {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    /// TTL or hop limit.
    pub(super) ttl: u8,
    pub(super) identifier: u16,
    pub(super) sequence: u16,
    pub(super) payload: &'a [u8],
    /// Where the ICMP message begins in the packet.
    pub(super) message_at: usize,
}

/// Why a packet is no echo request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoRequest {
    /// It is something else.
    Other,
    /// It is one, but its checksum or its length is wrong.
    Malformed,
}

impl<'a> EchoRequest<'a> {
    pub(super) fn parse(packet: &'a [u8]) -> Result<Self, NoRequest> {
        match packet.first().map(|byte| byte >> 4) {
            Some(4) => Self::parse_v4(packet),
            Some(6) => Self::parse_v6(packet),
            _ => Err(NoRequest::Other),
        }
    }

    fn parse_v4(packet: &'a [u8]) -> Result<Self, NoRequest> {
        let header = usize::from(packet[0] & 15) * 4;
        if packet.len() < V4_HEADER || packet[9] != ICMP || packet.get(header) != Some(&8) {
            return Err(NoRequest::Other);
        }
        let total = usize::from(u16_at(packet, 2));
        let fragment = u16_at(packet, 6) & 0x3fff != 0;
        if fragment || total != packet.len() || total < header + 8 {
            return Err(NoRequest::Malformed);
        }
        let message = &packet[header..];
        if checksum(&packet[..header], 0) != 0 || checksum(message, 0) != 0 {
            return Err(NoRequest::Malformed);
        }
        let address = |at: usize| -> IpAddr {
            Ipv4Addr::new(packet[at], packet[at + 1], packet[at + 2], packet[at + 3]).into()
        };
        Ok(Self {
            source: address(12),
            destination: address(16),
            ttl: packet[8],
            identifier: u16_at(message, 4),
            sequence: u16_at(message, 6),
            payload: &message[8..],
            message_at: header,
        })
    }

    fn parse_v6(packet: &'a [u8]) -> Result<Self, NoRequest> {
        if packet.len() < V6_HEADER || packet[6] != ICMPV6 || packet.get(V6_HEADER) != Some(&128) {
            return Err(NoRequest::Other);
        }
        let message = &packet[V6_HEADER..];
        let (source, destination) = (v6_at(packet, 8), v6_at(packet, 24));
        if usize::from(u16_at(packet, 4)) != message.len()
            || message.len() < 8
            || checksum(message, pseudo_sum(source, destination, message.len())) != 0
        {
            return Err(NoRequest::Malformed);
        }
        Ok(Self {
            source: source.into(),
            destination: destination.into(),
            ttl: packet[7],
            identifier: u16_at(message, 4),
            sequence: u16_at(message, 6),
            payload: &message[8..],
            message_at: V6_HEADER,
        })
    }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn v6_at(bytes: &[u8], at: usize) -> Ipv6Addr {
    let mut octets = [0; 16];
    octets.copy_from_slice(&bytes[at..at + 16]);
    octets.into()
}

/// An ICMP message in its IP packet, to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outgoing {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) ttl: u8,
    /// Type, code, two bytes for the checksum, and all that follows.
    pub(super) message: Vec<u8>,
    /// The checksum is one too many.
    pub(super) bad_checksum: bool,
    /// An IPv4 header with options (four of no meaning).
    pub(super) ip_options: bool,
}

impl Outgoing {
    pub(super) fn new(source: IpAddr, destination: IpAddr, message: Vec<u8>) -> Self {
        Self {
            source,
            destination,
            ttl: 64,
            message,
            bad_checksum: false,
            ip_options: false,
        }
    }

    /// The whole packet.
    ///
    /// # Panics
    /// If the addresses are of different families or the message does not fit a packet.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut message = self.message.clone();
        let sum_at = message.get_mut(2..4).map(|bytes| bytes.fill(0));
        let (mut packet, pseudo) = match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                (self.v4_header(source, destination), 0)
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let sum = pseudo_sum(source, destination, message.len());
                (self.v6_header(source, destination), sum)
            }
            (source, destination) => panic!("no packet goes from {source} to {destination}"),
        };
        if sum_at.is_some() {
            let right = checksum(&message, pseudo);
            let sum = if self.bad_checksum {
                right.wrapping_add(1)
            } else {
                right
            };
            message[2..4].copy_from_slice(&sum.to_be_bytes());
        }
        packet.extend_from_slice(&message);
        packet
    }

    fn length(&self, header: usize) -> [u8; 2] {
        let length = u16::try_from(header + self.message.len());
        length
            .unwrap_or_else(|_| panic!("the packet is longer than IP allows"))
            .to_be_bytes()
    }

    fn v4_header(&self, source: Ipv4Addr, destination: Ipv4Addr) -> Vec<u8> {
        let options: &[u8] = if self.ip_options { &[1, 1, 1, 0] } else { &[] };
        let header = V4_HEADER + options.len();
        let mut packet = Vec::with_capacity(header + self.message.len());
        packet.extend_from_slice(&[0x40 | (header / 4) as u8, 0]);
        packet.extend_from_slice(&self.length(header));
        packet.extend_from_slice(&[0, 0, 0, 0, self.ttl, ICMP, 0, 0]);
        packet.extend_from_slice(&source.octets());
        packet.extend_from_slice(&destination.octets());
        packet.extend_from_slice(options);
        let sum = checksum(&packet, 0);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        packet
    }

    fn v6_header(&self, source: Ipv6Addr, destination: Ipv6Addr) -> Vec<u8> {
        let mut packet = Vec::with_capacity(V6_HEADER + self.message.len());
        packet.extend_from_slice(&[0x60, 0, 0, 0]);
        packet.extend_from_slice(&self.length(0));
        packet.extend_from_slice(&[ICMPV6, self.ttl]);
        packet.extend_from_slice(&source.octets());
        packet.extend_from_slice(&destination.octets());
        packet
    }
}

/// An echo reply's message, its checksum still open.
pub(super) fn echo_reply(v6: bool, identifier: u16, sequence: u16, payload: &[u8]) -> Vec<u8> {
    echo(if v6 { 129 } else { 0 }, identifier, sequence, payload)
}

/// An echo message of the given type, its checksum still open.
pub(super) fn echo(kind: u8, identifier: u16, sequence: u16, payload: &[u8]) -> Vec<u8> {
    let mut message = vec![kind, 0, 0, 0];
    message.extend_from_slice(&identifier.to_be_bytes());
    message.extend_from_slice(&sequence.to_be_bytes());
    message.extend_from_slice(payload);
    message
}

/// An ICMP error's message that quotes the beginning of a packet, its checksum still open.
pub(super) fn error(kind: u8, code: u8, info: u32, quote: &[u8]) -> Vec<u8> {
    let mut message = vec![kind, code, 0, 0];
    message.extend_from_slice(&info.to_be_bytes());
    message.extend_from_slice(quote);
    message
}

fn checksum(bytes: &[u8], start: u32) -> u16 {
    let mut sum = u64::from(start);
    for pair in bytes.chunks(2) {
        let low = pair.get(1).copied().unwrap_or(0);
        sum += u64::from(u16::from_be_bytes([pair[0], low]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn pseudo_sum(source: Ipv6Addr, destination: Ipv6Addr, length: usize) -> u32 {
    let words = source.segments().into_iter().chain(destination.segments());
    words.map(u32::from).sum::<u32>() + length as u32 + u32::from(ICMPV6)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(v6: bool, payload: &[u8]) -> Vec<u8> {
        let addresses: (IpAddr, IpAddr) = if v6 {
            ("fd00::1".parse().unwrap(), "fd00::2".parse().unwrap())
        } else {
            ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap())
        };
        let message = echo(if v6 { 128 } else { 8 }, 0x1234, 7, payload);
        Outgoing::new(addresses.0, addresses.1, message).encode()
    }

    #[test]
    fn what_is_encoded_is_parsed_and_a_flipped_bit_is_noticed() {
        for v6 in [false, true] {
            for payload in [&b""[..], b"odd", b"even"] {
                let packet = request(v6, payload);
                let parsed = EchoRequest::parse(&packet).unwrap();
                assert_eq!(
                    (parsed.identifier, parsed.sequence, parsed.ttl),
                    (0x1234, 7, 64)
                );
                assert_eq!(parsed.payload, payload);
                assert_eq!(parsed.destination.is_ipv6(), v6);
                let mut flipped = packet.clone();
                let last = flipped.len() - 1;
                flipped[last] ^= 1;
                assert_eq!(EchoRequest::parse(&flipped), Err(NoRequest::Malformed));
                assert_eq!(
                    EchoRequest::parse(&packet[..last]),
                    Err(NoRequest::Malformed)
                );
            }
        }
    }

    #[test]
    fn other_packets_are_no_requests() {
        assert_eq!(EchoRequest::parse(&[]), Err(NoRequest::Other));
        assert_eq!(EchoRequest::parse(&[0x45; 20]), Err(NoRequest::Other));
        let mut reply = request(false, b"x");
        reply[20] = 0;
        assert_eq!(EchoRequest::parse(&reply), Err(NoRequest::Other));
    }

    #[test]
    fn a_known_request_has_the_known_checksum() {
        // The request of `ping -s 0` with identifier 1 and sequence 1: 0x0800 + 1 + 1, inverted.
        let packet = Outgoing::new(
            IpAddr::from([127, 0, 0, 1]),
            IpAddr::from([127, 0, 0, 1]),
            echo(8, 1, 1, b""),
        )
        .encode();
        assert_eq!(packet[20..], [8, 0, 0xf7, 0xfd, 0, 1, 0, 1]);
    }

    #[test]
    fn options_lengthen_the_header() {
        let mut outgoing = Outgoing::new(
            IpAddr::from([10, 0, 0, 1]),
            IpAddr::from([10, 0, 0, 2]),
            echo(8, 1, 2, b"abc"),
        );
        outgoing.ip_options = true;
        let packet = outgoing.encode();
        assert_eq!(packet[0], 0x46);
        assert_eq!(EchoRequest::parse(&packet).unwrap().message_at, 24);
    }
}
