//! A page of a device, read whole: its metric families and their samples. No I/O.
//!
//! Takes memory in proportion to the page, whose bytes and samples are bounded by whoever calls it. A sample that can be no series is
//! counted and left out; a line that cannot be read makes the page malformed, since nobody knows what else is wrong with it.

use std::borrow::Cow;
use std::collections::HashMap;

use pe_scrape::{is_label_name, is_metric_name};

use super::protobuf::{PageError, ProtoMetric, read_families};
use super::text::{Line, Malformed, TextSample, read_labels, read_line, unescape};

/// Labels of a series, at the most.
const MAX_LABELS: usize = 64;
/// Bytes of a metric's or label's name, at the most.
const MAX_NAME: usize = 1024;
/// Bytes of a label's value, at the most.
const MAX_VALUE: usize = 16 << 10;
/// Bytes of a help text that are kept.
const MAX_HELP: usize = 4 << 10;

/// The format of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageFormat {
    /// The Prometheus text format, or OpenMetrics with the flag.
    Text {
        /// Whether it is OpenMetrics: types are told of names without suffixes, and the page has an end.
        open_metrics: bool,
    },
    /// Length-delimited messages.
    Protobuf,
}

/// The type that a page tells of a family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PageKind {
    /// Goes up and down.
    Gauge,
    /// Goes up.
    Counter,
    /// With buckets.
    Histogram,
    /// With quantiles.
    Summary,
    /// Anything else.
    #[default]
    Untyped,
}

/// A page's metric families, in the order of their first mention.
#[derive(Debug, Default)]
pub struct Page<'a> {
    /// The families.
    pub families: Vec<PageFamily<'a>>,
    /// Samples, those that are left out included.
    pub samples: usize,
    /// Samples that can be no series: a name or label that is not allowed, a label twice, too many or too long ones.
    pub invalid: usize,
    /// Histograms of which only the native buckets are there.
    pub native: usize,
    /// Samples with a time stamp.
    pub with_time: usize,
}

/// A metric family of a page.
#[derive(Debug)]
pub struct PageFamily<'a> {
    /// Its name, as the type is told of it.
    pub name: &'a str,
    /// Its type.
    pub kind: PageKind,
    /// Its help text.
    pub help: Cow<'a, str>,
    /// Its samples.
    pub samples: Vec<PageSample<'a>>,
}

/// A sample of a page.
#[derive(Debug)]
pub struct PageSample<'a> {
    /// The name of the series.
    pub name: Cow<'a, str>,
    /// Labels, sorted by name, without empty ones.
    pub labels: Vec<(&'a str, Cow<'a, str>)>,
    /// The value.
    pub value: f64,
    /// Its number among the samples of the page.
    pub number: usize,
}

struct Builder<'a> {
    page: Page<'a>,
    by_name: HashMap<&'a str, usize>,
    max_samples: usize,
    open_metrics: bool,
}

impl<'a> Page<'a> {
    /// Reads a page of at most `max_samples` samples.
    ///
    /// # Errors
    /// [`PageError`] when it cannot be read, or has more.
    pub fn read(
        bytes: &'a [u8],
        format: PageFormat,
        max_samples: usize,
    ) -> Result<Self, PageError> {
        let mut builder = Builder {
            page: Page::default(),
            by_name: HashMap::new(),
            max_samples,
            open_metrics: format == PageFormat::Text { open_metrics: true },
        };
        match format {
            PageFormat::Text { .. } => {
                let text = std::str::from_utf8(bytes).map_err(|_| PageError::Utf8)?;
                builder.text(text)?;
            }
            PageFormat::Protobuf => read_families(bytes, |family, metric| {
                builder.metric(family.name, family.help, family.kind, metric)
            })?,
        }
        Ok(builder.page)
    }
}

impl<'a> Builder<'a> {
    fn text(&mut self, text: &'a str) -> Result<(), PageError> {
        let mut ended = false;
        for (index, line) in text.split('\n').enumerate() {
            let at = |Malformed(why)| PageError::Malformed(index + 1, why);
            let line = read_line(line).map_err(at)?;
            if ended && line != Line::Nothing {
                return Err(at(Malformed("a line behind the end")));
            }
            match line {
                Line::Nothing => {}
                Line::Eof => ended = self.open_metrics,
                Line::Help(name, help) => {
                    let help = match help.contains('\\') {
                        true => Cow::Owned(unescape(help)),
                        false => Cow::Borrowed(help),
                    };
                    let family = self.family(name);
                    family.help = cut(help);
                }
                Line::Type(name, word) => self.family(name).kind = kind(word),
                Line::Sample(sample) => self.sample(&sample).map_err(|error| match error {
                    PageError::Malformed(_, why) => at(Malformed(why)),
                    other => other,
                })?,
            }
        }
        match self.open_metrics && !ended {
            // A page that was cut off looks like a whole one else.
            true => Err(PageError::Malformed(
                text.matches('\n').count() + 1,
                "the end `# EOF` is missing",
            )),
            false => Ok(()),
        }
    }

    fn family(&mut self, name: &'a str) -> &mut PageFamily<'a> {
        let families = &mut self.page.families;
        let index = *self.by_name.entry(name).or_insert_with(|| {
            families.push(PageFamily {
                name,
                kind: PageKind::Untyped,
                help: Cow::Borrowed(""),
                samples: Vec::new(),
            });
            families.len() - 1
        });
        &mut families[index]
    }

    /// The name of the family that a series of the text formats belongs to.
    fn family_of(&self, name: &'a str) -> &'a str {
        let kind_of = |name: &str| {
            let index = self.by_name.get(name)?;
            Some(self.page.families[*index].kind)
        };
        if kind_of(name).is_some_and(|kind| kind != PageKind::Untyped) {
            return name;
        }
        let suffixes: &[(&str, &[PageKind])] = &[
            ("_bucket", &[PageKind::Histogram]),
            ("_sum", &[PageKind::Histogram, PageKind::Summary]),
            ("_count", &[PageKind::Histogram, PageKind::Summary]),
            ("_total", &[PageKind::Counter]),
        ];
        for (suffix, kinds) in suffixes {
            if let Some(stem) = name.strip_suffix(suffix)
                && kind_of(stem).is_some_and(|kind| kinds.contains(&kind))
                && (*suffix != "_total" || self.open_metrics)
            {
                return stem;
            }
        }
        name
    }

    /// Notes a sample; returns its number.
    fn count(&mut self, has_time: bool) -> Result<usize, PageError> {
        let number = self.page.samples;
        if number >= self.max_samples {
            return Err(PageError::TooManySeries(self.max_samples));
        }
        self.page.samples += 1;
        self.page.with_time += usize::from(has_time);
        Ok(number)
    }

    fn sample(&mut self, sample: &TextSample<'a>) -> Result<(), PageError> {
        let number = self.count(sample.has_time)?;
        let mut labels = Vec::new();
        let mut is_valid = is_name(sample.name);
        let read = read_labels(sample.labels, |(name, value)| match name {
            Some(name) if labels.len() < MAX_LABELS => labels.push((name, value)),
            _ => is_valid = false,
        });
        read.map_err(|Malformed(why)| PageError::Malformed(0, why))?;
        let Some(labels) = sound(labels).filter(|_| is_valid) else {
            self.page.invalid += 1;
            return Ok(());
        };
        let family = self.family_of(sample.name);
        self.family(family).samples.push(PageSample {
            name: Cow::Borrowed(sample.name),
            labels,
            value: sample.value,
            number,
        });
        Ok(())
    }

    fn metric(
        &mut self,
        name: &'a str,
        help: &'a str,
        kind: u64,
        metric: ProtoMetric<'a>,
    ) -> Result<(), PageError> {
        let kind = match kind {
            0 => PageKind::Counter,
            1 => PageKind::Gauge,
            2 => PageKind::Summary,
            4 => PageKind::Histogram,
            _ => PageKind::Untyped,
        };
        let parts = metric.parts.len() + 2;
        if self.page.samples + parts > self.max_samples {
            return Err(PageError::TooManySeries(self.max_samples));
        }
        let labels = metric.labels.into_iter().take(MAX_LABELS + 1);
        let labels = labels.map(|(name, value)| (name, Cow::Borrowed(value)));
        let labels = sound(labels.collect());
        let Some(labels) = labels.filter(|it| is_name(name) && it.len() <= MAX_LABELS) else {
            self.page.invalid += 1;
            self.page.samples += 1;
            return Ok(());
        };
        if metric.is_native {
            self.page.native += 1;
            if metric.parts.is_empty() {
                return Ok(());
            }
        }
        let family = self.family(name);
        (family.kind, family.help) = (kind, cut(Cow::Borrowed(help)));
        let first = self.page.samples;
        let mut all = Vec::with_capacity(parts);
        let mut push = |suffix: &str, part: Option<(&'static str, String)>, value: f64| {
            let mut labels = labels.clone();
            labels.extend(part.map(|(name, value)| (name, Cow::Owned(value))));
            labels.sort_by(|a, b| a.0.cmp(b.0));
            all.push(PageSample {
                name: match suffix {
                    "" => Cow::Borrowed(name),
                    suffix => Cow::Owned(format!("{name}{suffix}")),
                },
                labels,
                value,
                number: first + all.len(),
            });
        };
        match kind {
            PageKind::Histogram => {
                for (bound, count) in &metric.parts {
                    push("_bucket", Some(("le", go_float(*bound))), *count);
                }
                // The last bucket may be left out.
                if metric.parts.last().is_none_or(|last| last.0.is_finite()) {
                    let count = metric.count.unwrap_or_default();
                    push("_bucket", Some(("le", "+Inf".to_owned())), count);
                }
            }
            PageKind::Summary => {
                for (quantile, value) in &metric.parts {
                    push("", Some(("quantile", go_float(*quantile))), *value);
                }
            }
            _ => push("", None, metric.value.unwrap_or_default()),
        }
        if matches!(kind, PageKind::Histogram | PageKind::Summary) {
            push("_sum", None, metric.sum.unwrap_or_default());
            push("_count", None, metric.count.unwrap_or_default());
        }
        for _ in &all {
            self.count(metric.has_time)?;
        }
        self.family(name).samples.extend(all);
        Ok(())
    }
}

fn is_name(name: &str) -> bool {
    name.len() <= MAX_NAME && is_metric_name(name)
}

/// Labels sorted and without empty ones, if a series can have them.
fn sound<'a>(mut labels: Vec<(&'a str, Cow<'a, str>)>) -> Option<Vec<(&'a str, Cow<'a, str>)>> {
    labels.sort_by(|a, b| a.0.cmp(b.0));
    let twice = labels.windows(2).any(|pair| pair[0].0 == pair[1].0);
    labels.retain(|(_, value)| !value.is_empty());
    let fits = |(name, value): &(&str, Cow<'_, str>)| {
        is_label_name(name) && name.len() <= MAX_NAME && value.len() <= MAX_VALUE
    };
    (!twice && labels.iter().all(fits)).then_some(labels)
}

fn kind(word: &str) -> PageKind {
    match word {
        "counter" => PageKind::Counter,
        "gauge" | "info" | "stateset" => PageKind::Gauge,
        "histogram" => PageKind::Histogram,
        "summary" => PageKind::Summary,
        _ => PageKind::Untyped,
    }
}

/// A help text of a length that is kept.
fn cut(help: Cow<'_, str>) -> Cow<'_, str> {
    if help.len() <= MAX_HELP {
        return help;
    }
    let mut end = MAX_HELP;
    while !help.is_char_boundary(end) {
        end -= 1;
    }
    Cow::Owned(help[..end].to_owned())
}

/// A number as Go writes it, and so Prometheus in the labels `le` and `quantile`.
fn go_float(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    // `strconv.FormatFloat(value, 'g', -1, 64)`.
    if (-4..6).contains(&exponent) {
        return value.to_string();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: PageFormat = PageFormat::Text {
        open_metrics: false,
    };

    fn read(text: &str) -> Result<Page<'_>, PageError> {
        Page::read(text.as_bytes(), TEXT, 100)
    }

    #[test]
    fn samples_are_put_to_their_families() {
        let page = read(
            "# HELP h Times\n# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_sum 3\nh_count 2\n\
             # TYPE s summary\ns{quantile=\"0.5\"} 1\ns_sum 1\ns_count 1\nother 5 17\n",
        )
        .unwrap();
        let families = page.families.iter();
        let families: Vec<_> = families
            .map(|family| (family.name, family.kind, family.samples.len()))
            .collect();
        assert_eq!(
            families,
            [
                ("h", PageKind::Histogram, 4),
                ("s", PageKind::Summary, 3),
                ("other", PageKind::Untyped, 1)
            ]
        );
        assert_eq!((page.samples, page.with_time), (8, 1));
    }

    #[test]
    fn what_can_be_no_series_is_counted_and_left_out() {
        let page = read(
            "a{x=\"1\",x=\"2\"} 1\na{__x=\"1\"} 1\n{\"a.b\"} 1\na{\"c.d\"=\"1\"} 1\na{x=\"\"} 2\n",
        )
        .unwrap();
        assert_eq!((page.invalid, page.samples), (4, 5));
        assert!(page.families[0].samples[0].labels.is_empty());
        let long = format!("a{{x=\"{}\"}} 1\n", "y".repeat(MAX_VALUE + 1));
        assert_eq!(read(&long).unwrap().invalid, 1);
        let labels: Vec<String> = (0..65).map(|i| format!("l{i}=\"1\"")).collect();
        let many = format!("a{{{}}} 1\n", labels.join(","));
        assert_eq!(read(&many).unwrap().invalid, 1);
    }

    #[test]
    fn pages_that_cannot_be_read_say_why() {
        assert_eq!(
            read("a 1\n<html>\n").unwrap_err(),
            PageError::Malformed(2, "a name without a value")
        );
        let bytes = Page::read(b"a{x=\"\xff\"} 1\n", TEXT, 9);
        assert_eq!(bytes.unwrap_err(), PageError::Utf8);
        let three = Page::read(b"a 1\nb 1\nc 1\n", TEXT, 2);
        assert_eq!(three.unwrap_err(), PageError::TooManySeries(2));
        let open = PageFormat::Text { open_metrics: true };
        assert!(matches!(
            Page::read(b"a 1\n", open, 9),
            Err(PageError::Malformed(..))
        ));
        assert!(Page::read(b"a 1\n# EOF\n", open, 9).is_ok());
        assert!(Page::read(b"a 1\n# EOF\nb 1\n", open, 9).is_err());
    }

    #[test]
    fn counters_of_openmetrics_keep_the_names_of_their_series() {
        let open = PageFormat::Text { open_metrics: true };
        let text = b"# TYPE a counter\na_total 1\na_created 5\n# EOF\n";
        let page = Page::read(text, open, 9).unwrap();
        assert_eq!(page.families[0].kind, PageKind::Counter);
        assert_eq!(page.families[0].samples[0].name, "a_total");
        assert_eq!(page.families[1].name, "a_created");
    }

    #[test]
    fn numbers_are_written_as_go_does() {
        for (value, text) in [
            (0.005, "0.005"),
            (1.0, "1"),
            (1e6, "1e+06"),
            (1.5e21, "1.5e+21"),
            (2.5e-5, "2.5e-05"),
            (f64::INFINITY, "+Inf"),
        ] {
            assert_eq!(go_float(value), text);
        }
    }
}
