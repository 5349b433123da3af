//! ICMP messages as bytes: echo requests built in place, replies and errors parsed without copying.
//!
//! Nothing here does I/O, allocates or panics on any input. Sources: RFC 792 (ICMPv4), RFC 4443 (ICMPv6), RFC 791 and
//! RFC 8200 (the headers around them).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::checksum::{self, Sum};

/// Bytes of an ICMP echo header: type, code, checksum, identifier, sequence.
pub const ECHO_HEADER: usize = 8;
/// Bytes of the cookie at the start of each payload: 8 that are random per engine, 4 that count the probes.
pub const COOKIE: usize = 12;
/// The largest payload of an IPv4 echo request: 65,535 less the IP and the ICMP header.
pub const MAX_PAYLOAD: usize = 65_507;

const V4_ECHO_REPLY: u8 = 0;
const V4_UNREACHABLE: u8 = 3;
pub(crate) const V4_ECHO_REQUEST: u8 = 8;
const V4_TIME_EXCEEDED: u8 = 11;
const V4_PARAMETER_PROBLEM: u8 = 12;
const V6_UNREACHABLE: u8 = 1;
const V6_TOO_BIG: u8 = 2;
const V6_TIME_EXCEEDED: u8 = 3;
const V6_PARAMETER_PROBLEM: u8 = 4;
pub(crate) const V6_ECHO_REQUEST: u8 = 128;
const V6_ECHO_REPLY: u8 = 129;

const PROTOCOL_ICMP: u8 = 1;
const PROTOCOL_ICMPV6: u8 = 58;

/// The parts of an echo message that tell one probe from all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EchoKey {
    /// The ICMP identifier.
    pub id: u16,
    /// The ICMP sequence number.
    pub sequence: u16,
    /// The engine's count of this probe, carried in the cookie.
    pub generation: u32,
}

/// How this engine's echo requests look: the fill pattern, the random part of the cookie, and their share of the
/// checksum, all computed once.
#[derive(Debug, Clone)]
pub struct EchoTemplate {
    payload: Box<[u8]>,
    v4_sum: Sum,
}

impl EchoTemplate {
    /// A template for payloads of `size` bytes that start with `secret`. A payload shorter than [`COOKIE`] carries as
    /// much of the random part as fits and no count; its replies are matched by that, address, identifier and sequence.
    #[must_use]
    pub fn new(secret: [u8; 8], size: usize) -> Self {
        let mut payload: Box<[u8]> = (0..size).map(|at| at as u8).collect();
        for (byte, secret) in payload.iter_mut().zip(secret.into_iter().chain([0; 4])) {
            *byte = secret;
        }
        let v4_sum = Sum::default()
            .bytes(&payload)
            .word(u16::from(V4_ECHO_REQUEST) << 8);
        Self { payload, v4_sum }
    }

    /// Bytes of the payload.
    #[must_use]
    pub fn payload_size(&self) -> usize {
        self.payload.len()
    }

    /// Bytes of the whole ICMP message.
    #[must_use]
    pub fn message_size(&self) -> usize {
        ECHO_HEADER + self.payload.len()
    }

    /// Fills `message` with everything that is the same in each request.
    ///
    /// # Panics
    /// When `message` is not [`message_size`](Self::message_size) bytes long.
    pub fn prepare(&self, message: &mut [u8]) {
        let (header, payload) = message.split_at_mut(ECHO_HEADER);
        header.fill(0);
        payload.copy_from_slice(&self.payload);
    }

    /// Turns a message that was [prepared](Self::prepare) (and possibly used before) into the IPv4 request for `key`.
    #[inline]
    pub fn write_v4(&self, message: &mut [u8], key: EchoKey) {
        let checksum = self.v4_checksum(key);
        self.write(message, V4_ECHO_REQUEST, checksum, key);
    }

    /// The same for IPv6, where the kernel computes the checksum.
    #[inline]
    pub fn write_v6(&self, message: &mut [u8], key: EchoKey) {
        self.write(message, V6_ECHO_REQUEST, 0, key);
    }

    #[inline]
    fn write(&self, message: &mut [u8], kind: u8, checksum: u16, key: EchoKey) {
        let mut header = [kind, 0, 0, 0, 0, 0, 0, 0];
        header[2..4].copy_from_slice(&checksum.to_be_bytes());
        header[4..6].copy_from_slice(&key.id.to_be_bytes());
        header[6..8].copy_from_slice(&key.sequence.to_be_bytes());
        message[..ECHO_HEADER].copy_from_slice(&header);
        if let Some(field) = message.get_mut(ECHO_HEADER + 8..ECHO_HEADER + COOKIE) {
            field.copy_from_slice(&key.generation.to_be_bytes());
        }
    }

    /// The checksum of the IPv4 request for `key`.
    #[inline]
    #[must_use]
    pub fn v4_checksum(&self, key: EchoKey) -> u16 {
        let sum = self.v4_sum.word(key.id).word(key.sequence);
        if self.payload.len() >= COOKIE {
            sum.double_word(key.generation).checksum()
        } else {
            sum.checksum()
        }
    }

    /// Judges the payload of an echo reply.
    #[inline]
    #[must_use]
    pub fn recognise(&self, payload: &[u8]) -> Recognition {
        let expected = self.payload.len();
        let (secret, cookie) = (expected.min(8), expected.min(COOKIE));
        if payload.len() < cookie || payload[..secret] != self.payload[..secret] {
            return Recognition::Foreign;
        }
        // Without a count in the cookie, the bytes in its place are as fixed as those behind it.
        let fixed = if expected >= COOKIE { COOKIE } else { secret };
        if payload.len() > expected || payload[fixed..] != self.payload[fixed..payload.len()] {
            return Recognition::Altered;
        }
        Recognition::Ours {
            generation: payload
                .get(8..COOKIE)
                .map(|bytes| u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])),
            truncated: payload.len() < expected,
        }
    }

    /// Whether the quoted beginning of a request fits the request for `key`.
    ///
    /// A quote that reaches past the cookie must hold it. A shorter one (RFC 792 demands no more than the bare header) must
    /// hold the checksum that this request had, where we computed it (`v4_checksum`).
    #[inline]
    #[must_use]
    pub fn fits_quote(&self, quote: &Quote<'_>, key: EchoKey, v4_checksum: bool) -> bool {
        if quote.id != key.id || quote.sequence != key.sequence {
            return false;
        }
        if self.payload.len() >= COOKIE && quote.payload.len() >= COOKIE {
            quote.payload[..8] == self.payload[..8]
                && quote.payload[8..COOKIE] == key.generation.to_be_bytes()
        } else {
            !v4_checksum || quote.checksum == self.v4_checksum(key)
        }
    }
}

/// What the payload of an echo reply says about where it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recognition {
    /// It starts with our cookie and goes on as we sent it.
    Ours {
        /// The probe's count, if the payload is large enough to carry it.
        generation: Option<u32>,
        /// The end of the payload is missing.
        truncated: bool,
    },
    /// It starts with our cookie, but what follows is not what we sent.
    Altered,
    /// The cookie is missing or another's.
    Foreign,
}

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
    /// The ICMP identifier.
    pub id: u16,
    /// The ICMP sequence number.
    pub sequence: u16,
    /// The ICMP checksum.
    pub checksum: u16,
    /// As much of the payload as is quoted.
    pub payload: &'a [u8],
}

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
            (V4_UNREACHABLE, 4) => Self::PacketTooBig { mtu: info & 0xffff },
            (V4_UNREACHABLE, code) => Self::Unreachable(Unreachable::from_v4(code)),
            (V4_TIME_EXCEEDED, code) => Self::TimeExceeded { code },
            (V4_PARAMETER_PROBLEM, _) => Self::ParameterProblem {
                pointer: info >> 24,
            },
            _ => return None,
        })
    }

    /// The same for ICMPv6.
    #[must_use]
    pub fn from_v6(kind: u8, code: u8, info: u32) -> Option<Self> {
        Some(match kind {
            V6_UNREACHABLE => Self::Unreachable(Unreachable::from_v6(code)),
            V6_TOO_BIG => Self::PacketTooBig { mtu: info },
            V6_TIME_EXCEEDED => Self::TimeExceeded { code },
            V6_PARAMETER_PROBLEM => Self::ParameterProblem { pointer: info },
            _ => return None,
        })
    }
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
    if header[9] != PROTOCOL_ICMP {
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
    if kind == V4_ECHO_REPLY {
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
    if kind == V6_ECHO_REPLY {
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
    if header[9] != PROTOCOL_ICMP || fragment_offset != 0 {
        return None;
    }
    let destination = Ipv4Addr::new(header[16], header[17], header[18], header[19]);
    quoted_request(icmp, V4_ECHO_REQUEST, destination.into())
}

/// Parses the packet inside an ICMPv6 error: an IPv6 header, possibly extension headers, and the beginning of an echo
/// request.
#[must_use]
pub fn quote_v6(packet: &[u8]) -> Option<Quote<'_>> {
    if packet.first()? >> 4 != 6 {
        return None;
    }
    let destination: [u8; 16] = packet.get(24..40)?.try_into().ok()?;
    let mut next = packet[6];
    let mut rest = &packet[40..];
    // Hop-by-hop, routing, destination options; a fragment header only where it is the first fragment.
    for _ in 0..4 {
        match next {
            PROTOCOL_ICMPV6 => {
                let destination = Ipv6Addr::from(destination);
                return quoted_request(rest, V6_ECHO_REQUEST, destination.into());
            }
            0 | 43 | 60 => {
                let size = 8 + usize::from(*rest.get(1)?) * 8;
                next = rest[0];
                rest = rest.get(size..)?;
            }
            44 => {
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

/// Parses a quoted echo request of which the IP header is already gone.
#[must_use]
pub fn quoted_request(icmp: &[u8], kind: u8, destination: IpAddr) -> Option<Quote<'_>> {
    if icmp.len() < ECHO_HEADER || icmp[0] != kind || icmp[1] != 0 {
        return None;
    }
    Some(Quote {
        destination,
        id: word(icmp, 4)?,
        sequence: word(icmp, 6)?,
        checksum: word(icmp, 2)?,
        payload: &icmp[ECHO_HEADER..],
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECRET: [u8; 8] = *b"\x01secret!";

    fn key() -> impl Strategy<Value = EchoKey> {
        any::<(u16, u16, u32)>().prop_map(|(id, sequence, generation)| EchoKey {
            id,
            sequence,
            generation,
        })
    }

    fn request(template: &EchoTemplate, key: EchoKey) -> Vec<u8> {
        let mut message = vec![0; template.message_size()];
        template.prepare(&mut message);
        // Buffers are used again and again.
        let other = EchoKey {
            id: !key.id,
            sequence: 1,
            generation: !key.generation,
        };
        template.write_v6(&mut message, other);
        template.write_v4(&mut message, key);
        message
    }

    fn seal(icmp: &mut [u8]) {
        icmp[2..4].fill(0);
        let sum = Sum::default().bytes(icmp).checksum();
        icmp[2..4].copy_from_slice(&sum.to_be_bytes());
    }

    fn v4_packet(source: [u8; 4], destination: [u8; 4], icmp: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 61, 1, 0, 0];
        packet[2..4].copy_from_slice(&((20 + icmp.len()) as u16).to_be_bytes());
        packet.extend(source);
        packet.extend(destination);
        packet.extend(icmp);
        packet
    }

    fn reply_to(request: &[u8]) -> Vec<u8> {
        let mut reply = request.to_vec();
        reply[0] = 0;
        seal(&mut reply);
        v4_packet([127, 0, 0, 9], [127, 0, 0, 1], &reply)
    }

    #[test]
    fn a_cut_or_altered_reply_is_judged_by_where() {
        let template = EchoTemplate::new(SECRET, 56);
        let key = EchoKey {
            id: 1,
            sequence: 2,
            generation: 3,
        };
        let payload = request(&template, key).split_off(ECHO_HEADER);
        let judge = |payload: &[u8]| template.recognise(payload);
        let ours = |truncated| Recognition::Ours {
            generation: Some(3),
            truncated,
        };
        assert_eq!(judge(&payload), ours(false));
        assert_eq!(judge(&payload[..COOKIE]), ours(true));
        assert_eq!(judge(&payload[..COOKIE - 1]), Recognition::Foreign);
        assert_eq!(judge(&[]), Recognition::Foreign);
        assert_eq!(judge(&[&payload[..], &[0]].concat()), Recognition::Altered);
        for at in 0..56 {
            let mut altered = payload.clone();
            altered[at] ^= 0x80;
            let expected = match at {
                0..8 => Recognition::Foreign,
                8..COOKIE => Recognition::Ours {
                    generation: Some(u32::from_be_bytes(altered[8..12].try_into().unwrap())),
                    truncated: false,
                },
                _ => Recognition::Altered,
            };
            assert_eq!(judge(&altered), expected);
        }
    }

    #[test]
    fn a_quote_without_the_cookie_is_known_by_its_checksum() {
        let template = EchoTemplate::new(SECRET, 56);
        let key = EchoKey {
            id: 1,
            sequence: 2,
            generation: 3,
        };
        let request = request(&template, key);
        let quoted = v4_packet([127, 0, 0, 1], [127, 0, 0, 9], &request[..ECHO_HEADER]);
        let quote = quote_v4(&quoted).unwrap();
        assert_eq!(quote.destination, IpAddr::from([127, 0, 0, 9]));
        assert!(template.fits_quote(&quote, key, true));
        let other = EchoKey {
            generation: 4,
            ..key
        };
        assert!(!template.fits_quote(&quote, other, true));
        assert!(template.fits_quote(&quote, other, false));
    }

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

    #[test]
    fn a_quote_is_found_behind_extension_headers() {
        let template = EchoTemplate::new(SECRET, 56);
        let key = EchoKey {
            id: 1,
            sequence: 2,
            generation: 3,
        };
        let mut icmp = vec![0; template.message_size()];
        template.prepare(&mut icmp);
        template.write_v6(&mut icmp, key);
        let mut header = vec![0x60, 0, 0, 0, 0, 0, 0, 64];
        header.extend([0; 16]);
        header.extend(Ipv6Addr::LOCALHOST.octets());
        // Hop-by-hop options of 16 bytes, then the header of a first fragment.
        let extensions = |offset: u8| {
            let mut bytes = vec![44, 1];
            bytes.extend([0; 14]);
            bytes.extend([58, 0, offset, 1, 0, 0, 0, 9]);
            bytes
        };
        let packet = [&header[..], &extensions(0), &icmp].concat();
        let quote = quote_v6(&packet).unwrap();
        assert_eq!(quote.destination, IpAddr::from(Ipv6Addr::LOCALHOST));
        assert!(template.fits_quote(&quote, key, false));
        assert_eq!(
            quote_v6(&[&header[..], &extensions(1), &icmp].concat()),
            None
        );
    }

    proptest! {
        #[test]
        fn a_reply_carries_what_was_asked(size in 0..600_usize, key in key()) {
            let template = EchoTemplate::new(SECRET, size);
            let request = request(&template, key);
            prop_assert!(checksum::is_intact(&request));
            let checksum = u16::from_be_bytes([request[2], request[3]]);
            prop_assert_eq!(checksum, template.v4_checksum(key));
            let packet = reply_to(&request);
            let parsed = parse_v4(&packet, false).unwrap();
            prop_assert_eq!((parsed.source, parsed.ttl), (Ipv4Addr::new(127, 0, 0, 9), 61));
            let Message::EchoReply { id, sequence, payload } = parsed.message else {
                panic!("not a reply");
            };
            prop_assert_eq!((id, sequence), (key.id, key.sequence));
            let generation = (size >= COOKIE).then_some(key.generation);
            prop_assert_eq!(template.recognise(payload), Recognition::Ours { generation, truncated: false });
        }

        #[test]
        fn an_error_fits_the_request_that_it_quotes(size in 0..200_usize, key in key(), other in key(), cut in 0..300_usize) {
            let template = EchoTemplate::new(SECRET, size);
            let request = request(&template, key);
            let quoted = v4_packet([127, 0, 0, 1], [127, 0, 0, 9], &request);
            let quoted = &quoted[..quoted.len().min(28 + cut)];
            let mut icmp = [&[11, 0, 0, 0, 0, 0, 0, 0], quoted].concat();
            seal(&mut icmp);
            let packet = v4_packet([127, 0, 0, 77], [127, 0, 0, 1], &icmp);
            let parsed = parse_v4(&packet, false).unwrap();
            let Message::Error { quote, .. } = parsed.message else {
                panic!("not an error");
            };
            prop_assert!(template.fits_quote(&quote, key, true));
            if size >= COOKIE && other != key {
                let fits = template.fits_quote(&quote, other, true);
                // A bare header is known by its checksum alone, which others may share.
                prop_assert!(!fits || cut < COOKIE);
            }
        }

        /// A reply in which any one bit is flipped on the way is not taken for an answer.
        #[test]
        fn a_flipped_bit_is_noticed(size in 12..200_usize, key in key(), at: prop::sample::Index, bit in 0..8_u8) {
            let template = EchoTemplate::new(SECRET, size);
            let mut packet = reply_to(&request(&template, key));
            let at = 20 + at.index(packet.len() - 20);
            packet[at] ^= 1 << bit;
            prop_assert!(parse_v4(&packet, false).is_err());
        }

        #[test]
        fn any_bytes_are_harmless(mut bytes in proptest::collection::vec(any::<u8>(), 0..300), cut: bool, shape in 0..5_usize) {
            if bytes.len() > 60 {
                bytes[0] = [0x45, 0x4f, 0x60, 0x45, 0x46][shape];
                bytes[9] = 1;
                bytes[20] = [0, 3, 128, 11, 3][shape];
                bytes[28] = 0x45;
            }
            let template = EchoTemplate::new(SECRET, 56);
            for message in [parse_v4(&bytes, cut).map(|packet| packet.message), parse_v4_icmp(&bytes, cut), parse_v6(&bytes, cut)] {
                match message {
                    Ok(Message::EchoReply { payload, .. }) => {
                        prop_assert_eq!(template.recognise(payload), Recognition::Foreign);
                    }
                    Ok(Message::Error { quote, .. }) => {
                        let key = EchoKey { id: quote.id, sequence: quote.sequence, generation: 0 };
                        let _ = template.fits_quote(&quote, key, true);
                    }
                    Err(_) => {}
                }
            }
        }
    }
}
