//! What metrics of devices are, as the first device told: sinks show one type and one help text for a name. No I/O.
//!
//! A name is described by whoever comes first, until the program ends or the settings change. Another help text gives way to that. A
//! type that is no more than a word gives way too, since the values are the same; histograms, summaries and single values cannot stand
//! under one name, so that series of the later device are left out.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use pe_scrape::MetricKind;
use tracing::warn;

/// Names that are remembered, at the most. Others are not compared.
const MAX_NAMES: usize = 200_000;

/// The names that are known. Shared by the devices of a scraper.
#[derive(Debug, Default)]
pub struct Dictionary(Mutex<HashMap<String, Known>>);

#[derive(Debug)]
struct Known {
    help: String,
    kind: Class,
    /// Whether it was told that somebody says otherwise.
    told: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Gauge,
    Counter,
    Untyped,
    Histogram,
    Summary,
}

impl Class {
    fn of(kind: &MetricKind) -> Self {
        match kind {
            MetricKind::Gauge => Self::Gauge,
            MetricKind::Counter => Self::Counter,
            MetricKind::Histogram(_) => Self::Histogram,
            MetricKind::Summary(_) => Self::Summary,
            MetricKind::Untyped => Self::Untyped,
        }
    }

    /// The kind of a single value.
    fn single(self) -> Option<MetricKind> {
        match self {
            Self::Gauge => Some(MetricKind::Gauge),
            Self::Counter => Some(MetricKind::Counter),
            Self::Untyped => Some(MetricKind::Untyped),
            Self::Histogram | Self::Summary => None,
        }
    }
}

/// How a metric is described.
#[derive(Debug, PartialEq)]
pub enum Settled {
    /// As the device has it.
    Agreed(String),
    /// By another one's help text, and another one's type where there is one.
    Other(String, Option<MetricKind>),
    /// Not at all: the types cannot stand side by side.
    Conflict,
}

impl Dictionary {
    /// How a metric is to be described that a device describes so.
    pub fn settle(&self, name: &str, kind: &MetricKind, help: &str) -> Settled {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let class = Class::of(kind);
        let Some(known) = all.get_mut(name) else {
            if all.len() < MAX_NAMES {
                let known = Known {
                    help: help.to_owned(),
                    kind: class,
                    told: false,
                };
                all.insert(name.to_owned(), known);
            }
            return Settled::Agreed(help.to_owned());
        };
        if known.help == help && known.kind == class {
            return Settled::Agreed(known.help.clone());
        }
        if !std::mem::replace(&mut known.told, true) {
            warn!(
                metric = name,
                "devices describe a metric with different types or help texts; the first one's stand"
            );
        }
        if known.kind == class {
            return Settled::Other(known.help.clone(), None);
        }
        match (known.kind.single(), class.single()) {
            (Some(kind), Some(_)) => Settled::Other(known.help.clone(), Some(kind)),
            _ => Settled::Conflict,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_one_to_describe_a_metric_stands() {
        let known = Dictionary::default();
        let settle = |kind: MetricKind, help: &str| known.settle("a", &kind, help);
        let first = || "first".to_owned();
        assert_eq!(settle(MetricKind::Gauge, "first"), Settled::Agreed(first()));
        assert_eq!(
            settle(MetricKind::Gauge, "other"),
            Settled::Other(first(), None)
        );
        assert_eq!(
            settle(MetricKind::Counter, "first"),
            Settled::Other(first(), Some(MetricKind::Gauge))
        );
        let histogram = MetricKind::Histogram(pe_scrape::HistogramSpec::classic([1.0]));
        assert_eq!(settle(histogram, "first"), Settled::Conflict);
    }
}
