//! Which series a sink takes, or several sinks together. No I/O.

use std::collections::HashMap;
use std::sync::Arc;

use pe_scrape::{ABSENT, Filter, LabelSet, is_absent};

use super::stale::is_stale;
use super::work::{ShapeId, shape};
use crate::{NativeColumn, SampleBlock, SampleColumns, SampleMetric};

/// Most shapes of which is remembered what is taken.
const MOST_SHAPES: usize = 10_000;

/// The series that are taken by at least one of some filters.
#[derive(Debug, Clone)]
pub(crate) struct Selection {
    filters: Vec<Filter>,
    /// Whether native histograms are taken.
    pub(crate) with_natives: bool,
}

/// Whether the series of a column are taken.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Taken {
    All,
    None,
    /// Row by row.
    Rows(Vec<bool>),
}

/// Flat columns, and the records of those that are native histograms.
pub(crate) type Flat = (SampleColumns, Vec<NativeColumn>);

impl Default for Selection {
    fn default() -> Self {
        Self::new(Filter::default(), false)
    }
}

impl PartialEq for Selection {
    fn eq(&self, other: &Self) -> bool {
        let has_all = |one: &Self, of: &Self| of.filters.iter().all(|it| one.filters.contains(it));
        self.with_natives == other.with_natives && has_all(self, other) && has_all(other, self)
    }
}

impl Selection {
    pub(crate) fn new(filter: Filter, with_natives: bool) -> Self {
        Self {
            filters: vec![filter],
            with_natives,
        }
    }

    /// What is in this one or in the other.
    pub(crate) fn add(&mut self, other: &Self) {
        for filter in &other.filters {
            if !self.filters.contains(filter) {
                self.filters.push(filter.clone());
            }
        }
        self.with_natives |= other.with_natives;
    }

    /// Whether it takes all series but native histograms.
    pub(crate) fn takes_all(&self) -> bool {
        self.filters.iter().any(Filter::is_empty)
    }

    /// What it takes of each metric.
    pub(crate) fn of(&self, metrics: &[SampleMetric], rows: &[LabelSet]) -> Vec<Taken> {
        metrics
            .iter()
            .map(|metric| self.of_metric(metric, rows))
            .collect()
    }

    fn of_metric(&self, metric: &SampleMetric, rows: &[LabelSet]) -> Taken {
        if metric.is_native() && !self.with_natives {
            return Taken::None;
        }
        let by_name = |filter: &Filter| filter.takes_metric(&metric.name);
        if self.filters.iter().any(|it| by_name(it) == Some(true)) {
            return Taken::All;
        }
        let by_labels = self.filters.iter().filter(|it| by_name(it).is_none());
        let by_labels: Vec<&Filter> = by_labels.collect();
        if by_labels.is_empty() {
            return Taken::None;
        }
        let is_taken = |row: &LabelSet| {
            let label = |name: &str| metric.labels.get(name).or_else(|| row.get(name));
            by_labels.iter().any(|it| it.takes(&metric.name, label))
        };
        Taken::Rows(rows.iter().map(is_taken).collect())
    }
}

/// The flat columns without what is not taken.
pub(crate) fn without_others(taken: &[Taken], (columns, mut natives): Flat) -> Flat {
    if taken.iter().all(|taken| *taken == Taken::All) {
        return (columns, natives);
    }
    let is_left_out = |metric: usize| taken[metric] == Taken::None;
    natives.retain_mut(|native| {
        let before = (0..native.metric).filter(|metric| is_left_out(*metric));
        let (left_out, is_taken) = (before.count(), !is_left_out(native.metric));
        native.metric -= left_out;
        is_taken
    });
    let rows = columns.iter().next().map_or(0, <[f64]>::len);
    let mut left = SampleColumns::with_capacity(rows, columns.len());
    for (column, taken) in columns.iter().zip(taken) {
        let values = column.iter().copied();
        match taken {
            Taken::None => {}
            Taken::All => left.push(values),
            Taken::Rows(rows) => left.push(
                values
                    .zip(rows)
                    .map(|(value, is_taken)| if *is_taken { value } else { ABSENT }),
            ),
        }
    }
    (left, natives)
}

/// The metrics of which something is taken.
pub(crate) fn metrics_of(taken: &[Taken], metrics: &[SampleMetric]) -> Arc<[SampleMetric]> {
    let metrics = metrics.iter().zip(taken);
    let metrics = metrics.filter(|(_, taken)| **taken != Taken::None);
    metrics.map(|(metric, _)| metric.clone()).collect()
}

/// Takes out of queued blocks what one sink wants.
#[derive(Debug)]
pub(crate) struct Reduce {
    selection: Selection,
    known: HashMap<ShapeId, Reduced>,
}

/// What is taken of a shape.
#[derive(Debug)]
struct Reduced {
    taken: Vec<Taken>,
    metrics: Arc<[SampleMetric]>,
    /// Kept so that their addresses stay theirs.
    _whole: (Arc<[SampleMetric]>, Arc<[LabelSet]>),
}

impl Reduce {
    pub(crate) fn to(selection: Selection) -> Self {
        Self {
            selection,
            known: HashMap::new(),
        }
    }

    /// What the sink wants of a block; `None` for nothing. With `all_markers`, markers are taken of all series.
    pub(crate) fn reduce(
        &mut self,
        block: Arc<SampleBlock>,
        all_markers: bool,
    ) -> Option<Arc<SampleBlock>> {
        let selection = &self.selection;
        let has_natives = || block.metrics.iter().any(SampleMetric::is_native);
        if selection.takes_all() && (selection.with_natives || !has_natives()) {
            return Some(block);
        }
        if all_markers && has_markers_only(&block) {
            return Some(block);
        }
        if self.known.len() >= MOST_SHAPES {
            self.known.clear();
        }
        let reduced = self.known.entry(shape(&block)).or_insert_with(|| {
            let taken = selection.of(&block.metrics, &block.rows);
            let is_all = taken.iter().all(|taken| *taken == Taken::All);
            let metrics = match is_all {
                true => block.metrics.clone(),
                false => metrics_of(&taken, &block.metrics),
            };
            Reduced {
                taken,
                metrics,
                _whole: (block.metrics.clone(), block.rows.clone()),
            }
        });
        if reduced.taken.iter().all(|taken| *taken == Taken::All) {
            return Some(block);
        }
        if reduced.metrics.is_empty() {
            return None;
        }
        let mut block = Arc::unwrap_or_clone(block);
        let (columns, natives) = (block.columns, block.natives);
        (block.columns, block.natives) = without_others(&reduced.taken, (columns, natives));
        block.metrics = reduced.metrics.clone();
        let mut values = block.columns.values().iter();
        let has_values = values.any(|value| !is_absent(*value));
        has_values.then(|| Arc::new(block))
    }
}

fn has_markers_only(block: &SampleBlock) -> bool {
    let mut values = block.columns.values().iter();
    values.all(|value| is_absent(*value) || is_stale(*value))
}

#[cfg(test)]
mod tests {
    use pe_scrape::settings::Problems;

    use super::*;
    use crate::remote_write::stale::STALE;
    use crate::remote_write::testing::{block, metric, series};

    fn keeping(patterns: &[&str]) -> Selection {
        let keep: Vec<String> = patterns.iter().map(ToString::to_string).collect();
        Selection::new(Filter::new(&keep, &[], &mut Problems::default()), false)
    }

    fn sample() -> Arc<SampleBlock> {
        let rows: [&[(&str, &str)]; 2] = [&[("device", "x")], &[("device", "y")]];
        let metrics = [metric("a", &[]), metric("b", &[])];
        block(&metrics, &rows, &[&[1.0, 2.0], &[3.0, 4.0]], 10)
    }

    #[test]
    fn what_one_of_several_takes_is_stored_and_each_reads_its_own() {
        let (one, other) = (keeping(&["a{device=x}"]), keeping(&["b"]));
        let mut both = one.clone();
        both.add(&other);
        let mut backwards = other.clone();
        backwards.add(&one);
        assert_eq!(both, backwards);
        assert_ne!(both, one);
        let stored = Reduce::to(both).reduce(sample(), false).unwrap();
        assert_eq!(
            series(&[(*stored).clone()]),
            ["a x 1@10", "b x 3@10", "b y 4@10"]
        );
        let read = |selection| Reduce::to(selection).reduce(stored.clone(), false);
        assert_eq!(series(&[(*read(one).unwrap()).clone()]), ["a x 1@10"]);
        let read_by_other = read(other).unwrap();
        assert_eq!(
            series(&[(*read_by_other).clone()]),
            ["b x 3@10", "b y 4@10"]
        );
        assert!(read(keeping(&["c"])).is_none() && read(keeping(&["a{device=y}"])).is_none());
        let all = read(Selection::default()).unwrap();
        assert!(Arc::ptr_eq(&all, &stored));
    }

    #[test]
    fn blocks_of_one_shape_stay_of_one_shape() {
        let mut reduce = Reduce::to(keeping(&["b"]));
        let first = sample();
        let mut second = SampleBlock::clone(&first);
        second.time.wall_ms = 20;
        let [first, second] = [first, Arc::new(second)].map(|it| reduce.reduce(it, false).unwrap());
        assert_eq!(shape(&first), shape(&second));
    }

    #[test]
    fn a_sink_that_is_alone_gets_the_markers_of_what_it_takes_no_more() {
        let mut markers = SampleBlock::clone(&sample());
        markers.columns = [[STALE, ABSENT]; 2].into_iter().collect();
        let markers = Arc::new(markers);
        let mut reduce = Reduce::to(keeping(&["b"]));
        let reduced = |block: Option<Arc<SampleBlock>>| series(&[(*block.unwrap()).clone()]);
        let alone = reduced(reduce.reduce(markers.clone(), true));
        assert_eq!(alone, ["a x stale@10", "b x stale@10"]);
        assert_eq!(reduced(reduce.reduce(markers, false)), ["b x stale@10"]);
    }
}
