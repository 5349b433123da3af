//! Whether an answer is as it should be.

use std::fmt;

use pe_scrape::settings::{Bounds, Kind, Node, Problems, Setting, View};
use pe_scrape::{SettingsError, Value};
use regex::bytes::Regex;

use super::exchange::Answer;
use super::settings::HttpSettings;
use crate::{Failure, Reason};

/// Statuses that are as they should be: ranges, both ends included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusChoice(Vec<(u16, u16)>);

impl Default for StatusChoice {
    /// 200 to 299.
    fn default() -> Self {
        Self(vec![(200, 299)])
    }
}

impl StatusChoice {
    /// Whether a status is one of them.
    #[must_use]
    pub fn admits(&self, status: u16) -> bool {
        self.0
            .iter()
            .any(|(from, to)| (*from..=*to).contains(&status))
    }

    fn read(text: &str) -> Option<(u16, u16)> {
        let text = text.trim();
        if let [class @ b'1'..=b'5', b'x' | b'X', b'x' | b'X'] = text.as_bytes() {
            let from = u16::from(class - b'0') * 100;
            return Some((from, from + 99));
        }
        let (from, to) = text.split_once('-').unwrap_or((text, text));
        let range: (u16, u16) = (from.trim().parse().ok()?, to.trim().parse().ok()?);
        (range.0 <= range.1 && range.0 >= 100 && range.1 <= 599).then_some(range)
    }

    fn decode_one<'v, N: Node<'v>>(node: N, problems: &mut Problems) -> Option<(u16, u16)> {
        let range = match node.view() {
            View::Number(number) if number.fract() == 0.0 => Self::read(&number.to_string()),
            View::Text(text) => Self::read(text),
            _ => None,
        };
        if range.is_none() {
            problems.refuse(format_args!(
                "found {}, expected a status such as 200, a class such as \"2xx\" or a range such as \"200-204\"",
                node.view().describe()
            ));
        }
        range
    }
}

impl fmt::Display for StatusChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (from, to)) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            match from == to {
                true => write!(f, "{comma}{from}")?,
                false => write!(f, "{comma}{from}-{to}")?,
            }
        }
        Ok(())
    }
}

impl Setting for StatusChoice {
    const KIND: Kind = Kind::Either(&[
        Kind::Integer,
        Kind::Text,
        Kind::List(&Kind::Either(&[Kind::Integer, Kind::Text])),
    ]);

    fn decode<'v, N: Node<'v>>(node: N, _: &Bounds, problems: &mut Problems) -> Option<Self> {
        if node.view() != View::List {
            return Self::decode_one(node, problems).map(|range| Self(vec![range]));
        }
        let items = node.items().enumerate();
        let all: Vec<Option<_>> = items
            .map(|(index, item)| problems.within(index, |p| Self::decode_one(item, p)))
            .collect();
        let all: Option<Vec<_>> = all.into_iter().collect();
        all.map(Self)
    }

    fn encode(&self) -> Value {
        match &self.0[..] {
            [(from, to)] if from == to => (*from).into(),
            _ => self.to_string().into(),
        }
    }
}

/// What an answer must be like.
#[derive(Debug)]
pub(super) struct Checks {
    status: StatusChoice,
    body: Option<Regex>,
    not_body: Option<Regex>,
    json: Vec<(String, Regex)>,
}

impl Checks {
    pub(super) fn new(settings: &HttpSettings) -> Result<Self, SettingsError> {
        let mut problems = Problems::default();
        let body = read("body", settings.body.as_ref(), &mut problems);
        let not_body = read("not_body", settings.not_body.as_ref(), &mut problems);
        let mut json = Vec::new();
        for (pointer, text) in &settings.json {
            let expression = read("json", Some(text), &mut problems);
            json.extend(expression.map(|expression| (pointer.clone(), expression)));
            if !pointer.is_empty() && !pointer.starts_with('/') {
                problems.within("json", |problems| {
                    let message = format!("the place `{pointer}` must start with `/`");
                    problems.error_at_key(pointer, message, None);
                });
            }
        }
        match problems.has_errors() {
            true => Err(problems.into()),
            false => Ok(Self {
                status: settings.status.clone(),
                body,
                not_body,
                json,
            }),
        }
    }

    pub(super) fn needs_body(&self) -> bool {
        self.body.is_some() || self.not_body.is_some() || !self.json.is_empty()
    }

    /// Whether a redirection is as it should be, and not to be followed.
    pub(super) fn expects_redirection(&self) -> bool {
        (300..400).any(|status| self.status.admits(status))
    }

    pub(super) fn pointers(&self) -> impl Iterator<Item = &str> {
        self.json.iter().map(|(pointer, _)| pointer.as_str())
    }

    /// The values at the places of a JSON body, and whether all is as it should be.
    pub(super) fn run(&self, answer: &Answer) -> (Vec<Option<f64>>, Result<(), Failure>) {
        let json = (!self.json.is_empty())
            .then(|| serde_json::from_slice::<Value>(&answer.body).ok())
            .flatten();
        let at = |pointer: &str| json.as_ref()?.pointer(pointer);
        let values = self.json.iter().map(|(pointer, _)| match at(pointer)? {
            Value::Bool(truth) => Some(f64::from(u8::from(*truth))),
            Value::Number(number) => number.as_f64(),
            _ => None,
        });
        (values.collect(), self.check(answer, json.as_ref()))
    }

    fn check(&self, answer: &Answer, json: Option<&Value>) -> Result<(), Failure> {
        let status = answer.status.as_u16();
        if !self.status.admits(status) {
            let message = format!("the status is {status}, expected {}", self.status);
            return Err(Failure::new(Reason::HttpStatus, message));
        }
        let mismatch = |message: String| Err(Failure::new(Reason::Mismatch, message));
        if let Some(body) = self.body.as_ref()
            && !body.is_match(&answer.body)
        {
            return mismatch(format!("the body does not match `{body}`"));
        }
        if let Some(body) = self.not_body.as_ref()
            && body.is_match(&answer.body)
        {
            return mismatch(format!("the body matches `{body}`"));
        }
        for (pointer, wanted) in &self.json {
            let Some(json) = json else {
                return mismatch("the body is no JSON".to_owned());
            };
            let Some(value) = json.pointer(pointer) else {
                return mismatch(format!("the body has nothing at `{pointer}`"));
            };
            let text = match value {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            if !wanted.is_match(text.as_bytes()) {
                return mismatch(format!(
                    "the value at `{pointer}` does not match `{wanted}`"
                ));
            }
        }
        Ok(())
    }
}

/// The regular expression of a key.
fn read(key: &'static str, text: Option<&String>, problems: &mut Problems) -> Option<Regex> {
    let expression = Regex::new(text?);
    let read = expression.map_err(|error| {
        problems.within(key, |problems| {
            problems.refuse(format_args!("no regular expression: {error}"));
        });
    });
    read.ok()
}

#[cfg(test)]
mod tests {
    use pe_scrape::settings::decode;
    use serde_json::json;

    use super::*;

    #[test]
    fn statuses_are_numbers_classes_ranges_and_lists_of_these() {
        let status = |value: Value| {
            let own = decode::<HttpSettings>(&json!({"status": value}));
            own.map(|own| own.status.to_string())
                .map_err(|error| error.to_string())
        };
        assert_eq!(status(json!(204)).unwrap(), "204");
        assert_eq!(status(json!("3XX")).unwrap(), "300-399");
        assert_eq!(status(json!([200, "401-403"])).unwrap(), "200, 401-403");
        for wrong in [
            json!(99),
            json!("6xx"),
            json!("300-200"),
            json!(true),
            json!(["x"]),
        ] {
            assert!(status(wrong.clone()).is_err(), "{wrong}");
        }
        assert!(StatusChoice::default().admits(200) && !StatusChoice::default().admits(301));
    }
}
