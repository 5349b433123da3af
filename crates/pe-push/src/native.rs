//! Native histograms beside the columns of a block, as records of the buckets that are not empty.

use pe_scrape::NativeBuckets;

/// The native histograms of a metric: a record for each row that has one.
///
/// The metric's own column says how many observations each has, so that absence, a staleness marker and all else that is said by a
/// value is said there.
#[derive(Debug, Clone, PartialEq)]
pub struct NativeColumn {
    /// Which of the block's metrics.
    pub metric: usize,
    /// The buckets that there can be.
    pub buckets: NativeBuckets,
    /// Records, one after the other. Each is 8 bytes of the sum, the count below the lowest bucket, and for each bucket that is not empty
    /// how many are left out before it, and its count; all but the sum are varints.
    records: Vec<u8>,
    /// Where the record of each row ends; an empty one is none.
    ends: Vec<usize>,
}

/// What a record says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NativeHistogram {
    pub(crate) sum: f64,
    pub(crate) zero: u64,
    /// Positions among the buckets, and counts, in order.
    pub(crate) filled: Vec<(usize, u64)>,
}

impl NativeHistogram {
    pub(crate) fn count(&self) -> u64 {
        let counts = self.filled.iter().map(|(_, count)| *count);
        counts.fold(self.zero, u64::saturating_add)
    }
}

impl NativeColumn {
    /// No row yet.
    #[must_use]
    pub fn new(metric: usize, buckets: NativeBuckets) -> Self {
        Self {
            metric,
            buckets,
            records: Vec::new(),
            ends: Vec::new(),
        }
    }

    /// Adds the next row: its sum, and the counts of the bucket of zero and of all buckets. Returns the count of all together.
    pub fn push(&mut self, sum: f64, counts: &[f64]) -> f64 {
        let (zero, counts) = counts
            .split_first()
            .map_or((0.0, counts), |(zero, rest)| (*zero, rest));
        self.records.extend_from_slice(&sum.to_le_bytes());
        put(&mut self.records, zero as u64);
        let (mut total, mut next) = (zero, 0);
        for (position, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0.0) {
            put(&mut self.records, (position - next) as u64);
            put(&mut self.records, *count as u64);
            total += count;
            next = position + 1;
        }
        self.ends.push(self.records.len());
        total
    }

    /// Adds a row without a histogram.
    pub fn push_none(&mut self) {
        self.ends.push(self.records.len());
    }

    /// The record of a row.
    pub(crate) fn get(&self, row: usize) -> Option<NativeHistogram> {
        let record = self.record(row);
        let (sum, mut rest) = record.split_first_chunk()?;
        let zero = take(&mut rest)?;
        let (mut filled, mut next) = (Vec::new(), 0_usize);
        while !rest.is_empty() {
            let position = next.checked_add(usize::try_from(take(&mut rest)?).ok()?)?;
            filled.push((position, take(&mut rest)?));
            next = position + 1;
        }
        if next > self.buckets.len() {
            return None;
        }
        Some(NativeHistogram {
            sum: f64::from_le_bytes(*sum),
            zero,
            filled,
        })
    }

    pub(crate) fn record(&self, row: usize) -> &[u8] {
        let start = row.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.records[start..self.ends[row]]
    }

    /// Adds the record of the next row as it is.
    pub(crate) fn push_record(&mut self, record: &[u8]) {
        self.records.extend_from_slice(record);
        self.ends.push(self.records.len());
    }
}

fn put(to: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        to.push(value as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}

fn take(from: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..63).step_by(7) {
        let (byte, rest) = from.split_first()?;
        *from = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if *byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_say_what_was_pushed() {
        let mut column = NativeColumn::new(3, NativeBuckets::RTT_SECONDS);
        let mut counts = vec![0.0; NativeBuckets::RTT_SECONDS.len() + 1];
        (counts[0], counts[1], counts[7], counts[8]) = (2.0, 300.0, 5.0, 1.0);
        assert_eq!(column.push(0.25, &counts), 308.0);
        column.push_none();
        assert_eq!(column.push(0.0, &[]), 0.0);
        let first = column.get(0).unwrap();
        assert_eq!((first.sum, first.zero, first.count()), (0.25, 2, 308));
        assert_eq!(first.filled, [(0, 300), (6, 5), (7, 1)]);
        assert_eq!(column.get(1), None);
        assert_eq!(column.get(2).unwrap().count(), 0);
    }

    #[test]
    fn a_record_with_more_buckets_than_there_are_is_none() {
        let mut column = NativeColumn::new(0, NativeBuckets::RTT_SECONDS);
        let mut record = vec![0; 9];
        put(&mut record, u64::MAX >> 1);
        record.push(1);
        column.push_record(&record);
        column.push_record(&[1, 2, 3]);
        assert_eq!((column.get(0), column.get(1)), (None, None));
    }
}
