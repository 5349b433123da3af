//! The distribution of round-trip times in some bytes: how often each code was seen, and near ones taken together where
//! there are more different ones than places.

/// Counts of up to `N` codes, ascending.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sketch<const N: usize> {
    codes: [u8; N],
    counts: [u16; N],
    used: u8,
}

impl<const N: usize> Default for Sketch<N> {
    fn default() -> Self {
        Self {
            codes: [0; N],
            counts: [0; N],
            used: 0,
        }
    }
}

impl<const N: usize> Sketch<N> {
    /// Counts `count` probes of this code.
    pub(super) fn add(&mut self, code: u8, count: u16) {
        let used = usize::from(self.used);
        match self.codes[..used].binary_search(&code) {
            Ok(place) => self.counts[place] = self.counts[place].saturating_add(count),
            Err(place) if used < N => self.insert(place, code, count),
            Err(_) => {
                self.join_nearest();
                self.add(code, count);
            }
        }
    }

    /// Counts everything that another one counted.
    pub(super) fn merge<const M: usize>(&mut self, other: &Sketch<M>) {
        for place in 0..usize::from(other.used) {
            self.add(other.codes[place], other.counts[place]);
        }
    }

    pub(super) fn total(&self) -> u32 {
        self.counts[..usize::from(self.used)]
            .iter()
            .map(|count| u32::from(*count))
            .sum()
    }

    /// The lowest and the highest code.
    pub(super) fn ends(&self) -> Option<(u8, u8)> {
        let codes = &self.codes[..usize::from(self.used)];
        Some((*codes.first()?, *codes.last()?))
    }

    /// The code below which a share of the probes lies, between whole codes where that says more.
    pub(super) fn quantile(&self, share: f64) -> Option<f64> {
        let (lowest, highest) = self.ends()?;
        let wanted = share * f64::from(self.total());
        let mut seen = 0.0;
        for place in 0..usize::from(self.used) {
            let count = f64::from(self.counts[place]);
            if seen + count >= wanted {
                let code = f64::from(self.codes[place]) - 0.5 + ((wanted - seen) / count);
                return Some(code.clamp(f64::from(lowest), f64::from(highest)));
            }
            seen += count;
        }
        Some(f64::from(highest))
    }

    fn insert(&mut self, place: usize, code: u8, count: u16) {
        let used = usize::from(self.used);
        self.codes.copy_within(place..used, place + 1);
        self.counts.copy_within(place..used, place + 1);
        self.codes[place] = code;
        self.counts[place] = count;
        self.used += 1;
    }

    /// Takes two neighbours together, so that the least is moved the least. The ends stay, so that best and worst do.
    fn join_nearest(&mut self) {
        let used = usize::from(self.used);
        // What moves, and how far.
        let cost = |place: usize| {
            let gap = u32::from(self.codes[place + 1] - self.codes[place]);
            gap * u32::from(self.counts[place].min(self.counts[place + 1]))
        };
        let inner = (1..used.saturating_sub(2)).min_by_key(|place| cost(*place));
        let Some(place) = inner else {
            return;
        };
        let (left, right) = (self.counts[place], self.counts[place + 1]);
        if right > left {
            self.codes[place] = self.codes[place + 1];
        }
        self.counts[place] = left.saturating_add(right);
        self.codes.copy_within(place + 2..used, place + 1);
        self.counts.copy_within(place + 2..used, place + 1);
        self.used -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_probes() {
        let mut sketch = Sketch::<10>::default();
        for code in 100..=109 {
            sketch.add(code, 10);
        }
        for (share, expected) in [(0.02, 100.0), (0.25, 102.0), (0.5, 104.5), (0.98, 109.0)] {
            let code = sketch.quantile(share).unwrap();
            assert!((code - expected).abs() <= 0.5, "{share}: {code}");
        }
        assert_eq!((sketch.total(), sketch.ends()), (100, Some((100, 109))));
    }

    #[test]
    fn more_codes_than_places_keep_ends_total_and_shape() {
        let mut sketch = Sketch::<14>::default();
        for round in 0..20_u32 {
            for code in 40..=140_u8 {
                sketch.add(code, u16::from(round % 2 == 0) + 1);
            }
        }
        assert_eq!((sketch.total(), sketch.ends()), (30 * 101, Some((40, 140))));
        let mut both = Sketch::<14>::default();
        both.merge(&sketch);
        both.merge(&sketch);
        assert_eq!(both.total(), 2 * sketch.total());
        for share in [0.1, 0.25, 0.5, 0.75, 0.9] {
            let code = both.quantile(share).unwrap();
            let expected = 40.0 + share * 100.0;
            assert!(
                (code - expected).abs() < 12.0,
                "{share}: {code} for {expected}"
            );
        }
    }

    #[test]
    fn rare_outliers_and_a_narrow_body_stay_apart() {
        let mut sketch = Sketch::<10>::default();
        for index in 0..500_u16 {
            sketch.add(100 + (index % 5) as u8, 1);
            if index % 50 == 0 {
                sketch.add(150 + (index / 50) as u8 * 9, 1);
            }
        }
        let median = sketch.quantile(0.5).unwrap();
        assert!((101.0..=103.5).contains(&median), "{median}");
        assert_eq!(sketch.ends(), Some((100, 231)));
    }
}
