//! From a page to frames: what its series are called here, and where their values lie. No I/O.
//!
//! A [`Layout`] is made when a device is first seen, or when its page has other series than before: then the page is read whole,
//! labels and names are settled, and the layout keeps the page's text without the values. A page with the same text between its values
//! is compared with that, byte by byte, and only its numbers are read. Devices whose pages have the same text share a layout.
//!
//! What always holds:
//! - No two series of a layout have the same name and labels.
//! - A layout is of a page's text and of the names of the target's labels; it holds no value of these, so that targets can share it.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;
use std::sync::Arc;

use pe_scrape::{ABSENT, Columns, LabelSet};

use super::builder::Built;
use super::dictionary::Dictionary;
use super::page::{Page, PageFormat};
use super::rules::Rules;
use super::text::{Line, read_line, read_value};

/// No value of the layout.
pub(super) const NOWHERE: u32 = u32::MAX;

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
    pub(super) range: Range<usize>,
}

/// Cumulative buckets and the sum, in the order of the columns, and where the count lies.
#[derive(Debug)]
pub(super) struct Buckets {
    pub(super) first: usize,
    pub(super) buckets: usize,
    pub(super) count: usize,
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
    pub(super) values: Vec<f64>,
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
        let Built {
            parts,
            slots,
            width,
            histograms,
            counts,
        } = Built::of(page, &names, rules, dictionary);
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
pub(super) fn cumulative(buckets: &mut [f64], count: f64) -> bool {
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

/// The labels of a part's row.
#[must_use]
pub fn row_labels(target: &LabelSet, overrides: &[(Arc<str>, Arc<str>)]) -> Option<LabelSet> {
    let stands = |name: &str| overrides.iter().all(|(own, _)| **own != *name);
    let own = target.iter().filter(|label| stands(label.name()));
    let own = own.map(|label| (Arc::from(label.name()), Arc::from(label.value())));
    LabelSet::new(own.chain(overrides.iter().cloned())).ok()
}

#[cfg(test)]
mod tests {
    use pe_scrape::settings::Problems;
    use pe_scrape::{Filter, HistogramSpec, MetricDescriptor};

    use super::super::rules::Rename;
    use super::super::trial::series_of;
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
