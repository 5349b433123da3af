//! What is known of one name, and when to ask again. No I/O and no clock.

use std::net::IpAddr;
use std::time::{Duration, Instant};

/// What a lookup came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// The name has this address, for so long.
    Found(IpAddr, Duration),
    /// A name server says that there is no such name or no such address.
    Absent(String),
    /// No name server could be asked.
    Failed(String),
}

impl Answer {
    /// The answer for a name of either family, from one for each. A name has no address only if both say so: where one of
    /// them failed, nothing is known.
    pub(super) fn of_either(v4: Self, v6: Self) -> Self {
        match (v4, v6) {
            (found @ Self::Found(..), _) | (_, found @ Self::Found(..)) => found,
            (failed @ Self::Failed(_), _) | (_, failed @ Self::Failed(_)) => failed,
            (absent, _) => absent,
        }
    }
}

/// What can be told of a name right now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum View {
    /// The address is as fresh as its name server wants it.
    Fresh(IpAddr),
    /// The address is older than that, because asking again has not succeeded yet.
    Stale(IpAddr),
    /// There is no address.
    Absent(String),
    /// It has not been asked for yet.
    Unknown,
}

/// Bounds of the times that an entry goes by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) min_ttl: Duration,
    pub(super) max_ttl: Duration,
    /// Until a failed or negative lookup is tried again.
    pub(super) retry: Duration,
}

/// How long after its last use a name is still kept fresh.
const IN_USE: Duration = Duration::from_secs(600);
/// How long after its last use a name is forgotten.
const KEPT: Duration = Duration::from_secs(86_400);

/// The state of one name.
#[derive(Debug)]
pub(super) struct Entry {
    address: Option<(IpAddr, Instant)>,
    refusal: Option<String>,
    next_lookup: Instant,
    used: Instant,
    looking: bool,
}

impl Entry {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            address: None,
            refusal: None,
            next_lookup: now,
            used: now,
            looking: false,
        }
    }

    /// Notes that someone wants to know.
    pub(super) fn touch(&mut self, now: Instant) {
        self.used = now;
    }

    pub(super) fn view(&self, now: Instant) -> View {
        match (self.address, &self.refusal) {
            (Some((address, until)), _) if now <= until => View::Fresh(address),
            (Some((address, _)), _) => View::Stale(address),
            (None, Some(message)) => View::Absent(message.clone()),
            (None, None) => View::Unknown,
        }
    }

    /// Whether it is time to ask; the caller then does, and hands the answer to [`take`](Self::take).
    pub(super) fn begin_lookup(&mut self, now: Instant) -> bool {
        let due = !self.looking && now >= self.next_lookup && now < self.used + IN_USE;
        self.looking |= due;
        due
    }

    pub(super) fn take(&mut self, answer: Answer, now: Instant, bounds: &Bounds) {
        self.looking = false;
        match answer {
            Answer::Found(address, ttl) => {
                let ttl = ttl.clamp(bounds.min_ttl, bounds.max_ttl);
                // Asked again a little early, so that the address does not become stale meanwhile.
                self.next_lookup = now + ttl.mul_f64(0.9);
                self.address = Some((address, now + ttl));
                self.refusal = None;
            }
            Answer::Absent(message) => {
                self.next_lookup = now + bounds.retry;
                self.address = None;
                self.refusal = Some(message);
            }
            Answer::Failed(message) => {
                self.next_lookup = now + bounds.retry;
                if self.address.is_none() {
                    self.refusal = Some(message);
                }
            }
        }
    }

    /// Whether nobody has asked for so long that the name can be forgotten.
    pub(super) fn is_forgotten(&self, now: Instant) -> bool {
        !self.looking && now >= self.used + KEPT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds {
        min_ttl: Duration::from_secs(30),
        max_ttl: Duration::from_secs(3600),
        retry: Duration::from_secs(5),
    };
    const SECOND: Duration = Duration::from_secs(1);

    fn address(last: u8) -> IpAddr {
        [127, 0, 0, last].into()
    }

    #[test]
    fn an_address_is_fresh_for_its_ttl_and_kept_when_nobody_answers() {
        let start = Instant::now();
        let mut entry = Entry::new(start);
        assert_eq!(entry.view(start), View::Unknown);
        assert!(entry.begin_lookup(start));
        assert!(!entry.begin_lookup(start), "one lookup at a time");
        entry.take(Answer::Found(address(1), SECOND), start, &BOUNDS);
        assert_eq!(entry.view(start + SECOND * 30), View::Fresh(address(1)));
        assert!(!entry.begin_lookup(start + SECOND * 26));
        assert!(entry.begin_lookup(start + SECOND * 27));
        entry.take(
            Answer::Failed("timed out".into()),
            start + SECOND * 31,
            &BOUNDS,
        );
        assert_eq!(entry.view(start + SECOND * 31), View::Stale(address(1)));
        assert!(!entry.begin_lookup(start + SECOND * 35));
        assert!(entry.begin_lookup(start + SECOND * 36));
        entry.take(
            Answer::Found(address(2), SECOND * 1_000_000),
            start + SECOND * 36,
            &BOUNDS,
        );
        assert_eq!(entry.view(start + SECOND * 3636), View::Fresh(address(2)));
        assert_eq!(entry.view(start + SECOND * 3637), View::Stale(address(2)));
    }

    #[test]
    fn a_name_that_is_gone_loses_its_address_and_may_come_back() {
        let start = Instant::now();
        let mut entry = Entry::new(start);
        entry.begin_lookup(start);
        entry.take(Answer::Found(address(1), SECOND), start, &BOUNDS);
        entry.begin_lookup(start + SECOND * 30);
        entry.take(
            Answer::Absent("no such name".into()),
            start + SECOND * 30,
            &BOUNDS,
        );
        assert_eq!(
            entry.view(start + SECOND * 30),
            View::Absent("no such name".into())
        );
        assert!(entry.begin_lookup(start + SECOND * 35));
        entry.take(
            Answer::Found(address(3), SECOND),
            start + SECOND * 35,
            &BOUNDS,
        );
        assert_eq!(entry.view(start + SECOND * 35), View::Fresh(address(3)));
    }

    #[test]
    fn names_that_nobody_wants_are_left_alone_and_then_forgotten() {
        let start = Instant::now();
        let mut entry = Entry::new(start);
        entry.begin_lookup(start);
        entry.take(Answer::Found(address(1), SECOND), start, &BOUNDS);
        assert!(!entry.begin_lookup(start + IN_USE));
        assert!(!entry.is_forgotten(start + IN_USE));
        assert!(entry.is_forgotten(start + KEPT));
        entry.touch(start + KEPT);
        assert!(entry.begin_lookup(start + KEPT) && !entry.is_forgotten(start + KEPT));
    }
}
