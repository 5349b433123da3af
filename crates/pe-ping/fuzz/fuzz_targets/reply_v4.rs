//! What a raw IPv4 socket delivers: the IP header and whatever is behind it.
#![no_main]

use assert_no_alloc::{AllocDisabler, assert_no_alloc};
use libfuzzer_sys::fuzz_target;
use pe_ping::packet::{Message, parse_v4, parse_v4_icmp};
use pe_ping_fuzz::{check, templates};

#[global_allocator]
static ALLOCATOR: AllocDisabler = AllocDisabler;

fuzz_target!(|data: &[u8]| {
    let templates = templates();
    for cut in [false, true] {
        let (whole, icmp) = assert_no_alloc(|| (parse_v4(data, cut), parse_v4_icmp(data, cut)));
        if let Ok(packet) = whole {
            let header = usize::from(data[0] & 15) * 4;
            let total = usize::from(u16::from_be_bytes([data[2], data[3]])).min(data.len());
            if !cut {
                assert_eq!(pnet_packet::util::checksum(&data[header..total], usize::MAX), 0, "never a bad checksum");
            }
            templates.iter().for_each(|template| check(template, &packet.message));
        }
        if let Ok(message) = icmp {
            assert!(!cut || matches!(message, Message::Error { .. }), "a reply that is cut says nothing");
            templates.iter().for_each(|template| check(template, &message));
        }
    }
});
