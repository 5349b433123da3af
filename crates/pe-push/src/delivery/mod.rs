//! Delivering the latest results to a peer that may be slow or away, without I/O of its own.
//!
//! [`Outbox`] holds the latest results and knows which of them are pending; what a delivery took out and did not hand on is
//! pending again, however the delivery ended. [`Delivery`] says when it is no use to go on, and [`Outage`] what is worth a
//! log line. The sinks do the sending.

mod outage;
mod outbox;

pub(crate) use outage::{Change, Outage};
pub(crate) use outbox::Outbox;

use std::time::Duration;

use crate::PushError;

/// After so many failures in a row that other pushes would share, a delivery is broken off: a peer that hangs costs a few
/// timeouts then, and not thousands.
const HOPELESS: usize = 3;

/// How a delivery of many pushes goes.
#[derive(Default)]
pub(crate) struct Delivery {
    /// Pushes that failed.
    pub(crate) failed: u64,
    /// The first failure; one that is worth another try goes before one that is not.
    pub(crate) first: Option<PushError>,
    /// Failures in a row that all pushes would share.
    in_a_row: usize,
    /// How long the peer asks to be left alone; the longest of all answers.
    pub(crate) asked: Option<Duration>,
}

impl Delivery {
    /// Takes the result of a push.
    pub(crate) fn note(&mut self, result: Result<(), PushError>) {
        let Err(error) = result else {
            self.in_a_row = 0;
            return;
        };
        self.failed += 1;
        self.asked = self.asked.max(asked_by(&error));
        self.in_a_row = if error.is_unreachable() {
            self.in_a_row + 1
        } else {
            0
        };
        let is_worse = |first: &PushError| !first.is_retryable() && error.is_retryable();
        if self.first.as_ref().is_none_or(is_worse) {
            self.first = Some(error);
        }
    }

    /// Whether further pushes would only fail alike.
    pub(crate) fn is_hopeless(&self) -> bool {
        self.in_a_row >= HOPELESS
    }

    /// Whether further pushes may be sent now: there is hope, and the peer did not ask to be left alone.
    pub(crate) fn goes_on(&self) -> bool {
        !self.is_hopeless() && self.asked.is_none()
    }
}

/// How long a peer asks to be left alone by an answer, where it does.
pub(crate) fn asked_by(error: &PushError) -> Option<Duration> {
    error.retry_after().filter(|asked| !asked.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timeout() -> PushError {
        PushError::Timeout {
            url: String::new(),
            after: Duration::ZERO,
        }
    }

    #[test]
    fn only_failures_in_a_row_that_all_share_are_hopeless() {
        let mut delivery = Delivery::default();
        for result in [
            Err(timeout()),
            Err(timeout()),
            Ok(()),
            Err(timeout()),
            Err(timeout()),
            Err(PushError::EmptyJob),
            Err(timeout()),
            Err(timeout()),
        ] {
            delivery.note(result);
            assert!(!delivery.is_hopeless());
        }
        delivery.note(Err(timeout()));
        assert!(delivery.is_hopeless());
        assert_eq!(delivery.failed, 8);
    }

    #[test]
    fn a_peer_that_asks_to_be_left_alone_is_left_alone_for_the_longest_of_its_times() {
        let mut delivery = Delivery::default();
        let busy = |seconds: Option<u64>| PushError::Gateway {
            url: String::new(),
            status: hyper::StatusCode::TOO_MANY_REQUESTS,
            words: String::new(),
            retry_after: seconds.map(Duration::from_secs),
        };
        delivery.note(Err(timeout()));
        delivery.note(Err(busy(None)));
        delivery.note(Err(busy(Some(0))));
        assert!(delivery.goes_on() && delivery.asked.is_none());
        // That it was not the first failure changes nothing.
        for seconds in [3, 9, 5] {
            delivery.note(Err(busy(Some(seconds))));
        }
        assert!(!delivery.goes_on() && !delivery.is_hopeless());
        assert_eq!(delivery.asked, Some(Duration::from_secs(9)));
    }

    #[test]
    fn a_failure_that_is_worth_a_retry_goes_first() {
        let mut delivery = Delivery::default();
        delivery.note(Err(PushError::EmptyJob));
        delivery.note(Err(timeout()));
        delivery.note(Err(PushError::EmptyJob));
        let first = delivery.first.unwrap();
        assert!(first.is_retryable());
    }
}
