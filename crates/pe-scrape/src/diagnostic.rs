//! What is wrong (or unwise) in a configuration, and where.

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};

/// The text without what a terminal would act on: control characters, and those that turn the direction of the text around,
/// are written as escapes.
///
/// ```
/// assert_eq!(pe_scrape::printable("größer\u{1b}[2J\n"), r"größer\u{1b}[2J\n");
/// ```
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(acts_on_terminal) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match acts_on_terminal(c) {
            true => escaped.extend(c.escape_default()),
            false => escaped.push(c),
        }
    }
    Cow::Owned(escaped)
}

/// Whether a terminal would act on a character instead of showing it.
fn acts_on_terminal(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// How bad a [`Diagnostic`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// The configuration is usable; a value in it is risky or has no effect.
    Warning,
    /// Good to know; nothing need be done.
    Note,
}

/// One problem and its place.
///
/// Shown as `FILE:LINE:COL: message`, for a warning or a note as `FILE:LINE:COL: warning: message`, and,
/// where there is a hint, a second line `  hint: …`. A problem with a file or directory as a whole stands at
/// its line 1, column 1. A problem with an environment variable, a flag or something that was set in code shows the
/// name of that in the place of `FILE:LINE:COL`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct Diagnostic {
    /// The file or directory; else the name of what is wrong.
    pub file: PathBuf,
    /// Line, counted from 1; 0 for what is in no file.
    pub line: usize,
    /// Column in characters, counted from 1; 0 for what is in no file.
    pub col: usize,
    /// Whether this stops the configuration from being used.
    pub severity: Severity,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Diagnostic {
    /// A problem at a line and column of a file, both counted from 1.
    pub fn at(
        severity: Severity,
        file: &Path,
        (line, col): (usize, usize),
        message: impl Into<String>,
        hint: Option<String>,
    ) -> Self {
        Self {
            file: file.to_owned(),
            line,
            col,
            severity,
            message: message.into(),
            hint,
        }
    }

    /// A problem with a file or directory as a whole.
    pub fn whole_file(
        severity: Severity,
        file: &Path,
        message: impl Into<String>,
        hint: Option<String>,
    ) -> Self {
        Self::at(severity, file, (1, 1), message, hint)
    }

    /// A problem with a named value that is in no file: an environment variable, a flag, a group made in code.
    pub fn named(
        severity: Severity,
        name: &str,
        message: impl Into<String>,
        hint: Option<String>,
    ) -> Self {
        Self::at(severity, Path::new(name), (0, 0), message, hint)
    }

    /// Whether this is an error, and no warning or note.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&printable(&self.file.to_string_lossy()))?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.col)?;
        }
        f.write_str(": ")?;
        f.write_str(match self.severity {
            Severity::Error => "",
            Severity::Warning => "warning: ",
            Severity::Note => "note: ",
        })?;
        f.write_str(&self.message)?;
        if let Some(hint) = &self.hint {
            write!(f, "\n  hint: {hint}")?;
        }
        Ok(())
    }
}

/// Problems of a configuration, sorted by file and position, each of them once.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Diagnostics(Vec<Diagnostic>);

crate::debug_with_causes!(Diagnostics);

impl Diagnostics {
    /// The problems, sorted by file and position.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.0.iter()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether one of them is an error.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.0.iter().any(Diagnostic::is_error)
    }
}

impl FromIterator<Diagnostic> for Diagnostics {
    fn from_iter<I: IntoIterator<Item = Diagnostic>>(found: I) -> Self {
        let mut found: Vec<Diagnostic> = found.into_iter().collect();
        found.sort();
        found.dedup();
        Self(found)
    }
}

impl IntoIterator for Diagnostics {
    type Item = Diagnostic;
    type IntoIter = std::vec::IntoIter<Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a Diagnostics {
    type Item = &'a Diagnostic;
    type IntoIter = std::slice::Iter<'a, Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{diagnostic}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}
