//! What an IPv6 socket delivers: the ICMPv6 message.
#![no_main]

use assert_no_alloc::{AllocDisabler, assert_no_alloc};
use libfuzzer_sys::fuzz_target;
use pe_ping::packet::parse_v6;
use pe_ping_fuzz::{check, templates};

#[global_allocator]
static ALLOCATOR: AllocDisabler = AllocDisabler;

fuzz_target!(|data: &[u8]| {
    let templates = templates();
    for cut in [false, true] {
        if let Ok(message) = assert_no_alloc(|| parse_v6(data, cut)) {
            templates.iter().for_each(|template| check(template, &message));
        }
    }
});
