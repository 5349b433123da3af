//! Durations, as files, flags and settings write them.

use std::time::Duration;

use thiserror::Error;

/// Shortest duration that any setting accepts.
pub(super) const MIN_DURATION: Duration = Duration::from_millis(1);
/// Longest duration that any setting accepts: 366 days.
pub(super) const MAX_DURATION: Duration = Duration::from_secs(366 * 86_400);

/// The forms of a duration.
pub(super) const FORMS: &str =
    "a number of seconds or a duration such as \"1.5s\", \"250ms\" or \"1m 30s\"";

/// Why a duration was refused.
#[derive(Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct DurationError(String);

crate::debug_with_causes!(DurationError);

impl DurationError {
    fn not_positive() -> Self {
        Self("must be greater than zero".to_owned())
    }

    fn too_long() -> Self {
        Self("longer than 366 days".to_owned())
    }
}

/// Reads text such as `1.5s`, `250ms`, `1m 30s` or `30` (seconds). From a millisecond to 366 days.
///
/// # Errors
/// [`DurationError`] says what is wrong, to be put behind the name of the setting.
///
/// ```
/// use pe_scrape::settings::parse_duration;
/// assert_eq!(parse_duration("1m 30s")?.as_secs(), 90);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let text = text.trim();
    if text.starts_with('-') {
        return Err(DurationError::not_positive());
    }
    let plain = text
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.');
    if plain && let Ok(number) = text.parse() {
        return from_seconds(number);
    }
    match humantime::parse_duration(text) {
        Ok(duration) => bounded(duration),
        Err(humantime::DurationError::NumberOverflow) => Err(DurationError::too_long()),
        Err(humantime::DurationError::UnknownUnit { unit, .. }) if !unit.is_empty() => {
            Err(DurationError(format!(
                "unknown unit `{unit}`, expected one of ms, s, m, h, d"
            )))
        }
        Err(_) => Err(DurationError(format!("found {text:?}, expected {FORMS}"))),
    }
}

/// A number of seconds, rounded to the microsecond, since most decimal fractions have no exact binary form.
///
/// # Errors
/// As [`parse_duration`].
pub(super) fn from_seconds(number: f64) -> Result<Duration, DurationError> {
    if number.is_nan() || number <= 0.0 {
        return Err(DurationError::not_positive());
    }
    if number > MAX_DURATION.as_secs_f64() {
        return Err(DurationError::too_long());
    }
    let rounded = Duration::from_micros((number * 1e6).round() as u64);
    bounded(rounded.max(Duration::from_micros(1)))
}

pub(super) fn bounded(duration: Duration) -> Result<Duration, DurationError> {
    if duration.is_zero() {
        return Err(DurationError::not_positive());
    }
    if duration < MIN_DURATION {
        return Err(DurationError("shorter than a millisecond".to_owned()));
    }
    if duration > MAX_DURATION {
        return Err(DurationError::too_long());
    }
    Ok(duration)
}

/// A duration as messages show it: `1m 30s`.
#[must_use]
pub fn show_duration(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_have_several_forms() {
        for (text, milliseconds) in [
            ("1.5s", 1500),
            ("250ms", 250),
            ("30", 30_000),
            ("0.5", 500),
            ("1m 30s", 90_000),
            (" 2h ", 7_200_000),
            ("1.5h", 5_400_000),
            ("1d", 86_400_000),
        ] {
            let expected = Duration::from_millis(milliseconds);
            assert_eq!(parse_duration(text), Ok(expected), "{text}");
        }
        assert_eq!(from_seconds(0.25), Ok(Duration::from_millis(250)));
    }

    #[test]
    fn durations_have_bounds() {
        for text in [
            "",
            "-1",
            "-1s",
            "0",
            "0s",
            "0.0s",
            "1us",
            "1e3",
            "s",
            "1 lightyear",
            "99999999999999999999s",
            "NaN",
            "inf",
            "367d",
            ".",
            "1.2.3",
            "1.2.3s",
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        for number in [
            0.0,
            -1.0,
            1e-10,
            1e300,
            f64::MAX,
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::NAN,
        ] {
            assert!(from_seconds(number).is_err(), "{number}");
        }
    }

    proptest! {
        #[test]
        fn a_duration_that_is_shown_reads_the_same(milliseconds in 1u64..=366 * 86_400_000) {
            let expected = Duration::from_millis(milliseconds);
            prop_assert_eq!(parse_duration(&show_duration(expected)), Ok(expected));
            prop_assert_eq!(parse_duration(&format!("{milliseconds}ms")), Ok(expected));
            let text = format!("{}.{:03}", milliseconds / 1000, milliseconds % 1000);
            prop_assert_eq!(parse_duration(&text), Ok(expected));
            prop_assert_eq!(parse_duration(&format!("{text}s")), Ok(expected));
            prop_assert_eq!(from_seconds(text.parse().unwrap()), Ok(expected));
        }

        #[test]
        fn whatever_is_accepted_is_within_bounds(text in "[-0-9.]{1,12}(ns|us|ms|s|m|h|d|y|)|.{0,20}") {
            if let Ok(duration) = parse_duration(&text) {
                prop_assert!((MIN_DURATION..=MAX_DURATION).contains(&duration));
            }
        }

        #[test]
        fn any_number_is_read_or_refused(number: f64) {
            if let Ok(duration) = from_seconds(number) {
                prop_assert!((MIN_DURATION..=MAX_DURATION).contains(&duration));
            }
        }
    }
}
