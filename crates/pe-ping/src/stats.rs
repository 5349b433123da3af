//! What the probes of one target add up to.

use std::time::Duration;

use crate::proto::nanos;
use crate::{Outcome, ProbeError, Reason};

/// Counts and moments over the probes of one target.
///
/// Mean and standard deviation are computed as the replies come in (Welford's method), so nothing is kept for each
/// probe. All times are given in whole nanoseconds, which is as exact as they are, and so that a decimal number shows no
/// digits beyond.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Stats {
    replies: u32,
    sent: u32,
    unknown: u32,
    duplicates: u16,
    late: u16,
    truncated: u16,
    /// Nanoseconds, as all times here.
    mean: f64,
    squares: f64,
    best: u64,
    worst: u64,
    last: u64,
    jitter: f64,
    errors: [u16; Reason::ALL.len()],
    ttl: Option<u8>,
}

impl Stats {
    /// Adds a probe's outcome. Probes of one target should be added in the order they were sent where jitter matters.
    pub fn record(&mut self, outcome: &Outcome) {
        match outcome {
            Ok(reply) => {
                self.sent += 1;
                self.truncated = self.truncated.saturating_add(reply.truncated.into());
                self.ttl = reply.ttl.or(self.ttl);
                self.record_rtt(nanos(reply.rtt));
            }
            Err(error) => {
                self.sent += u32::from(error.was_sent());
                self.unknown += u32::from(error.was_sent() && error.is_unknown());
                let count = &mut self.errors[error.reason() as usize];
                *count = count.saturating_add(1);
            }
        }
    }

    fn record_rtt(&mut self, rtt: u64) {
        self.replies += 1;
        let difference = rtt.abs_diff(self.last) as f64;
        match self.replies {
            1 => (self.best, self.worst) = (rtt, rtt),
            2 => self.jitter = difference,
            _ => self.jitter += (difference - self.jitter) / 16.0,
        }
        self.last = rtt;
        self.best = self.best.min(rtt);
        self.worst = self.worst.max(rtt);
        let rtt = rtt as f64;
        let deviation = rtt - self.mean;
        self.mean += deviation / f64::from(self.replies);
        self.squares += deviation * (rtt - self.mean);
    }

    /// Takes back that requests left which nobody answered: the link to the target has no carrier.
    pub(crate) fn never_left(&mut self) {
        for reason in [Reason::Timeout, Reason::HostUnreachable] {
            let lost = std::mem::take(&mut self.errors[reason as usize]);
            self.sent = self.sent.saturating_sub(lost.into());
            let count = &mut self.errors[Reason::NoCarrier as usize];
            *count = count.saturating_add(lost);
        }
    }

    /// Adds a duplicate of a reply.
    pub fn record_duplicate(&mut self) {
        self.duplicates = self.duplicates.saturating_add(1);
    }

    /// Adds a reply that came after its probe's deadline.
    pub fn record_late(&mut self) {
        self.late = self.late.saturating_add(1);
    }

    /// Requests that left this machine.
    #[must_use]
    pub fn sent(&self) -> u32 {
        self.sent
    }

    /// Requests that were answered in time.
    #[must_use]
    pub fn replies(&self) -> u32 {
        self.replies
    }

    /// Further answers to requests that had been answered already, up to 65,535.
    #[must_use]
    pub fn duplicates(&self) -> u32 {
        self.duplicates.into()
    }

    /// Answers that came after the deadline, as far as they were seen. Their requests count as lost.
    #[must_use]
    pub fn late(&self) -> u32 {
        self.late.into()
    }

    /// Replies whose payload ended early.
    #[must_use]
    pub fn truncated(&self) -> u32 {
        self.truncated.into()
    }

    /// Probes that ended for `reason`, up to 65,535.
    #[must_use]
    pub fn errors(&self, reason: Reason) -> u32 {
        self.errors[reason as usize].into()
    }

    /// Whether a probe ended without an answer.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.errors.iter().any(|errors| *errors > 0)
    }

    /// Whether at least one request was answered.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.replies > 0
    }

    /// Whether nothing was learned about the target: no reply, and no probe that ended for a reason which is not
    /// [unknown](Reason::is_unknown). True where there was no probe at all.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        let known = |reason: &Reason| !reason.is_unknown() && self.errors(*reason) > 0;
        self.replies == 0 && !Reason::ALL.iter().any(known)
    }

    /// The share of requests that were lost, from 0 to 1. Requests that never left, and those whose reply this machine
    /// may have dropped itself, are not counted. `None` when no other is left.
    #[must_use]
    pub fn loss_ratio(&self) -> Option<f64> {
        let known = self.sent - self.unknown;
        (known > 0).then(|| f64::from(known - self.replies) / f64::from(known))
    }

    /// The shortest RTT, in seconds.
    #[must_use]
    pub fn best(&self) -> Option<f64> {
        self.is_up().then(|| seconds(self.best))
    }

    /// The longest RTT, in seconds.
    #[must_use]
    pub fn worst(&self) -> Option<f64> {
        self.is_up().then(|| seconds(self.worst))
    }

    /// The mean RTT, in seconds.
    #[must_use]
    pub fn mean(&self) -> Option<f64> {
        self.is_up().then(|| seconds(whole(self.mean)))
    }

    /// The population standard deviation of the RTTs, in seconds; 0 for one reply.
    #[must_use]
    pub fn std_deviation(&self) -> Option<f64> {
        let variance = || (self.squares / f64::from(self.replies)).max(0.0);
        self.is_up().then(|| seconds(whole(variance().sqrt())))
    }

    /// The jitter, in seconds, once there are two replies: as in RFC 3550, section 6.4.1, the smoothed mean of the
    /// absolute differences between the RTTs of consecutive replies, with a gain of 1/16. Other than there it starts
    /// with the first difference instead of 0, so that a handful of probes gives a fair value.
    #[must_use]
    pub fn jitter(&self) -> Option<f64> {
        (self.replies > 1).then(|| seconds(whole(self.jitter)))
    }

    /// The TTL or hop limit of the latest reply.
    #[must_use]
    pub fn ttl(&self) -> Option<u8> {
        self.ttl
    }

    /// The mean RTT as a duration.
    #[must_use]
    pub fn mean_rtt(&self) -> Option<Duration> {
        self.is_up().then(|| Duration::from_nanos(whole(self.mean)))
    }
}

/// Whole nanoseconds.
fn whole(nanos: f64) -> u64 {
    nanos.round() as u64
}

/// Nanoseconds in seconds: one division of an integer, so that the result is the number nearest to the decimal one.
pub(crate) fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

/// A duration in milliseconds, likewise.
pub(crate) fn milliseconds(duration: Duration) -> f64 {
    nanos(duration) as f64 / 1e6
}

impl Extend<Outcome> for Stats {
    fn extend<I: IntoIterator<Item = Outcome>>(&mut self, outcomes: I) {
        for outcome in outcomes {
            self.record(&outcome);
        }
    }
}

impl From<ProbeError> for Stats {
    fn from(error: ProbeError) -> Self {
        let mut stats = Self::default();
        stats.record(&Err(error));
        stats
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Reply;

    fn reply(micros: u64) -> Outcome {
        Ok(Reply {
            rtt: Duration::from_micros(micros),
            ttl: Some(60),
            payload: 56,
            truncated: false,
        })
    }

    fn of(outcomes: impl IntoIterator<Item = Outcome>) -> Stats {
        let mut stats = Stats::default();
        stats.extend(outcomes);
        stats
    }

    #[test]
    fn nothing_came_back() {
        let stats = of([Err(ProbeError::Timeout), Err(ProbeError::NoRoute)]);
        assert_eq!((stats.sent(), stats.loss_ratio()), (1, Some(1.0)));
        assert_eq!(stats.mean().or(stats.jitter()).or(stats.best()), None);
        assert_eq!(stats.errors(Reason::NoRoute), 1);
    }

    #[test]
    fn what_this_machine_lost_is_not_the_devices_loss() {
        let stats = of([
            reply(100),
            Err(ProbeError::DroppedLocally),
            Err(ProbeError::NoBuffers),
        ]);
        assert_eq!(stats.loss_ratio(), Some(0.0));
        let stats = of([Err(ProbeError::DroppedLocally), Err(ProbeError::NotSent)]);
        assert_eq!(stats.loss_ratio(), None);
        assert!(stats.is_unknown());
        assert!(of([Err(ProbeError::NoRoute)]).is_unknown());
        assert!(!of([Err(ProbeError::NoRoute), Err(ProbeError::Timeout)]).is_unknown());
    }

    #[test]
    fn jitter_follows_rfc_3550() {
        let stats = of([reply(1_000), reply(1_100), reply(900)]);
        let expected = 100e-6 + (200e-6 - 100e-6) / 16.0;
        assert!((stats.jitter().unwrap() - expected).abs() < 1e-12);
        assert_eq!(of([reply(5)]).jitter(), None);
    }

    proptest! {
        /// Each time is a decimal number of whole nanoseconds, in seconds and in milliseconds.
        #[test]
        fn no_time_shows_digits_beyond_nanoseconds(nanos in proptest::collection::vec(1..20_000_000_000_u64, 1..20)) {
            let reply = |nanos: &u64| Ok(Reply { rtt: Duration::from_nanos(*nanos), ttl: None, payload: 0, truncated: false });
            let stats = of(nanos.iter().map(reply));
            let digits = |value: f64| value.to_string().split_once('.').map_or(0, |(_, digits)| digits.len());
            for value in [stats.best(), stats.worst(), stats.mean(), stats.std_deviation(), stats.jitter()] {
                prop_assert!(digits(value.unwrap_or_default()) <= 9, "{value:?}");
            }
            prop_assert!(digits(milliseconds(stats.mean_rtt().unwrap())) <= 6);
        }

        #[test]
        fn moments_agree_with_their_definitions(micros in proptest::collection::vec(1..10_000_000_u64, 1..200)) {
            let stats = of(micros.iter().copied().map(reply));
            let seconds: Vec<f64> = micros.iter().map(|us| seconds(us * 1_000)).collect();
            let n = seconds.len() as f64;
            let mean = seconds.iter().sum::<f64>() / n;
            let variance = seconds.iter().map(|s| (s - mean).powi(2)).sum::<f64>() / n;
            // Half a nanosecond of rounding, and the arithmetic's own error.
            prop_assert!((stats.mean().unwrap() - mean).abs() < 0.6e-9);
            prop_assert!((stats.std_deviation().unwrap() - variance.sqrt()).abs() < 0.6e-9);
            prop_assert_eq!(stats.best().unwrap(), seconds.iter().copied().fold(f64::MAX, f64::min));
            prop_assert_eq!(stats.worst().unwrap(), seconds.iter().copied().fold(0.0, f64::max));
            prop_assert_eq!(stats.loss_ratio(), Some(0.0));
        }
    }
}
