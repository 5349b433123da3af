//! Echo requests: building them in place, and recognising their payload and their header in what comes back.

use super::{COOKIE, ECHO_HEADER, Quote};
use crate::proto::checksum::Sum;
use crate::proto::icmp::{v4, v6};

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
            .word(u16::from(v4::ECHO_REQUEST) << 8);
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
