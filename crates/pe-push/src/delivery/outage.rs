//! When failures begin, change and end: what is worth a log line. No I/O; takes every time as an argument.

use std::time::{Duration, Instant};

use crate::ResultKind;

/// The outage that lasts, if one does.
#[derive(Debug, Default)]
pub(crate) struct Outage(Option<Failing>);

#[derive(Debug)]
struct Failing {
    kind: ResultKind,
    since: Instant,
    pushes: u64,
}

/// What is worth a log line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Pushes began to fail, or fail in another way than before.
    Fails,
    /// Pushes arrive again.
    Recovered {
        /// For how long they had not.
        after: Duration,
        /// How many failed meanwhile.
        failed: u64,
    },
}

impl Outage {
    /// Notes how a delivery went: how many pushes failed, and how the first of these did.
    pub(crate) fn note(
        &mut self,
        now: Instant,
        failed: u64,
        first: Option<ResultKind>,
    ) -> Option<Change> {
        let before = self.0.take();
        let Some(kind) = first else {
            return before.map(|before| Change::Recovered {
                after: now.duration_since(before.since),
                failed: before.pushes,
            });
        };
        let is_known = before.as_ref().is_some_and(|before| before.kind == kind);
        self.0 = Some(Failing {
            kind,
            since: before.as_ref().map_or(now, |before| before.since),
            pushes: before.map_or(0, |before| before.pushes) + failed,
        });
        (!is_known).then_some(Change::Fails)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_changes_are_told() {
        let mut outage = Outage::default();
        let start = Instant::now();
        let mut note = |seconds: u64, failed: u64, first: Option<ResultKind>| {
            outage.note(start + Duration::from_secs(seconds), failed, first)
        };
        let (unreachable, unauthorized) = (ResultKind::Unreachable, ResultKind::Unauthorized);
        assert_eq!(note(0, 0, None), None);
        assert_eq!(note(1, 3, Some(unreachable)), Some(Change::Fails));
        assert_eq!(note(2, 3, Some(unreachable)), None);
        assert_eq!(note(3, 1, Some(unauthorized)), Some(Change::Fails));
        let recovered = Change::Recovered {
            after: Duration::from_secs(4),
            failed: 7,
        };
        assert_eq!(note(5, 0, None), Some(recovered));
        assert_eq!(note(6, 0, None), None);
    }
}
