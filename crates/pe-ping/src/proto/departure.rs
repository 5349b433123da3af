//! When a packet left, told from readings of the clock around the system call that sent it.
//!
//! The kernel could stamp each packet on its way out, but to collect such a stamp costs a fifth of what a whole ping
//! costs. Instead a few packets at a time are sent between two readings of the clock, which takes about the same time for
//! each of them. Where it took much longer, the thread was interrupted somewhere in between: then there are two moments
//! at which a packet may have left, and its reply decides.

use super::Nanos;

/// The point within a packet's share of the call at which it leaves, in hundredths; measured on Linux 6.18 against
/// captures on the loopback interface.
const LEAVES_AT: Nanos = 38;

/// The shortest round trip: a departure cannot be told more exactly than this, and a reply is never before its request.
const SHORTEST: Nanos = 1_000;

/// Interruptions above this are longer than round trips in a local network.
const LONG: Nanos = 200_000;

/// What a packet is taken to need before the first call has shown it, and the most that this one can show: more than a call takes
/// whose code and data are in no cache yet, and less than an interruption by another program.
const COLD: Nanos = 100_000;

/// When a packet left, or when it may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Departure {
    /// The earliest moment.
    pub(crate) early: Nanos,
    /// How much later it may have been.
    pub(crate) doubt: Doubt,
}

/// Microseconds by which a departure may have been later than assumed; the top bit says that it probably was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Doubt(u16);

const PROBABLY_LATE: u16 = 1 << 15;

impl Doubt {
    fn new(doubt: Nanos, probably_late: bool) -> Self {
        let micros = (doubt / 1_000).min(u64::from(PROBABLY_LATE - 1)) as u16;
        Self(if probably_late {
            micros | PROBABLY_LATE
        } else {
            micros
        })
    }

    fn nanos(self) -> Nanos {
        Nanos::from(self.0 & !PROBABLY_LATE) * 1_000
    }
}

impl Departure {
    /// The moment at which a packet left whose reply came in at `received`.
    #[inline]
    pub(crate) fn given_reply_at(self, received: Nanos) -> Nanos {
        let doubt = self.doubt.nanos();
        let late = self.early.saturating_add(doubt);
        if doubt == 0 || received <= late {
            return self.early.min(received.saturating_sub(SHORTEST));
        }
        // A round trip far longer than the doubt tells nothing; one that is shorter was hardly preceded by it. The longer
        // the interruption, the more of the real round trips it could pass for, so the shorter the rest must be.
        let rest = received - late;
        let bound = if doubt > LONG { doubt / 8 } else { doubt };
        if rest < bound || self.doubt.0 & PROBABLY_LATE != 0 {
            late.min(received.saturating_sub(SHORTEST))
        } else {
            self.early
        }
    }
}

/// Tells departures from clock readings. Learns how long a packet usually takes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Departures {
    /// The usual time for one packet, in nanoseconds; 0 before the first.
    usual: Nanos,
}

impl Departures {
    /// The departures of `count` packets that were sent one after the other between two readings of the clock.
    #[inline]
    pub(crate) fn between(
        &mut self,
        before: Nanos,
        after: Nanos,
        count: usize,
    ) -> impl Iterator<Item = Departure> + use<> {
        let count = count.max(1) as Nanos;
        let span = after.saturating_sub(before);
        let mut share = span / count;
        let usual = if self.usual == 0 { COLD } else { self.usual };
        let excess = span.saturating_sub(usual * count);
        let interrupted = excess > (usual * count / 2).max(2_000);
        if interrupted {
            share = usual;
        }
        self.learn(span / count);
        (0..count).map(move |at| {
            let early = before + share * at + share * LEAVES_AT / 100;
            Departure {
                early,
                doubt: if interrupted {
                    Doubt::new(excess, 2 * at >= count)
                } else {
                    Doubt::default()
                },
            }
        })
    }

    /// Follows the usual time: quickly down, slowly up, so that interruptions move it little.
    fn learn(&mut self, share: Nanos) {
        if self.usual == 0 {
            self.usual = share.clamp(1, COLD);
        } else if share < self.usual {
            self.usual -= (self.usual - share) / 8;
        } else {
            self.usual += (share - self.usual).min(self.usual) / 32;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn warm() -> Departures {
        let mut departures = Departures::default();
        for call in 0..100 {
            departures
                .between(call * 10_000, call * 10_000 + 10_000, 2)
                .for_each(drop);
        }
        departures
    }

    #[test]
    fn an_undisturbed_call_is_shared_evenly() {
        let times = warm().between(1_000_000, 1_010_000, 2);
        let expected = [1_001_900, 1_006_900].map(|early| Departure {
            early,
            doubt: Doubt::default(),
        });
        assert_eq!(times.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn the_reply_tells_on_which_side_of_an_interruption_a_packet_left() {
        let times: Vec<_> = warm().between(1_000_000, 1_110_000, 2).collect();
        // Both left before it: the replies came within microseconds.
        assert_eq!(times[0].given_reply_at(1_005_000), 1_001_900);
        assert_eq!(times[1].given_reply_at(1_010_000), 1_006_900);
        // Both left after it.
        assert_eq!(times[0].given_reply_at(1_105_000), 1_101_900);
        assert_eq!(times[1].given_reply_at(1_110_000), 1_106_900);
        // A reply from far away does not tell: the first probably left before, the second after it.
        assert_eq!(times[0].given_reply_at(9_000_000), 1_001_900);
        assert_eq!(times[1].given_reply_at(9_000_000), 1_106_900);
    }

    #[test]
    fn a_round_trip_of_some_milliseconds_is_no_proof_of_a_late_departure() {
        // Interrupted for 2 ms; the reply came 3 ms after the call began.
        let times: Vec<_> = warm().between(1_000_000, 3_010_000, 2).collect();
        assert_eq!(times[0].given_reply_at(4_000_000), 1_001_900);
        // 100 µs after the call ended: the request had hardly left before the interruption.
        assert!(times[0].given_reply_at(3_110_000) > 3_000_000);
    }

    #[test]
    fn an_interruption_of_the_first_call_is_told_from_a_round_trip() {
        // Interrupted for 16 ms, before the packet left or after it; the reply of a device on this machine came at once.
        for reply in [16_970_000, 1_060_000] {
            let mut departures = Departures::default();
            let first = departures.between(1_000_000, 17_000_000, 1).next().unwrap();
            let left = first.given_reply_at(reply);
            assert!(reply - left < COLD, "{}", reply - left);
            // Later calls are not taken to need as long as this one.
            let second = departures
                .between(20_000_000, 36_000_000, 1)
                .next()
                .unwrap();
            let reply = reply + 19_000_000;
            assert!(reply - second.given_reply_at(reply) < COLD);
        }
    }

    proptest! {
        /// Departures lie between the readings, in order, and a reply from within the call is never before its request.
        #[test]
        fn never_outside_the_call(
            calls in proptest::collection::vec((0..10_000_000_u64, 1..9_usize), 1..50),
            reply in 0..20_000_000_u64,
        ) {
            let mut departures = Departures::default();
            let mut now = 1_000_000_000;
            for (span, count) in calls {
                let times: Vec<_> = departures.between(now, now + span, count).collect();
                prop_assert_eq!(times.len(), count);
                for pair in times.windows(2) {
                    prop_assert!(pair[0].early <= pair[1].early);
                }
                for time in &times {
                    prop_assert!(time.early >= now && time.early <= now + span);
                    let received = time.early + reply;
                    let left = time.given_reply_at(received);
                    prop_assert!(left + SHORTEST >= time.early && left < received && left <= now + span);
                }
                now += span + 1_000;
            }
        }
    }
}
