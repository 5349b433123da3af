//! What is known of one name in one family, and when to ask again. No I/O and no clock.

use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// What a lookup came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The name has these addresses, for so long.
    Found(Vec<IpAddr>, Duration),
    /// It is known that there is none.
    Denied(Denial),
    /// Nobody could tell.
    Failed(String),
}

/// What a name server says that there is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Denial {
    /// There is no such name, in no family.
    NoName,
    /// The name has no address of the family.
    NoAddress,
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoName => "there is no such name",
            Self::NoAddress => "the name has no address",
        })
    }
}

/// What can be told of a name right now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum View<'e> {
    /// The addresses are as fresh as the name server wants them.
    Fresh(&'e [IpAddr]),
    /// The addresses are older than that, because asking again has not succeeded yet.
    Stale(&'e [IpAddr]),
    /// There is no address.
    Denied(Denial),
    /// Nobody could tell.
    Failed(&'e str),
    /// It has not been asked for yet.
    Unknown,
}

impl<'e> View<'e> {
    /// The addresses, where there are some.
    pub(crate) fn addresses(&self) -> &'e [IpAddr] {
        match self {
            Self::Fresh(addresses) | Self::Stale(addresses) => addresses,
            _ => &[],
        }
    }
}

/// Bounds of the times that an entry goes by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) min_ttl: Duration,
    pub(crate) max_ttl: Duration,
    /// Until a failed or negative lookup is tried again.
    pub(crate) retry: Duration,
}

/// How long after its last use a name is still kept fresh.
const IN_USE: Duration = Duration::from_secs(600);
/// How long after its last use a name is forgotten.
const KEPT: Duration = Duration::from_secs(86_400);

/// Why there is no address.
#[derive(Debug)]
enum Refusal {
    Denied(Denial),
    Failed(String),
}

/// The state of one name in one family.
#[derive(Debug)]
pub(crate) struct Entry {
    addresses: Option<(Vec<IpAddr>, Instant)>,
    refusal: Option<Refusal>,
    next_lookup: Instant,
    /// `None` while nobody has asked for it.
    used: Option<Instant>,
    looking: bool,
    /// The answer of the lookup under way is out of date before it is there.
    again: bool,
}

impl Entry {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            addresses: None,
            refusal: None,
            next_lookup: now,
            used: None,
            looking: false,
            again: false,
        }
    }

    /// Notes that someone wants to know.
    pub(crate) fn touch(&mut self, now: Instant) {
        self.used = Some(now);
    }

    pub(crate) fn view(&self, now: Instant) -> View<'_> {
        match (&self.addresses, &self.refusal) {
            (Some((addresses, until)), _) if now <= *until => View::Fresh(addresses),
            (Some((addresses, _)), _) => View::Stale(addresses),
            (None, Some(Refusal::Denied(denial))) => View::Denied(*denial),
            (None, Some(Refusal::Failed(message))) => View::Failed(message),
            (None, None) => View::Unknown,
        }
    }

    /// Whether it is time to ask; the caller then does, and hands the answer to [`take`](Self::take).
    pub(crate) fn begin_lookup(&mut self, now: Instant) -> bool {
        let wanted = self.used.is_some_and(|used| now < used + IN_USE);
        let due = !self.looking && now >= self.next_lookup && wanted;
        self.looking |= due;
        due
    }

    /// Makes the next lookup due, as what it depends on has changed. What is known stays in use until then.
    pub(crate) fn expire(&mut self, now: Instant) {
        self.next_lookup = now;
        self.again = self.looking;
    }

    pub(crate) fn take(&mut self, answer: Answer, now: Instant, bounds: &Bounds) {
        self.looking = false;
        match answer {
            Answer::Found(addresses, ttl) => {
                let ttl = ttl.clamp(bounds.min_ttl, bounds.max_ttl);
                // Asked again a little early, so that the address does not become stale meanwhile.
                self.next_lookup = now + ttl.mul_f64(0.9);
                self.addresses = Some((addresses, now + ttl));
                self.refusal = None;
            }
            Answer::Denied(denial) => {
                self.next_lookup = now + bounds.retry;
                self.addresses = None;
                self.refusal = Some(Refusal::Denied(denial));
            }
            Answer::Failed(message) => {
                self.next_lookup = now + bounds.retry;
                // A denial was true when somebody could tell; now nothing is known.
                if self.addresses.is_none() {
                    self.refusal = Some(Refusal::Failed(message));
                }
            }
        }
        if std::mem::take(&mut self.again) {
            self.next_lookup = now;
        }
    }

    /// Whether nobody has asked for so long that the name can be forgotten.
    pub(crate) fn is_forgotten(&self, now: Instant) -> bool {
        !self.looking && self.used.is_none_or(|used| now >= used + KEPT)
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

    fn address(last: u8) -> [IpAddr; 1] {
        [[127, 0, 0, last].into()]
    }

    fn found(last: u8, ttl: Duration) -> Answer {
        Answer::Found(address(last).to_vec(), ttl)
    }

    fn used(now: Instant) -> Entry {
        let mut entry = Entry::new(now);
        assert!(!entry.begin_lookup(now), "nobody wants to know yet");
        entry.touch(now);
        entry
    }

    #[test]
    fn an_address_is_fresh_for_its_ttl_and_kept_when_nobody_answers() {
        let start = Instant::now();
        let mut entry = used(start);
        assert_eq!(entry.view(start), View::Unknown);
        assert!(entry.begin_lookup(start));
        assert!(!entry.begin_lookup(start), "one lookup at a time");
        entry.take(found(1, SECOND), start, &BOUNDS);
        assert_eq!(entry.view(start + SECOND * 30), View::Fresh(&address(1)));
        assert!(!entry.begin_lookup(start + SECOND * 26));
        assert!(entry.begin_lookup(start + SECOND * 27));
        entry.take(
            Answer::Failed("timed out".into()),
            start + SECOND * 31,
            &BOUNDS,
        );
        assert_eq!(entry.view(start + SECOND * 31), View::Stale(&address(1)));
        assert!(!entry.begin_lookup(start + SECOND * 35));
        assert!(entry.begin_lookup(start + SECOND * 36));
        entry.take(found(2, SECOND * 1_000_000), start + SECOND * 36, &BOUNDS);
        assert_eq!(entry.view(start + SECOND * 3636), View::Fresh(&address(2)));
        assert_eq!(entry.view(start + SECOND * 3637), View::Stale(&address(2)));
    }

    #[test]
    fn a_name_that_is_gone_loses_its_address_and_may_come_back() {
        let start = Instant::now();
        let mut entry = used(start);
        entry.begin_lookup(start);
        entry.take(found(1, SECOND), start, &BOUNDS);
        entry.begin_lookup(start + SECOND * 30);
        entry.take(Answer::Denied(Denial::NoName), start + SECOND * 30, &BOUNDS);
        assert_eq!(
            entry.view(start + SECOND * 30),
            View::Denied(Denial::NoName)
        );
        assert!(entry.begin_lookup(start + SECOND * 35));
        entry.take(found(3, SECOND), start + SECOND * 35, &BOUNDS);
        assert_eq!(entry.view(start + SECOND * 35), View::Fresh(&address(3)));
    }

    #[test]
    fn names_that_nobody_wants_are_left_alone_and_then_forgotten() {
        let start = Instant::now();
        let mut entry = used(start);
        entry.begin_lookup(start);
        entry.take(found(1, SECOND), start, &BOUNDS);
        assert!(!entry.begin_lookup(start + IN_USE));
        assert!(!entry.is_forgotten(start + IN_USE));
        assert!(entry.is_forgotten(start + KEPT));
        entry.touch(start + KEPT);
        assert!(entry.begin_lookup(start + KEPT) && !entry.is_forgotten(start + KEPT));
    }

    #[test]
    fn a_denial_is_forgotten_when_nobody_can_tell_any_more() {
        let start = Instant::now();
        let mut entry = used(start);
        entry.begin_lookup(start);
        entry.take(Answer::Denied(Denial::NoName), start, &BOUNDS);
        entry.begin_lookup(start + SECOND * 5);
        let later = start + SECOND * 6;
        entry.take(Answer::Failed("silent".into()), later, &BOUNDS);
        assert_eq!(entry.view(later), View::Failed("silent"));
    }

    #[test]
    fn a_change_makes_an_answer_that_is_under_way_out_of_date() {
        let start = Instant::now();
        let mut entry = used(start);
        assert!(entry.begin_lookup(start));
        entry.expire(start);
        assert!(!entry.begin_lookup(start), "one lookup at a time");
        entry.take(found(1, SECOND), start, &BOUNDS);
        assert_eq!(entry.view(start), View::Fresh(&address(1)));
        assert!(entry.begin_lookup(start));
        entry.take(found(2, SECOND), start, &BOUNDS);
        assert!(!entry.begin_lookup(start));
    }
}
