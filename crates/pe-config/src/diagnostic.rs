//! What is wrong (or unwise) in a configuration, and where.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::watched::Watched;

/// How bad a [`Diagnostic`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// The configuration works, but something in it will hurt or was ignored.
    Warning,
}

/// One problem and its place.
///
/// Shown as `FILE:LINE:COL: message`, for a warning as `FILE:LINE:COL: warning: message`, and, where
/// there is a hint, a second line `  hint: …`. A problem with a file or directory as a whole stands at
/// its line 1, column 1. A problem with an environment variable or a flag shows the name of that in
/// the place of `FILE:LINE:COL`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Diagnostic {
    /// The file or directory; for an environment variable or a flag its name.
    pub file: PathBuf,
    /// Line, counted from 1; 0 for an environment variable or a flag.
    pub line: usize,
    /// Column in characters, counted from 1; 0 for an environment variable or a flag.
    pub col: usize,
    /// Whether this stops the configuration from being used.
    pub severity: Severity,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Diagnostic {
    /// A problem with a file or directory as a whole.
    pub(crate) fn whole_file(
        severity: Severity,
        file: &Path,
        message: impl Into<String>,
        hint: Option<String>,
    ) -> Self {
        let message = message.into();
        Self {
            file: file.to_owned(),
            line: 1,
            col: 1,
            severity,
            message,
            hint,
        }
    }

    /// A problem with a named value that is in no file: an environment variable or a flag.
    pub(crate) fn named(
        severity: Severity,
        name: &str,
        message: impl Into<String>,
        hint: Option<String>,
    ) -> Self {
        let message = message.into();
        Self {
            file: PathBuf::from(name),
            line: 0,
            col: 0,
            severity,
            message,
            hint,
        }
    }

    /// Whether this is an error (and no warning).
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.col)?;
        }
        f.write_str(": ")?;
        if self.severity == Severity::Warning {
            f.write_str("warning: ")?;
        }
        f.write_str(&self.message)?;
        if let Some(hint) = &self.hint {
            write!(f, "\n  hint: {hint}")?;
        }
        Ok(())
    }
}

/// Why a configuration was refused: every error of every file, and the warnings that were found on the
/// way, sorted by file and position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostics {
    found: Vec<Diagnostic>,
    watched: Watched,
}

impl Diagnostics {
    /// Sorts `diagnostics` by file and position and drops exact repetitions.
    pub(crate) fn new(mut found: Vec<Diagnostic>, watched: Watched) -> Self {
        found.sort();
        found.dedup();
        Self { found, watched }
    }

    /// What to watch for a change that may put things right.
    pub fn watched(&self) -> &Watched {
        &self.watched
    }

    /// The problems, sorted by file and position.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.found.iter()
    }

    /// The problems, sorted by file and position.
    pub fn into_vec(self) -> Vec<Diagnostic> {
        self.found
    }
}

impl<'a> IntoIterator for &'a Diagnostics {
    type Item = &'a Diagnostic;
    type IntoIter = std::slice::Iter<'a, Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.found.iter()
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.found.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{diagnostic}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}
