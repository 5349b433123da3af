//! Words and numbers for people. Text from outside is made harmless here, and escaped by the templates.

/// Longer names are cut in tables, and folded on the page of a device.
pub(super) const CUT: usize = 256;

/// A text from outside with control characters and marks that change the direction of writing shown as escapes, and cut
/// after `most` characters.
pub(super) fn shown(text: &str, most: usize) -> String {
    let mut shown = String::new();
    for (place, character) in text.chars().enumerate() {
        if place == most {
            shown.push('…');
            break;
        }
        match character {
            '\u{61c}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}' => {
                shown.extend(character.escape_unicode());
            }
            control if control.is_control() => shown.extend(control.escape_default()),
            other => shown.push(other),
        }
    }
    shown
}

/// A number with a comma between thousands.
pub(super) fn count(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Seconds as milliseconds with two decimals, three where that is too little to tell anything, without the unit.
pub(super) fn milliseconds(seconds: Option<f64>) -> String {
    match seconds.map(|seconds| seconds * 1e3) {
        None => "–".to_owned(),
        Some(small) if small < 0.1 => format!("{small:.3}"),
        Some(other) => format!("{other:.2}"),
    }
}

/// A value of a metric with as many digits as anybody reads.
pub(super) fn value(value: f64) -> String {
    if value == value.trunc() && value.abs() < 1e15 {
        return format!("{value}");
    }
    let text = format!("{value:.9}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A share as whole per cent, without the sign.
pub(super) fn percent(share: Option<f64>) -> String {
    match share {
        None => "–".to_owned(),
        Some(share) if share > 0.0 && share < 0.01 => "<1".to_owned(),
        Some(share) => format!("{:.0}", share * 100.0),
    }
}

/// How long something lasts, in one or two units.
pub(super) fn duration(seconds: f64) -> String {
    let seconds = seconds.max(0.0) as u64;
    let two = |large: u64, one: &str, small: u64, other: &str| match small {
        0 => format!("{large} {one}"),
        _ => format!("{large} {one} {small} {other}"),
    };
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => two(seconds / 3600, "h", seconds % 3600 / 60, "min"),
        _ => two(seconds / 86_400, "d", seconds % 86_400 / 3600, "h"),
    }
}

/// The time between two cycles: whole and part of a second where that is short.
pub(super) fn interval(seconds: f64) -> String {
    match seconds {
        short if short < 60.0 => format!("{} s", number(short)),
        long => duration(long),
    }
}

/// A number without a tail of zeros.
pub(super) fn number(number: f64) -> String {
    let text = format!("{number:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The time of day in UTC, with the day of the week where that is long ago.
pub(super) fn clock(at: f64, now: f64) -> String {
    let at_second = at.max(0.0) as u64;
    let (day, second) = (at_second / 86_400, at_second % 86_400);
    let time = format!(
        "{:02}:{:02}:{:02}",
        second / 3600,
        second / 60 % 60,
        second % 60
    );
    if now - at < 20.0 * 3600.0 {
        return time;
    }
    // The 1st of January 1970 was a Thursday.
    let names = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    let name = names[(day % 7) as usize];
    if now - at < 6.0 * 86_400.0 {
        format!("{name} {time}")
    } else {
        format!("{} ago", duration(now - at))
    }
}

/// Hours and minutes in UTC.
pub(super) fn hour(at: f64) -> String {
    let second = at.max(0.0) as u64 % 86_400;
    format!("{:02}:{:02}", second / 3600, second / 60 % 60)
}

/// Bytes with a unit.
pub(super) fn bytes(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut units = ["B", "kB", "MB", "GB"].into_iter();
    let mut unit = units.next().unwrap_or_default();
    for next in units {
        if value < 1000.0 {
            break;
        }
        value /= 1000.0;
        unit = next;
    }
    if value < 10.0 && unit != "B" {
        format!("{value:.1} {unit}")
    } else {
        format!("{value:.0} {unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_hides_in_a_name() {
        assert_eq!(
            shown("a\u{202e}b\0\n\u{7f}é", 99),
            "a\\u{202e}b\\u{0}\\n\\u{7f}é"
        );
        assert_eq!(shown(&"x".repeat(10_000), 5), "xxxxx…");
    }

    #[test]
    fn numbers_read_as_people_write_them() {
        assert_eq!(
            (count(0), count(999), count(1_234_567)),
            ("0".into(), "999".into(), "1,234,567".into())
        );
        assert_eq!(
            (duration(59.0), duration(3600.0), duration(90_061.0)),
            ("59 s".into(), "1 h".into(), "1 d 1 h".into())
        );
        assert_eq!(
            (percent(Some(0.001)), percent(Some(0.0)), percent(None)),
            ("<1".into(), "0".into(), "–".into())
        );
        assert_eq!(
            (bytes(999), bytes(2_900_000), bytes(41_000_000)),
            ("999 B".into(), "2.9 MB".into(), "41 MB".into())
        );
        assert_eq!(
            (interval(0.5), interval(10.0), interval(90.0)),
            ("0.5 s".into(), "10 s".into(), "1 min".into())
        );
        assert_eq!(clock(1_000_000_000.0, 1_000_000_100.0), "01:46:40");
        assert_eq!(clock(1_000_000_000.0, 1_000_100_000.0), "Sun 01:46:40");
    }
}
