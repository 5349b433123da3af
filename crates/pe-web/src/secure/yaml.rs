//! YAML (1.2) as a tree, for a file with few keys.
//!
//! A plain `true` or `false` is a boolean, `null`, `~` and nothing are null; any other scalar is text. An alias may stand for
//! a scalar only: what a few lines of them could stand for otherwise has no bound.

use std::collections::HashMap;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, StrInput};
use serde_json::{Map, Value};

/// How deep maps may be nested. The format needs three levels.
const MOST_LEVELS: usize = 16;

/// Reads one document; none is null.
///
/// # Errors
/// What is not as expected, with line and column.
pub(super) fn parse(text: &str) -> Result<Value, String> {
    let mut reader = Reader {
        parser: Parser::new_from_str(text),
        anchors: HashMap::new(),
    };
    let mut root = None;
    while let Some((event, at)) = reader.next()? {
        match event {
            Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd
            | Event::Nothing => {}
            _ if root.is_some() => return Err(told(&at, "a second document")),
            event => root = Some(reader.node(event, &at, 0)?),
        }
    }
    Ok(root.unwrap_or_default())
}

struct Reader<'t> {
    parser: Parser<'t, StrInput<'t>>,
    /// Scalars that aliases may stand for.
    anchors: HashMap<usize, Value>,
}

impl<'t> Reader<'t> {
    fn next(&mut self) -> Result<Option<(Event<'t>, Marker)>, String> {
        match self.parser.next_event() {
            None => Ok(None),
            Some(Ok((event, span))) => Ok(Some((event, span.start))),
            Some(Err(error)) => Err(told(error.marker(), error.info())),
        }
    }

    /// The node that begins with `event`.
    fn node(&mut self, event: Event<'t>, at: &Marker, level: usize) -> Result<Value, String> {
        if level > MOST_LEVELS {
            return Err(told(at, "nested too deeply"));
        }
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let is_plain = style == ScalarStyle::Plain && tag.is_none();
                let value = scalar(text.into_owned(), is_plain);
                if anchor > 0 {
                    self.anchors.insert(anchor, value.clone());
                }
                Ok(value)
            }
            Event::Alias(anchor) => {
                let known = self.anchors.get(&anchor).cloned();
                known.ok_or_else(|| told(at, "an alias can stand for text only; write this out"))
            }
            Event::SequenceStart(..) => {
                let mut elements = Vec::new();
                while let Some((event, at)) = self.within(Event::SequenceEnd)? {
                    elements.push(self.node(event, &at, level + 1)?);
                }
                Ok(elements.into())
            }
            Event::MappingStart(..) => {
                let mut map = Map::new();
                while let Some((event, at)) = self.within(Event::MappingEnd)? {
                    let Event::Scalar(key, ..) = event else {
                        return Err(told(&at, "a key is text"));
                    };
                    let Some((event, value_at)) = self.next()? else {
                        return Err(told(&at, "a key without a value"));
                    };
                    let value = self.node(event, &value_at, level + 1)?;
                    if map.insert(key.clone().into_owned(), value).is_some() {
                        return Err(told(&at, &format!("{key} is there twice")));
                    }
                }
                Ok(map.into())
            }
            _ => Err(told(at, "a value is expected")),
        }
    }

    /// The next event, unless it is `end`.
    fn within(&mut self, end: Event<'_>) -> Result<Option<(Event<'t>, Marker)>, String> {
        Ok(self.next()?.filter(|(event, _)| *event != end))
    }
}

fn scalar(text: String, is_plain: bool) -> Value {
    if !is_plain {
        return text.into();
    }
    match &*text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => true.into(),
        "false" | "False" | "FALSE" => false.into(),
        _ => text.into(),
    }
}

fn told(at: &Marker, problem: &str) -> String {
    format!("line {}, column {}: {problem}", at.line(), at.col() + 1)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn scalars_are_text_unless_they_are_plain_words() {
        let text =
            "a: {b: true, c: 'true', d: ~, e: 12, f: }\nh: &x $2y$10$abc\ni: *x\nk: [a, null]\n";
        let expected = json!({
            "a": {"b": true, "c": "true", "d": null, "e": "12", "f": null},
            "h": "$2y$10$abc",
            "i": "$2y$10$abc",
            "k": ["a", null],
        });
        assert_eq!(parse(text), Ok(expected));
        for nothing in ["", "# nothing\n", "---\n", "~"] {
            assert_eq!(parse(nothing), Ok(Value::Null), "{nothing:?}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_told_with_its_place() {
        let deep = "[".repeat(MOST_LEVELS + 2);
        for (text, expected) in [
            ("a: 1\nb: [", "line "),
            ("a: 1\na: 2", "line 2, column 1: a is there twice"),
            ("a: &x [1]\nb: *x", "line 2, column 4: an alias"),
            ("? [a]\n: b", "a key is text"),
            ("a: 1\n---\nb: 2", "a second document"),
            ("a: *x", "line 1"),
            (&deep, "nested too deeply"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
