//! From a page to frames: what its series are called here, and where their values lie. No I/O.
//!
//! A [`Layout`] is made when a device is first seen, or when its page has other series than before: then the page is read whole,
//! labels and names are settled, and the layout keeps the page's text without the values. A page with the same text between its values
//! is compared with that, byte by byte, and only its numbers are read. Devices whose pages have the same text share a layout.
//!
//! What always holds:
//! - No two series of a layout have the same name and labels.
//! - A layout is of a page's text and of the names of the target's labels; it holds no value of these, so that targets can share it.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;
use std::sync::Arc;

use pe_scrape::{
    ABSENT, Columns, Filter, HistogramSpec, LabelSet, MetricDescriptor, MetricKind, SummarySpec,
    is_metric_name,
};

use super::dictionary::{Dictionary, Settled};
use super::page::{Page, PageFamily, PageFormat, PageKind, PageSample};
use super::text::{Line, read_line, read_value};

/// Labels that a sink or `/metrics` gives.
const GIVEN: [&str; 2] = ["job", "exporter"];
/// No value of the layout.
const NOWHERE: u32 = u32::MAX;

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

    fn apply(&self, name: &str) -> Option<String> {
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

/// How many series of a page came to what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Passed on.
    pub series: usize,
    /// Left out by rules.
    pub filtered: usize,
    /// Left out, since they cannot be series.
    pub invalid: usize,
    /// Left out, since another of the page has the same name and labels.
    pub duplicate: usize,
    /// Left out, since another device's metric of that name is of another type.
    pub conflict: usize,
    /// Native histograms that were left out.
    pub native: usize,
    /// Series whose help text or type is another device's.
    pub settled: usize,
}

/// What a page of some text comes to.
#[derive(Debug)]
pub struct Layout {
    /// The names of the labels of the targets it is for.
    names: Arc<[String]>,
    format: PageFormat,
    skeleton: Skeleton,
    parts: Vec<Part>,
    /// For each sample of the page, where its value goes.
    slots: Vec<u32>,
    /// How many values there are, with those that are needed only to check histograms.
    width: usize,
    histograms: Vec<Buckets>,
    counts: Counts,
}

/// Series whose labels are those of the target, but for some.
#[derive(Debug)]
pub struct Part {
    /// Labels of the device that stand in place of the target's, or of those that a sink gives.
    pub overrides: Vec<(Arc<str>, Arc<str>)>,
    /// The series.
    pub columns: Arc<Columns>,
    range: Range<usize>,
}

/// Cumulative buckets and the sum, in the order of the columns, and where the count lies.
#[derive(Debug)]
struct Buckets {
    first: usize,
    buckets: usize,
    count: usize,
}

/// A page's text without its values.
#[derive(Debug, PartialEq, Eq)]
enum Skeleton {
    Text {
        keys: Vec<u8>,
        lines: Vec<Key>,
    },
    /// A digest of names, labels, types and help texts; labels in their order.
    Messages(u64, usize),
}

#[derive(Debug, PartialEq, Eq)]
struct Key {
    end: usize,
    is_sample: bool,
}

/// The values of a page.
#[derive(Debug, Default)]
pub struct Values {
    values: Vec<f64>,
    /// Samples that had a time stamp.
    pub with_time: usize,
}

impl Layout {
    /// The names of the labels of the targets it is for.
    #[must_use]
    pub fn names(&self) -> &Arc<[String]> {
        &self.names
    }

    /// What the series of its pages came to.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// The parts, each a frame of one row.
    #[must_use]
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Reads the values of a page, if it has the text of this layout's and its histograms are in order.
    #[must_use]
    pub fn fill(&self, page: &[u8], format: PageFormat, values: &mut Values) -> bool {
        let Skeleton::Text { keys, lines } = &self.skeleton else {
            return false;
        };
        if format != self.format {
            return false;
        }
        values.values.clear();
        values.values.resize(self.width, ABSENT);
        values.with_time = 0;
        let (mut rest, mut start, mut sample) = (page, 0, 0);
        for key in lines {
            let Some(behind) = rest.strip_prefix(&keys[start..key.end]) else {
                return false;
            };
            start = key.end;
            let length = behind.iter().position(|byte| *byte == b'\n');
            let (line, next) = match length {
                Some(length) => (&behind[..length], &behind[length + 1..]),
                None => (behind, &[][..]),
            };
            rest = next;
            if !key.is_sample {
                if !line.is_empty() {
                    return false;
                }
                continue;
            }
            // Else the name may go on.
            let is_apart =
                matches!(line.first(), Some(b' ' | b'\t')) || keys[..start].ends_with(b"}");
            if !is_apart {
                return false;
            }
            let Some((value, has_time)) = std::str::from_utf8(line)
                .ok()
                .and_then(|line| read_value(line).ok())
            else {
                return false;
            };
            values.with_time += usize::from(has_time);
            let Some(slot) = self.slots.get(sample) else {
                return false;
            };
            if *slot != NOWHERE {
                values.values[*slot as usize] = value;
            }
            sample += 1;
        }
        rest.is_empty() && self.settle_histograms(&mut values.values)
    }

    /// Takes the values of a page that was read, if it has the names, labels and types of this layout's.
    #[must_use]
    pub fn fill_from(&self, page: &Page<'_>, values: &mut Values) -> bool {
        if self.skeleton != Skeleton::of_messages(page) {
            return false;
        }
        values.with_time = page.with_time;
        self.take(page, &mut values.values) && self.settle_histograms(&mut values.values)
    }

    fn take(&self, page: &Page<'_>, values: &mut Vec<f64>) -> bool {
        values.clear();
        values.resize(self.width, ABSENT);
        for sample in page.families.iter().flat_map(|family| &family.samples) {
            match self.slots.get(sample.number) {
                Some(&NOWHERE) => {}
                Some(slot) => values[*slot as usize] = sample.value,
                None => return false,
            }
        }
        true
    }

    /// Makes counts of cumulative ones. False where a histogram is not what one is.
    fn settle_histograms(&self, values: &mut [f64]) -> bool {
        self.histograms.iter().all(|histogram| {
            let count = values[histogram.count];
            let end = histogram.first + histogram.buckets;
            cumulative(&mut values[histogram.first..end], count)
        })
    }

    /// The values of a part.
    #[must_use]
    pub fn values_of<'v>(&self, part: &Part, values: &'v Values) -> &'v [f64] {
        &values.values[part.range.clone()]
    }

    /// What it takes to tell the layout of `page` and the values of it.
    ///
    /// `bytes` are those of the page.
    #[must_use]
    pub fn build(
        page: &Page<'_>,
        (bytes, format): (&[u8], PageFormat),
        names: Arc<[String]>,
        rules: &Rules,
        dictionary: &Dictionary,
    ) -> (Self, Values) {
        let mut builder = Builder {
            names: &names,
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
        let (parts, slots, width, histograms, counts) = builder.finish();
        let skeleton = match format {
            PageFormat::Text { .. } => Skeleton::of_text(bytes),
            PageFormat::Protobuf => Skeleton::of_messages(page),
        };
        let layout = Self {
            names,
            format,
            skeleton,
            parts,
            slots,
            width,
            histograms,
            counts,
        };
        let mut values = Values {
            values: Vec::new(),
            with_time: page.with_time,
        };
        let taken = layout.take(page, &mut values.values);
        let settled = layout.settle_histograms(&mut values.values);
        debug_assert!(taken && settled, "the layout is of this page");
        (layout, values)
    }
}

/// Makes counts of cumulative ones, if that loses nothing: they are whole numbers that never fall, and the last is `count`.
fn cumulative(buckets: &mut [f64], count: f64) -> bool {
    let sound =
        |value: &f64| *value >= 0.0 && *value <= 9_007_199_254_740_992.0 && value.fract() == 0.0;
    if !buckets.iter().all(sound)
        || !buckets.is_sorted()
        || buckets.last().is_none_or(|last| *last != count)
    {
        return false;
    }
    for index in (1..buckets.len()).rev() {
        buckets[index] -= buckets[index - 1];
    }
    true
}

impl Skeleton {
    fn of_text(text: &[u8]) -> Self {
        let (mut keys, mut lines) = (Vec::new(), Vec::new());
        // An empty text behind the last line feed is no line.
        let text = text.strip_suffix(b"\n").unwrap_or(text);
        for line in text.split(|byte| *byte == b'\n') {
            let read = std::str::from_utf8(line)
                .ok()
                .and_then(|line| read_line(line).ok());
            let (key, is_sample) = match read {
                Some(Line::Sample(sample)) => (&line[..sample.key], true),
                _ => (line, false),
            };
            keys.extend_from_slice(key);
            lines.push(Key {
                end: keys.len(),
                is_sample,
            });
        }
        keys.shrink_to_fit();
        lines.shrink_to_fit();
        Self::Text { keys, lines }
    }

    fn of_messages(page: &Page<'_>) -> Self {
        let mut digest = DefaultHasher::new();
        for family in &page.families {
            (family.name, family.kind as u8, &family.help).hash(&mut digest);
            for sample in &family.samples {
                (&sample.name, &sample.labels, sample.number).hash(&mut digest);
            }
        }
        Self::Messages(digest.finish(), page.samples)
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

    fn finish(self) -> (Vec<Part>, Vec<u32>, usize, Vec<Buckets>, Counts) {
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
        (parts, slots.collect(), width, histograms, counts)
    }
}

/// The labels of a part's row.
#[must_use]
pub fn row_labels(target: &LabelSet, overrides: &[(Arc<str>, Arc<str>)]) -> Option<LabelSet> {
    let stands = |name: &str| overrides.iter().all(|(own, _)| **own != *name);
    let own = target.iter().filter(|label| stands(label.name()));
    let own = own.map(|label| (Arc::from(label.name()), Arc::from(label.value())));
    LabelSet::new(own.chain(overrides.iter().cloned())).ok()
}

/// What is written of a page, for tests: name, labels, value.
#[doc(hidden)]
#[must_use]
pub fn series_of(layout: &Layout, values: &Values) -> Vec<String> {
    let mut all = Vec::new();
    for part in layout.parts() {
        let cells = layout.values_of(part, values);
        let frame = pe_scrape::FrameBuilder::with_columns(part.columns.clone())
            .row(LabelSet::empty(), cells)
            .build();
        let text = pe_scrape::exposition::encode(
            &[pe_scrape::exposition::Block::new(&frame)],
            pe_scrape::exposition::Format::Text,
        );
        let text = String::from_utf8_lossy(&text).into_owned();
        all.extend(text.lines().map(str::to_owned));
    }
    all
}

/// Reads a page with all that there is, as a fuzzer does: the layout of a page must take that page again, with the same values. The
/// first byte says in which format it is.
#[doc(hidden)]
pub fn try_page(input: &[u8]) {
    const MAX_SAMPLES: usize = 10_000;
    let Some((format, bytes)) = input.split_first() else {
        return;
    };
    let format = match format % 3 {
        0 => PageFormat::Text {
            open_metrics: false,
        },
        1 => PageFormat::Text { open_metrics: true },
        _ => PageFormat::Protobuf,
    };
    let Ok(page) = Page::read(bytes, format, MAX_SAMPLES) else {
        return;
    };
    let names: Arc<[String]> = ["device".to_owned(), "ip".to_owned()].into();
    for honour_labels in [false, true] {
        let rules = Rules {
            honour_labels,
            ..Rules::default()
        };
        let dictionary = Dictionary::default();
        let (layout, values) =
            Layout::build(&page, (bytes, format), names.clone(), &rules, &dictionary);
        let mut again = Values::default();
        let filled = match format {
            PageFormat::Text { .. } => layout.fill(bytes, format, &mut again),
            PageFormat::Protobuf => layout.fill_from(&page, &mut again),
        };
        assert!(filled, "a page has the layout that was made of it");
        let bits = |values: &Values| {
            let cells = values.values.iter().map(|value| value.to_bits());
            cells.collect::<Vec<_>>()
        };
        assert_eq!(bits(&values), bits(&again), "and the same values");
        assert_eq!(values.with_time, again.with_time);
        let counts = layout.counts();
        let all = counts.series + counts.filtered + counts.duplicate + counts.conflict;
        assert!(
            all + counts.invalid >= page.samples,
            "every sample is accounted for"
        );
        let _ = series_of(&layout, &values);
    }
}

#[cfg(test)]
mod tests {
    use pe_scrape::settings::Problems;

    use super::*;

    const TEXT: PageFormat = PageFormat::Text {
        open_metrics: false,
    };

    fn names() -> Arc<[String]> {
        ["device".to_owned(), "ip".to_owned()].into()
    }

    fn build(text: &str, rules: &Rules, dictionary: &Dictionary) -> (Layout, Values) {
        let page = Page::read(text.as_bytes(), TEXT, 1000).unwrap();
        let bytes = (text.as_bytes(), TEXT);
        Layout::build(&page, bytes, names(), rules, dictionary)
    }

    fn shown(text: &str, rules: &Rules) -> (Vec<String>, Counts) {
        let (layout, values) = build(text, rules, &Dictionary::default());
        let lines = series_of(&layout, &values).into_iter();
        let lines = lines.filter(|line| !line.starts_with("# HELP"));
        (lines.collect(), *layout.counts())
    }

    #[test]
    fn histograms_and_summaries_come_out_as_they_went_in() {
        let text = "# TYPE h histogram\nh_bucket{a=\"x\",le=\"0.5\"} 1\nh_bucket{a=\"x\",le=\"1e+06\"} 3\n\
                    h_bucket{a=\"x\",le=\"+Inf\"} 4\nh_sum{a=\"x\"} 7.5\nh_count{a=\"x\"} 4\n\
                    h_bucket{a=\"y\",le=\"2\"} 0\nh_bucket{a=\"y\",le=\"+Inf\"} 0\nh_sum{a=\"y\"} 0\nh_count{a=\"y\"} 0\n\
                    # TYPE s summary\ns{quantile=\"0.50\"} NaN\ns_sum 1\ns_count 2\n# TYPE c counter\nc 5\n";
        let (lines, counts) = shown(text, &Rules::default());
        let expected: Vec<&str> = text.lines().collect();
        assert_eq!(lines, expected);
        assert_eq!(counts.series, 13);
    }

    #[test]
    fn histograms_that_are_none_are_told_as_single_series() {
        let text = "# TYPE h histogram\nh_bucket{le=\"1\"} 5\nh_bucket{le=\"+Inf\"} 4\nh_sum 1\nh_count 4\n";
        let (lines, counts) = shown(text, &Rules::default());
        assert!(
            lines.contains(&"h_bucket{le=\"1\"} 5".to_owned()),
            "{lines:?}"
        );
        assert_eq!(counts.series, 4);
        // One that is sound at first is settled anew when it is not.
        let sound = text.replace("} 5", "} 3");
        let (layout, _) = build(&sound, &Rules::default(), &Dictionary::default());
        let mut values = Values::default();
        assert!(layout.fill(sound.as_bytes(), TEXT, &mut values));
        assert!(!layout.fill(text.as_bytes(), TEXT, &mut values));
    }

    #[test]
    fn labels_that_clash_are_exported_or_honoured() {
        let text = "up{device=\"sda\",exported_device=\"old\",job=\"x\",other=\"1\"} 1\n";
        let (lines, _) = shown(text, &Rules::default());
        assert_eq!(
            lines[1],
            "up{exported_device=\"old\",exported_exported_device=\"sda\",exported_job=\"x\",other=\"1\"} 1"
        );
        let rules = Rules {
            honour_labels: true,
            ..Rules::default()
        };
        let (layout, _) = build(text, &rules, &Dictionary::default());
        let part = &layout.parts()[0];
        let target = LabelSet::new([("device", "a"), ("ip", "10.0.0.1")]).unwrap();
        let row = row_labels(&target, &part.overrides).unwrap();
        assert_eq!(
            format!("{row:?}"),
            r#"[ip="10.0.0.1", device="sda", job="x"]"#
        );
    }

    #[test]
    fn series_are_kept_dropped_and_renamed() {
        let mut problems = Problems::default();
        let own = |texts: &[&str]| texts.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
        let filter = Filter::new(
            &own(&["node_*", "h"]),
            &own(&["node_disk_*{device=loop*}"]),
            &mut problems,
        );
        let rules = Rules {
            filter,
            rename: vec![Rename::new("node_*", "site_*").unwrap()],
            honour_labels: false,
        };
        let text = "node_load1 1\ngo_threads 5\nnode_disk_io{device=\"loop0\"} 1\nnode_disk_io{device=\"sda\"} 2\n";
        let (lines, counts) = shown(text, &rules);
        let lines: Vec<_> = lines.iter().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(
            lines,
            ["site_load1 1", "site_disk_io{exported_device=\"sda\"} 2"]
        );
        assert_eq!((counts.series, counts.filtered), (2, 2));
        assert!(Rename::new("a", "b-c").is_none() && Rename::new("a", "b*").is_none());
    }

    #[test]
    fn a_series_is_passed_on_once() {
        let (lines, counts) = shown(
            "a{x=\"1\",y=\"\"} 1\na{x=\"1\"} 2\na 3\n",
            &Rules::default(),
        );
        assert_eq!(lines[1..], ["a{x=\"1\"} 1", "a 3"]);
        assert_eq!((counts.series, counts.duplicate), (2, 1));
    }

    #[test]
    fn devices_that_disagree_are_settled() {
        let known = Dictionary::default();
        build(
            "# HELP a One\n# TYPE a gauge\na 1\n",
            &Rules::default(),
            &known,
        );
        let text = "# HELP a Two\n# TYPE a counter\na 1\n";
        let (layout, values) = build(text, &Rules::default(), &known);
        let lines = series_of(&layout, &values);
        assert_eq!(lines, ["# HELP a One", "# TYPE a gauge", "a 1"]);
        assert_eq!(layout.counts().settled, 1);
        let text = "# TYPE a summary\na_sum 1\na_count 1\n";
        let (layout, _) = build(text, &Rules::default(), &known);
        assert_eq!((layout.counts().conflict, layout.counts().series), (2, 0));
    }

    #[test]
    fn only_the_numbers_of_a_known_page_are_read() {
        let text = "# TYPE a gauge\na{x=\"1\"} 1\nup 2 17\n\n";
        let (layout, _) = build(text, &Rules::default(), &Dictionary::default());
        let mut values = Values::default();
        let other = text.replace("} 1", "}   NaN").replace("2 17", "-Inf");
        assert!(layout.fill(other.as_bytes(), TEXT, &mut values));
        assert_eq!(values.with_time, 0);
        assert!(values.values[0].is_nan() && values.values[1] == f64::NEG_INFINITY);
        for changed in [
            "# TYPE a counter\na{x=\"1\"} 1\nup 2 17\n\n",
            "# TYPE a gauge\na{x=\"2\"} 1\nup 2 17\n\n",
            "# TYPE a gauge\na{x=\"1\"} 1\nup2 17\n\n",
            "# TYPE a gauge\na{x=\"1\"} 1\n",
            "# TYPE a gauge\na{x=\"1\"} 1\nup 2 17\n\nmore 1\n",
            "# TYPE a gauge\na{x=\"1\"} x\nup 2 17\n\n",
            "",
        ] {
            assert!(
                !layout.fill(changed.as_bytes(), TEXT, &mut values),
                "{changed}"
            );
        }
    }

    #[test]
    fn a_page_of_messages_is_as_one_of_text() {
        // What the exposition writes, this reads.
        let histogram =
            MetricDescriptor::histogram("h", "Help", HistogramSpec::classic([0.5, 1e6]));
        let gauge = MetricDescriptor::gauge("g", "").with_label("x", "1");
        let frame = pe_scrape::FrameBuilder::new(&[histogram, gauge])
            .unwrap()
            .row(LabelSet::empty(), &[1.0, 2.0, 3.0, 4.5, 7.0])
            .build();
        let blocks = [pe_scrape::exposition::Block::new(&frame)];
        let bytes = pe_scrape::exposition::encode(&blocks, pe_scrape::exposition::Format::Protobuf);
        let page = Page::read(&bytes, PageFormat::Protobuf, 100).unwrap();
        let given = (&bytes[..], PageFormat::Protobuf);
        let rules = Rules::default();
        let (layout, values) = Layout::build(&page, given, names(), &rules, &Dictionary::default());
        let lines = series_of(&layout, &values);
        assert!(
            lines.contains(&"h_bucket{le=\"1e+06\"} 3".to_owned()),
            "{lines:?}"
        );
        assert!(
            lines.contains(&"h_count 6".to_owned()) && lines.contains(&"g{x=\"1\"} 7".to_owned())
        );
        let mut again = Values::default();
        assert!(layout.fill_from(&page, &mut again));
        assert_eq!(again.values, values.values);
    }

    #[test]
    fn a_page_of_many_series_takes_time_in_proportion() {
        // Quadratic work on so many would take minutes.
        let mut text = String::from("# TYPE h histogram\n");
        for series in 0..20_000 {
            text.push_str(&format!(
                "a{{x=\"{series}\"}} 1\nh_sum{{y=\"{series}\"}} 2\n"
            ));
        }
        let page = Page::read(text.as_bytes(), TEXT, 200_000).unwrap();
        let bytes = (text.as_bytes(), TEXT);
        let rules = Rules::default();
        let (layout, _) = Layout::build(&page, bytes, names(), &rules, &Dictionary::default());
        assert_eq!(layout.counts().series, 40_000);
    }
}
