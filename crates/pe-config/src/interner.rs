//! Equal labels are kept once.

use std::collections::HashSet;
use std::sync::Arc;

use crate::config::Labels;

/// Names, values and sets of labels that were met before.
#[derive(Default)]
pub(crate) struct Interner {
    texts: HashSet<Arc<str>>,
    sets: HashSet<Labels>,
}

impl Interner {
    /// `over` laid over `base`. Equal results share their memory.
    pub(crate) fn overlay<'l>(
        &mut self,
        base: &Labels,
        over: impl Iterator<Item = (&'l str, &'l str)>,
    ) -> Labels {
        let over: Vec<_> = over
            .map(|(name, value)| (self.text(name), self.text(value)))
            .collect();
        let labels = base.overlaid(over);
        if let Some(known) = self.sets.get(&labels) {
            return known.clone();
        }
        self.sets.insert(labels.clone());
        labels
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
