//! What waits to be sent of some blocks, and how it is cut when it is refused. No I/O; takes every time as an argument.
//!
//! Blocks of one shape become one part, so that a series' samples are together and in order of time. Parts share no series, so
//! requests made of them may leave in any order and at the same time. That is why [`Window`] takes no block whose series are in
//! a part of another shape, as happens after a reload.
//!
//! A refused request is cut in two: by time while it holds several times, then by series. Of two halves by time the older one
//! goes first, and is dropped when it is refused, since what a receiver refuses for its time are the older samples. A series that
//! is refused alone is the culprit.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::wire::Part;
use crate::{SampleBlock, SampleColumns};

/// Requests that may be sent within [`SPLIT_PERIOD`] to find out which samples of a request are refused.
const SPLITS: usize = 60;
const SPLIT_PERIOD: Duration = Duration::from_secs(60);

/// Blocks that are sent together.
#[derive(Debug, Default)]
pub(crate) struct Window {
    shapes: Vec<Vec<Arc<SampleBlock>>>,
    /// Cells of all blocks, with those that are absent.
    cells: usize,
}

/// Which shapes have series in common. Where finding out takes a walk over many rows and metrics, it is remembered.
#[derive(Debug, Default)]
pub(crate) struct Overlaps {
    /// With the blocks, so that their addresses stay theirs.
    known: HashMap<[ShapeId; 2], (bool, [Arc<SampleBlock>; 2])>,
}

/// Pairs of shapes that are remembered.
const MOST_OVERLAPS: usize = 256;

/// How dear the comparison of two shapes must be to be remembered: those of single devices, each with metrics of its own, are many.
const DEAR: usize = 10_000;

impl Window {
    pub(crate) fn cells(&self) -> usize {
        self.cells
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.shapes.is_empty()
    }

    /// Most blocks of one shape.
    pub(crate) fn depth(&self) -> usize {
        self.shapes.iter().map(Vec::len).max().unwrap_or(0)
    }

    /// Whether there is a block of the shape of this one.
    pub(crate) fn has_shape_of(&self, block: &SampleBlock) -> bool {
        self.shapes.iter().any(|shape| is_alike(&shape[0], block))
    }

    /// Takes a block in, or gives it back when its series must wait until this window has been sent.
    pub(crate) fn add(
        &mut self,
        block: Arc<SampleBlock>,
        overlaps: &mut Overlaps,
    ) -> Result<(), Arc<SampleBlock>> {
        let cells = block.rows.len() * block.metrics.len();
        if let Some(shape) = self
            .shapes
            .iter_mut()
            .find(|shape| is_alike(&shape[0], &block))
        {
            shape.push(block);
        } else if self
            .shapes
            .iter()
            .any(|shape| overlaps.of(&shape[0], &block))
        {
            return Err(block);
        } else {
            self.shapes.push(vec![block]);
        }
        self.cells += cells;
        Ok(())
    }

    /// The parts, each with all its series and in order of time.
    pub(crate) fn into_parts(self) -> VecDeque<Part> {
        let shapes = self.shapes.into_iter();
        shapes
            .map(|mut blocks| {
                blocks.sort_by_key(|block| block.time.wall_ms);
                Part::whole(blocks)
            })
            .collect()
    }
}

/// Whether two blocks are of one shape.
fn is_alike(a: &SampleBlock, b: &SampleBlock) -> bool {
    // Rows first: those of different devices differ at once, and their metrics may be the same.
    shape(a) == shape(b) || (a.rows == b.rows && a.metrics == b.metrics)
}

/// What tells shapes apart whose labels are shared: their addresses.
pub(crate) type ShapeId = (usize, usize);

pub(crate) fn shape(block: &SampleBlock) -> ShapeId {
    (block.metrics.as_ptr().addr(), block.rows.as_ptr().addr())
}

/// The block without values, whose labels stay where they are.
pub(crate) fn labels_of(block: &SampleBlock) -> Arc<SampleBlock> {
    Arc::new(SampleBlock {
        time: block.time,
        metrics: block.metrics.clone(),
        rows: block.rows.clone(),
        columns: SampleColumns::default(),
        natives: Vec::new(),
    })
}

impl Overlaps {
    fn of(&mut self, a: &Arc<SampleBlock>, b: &Arc<SampleBlock>) -> bool {
        let rows = cost(&a.rows, &b.rows);
        let metrics = cost(&a.metrics, &b.metrics);
        let overlap = || match rows < metrics {
            true => have_rows_in_common(a, b) && have_metrics_in_common(a, b),
            false => have_metrics_in_common(a, b) && have_rows_in_common(a, b),
        };
        if rows.min(metrics) < DEAR {
            return overlap();
        }
        let key = [shape(a), shape(b)];
        if let Some((overlap, _)) = self.known.get(&key) {
            return *overlap;
        }
        let overlap = overlap();
        if self.known.len() >= MOST_OVERLAPS {
            self.known.clear();
        }
        self.known
            .insert(key, (overlap, [labels_of(a), labels_of(b)]));
        overlap
    }
}

/// What it takes to find out whether two lists have an entry in common.
fn cost<T>(a: &[T], b: &[T]) -> usize {
    a.len() + b.len()
}

fn have_metrics_in_common(a: &SampleBlock, b: &SampleBlock) -> bool {
    have_in_common(&a.metrics, &b.metrics, |it| (&it.name, &it.labels))
}

fn have_rows_in_common(a: &SampleBlock, b: &SampleBlock) -> bool {
    have_in_common(&a.rows, &b.rows, |row| row)
}

/// Whether an entry of `a` and one of `b` have the same key.
fn have_in_common<'e, T, K: Eq + Hash>(a: &'e [T], b: &'e [T], key: impl Fn(&'e T) -> K) -> bool {
    let (few, many) = if a.len() < b.len() { (a, b) } else { (b, a) };
    if few.len() <= 1 {
        return few
            .iter()
            .any(|one| many.iter().any(|other| key(one) == key(other)));
    }
    let few: HashSet<K> = few.iter().map(&key).collect();
    many.iter().any(|entry| few.contains(&key(entry)))
}

/// Some parts, and what is known of them.
#[derive(Debug)]
pub(crate) struct Work {
    pub(crate) parts: VecDeque<Part>,
    pub(crate) kind: WorkKind,
}

/// Why parts are sent the way they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WorkKind {
    /// For the first time, together with others.
    First,
    /// The older half of what was refused: alone, and not again if it is refused.
    Older,
    /// Another piece of what was refused: alone.
    Piece,
    /// For the first time, yet the receiver may have it already: one block of a shape at a time.
    Doubted,
    /// A block of what was refused, which the receiver may have already: alone.
    DoubtedPiece,
    /// The halves, by series, of a doubted request that was refused: alone. Where both are refused, the receiver has them.
    DoubtedHalf(Half),
}

/// One of the two halves of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Half {
    First,
    Second,
}

impl WorkKind {
    /// Whether it goes together with others.
    pub(crate) fn is_together(self) -> bool {
        matches!(self, Self::First | Self::Doubted)
    }

    /// Whether it may only be there already, or be refused for what it is.
    pub(crate) fn is_doubted(self) -> bool {
        matches!(
            self,
            Self::Doubted | Self::DoubtedPiece | Self::DoubtedHalf(_)
        )
    }
}

/// What a refused request is cut into.
#[derive(Debug)]
pub(crate) enum Cut {
    /// Two pieces, to be sent in this order.
    Pieces([Work; 2]),
    /// It cannot be cut: this series of this part is refused.
    Culprit(Part),
}

/// Cuts what was refused. There must be a series in it.
pub(crate) fn cut(parts: Vec<Part>) -> Cut {
    let times: BTreeSet<i64> = parts
        .iter()
        .flat_map(|part| part.blocks.iter().map(|block| block.time.wall_ms))
        .collect();
    if let Some(middle) = times
        .iter()
        .nth(times.len() / 2)
        .filter(|_| times.len() > 1)
    {
        let half = |is_older: bool| {
            let halves = parts.iter().map(|part| Part {
                blocks: (part.blocks.iter())
                    .filter(|block| (block.time.wall_ms < *middle) == is_older)
                    .cloned()
                    .collect(),
                series: part.series.clone(),
            });
            halves.filter(|part| !part.blocks.is_empty()).collect()
        };
        return Cut::Pieces([
            Work {
                parts: half(true),
                kind: WorkKind::Older,
            },
            Work {
                parts: half(false),
                kind: WorkKind::Piece,
            },
        ]);
    }
    by_series(parts)
}

/// What was refused, one block at a time, oldest first.
pub(crate) fn single_blocks(parts: Vec<Part>) -> Vec<Work> {
    let mut blocks: Vec<Part> = parts
        .into_iter()
        .flat_map(|part| {
            let alone = |block: &Arc<SampleBlock>| Part {
                blocks: [block.clone()].into(),
                series: part.series.clone(),
            };
            part.blocks.iter().map(alone).collect::<Vec<_>>()
        })
        .collect();
    blocks.sort_by_key(|part| part.blocks[0].time.wall_ms);
    let work = |part| Work {
        parts: [part].into(),
        kind: WorkKind::DoubtedPiece,
    };
    blocks.into_iter().map(work).collect()
}

/// Cuts a doubted request that was refused. There must be a series in it.
pub(crate) fn cut_doubted(parts: Vec<Part>) -> Cut {
    let mut cut = by_series(parts);
    if let Cut::Pieces([first, second]) = &mut cut {
        first.kind = WorkKind::DoubtedHalf(Half::First);
        second.kind = WorkKind::DoubtedHalf(Half::Second);
    }
    cut
}

fn by_series(parts: Vec<Part>) -> Cut {
    let total: usize = parts.iter().map(|part| part.series.len()).sum();
    let mut rest = VecDeque::from(parts);
    if total <= 1 {
        let part = rest.pop_front().unwrap_or_else(|| Part::whole([]));
        return Cut::Culprit(part);
    }
    let mut first = VecDeque::new();
    let mut missing = total / 2;
    while missing > 0
        && let Some(mut part) = rest.pop_front()
    {
        let length = part.series.len();
        if length <= missing {
            missing -= length;
            first.push_back(part);
            continue;
        }
        let middle = part.series.start + missing;
        first.push_back(Part {
            blocks: part.blocks.clone(),
            series: part.series.start..middle,
        });
        part.series.start = middle;
        rest.push_front(part);
        missing = 0;
    }
    let [first, second] = [first, rest].map(|parts| Work {
        parts,
        kind: WorkKind::Piece,
    });
    Cut::Pieces([first, second])
}

/// How many requests may still be spent on finding culprits.
#[derive(Debug, Default)]
pub(crate) struct SplitBudget(VecDeque<Instant>);

impl SplitBudget {
    /// Takes one request out, if there is one.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        while let Some(first) = self.0.front()
            && now.duration_since(*first) >= SPLIT_PERIOD
        {
            self.0.pop_front();
        }
        let is_free = self.0.len() < SPLITS;
        if is_free {
            self.0.push_back(now);
        }
        is_free
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remote_write::testing::{block, metric};

    fn plain(name: &str, device: &[&str], time: i64) -> Arc<SampleBlock> {
        let pairs: Vec<[(&str, &str); 1]> = device.iter().map(|it| [("device", *it)]).collect();
        let rows: Vec<&[(&str, &str)]> = pairs.iter().map(|it| &it[..]).collect();
        let values = vec![1.0; device.len()];
        block(&[metric(name, &[])], &rows, &[&values], time)
    }

    fn at(time: i64, of: &Arc<SampleBlock>) -> Arc<SampleBlock> {
        let mut block = SampleBlock::clone(of);
        block.time.wall_ms = time;
        Arc::new(block)
    }

    #[test]
    fn blocks_of_one_shape_become_one_part_in_order_of_time() {
        let (mut window, mut overlaps) = (Window::default(), Overlaps::default());
        let (a, b) = (plain("a", &["x"], 5), plain("b", &["x"], 5));
        for block in [at(20, &a), b.clone(), at(10, &a)] {
            window.add(block, &mut overlaps).unwrap();
        }
        assert_eq!(window.cells(), 3);
        let parts = window.into_parts();
        let times: Vec<Vec<i64>> = parts
            .iter()
            .map(|part| part.blocks.iter().map(|block| block.time.wall_ms).collect())
            .collect();
        assert_eq!(times, [vec![10, 20], vec![5]]);
    }

    #[test]
    fn a_series_of_another_shape_waits_for_the_next_window() {
        let (mut window, mut overlaps) = (Window::default(), Overlaps::default());
        window
            .add(plain("a", &["x", "y"], 1), &mut overlaps)
            .unwrap();
        window.add(plain("a", &["z"], 1), &mut overlaps).unwrap();
        window
            .add(plain("b", &["x", "y"], 1), &mut overlaps)
            .unwrap();
        let more = plain("a", &["y", "new"], 2);
        assert!(window.add(more.clone(), &mut overlaps).is_err());
        assert!(window.add(more, &mut overlaps).is_err());
        // Equal labels are one shape, wherever they were read.
        window.add(plain("a", &["z"], 2), &mut overlaps).unwrap();
    }

    #[test]
    fn what_is_refused_is_cut_by_time_then_by_series() {
        let devices = ["1", "2", "3", "4", "5"];
        let first = plain("a", &devices, 10);
        let part = Part::whole([first.clone(), at(20, &first), at(30, &first)]);
        let Cut::Pieces([older, newer]) = cut(vec![part]) else {
            panic!("it has three times")
        };
        assert_eq!((older.kind, newer.kind), (WorkKind::Older, WorkKind::Piece));
        let times = |work: &Work| -> Vec<i64> {
            (work.parts[0].blocks.iter())
                .map(|block| block.time.wall_ms)
                .collect()
        };
        assert_eq!((times(&older), times(&newer)), (vec![10], vec![20, 30]));

        // All series are found, each once, however they are cut.
        let mut culprits = Vec::new();
        let mut pieces = vec![
            Vec::from(older.parts),
            vec![Part::whole([plain("b", &["6"], 10)])],
        ];
        let together = pieces.drain(..).flatten().collect();
        let mut work = vec![together];
        while let Some(parts) = work.pop() {
            match cut(parts) {
                Cut::Culprit(part) => {
                    let (row, metric) = part.series(part.series.start);
                    culprits.push(format!("{} {}", metric.name, row.get("device").unwrap()));
                }
                Cut::Pieces(pieces) => {
                    work.extend(pieces.map(|piece| Vec::from(piece.parts)));
                }
            }
        }
        culprits.sort();
        assert_eq!(culprits, ["a 1", "a 2", "a 3", "a 4", "a 5", "b 6"]);
    }

    #[test]
    fn sixty_requests_a_minute_are_spent_on_finding_culprits() {
        let mut budget = SplitBudget::default();
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        assert!((0..60).all(|second| budget.take(at(second))));
        assert!(!budget.take(at(59)));
        assert!(budget.take(at(60)) && !budget.take(at(60)));
        assert!(budget.take(at(61)));
    }

    #[test]
    fn series_in_common_are_found_whichever_of_rows_and_metrics_are_fewer() {
        let block = |rows: &[String], names: &[&str]| {
            let pairs: Vec<_> = rows.iter().map(|row| [("device", &**row)]).collect();
            let rows: Vec<&[(&str, &str)]> = pairs.iter().map(|it| &it[..]).collect();
            let metrics: Vec<_> = names.iter().map(|name| metric(name, &[])).collect();
            block(&metrics, &rows, &[], 1)
        };
        let one = |row: &str, names: &[&str]| block(&[row.to_owned()], names);
        let rows: Vec<String> = (0..20_000).map(|row| row.to_string()).collect();
        let many = |names: &[&str]| block(&rows, names);
        let mut overlaps = Overlaps::default();
        for (a, b, expected) in [
            (one("r1", &["a", "b"]), one("r2", &["a", "b"]), false),
            (one("r1", &["a", "b"]), one("r1", &["c", "b"]), true),
            (one("r1", &["a", "b"]), one("r1", &["c"]), false),
            (many(&["x", "y"]), one("19999", &["a", "x"]), true),
            (many(&["z", "y"]), one("19999", &["a", "x"]), false),
            (many(&["x", "y"]), one("20000", &["a", "x"]), false),
            (many(&["x"]), many(&["y", "x"]), true),
            (many(&["x"]), many(&["y"]), false),
        ] {
            assert_eq!(
                overlaps.of(&a, &b),
                expected,
                "{:?} {:?}",
                a.metrics,
                b.metrics
            );
            assert_eq!(
                overlaps.of(&b, &a),
                expected,
                "{:?} {:?}",
                b.metrics,
                a.metrics
            );
        }
    }
}
