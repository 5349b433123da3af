//! How fast packets may leave: a token bucket of a rate and a burst.

use super::Nanos;

/// A token bucket that counts in nanoseconds: each packet costs the time that the rate gives it, and at most `burst`
/// packets' worth of time is saved up.
#[derive(Debug, Clone)]
pub(crate) struct Pacer {
    /// Nanoseconds for each packet; 0 for no limit.
    gap: Nanos,
    /// The most time that is saved up.
    depth: Nanos,
    /// The moment up to which all time is spent.
    spent_until: Nanos,
}

impl Pacer {
    /// `rate` in packets a second (`None` for no limit) and `burst` in packets.
    pub(crate) fn new(rate: Option<f64>, burst: u32) -> Self {
        let gap = rate.map_or(0, |rate| ((1e9 / rate) as Nanos).max(1));
        Self {
            gap,
            depth: gap.saturating_mul(Nanos::from(burst.max(1))),
            spent_until: 0,
        }
    }

    /// How many packets may leave at `now`.
    #[inline]
    pub(crate) fn available(&mut self, now: Nanos) -> u64 {
        if self.gap == 0 {
            return u64::MAX;
        }
        self.spent_until = self.spent_until.max(now.saturating_sub(self.depth));
        now.saturating_sub(self.spent_until) / self.gap
    }

    /// Takes the time of `packets` that have left.
    #[inline]
    pub(crate) fn take(&mut self, packets: u64) {
        self.spent_until = self
            .spent_until
            .saturating_add(self.gap.saturating_mul(packets));
    }

    /// The moment from which the next packet may leave.
    pub(crate) fn ready_at(&self) -> Nanos {
        self.spent_until.saturating_add(self.gap)
    }

    /// The time that the rate gives to each packet; 0 for no limit.
    pub(crate) fn gap(&self) -> Nanos {
        self.gap
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn no_rate_means_no_limit() {
        let mut pacer = Pacer::new(None, 1);
        assert_eq!(pacer.available(0), u64::MAX);
        pacer.take(1_000_000);
        assert_eq!(pacer.available(0), u64::MAX);
    }

    #[test]
    fn waiting_until_ready_is_enough() {
        let mut pacer = Pacer::new(Some(1_000.0), 10);
        let start = 5_000_000_000;
        assert_eq!(pacer.available(start), 10);
        pacer.take(10);
        assert_eq!(pacer.available(start), 0);
        let ready = pacer.ready_at();
        assert_eq!(ready, start + pacer.gap());
        assert_eq!(pacer.available(ready - 1), 0);
        assert_eq!(pacer.available(ready), 1);
    }

    proptest! {
        /// Over any stretch of time, no more than the burst and the rate's share leaves.
        #[test]
        fn never_faster_than_rate_and_burst(
            rate in 1.0..1e6_f64,
            burst in 1..200_u32,
            steps in proptest::collection::vec(0..50_000_000_u64, 1..200),
        ) {
            let mut pacer = Pacer::new(Some(rate), burst);
            let mut now = 1_000_000_000_000;
            let mut sent = Vec::new();
            for step in steps {
                now += step;
                let n = pacer.available(now);
                prop_assert!(n <= u64::from(burst));
                pacer.take(n);
                sent.push((now, n));
            }
            for first in 0..sent.len() {
                let mut sum = 0;
                for &(at, n) in &sent[first..] {
                    sum += n;
                    let allowed = f64::from(burst) + (at - sent[first].0) as f64 * (rate * 1.000_001 / 1e9) + 1.0;
                    prop_assert!(sum as f64 <= allowed * 1.001, "{sum} > {allowed}");
                }
            }
        }
    }
}
