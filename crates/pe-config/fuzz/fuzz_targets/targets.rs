//! Targets files, as other programs write them. The first byte says whether one is JSON or YAML; the rest is the file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pe_config::try_targets;

fuzz_target!(|data: &[u8]| try_targets(data));
