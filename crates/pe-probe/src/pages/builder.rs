//! How a layout comes to be: which series of a page go out, under which names and labels, and which of them belong together.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use pe_scrape::{
    Columns, HistogramSpec, MetricDescriptor, MetricKind, SummarySpec, is_metric_name,
};

use super::dictionary::{Dictionary, Settled};
use super::layout::{Buckets, Counts, NOWHERE, Part, cumulative};
use super::page::{Page, PageFamily, PageKind, PageSample};
use super::rules::Rules;

/// Labels that a sink or `/metrics` gives.
const GIVEN: [&str; 2] = ["job", "exporter"];
/// What a layout is made of.
pub(super) struct Built {
    pub(super) parts: Vec<Part>,
    /// For each sample of the page, where its value goes.
    pub(super) slots: Vec<u32>,
    /// How many values there are, with those that are needed only to check histograms.
    pub(super) width: usize,
    pub(super) histograms: Vec<Buckets>,
    pub(super) counts: Counts,
}

impl Built {
    /// Of a page, for targets whose labels have these names.
    pub(super) fn of(
        page: &Page<'_>,
        names: &[String],
        rules: &Rules,
        dictionary: &Dictionary,
    ) -> Self {
        let mut builder = Builder {
            names,
            rules,
            dictionary,
            parts: Vec::new(),
            by_overrides: HashMap::new(),
            seen: HashSet::new(),
            slots: vec![Place::Nowhere; page.samples],
            counts: Counts {
                invalid: page.invalid,
                native: page.native,
                ..Counts::default()
            },
        };
        for family in &page.families {
            builder.family(family);
        }
        builder.finish()
    }
}

/// Where the value of a sample goes, while a layout is built.
#[derive(Debug, Clone, Copy)]
enum Place {
    Nowhere,
    /// A part, and a cell of it.
    Cell(usize, usize),
    /// The count of a histogram: the part and the cell of its first bucket.
    CountOf(usize, usize),
}

#[derive(Default)]
struct Draft {
    descriptors: Vec<MetricDescriptor>,
    width: usize,
    /// First cell and number of buckets.
    histograms: Vec<(usize, usize)>,
}

type Overrides = Vec<(String, String)>;
type Labels<'a> = Vec<(Cow<'a, str>, &'a str)>;

struct Builder<'b> {
    names: &'b [String],
    rules: &'b Rules,
    dictionary: &'b Dictionary,
    parts: Vec<(Overrides, Draft)>,
    by_overrides: HashMap<Overrides, usize>,
    /// Digests of names and labels.
    seen: HashSet<u64>,
    slots: Vec<Place>,
    counts: Counts,
}

/// The samples of one histogram or summary.
struct Whole<'p, 'a> {
    labels: Vec<(&'a str, &'p str)>,
    /// Text of the label that tells the parts apart, its number, and the sample.
    parts: Vec<(&'p str, f64, &'p PageSample<'a>)>,
    sum: Option<&'p PageSample<'a>>,
    count: Option<&'p PageSample<'a>>,
}

impl Whole<'_, '_> {
    /// Whether it can be kept as a histogram without losing anything.
    fn is_histogram(&self) -> bool {
        let (Some(count), Some(_)) = (self.count, self.sum) else {
            return false;
        };
        let bounds: Vec<f64> = self.parts.iter().map(|part| part.1).collect();
        let mut values: Vec<f64> = self.parts.iter().map(|part| part.2.value).collect();
        bounds.last() == Some(&f64::INFINITY)
            && self.parts.last().is_some_and(|last| last.0 == "+Inf")
            && bounds.windows(2).all(|pair| pair[0] < pair[1])
            && cumulative(&mut values, count.value)
    }

    fn is_summary(&self) -> bool {
        let quantiles: HashSet<&str> = self.parts.iter().map(|part| part.0).collect();
        quantiles.len() == self.parts.len() && self.parts.iter().all(|part| part.1.is_finite())
    }
}

impl Builder<'_> {
    fn family(&mut self, family: &PageFamily<'_>) {
        match family.kind {
            PageKind::Histogram | PageKind::Summary => self.composed(family),
            _ => {
                for sample in &family.samples {
                    let kind = match family.kind {
                        PageKind::Gauge => MetricKind::Gauge,
                        // What stands beside a counter, such as the time of its creation, is none.
                        PageKind::Counter if !sample.name.ends_with("_created") => {
                            MetricKind::Counter
                        }
                        _ => MetricKind::Untyped,
                    };
                    self.single(sample, &family.help, kind);
                }
            }
        }
    }

    fn composed(&mut self, family: &PageFamily<'_>) {
        let is_histogram = family.kind == PageKind::Histogram;
        let part = if is_histogram { "le" } else { "quantile" };
        let mut wholes: Vec<Whole<'_, '_>> = Vec::new();
        let mut by_labels: HashMap<Vec<(&str, &str)>, usize> = HashMap::new();
        let mut others = Vec::new();
        let mut is_sound = true;
        for sample in &family.samples {
            let suffix = sample.name.strip_prefix(family.name).unwrap_or_default();
            let of = |name: &str| sample.labels.iter().find(|label| label.0 == name);
            let found = of(part).map(|(_, value)| &**value);
            let is_part = suffix == if is_histogram { "_bucket" } else { "" };
            if !is_part && !matches!(suffix, "_sum" | "_count") || is_part != found.is_some() {
                others.push(sample);
                continue;
            }
            let labels: Vec<(&str, &str)> = sample
                .labels
                .iter()
                .filter(|label| !is_part || label.0 != part)
                .map(|(name, value)| (*name, &**value))
                .collect();
            let index = *by_labels.entry(labels.clone()).or_insert_with(|| {
                wholes.push(Whole {
                    labels,
                    parts: Vec::new(),
                    sum: None,
                    count: None,
                });
                wholes.len() - 1
            });
            let whole = &mut wholes[index];
            match (suffix, found) {
                ("_sum", _) => is_sound &= whole.sum.replace(sample).is_none(),
                ("_count", _) => is_sound &= whole.count.replace(sample).is_none(),
                (_, found) => {
                    let text = found.unwrap_or_default();
                    let number = text.parse().unwrap_or(f64::NAN);
                    whole.parts.push((text, number, sample));
                }
            }
        }
        let fits = |whole: &Whole<'_, '_>| match is_histogram {
            true => whole.is_histogram(),
            false => whole.is_summary(),
        };
        if !is_sound || !wholes.iter().all(fits) {
            // Each of its series is right as it is, but together they are nothing that can be told as one.
            for sample in &family.samples {
                self.single(sample, &family.help, MetricKind::Untyped);
            }
            return;
        }
        for whole in &wholes {
            self.whole(family, whole, is_histogram);
        }
        for sample in others {
            self.single(sample, &family.help, MetricKind::Untyped);
        }
    }

    /// A histogram or a summary.
    fn whole(&mut self, family: &PageFamily<'_>, whole: &Whole<'_, '_>, is_histogram: bool) {
        let samples = || {
            let parts = whole.parts.iter().map(|part| part.2);
            parts.chain(whole.sum).chain(whole.count)
        };
        let number = samples().count();
        let labels = whole.labels.iter().copied();
        let Some((name, overrides, labels)) = self.place(family.name, labels, number) else {
            return;
        };
        let written: Arc<[Box<str>]> = whole.parts.iter().map(|part| part.0.into()).collect();
        let numbers: Vec<f64> = whole.parts.iter().map(|part| part.1).collect();
        let kind = match is_histogram {
            true => MetricKind::Histogram(HistogramSpec {
                bounds: numbers[..numbers.len() - 1].into(),
                written: written[..written.len() - 1].iter().cloned().collect(),
                native: None,
            }),
            false => MetricKind::Summary(SummarySpec {
                quantiles: numbers.into(),
                written,
            }),
        };
        let Some(descriptor) = self.describe(&name, &family.help, kind, labels, number) else {
            return;
        };
        let (part, first) = self.add(overrides, descriptor);
        let draft = &mut self.parts[part].1;
        let parts = whole.parts.len();
        // Histograms have no cell for the count, which is that of all buckets.
        draft.width = first + parts + if is_histogram { 1 } else { 2 };
        if is_histogram {
            draft.histograms.push((first, parts));
        }
        for (index, (.., sample)) in whole.parts.iter().enumerate() {
            self.slots[sample.number] = Place::Cell(part, first + index);
        }
        if let Some(sum) = whole.sum {
            self.slots[sum.number] = Place::Cell(part, first + parts);
        }
        if let Some(count) = whole.count {
            self.slots[count.number] = match is_histogram {
                true => Place::CountOf(part, first),
                false => Place::Cell(part, first + parts + 1),
            };
        }
    }

    fn single(&mut self, sample: &PageSample<'_>, help: &str, kind: MetricKind) {
        let labels = sample.labels.iter();
        let labels = labels.map(|(name, value)| (*name, &**value));
        let Some((name, overrides, labels)) = self.place(&sample.name, labels, 1) else {
            return;
        };
        let Some(descriptor) = self.describe(&name, help, kind, labels, 1) else {
            return;
        };
        let (part, cell) = self.add(overrides, descriptor);
        self.parts[part].1.width += 1;
        self.slots[sample.number] = Place::Cell(part, cell);
    }

    /// The name and the labels that a metric of `number` series gets, if it is passed on.
    fn place<'a>(
        &mut self,
        name: &'a str,
        labels: impl Iterator<Item = (&'a str, &'a str)> + Clone,
        number: usize,
    ) -> Option<(Cow<'a, str>, Overrides, Labels<'a>)> {
        let label = |wanted: &str| {
            let found = labels.clone().find(|(name, _)| *name == wanted);
            found.map(|(_, value)| value)
        };
        let filter = &self.rules.filter;
        let by_name = filter.takes_metric(name);
        if !by_name.unwrap_or_else(|| filter.takes(name, label)) {
            self.counts.filtered += number;
            return None;
        }
        let renamed = self.rules.rename.iter().find_map(|it| it.apply(name));
        let name = renamed.map_or(Cow::Borrowed(name), Cow::Owned);
        if !is_metric_name(&name) {
            self.counts.invalid += number;
            return None;
        }
        let is_given =
            |name: &str| GIVEN.contains(&name) || self.names.iter().any(|own| own == name);
        let mut overrides = Overrides::new();
        let mut placed: Labels<'a> = Vec::new();
        for (name, value) in labels.clone() {
            if !is_given(name) {
                placed.push((Cow::Borrowed(name), value));
            } else if self.rules.honour_labels {
                overrides.push((name.to_owned(), value.to_owned()));
            } else {
                let mut free = format!("exported_{name}");
                while is_given(&free)
                    || label(&free).is_some()
                    || placed.iter().any(|(taken, _)| **taken == *free)
                {
                    free.insert_str(0, "exported_");
                }
                placed.push((Cow::Owned(free), value));
            }
        }
        placed.sort();
        let mut digest = DefaultHasher::new();
        (&name, &overrides, &placed).hash(&mut digest);
        if !self.seen.insert(digest.finish()) {
            self.counts.duplicate += number;
            return None;
        }
        Some((name, overrides, placed))
    }

    /// The metric as it goes out, unless other devices know it as something else.
    fn describe(
        &mut self,
        name: &str,
        help: &str,
        mut kind: MetricKind,
        labels: Labels<'_>,
        number: usize,
    ) -> Option<MetricDescriptor> {
        let help = match self.dictionary.settle(name, &kind, help) {
            Settled::Agreed(help) => help,
            Settled::Other(help, of) => {
                self.counts.settled += 1;
                kind = of.unwrap_or(kind);
                help
            }
            Settled::Conflict => {
                self.counts.conflict += number;
                return None;
            }
        };
        self.counts.series += number;
        let metric = MetricDescriptor::new(name.to_owned(), help, kind);
        let labels = labels.into_iter();
        Some(labels.fold(metric, |metric, (name, value)| {
            metric.with_label(name.into_owned(), value.to_owned())
        }))
    }

    /// Adds a metric; returns its part and first cell.
    fn add(&mut self, overrides: Overrides, descriptor: MetricDescriptor) -> (usize, usize) {
        let parts = &mut self.parts;
        let index = match self.by_overrides.get(&overrides) {
            Some(index) => *index,
            None => {
                parts.push((overrides.clone(), Draft::default()));
                self.by_overrides.insert(overrides, parts.len() - 1);
                parts.len() - 1
            }
        };
        let draft = &mut parts[index].1;
        draft.descriptors.push(descriptor);
        (index, draft.width)
    }

    fn finish(self) -> Built {
        let mut counts = self.counts;
        let (mut parts, mut histograms) = (Vec::new(), Vec::new());
        let mut starts = Vec::new();
        let mut width = 0;
        for (overrides, draft) in self.parts {
            let columns = Columns::new(&draft.descriptors).unwrap_or_else(|_| {
                // Names and labels were checked one by one; this is for what was overlooked.
                counts.invalid += draft.width;
                counts.series = counts.series.saturating_sub(draft.width);
                Columns::new(&[]).expect("no column contradicts another")
            });
            starts.push((columns.width() == draft.width).then_some(width));
            if columns.width() == draft.width {
                histograms.extend(draft.histograms.iter().map(|(first, buckets)| Buckets {
                    first: width + first,
                    buckets: *buckets,
                    count: 0,
                }));
            }
            let end = width + columns.width();
            let overrides = overrides.into_iter();
            parts.push(Part {
                overrides: overrides
                    .map(|(name, value)| (name.into(), value.into()))
                    .collect(),
                columns,
                range: width..end,
            });
            width = end;
        }
        // Behind the values, the counts of histograms.
        let mut by_first = HashMap::new();
        for histogram in &mut histograms {
            histogram.count = width;
            by_first.insert(histogram.first, width);
            width += 1;
        }
        let slots = self.slots.iter().map(|place| {
            let slot = match place {
                Place::Nowhere => None,
                Place::Cell(part, cell) => starts[*part].map(|start| start + cell),
                Place::CountOf(part, first) => {
                    starts[*part].and_then(|start| by_first.get(&(start + first)).copied())
                }
            };
            slot.and_then(|slot| u32::try_from(slot).ok())
                .unwrap_or(NOWHERE)
        });
        Built {
            parts,
            slots: slots.collect(),
            width,
            histograms,
            counts,
        }
    }
}
