//! Control messages: what the kernel says about a received packet beside its bytes (`cmsg(3)`, `socket(7)`, `ip(7)`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What the control messages of one packet said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Control {
    /// When the packet arrived, or left for a packet from the error queue: nanoseconds of the wall clock since 1970.
    pub stamp: Option<i64>,
    /// The TTL or hop limit left on arrival.
    pub hop_limit: Option<u8>,
    /// How many packets this socket has dropped so far because its receive buffer was full (`SO_RXQ_OVFL`).
    pub dropped: Option<u32>,
    /// Why the packet is in the error queue.
    pub error: Option<ExtendedError>,
}

/// The kernel's `struct sock_extended_err`, and who sent the error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExtendedError {
    /// The error number.
    pub errno: u32,
    /// Where it comes from: `SO_EE_ORIGIN_*`.
    pub origin: u8,
    /// The ICMP type.
    pub kind: u8,
    /// The ICMP code.
    pub code: u8,
    /// The MTU, or the pointer, or the kind of time stamp.
    pub info: u32,
    /// For a time stamp: the count of the packet (`SOF_TIMESTAMPING_OPT_ID`).
    pub data: u32,
    /// Who sent the ICMP error.
    pub offender: Option<IpAddr>,
}

const WORD: usize = size_of::<usize>();
const HEADER: usize = WORD + 8;

const SOCKET: i32 = libc::SOL_SOCKET;
const IP: i32 = libc::IPPROTO_IP;
const IPV6: i32 = libc::IPPROTO_IPV6;

impl Control {
    /// Reads the bytes that `recvmsg(2)` put into the control buffer. What is unknown or cut off is skipped.
    #[inline]
    #[must_use]
    pub fn parse(mut bytes: &[u8]) -> Self {
        let mut control = Self::default();
        while bytes.len() >= HEADER {
            let length = usize::from_ne_bytes(array(bytes, 0).unwrap_or_default());
            let level = i32::from_ne_bytes(array(bytes, WORD).unwrap_or_default());
            let kind = i32::from_ne_bytes(array(bytes, WORD + 4).unwrap_or_default());
            if length < HEADER {
                break;
            }
            control.take(level, kind, &bytes[HEADER..length.min(bytes.len())]);
            let Some(rest) = length
                .checked_next_multiple_of(WORD)
                .and_then(|step| bytes.get(step..))
            else {
                break;
            };
            bytes = rest;
        }
        control
    }

    #[inline]
    fn take(&mut self, level: i32, kind: i32, data: &[u8]) {
        match (level, kind) {
            // SCM_TIMESTAMPING holds three stamps, of which the first is the software's.
            (SOCKET, libc::SCM_TIMESTAMPNS | libc::SCM_TIMESTAMPING) => self.stamp = stamp(data),
            (SOCKET, libc::SO_RXQ_OVFL) => self.dropped = array(data, 0).map(u32::from_ne_bytes),
            (IP, libc::IP_TTL) | (IPV6, libc::IPV6_HOPLIMIT) => {
                let limit = array(data, 0).map(i32::from_ne_bytes);
                self.hop_limit = limit.and_then(|limit| u8::try_from(limit).ok());
            }
            (IP, libc::IP_RECVERR) | (IPV6, libc::IPV6_RECVERR) => self.error = extended(data),
            _ => {}
        }
    }
}

#[inline]
fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

/// A `struct timespec`, of either width.
#[inline]
fn stamp(data: &[u8]) -> Option<i64> {
    let (seconds, nanos) = if data.len() == 8 {
        (
            i64::from(i32::from_ne_bytes(array(data, 0)?)),
            i64::from(i32::from_ne_bytes(array(data, 4)?)),
        )
    } else {
        (
            i64::from_ne_bytes(array(data, 0)?),
            i64::from_ne_bytes(array(data, 8)?),
        )
    };
    let stamp = seconds.checked_mul(1_000_000_000)?.checked_add(nanos)?;
    (stamp != 0).then_some(stamp)
}

fn extended(data: &[u8]) -> Option<ExtendedError> {
    let half = |at| array(data, at).map(u32::from_ne_bytes);
    Some(ExtendedError {
        errno: half(0)?,
        origin: *data.get(4)?,
        kind: *data.get(5)?,
        code: *data.get(6)?,
        info: half(8)?,
        data: half(12)?,
        offender: data.get(16..).and_then(socket_address),
    })
}

fn socket_address(data: &[u8]) -> Option<IpAddr> {
    match i32::from(u16::from_ne_bytes(array(data, 0)?)) {
        libc::AF_INET => array::<4>(data, 4).map(|octets| Ipv4Addr::from(octets).into()),
        libc::AF_INET6 => array::<16>(data, 8).map(|octets| Ipv6Addr::from(octets).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(level: i32, kind: i32, data: &[u8]) -> Vec<u8> {
        let mut bytes = (HEADER + data.len()).to_ne_bytes().to_vec();
        bytes.extend(level.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(data);
        bytes.resize(bytes.len().next_multiple_of(WORD), 0xaa);
        bytes
    }

    #[test]
    fn reads_what_the_kernel_writes() {
        let mut time = 1_700_000_000_i64.to_ne_bytes().to_vec();
        time.extend(123_i64.to_ne_bytes());
        let mut error = 111_u32.to_ne_bytes().to_vec();
        error.extend([2, 3, 1, 0]);
        error.extend(1400_u32.to_ne_bytes());
        error.extend(7_u32.to_ne_bytes());
        error.extend(2_u16.to_ne_bytes());
        error.extend([0, 0, 10, 0, 0, 9]);
        error.extend([0; 8]);
        let mut bytes = message(SOCKET, libc::SCM_TIMESTAMPNS, &time);
        bytes.extend(message(77, 78, &[1, 2, 3]));
        bytes.extend(message(IPV6, libc::IPV6_HOPLIMIT, &61_i32.to_ne_bytes()));
        bytes.extend(message(SOCKET, libc::SO_RXQ_OVFL, &9_u32.to_ne_bytes()));
        bytes.extend(message(IP, libc::IP_RECVERR, &error));
        let expected = Control {
            stamp: Some(1_700_000_000_000_000_123),
            hop_limit: Some(61),
            dropped: Some(9),
            error: Some(ExtendedError {
                errno: 111,
                origin: 2,
                kind: 3,
                code: 1,
                info: 1400,
                data: 7,
                offender: Some([10, 0, 0, 9].into()),
            }),
        };
        assert_eq!(Control::parse(&bytes), expected);
    }

    proptest! {
        #[test]
        fn any_bytes_are_harmless(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Control::parse(&bytes);
        }
    }
}
