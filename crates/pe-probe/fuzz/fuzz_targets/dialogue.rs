//! What services say in dialogues and before they go over to TLS. The first byte says in which, the second how many bytes come at once; the
//! rest is what the peer says.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pe_probe::tcp::try_dialogue;

fuzz_target!(|data: &[u8]| try_dialogue(data));
