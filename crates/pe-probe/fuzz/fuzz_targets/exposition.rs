//! Pages of a device's metrics. The first byte says in which format; the rest is the page.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pe_probe::exposition::try_page;

fuzz_target!(|data: &[u8]| try_page(data));
