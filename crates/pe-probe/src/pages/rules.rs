//! What the user wants done with the series of a page.

use pe_scrape::{Filter, is_metric_name};

/// What is to be done with the series of a page.
#[derive(Debug, Default)]
pub struct Rules {
    /// Which are taken, by the names and labels of the device.
    pub filter: Filter,
    /// Names of metrics, and those that they get.
    pub rename: Vec<Rename>,
    /// Whether a label of the device stands where the target has one of that name.
    pub honour_labels: bool,
}

/// New names for metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rename {
    /// What is before and behind the star; without a star, the whole name.
    from: (String, Option<String>),
    to: (String, Option<String>),
}

impl Rename {
    /// From a name, perhaps with a star for any text, to one that has a star too or none.
    #[must_use]
    pub fn new(from: &str, to: &str) -> Option<Self> {
        let parts = |text: &str| match text.split_once('*') {
            Some((before, behind)) => (before.to_owned(), Some(behind.to_owned())),
            None => (text.to_owned(), None),
        };
        let sample = to.replacen('*', "x", 1);
        let is_name = is_metric_name(&sample) && !from.is_empty();
        let stars = (from.matches('*').count(), to.matches('*').count());
        let fits = is_name && matches!(stars, (0, 0) | (1, 0) | (1, 1));
        fits.then(|| Self {
            from: parts(from),
            to: parts(to),
        })
    }

    pub(super) fn apply(&self, name: &str) -> Option<String> {
        let middle = match &self.from {
            (whole, None) => (name == whole).then_some("")?,
            (before, Some(behind)) => name.strip_prefix(&**before)?.strip_suffix(&**behind)?,
        };
        Some(match &self.to {
            (whole, None) => whole.clone(),
            (before, Some(behind)) => format!("{before}{middle}{behind}"),
        })
    }
}
