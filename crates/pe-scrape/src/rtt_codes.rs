//! Round-trip times of single probes, packed into cells that no exposition shows.
//!
//! A code is one byte on a logarithmic scale: 1 stands for 1 µs, each further one for 7.5 % more, 255 for 95 s and above; 0
//! stands for nothing. A cell holds six codes, the first in the lowest byte, as the `f64` of a 48-bit number, which is
//! exact. So a scraper that sends several probes a cycle can hand on what each of them took, for quantiles that are those
//! of the probes and not of means.

/// Codes in one cell.
const IN_CELL: u32 = 6;

/// What code 1 stands for, in seconds.
const LOWEST: f64 = 1e-6;

/// The natural logarithm of the step from a code to the next.
const STEP: f64 = 0.072_320_661_579_626_12;

/// The code of a round-trip time in seconds.
#[must_use]
pub fn rtt_code(seconds: f64) -> u8 {
    if seconds.is_nan() || seconds <= LOWEST {
        return 1;
    }
    ((seconds / LOWEST).ln() / STEP).round().min(254.0) as u8 + 1
}

/// The round-trip time, in seconds, that a code stands for. Codes between two whole ones are of use for quantiles.
#[must_use]
pub fn rtt_of_code(code: f64) -> f64 {
    LOWEST * ((code - 1.0) * STEP).exp()
}

/// The cell with one more code, or `None` if it is full.
#[must_use]
pub fn push_rtt_code(cell: Option<f64>, code: u8) -> Option<f64> {
    let packed = cell.unwrap_or(0.0) as u64;
    let used = (u64::BITS - packed.leading_zeros()).div_ceil(8);
    (used < IN_CELL).then(|| (packed | u64::from(code) << (8 * used)) as f64)
}

/// The codes of a cell.
pub fn rtt_codes(cell: f64) -> impl Iterator<Item = u8> {
    let packed = (cell as u64).to_le_bytes();
    packed.into_iter().take_while(|code| *code != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_within_four_percent_of_the_time() {
        for seconds in [1e-6, 9.9e-6, 123e-6, 0.0042, 0.5, 3.0, 90.0] {
            let decoded = rtt_of_code(rtt_code(seconds).into());
            assert!(
                (decoded / seconds).ln().abs() < 0.04,
                "{seconds}: {decoded}"
            );
        }
        assert_eq!(
            (rtt_code(0.0), rtt_code(f64::NAN), rtt_code(1e9)),
            (1, 1, 255)
        );
    }

    #[test]
    fn a_cell_holds_six_codes() {
        let mut cell = None;
        for code in [255, 1, 2, 3, 254, 255] {
            cell = push_rtt_code(cell, code);
        }
        assert_eq!(push_rtt_code(cell, 9), None);
        assert!(rtt_codes(cell.unwrap()).eq([255, 1, 2, 3, 254, 255]));
        assert!(rtt_codes(push_rtt_code(None, 7).unwrap()).eq([7]));
    }
}
