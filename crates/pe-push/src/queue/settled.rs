//! Which blocks have a final time, and what was added to the time that is stored with them.

use std::collections::BTreeMap;

/// Runs of numbers whose times were moved by equally many milliseconds; most by none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Settled(BTreeMap<u64, Run>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    /// One above the last number.
    end: u64,
    shift_ms: i64,
}

impl Settled {
    /// What was added to the time of a block whose time is final.
    pub(crate) fn get(&self, number: u64) -> Option<i64> {
        let (_, run) = self.0.range(..=number).next_back()?;
        (number < run.end).then_some(run.shift_ms)
    }

    /// Makes the time of a block final, unless it is.
    pub(crate) fn insert(&mut self, number: u64, shift_ms: i64) {
        self.insert_run(number, number.saturating_add(1), shift_ms);
    }

    /// Makes the times of the numbers from `start` up to, and without, `end` final, unless one of them is.
    pub(crate) fn insert_run(&mut self, mut start: u64, mut end: u64, shift_ms: i64) {
        let before = self.0.range(..end).next_back();
        let before = before.map(|(start, run)| (*start, *run));
        if start >= end || before.is_some_and(|(_, run)| run.end > start) {
            return;
        }
        if let Some((known, run)) = before
            && run.end == start
            && run.shift_ms == shift_ms
        {
            start = known;
        }
        if let Some(run) = self.0.get(&end).copied()
            && run.shift_ms == shift_ms
        {
            self.0.remove(&end);
            end = run.end;
        }
        self.0.insert(start, Run { end, shift_ms });
    }

    /// Forgets the numbers below `first`.
    pub(crate) fn forget_below(&mut self, first: u64) {
        let kept = self.0.split_off(&first);
        let cut = std::mem::replace(&mut self.0, kept).pop_last();
        if let Some((_, run)) = cut
            && run.end > first
        {
            self.0.insert(first, run);
        }
    }

    /// One above the greatest number; 0 for none.
    pub(crate) fn end(&self) -> u64 {
        self.0.last_key_value().map_or(0, |(_, run)| run.end)
    }

    /// Start, end and shift of each run, in order.
    pub(crate) fn runs(&self) -> impl ExactSizeIterator<Item = (u64, u64, i64)> {
        self.0
            .iter()
            .map(|(start, run)| (*start, run.end, run.shift_ms))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_first_shift_of_a_number_counts_and_equal_neighbours_are_one_run(
            inserted in proptest::collection::vec((0..40_u64, 1..6_u64, 0..2_i64), 0..40),
            first in 0..40_u64,
        ) {
            let (mut settled, mut map) = (Settled::default(), BTreeMap::new());
            for (start, length, shift) in inserted {
                settled.insert_run(start, start + length, shift);
                if (start..start + length).all(|number| !map.contains_key(&number)) {
                    map.extend((start..start + length).map(|number| (number, shift)));
                }
            }
            for number in 0..50 {
                prop_assert_eq!(settled.get(number), map.get(&number).copied());
            }
            prop_assert_eq!(settled.end(), map.last_key_value().map_or(0, |last| last.0 + 1));
            let runs: Vec<_> = settled.runs().collect();
            let are_apart = runs.windows(2).all(|pair| pair[0].1 < pair[1].0 || pair[0].2 != pair[1].2);
            prop_assert!(are_apart, "{:?}", runs);
            settled.forget_below(first);
            for number in 0..50 {
                let expected = map.get(&number).copied().filter(|_| number >= first);
                prop_assert_eq!(settled.get(number), expected);
            }
        }
    }
}
