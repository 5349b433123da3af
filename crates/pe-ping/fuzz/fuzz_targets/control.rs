//! The control messages beside a packet.
#![no_main]

use assert_no_alloc::{AllocDisabler, assert_no_alloc};
use libfuzzer_sys::fuzz_target;
use pe_ping::control::Control;

#[global_allocator]
static ALLOCATOR: AllocDisabler = AllocDisabler;

fuzz_target!(|data: &[u8]| {
    let control = assert_no_alloc(|| Control::parse(data));
    if data.len() < 16 {
        assert_eq!(control, Control::default(), "nothing fits into less than a header");
    }
});
