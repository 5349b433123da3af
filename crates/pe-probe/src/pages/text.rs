//! The text formats, line by line: Prometheus 0.0.4 and OpenMetrics 1.0. No I/O, and no allocation but for labels with escapes.
//!
//! A line is a comment with a meaning, a sample, or nothing. A line that is none of these is malformed, and so is the page. Whether a
//! sample can be a series of ours is left to [`page`](super::page).
//!
//! Sources: <https://prometheus.io/docs/instrumenting/exposition_formats/> and
//! <https://prometheus.io/docs/specs/om/open_metrics_spec/>.

use std::borrow::Cow;

/// What a line says.
#[derive(Debug, Clone, PartialEq)]
pub enum Line<'a> {
    /// A help text, with its escapes.
    Help(&'a str, &'a str),
    /// The word for a type.
    Type(&'a str, &'a str),
    /// The end of an OpenMetrics page.
    Eof,
    /// Nothing: empty, or a comment.
    Nothing,
    /// A sample.
    Sample(TextSample<'a>),
}

/// A sample, its labels not read yet.
#[derive(Debug, Clone, PartialEq)]
pub struct TextSample<'a> {
    /// The name; empty where it is quoted among the labels.
    pub name: &'a str,
    /// What is between the braces.
    pub labels: &'a str,
    /// The value.
    pub value: f64,
    /// Whether there is a time stamp.
    pub has_time: bool,
    /// How many bytes of the line name and labels take.
    pub key: usize,
}

/// A line that cannot be read, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

/// Reads a line, without its line feed.
///
/// # Errors
/// [`Malformed`] when it is neither a comment nor a sample.
pub fn read_line(line: &str) -> Result<Line<'_>, Malformed> {
    let text = line.trim_start_matches([' ', '\t']);
    let indent = line.len() - text.len();
    let text = text.trim_end_matches([' ', '\t', '\r']);
    if text.is_empty() {
        return Ok(Line::Nothing);
    }
    if let Some(comment) = text.strip_prefix('#') {
        return Ok(read_comment(comment));
    }
    let name_end = text
        .find(['{', ' ', '\t'])
        .ok_or(Malformed("a name without a value"))?;
    let (name, rest) = text.split_at(name_end);
    let (labels, rest) = match rest.trim_start_matches([' ', '\t']).strip_prefix('{') {
        Some(labels) => {
            let end = labels_end(labels).ok_or(Malformed("labels without an end"))?;
            (&labels[..end], &labels[end + 1..])
        }
        None if name.is_empty() => return Err(Malformed("a sample without a name")),
        None => ("", rest),
    };
    let key = indent + (text.len() - rest.len());
    let (value, has_time) = read_value(rest)?;
    Ok(Line::Sample(TextSample {
        name,
        labels,
        value,
        has_time,
        key,
    }))
}

/// What stands behind name and labels: a value, perhaps a time stamp, perhaps an exemplar. Returns the value, and whether there is a
/// time stamp.
pub(super) fn read_value(rest: &str) -> Result<(f64, bool), Malformed> {
    let mut words = rest.split([' ', '\t', '\r']).filter(|it| !it.is_empty());
    let value = words.next().ok_or(Malformed("a sample without a value"))?;
    let value = value
        .parse()
        .map_err(|_| Malformed("a value that is no number"))?;
    let has_time = match words.next() {
        None => false,
        Some("#") => return Ok((value, false)),
        Some(time) => {
            time.parse::<f64>()
                .map_err(|_| Malformed("a time stamp that is no number"))?;
            true
        }
    };
    match words.next() {
        None | Some("#") => Ok((value, has_time)),
        Some(_) => Err(Malformed("text behind a sample")),
    }
}

fn read_comment(comment: &str) -> Line<'_> {
    let comment = comment.trim_start_matches([' ', '\t']);
    if comment == "EOF" {
        return Line::Eof;
    }
    let Some((word, rest)) = comment.split_once([' ', '\t']) else {
        return Line::Nothing;
    };
    let rest = rest.trim_start_matches([' ', '\t']);
    let (name, text) = rest.split_once([' ', '\t']).unwrap_or((rest, ""));
    match word {
        "HELP" => Line::Help(name, text.trim_start_matches([' ', '\t'])),
        "TYPE" => Line::Type(name, text.trim()),
        _ => Line::Nothing,
    }
}

/// Where the brace is that closes labels.
fn labels_end(labels: &str) -> Option<usize> {
    let bytes = labels.as_bytes();
    let mut at = 0;
    let mut quoted = false;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'\\' if quoted => at += 1,
            b'"' => quoted = !quoted,
            b'}' if !quoted => return Some(at),
            _ => {}
        }
        at += 1;
    }
    None
}

/// A label; its name is `None` where it is quoted.
pub type RawLabel<'a> = (Option<&'a str>, Cow<'a, str>);

/// Reads the labels between the braces, in their order. A quoted name, of Prometheus 3, has none of ours.
///
/// # Errors
/// [`Malformed`] when they are not `name="value"`, separated by commas.
pub fn read_labels<'a>(text: &'a str, mut each: impl FnMut(RawLabel<'a>)) -> Result<(), Malformed> {
    let mut rest = text.trim_start_matches([' ', '\t']);
    while !rest.is_empty() {
        if let Some(quoted) = rest.strip_prefix('"') {
            let (name, behind) = read_quoted(quoted)?;
            each((None, name));
            let behind = behind.trim_start_matches([' ', '\t']);
            rest = match behind.strip_prefix('=') {
                Some(behind) => {
                    let value = behind.trim_start_matches([' ', '\t']);
                    let value = value
                        .strip_prefix('"')
                        .ok_or(Malformed("a label without a quoted value"))?;
                    read_quoted(value)?.1
                }
                None => behind,
            };
        } else {
            let (name, behind) = rest
                .split_once('=')
                .ok_or(Malformed("a label without a value"))?;
            let value = behind.trim_start_matches([' ', '\t']);
            let value = value
                .strip_prefix('"')
                .ok_or(Malformed("a label without a quoted value"))?;
            let (value, behind) = read_quoted(value)?;
            each((Some(name.trim_end_matches([' ', '\t'])), value));
            rest = behind;
        }
        rest = rest.trim_start_matches([' ', '\t']);
        if rest.is_empty() {
            break;
        }
        let behind = rest
            .strip_prefix(',')
            .ok_or(Malformed("labels that no comma separates"))?;
        rest = behind.trim_start_matches([' ', '\t']);
    }
    Ok(())
}

/// A text up to its closing quote, and what is behind that.
fn read_quoted(text: &str) -> Result<(Cow<'_, str>, &str), Malformed> {
    let bytes = text.as_bytes();
    let mut at = 0;
    let mut escaped = false;
    loop {
        match bytes.get(at) {
            None => return Err(Malformed("a quote that is not closed")),
            Some(b'"') => break,
            Some(b'\\') => {
                escaped = true;
                at += 2;
            }
            Some(_) => at += 1,
        }
    }
    let (value, rest) = (&text[..at], &text[at + 1..]);
    let value = match escaped {
        true => Cow::Owned(unescape(value)),
        false => Cow::Borrowed(value),
    };
    Ok((value, rest))
}

/// A text without its escapes: `\\`, `\"` and `\n`. Others are left as they are.
#[must_use]
pub fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => out.push('\n'),
            Some(c @ ('\\' | '"')) => out.push(c),
            Some(c) => out.extend(['\\', c]),
            None => out.push('\\'),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(line: &str) -> TextSample<'_> {
        match read_line(line) {
            Ok(Line::Sample(sample)) => sample,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn labels(text: &str) -> Result<Vec<(Option<String>, String)>, Malformed> {
        let mut found = Vec::new();
        read_labels(text, |(name, value)| {
            found.push((name.map(str::to_owned), value.into_owned()));
        })?;
        Ok(found)
    }

    #[test]
    fn samples_are_read_with_all_that_may_stand_behind_them() {
        let plain = sample("up 1");
        assert_eq!((plain.name, plain.labels, plain.value), ("up", "", 1.0));
        assert!(!plain.has_time && plain.key == 2);
        let full = sample("  a_total {x=\"}\\\"\",} +Inf 1700000000000 # {trace=\"1\"} 0.5");
        assert_eq!((full.name, full.labels), ("a_total", "x=\"}\\\"\","));
        assert!(full.value == f64::INFINITY && full.has_time);
        assert!(sample("x NaN").value.is_nan());
        assert!(!sample("x 1 # {a=\"b\"} 2").has_time);
        assert_eq!(sample("x 1\r").value, 1.0);
        assert_eq!(sample("{\"a.b\",x=\"1\"} 2").name, "");
    }

    #[test]
    fn comments_are_told_apart() {
        let line = |text| read_line(text).unwrap();
        assert_eq!(
            line("# HELP up  Is \\\\ it"),
            Line::Help("up", "Is \\\\ it")
        );
        assert_eq!(line("# HELP up"), Line::Help("up", ""));
        assert_eq!(line("# TYPE up gauge"), Line::Type("up", "gauge"));
        assert_eq!(line("# EOF"), Line::Eof);
        for nothing in ["", " ", "#", "# UNIT x seconds", "# a comment", "#!"] {
            assert_eq!(line(nothing), Line::Nothing, "{nothing:?}");
        }
    }

    #[test]
    fn what_is_neither_is_malformed() {
        for bad in [
            "up",
            "up x",
            "up 1 x",
            "up 1 2 3",
            "up{ 1",
            "up{a=\"b\" 1",
            "<html>",
            "<html lang=\"en\"> x",
        ] {
            assert!(read_line(bad).is_err(), "{bad}");
        }
        for bad in [
            "a",
            "a=b",
            "a=\"b",
            "a=\"b\" c=\"d\"",
            "a=\"b\\",
            "=\"b\",x",
            "\"a",
        ] {
            assert!(labels(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn labels_are_read_in_their_order_without_escapes() {
        let found = labels(r#" b = "x\\\"\n\t" , a="" ,"#).unwrap();
        let expected = [("b", "x\\\"\n\\t"), ("a", "")];
        let expected = expected.map(|(name, value)| (Some(name.to_owned()), value.to_owned()));
        assert_eq!(found, expected);
        let quoted = labels("\"a.b\",\"c d\"=\"1\"").unwrap();
        assert_eq!(quoted, [(None, "a.b".to_owned()), (None, "c d".to_owned())]);
    }
}
