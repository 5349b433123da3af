//! The link of a link-local IPv6 address (RFC 4007), kept within the address.
//!
//! Devices on different links may have the same link-local address. So that none can answer for another, whatever is told
//! apart by its address, secrets of cookies included, has to be told apart by its link too.

use std::net::{IpAddr, Ipv6Addr};

/// The bytes that hold the link; link-local addresses have zeros there (RFC 4291, section 2.5.6).
const LINK: std::ops::Range<usize> = 4..8;

/// A link-local address with the index of its link in it. Others, and those of link 0, which stands for any, are as they were.
#[inline]
pub(crate) fn on_link(address: IpAddr, link: u32) -> IpAddr {
    match address {
        IpAddr::V6(v6) if link != 0 && v6.is_unicast_link_local() => {
            let mut octets = v6.octets();
            if octets[2..8] != [0; 6] {
                return address;
            }
            octets[LINK].copy_from_slice(&link.to_be_bytes());
            Ipv6Addr::from(octets).into()
        }
        _ => address,
    }
}

/// The address as packets have it.
#[inline]
pub(crate) fn off_link(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) if v6.is_unicast_link_local() => {
            let mut octets = v6.octets();
            octets[LINK].fill(0);
            Ipv6Addr::from(octets).into()
        }
        _ => address,
    }
}

/// The same of an address that [`on_link`] was given with this link: it left the address as it was where those bytes are used.
#[inline]
pub(crate) fn off_this_link(address: IpAddr, link: u32) -> IpAddr {
    let plain = off_link(address);
    match on_link(plain, link) == address {
        true => plain,
        false => address,
    }
}

/// Whether packets to `address`, which may have a link in it, go to `plain`.
pub(crate) fn is_sent_to(address: IpAddr, plain: IpAddr) -> bool {
    address == plain || off_link(address) == plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::departure::{Departure, Doubt};
    use crate::proto::inflight::{InFlight, Match, Owner, wire_block};
    use crate::proto::packet::CookieKey;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn only_link_local_addresses_have_a_link() {
        let local = on_link(address("fe80::2"), 7);
        assert_eq!(off_link(local), address("fe80::2"));
        assert_eq!(off_this_link(local, 7), address("fe80::2"));
        assert!(is_sent_to(local, address("fe80::2")) && !is_sent_to(local, address("fe80::3")));
        for text in ["2001:db8::2", "127.0.0.1", "::1", "fe80:0:1::2"] {
            assert_eq!(on_link(address(text), 7), address(text));
            assert_eq!(off_this_link(address(text), 7), address(text));
            assert!(is_sent_to(address(text), address(text)));
        }
        assert_eq!(on_link(address("fe80::2"), 0), address("fe80::2"));
    }

    #[test]
    fn a_device_of_another_link_cannot_answer() {
        let [here, there] = [1, 2].map(|link| on_link(address("fe80::2"), link));
        let cookies = CookieKey::new([5; 16]);
        let any = cookies.secret(address("fe80::2"));
        assert!(cookies.secret(here) != cookies.secret(there) && cookies.secret(here) != any);

        let mut table = InFlight::new(0, 100, 1_000);
        let owner = Owner {
            item: 0,
            target: 0,
            round: 0,
        };
        let (id, generation) = table.add(here, owner, 0, 1, 1_000_000).unwrap();
        let doubt = Doubt::default();
        table.set_sent(id, Departure { early: 2, doubt });
        let (block, sequence) = (wire_block(id.block(), 0), id.sequence());
        let mut reply = |from| table.reply(block, sequence, from, Some(generation), 10);
        assert_eq!(reply(there), Match::Unknown);
        assert_eq!(reply(address("fe80::2")), Match::Unknown);
        assert!(matches!(reply(here), Match::Reply(_)));
    }
}
