//! Cursors: what each sink has acknowledged, and what it was given.
//!
//! All cursors are kept in one small file, in two copies, `cursors.a` and `cursors.b`, which are written in turn: a copy that was torn
//! or damaged leaves the other. Both are written when a sink is new. The copy with the higher generation counts. If neither can be
//! read, sinks start with the oldest block there is: better twice than never.
//!
//! | bytes | copy of the cursors |
//! | --- | --- |
//! | 8 | `PECURSOR` |
//! | 2 | version, 2 |
//! | varint | generation, which rises by one with each copy |
//! | varint | how many cursors follow: each the length of its sink's name, the name, how many ranges, and the ranges of numbers that are acknowledged: the gap to the one before, and the length |
//! | varint | how many runs of blocks with final times follow: each the gap to the one before, the length, and what was added (signed) to the times that are stored with the blocks, in milliseconds |
//! | 4 | CRC-32 of all before |
//!
//! In version 1 there are no runs. Each cursor ends with final times of its own, of blocks that its sink has not acknowledged: how many,
//! and each with the gap to the number before, and the distance (signed) to the time before, in milliseconds.

use std::collections::BTreeMap;
use std::ops::Range;

use super::format::{Input, Malformed, put_signed, put_varint};
use super::settled::Settled;
use super::types::Drops;
use super::{DropReason, Order};

const MAGIC: &[u8; 8] = b"PECURSOR";
const VERSION: u16 = 2;
/// The copies, by generation.
pub(crate) const COPIES: [&str; 2] = ["cursors.a", "cursors.b"];

/// A set of numbers, as ranges in order that neither touch nor overlap.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    /// All numbers below `end`.
    pub(crate) fn below(end: u64) -> Self {
        let mut ranges = Self::default();
        ranges.insert(0, end);
        ranges
    }

    /// Adds the numbers from `start` up to, and without, `end`.
    pub(crate) fn insert(&mut self, start: u64, end: u64) {
        if start >= end {
            return;
        }
        let first = self.0.partition_point(|(_, known)| *known < start);
        let last = self.0.partition_point(|(known, _)| *known <= end);
        let touched = &self.0[first..last];
        let start = touched
            .first()
            .map_or(start, |(known, _)| start.min(*known));
        let end = touched.last().map_or(end, |(_, known)| end.max(*known));
        self.0.splice(first..last, [(start, end)]);
    }

    /// Takes a number out.
    pub(crate) fn remove(&mut self, number: u64) {
        let at = self.0.partition_point(|(_, end)| *end <= number);
        let Some((start, end)) = self.0.get(at).copied() else {
            return;
        };
        if start <= number {
            let parts = [(start, number), (number + 1, end)];
            let parts = parts.into_iter().filter(|(start, end)| start < end);
            self.0.splice(at..=at, parts);
        }
    }

    pub(crate) fn contains(&self, number: u64) -> bool {
        self.first_missing(number) != number
    }

    /// Whether all numbers from `start` up to, and without, `end` are in it.
    pub(crate) fn covers(&self, start: u64, end: u64) -> bool {
        self.first_missing(start) >= end
    }

    /// Whether none of them is.
    pub(crate) fn is_clear(&self, start: u64, end: u64) -> bool {
        let next = self.0.partition_point(|(_, known)| *known <= start);
        self.0.get(next).is_none_or(|(known, _)| *known >= end)
    }

    /// The least number from `from` on that is not in it.
    pub(crate) fn first_missing(&self, from: u64) -> u64 {
        let next = self.0.partition_point(|(_, end)| *end <= from);
        match self.0.get(next) {
            Some((start, end)) if *start <= from => *end,
            _ => from,
        }
    }

    /// One above the greatest number; 0 for none.
    pub(crate) fn end(&self) -> u64 {
        self.0.last().map_or(0, |(_, end)| *end)
    }

    /// Ranges in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, u64)> {
        self.0.iter().copied()
    }
}

/// Where a sink is.
#[derive(Debug)]
pub(crate) struct Cursor {
    pub(crate) order: Order,
    /// Acknowledged, or no longer there.
    pub(crate) done: Ranges,
    /// Given out since the latest rewind, and all that is done.
    pub(crate) taken: Ranges,
    /// Given out and not acknowledged.
    pub(crate) waiting: BTreeMap<u64, Given>,
    /// Up to here fresh blocks were given out.
    pub(crate) fresh: u64,
    /// Samples that are not acknowledged.
    pub(crate) samples: u64,
    /// Bytes of the blocks that are not acknowledged.
    pub(crate) bytes: u64,
    /// What was dropped before it was acknowledged.
    pub(crate) dropped: Drops,
    /// Whether it gets nothing new.
    pub(crate) is_closed: bool,
}

/// A block that was given out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Given {
    pub(crate) samples: u64,
    pub(crate) bytes: u64,
    /// The time that is stored with it.
    pub(crate) wall_ms: i64,
}

impl Cursor {
    pub(crate) fn new(done: Ranges) -> Self {
        Self {
            order: Order::Strict,
            taken: done.clone(),
            fresh: 0,
            done,
            waiting: BTreeMap::new(),
            samples: 0,
            bytes: 0,
            dropped: Drops::default(),
            is_closed: false,
        }
    }

    /// Gives out again what is not acknowledged.
    pub(crate) fn rewind(&mut self) {
        self.taken = self.done.clone();
        self.waiting.clear();
        self.fresh = 0;
    }

    /// Returns whether the block was given out and is acknowledged now.
    pub(crate) fn acknowledge(&mut self, number: u64) -> bool {
        let Some(given) = self.waiting.remove(&number) else {
            return false;
        };
        self.finish(number, number + 1, given.samples, given.bytes);
        true
    }

    /// Blocks from `start` up to, and without, `end` are not waited for any more.
    pub(crate) fn finish(&mut self, start: u64, end: u64, samples: u64, bytes: u64) {
        self.samples = self.samples.saturating_sub(samples);
        self.bytes = self.bytes.saturating_sub(bytes);
        self.done.insert(start, end);
        self.taken.insert(start, end);
        let mut later = self.waiting.split_off(&start);
        self.waiting.append(&mut later.split_off(&end));
    }

    /// Those blocks are dropped.
    pub(crate) fn lose(&mut self, reason: DropReason, range: Range<u64>, samples: u64, bytes: u64) {
        self.finish(range.start, range.end, samples, bytes);
        self.dropped.add(reason, samples);
    }
}

/// What is kept over restarts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Known {
    /// What each sink has acknowledged.
    pub(crate) done: BTreeMap<String, Ranges>,
    pub(crate) settled: Settled,
    /// Final times in milliseconds, by number, as the first version has them.
    pub(crate) times: BTreeMap<u64, i64>,
}

impl Known {
    /// One above the greatest number that is known.
    pub(crate) fn end(&self) -> u64 {
        let timed = self.times.last_key_value();
        let timed = timed.map_or(0, |(number, _)| number.saturating_add(1));
        let done = self.done.values().map(Ranges::end);
        done.fold(self.settled.end().max(timed), u64::max)
    }
}

/// The bytes of a copy.
pub(crate) fn encode<'a>(
    generation: u64,
    done: impl ExactSizeIterator<Item = (&'a String, &'a Ranges)>,
    settled: &Settled,
) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&VERSION.to_le_bytes());
    put_varint(&mut out, generation);
    put_varint(&mut out, done.len() as u64);
    for (name, done) in done {
        put_varint(&mut out, name.len() as u64);
        out.extend_from_slice(name.as_bytes());
        put_varint(&mut out, done.0.len() as u64);
        let mut latest = 0;
        for (start, end) in done.iter() {
            put_varint(&mut out, start - latest);
            put_varint(&mut out, end - start);
            latest = end;
        }
    }
    put_varint(&mut out, settled.runs().len() as u64);
    let mut latest = 0;
    for (start, end, shift_ms) in settled.runs() {
        put_varint(&mut out, start - latest);
        put_varint(&mut out, end - start);
        put_signed(&mut out, shift_ms);
        latest = end;
    }
    out.extend_from_slice(&crc32fast::hash(&out).to_le_bytes());
    out
}

/// Generation and content of a copy.
pub(crate) fn decode(bytes: &[u8]) -> Result<(u64, Known), Malformed> {
    let (body, checksum) = bytes.split_last_chunk().ok_or(Malformed)?;
    if crc32fast::hash(body).to_le_bytes() != *checksum {
        return Err(Malformed);
    }
    let mut input = Input(body);
    if input.array()? != *MAGIC {
        return Err(Malformed);
    }
    let version = u16::from_le_bytes(input.array()?);
    if version > VERSION {
        return Err(Malformed);
    }
    let generation = input.varint()?;
    let mut known = Known::default();
    for _ in 0..input.count()? {
        let length = input.count()?;
        let name = std::str::from_utf8(input.take(length)?).map_err(|_| Malformed)?;
        let mut done = Ranges::default();
        let mut latest = 0;
        for _ in 0..input.count()? {
            let (start, end) = range(&mut input, latest)?;
            done.insert(start, end);
            latest = end;
        }
        known.done.insert(name.to_owned(), done);
        if version == 1 {
            let (mut number, mut time) = (0_u64, 0_i64);
            for _ in 0..input.count()? {
                number = number.checked_add(input.varint()?).ok_or(Malformed)?;
                time = time.wrapping_add(input.signed()?);
                known.times.entry(number).or_insert(time);
            }
        }
    }
    if version > 1 {
        let mut latest = 0;
        for _ in 0..input.count()? {
            let (start, end) = range(&mut input, latest)?;
            known.settled.insert_run(start, end, input.signed()?);
            latest = end;
        }
    }
    Ok((generation, known))
}

/// A range of numbers after `latest`.
fn range(input: &mut Input<'_>, latest: u64) -> Result<(u64, u64), Malformed> {
    let start = latest.checked_add(input.varint()?).ok_or(Malformed)?;
    let end = start.checked_add(input.varint()?).ok_or(Malformed)?;
    Ok((start, end))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ranges_are_a_set_of_numbers(
            inserted in proptest::collection::vec((0..60_u64, 0..8_u64), 0..20),
            (from, length) in (0..60_u64, 1..10_u64),
            settled in proptest::collection::vec((any::<u64>(), any::<i64>()), 0..5),
        ) {
            let (mut ranges, mut set) = (Ranges::default(), BTreeSet::new());
            for (start, length) in inserted {
                ranges.insert(start, start + length);
                set.extend(start..start + length);
            }
            ranges.remove(from + 3);
            set.remove(&(from + 3));
            for number in 0..70 {
                prop_assert_eq!(ranges.contains(number), set.contains(&number));
            }
            let asked = from..from + length;
            prop_assert_eq!(ranges.covers(from, from + length), asked.clone().all(|n| set.contains(&n)));
            prop_assert_eq!(ranges.is_clear(from, from + length), !asked.clone().any(|n| set.contains(&n)));
            prop_assert_eq!(ranges.first_missing(from), (from..).find(|n| !set.contains(n)).unwrap());
            prop_assert_eq!(ranges.end(), set.last().map_or(0, |last| last + 1));
            let apart = ranges.0.windows(2).all(|pair| pair[0].1 < pair[1].0);
            prop_assert!(apart, "{:?}", ranges);

            let mut known = Known { done: BTreeMap::from([("a".to_owned(), ranges)]), ..Known::default() };
            for (number, shift_ms) in settled {
                known.settled.insert(number, shift_ms);
            }
            let bytes = encode(7, known.done.iter(), &known.settled);
            prop_assert_eq!(decode(&bytes), Ok((7, known)));
        }

        #[test]
        fn whatever_the_bytes_reading_ends(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = decode(&bytes);
            for version in [1, 2] {
                let mut bytes = bytes.clone();
                bytes.splice(0..0, *b"PECURSOR\x00\x00");
                bytes[8] = version;
                bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
                let _ = decode(&bytes);
            }
        }
    }

    #[test]
    fn copies_of_the_first_version_are_read() {
        let mut bytes = b"PECURSOR\x01\x00".to_vec();
        // Generation, cursors, the name, one range from 0 of 5, and two times.
        bytes.extend([9, 1, 1, b'a', 1, 0, 5, 2, 6]);
        put_signed(&mut bytes, 70_000);
        bytes.push(1);
        put_signed(&mut bytes, -20);
        bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
        let known = Known {
            done: BTreeMap::from([("a".to_owned(), Ranges::below(5))]),
            times: BTreeMap::from([(6, 70_000), (7, 69_980)]),
            settled: Settled::default(),
        };
        assert_eq!(known.end(), 8);
        assert_eq!(decode(&bytes), Ok((9, known)));
    }
}
