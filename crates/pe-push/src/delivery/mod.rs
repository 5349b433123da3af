//! Delivering the latest results to a peer that may be slow or away, without I/O of its own.
//!
//! [`Outbox`] holds the latest results and knows which of them are pending; what a delivery took out and did not hand on is
//! pending again, however the delivery ended. [`Delivery`] says when it is no use to go on, and [`Outage`] what is worth a
//! log line. The sinks do the sending.

mod outage;
mod outbox;

pub(crate) use outage::{Change, Outage};
pub(crate) use outbox::Outbox;

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
}

impl Delivery {
    /// Takes the result of a push.
    pub(crate) fn note(&mut self, result: Result<(), PushError>) {
        let Err(error) = result else {
            self.in_a_row = 0;
            return;
        };
        self.failed += 1;
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
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
    fn a_failure_that_is_worth_a_retry_goes_first() {
        let mut delivery = Delivery::default();
        delivery.note(Err(PushError::EmptyJob));
        delivery.note(Err(timeout()));
        delivery.note(Err(PushError::EmptyJob));
        let first = delivery.first.unwrap();
        assert!(first.is_retryable());
    }
}
