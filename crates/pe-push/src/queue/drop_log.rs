//! When a queue begins to drop what waits, and when it no longer does: what is worth a log line. No I/O; takes every time as an
//! argument.

use std::time::{Duration, Instant};

use super::DropReason;

/// Time without a drop after which dropping is over. A whole segment goes at once, so that a drop may follow minutes after the
/// one before.
const QUIET: Duration = Duration::from_secs(600);

/// Samples dropped for each reason, in the order of [`DropReason::ALL`].
pub(super) type Dropped = [u64; DropReason::ALL.len()];

/// For which reasons samples are being dropped.
#[derive(Debug, Default)]
pub(super) struct DropLog {
    known: Dropped,
    lasting: [Option<Lasting>; DropReason::ALL.len()],
}

#[derive(Debug, Clone, Copy)]
struct Lasting {
    latest: Instant,
    /// Samples that had been dropped before it began.
    before: u64,
}

/// What is worth a log line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum DropChange {
    /// Samples are dropped for a reason for which none were a while ago.
    Begins(DropReason),
    /// No more are, after so many samples.
    Ended(DropReason, u64),
}

impl DropLog {
    /// Notes how many samples have been dropped so far.
    pub(super) fn note(&mut self, now: Instant, dropped: &Dropped) -> Vec<DropChange> {
        let mut changes = Vec::new();
        for (index, reason) in DropReason::ALL.into_iter().enumerate() {
            let before = std::mem::replace(&mut self.known[index], dropped[index]);
            let lasting = &mut self.lasting[index];
            match lasting {
                Some(lasting) if dropped[index] > before => lasting.latest = now,
                Some(Lasting {
                    latest,
                    before: start,
                }) if now.duration_since(*latest) >= QUIET => {
                    changes.push(DropChange::Ended(reason, dropped[index] - *start));
                    *lasting = None;
                }
                None if dropped[index] > before => {
                    changes.push(DropChange::Begins(reason));
                    *lasting = Some(Lasting {
                        latest: now,
                        before,
                    });
                }
                _ => {}
            }
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropping_is_told_when_it_begins_and_when_it_ends_by_reason() {
        let mut log = DropLog::default();
        let start = Instant::now();
        let mut note = |second: u64, full: u64, aged: u64| {
            let mut dropped = Dropped::default();
            dropped[DropReason::DiskFull as usize] = full;
            dropped[DropReason::Age as usize] = aged;
            log.note(start + Duration::from_secs(second), &dropped)
        };
        let (full, age) = (DropReason::DiskFull, DropReason::Age);
        assert_eq!(note(0, 0, 0), []);
        assert_eq!(note(1, 10, 0), [DropChange::Begins(full)]);
        assert_eq!(note(2, 20, 0), []);
        assert_eq!(note(500, 20, 5), [DropChange::Begins(age)]);
        assert_eq!(note(602, 20, 5), [DropChange::Ended(full, 20)]);
        assert_eq!(note(700, 20, 6), []);
        assert_eq!(note(701, 21, 6), [DropChange::Begins(full)]);
        let ended = [DropChange::Ended(age, 6), DropChange::Ended(full, 1)];
        assert_eq!(note(1400, 21, 6), ended);
    }
}
