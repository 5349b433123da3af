//! Echo requests: building them in place, and recognising their payload and their header in what comes back.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use siphasher::sip::SipHasher13;

use super::{COOKIE, ECHO_HEADER, Quote};
use crate::proto::checksum::Sum;
use crate::proto::icmp::{next_header, v4, v6};

/// The parts of an echo message that tell one probe from all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EchoKey {
    /// The ICMP identifier.
    pub id: u16,
    /// The ICMP sequence number.
    pub sequence: u16,
    /// The engine's count of this probe, carried in the cookie.
    pub generation: u32,
    /// What the cookie starts with: see [`CookieKey`].
    pub secret: Secret,
}

/// The part of a cookie that only this engine and the device it is for can know.
pub type Secret = [u8; 8];

/// Makes the secrets of cookies: a keyed hash (SipHash-1-3) of the destination. A device sees its own secret and learns
/// nothing of another's, so that it cannot answer for it, even where it can forge the other's address.
#[derive(Clone)]
pub struct CookieKey(SipHasher13);

impl CookieKey {
    /// A key, which should be random.
    #[must_use]
    pub fn new(key: [u8; 16]) -> Self {
        Self(SipHasher13::new_with_key(&key))
    }

    /// The secret of requests to `destination`.
    #[inline]
    #[must_use]
    pub fn secret(&self, destination: IpAddr) -> Secret {
        let hash = match destination {
            IpAddr::V4(address) => self.0.hash(&address.octets()),
            IpAddr::V6(address) => self.0.hash(&address.octets()),
        };
        hash.to_ne_bytes()
    }
}

impl fmt::Debug for CookieKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CookieKey").finish_non_exhaustive()
    }
}

/// How this engine's echo requests look: the fill pattern, and its share of the checksum, computed once.
#[derive(Debug, Clone)]
pub struct EchoTemplate {
    cookies: CookieKey,
    /// With zeros in the place of the cookie.
    payload: Box<[u8]>,
    v4_sum: Sum,
    v6_sum: Sum,
}

impl EchoTemplate {
    /// A template for payloads of `size` bytes. A payload shorter than [`COOKIE`] carries as much of the secret as fits and no
    /// count; its replies are matched by that, address, identifier and sequence.
    #[must_use]
    pub fn new(cookies: CookieKey, size: usize) -> Self {
        let mut payload: Box<[u8]> = (0..size).map(|at| at as u8).collect();
        payload[..size.min(COOKIE)].fill(0);
        let sum = Sum::default().bytes(&payload);
        let v6_length = (ECHO_HEADER + size) as u32;
        Self {
            cookies,
            payload,
            v4_sum: sum.word(u16::from(v4::ECHO_REQUEST) << 8),
            v6_sum: sum
                .word(u16::from(v6::ECHO_REQUEST) << 8)
                .double_word(v6_length)
                .word(next_header::ICMPV6.into()),
        }
    }

    /// The secret of requests to `destination`.
    #[inline]
    #[must_use]
    pub fn secret(&self, destination: IpAddr) -> Secret {
        self.cookies.secret(destination)
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
        self.write(message, v4::ECHO_REQUEST, checksum, key);
    }

    /// The same for IPv6, where the kernel computes the checksum.
    #[inline]
    pub fn write_v6(&self, message: &mut [u8], key: EchoKey) {
        self.write(message, v6::ECHO_REQUEST, 0, key);
    }

    #[inline]
    fn write(&self, message: &mut [u8], kind: u8, checksum: u16, key: EchoKey) {
        let mut header = [kind, 0, 0, 0, 0, 0, 0, 0];
        header[2..4].copy_from_slice(&checksum.to_be_bytes());
        header[4..6].copy_from_slice(&key.id.to_be_bytes());
        header[6..8].copy_from_slice(&key.sequence.to_be_bytes());
        message[..ECHO_HEADER].copy_from_slice(&header);
        if let Some(cookie) = message.get_mut(ECHO_HEADER..ECHO_HEADER + COOKIE) {
            cookie[..8].copy_from_slice(&key.secret);
            cookie[8..].copy_from_slice(&key.generation.to_be_bytes());
        } else {
            let rest = &mut message[ECHO_HEADER..];
            let length = rest.len().min(8);
            rest[..length].copy_from_slice(&key.secret[..length]);
        }
    }

    /// The checksum of the IPv4 request for `key`.
    #[inline]
    #[must_use]
    pub fn v4_checksum(&self, key: EchoKey) -> u16 {
        self.with_key(self.v4_sum, key).checksum()
    }

    /// The checksum of the IPv6 request for `key` from `source` to `destination` (RFC 8200, section 8.1).
    #[must_use]
    pub fn v6_checksum(&self, key: EchoKey, source: Ipv6Addr, destination: Ipv6Addr) -> u16 {
        self.with_key(self.v6_sum, key)
            .bytes(&source.octets())
            .bytes(&destination.octets())
            .checksum()
    }

    #[inline]
    fn with_key(&self, sum: Sum, key: EchoKey) -> Sum {
        let sum = sum.word(key.id).word(key.sequence);
        if self.payload.len() >= COOKIE {
            let secret = u64::from_be_bytes(key.secret);
            sum.double_word((secret >> 32) as u32)
                .double_word(secret as u32)
                .double_word(key.generation)
        } else {
            sum.bytes(&key.secret[..self.payload.len().min(8)])
        }
    }

    /// Judges the payload of an echo reply to a request whose cookie started with `secret`.
    #[inline]
    #[must_use]
    pub fn recognise(&self, payload: &[u8], secret: Secret) -> Recognition {
        let expected = self.payload.len();
        let (visible, cookie) = (expected.min(8), expected.min(COOKIE));
        if payload.len() < cookie || payload[..visible] != secret[..visible] {
            return Recognition::Foreign;
        }
        // Without a count in the cookie, the bytes in its place are as fixed as those behind it.
        let fixed = if expected >= COOKIE { COOKIE } else { visible };
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
    /// hold the checksum that this request had. Where that cannot be known, as the source of an IPv6 request is not quoted,
    /// it must hold the whole payload, which is shorter than a cookie then.
    #[inline]
    #[must_use]
    pub fn fits_quote(&self, quote: &Quote<'_>, key: EchoKey) -> bool {
        if quote.id != key.id || quote.sequence != key.sequence {
            return false;
        }
        if self.payload.len() >= COOKIE && quote.payload.len() >= COOKIE {
            return quote.payload[..8] == key.secret
                && quote.payload[8..COOKIE] == key.generation.to_be_bytes();
        }
        match (quote.destination, quote.source) {
            (IpAddr::V4(_), _) => quote.checksum == self.v4_checksum(key),
            (IpAddr::V6(destination), Some(IpAddr::V6(source))) => {
                quote.checksum == self.v6_checksum(key, source, destination)
            }
            (IpAddr::V6(_), _) => matches!(
                self.recognise(quote.payload, key.secret),
                Recognition::Ours {
                    truncated: false,
                    ..
                }
            ),
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
