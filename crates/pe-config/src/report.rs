//! Collecting problems with their places while files are read.

use std::cell::{Cell, RefCell};

use crate::diagnostic::{Diagnostic, Severity};
use crate::document::Document;

/// Everything that was found so far, in all files.
#[derive(Default)]
pub(crate) struct Report {
    found: RefCell<Vec<Diagnostic>>,
    errors: Cell<usize>,
}

impl Report {
    /// Adds a problem.
    pub(crate) fn push(&self, diagnostic: Diagnostic) {
        self.errors
            .set(self.errors.get() + usize::from(diagnostic.is_error()));
        self.found.borrow_mut().push(diagnostic);
    }

    /// Number of errors, warnings not counted.
    pub(crate) fn errors(&self) -> usize {
        self.errors.get()
    }

    /// All that was found.
    pub(crate) fn into_vec(self) -> Vec<Diagnostic> {
        self.found.into_inner()
    }
}

/// Reports problems of one document.
#[derive(Clone, Copy)]
pub(crate) struct Scope<'r, 'd> {
    /// Where problems go.
    pub(crate) report: &'r Report,
    /// The document that offsets refer to.
    pub(crate) document: &'d Document,
}

impl Scope<'_, '_> {
    /// Reports an error at a byte offset.
    pub(crate) fn error(&self, offset: usize, message: impl Into<String>) {
        self.push(Severity::Error, offset, message.into(), None);
    }

    /// Reports an error with a hint.
    pub(crate) fn error_hint(
        &self,
        offset: usize,
        message: impl Into<String>,
        hint: impl Into<Option<String>>,
    ) {
        self.push(Severity::Error, offset, message.into(), hint.into());
    }

    /// Reports a warning with a hint.
    pub(crate) fn warn(
        &self,
        offset: usize,
        message: impl Into<String>,
        hint: impl Into<Option<String>>,
    ) {
        self.push(Severity::Warning, offset, message.into(), hint.into());
    }

    /// `FILE:LINE:COL` of an offset, to point at a second place within a message.
    pub(crate) fn place(&self, offset: usize) -> String {
        let (line, col) = self.document.position(offset);
        format!("{}:{line}:{col}", self.document.path().display())
    }

    fn push(&self, severity: Severity, offset: usize, message: String, hint: Option<String>) {
        let (line, col) = self.document.position(offset);
        let file = self.document.path().to_owned();
        self.report.push(Diagnostic {
            file,
            line,
            col,
            severity,
            message,
            hint,
        });
    }
}
