//! The packet inside an ICMP error.
#![no_main]

use assert_no_alloc::{AllocDisabler, assert_no_alloc};
use libfuzzer_sys::fuzz_target;
use pe_ping::packet::{quote_v4, quote_v6, quoted_request};
use pe_ping_fuzz::{check_quote, templates};

#[global_allocator]
static ALLOCATOR: AllocDisabler = AllocDisabler;

fuzz_target!(|data: &[u8]| {
    let templates = templates();
    let found = assert_no_alloc(|| {
        let destination = [127, 0, 0, 1].into();
        [quote_v4(data), quote_v6(data), quoted_request(data, destination)]
    });
    for quote in found.iter().flatten() {
        templates.iter().for_each(|template| check_quote(template, quote));
    }
});
