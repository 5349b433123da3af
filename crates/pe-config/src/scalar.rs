//! Single values: numbers, durations, names out of a list.

use std::time::Duration;

use figment::value::Value;

/// Shortest duration that any setting accepts.
const MIN_DURATION: Duration = Duration::from_millis(1);
/// Longest duration that any setting accepts: 366 days.
const MAX_DURATION: Duration = Duration::from_secs(366 * 86_400);

/// Why a value was not accepted; put behind the name of the setting in a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal(pub(crate) String);

impl Refusal {
    fn expected(found: &Value, expected: &str) -> Self {
        Self(format!("found {}, expected {expected}", describe(found)))
    }
}

/// What a value is, as a message says it. Never shows the text of a string.
pub(crate) fn describe(value: &Value) -> &'static str {
    match value {
        Value::String(..) | Value::Char(..) => "a string",
        Value::Bool(..) => "a boolean",
        Value::Num(..) => "a number",
        Value::Empty(..) => "null",
        Value::Dict(..) => "an object",
        Value::Array(..) => "an array",
    }
}

/// The value as text. (figment keeps a string of one character apart.)
pub(crate) fn text(value: &Value) -> Result<String, Refusal> {
    match value {
        Value::String(_, text) => Ok(text.clone()),
        Value::Char(_, character) => Ok(character.to_string()),
        other => Err(Refusal::expected(other, "a string")),
    }
}

/// A finite number; `from_text` tells that it may be written as text.
pub(crate) fn number(value: &Value, from_text: bool) -> Result<f64, Refusal> {
    let number = match value {
        Value::Num(_, number) => to_f64(*number),
        other if from_text => text(other).ok().and_then(|text| text.trim().parse().ok()),
        _ => None,
    };
    let number = number.ok_or_else(|| Refusal::expected(value, "a number"))?;
    if number.is_finite() {
        Ok(number)
    } else {
        Err(Refusal("not a finite number".to_owned()))
    }
}

/// A whole number from `min` to `max`; `from_text` tells that it may be written as text.
pub(crate) fn integer(value: &Value, from_text: bool, min: u64, max: u64) -> Result<u64, Refusal> {
    let expected = format!("a whole number from {min} to {max}");
    let out_of_range = || Refusal(format!("out of range, expected {expected}"));
    let number = match value {
        Value::Num(..) => number(value, false)?,
        _ if from_text => number(value, true).map_err(|_| Refusal::expected(value, &expected))?,
        _ => return Err(Refusal::expected(value, &expected)),
    };
    if number.fract() != 0.0 {
        return Err(Refusal(format!("found {number}, expected {expected}")));
    }
    if number < min as f64 || number > max as f64 {
        return Err(out_of_range());
    }
    Ok(number as u64)
}

/// The forms of a duration.
const FORMS: &str = "a number of seconds or a duration such as \"1.5s\" or \"250ms\"";

/// A duration: a number of seconds, or text such as `1.5s`, `250ms`, `1m 30s` or `30` (seconds).
/// Longer than zero and at most 366 days.
pub(crate) fn duration(value: &Value) -> Result<Duration, Refusal> {
    match value {
        Value::Num(_, number) => seconds(to_f64(*number).unwrap_or(f64::NAN)),
        Value::String(..) | Value::Char(..) => parse_duration(&text(value)?),
        other => Err(Refusal::expected(other, FORMS)),
    }
}

/// [`duration`] of text.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, Refusal> {
    let text = text.trim();
    if text.starts_with('-') {
        return Err(not_positive());
    }
    let plain = text
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.');
    if plain && let Ok(number) = text.parse() {
        return seconds(number);
    }
    match humantime::parse_duration(text) {
        Ok(duration) => bounded(duration),
        Err(humantime::DurationError::NumberOverflow) => Err(too_long()),
        Err(humantime::DurationError::UnknownUnit { unit, .. }) if !unit.is_empty() => {
            Err(Refusal(format!(
                "unknown unit `{unit}`, expected one of ms, s, m, h, d"
            )))
        }
        Err(_) => Err(Refusal(format!("found {text:?}, expected {FORMS}"))),
    }
}

/// A number of seconds, to the microsecond: a binary fraction has a tail that nobody wrote.
fn seconds(number: f64) -> Result<Duration, Refusal> {
    if number.is_nan() || number <= 0.0 {
        return Err(not_positive());
    }
    if number > MAX_DURATION.as_secs_f64() {
        return Err(too_long());
    }
    let rounded = Duration::from_micros((number * 1e6).round() as u64);
    bounded(rounded.max(Duration::from_micros(1)))
}

fn bounded(duration: Duration) -> Result<Duration, Refusal> {
    if duration.is_zero() {
        return Err(not_positive());
    }
    if duration < MIN_DURATION {
        return Err(Refusal("shorter than a millisecond".to_owned()));
    }
    if duration > MAX_DURATION {
        return Err(too_long());
    }
    Ok(duration)
}

fn not_positive() -> Refusal {
    Refusal("must be greater than zero".to_owned())
}

fn too_long() -> Refusal {
    Refusal("longer than 366 days".to_owned())
}

fn to_f64(number: figment::value::Num) -> Option<f64> {
    number
        .to_f64()
        .or_else(|| number.to_u128().map(|number| number as f64))
        .or_else(|| number.to_i128().map(|number| number as f64))
}

/// A duration as messages show it.
pub(crate) fn show(duration: Duration) -> String {
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
            ("1d", 86_400_000),
        ] {
            let expected = Duration::from_millis(milliseconds);
            assert_eq!(parse_duration(text), Ok(expected), "{text}");
        }
        assert_eq!(duration(&Value::from(0.25)), Ok(Duration::from_millis(250)));
    }

    #[test]
    fn durations_have_bounds() {
        for text in [
            "",
            "-1",
            "-1s",
            "0",
            "0s",
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
            assert!(duration(&Value::from(number)).is_err(), "{number}");
        }
        assert!(duration(&Value::from(u64::MAX)).is_err());
        assert!(duration(&Value::from(i64::MIN)).is_err());
    }

    proptest! {
        #[test]
        fn a_duration_that_is_shown_reads_the_same(milliseconds in 1u64..=366 * 86_400_000) {
            let expected = Duration::from_millis(milliseconds);
            prop_assert_eq!(parse_duration(&show(expected)), Ok(expected));
            prop_assert_eq!(parse_duration(&format!("{milliseconds}ms")), Ok(expected));
            let text = format!("{}.{:03}", milliseconds / 1000, milliseconds % 1000);
            prop_assert_eq!(parse_duration(&text), Ok(expected));
            let number = serde_json::from_str::<f64>(&text).unwrap();
            prop_assert_eq!(duration(&Value::from(number)), Ok(expected));
        }

        #[test]
        fn whatever_is_accepted_is_within_bounds(text in "[-0-9.]{1,12}(ns|us|ms|s|m|h|d|y|)|.{0,20}") {
            if let Ok(duration) = parse_duration(&text) {
                prop_assert!((MIN_DURATION..=MAX_DURATION).contains(&duration));
            }
        }

        #[test]
        fn any_number_is_decoded_or_refused(number: f64, min in 0u64..10, max in 10u64..100) {
            let value = Value::from(number);
            if let Ok(duration) = duration(&value) {
                prop_assert!((MIN_DURATION..=MAX_DURATION).contains(&duration));
            }
            if let Ok(integer) = integer(&value, false, min, max) {
                prop_assert!((min..=max).contains(&integer) && integer as f64 == number);
            }
        }
    }
}
