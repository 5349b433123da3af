//! Files as text and as trees, and problems at their places.
//!
//! A [`Document`] knows the line and column of each of its bytes; a [`Syntax`] tree is what settings are decoded from,
//! without a copy of it. A [`Scope`] reports problems of one document. Nothing here knows what the files mean.

mod disk;
mod document;
mod syntax;
mod yaml;

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::path::Path;

use jsonc_parser::ast;
use pe_scrape::settings::{Bounds, Key, Node, Problem, Problems, Setting, View, suggestion};
use pe_scrape::{Diagnostic, Diagnostics, Severity, printable};

pub use disk::{Fingerprint, Watched};
pub(crate) use disk::{MOST_BYTES, MOST_SECRET_BYTES, explain, regular_file};
pub(crate) use document::{Document, resolve_paths};
pub(crate) use syntax::Syntax;

/// A key of every file but targets files.
pub(crate) const SCHEMA: Key = Key::of::<Option<String>>(
    "$schema",
    &["Where the schema of this file is, for editors; not used otherwise."],
);

/// Collects what is found in all files. Text of files that would act on a terminal is escaped.
#[derive(Default)]
pub(crate) struct DiagnosticsBuilder {
    found: RefCell<Vec<Diagnostic>>,
    errors: Cell<usize>,
}

impl DiagnosticsBuilder {
    /// Adds a problem.
    pub(crate) fn push(&self, mut diagnostic: Diagnostic) {
        escape(&mut diagnostic.message);
        if let Some(hint) = &mut diagnostic.hint {
            escape(hint);
        }
        self.errors
            .set(self.errors.get() + usize::from(diagnostic.is_error()));
        self.found.borrow_mut().push(diagnostic);
    }

    /// Adds problems.
    pub(crate) fn extend(&self, diagnostics: impl IntoIterator<Item = Diagnostic>) {
        for diagnostic in diagnostics {
            self.push(diagnostic);
        }
    }

    /// Adds a problem with a named value that is in no file.
    pub(crate) fn push_named(&self, name: &str, problem: Problem) {
        let Problem {
            severity,
            message,
            hint,
            ..
        } = problem;
        self.push(Diagnostic::named(severity, name, message, hint));
    }

    /// How many errors there are, warnings not counted.
    pub(crate) fn errors(&self) -> usize {
        self.errors.get()
    }

    /// All that was found, in the order in which it was.
    pub(crate) fn into_vec(self) -> Vec<Diagnostic> {
        self.found.into_inner()
    }

    /// All that was found, sorted.
    pub(crate) fn build(self) -> Diagnostics {
        self.into_vec().into_iter().collect()
    }
}

fn escape(text: &mut String) {
    if let Cow::Owned(escaped) = printable(text) {
        *text = escaped;
    }
}

/// Reads a file into a document; reports why it cannot be read.
pub(crate) fn read_document(path: &Path, found: &DiagnosticsBuilder) -> Option<Document> {
    let bytes = regular_file(path, MOST_BYTES).map_err(|error| {
        Diagnostic::whole_file(Severity::Error, path, format!("the file {error}"), None)
    });
    bytes
        .and_then(|bytes| Document::new(path, bytes))
        .map_err(|problem| found.push(problem))
        .ok()
}

/// Reports problems of one document.
#[derive(Clone, Copy)]
pub(crate) struct Scope<'r, 'd> {
    /// Where problems go.
    pub(crate) found: &'r DiagnosticsBuilder,
    /// The document that offsets refer to.
    pub(crate) document: &'d Document,
}

impl<'d> Scope<'_, 'd> {
    /// Parses the document; reports that it is no JSON, or all keys that an object has twice.
    pub(crate) fn parse(&self) -> Option<ast::Value<'d>> {
        self.checked(self.document.parse())
    }

    /// The same of a document that is YAML.
    pub(crate) fn parse_yaml(&self) -> Option<ast::Value<'d>> {
        self.checked(yaml::parse(self.document))
    }

    fn checked(&self, parsed: Result<ast::Value<'d>, Diagnostic>) -> Option<ast::Value<'d>> {
        let root = match parsed {
            Ok(root) => root,
            Err(problem) => {
                self.found.push(problem);
                return None;
            }
        };
        Syntax::new(&root).each_repeated_key(&mut |name, first, second| {
            let location = self.location(first);
            let message = format!("key `{name}` appears twice, first at {location}");
            self.error(second, message, "remove one of them".to_owned());
        });
        Some(root)
    }

    /// Whether `node`, called `name` in messages, is an object. Reports one that is none, keys that are not among `keys`, and
    /// keys that are missing.
    pub(crate) fn expect_object(self, node: Syntax<'_>, name: &str, keys: &[Key]) -> bool {
        if node.view() != View::Object {
            let found = node.view().describe();
            self.error(
                node.start(),
                format!("{name}: found {found}, expected an object"),
                None,
            );
            return false;
        }
        for (key, _) in node.fields() {
            if !keys.iter().any(|known| known.name == key) {
                let offset = node.key_start(key).unwrap_or(node.start());
                let message = format!("unknown key `{key}` in {name}");
                self.error(offset, message, nearest_key(key, keys));
            }
        }
        for key in keys {
            if key.required && node.get(key.name).is_none() {
                let message = format!("missing key `{}` in {name}", key.name);
                self.error(node.start(), message, None);
            }
        }
        if let Some(value) = node.get(SCHEMA.name) {
            let mut problems = Problems::default();
            problems.within(SCHEMA.name, |problems| {
                String::decode(value, &Bounds::NONE, problems)
            });
            self.problems(node, problems.into_vec());
        }
        true
    }

    /// Reports an error at a byte offset.
    pub(crate) fn error(
        &self,
        offset: usize,
        message: impl Into<String>,
        hint: impl Into<Option<String>>,
    ) {
        self.push(Severity::Error, offset, message.into(), hint.into());
    }

    /// Reports a warning at a byte offset.
    pub(crate) fn warn(
        &self,
        offset: usize,
        message: impl Into<String>,
        hint: impl Into<Option<String>>,
    ) {
        self.push(Severity::Warning, offset, message.into(), hint.into());
    }

    /// Reports a problem of `node`, whose path leads on from there.
    pub(crate) fn problem(&self, node: Syntax<'_>, problem: Problem) {
        let offset = node.locate(&problem.path, problem.at_key);
        self.problem_at(offset, problem);
    }

    /// Reports problems of `node`, whose paths lead on from there.
    pub(crate) fn problems(&self, node: Syntax<'_>, problems: impl IntoIterator<Item = Problem>) {
        for problem in problems {
            self.problem(node, problem);
        }
    }

    /// Reports a problem at a byte offset, whatever its path.
    pub(crate) fn problem_at(&self, offset: usize, problem: Problem) {
        self.push(problem.severity, offset, problem.message, problem.hint);
    }

    /// `FILE:LINE:COL` of an offset, to point at a second place within a message.
    pub(crate) fn location(&self, offset: usize) -> String {
        let (line, col) = self.document.position(offset);
        format!("{}:{line}:{col}", self.document.path().display())
    }

    fn push(&self, severity: Severity, offset: usize, message: String, hint: Option<String>) {
        let position = self.document.position(offset);
        let file = self.document.path();
        self.found
            .push(Diagnostic::at(severity, file, position, message, hint));
    }
}

/// A hint for a key that is not among `keys`.
fn nearest_key(key: &str, keys: &[Key]) -> Option<String> {
    let names: Vec<&str> = keys.iter().map(|key| key.name).collect();
    suggestion(key, names.iter().copied())
}
