//! What a crate counts about itself: one way to declare it, beside the code that counts.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::{ABSENT, Columns, Frame, FrameBuilder, LabelSet};

/// A number that only goes up.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Adds `n` without an atomic addition, which costs less: right only while a single thread writes.
    #[inline]
    pub fn add_unshared(&self, n: u64) {
        self.0.store(self.get() + n, Ordering::Relaxed);
    }

    /// Takes over a sum that is counted elsewhere. A smaller one changes nothing.
    pub fn raise_to(&self, sum: u64) {
        self.0.fetch_max(sum, Ordering::Relaxed);
    }

    /// The sum so far.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that may go up and down, absent until it is set.
#[derive(Debug)]
pub struct Gauge(AtomicU64);

impl Default for Gauge {
    fn default() -> Self {
        Self(AtomicU64::new(ABSENT.to_bits()))
    }
}

impl Gauge {
    /// Sets the value.
    pub fn set(&self, value: f64) {
        self.0.store(value.to_bits(), Ordering::Relaxed);
    }

    /// The value; [`ABSENT`] while there is none.
    #[must_use]
    pub fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }
}

/// Counters told apart by the value of one label.
#[derive(Debug, Default)]
pub struct Counters(Mutex<BTreeMap<Arc<str>, Arc<Counter>>>);

impl Counters {
    /// The counter for a value of the label. It exists from the first call on.
    pub fn of(&self, value: &str) -> Arc<Counter> {
        entry(&self.0, value)
    }

    #[doc(hidden)]
    pub fn values(&self) -> Vec<(Arc<str>, f64)> {
        values(&self.0, |counter| counter.get() as f64)
    }
}

/// Gauges told apart by the value of one label.
#[derive(Debug, Default)]
pub struct Gauges(Mutex<BTreeMap<Arc<str>, Arc<Gauge>>>);

impl Gauges {
    /// The gauge for a value of the label. It exists from the first call on.
    pub fn of(&self, value: &str) -> Arc<Gauge> {
        entry(&self.0, value)
    }

    #[doc(hidden)]
    pub fn values(&self) -> Vec<(Arc<str>, f64)> {
        values(&self.0, Gauge::get)
    }
}

fn entry<T: Default>(all: &Mutex<BTreeMap<Arc<str>, Arc<T>>>, value: &str) -> Arc<T> {
    let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = all.get(value) {
        return known.clone();
    }
    all.entry(value.into()).or_default().clone()
}

fn values<T>(
    all: &Mutex<BTreeMap<Arc<str>, Arc<T>>>,
    get: impl Fn(&T) -> f64,
) -> Vec<(Arc<str>, f64)> {
    let all = all.lock().unwrap_or_else(PoisonError::into_inner);
    all.iter()
        .map(|(value, metric)| (value.clone(), get(metric)))
        .collect()
}

/// Seconds since 1970, for gauges that hold a time.
#[must_use]
pub fn unix_seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs_f64()
}

/// A frame of one row.
#[doc(hidden)]
pub fn single(columns: &Arc<Columns>, values: &[f64]) -> Frame {
    FrameBuilder::with_columns(columns.clone())
        .row(LabelSet::empty(), values)
        .build()
}

/// A frame with a row for each value of a label.
#[doc(hidden)]
pub fn labelled(
    columns: &Arc<Columns>,
    label: &'static str,
    values: Vec<(Arc<str>, f64)>,
) -> Frame {
    let rows = values.into_iter();
    let frame = rows.fold(
        FrameBuilder::with_columns(columns.clone()),
        |frame, (value, number)| {
            let labels = LabelSet::new([(label, value)]).expect("the label's name is a literal");
            frame.row(labels, &[number])
        },
    );
    frame.build()
}

/// Declares a struct of metrics that a crate keeps about itself.
///
/// Each line is a metric: documentation, field, kind, and in brackets its name, its HELP text and perhaps its unit. The kinds
/// are `counter`, `gauge`, and `counters["label"]` and `gauges["label"]` for those told apart by a label. The struct is
/// filled through its fields, each a [`Counter`], [`Gauge`], [`Counters`] or [`Gauges`], and
/// `frames()` gives its values. A test that a declaration is sound comes with it.
///
/// ```
/// pe_scrape::metrics! {
///     /// What a cache counts.
///     pub struct CacheMetrics {
///         /// Lookups by result.
///         lookups: counters["result"]("pingexporter_lookups_total", "Lookups by result"),
///         /// Entries.
///         entries: gauge("pingexporter_cache_entries", "Names that are known"),
///     }
/// }
/// let metrics = CacheMetrics::default();
/// metrics.lookups.of("found").add(2);
/// metrics.entries.set(1.0);
/// let values: Vec<_> = metrics.frames().iter().map(|frame| frame.rows().len()).collect();
/// assert_eq!(values, [1, 1]);
/// ```
///
/// A struct of plain counters may have a second one, of the numbers at a moment, which can be added up: see the last lines of
/// this example.
///
/// ```
/// pe_scrape::metrics! {
///     /// What a socket counts.
///     pub struct SocketMetrics {
///         /// Packets sent.
///         sent: counter("pingexporter_packets_sent_total", "Packets sent"),
///     }
///     /// What sockets have counted.
///     pub struct SocketCounts = snapshot;
/// }
/// let socket = SocketMetrics::default();
/// socket.sent.add(2);
/// assert_eq!((socket.snapshot() + socket.snapshot()).sent, 4);
/// ```
#[macro_export]
macro_rules! metrics {
    ($(#[doc = $about:literal])+ $vis:vis struct $name:ident { $(
        $(#[doc = $doc:literal])+
        $field:ident: counter ($metric:literal, $help:literal),
    )+ }
    $(#[doc = $summary:literal])+ $public:vis struct $snapshot:ident = snapshot;) => {
        $crate::metrics! {
            $(#[doc = $about])+
            $vis struct $name { $($(#[doc = $doc])+ $field: counter($metric, $help),)+ }
        }

        $(#[doc = $summary])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        #[non_exhaustive]
        $public struct $snapshot { $($(#[doc = $doc])+ pub $field: u64,)+ }

        impl $name {
            /// The numbers now.
            $vis fn snapshot(&self) -> $snapshot {
                $snapshot { $($field: self.$field.get(),)+ }
            }
        }

        impl $snapshot {
            /// The numbers, as frames.
            #[must_use]
            $public fn frames(&self) -> ::std::vec::Vec<$crate::Frame> {
                let counters = $name::default();
                $(counters.$field.add(self.$field);)+
                counters.frames()
            }
        }

        impl ::std::ops::Add for $snapshot {
            type Output = Self;

            fn add(self, other: Self) -> Self {
                Self { $($field: self.$field + other.$field,)+ }
            }
        }
    };
    ($(#[doc = $about:literal])+ $vis:vis struct $name:ident { $(
        $(#[doc = $doc:literal])+
        $field:ident: $kind:ident $([$label:literal])? ($metric:literal, $help:literal $(, $unit:ident)?),
    )+ }) => {
        $(#[doc = $about])+
        #[derive(Debug, Default)]
        $vis struct $name { $($(#[doc = $doc])+ $vis $field: $crate::metric_type!($kind),)+ }

        impl $name {
            /// The values, as frames.
            $vis fn frames(&self) -> ::std::vec::Vec<$crate::Frame> {
                let mut frames = ::std::vec::Vec::new();
                $($crate::metric_frame!(frames, self.$field, $kind, $($label)?, $metric, $help, [$($unit)?]);)+
                frames
            }
        }
    };
}

/// The type of a field of [`metrics!`](macro@crate::metrics).
#[doc(hidden)]
#[macro_export]
macro_rules! metric_type {
    (counter) => {
        $crate::Counter
    };
    (gauge) => {
        $crate::Gauge
    };
    (counters) => {
        $crate::Counters
    };
    (gauges) => {
        $crate::Gauges
    };
}

/// The frame of a field of [`metrics!`](macro@crate::metrics).
#[doc(hidden)]
#[macro_export]
macro_rules! metric_frame {
    (@columns $descriptor:ident, $metric:literal, $help:literal, [$($unit:ident)?]) => {{
        static COLUMNS: ::std::sync::LazyLock<::std::sync::Arc<$crate::Columns>> =
            ::std::sync::LazyLock::new(|| {
                let descriptor = $crate::MetricDescriptor::$descriptor($metric, $help)
                    $(.with_unit($crate::Unit::$unit))?;
                $crate::Columns::new(&[descriptor]).expect("the name is a literal and valid")
            });
        &*COLUMNS
    }};
    ($frames:ident, $field:expr, counter, , $metric:literal, $help:literal, $unit:tt) => {
        let columns = $crate::metric_frame!(@columns counter, $metric, $help, $unit);
        $frames.push($crate::single_metric(columns, &[$field.get() as f64]));
    };
    ($frames:ident, $field:expr, gauge, , $metric:literal, $help:literal, $unit:tt) => {
        let columns = $crate::metric_frame!(@columns gauge, $metric, $help, $unit);
        $frames.push($crate::single_metric(columns, &[$field.get()]));
    };
    ($frames:ident, $field:expr, counters, $label:literal, $metric:literal, $help:literal, $unit:tt) => {
        let columns = $crate::metric_frame!(@columns counter, $metric, $help, $unit);
        $frames.push($crate::labelled_metric(columns, $label, $field.values()));
    };
    ($frames:ident, $field:expr, gauges, $label:literal, $metric:literal, $help:literal, $unit:tt) => {
        let columns = $crate::metric_frame!(@columns gauge, $metric, $help, $unit);
        $frames.push($crate::labelled_metric(columns, $label, $field.values()));
    };
}

#[cfg(test)]
mod tests {
    use crate::exposition::{Block, Format, encode};

    crate::metrics! {
        /// Metrics of a test.
        struct Sample {
            /// A counter.
            plain: counter("pingexporter_plain_total", "Plain"),
            /// A gauge with a unit.
            size: gauge("pingexporter_size_bytes", "Size", Bytes),
            /// Counters.
            results: counters["result"]("pingexporter_results_total", "Results"),
            /// Gauges.
            levels: gauges["queue"]("pingexporter_level", "Level"),
        }
    }

    #[test]
    fn declared_metrics_are_shown() {
        let sample = Sample::default();
        sample.plain.add(2);
        sample.plain.add_unshared(1);
        sample.results.of("good").add(5);
        sample.levels.of("a").set(0.5);
        let show = || {
            let frames = sample.frames();
            let blocks: Vec<_> = frames.iter().map(Block::new).collect();
            let text = String::from_utf8(encode(&blocks, Format::Text)).unwrap();
            let lines = text.lines().filter(|line| !line.starts_with('#'));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        let expected = [
            "pingexporter_plain_total 3",
            "pingexporter_results_total{result=\"good\"} 5",
            "pingexporter_level{queue=\"a\"} 0.5",
        ];
        assert_eq!(show(), expected);
        sample.size.set(7.0);
        assert_eq!(show()[1], "pingexporter_size_bytes 7");
    }
}
