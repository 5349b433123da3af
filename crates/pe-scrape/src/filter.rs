//! Which series are taken, by a sink or by who passes them on: patterns of metric names and labels. No I/O.
//!
//! A pattern is a metric name, labels in braces, or both: `ping_*`, `{site=plant-*}`, `ping_rtt_*{ip=10.*,site="a, b"}`. A star
//! stands for any text, also none; a value with a comma, a brace or a quote stands in quotes, with a backslash before each quote
//! and backslash of its own. A pattern matches when all its parts do; a label that a series does not have is empty.
//!
//! A series is taken when `keep` has no pattern or one that matches, and `drop` has none that matches.

use std::iter::Peekable;
use std::str::Chars;

use crate::settings::Problems;

/// Which series are taken, by patterns of metric names and labels.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    keep: Vec<Pattern>,
    drop: Vec<Pattern>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern {
    name: Glob,
    labels: Vec<(String, Glob)>,
}

/// Text with stars: the parts between them.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Glob(Vec<String>);

impl Filter {
    /// Reads the patterns of the keys `keep` and `drop`; what is wrong is reported at them.
    pub fn new(keep: &[String], drop: &[String], problems: &mut Problems) -> Self {
        let mut read = |key: &str, texts: &[String]| {
            problems.within(key, |problems| {
                let read = texts.iter().enumerate().filter_map(|(index, text)| {
                    let pattern = Pattern::parse(text);
                    pattern
                        .map_err(|reason| {
                            let message = format!("`{text}` is not a pattern of series: {reason}");
                            let hint =
                                "such as `ping_*`, `{site=plant-*}` or `ping_rtt_*{ip=10.*}`";
                            problems.within(index, |it| it.error(message, hint.to_owned()));
                        })
                        .ok()
                });
                read.collect::<Vec<_>>()
            })
        };
        Self {
            keep: read("keep", keep),
            drop: read("drop", drop),
        }
    }

    /// Whether it takes everything.
    pub fn is_empty(&self) -> bool {
        self.keep.is_empty() && self.drop.is_empty()
    }

    /// Whether it takes all series of a metric, or none of them; `None` where their labels decide.
    pub fn takes_metric(&self, name: &str) -> Option<bool> {
        let by_name = |patterns: &[Pattern]| {
            let mut matching = patterns.iter().filter(|it| it.name.matches(name));
            match matching.clone().any(|it| it.labels.is_empty()) {
                true => Some(true),
                false => matching.next().is_none().then_some(false),
            }
        };
        let kept = match self.keep.is_empty() {
            true => Some(true),
            false => by_name(&self.keep),
        };
        match (kept, by_name(&self.drop)) {
            (Some(false), _) | (_, Some(true)) => Some(false),
            (Some(true), Some(false)) => Some(true),
            _ => None,
        }
    }

    /// Whether it takes a series; `label` gives the value of a label, if the series has it.
    pub fn takes<'l>(&self, name: &str, label: impl Fn(&str) -> Option<&'l str>) -> bool {
        let matches = |pattern: &Pattern| {
            let labels = &pattern.labels;
            pattern.name.matches(name)
                && labels
                    .iter()
                    .all(|(name, glob)| glob.matches(label(name).unwrap_or_default()))
        };
        (self.keep.is_empty() || self.keep.iter().any(matches)) && !self.drop.iter().any(matches)
    }
}

impl Pattern {
    fn parse(text: &str) -> Result<Self, &'static str> {
        let text = text.trim();
        let (name, labels) = match text.split_once('{') {
            None => (text, ""),
            Some((name, rest)) => (
                name.trim(),
                rest.strip_suffix('}')
                    .ok_or("the brace `}` at its end is missing")?,
            ),
        };
        let is_of_names = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | '*');
        if !name.chars().all(is_of_names) {
            return Err("a metric name has letters, digits, `_` and `:`");
        }
        if name.is_empty() && labels.trim().is_empty() {
            return Err("it is empty");
        }
        Ok(Self {
            name: Glob::new(if name.is_empty() { "*" } else { name }),
            labels: parse_labels(labels)?,
        })
    }
}

fn parse_labels(text: &str) -> Result<Vec<(String, Glob)>, &'static str> {
    let mut rest = text.chars().peekable();
    let mut labels = Vec::new();
    loop {
        let name = take_until(&mut rest, '=');
        let name = name.trim();
        if name.is_empty() && rest.peek().is_none() {
            return Ok(labels);
        }
        if rest.next() != Some('=') {
            return Err("labels are written `name=value`");
        }
        if !crate::is_label_name(name) && !name.starts_with("__") {
            return Err("a label name has letters, digits and `_`");
        }
        while rest.next_if(|c| c.is_whitespace()).is_some() {}
        let value = match rest.next_if_eq(&'"') {
            Some(_) => take_quoted(&mut rest)?,
            None => take_until(&mut rest, ',').trim().to_owned(),
        };
        labels.push((name.to_owned(), Glob::new(&value)));
        while rest.next_if(|c| c.is_whitespace()).is_some() {}
        if rest.peek().is_some() && rest.next() != Some(',') {
            return Err("labels are separated by commas");
        }
    }
}

fn take_until(rest: &mut Peekable<Chars<'_>>, end: char) -> String {
    let mut taken = String::new();
    while let Some(c) = rest.next_if(|c| *c != end) {
        taken.push(c);
    }
    taken
}

fn take_quoted(rest: &mut Peekable<Chars<'_>>) -> Result<String, &'static str> {
    let mut taken = String::new();
    while let Some(c) = rest.next() {
        match c {
            '"' => return Ok(taken),
            '\\' => taken.extend(rest.next()),
            c => taken.push(c),
        }
    }
    Err("a quote is not closed")
}

impl Glob {
    fn new(text: &str) -> Self {
        Self(text.split('*').map(str::to_owned).collect())
    }

    fn matches(&self, text: &str) -> bool {
        let [first, between @ .., last] = self.0.as_slice() else {
            return self.0.first().is_some_and(|whole| whole == text);
        };
        let Some(mut rest) = text.strip_prefix(first.as_str()) else {
            return false;
        };
        for part in between {
            // The first place leaves the most for the parts behind.
            let Some((_, behind)) = rest.split_once(part.as_str()) else {
                return false;
            };
            rest = behind;
        }
        rest.ends_with(last.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(keep: &[&str], drop: &[&str]) -> Filter {
        let owned = |texts: &[&str]| texts.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
        let mut problems = Problems::default();
        let filter = Filter::new(&owned(keep), &owned(drop), &mut problems);
        assert!(!problems.has_errors(), "{:?}", problems.into_vec());
        filter
    }

    fn takes(filter: &Filter, name: &str, labels: &[(&str, &'static str)]) -> bool {
        let label = |wanted: &str| {
            let found = labels.iter().find(|(name, _)| *name == wanted);
            found.map(|(_, value)| *value)
        };
        let takes = filter.takes(name, label);
        // What holds for the whole metric holds for the series.
        assert!(filter.takes_metric(name).is_none_or(|all| all == takes));
        takes
    }

    #[test]
    fn stars_stand_for_any_text() {
        for (glob, text, expected) in [
            ("*", "", true),
            ("a*", "ab", true),
            ("a*", "ba", false),
            ("*a*b*", "xxaxxbxx", true),
            ("*a*b*", "ba", false),
            ("ab*ba", "aba", false),
            ("a*a", "a", false),
            ("", "", true),
            ("", "x", false),
            ("a", "aa", false),
        ] {
            assert_eq!(Glob::new(glob).matches(text), expected, "{glob} {text}");
        }
    }

    #[test]
    fn series_are_taken_that_are_kept_and_not_dropped() {
        let by_name = filter(&["ping_*", "dev_ping"], &["ping_rtt_*"]);
        assert!(takes(&by_name, "ping_up", &[]) && takes(&by_name, "dev_ping", &[]));
        assert!(!takes(&by_name, "ping_rtt_seconds", &[]) && !takes(&by_name, "other", &[]));
        assert_eq!(by_name.takes_metric("ping_up"), Some(true));
        let by_label = filter(
            &[],
            &[
                "{site=lab}",
                "ping_*{ip=10.*, site=\"a, \\\"b\\\"\"}",
                "x{site=}",
            ],
        );
        assert!(!takes(&by_label, "anything", &[("site", "lab")]));
        assert!(takes(&by_label, "anything", &[("site", "plant")]));
        assert!(!takes(
            &by_label,
            "ping_up",
            &[("ip", "10.1"), ("site", "a, \"b\"")]
        ));
        assert!(takes(
            &by_label,
            "ping_up",
            &[("ip", "11.1"), ("site", "a, \"b\"")]
        ));
        assert!(!takes(&by_label, "x", &[]) && takes(&by_label, "x", &[("site", "plant")]));
        assert_eq!(by_label.takes_metric("y"), None);
        assert!(filter(&[], &[]).is_empty() && takes(&filter(&[], &[]), "x", &[]));
    }

    #[test]
    fn what_is_no_pattern_is_refused_at_its_place() {
        let bad = [
            "",
            "a b",
            "{",
            "x{a}",
            "x{=b}",
            "x{a=\"b}",
            "x{a=\"b\"c}",
            "{}",
            "a}",
        ];
        for text in bad {
            let mut problems = Problems::default();
            Filter::new(&[], &["good".to_owned(), text.to_owned()], &mut problems);
            let told = problems.into_vec();
            assert_eq!(told.len(), 1, "{text}");
            assert_eq!(told[0].pointer(), "/drop/1", "{text}");
        }
    }
}
