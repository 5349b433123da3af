//! Messages of rtnetlink(7): which links have no carrier, and through which link an address is reached. No I/O.
//!
//! A message is a header of 16 bytes (length, type, flags, sequence number, port), a fixed part that depends on the type,
//! and attributes (length, type, value), all of them in the machine's byte order and at multiples of four.

use std::net::IpAddr;

const GET_LINK: u16 = 18;
const NEW_LINK: u16 = 16;
const GET_ROUTE: u16 = 26;
const NEW_ROUTE: u16 = 24;
const DONE: u16 = 3;
const ERROR: u16 = 2;
const REQUEST: u16 = 0x001;
const DUMP: u16 = 0x300;

/// Length of a message's header.
const HEADER: usize = 16;
/// Length of the fixed part of messages about links.
const LINK: usize = 16;
/// Length of the fixed part of messages about routes.
const ROUTE: usize = 12;

/// The attributes of routes: destination, interface, mark.
const DESTINATION: u16 = 1;
const INTERFACE: u16 = 4;
const MARK: u16 = 16;
const SOURCE: u16 = 2;

/// Flags of a link: somebody set it up, and there is a carrier.
const UP: u32 = 0x1;
const LOWER_UP: u32 = 0x1_0000;

/// Which route is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RouteQuery {
    pub(crate) destination: IpAddr,
    /// The address to send from, if it is chosen.
    pub(crate) source: Option<IpAddr>,
    /// The index of the link to send through, if it is chosen.
    pub(crate) link: Option<u32>,
    /// The firewall mark; 0 for none.
    pub(crate) mark: u32,
}

/// What the kernel says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    Link {
        index: u32,
        /// It is set up, and there is nothing at its other end.
        lacks_carrier: bool,
    },
    /// The link of the route that was asked for.
    Route(u32),
    /// There is no more of an answer, or it is an error.
    End,
}

/// Asks for all links.
pub(crate) fn links_query() -> Vec<u8> {
    let mut message = header(GET_LINK, REQUEST | DUMP);
    message.extend([0; LINK]);
    finish(message)
}

/// Asks for the route that a packet takes.
pub(crate) fn route_query(query: &RouteQuery) -> Vec<u8> {
    let mut message = header(GET_ROUTE, REQUEST);
    let (family, bits) = match query.destination {
        IpAddr::V4(_) => (libc::AF_INET as u8, 32),
        IpAddr::V6(_) => (libc::AF_INET6 as u8, 128),
    };
    let source_bits = query.source.map_or(0, |_| bits);
    message.extend([family, bits, source_bits, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    attribute_of_address(&mut message, DESTINATION, query.destination);
    if let Some(source) = query.source {
        attribute_of_address(&mut message, SOURCE, source);
    }
    if let Some(link) = query.link {
        attribute(&mut message, INTERFACE, &link.to_ne_bytes());
    }
    if query.mark != 0 {
        attribute(&mut message, MARK, &query.mark.to_ne_bytes());
    }
    finish(message)
}

/// The messages of a datagram, as far as they can be read.
pub(crate) fn read(mut datagram: &[u8]) -> Vec<Told> {
    let mut told = Vec::new();
    while let Some((kind, payload, rest)) = next_message(datagram) {
        told.extend(match kind {
            NEW_LINK => link(payload),
            NEW_ROUTE => route(payload),
            DONE | ERROR => Some(Told::End),
            _ => None,
        });
        datagram = rest;
    }
    told
}

fn header(kind: u16, flags: u16) -> Vec<u8> {
    let mut message = vec![0; 4];
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.resize(HEADER, 0);
    message
}

fn finish(mut message: Vec<u8>) -> Vec<u8> {
    let length = message.len() as u32;
    message[..4].copy_from_slice(&length.to_ne_bytes());
    message
}

fn attribute_of_address(message: &mut Vec<u8>, kind: u16, address: IpAddr) {
    match address {
        IpAddr::V4(address) => attribute(message, kind, &address.octets()),
        IpAddr::V6(address) => attribute(message, kind, &address.octets()),
    }
}

/// Values here are multiples of four bytes.
fn attribute(message: &mut Vec<u8>, kind: u16, value: &[u8]) {
    message.extend((value.len() as u16 + 4).to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(value);
}

/// Type and payload of the first message, and what follows it.
fn next_message(datagram: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = number(datagram, 0)? as usize;
    let kind = half(datagram, 4)?;
    let payload = datagram.get(HEADER..length)?;
    let rest = datagram.get(length.next_multiple_of(4)..);
    Some((kind, payload, rest.unwrap_or_default()))
}

fn link(payload: &[u8]) -> Option<Told> {
    let (index, flags) = (number(payload, 4)?, number(payload, 8)?);
    Some(Told::Link {
        index,
        lacks_carrier: flags & (UP | LOWER_UP) == UP,
    })
}

fn route(payload: &[u8]) -> Option<Told> {
    let mut attributes = payload.get(ROUTE..)?;
    loop {
        let length = usize::from(half(attributes, 0)?);
        let kind = half(attributes, 2)?;
        let value = attributes.get(4..length)?;
        if kind == INTERFACE {
            return Some(Told::Route(number(value, 0)?));
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + 4)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..at + 2)?;
    Some(u16::from_ne_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn link_message(index: u32, flags: u32) -> Vec<u8> {
        let mut message = header(NEW_LINK, 0);
        message.extend([0; 4]);
        message.extend(index.to_ne_bytes());
        message.extend(flags.to_ne_bytes());
        message.extend([0; 4]);
        // The name, whose length is no multiple of four.
        message.extend(7_u16.to_ne_bytes());
        message.extend(3_u16.to_ne_bytes());
        message.extend(b"a1\0\0");
        finish(message)
    }

    #[test]
    fn links_are_told_by_their_flags() {
        let end = finish(header(DONE, 0));
        let datagram = [
            link_message(1, UP | LOWER_UP),
            link_message(2, UP),
            link_message(3, 0),
            end,
        ];
        let link = |index, lacks_carrier| Told::Link {
            index,
            lacks_carrier,
        };
        assert_eq!(
            read(&datagram.concat()),
            [link(1, false), link(2, true), link(3, false), Told::End]
        );
    }

    #[test]
    fn the_query_for_a_route_is_read_back_as_one() {
        let query = RouteQuery {
            destination: IpAddr::from([10, 0, 0, 1]),
            source: Some(IpAddr::from([10, 0, 0, 9])),
            link: Some(7),
            mark: 5,
        };
        let mut message = route_query(&query);
        assert_eq!(message.len() % 4, 0);
        assert_eq!(message[HEADER..HEADER + 3], [libc::AF_INET as u8, 32, 32]);
        message[4..6].copy_from_slice(&NEW_ROUTE.to_ne_bytes());
        assert_eq!(read(&message), [Told::Route(7)]);
        let query = RouteQuery {
            link: None,
            ..query
        };
        let mut message = route_query(&query);
        message[4..6].copy_from_slice(&NEW_ROUTE.to_ne_bytes());
        assert_eq!(read(&message), []);
    }

    proptest! {
        #[test]
        fn any_bytes_can_be_read(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
        }

        #[test]
        fn messages_of_any_length_end(length in 0_u32..64, kind in any::<u16>(), rest in any::<[u8; 40]>()) {
            let mut bytes = length.to_ne_bytes().to_vec();
            bytes.extend(kind.to_ne_bytes());
            bytes.extend(rest);
            let _ = read(&bytes);
        }
    }
}
