//! Label names, labels and label sets.

use std::fmt;
use std::sync::{Arc, LazyLock};

use thiserror::Error;

/// Whether `name` is a label name that Prometheus accepts: `[a-zA-Z_][a-zA-Z0-9_]*`, and not reserved by a leading `__`.
///
/// Source: <https://prometheus.io/docs/concepts/data_model/#metric-names-and-labels>.
#[must_use]
pub fn is_label_name(name: &str) -> bool {
    !name.starts_with("__")
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Whether `name` is a metric name that every Prometheus version accepts: `[a-zA-Z_:][a-zA-Z0-9_:]*`.
#[must_use]
pub fn is_metric_name(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b':')
}

/// One label: a name and a value. Cloning is cheap.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Label {
    name: Arc<str>,
    value: Arc<str>,
}

impl Label {
    /// The label's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The label's value, any text.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.value
    }
}

impl fmt::Debug for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={:?}", self.name, self.value)
    }
}

/// Why a label set was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum LabelError {
    /// The name does not match `[a-zA-Z_][a-zA-Z0-9_]*` or starts with `__`.
    #[error(
        "label name {0:?} is not allowed: use letters, digits and '_', starting with a letter or a single '_'"
    )]
    Name(String),
    /// The same name twice in one set.
    #[error("label {0:?} is given twice")]
    Duplicate(String),
}

/// The labels of one series, in the order they are shown. Cloning is cheap (a reference count).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LabelSet(Arc<[Label]>);

impl LabelSet {
    /// Builds a set from name and value pairs, kept in their order.
    ///
    /// # Errors
    /// [`LabelError`] when a name is not a Prometheus label name or appears twice.
    pub fn new<N, V>(labels: impl IntoIterator<Item = (N, V)>) -> Result<Self, LabelError>
    where
        N: Into<Arc<str>>,
        V: Into<Arc<str>>,
    {
        let mut all: Vec<Label> = Vec::new();
        for (name, value) in labels {
            let label = Label {
                name: name.into(),
                value: value.into(),
            };
            if !is_label_name(&label.name) {
                return Err(LabelError::Name(label.name.to_string()));
            }
            if all.iter().any(|known| known.name == label.name) {
                return Err(LabelError::Duplicate(label.name.to_string()));
            }
            all.push(label);
        }
        Ok(Self(all.into()))
    }

    /// The set without labels.
    #[must_use]
    pub fn empty() -> Self {
        static EMPTY: LazyLock<LabelSet> = LazyLock::new(|| LabelSet(Arc::new([])));
        EMPTY.clone()
    }

    /// The value of the label `name`, if the set has it.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|label| &*label.name == name)
            .map(Label::value)
    }

    /// The labels, in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Label> {
        self.0.iter()
    }

    /// How many labels the set has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the set has no label.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Default for LabelSet {
    fn default() -> Self {
        Self::empty()
    }
}

impl<'a> IntoIterator for &'a LabelSet {
    type Item = &'a Label;
    type IntoIter = std::slice::Iter<'a, Label>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Debug for LabelSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_prometheus() {
        for good in ["a", "_a", "A9_", "le"] {
            assert!(is_label_name(good), "{good}");
        }
        for bad in ["", "9a", "__name__", "a-b", "ä", "a b", "a:b"] {
            assert!(!is_label_name(bad), "{bad}");
        }
        assert!(is_metric_name("a:b") && is_metric_name("__x") && !is_metric_name("1a"));
    }

    #[test]
    fn a_set_refuses_what_a_series_cannot_carry() {
        assert_eq!(
            LabelSet::new([("a", "1"), ("a", "2")]),
            Err(LabelError::Duplicate("a".into()))
        );
        assert_eq!(
            LabelSet::new([("a-b", "1")]),
            Err(LabelError::Name("a-b".into()))
        );
        let set = LabelSet::new([("b", "1"), ("a", "")]).unwrap();
        assert_eq!((set.get("a"), set.get("c")), (Some(""), None));
    }
}
