//! The labels of devices: those of `conf`, with those of an entry and of a targets file laid over them.
//!
//! Labels of the same text in a file are read once, and equal names and values are kept once.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use pe_scrape::Labels;
use pe_scrape::settings::{Bounds, Node, Problems, Setting};

use crate::file::{Scope, Syntax};

/// Reads the labels of the entries of one group file.
pub(super) struct DeviceLabels<'d> {
    /// Those of `conf`.
    base: Labels,
    /// Results, by the text that they were read from.
    read: HashMap<&'d str, Labels>,
    texts: HashSet<Arc<str>>,
}

impl<'d> DeviceLabels<'d> {
    /// Entries say what differs from `base`.
    pub(super) fn new(base: &Labels) -> Self {
        Self {
            base: base.overlaid::<&str, &str>([]),
            read: HashMap::new(),
            texts: HashSet::new(),
        }
    }

    /// The labels of an entry of `jobs`; reports what is wrong with them.
    pub(super) fn of_entry(&mut self, scope: Scope<'_, 'd>, entry: Syntax<'_>) -> Option<Labels> {
        let Some(node) = entry.get("labels") else {
            return Some(self.base.clone());
        };
        let source = node.source(scope.document.text());
        if let Some(labels) = self.read.get(source) {
            return Some(labels.clone());
        }
        let mut problems = Problems::default();
        let own = problems.within("labels", |problems| {
            Labels::decode(node, &Bounds::NONE, problems)
        });
        scope.problems(entry, problems.into_vec());
        let own = own?;
        let own: Vec<_> = own
            .iter()
            .map(|(name, value)| (&**name, &**value))
            .collect();
        let base = std::mem::take(&mut self.base);
        let labels = self.overlay(&base, &own);
        self.base = base;
        self.read.insert(source, labels.clone());
        Some(labels)
    }

    /// `over` laid over `labels`.
    pub(super) fn overlay(&mut self, labels: &Labels, over: &[(&str, &str)]) -> Labels {
        let over: Vec<_> = over
            .iter()
            .map(|(name, value)| (self.text(name), self.text(value)))
            .collect();
        labels.overlaid(over)
    }

    fn text(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.texts.get(text) {
            return known.clone();
        }
        let text: Arc<str> = text.into();
        self.texts.insert(text.clone());
        text
    }
}
