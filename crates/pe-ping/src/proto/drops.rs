//! When this machine itself discarded received packets, so that probes in flight then count as unknown, not
//! as lost.

use super::Nanos;

/// How many separate spans of time are remembered; beyond that the oldest two become one.
const SPANS: usize = 8;

/// The spans of time in which a socket dropped packets.
#[derive(Debug, Clone, Default)]
pub(crate) struct Drops {
    /// From the last look without a new drop to the look that found one, in order.
    spans: Vec<(Nanos, Nanos)>,
    looked_at: Nanos,
}

impl Drops {
    /// Notes a look at the socket's drop count at `now`: whether it has risen since the last look.
    pub(crate) fn look(&mut self, now: Nanos, risen: bool) {
        let since = std::mem::replace(&mut self.looked_at, now);
        if !risen {
            return;
        }
        match self.spans.last_mut() {
            Some(last) if last.1 >= since => last.1 = now,
            _ => {
                if self.spans.len() == SPANS {
                    let oldest = self.spans.remove(0);
                    self.spans[0].0 = oldest.0;
                }
                self.spans.push((since, now));
            }
        }
    }

    /// Whether a reply may have been dropped to a probe that left at `sent` and was awaited until `deadline`.
    pub(crate) fn may_concern(&self, sent: Nanos, deadline: Nanos) -> bool {
        self.spans
            .iter()
            .any(|&(from, to)| sent <= to && deadline >= from)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_what_was_in_flight_is_in_doubt() {
        let mut drops = Drops::default();
        drops.look(100, false);
        drops.look(200, true);
        drops.look(300, false);
        assert!(!drops.may_concern(10, 99));
        assert!(drops.may_concern(10, 100));
        assert!(drops.may_concern(200, 900));
        assert!(!drops.may_concern(201, 900));
    }

    proptest! {
        /// A probe that was in flight when a packet was dropped is never taken for one that was not.
        #[test]
        fn no_drop_is_forgotten(looks in proptest::collection::vec((1..100_u64, any::<bool>()), 1..100)) {
            let mut drops = Drops::default();
            let mut now = 0;
            let mut risen = Vec::new();
            for (step, rise) in looks {
                let since = now;
                now += step;
                drops.look(now, rise);
                if rise {
                    risen.push((since, now));
                }
            }
            prop_assert!(drops.spans.len() <= SPANS);
            for (from, to) in risen {
                prop_assert!(drops.may_concern(from, to));
                prop_assert!(drops.may_concern(to, to + 5));
                prop_assert!(drops.may_concern(from.saturating_sub(5), from));
            }
        }
    }
}
