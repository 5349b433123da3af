//! Answers of HTTP servers and proxies. The first byte says how they are taken, the second how many bytes come at once; the rest is what the
//! peer says.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pe_probe::http::try_answer;

fuzz_target!(|data: &[u8]| try_answer(data));
