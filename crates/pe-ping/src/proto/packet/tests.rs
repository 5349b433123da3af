//! Requests, what becomes of them on the way, and what the parsers make of it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;
use crate::proto::checksum::{self, Sum};

const SECRET: [u8; 8] = *b"\x01secret!";

fn template(size: usize) -> EchoTemplate {
    EchoTemplate::new(CookieKey::new([7; 16]), size)
}

fn key() -> impl Strategy<Value = EchoKey> {
    any::<(u16, u16, u32)>().prop_map(|(id, sequence, generation)| EchoKey {
        id,
        sequence,
        generation,
        secret: SECRET,
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
        secret: *b"!another",
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
    let template = template(56);
    let key = EchoKey {
        id: 1,
        sequence: 2,
        generation: 3,
        secret: SECRET,
    };
    let payload = request(&template, key).split_off(ECHO_HEADER);
    let judge = |payload: &[u8]| template.recognise(payload, SECRET);
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
    let template = template(56);
    let key = EchoKey {
        id: 1,
        sequence: 2,
        generation: 3,
        secret: SECRET,
    };
    let request = request(&template, key);
    let quoted = v4_packet([127, 0, 0, 1], [127, 0, 0, 9], &request[..ECHO_HEADER]);
    let quote = quote_v4(&quoted).unwrap();
    assert_eq!(quote.destination, IpAddr::from([127, 0, 0, 9]));
    assert!(template.fits_quote(&quote, key));
    let other = EchoKey {
        generation: 4,
        ..key
    };
    assert!(!template.fits_quote(&quote, other));
    let other = EchoKey {
        secret: [7; 8],
        ..key
    };
    assert!(!template.fits_quote(&quote, other));
}

#[test]
fn a_quote_is_found_behind_extension_headers() {
    let template = template(56);
    let key = EchoKey {
        id: 1,
        sequence: 2,
        generation: 3,
        secret: SECRET,
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
    assert!(template.fits_quote(&quote, key));
    assert_eq!(
        quote_v6(&[&header[..], &extensions(1), &icmp].concat()),
        None
    );
}

/// An ICMPv6 error about the request for `key`, of which `quoted` bytes are quoted.
fn v6_quote(template: &EchoTemplate, key: EchoKey, quoted: usize) -> Vec<u8> {
    let (source, destination) = (
        Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1),
        Ipv6Addr::LOCALHOST,
    );
    let mut icmp = vec![0; template.message_size()];
    template.prepare(&mut icmp);
    template.write_v6(&mut icmp, key);
    // As the kernel does: with the pseudo-header of RFC 8200.
    let sum = Sum::default()
        .bytes(&source.octets())
        .bytes(&destination.octets())
        .double_word(icmp.len() as u32)
        .double_word(58)
        .bytes(&icmp);
    icmp[2..4].copy_from_slice(&sum.checksum().to_be_bytes());
    let mut packet = vec![0x60, 0, 0, 0, 0, icmp.len() as u8, 58, 64];
    packet.extend(source.octets());
    packet.extend(destination.octets());
    packet.extend(&icmp[..quoted.min(icmp.len())]);
    packet
}

#[test]
fn a_short_quote_of_ipv6_needs_the_checksum() {
    for size in [0, 1, 7, 8, 11, COOKIE, 56] {
        let template = template(size);
        let key = EchoKey {
            id: 1,
            sequence: 2,
            generation: 3,
            secret: SECRET,
        };
        for quoted in [ECHO_HEADER, ECHO_HEADER + 4, 200] {
            let packet = v6_quote(&template, key, quoted);
            assert!(
                template.fits_quote(&quote_v6(&packet).unwrap(), key),
                "{size} {quoted}"
            );
            if quoted < ECHO_HEADER + COOKIE {
                // What a sender that does not know the cookie would have to guess.
                let mut forged = packet.clone();
                forged[42] ^= 1;
                assert!(!template.fits_quote(&quote_v6(&forged).unwrap(), key));
                forged[42] ^= 1;
                forged[23] ^= 1;
                assert!(!template.fits_quote(&quote_v6(&forged).unwrap(), key));
            }
        }
        // Without its IP header: a datagram socket's, which has seen to identifier and destination.
        let message = v6_quote(&template, key, 200).split_off(40);
        let whole = quoted_request(&message, Ipv6Addr::LOCALHOST.into()).unwrap();
        assert!(template.fits_quote(&whole, key), "{size}");
        let short = quoted_request(&message[..8], Ipv6Addr::LOCALHOST.into()).unwrap();
        assert_eq!(template.fits_quote(&short, key), size == 0, "{size}");
    }
}

#[test]
fn each_destination_has_a_secret_of_its_own_and_each_engine_others() {
    let destinations: Vec<IpAddr> = (0..=255)
        .flat_map(|n| {
            [
                IpAddr::from([10, 0, 0, n]),
                Ipv6Addr::from(u128::from(n)).into(),
            ]
        })
        .collect();
    let secrets = |key: u8| {
        let key = CookieKey::new([key; 16]);
        destinations
            .iter()
            .map(move |to| key.secret(*to))
            .collect::<Vec<_>>()
    };
    let mut all = [secrets(1), secrets(2)].concat();
    assert_eq!(secrets(1), secrets(1));
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 2 * destinations.len());
}

proptest! {
    #[test]
    fn a_reply_carries_what_was_asked(size in 0..600_usize, key in key()) {
        let template = template(size);
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
        prop_assert_eq!(template.recognise(payload, SECRET), Recognition::Ours { generation, truncated: false });
    }

    #[test]
    fn an_error_fits_the_request_that_it_quotes(size in 0..200_usize, key in key(), other in key(), cut in 0..300_usize) {
        let template = template(size);
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
        prop_assert!(template.fits_quote(&quote, key));
        if size >= COOKIE && other != key {
            let fits = template.fits_quote(&quote, other);
            // A bare header is known by its checksum alone, which others may share.
            prop_assert!(!fits || cut < COOKIE);
        }
    }

    /// A reply in which any one bit is flipped on the way is not taken for an answer.
    #[test]
    fn a_flipped_bit_is_noticed(size in 12..200_usize, key in key(), at: prop::sample::Index, bit in 0..8_u8) {
        let template = template(size);
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
        let template = template(56);
        for message in [parse_v4(&bytes, cut).map(|packet| packet.message), parse_v4_icmp(&bytes, cut), parse_v6(&bytes, cut)] {
            match message {
                Ok(Message::EchoReply { payload, .. }) => {
                    prop_assert_eq!(template.recognise(payload, SECRET), Recognition::Foreign);
                }
                Ok(Message::Error { quote, .. }) => {
                    let key = EchoKey { id: quote.id, sequence: quote.sequence, generation: 0, secret: SECRET };
                    let _ = template.fits_quote(&quote, key);
                }
                Err(_) => {}
            }
        }
    }
}
