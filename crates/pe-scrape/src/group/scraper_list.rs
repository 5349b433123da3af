//! A list of scrapers, as `metrics` of the files and builders write it.

use std::sync::Arc;

use serde_json::Value;

use crate::settings::{Bounds, Kind, Node, Problems, Setting, View};

/// The scraper where nothing else is said.
const DEFAULT_SCRAPER: &str = "ping";

/// What to measure: the names of scrapers, each with its own settings.
#[derive(Clone, PartialEq, Default)]
pub struct ScraperList(Vec<(Arc<str>, Value)>);

impl ScraperList {
    /// Names, and settings: an object, or `null` where none were given.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Value)> {
        self.0.iter().map(|(name, own)| (name, own))
    }

    /// Adds a scraper with settings of its own; `null` for none.
    pub fn push(&mut self, name: impl Into<Arc<str>>, own: Value) {
        self.0.push((name.into(), own));
    }

    /// What is measured where nothing is said: `ping`.
    #[must_use]
    pub fn ping() -> Self {
        Self(vec![(DEFAULT_SCRAPER.into(), Value::Null)])
    }
}

impl std::fmt::Debug for ScraperList {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Settings may hold secrets.
        f.debug_list()
            .entries(self.0.iter().map(|(name, _)| name))
            .finish()
    }
}

impl Setting for ScraperList {
    const KIND: Kind = Kind::Scrapers;

    fn decode<'v, N: Node<'v>>(node: N, _: &Bounds, problems: &mut Problems) -> Option<Self> {
        if node.view() != View::List {
            let found = node.view().describe();
            problems.refuse(format_args!("found {found}, expected an array"));
            return None;
        }
        let entries: Vec<Option<_>> = node
            .items()
            .enumerate()
            .map(|(index, item)| problems.within(index, |problems| scraper_entry(item, problems)))
            .collect();
        if entries.is_empty() {
            let hint = "leave `metrics` out to measure `ping`";
            problems.error("metrics is empty", hint.to_owned());
            return None;
        }
        entries.into_iter().collect::<Option<_>>().map(Self)
    }

    fn encode(&self) -> Value {
        let entries = self.0.iter();
        entries
            .map(|(name, own)| match own {
                Value::Null => Value::from(&**name),
                own => Value::Object([(name.to_string(), own.clone())].into_iter().collect()),
            })
            .collect()
    }
}

/// Name and settings of one entry of a list of scrapers.
fn scraper_entry<'v, N: Node<'v>>(node: N, problems: &mut Problems) -> Option<(Arc<str>, Value)> {
    match node.view() {
        View::Text(name) if name.trim().is_empty() => {
            problems.error("metric is empty", None);
            None
        }
        View::Text(name) => Some((name.into(), Value::Null)),
        View::Object => {
            let mut fields = node.fields();
            let (Some((name, settings)), None) = (fields.next(), fields.next()) else {
                let message = "a metric with settings is an object with one key, its name";
                let hint = "such as {\"ping\": {\"count\": 5}}";
                problems.error(message, hint.to_owned());
                return None;
            };
            if settings.view() != View::Object {
                let found = settings.view().describe();
                let message =
                    format!("settings of metric `{name}`: found {found}, expected an object");
                problems.within(name, |problems| problems.error(message, None));
                return None;
            }
            Some((name.into(), settings.to_json()))
        }
        other => {
            let message = format!(
                "metric: found {}, expected a name or an object with settings",
                other.describe()
            );
            problems.error(message, None);
            None
        }
    }
}
