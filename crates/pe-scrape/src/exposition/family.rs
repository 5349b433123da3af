//! Series of many frames, gathered by metric name.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};

use super::Block;
use crate::{Cell, LabelSet, MetricDescriptor};

/// All series of one metric name.
pub struct MetricFamily<'a> {
    pub(super) descriptor: &'a MetricDescriptor,
    members: Vec<(&'a Block<'a>, usize)>,
    /// The block that first came with each set of labels.
    sources: HashMap<&'a LabelSet, *const Block<'a>>,
    /// Whether two members may hold the same series.
    overlapping: bool,
}

/// One series: its labels in three parts, and its value.
pub struct Series<'a> {
    row: &'a LabelSet,
    descriptor: &'a MetricDescriptor,
    extra: &'a LabelSet,
    pub(super) cell: Cell<'a>,
}

impl<'a> Series<'a> {
    /// The series' value.
    #[must_use]
    pub fn cell(&self) -> Cell<'a> {
        self.cell
    }

    /// Names and values: the block's labels, then the row's, then the descriptor's.
    pub fn labels(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let (row, descriptor) = (self.row, self.descriptor);
        let own = row
            .iter()
            .map(|label| (label.name(), label.value()))
            .chain(descriptor.labels());
        let extra = self
            .extra
            .iter()
            .map(|label| (label.name(), label.value()))
            .filter(move |(name, _)| {
                row.get(name).is_none() && descriptor.labels().all(|(own, _)| own != *name)
            });
        extra.chain(own)
    }
}

/// Gathers the series of all blocks by metric name, in the order of first appearance. The formats are written from this.
#[must_use]
pub fn families<'a>(blocks: &'a [Block<'a>]) -> Vec<MetricFamily<'a>> {
    let mut families: Vec<MetricFamily<'a>> = Vec::new();
    let mut by_name: HashMap<&str, usize> = HashMap::new();
    for block in blocks {
        for (metric, descriptor) in block.frame.columns().descriptors().iter().enumerate() {
            if descriptor.is_hidden() {
                continue;
            }
            let index = *by_name.entry(descriptor.name()).or_insert_with(|| {
                families.push(MetricFamily {
                    descriptor,
                    members: Vec::new(),
                    sources: HashMap::new(),
                    overlapping: false,
                });
                families.len() - 1
            });
            let family = &mut families[index];
            if family.descriptor.kind().as_str() != descriptor.kind().as_str() {
                continue;
            }
            // Blocks with other labels cannot hold the same series; metrics of one block have other labels of their own.
            let source = *family.sources.entry(&block.labels).or_insert(block);
            family.overlapping |= !std::ptr::eq(source, block);
            family.members.push((block, metric));
        }
    }
    families
}

impl<'a> MetricFamily<'a> {
    /// Name, help, type and unit of all series; labels of single series may differ from this descriptor's.
    #[must_use]
    pub fn descriptor(&self) -> &'a MetricDescriptor {
        self.descriptor
    }

    /// The series that are present, the first of several with the same labels.
    pub fn series(&self) -> impl Iterator<Item = Series<'a>> {
        // Digests of labels: the labels themselves would take as much memory as all series.
        let mut seen: HashSet<u128> = HashSet::new();
        let keys = [RandomState::new(), RandomState::new()];
        let overlapping = self.overlapping;
        self.members
            .iter()
            .flat_map(|&(block, metric)| {
                let descriptor = &block.frame.columns().descriptors()[metric];
                block.row_indexes().filter_map(move |row| {
                    let labels = &block.frame.rows()[row];
                    if block.only.is_some_and(|only| !only(descriptor, labels)) {
                        return None;
                    }
                    Some(Series {
                        cell: block.frame.cell(row, metric)?,
                        row: labels,
                        descriptor,
                        extra: &block.labels,
                    })
                })
            })
            .filter(move |series| {
                !overlapping || {
                    let mut labels: Vec<_> = series.labels().collect();
                    labels.sort_unstable();
                    let [low, high] = keys.each_ref().map(|key| u128::from(key.hash_one(&labels)));
                    seen.insert(high << 64 | low)
                }
            })
    }
}
