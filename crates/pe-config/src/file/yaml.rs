//! YAML (1.2) into the same tree as JSON, so that everything behind it knows no difference.
//!
//! A scalar is text, whatever its form: in targets files, where `7` and `yes` are values of labels, Prometheus takes them for
//! text too. Only a plain `null`, `~` or nothing is null. Aliases are expanded within a bound, since ten lines of them can
//! stand for billions of nodes. A merge key, a plain `<<`, adds the fields of an object or of a list of objects that are not
//! there yet: what is written beside it goes before what it adds, and the first object of its list before the others
//! (<https://yaml.org/type/merge.html>).

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use jsonc_parser::ast;
use jsonc_parser::common::Range;
use pe_scrape::{Diagnostic, Severity};
use saphyr_parser::{Event, Marker, Parser, ScalarStyle};

use super::Document;

/// Most nodes that anchors and aliases may stand for, all together.
const MOST_ALIASED: usize = 1_000_000;

/// How deep lists and objects may be nested. Targets files need three levels.
const MOST_LEVELS: usize = 64;

/// Parses the document as YAML.
///
/// # Errors
/// The first place where the text is not YAML, or more than can be read.
pub(crate) fn parse(document: &Document) -> Result<ast::Value<'_>, Diagnostic> {
    let mut builder = Builder {
        document,
        cursor: Cursor::default(),
        open: Vec::new(),
        root: None,
        anchors: HashMap::new(),
        aliased: 0,
    };
    let mut parser = Parser::new_from_str(document.text());
    let mut documents = 0;
    while let Some(event) = parser.next_event() {
        let (event, span) = event.map_err(|error| {
            let at = builder.cursor.offset(document.text(), error.marker());
            builder.error(at, format!("invalid YAML: {}", error.info()), None)
        })?;
        let start = builder.cursor.offset(document.text(), &span.start);
        if matches!(event, Event::DocumentStart(_)) {
            documents += 1;
            if documents > 1 {
                let hint = "write all into one list".to_owned();
                return Err(builder.error(start, "a second YAML document", Some(hint)));
            }
        }
        builder.take(event, start)?;
    }
    match builder.root.take() {
        Some(root) if !is_empty(&root) => Ok(root),
        _ => Err(builder.error(0, "the file is empty", None)),
    }
}

/// Whether a root stands for no text at all. It is a file that somebody has begun to write, and not the word `null`.
fn is_empty(root: &ast::Value<'_>) -> bool {
    matches!(root, ast::Value::NullKeyword(null) if null.range.start == null.range.end)
}

/// Finds byte offsets of places that are told in characters.
#[derive(Default)]
struct Cursor {
    characters: usize,
    bytes: usize,
}

impl Cursor {
    /// Places mostly come in their order, and else are near: from one to the next there is little to count.
    fn offset(&mut self, text: &str, marker: &Marker) -> usize {
        if let Some(back) = self.characters.checked_sub(marker.index() + 1) {
            let mut before = text[..self.bytes].char_indices();
            self.bytes = before.nth_back(back).map_or(0, |(bytes, _)| bytes);
            self.characters = marker.index();
            return self.bytes;
        }
        let rest = &text[self.bytes..];
        let wanted = marker.index() - self.characters;
        let (characters, bytes) = match rest.char_indices().nth(wanted) {
            Some((bytes, _)) => (wanted, bytes),
            None => (rest.chars().count(), rest.len()),
        };
        self.characters += characters;
        self.bytes += bytes;
        self.bytes
    }
}

/// Puts nodes together.
struct Builder<'d> {
    document: &'d Document,
    cursor: Cursor,
    /// Lists and objects that have begun, the innermost last.
    open: Vec<Open<'d>>,
    root: Option<ast::Value<'d>>,
    /// Nodes that aliases may refer to.
    anchors: HashMap<usize, Finished<'d>>,
    aliased: usize,
}

/// A list or an object that has begun.
struct Open<'d> {
    anchor: usize,
    start: usize,
    /// Nodes within it, and itself.
    nodes: usize,
    content: Content<'d>,
}

enum Content<'d> {
    List(Vec<ast::Value<'d>>),
    Object(Fields<'d>),
}

/// What is known of an object that has begun.
#[derive(Default)]
struct Fields<'d> {
    written: Vec<ast::ObjectProp<'d>>,
    /// Those of merge keys, in the order in which they go before each other.
    merged: Vec<ast::ObjectProp<'d>>,
    /// Whose value comes next.
    key: Option<Key<'d>>,
}

enum Key<'d> {
    Merge,
    Name(ast::StringLit<'d>),
}

impl<'d> Fields<'d> {
    /// All fields, each once but for those that are written twice, which is for others to refuse.
    fn together(mut self) -> Vec<ast::ObjectProp<'d>> {
        if !self.merged.is_empty() {
            let name = |field: &ast::ObjectProp<'d>| field.name.as_str().to_owned();
            let mut known: HashSet<String> = self.written.iter().map(name).collect();
            let fields = self.merged.into_iter();
            self.written
                .extend(fields.filter(|field| known.insert(name(field))));
        }
        self.written
    }
}

#[derive(Clone)]
struct Finished<'d> {
    value: ast::Value<'d>,
    nodes: usize,
    /// A scalar that is a merge key if it is a key.
    merges: bool,
}

/// The fields that a merge key with this value adds. `None` if it is not one or more objects.
fn into_fields(value: ast::Value<'_>) -> Option<Vec<ast::ObjectProp<'_>>> {
    match value {
        ast::Value::Object(object) => Some(object.properties),
        ast::Value::Array(list) => {
            let fields: Option<Vec<_>> = list
                .elements
                .into_iter()
                .map(|element| match element {
                    ast::Value::Object(object) => Some(object.properties),
                    _ => None,
                })
                .collect();
            fields.map(|fields| fields.into_iter().flatten().collect())
        }
        _ => None,
    }
}

impl<'d> Builder<'d> {
    fn take(&mut self, event: Event<'d>, start: usize) -> Result<(), Diagnostic> {
        match event {
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor).cloned() else {
                    return Err(self.error(start, "an alias within what it stands for", None));
                };
                self.aliased += node.nodes;
                self.refuse_excess(start)?;
                self.add(node, 0, start)
            }
            Event::Scalar(text, style, anchor, tag) => {
                let range = Range {
                    start,
                    end: self.document.text().len().min(start + text.len()),
                };
                let is_plain = style == ScalarStyle::Plain && tag.is_none();
                let merges = text == "<<" && is_plain;
                let is_null = is_plain && is_null(&text);
                let value = match is_null {
                    true => ast::Value::NullKeyword(ast::NullKeyword { range }),
                    false => ast::Value::StringLit(ast::StringLit { range, value: text }),
                };
                let node = Finished {
                    value,
                    nodes: 1,
                    merges,
                };
                self.add(node, anchor, start)
            }
            Event::SequenceStart(anchor, _) => self.begin(anchor, start, Content::List(Vec::new())),
            Event::MappingStart(anchor, _) => {
                self.begin(anchor, start, Content::Object(Fields::default()))
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(ended) = self.open.pop() else {
                    return Ok(());
                };
                let range = Range {
                    start: ended.start,
                    end: start.max(ended.start),
                };
                let value = match ended.content {
                    Content::List(elements) => ast::Value::Array(ast::Array { range, elements }),
                    Content::Object(fields) => {
                        let properties = fields.together();
                        ast::Value::Object(ast::Object { range, properties })
                    }
                };
                let node = Finished {
                    value,
                    nodes: ended.nodes,
                    merges: false,
                };
                self.add(node, ended.anchor, ended.start)
            }
            _ => Ok(()),
        }
    }

    fn begin(
        &mut self,
        anchor: usize,
        start: usize,
        content: Content<'d>,
    ) -> Result<(), Diagnostic> {
        if self.open.len() == MOST_LEVELS {
            return Err(self.error(start, "nested too deeply", None));
        }
        self.open.push(Open {
            anchor,
            start,
            nodes: 1,
            content,
        });
        Ok(())
    }

    fn refuse_excess(&self, start: usize) -> Result<(), Diagnostic> {
        if self.aliased <= MOST_ALIASED {
            return Ok(());
        }
        let message = format!("anchors and aliases stand for more than {MOST_ALIASED} values");
        Err(self.error(start, message, None))
    }

    /// Puts a node, which stands at `start`, where it belongs.
    fn add(&mut self, node: Finished<'d>, anchor: usize, start: usize) -> Result<(), Diagnostic> {
        // 0 is no anchor.
        if anchor > 0 {
            // A copy, for the aliases: anchors within each other would multiply what there is.
            self.aliased += node.nodes;
            self.refuse_excess(start)?;
            self.anchors.insert(anchor, node.clone());
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node.value);
            return Ok(());
        };
        open.nodes += node.nodes;
        match &mut open.content {
            Content::List(elements) => elements.push(node.value),
            Content::Object(fields) => match (fields.key.take(), node.value) {
                (Some(Key::Name(name)), value) => fields.written.push(ast::ObjectProp {
                    range: name.range,
                    name: ast::ObjectPropName::String(name),
                    value,
                }),
                (Some(Key::Merge), value) => match into_fields(value) {
                    Some(added) => fields.merged.extend(added),
                    None => {
                        let message = "a merge key whose value is no object";
                        let hint = "write <<: *NAME, with &NAME before the object to add, or put << in quotes";
                        return Err(self.error(start, message, Some(hint.to_owned())));
                    }
                },
                (None, ast::Value::StringLit(_)) if node.merges => fields.key = Some(Key::Merge),
                (None, ast::Value::StringLit(name)) => fields.key = Some(Key::Name(name)),
                (None, ast::Value::NullKeyword(null)) => {
                    fields.key = Some(Key::Name(ast::StringLit {
                        range: null.range,
                        value: Cow::Borrowed("null"),
                    }));
                }
                (None, _) => {
                    let hint = "a key is text".to_owned();
                    return Err(self.error(start, "a key that is no text", Some(hint)));
                }
            },
        }
        Ok(())
    }

    fn error(&self, at: usize, message: impl Into<String>, hint: Option<String>) -> Diagnostic {
        let position = self.document.position(at);
        Diagnostic::at(
            Severity::Error,
            self.document.path(),
            position,
            message,
            hint,
        )
    }
}

/// Whether a plain scalar is null (YAML 1.2, section 10.3.2).
fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use pe_scrape::settings::Node;
    use serde_json::json;

    use super::*;
    use crate::file::Syntax;

    fn read(text: &str) -> Result<pe_scrape::Value, String> {
        let document = Document::from_text(Path::new("x.yml"), text.to_owned());
        let parsed = parse(&document);
        parsed
            .map(|root| Syntax::new(&root).to_json())
            .map_err(|problem| problem.to_string())
    }

    #[test]
    fn scalars_are_text_but_for_null() {
        let text = "# comment\n- a: 7\n  b: yes\n  c: ~\n  d: 'null'\n  e:\n  f: \"\\u00e9\"\n- [1.50, !!str null]\n";
        let expected = json!([
            {"a": "7", "b": "yes", "c": null, "d": "null", "e": null, "f": "é"},
            ["1.50", "null"],
        ]);
        assert_eq!(read(text).unwrap(), expected);
        assert_eq!(read("null").unwrap(), json!(null));
    }

    #[test]
    fn places_are_those_of_the_text() {
        let text = "- é: [ü, x]\n  ßß: {k: v}\n";
        let document = Document::from_text(Path::new("x.yml"), text.to_owned());
        let root = parse(&document).unwrap();
        let root = Syntax::new(&root);
        let fields = root.items().next().unwrap();
        let place = |offset| document.position(offset);
        assert_eq!(place(fields.key_start("ßß").unwrap()), (2, 3));
        let x = fields.get("é").unwrap().items().nth(1).unwrap();
        assert_eq!(place(x.start()), (1, 10));
        let k = fields.get("ßß").unwrap();
        assert_eq!(place(k.key_start("k").unwrap()), (2, 8));
    }

    #[test]
    fn aliases_are_expanded_within_a_bound() {
        let text = "- &a {x: y}\n- *a\n";
        assert_eq!(read(text).unwrap(), json!([{"x": "y"}, {"x": "y"}]));
        // Nine levels of ten: a billion.
        let mut bomb = "- &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
        for level in 1..10 {
            let alias = vec![format!("*a{}", level - 1); 10].join(", ");
            bomb.push_str(&format!("- &a{level} [{alias}]\n"));
        }
        let told = read(&bomb).unwrap_err();
        assert!(told.contains("aliases stand for more than"), "{told}");
        assert!(read("&a [*a]").is_err());
        // Each of the anchors keeps all that is within it.
        let nested: String = (0..60).map(|level| format!("&a{level} [")).collect();
        let told = read(&format!("{nested}{}", "x,".repeat(20_000))).unwrap_err();
        assert!(!told.contains("stand for more than"), "{told}");
        let closed = format!("{nested}{}{}", "x,".repeat(20_000), "]".repeat(60));
        let told = read(&closed).unwrap_err();
        assert!(told.contains("anchors and aliases stand for"), "{told}");
    }

    #[test]
    fn merge_keys_add_the_fields_that_are_not_written() {
        let text = "\
- &a {x: a, y: a}
- &b {y: b, z: b}
- {<<: *a, x: own}
- {x: own, <<: *a}
- <<: [*a, *b]
- {<<: *a, <<: *b}
- {<<: {k: v}, l: w}
- {\"<<\": text}
- [<<]
- &c {<<: *a, w: c}
- {<<: *c}
";
        let both = json!({"x": "a", "y": "a", "z": "b"});
        let mut expected = vec![json!({"x": "a", "y": "a"}), json!({"y": "b", "z": "b"})];
        expected.extend(vec![json!({"x": "own", "y": "a"}); 2]);
        expected.extend(vec![both; 2]);
        expected.push(json!({"k": "v", "l": "w"}));
        expected.extend([json!({"<<": "text"}), json!(["<<"])]);
        expected.extend(vec![json!({"x": "a", "y": "a", "w": "c"}); 2]);
        assert_eq!(read(text).unwrap(), json!(expected));
        for bad in ["{<<: x}", "{<<: }", "{<<: [x]}", "{<<: *x}", "&x {<<: *x}"] {
            assert!(read(bad).is_err(), "{bad}");
        }
        let told = read("- l: {<<: text}\n").unwrap_err();
        assert!(told.starts_with("x.yml:1:11: a merge key"), "{told}");
        // Each merges the ten of the level before: nothing is doubled, and the bound holds.
        let mut bomb = "- &a0 {x: y}\n".to_owned();
        for level in 1..30 {
            let alias = vec![format!("*a{}", level - 1); 10].join(", ");
            bomb.push_str(&format!("- &a{level} {{<<: [{alias}]}}\n"));
        }
        assert!(read(&bomb).unwrap_err().contains("aliases stand for"));
    }

    #[test]
    fn what_cannot_be_read_is_told_at_its_place() {
        for (text, expected) in [
            ("", "x.yml:1:1: the file is empty"),
            ("# only a comment\n", "x.yml:1:1: the file is empty"),
            (
                "- a\n---\n- b\n",
                "x.yml:2:1: a second YAML document\n  hint: write all into one list",
            ),
            (
                "- {[a]: b}\n",
                "x.yml:1:4: a key that is no text\n  hint: a key is text",
            ),
        ] {
            assert_eq!(read(text).unwrap_err(), expected, "{text}");
        }
        let told = read("- a: [x\n- b\n").unwrap_err();
        assert!(told.contains(": invalid YAML: "), "{told}");
        let told = read(&"[".repeat(100_000)).unwrap_err();
        assert!(told.starts_with("x.yml:1:"), "{told}");
    }
}
