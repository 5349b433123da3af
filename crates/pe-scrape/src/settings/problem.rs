//! What is wrong with settings, and where.

use std::fmt;

use thiserror::Error;

use crate::Severity;

/// A step from a value to one within it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// To the value under a key.
    Key(String),
    /// To the value at a position of a list.
    Index(usize),
}

impl From<&str> for Step {
    fn from(key: &str) -> Self {
        Self::Key(key.to_owned())
    }
}

impl From<usize> for Step {
    fn from(index: usize) -> Self {
        Self::Index(index)
    }
}

/// One thing that is wrong with settings, or unwise.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Problem {
    /// Whether the settings cannot be used.
    pub severity: Severity,
    /// The way to the value at fault, from the settings as a whole.
    pub path: Vec<Step>,
    /// Whether it is the last key of the path that is wrong, not its value.
    pub at_key: bool,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Problem {
    /// An error about the settings as a whole.
    pub fn error(message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            path: Vec::new(),
            at_key: false,
            message: message.into(),
            hint: None,
        }
    }

    /// The same as something that is unwise only.
    #[must_use]
    pub fn warning(mut self) -> Self {
        self.severity = Severity::Warning;
        self
    }

    /// The same as something that is good to know only.
    #[must_use]
    pub fn note(mut self) -> Self {
        self.severity = Severity::Note;
        self
    }

    /// The same about the value at `path`.
    #[must_use]
    pub fn at(mut self, path: impl IntoIterator<Item = Step>) -> Self {
        self.path = path.into_iter().collect();
        self
    }

    /// The same with a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<Option<String>>) -> Self {
        self.hint = hint.into();
        self
    }

    /// JSON pointer (RFC 6901) to the value at fault.
    #[must_use]
    pub fn pointer(&self) -> String {
        let mut pointer = String::new();
        for step in &self.path {
            pointer.push('/');
            match step {
                Step::Key(key) => pointer.push_str(&key.replace('~', "~0").replace('/', "~1")),
                Step::Index(index) => pointer.push_str(&index.to_string()),
            }
        }
        pointer
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

/// Collects problems while settings are decoded or checked, and knows which value is looked at.
#[derive(Debug, Default)]
pub struct Problems {
    found: Vec<Problem>,
    path: Vec<Step>,
}

impl Problems {
    /// Looks at a value within the present one while `look` runs.
    pub fn within<T>(&mut self, step: impl Into<Step>, look: impl FnOnce(&mut Self) -> T) -> T {
        self.path.push(step.into());
        let result = look(self);
        self.path.pop();
        result
    }

    /// Reports that the present value is refused for `reason`; the message starts with the keys that lead to it.
    pub fn refuse(&mut self, reason: impl fmt::Display) {
        let message = match self.keys() {
            keys if keys.is_empty() => reason.to_string(),
            keys => format!("{keys}: {reason}"),
        };
        self.error(message, None);
    }

    /// Reports an error at the present value.
    pub fn error(&mut self, message: impl Into<String>, hint: impl Into<Option<String>>) {
        let problem = Problem::error(message).at(self.path.clone()).hint(hint);
        self.found.push(problem);
    }

    /// Reports something unwise at the present value.
    pub fn warn(&mut self, message: impl Into<String>, hint: impl Into<Option<String>>) {
        let problem = Problem::error(message).at(self.path.clone()).hint(hint);
        self.found.push(problem.warning());
    }

    /// Reports an error about the name of `key` within the present value.
    pub fn error_at_key(
        &mut self,
        key: &str,
        message: impl Into<String>,
        hint: impl Into<Option<String>>,
    ) {
        let path = self.path.iter().cloned().chain([Step::from(key)]);
        let mut problem = Problem::error(message).at(path).hint(hint);
        problem.at_key = true;
        self.found.push(problem);
    }

    /// Takes in problems that were found elsewhere, below the present value.
    pub fn extend(&mut self, others: impl IntoIterator<Item = Problem>) {
        let path = &self.path;
        self.found.extend(others.into_iter().map(|mut problem| {
            problem.path.splice(0..0, path.iter().cloned());
            problem
        }));
    }

    /// Whether there is an error among them.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.error_count() > 0
    }

    /// How many errors there are, warnings not counted.
    #[must_use]
    pub fn error_count(&self) -> usize {
        let errors = self
            .found
            .iter()
            .filter(|problem| problem.severity == Severity::Error);
        errors.count()
    }

    /// All that was found, in the order in which it was.
    #[must_use]
    pub fn into_vec(self) -> Vec<Problem> {
        self.found
    }

    /// The keys that lead to the present value: `pacer.rate`, `exclude[1]`.
    fn keys(&self) -> String {
        let mut keys = String::new();
        for step in &self.path {
            match step {
                Step::Key(key) => {
                    if !keys.is_empty() {
                        keys.push('.');
                    }
                    keys.push_str(key);
                }
                Step::Index(index) => keys.push_str(&format!("[{index}]")),
            }
        }
        keys
    }
}

/// Why settings were refused: one problem or more.
#[derive(Clone, PartialEq, Eq, Error)]
#[error("{}", join(.0))]
pub struct SettingsError(Vec<Problem>);

crate::debug_with_causes!(SettingsError);

fn join(problems: &[Problem]) -> String {
    let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
    problems.join("; ")
}

impl SettingsError {
    /// An error about the settings as a whole.
    pub fn new(message: impl Into<String>) -> Self {
        Self(vec![Problem::error(message)])
    }

    /// An error about one key of the settings.
    pub fn at(key: &str, message: impl Into<String>) -> Self {
        Self(vec![Problem::error(message).at([Step::from(key)])])
    }

    /// The problems; at least one.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.0
    }

    /// The key that the first problem is about, if it is about one.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        match self.0.first()?.path.first()? {
            Step::Key(key) => Some(key),
            Step::Index(_) => None,
        }
    }
}

impl From<Problems> for SettingsError {
    fn from(problems: Problems) -> Self {
        let mut problems = problems.into_vec();
        problems.retain(|problem| problem.severity == Severity::Error);
        if problems.is_empty() {
            return Self::new("the settings are refused");
        }
        Self(problems)
    }
}
