//! Label names, labels and label sets.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, LazyLock};

use serde_json::Value;
use thiserror::Error;

use crate::settings::{Bounds, Kind, Node, Problems, Setting, View};

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

/// The one reserved name that a label set may have: receivers tell the agents of a pair apart by it, and keep the samples of one.
pub const REPLICA_LABEL: &str = "__replica__";

/// Label names that PingExporter's own series carry, sorted: a configured label of that name would clash or be
/// overwritten without a word (the Pushgateway does so with `job`).
pub const RESERVED_LABELS: &[&str] = &[
    "device", "exporter", "family", "ip", "job", "le", "quantile", "reason",
];

/// Further names, sorted, that series which are not a device's measurements carry: those of cycles and of the agent itself, and
/// `address` of a host name's. An external label would take their place, so that a Pushgateway refuses several series as one.
pub const AGENT_LABELS: &[&str] = &[
    "address", "code", "handler", "result", "scraper", "sink", "state", "task", "version",
];

/// Why `name` cannot be the name of a configured label, with a hint where there is one.
#[must_use]
pub fn refuse_label_name(name: &str) -> Option<(String, Option<String>)> {
    if name.is_empty() {
        return Some(("a label name cannot be empty".to_owned(), None));
    }
    if RESERVED_LABELS.contains(&name) {
        let hint = "it would clash with what the series carry already; choose another name";
        return Some((
            format!("the label `{name}` is reserved"),
            Some(hint.to_owned()),
        ));
    }
    if name.starts_with("__") && is_label_name(name.trim_start_matches('_')) {
        let message = format!("label names that start with `__`, like `{name}`, are reserved");
        return Some((message, None));
    }
    if is_label_name(name) {
        return None;
    }
    let plain: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .collect();
    let rule = "a label name has letters, digits and `_`";
    let hint = if plain != name && refuse_label_name(&plain).is_none() {
        format!("{rule}: write `{plain}`")
    } else {
        format!("{rule}, and does not start with a digit")
    };
    Some((format!("`{name}` is not a label name"), Some(hint)))
}

/// Labels that were configured for a group or a device: names in order, each with its value.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Labels(BTreeMap<Arc<str>, Arc<str>>);

impl Labels {
    /// Names and values, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<str>)> {
        self.0.iter()
    }

    /// The value of the label `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|value| &**value)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// These labels with `over` laid over them: a name in both takes the value of `over`, and an empty value removes the
    /// label, since to Prometheus the two are the same.
    #[must_use]
    pub fn overlaid<N, V>(&self, over: impl IntoIterator<Item = (N, V)>) -> Self
    where
        N: Into<Arc<str>>,
        V: Into<Arc<str>>,
    {
        let mut merged = self.0.clone();
        for (name, value) in over {
            merged.insert(name.into(), value.into());
        }
        merged.retain(|_, value| !value.is_empty());
        Self(merged)
    }
}

impl<N: Into<Arc<str>>, V: Into<Arc<str>>> FromIterator<(N, V)> for Labels {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(labels: I) -> Self {
        let labels = labels.into_iter();
        Self(
            labels
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
        )
    }
}

impl Setting for Labels {
    const KIND: Kind = Kind::Labels;
    const OPTIONAL: bool = true;

    fn decode<'v, N: Node<'v>>(node: N, _: &Bounds, problems: &mut Problems) -> Option<Self> {
        if node.view() != View::Object {
            let found = node.view().describe();
            problems.refuse(format_args!("found {found}, expected an object"));
            return None;
        }
        let mut labels = BTreeMap::new();
        let errors = problems.error_count();
        for (name, value) in node.fields() {
            if let Some((message, hint)) = refuse_label_name(name) {
                problems.error_at_key(name, message, hint);
            }
            if let View::Text(text) = value.view() {
                labels.insert(name.into(), text.into());
                continue;
            }
            let found = value.view();
            let message = format!(
                "label `{name}`: found {}, expected a string",
                found.describe()
            );
            let hint = matches!(found, View::Number(_) | View::Flag(_))
                .then(|| format!("write \"{}\"", value.to_json()));
            problems.within(name, |problems| problems.error(message, hint));
        }
        (problems.error_count() == errors).then_some(Self(labels))
    }

    fn encode(&self) -> Value {
        let labels = self.0.iter();
        labels
            .map(|(name, value)| (name.to_string(), Value::from(&**value)))
            .collect()
    }

    fn absent() -> Option<Self> {
        Some(Self::default())
    }

    fn check(&self, _: &Bounds, problems: &mut Problems) {
        for name in self.0.keys() {
            if let Some((message, hint)) = refuse_label_name(name) {
                problems.error_at_key(name, message, hint);
            }
        }
    }
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
#[derive(Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum LabelError {
    /// The name does not match `[a-zA-Z_][a-zA-Z0-9_]*`, or starts with `__` and is not [`REPLICA_LABEL`].
    #[error(
        "label name {0:?} is not allowed: use letters, digits and '_', starting with a letter or a single '_'"
    )]
    Name(String),
    /// The same name twice in one set.
    #[error("label {0:?} is given twice")]
    Duplicate(String),
}

crate::debug_with_causes!(LabelError);

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
        let labels = labels.into_iter();
        let mut all: Vec<Label> = Vec::with_capacity(labels.size_hint().0);
        for (name, value) in labels {
            let label = Label {
                name: name.into(),
                value: value.into(),
            };
            if !is_label_name(&label.name) && *label.name != *REPLICA_LABEL {
                return Err(LabelError::Name(label.name.to_string()));
            }
            if all.iter().any(|known| known.name == label.name) {
                return Err(LabelError::Duplicate(label.name.to_string()));
            }
            all.push(label);
        }
        Ok(Self(all.into()))
    }

    /// Builds a set of labels whose names are valid and distinct.
    pub(crate) fn known<const N: usize>(labels: [(Arc<str>, Arc<str>); N]) -> Self {
        Self(Arc::new(labels.map(|(name, value)| Label { name, value })))
    }

    /// The set with further labels behind its own.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with<N, V>(&self, labels: impl IntoIterator<Item = (N, V)>) -> Result<Self, LabelError>
    where
        N: Into<Arc<str>>,
        V: Into<Arc<str>>,
    {
        let own = self.0.iter();
        let own = own.map(|label| (label.name.clone(), label.value.clone()));
        let more = labels.into_iter();
        Self::new(own.chain(more.map(|(name, value)| (name.into(), value.into()))))
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
    fn configured_names_that_would_clash_are_refused() {
        for name in ["site", "_x", "rack_2", "instance"] {
            assert_eq!(refuse_label_name(name), None, "{name}");
        }
        for name in [
            "", "2nd", "a-b", "a b", "é", "__meta", "device", "job", "le",
        ] {
            assert!(refuse_label_name(name).is_some(), "{name}");
        }
        let hint = |name| refuse_label_name(name).unwrap().1.unwrap();
        assert_eq!(
            hint("a-b"),
            "a label name has letters, digits and `_`: write `a_b`"
        );
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
        assert!(LabelSet::new([(REPLICA_LABEL, "a")]).is_ok());
        let set = LabelSet::new([("b", "1"), ("a", "")]).unwrap();
        assert_eq!((set.get("a"), set.get("c")), (Some(""), None));
    }
}
