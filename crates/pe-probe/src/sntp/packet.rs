//! Packets of NTP as bytes, and what follows from them (RFC 5905, client mode; RFC 4330 for its simple form).
//!
//! A request holds nothing of us but its version and a random number where the time of departure would be; a server sends that back
//! as the origin, by which its reply is known (RFC 9769 asks for the like). All 32 bits of seconds wrap in 2036: differences are
//! computed modulo that, so that they hold while two clocks are less than 68 years apart. No I/O.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use thiserror::Error;

/// Bytes of a packet without extensions and authentication.
pub const LENGTH: usize = 48;

/// Seconds from 1900, from which NTP counts, to 1970.
const UNIX_OFFSET: u64 = 2_208_988_800;

/// The mode of a request: client.
const CLIENT: u8 = 3;
/// The mode of its reply: server.
const SERVER: u8 = 4;
/// The strata of servers that have a source. More means that there is none.
const MAX_STRATUM: u8 = 15;
/// The leap indicator of a clock that is not synchronised.
const ALARM: u8 = 3;

/// What servers tell a client that they do not serve, in the place of the reference. `INIT` and `STEP` are no refusal.
/// Source: RFC 5905, section 7.4.
const KISSES: [&[u8; 4]; 12] = [
    b"ACST", b"AUTH", b"AUTO", b"BCST", b"CRYP", b"DENY", b"DROP", b"MCST", b"NKEY", b"NTSN",
    b"RATE", b"RSTR",
];

/// A time as 32 bits of seconds and 32 bits of their fraction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The time of this machine's clock, modulo 136 years.
    #[must_use]
    pub fn of(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let seconds = (since.as_secs().wrapping_add(UNIX_OFFSET)) << 32;
        let fraction = (u64::from(since.subsec_nanos()) << 32) / 1_000_000_000;
        Self(seconds | fraction)
    }

    /// Seconds from `earlier` to this; negative where it is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> f64 {
        self.0.wrapping_sub(earlier.0) as i64 as f64 / 2_f64.powi(32)
    }

    /// Seconds since 1970, in the era that is nearest to `now`.
    #[must_use]
    pub fn unix_seconds(self, now: SystemTime) -> f64 {
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        since.as_secs_f64() + self.since(Self::of(now))
    }

    /// Whether it says that there is no time.
    #[must_use]
    pub fn is_unknown(self) -> bool {
        self.0 == 0
    }
}

/// A request of a client.
#[must_use]
pub fn request(version: u8, cookie: u64) -> [u8; LENGTH] {
    let mut packet = [0; LENGTH];
    packet[0] = (version & 7) << 3 | CLIENT;
    packet[40..].copy_from_slice(&cookie.to_be_bytes());
    packet
}

/// What a server says of its clock.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reply {
    /// Whether the last minute of the day has 61 (1) or 59 (2) seconds; 3 for a clock that is not synchronised.
    pub leap: u8,
    /// The version of the protocol.
    pub version: u8,
    /// What it was sent as.
    pub mode: u8,
    /// How many servers are between this and a clock.
    pub stratum: u8,
    /// The clock's precision, as a power of two of seconds.
    pub precision: i8,
    /// Seconds to the clock that all this rests on, and back.
    pub root_delay: f64,
    /// What the server may be wrong by against that clock, in seconds.
    pub root_dispersion: f64,
    /// Who the server has its time of: an address or a hash of one, or letters at stratum 1.
    pub reference_id: [u8; 4],
    /// When the server's clock was set or corrected.
    pub reference: Timestamp,
    /// What the request had as its time of departure.
    pub origin: Timestamp,
    /// When the request came.
    pub receive: Timestamp,
    /// When this left.
    pub transmit: Timestamp,
}

/// Why a packet tells no time.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NoTime {
    /// Too short, or not of a server.
    #[error("no reply of NTP")]
    Malformed,
    /// The reply to another request. It is ignored.
    #[error("a reply to another request: its origin timestamp is not ours")]
    Origin,
    /// The server will not serve us.
    #[error("the server refuses (kiss-o'-death {0})")]
    Kiss(String),
    /// The server says that it does not know the time.
    #[error("the server's clock is not synchronised (leap indicator {leap}, stratum {stratum})")]
    Unsynchronised {
        /// The leap indicator.
        leap: u8,
        /// The stratum.
        stratum: u8,
    },
}

impl Reply {
    /// Reads a packet; what follows its fixed part (extensions, authentication) is left alone.
    #[must_use]
    pub fn parse(packet: &[u8]) -> Option<Self> {
        let packet: &[u8; LENGTH] = packet.first_chunk()?;
        let word =
            |at: usize| -> [u8; 4] { [packet[at], packet[at + 1], packet[at + 2], packet[at + 3]] };
        let short = |at| f64::from(u32::from_be_bytes(word(at))) / 65_536.0;
        let time = |at| {
            let (high, low) = (
                u32::from_be_bytes(word(at)),
                u32::from_be_bytes(word(at + 4)),
            );
            Timestamp(u64::from(high) << 32 | u64::from(low))
        };
        Some(Self {
            leap: packet[0] >> 6,
            version: packet[0] >> 3 & 7,
            mode: packet[0] & 7,
            stratum: packet[1],
            precision: packet[3] as i8,
            root_delay: short(4),
            root_dispersion: short(8),
            reference_id: word(12),
            reference: time(16),
            origin: time(24),
            receive: time(32),
            transmit: time(40),
        })
    }

    /// Reads the reply to the request with this cookie, and checks that it tells a time.
    ///
    /// # Errors
    /// [`NoTime`] where it does not, with the reply where there is one all the same.
    pub fn read(packet: &[u8], cookie: u64) -> Result<Self, (NoTime, Option<Self>)> {
        let reply = Self::parse(packet).ok_or((NoTime::Malformed, None))?;
        // An origin that is not ours says that none of the rest is meant for us.
        if reply.mode != SERVER || !(1..=4).contains(&reply.version) {
            return Err((NoTime::Malformed, None));
        }
        if reply.origin.0 != cookie {
            return Err((NoTime::Origin, None));
        }
        if reply.stratum == 0 && KISSES.contains(&&reply.reference_id) {
            let code = String::from_utf8_lossy(&reply.reference_id).into_owned();
            return Err((NoTime::Kiss(code), None));
        }
        let (leap, stratum) = (reply.leap, reply.stratum);
        if leap == ALARM || stratum == 0 || stratum > MAX_STRATUM || reply.transmit.is_unknown() {
            return Err((NoTime::Unsynchronised { leap, stratum }, Some(reply)));
        }
        Ok(reply)
    }

    /// How far the server's clock is ahead of ours, and how long packets were on their way, both in seconds. `sent` is when
    /// the request left by our clock, `elapsed` how long the reply took since.
    ///
    /// The delay is never negative: a server whose clock runs fast may say that it kept a request for longer than that took.
    /// Source: RFC 5905, section 8.
    #[must_use]
    pub fn offset_and_delay(&self, sent: SystemTime, elapsed: Duration) -> (f64, f64) {
        let sent = Timestamp::of(sent);
        let elapsed = elapsed.as_secs_f64();
        // From our departure to its arrival, and from its departure to our arrival.
        let there = self.receive.since(sent);
        let back = self.transmit.since(sent) - elapsed;
        let served = self.transmit.since(self.receive);
        ((there + back) / 2.0, (elapsed - served).max(0.0))
    }

    /// Who the server has its time of, as `chronyc` and `ntpq` show it: letters at stratum 1, else four numbers.
    #[must_use]
    pub fn reference_name(&self) -> String {
        let [a, b, c, d] = self.reference_id;
        let letters = self.reference_id;
        let letters = letters.strip_suffix(b"\0").unwrap_or(&letters);
        let letters = letters.strip_suffix(b"\0").unwrap_or(letters);
        let are_letters = letters.iter().all(u8::is_ascii_graphic) && !letters.is_empty();
        if self.stratum <= 1 && are_letters {
            return String::from_utf8_lossy(letters).into_owned();
        }
        format!("{a}.{b}.{c}.{d}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COOKIE: u64 = 0x0123_4567_89ab_cdef;

    fn at(unix: u64, nanos: u32) -> SystemTime {
        UNIX_EPOCH + Duration::new(unix, nanos)
    }

    /// A server's reply that says these times.
    fn reply(receive: SystemTime, transmit: SystemTime) -> [u8; LENGTH] {
        let mut packet = [0; LENGTH];
        packet[0] = 4 << 3 | SERVER;
        packet[1] = 2;
        packet[12..16].copy_from_slice(&[192, 0, 2, 1]);
        packet[24..32].copy_from_slice(&COOKIE.to_be_bytes());
        packet[32..40].copy_from_slice(&Timestamp::of(receive).0.to_be_bytes());
        packet[40..].copy_from_slice(&Timestamp::of(transmit).0.to_be_bytes());
        packet
    }

    fn read(packet: &[u8]) -> Result<Reply, NoTime> {
        Reply::read(packet, COOKIE).map_err(|(error, _)| error)
    }

    #[test]
    fn offset_and_delay_follow_from_four_times() {
        // The server is 5 s ahead; 30 ms there, 10 ms at the server, 20 ms back.
        let sent = at(1_700_000_000, 0);
        let receive = at(1_700_000_005, 30_000_000);
        let transmit = at(1_700_000_005, 40_000_000);
        let reply = read(&reply(receive, transmit)).unwrap();
        let (offset, delay) = reply.offset_and_delay(sent, Duration::from_millis(60));
        assert!((offset - 5.005).abs() < 1e-6, "{offset}");
        assert!((delay - 0.05).abs() < 1e-6, "{delay}");
        assert_eq!(reply.reference_name(), "192.0.2.1");
    }

    #[test]
    fn offsets_hold_where_seconds_wrap_in_2036() {
        let wrap = 4_294_967_296 - UNIX_OFFSET;
        for (ours, theirs) in [(wrap - 1, wrap + 1), (wrap + 1, wrap - 1)] {
            let (sent, served) = (at(ours, 0), at(theirs, 0));
            let reply = read(&reply(served, served)).unwrap();
            let (offset, _) = reply.offset_and_delay(sent, Duration::ZERO);
            assert_eq!(offset, theirs as f64 - ours as f64);
            assert!((reply.transmit.unix_seconds(sent) - theirs as f64).abs() < 1e-6);
        }
    }

    #[test]
    fn what_tells_no_time_is_told_by_its_reason() {
        let now = at(1_700_000_000, 0);
        let good = reply(now, now);
        assert!(read(&good).is_ok());
        let change = |change: fn(&mut [u8; LENGTH])| {
            let mut packet = good;
            change(&mut packet);
            read(&packet).unwrap_err()
        };
        assert_eq!(read(&good[..47]), Err(NoTime::Malformed));
        assert_eq!(read(&request(4, COOKIE)), Err(NoTime::Malformed));
        assert_eq!(change(|p| p[31] ^= 1), NoTime::Origin);
        let kiss = |p: &mut [u8; LENGTH]| {
            p[0] |= 0xc0;
            p[1] = 0;
            p[12..16].copy_from_slice(b"RATE");
        };
        assert_eq!(change(kiss), NoTime::Kiss("RATE".to_owned()));
        // A refusal that anybody could send, since it does not know our cookie, is ignored.
        let forged = |p: &mut [u8; LENGTH]| {
            p[1] = 0;
            p[12..16].copy_from_slice(b"DENY");
            p[24] ^= 1;
        };
        assert_eq!(change(forged), NoTime::Origin);
        let unsynchronised = |leap, stratum| NoTime::Unsynchronised { leap, stratum };
        assert_eq!(change(|p| p[0] |= 0xc0), unsynchronised(3, 2));
        assert_eq!(change(|p| p[1] = 16), unsynchronised(0, 16));
        assert_eq!(change(|p| p[1] = 0), unsynchronised(0, 0));
        assert_eq!(change(|p| p[40..].fill(0)), unsynchronised(0, 2));
    }

    #[test]
    fn a_reference_clock_is_shown_by_its_letters() {
        let now = at(1_700_000_000, 0);
        let mut packet = reply(now, now);
        packet[1] = 1;
        packet[12..16].copy_from_slice(b"GPS\0");
        assert_eq!(read(&packet).unwrap().reference_name(), "GPS");
        packet[12..16].copy_from_slice(&[0; 4]);
        assert_eq!(read(&packet).unwrap().reference_name(), "0.0.0.0");
    }
}
