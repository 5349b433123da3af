//! One JSON file as text: strict parsing (RFC 8259), and where an offset lies.
//!
//! A message never shows a word that stands where none may: it may be a password without its quotes.

use std::path::{Path, PathBuf};

use jsonc_parser::ast;
use jsonc_parser::errors::ParseErrorKind;
use jsonc_parser::{CollectOptions, ParseOptions};

use pe_scrape::settings::{Kind, Table};
use pe_scrape::{Diagnostic, Severity, Value};
use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// Distance between two remembered character counts. A column is found by counting from the nearest
/// one, so that a file of one enormous line costs no more than any other.
const CHECKPOINT: usize = 512;

/// The text of a file, able to turn byte offsets into lines and columns.
pub(crate) struct Document {
    path: PathBuf,
    text: String,
    /// Byte offset of the start of each line.
    lines: Vec<usize>,
    /// Characters before each multiple of [`CHECKPOINT`] bytes.
    characters: Vec<usize>,
}

impl Document {
    /// Takes the bytes of the file at `path`. A byte order mark is dropped.
    ///
    /// # Errors
    /// The bytes are not UTF-8; the problem stands at the first byte that is not.
    pub(crate) fn new(path: &Path, bytes: Vec<u8>) -> Result<Self, Diagnostic> {
        let (text, invalid) = match String::from_utf8(bytes) {
            Ok(text) => (text, false),
            Err(error) => {
                let valid = error.utf8_error().valid_up_to();
                let mut bytes = error.into_bytes();
                bytes.truncate(valid);
                (String::from_utf8(bytes).unwrap_or_default(), true)
            }
        };
        let text = match text.strip_prefix('\u{feff}') {
            Some(rest) => rest.to_owned(),
            None => text,
        };
        let document = Self::from_text(path, text);
        if invalid {
            let hint = "save the file as UTF-8".to_owned();
            return Err(document.at(document.text.len(), "not UTF-8 text", Some(hint)));
        }
        Ok(document)
    }

    /// A document with the given text.
    pub(crate) fn from_text(path: &Path, text: String) -> Self {
        let lines = std::iter::once(0)
            .chain(
                text.bytes()
                    .enumerate()
                    .filter(|(_, byte)| *byte == b'\n')
                    .map(|(i, _)| i + 1),
            )
            .collect();
        let mut characters = Vec::with_capacity(text.len() / CHECKPOINT + 1);
        let mut count = 0;
        for block in text.as_bytes().chunks(CHECKPOINT) {
            characters.push(count);
            count += count_characters(block);
        }
        Self {
            path: path.to_owned(),
            text,
            lines,
            characters,
        }
    }

    /// Path of the file, as it is to be shown.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A path that the file names, which is relative to the file's directory.
    pub(crate) fn beside(&self, path: &str) -> PathBuf {
        self.path.parent().unwrap_or(Path::new("")).join(path)
    }

    /// The text, without a byte order mark.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Line and column (in characters) of a byte offset, both counted from 1.
    pub(crate) fn position(&self, offset: usize) -> (usize, usize) {
        let offset = offset.min(self.text.len());
        let line = self.lines.partition_point(|start| *start <= offset);
        let start = self.lines[line - 1];
        (
            line,
            self.characters_before(offset) - self.characters_before(start) + 1,
        )
    }

    fn characters_before(&self, offset: usize) -> usize {
        let block = (offset / CHECKPOINT).min(self.characters.len().saturating_sub(1));
        let counted = self.characters.get(block).copied().unwrap_or(0);
        counted + count_characters(&self.text.as_bytes()[block * CHECKPOINT..offset])
    }

    /// Parses the text as strict JSON (RFC 8259).
    ///
    /// # Errors
    /// The first place where the text is not JSON.
    pub(crate) fn parse(&self) -> Result<ast::Value<'_>, Diagnostic> {
        let collect = CollectOptions::default();
        let parsed =
            jsonc_parser::parse_to_ast(&self.text, &collect, &strict()).map_err(|error| {
                let range = error.range();
                let word = &self.text[range.start..range.end];
                let (message, hint) = (
                    syntax_message(error.kind(), word),
                    syntax_hint(error.kind()),
                );
                self.at(range.start, message, hint)
            })?;
        let Some(value) = parsed.value else {
            return Err(self.at(0, "the file is empty", None));
        };
        // What the tolerant parser still lets through (control characters in strings, white space
        // that JSON does not know, numbers beyond an f64) the strict one refuses.
        if let Err(error) = serde_json::from_str::<Strict>(&self.text) {
            let line = error.line().max(1);
            let start = self.lines.get(line - 1).copied().unwrap_or(0);
            let mut offset = (start + error.column().saturating_sub(1)).min(self.text.len());
            while !self.text.is_char_boundary(offset) {
                offset -= 1;
            }
            let text = error.to_string();
            let message = text
                .rsplit_once(" at line ")
                .map_or(text.as_str(), |(head, _)| head);
            return Err(self.at(offset, format!("invalid JSON: {message}"), None));
        }
        Ok(value)
    }

    fn at(&self, offset: usize, message: impl Into<String>, hint: Option<String>) -> Diagnostic {
        let position = self.position(offset);
        Diagnostic::at(Severity::Error, &self.path, position, message, hint)
    }
}

/// Puts the directory of `document` before the relative paths among the settings `own`, whose keys are those of `table`.
pub(crate) fn resolve_paths(
    own: &mut serde_json::Map<String, Value>,
    table: &Table,
    document: &Document,
) {
    for key in table.keys {
        match (key.kind, own.get_mut(key.name)) {
            (Kind::Path, Some(Value::String(path))) if !path.trim().is_empty() => {
                *path = document.beside(path).to_string_lossy().into_owned();
            }
            (Kind::Object(table), Some(Value::Object(own))) => resolve_paths(own, table, document),
            (Kind::Either(kinds), Some(Value::Object(own))) => {
                let tables = kinds.iter().filter_map(|kind| match kind {
                    Kind::Object(table) => Some(table),
                    _ => None,
                });
                tables.for_each(|table| resolve_paths(own, table, document));
            }
            _ => {}
        }
    }
}

/// Any JSON value, read as a strict parser reads it and kept nowhere.
struct Strict;

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Strict;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Strict, E> {
        Ok(Strict)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Strict, E> {
        Ok(Strict)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Strict, E> {
        Ok(Strict)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Strict, E> {
        Ok(Strict)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Strict, E> {
        Ok(Strict)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Strict, E> {
        Ok(Strict)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Strict, A::Error> {
        while items.next_element::<Strict>()?.is_some() {}
        Ok(Strict)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Strict, A::Error> {
        while fields.next_entry::<Strict, Strict>()?.is_some() {}
        Ok(Strict)
    }
}

fn count_characters(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .filter(|byte| **byte & 0b1100_0000 != 0b1000_0000)
        .count()
}

fn strict() -> ParseOptions {
    ParseOptions {
        allow_comments: false,
        allow_loose_object_property_names: false,
        allow_trailing_commas: false,
        allow_missing_commas: false,
        allow_single_quoted_strings: false,
        allow_hexadecimal_numbers: false,
        allow_unary_plus_numbers: false,
        allow_bare_decimal_point_numbers: false,
        allow_non_finite_numbers: false,
        allow_extended_string_escapes: false,
    }
}

fn syntax_message(kind: &ParseErrorKind, word: &str) -> String {
    if matches!(kind, ParseErrorKind::UnexpectedWord) && is_literal_elsewhere(word) {
        return format!("invalid JSON: unexpected word `{word}`");
    }
    let text = kind.to_string();
    let mut characters = text.chars();
    let first = characters.next().map(|c| c.to_ascii_lowercase());
    let rest = characters.as_str();
    format!(
        "invalid JSON: {}{rest}",
        first.map(String::from).unwrap_or_default()
    )
}

/// Whether `word` is a literal of another language. Other words are not shown: one may be a password without its quotes.
fn is_literal_elsewhere(word: &str) -> bool {
    const WORDS: &[&str] = &[
        "true",
        "false",
        "null",
        "none",
        "nil",
        "nan",
        "inf",
        "infinity",
        "undefined",
        "yes",
        "no",
    ];
    WORDS.contains(&word.to_ascii_lowercase().as_str())
}

fn syntax_hint(kind: &ParseErrorKind) -> Option<String> {
    let hint = match kind {
        ParseErrorKind::TrailingCommasNotAllowed => "remove the comma after the last element",
        ParseErrorKind::CommentsNotAllowed => "JSON has no comments; remove it",
        ParseErrorKind::SingleQuotedStringsNotAllowed => "write strings in double quotes",
        ParseErrorKind::ExpectedStringObjectProperty => "write keys in double quotes",
        ParseErrorKind::UnexpectedWord | ParseErrorKind::NonFiniteNumbersNotAllowed => {
            "a value is a number, text in double quotes, true, false or null"
        }
        ParseErrorKind::UnterminatedObject => "a closing `}` is missing",
        ParseErrorKind::UnterminatedArray => "a closing `]` is missing",
        _ => return None,
    };
    Some(hint.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters_across_checkpoints() {
        let text = format!("[\n\"{}\"]", "é".repeat(5000));
        let document = Document::from_text(Path::new("x.json"), text);
        assert_eq!(document.position(0), (1, 1));
        assert_eq!(document.position(2), (2, 1));
        assert_eq!(document.position(document.text().len()), (2, 5004));
    }

    #[test]
    fn a_word_without_quotes_is_not_shown() {
        let text = "{\"pass_pushgateway\": hunter2}".to_owned();
        let problem = Document::from_text(Path::new("x.json"), text)
            .parse()
            .unwrap_err();
        assert_eq!((problem.line, problem.col), (1, 22));
        assert!(!problem.to_string().contains("hunter2"), "{problem}");
    }

    #[test]
    fn control_characters_in_strings_are_not_json() {
        let document = Document::from_text(Path::new("x.json"), "{\"a\": \"b\u{1}\"}".to_owned());
        assert!(document.parse().is_err());
        for text in ["\"\\ud800\"", "1e999", "\u{a0}1"] {
            let document = Document::from_text(Path::new("x.json"), text.to_owned());
            assert!(document.parse().is_err(), "{text}");
        }
    }
}
