//! What a monitoring plugin writes.
#![no_main]

use std::collections::HashSet;

use libfuzzer_sys::fuzz_target;
use pe_probe::command::plugin::{MAX_PIECES, PluginOutput};

fuzz_target!(|data: &[u8]| {
    let output = PluginOutput::parse(data);
    assert!(output.pieces.len() <= MAX_PIECES);
    // A piece takes two characters at least: a label and its sign.
    assert!((output.pieces.len() + output.invalid).saturating_sub(1) <= data.len());
    let labels: HashSet<&str> = output.pieces.iter().map(|piece| piece.label.as_str()).collect();
    assert_eq!(labels.len(), output.pieces.len());
    assert!(!output.summary.contains('\n'));
    for piece in &output.pieces {
        assert!(!piece.label.is_empty());
        // Units multiply by some powers of 1024: what was finite may be infinite, but is never no number.
        assert!(piece.value.is_none_or(|value| !value.is_nan()));
        for range in [piece.warning, piece.critical].into_iter().flatten() {
            assert!(range.low <= range.high);
        }
    }
});
