//! The files that say how a simulated network behaves.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// A simulated network: its devices, their links, and what goes wrong on them.
///
/// ```
/// let scenario: pe_testkit::Scenario = serde_json::from_str(r#"{
///     "about": "A slow link that loses every third request and sends some replies twice",
///     "devices": [{
///         "hosts": "1-10",
///         "delay": { "mean_ms": 5, "deviation_ms": 1 },
///         "faults": [
///             { "when": { "every": 3 }, "do": "drop" },
///             { "when": { "ratio": 0.02 }, "do": { "duplicate": { "after_ms": 0.5 } } }
///         ]
///     }]
/// }"#)?;
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// What it is about, in a sentence.
    pub about: String,
    /// The families that it makes sense for: `v4`, `v6`; both by default.
    #[serde(default = "both_families")]
    pub families: Vec<Family>,
    /// The start of everything random in it.
    #[serde(default = "default_seed")]
    pub seed: u64,
    /// Who answers, and how. An address that is in none of them belongs to nobody: silence.
    pub devices: Vec<DeviceGroup>,
    /// Echo replies that nobody asked for.
    #[serde(default)]
    pub storm: Option<Storm>,
    /// How a test probes this network; the test says what is in it.
    #[serde(default)]
    pub run: Value,
    /// What a test must see; the test says what is in it.
    #[serde(default)]
    pub expect: Value,
}

impl Scenario {
    /// Reads a scenario file.
    ///
    /// # Panics
    /// If it cannot be read or is no scenario; the message tells where.
    pub fn read(file: impl AsRef<Path>) -> Self {
        let file = file.as_ref();
        let text = std::fs::read_to_string(file)
            .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
    }
}

fn both_families() -> Vec<Family> {
    vec![Family::V4, Family::V6]
}

fn default_seed() -> u64 {
    1
}

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// IPv4 and ICMP.
    V4,
    /// IPv6 and ICMPv6.
    V6,
}

/// Devices that behave alike, each with counters and randomness of its own.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceGroup {
    /// Their host numbers.
    pub hosts: Hosts,
    /// From the arrival of a request to the departure of its reply.
    #[serde(default)]
    pub delay: Delay,
    /// Routers on the way: the TTL must be larger than their number, and is smaller by it in a reply.
    #[serde(default)]
    pub hops: u8,
    /// What goes wrong, applied in this order.
    #[serde(default)]
    pub faults: Vec<Fault>,
}

/// Host numbers from the first to the last: in a file `7` or `"1-10"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hosts {
    /// The first, at least 1.
    pub first: u32,
    /// The last, at most [`Hosts::MAX`].
    pub last: u32,
}

impl Hosts {
    /// The largest host number: beyond it are routers and the tester.
    pub const MAX: u32 = 0x00fe_ffff;

    /// How many there are.
    pub fn count(self) -> u32 {
        self.last - self.first + 1
    }

    /// All of them.
    pub fn numbers(self) -> impl Iterator<Item = u32> {
        self.first..=self.last
    }
}

impl<'de> Deserialize<'de> for Hosts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            One(u32),
            Range(String),
        }
        let hosts = match Form::deserialize(deserializer)? {
            Form::One(number) => Some(Self {
                first: number,
                last: number,
            }),
            Form::Range(text) => text.split_once('-').and_then(|(first, last)| {
                Some(Self {
                    first: first.parse().ok()?,
                    last: last.parse().ok()?,
                })
            }),
        };
        hosts
            .filter(|hosts| (1..=hosts.last).contains(&hosts.first) && hosts.last <= Self::MAX)
            .ok_or_else(|| serde::de::Error::custom("hosts are like 7 or \"1-10\""))
    }
}

/// A distribution of delays, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Delay {
    /// Always the same.
    Fixed(f64),
    /// Normally distributed, never below zero.
    Normal {
        /// Mean.
        mean_ms: f64,
        /// Standard deviation.
        deviation_ms: f64,
    },
    /// Uniformly distributed.
    Uniform {
        /// The least.
        from_ms: f64,
        /// The most.
        to_ms: f64,
    },
}

impl Default for Delay {
    fn default() -> Self {
        Self::Fixed(0.0)
    }
}

impl Delay {
    /// Draws one.
    pub(super) fn draw(self, random: &mut fastrand::Rng) -> Duration {
        let milliseconds = match self {
            Self::Fixed(fixed) => fixed,
            Self::Normal {
                mean_ms,
                deviation_ms,
            } => {
                // Box and Muller, 1958; 1 - f64() is never zero.
                let radius = (-2.0 * (1.0 - random.f64()).ln()).sqrt();
                mean_ms + deviation_ms * radius * (std::f64::consts::TAU * random.f64()).cos()
            }
            Self::Uniform { from_ms, to_ms } => from_ms + (to_ms - from_ms) * random.f64(),
        };
        Duration::from_secs_f64(milliseconds.max(0.0) / 1e3)
    }
}

/// Something that goes wrong with some requests.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// With which ones.
    #[serde(default)]
    pub when: When,
    /// What.
    pub r#do: Action,
}

/// Which of a device's requests; they are counted from 1.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// All.
    #[default]
    Always,
    /// Each with this probability.
    Ratio(f64),
    /// Every so many: `3` means the third, the sixth and so on.
    Every(u32),
    /// These.
    Numbers(Vec<u32>),
    /// All but the first so many.
    After(u32),
    /// The first so many.
    First(u32),
}

impl When {
    pub(super) fn applies(&self, number: u32, random: &mut fastrand::Rng) -> bool {
        match self {
            Self::Always => true,
            Self::Ratio(ratio) => random.f64() < *ratio,
            Self::Every(every) => number.is_multiple_of(*every),
            Self::Numbers(numbers) => numbers.contains(&number),
            Self::After(first) => number > *first,
            Self::First(first) => number <= *first,
        }
    }
}

/// What happens to the reply, or instead of it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Action {
    /// Nothing comes back.
    Drop,
    /// Nothing comes back to requests with the identifier that the device was sent first, as behind a middlebox whose entry
    /// for it is stale.
    DropFirstIdentifier,
    /// The reply comes later by so many milliseconds.
    Hold(f64),
    /// The reply comes again.
    Duplicate {
        /// How often.
        #[serde(default = "one")]
        copies: u32,
        /// How much later than the one before, in milliseconds.
        #[serde(default)]
        after_ms: f64,
    },
    /// The reply waits until the same device is sent a request with the same identifier and sequence
    /// number, and comes right before the reply to that.
    KeepUntilReuse,
    /// These bits of the reply's identifier are others.
    WrongIdentifier(u16),
    /// These bits of the reply's sequence number are others.
    WrongSequence(u16),
    /// The reply comes from this host instead.
    WrongSource(u32),
    /// One bit of the payload's byte at this offset is another.
    FlipPayload(usize),
    /// Of the payload so many bytes are left.
    Truncate(usize),
    /// So many bytes follow the payload.
    Extend(usize),
    /// The ICMP checksum is wrong.
    BadChecksum,
    /// The reply's IPv4 header has options.
    IpOptions,
    /// An ICMP error comes instead.
    Error(ErrorMessage),
    /// Besides the reply, and right before it, comes something that is no answer.
    Noise(Noise),
}

fn one() -> u32 {
    1
}

/// An ICMP error.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ErrorMessage {
    /// Which one.
    pub kind: ErrorKind,
    /// The code, in the terms of the family; 4 is too big's in IPv4.
    #[serde(default)]
    pub code: u8,
    /// MTU of "too big", pointer of "parameter problem".
    #[serde(default)]
    pub info: u32,
    /// How many bytes of the ICMP message are quoted; as many as the standards allow by default.
    #[serde(default)]
    pub quote: Option<usize>,
    /// What is wrong with the quote, if anything.
    #[serde(default)]
    pub forged: Option<Forgery>,
    /// The reply comes as well, after it.
    #[serde(default)]
    pub reply_too: bool,
}

/// The kinds of ICMP errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// Destination unreachable.
    Unreachable,
    /// Time exceeded.
    TimeExceeded,
    /// Packet too big; in IPv4 unreachable, fragmentation needed.
    TooBig,
    /// Parameter problem.
    ParameterProblem,
}

/// A quote of a request that was never sent like that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Forgery {
    /// Another checksum.
    Checksum,
    /// Another identifier.
    Identifier,
    /// Another sequence number.
    Sequence,
    /// Another destination.
    Destination,
    /// Another payload, in its first byte.
    Payload,
    /// An echo reply instead of a request.
    Reply,
}

/// Messages that answer nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Noise {
    /// An echo request to the prober with the identifier, sequence and payload of its own request.
    EchoRequest,
    /// A redirect that quotes the request.
    Redirect,
    /// A message of an unassigned type.
    UnknownType,
    /// An echo reply that ends within its header.
    ShortReply,
    /// An error that ends within the header that it quotes.
    ShortQuote,
    /// A packet with nothing behind its IP header.
    Empty,
}

/// A stream of echo replies that nobody asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Storm {
    /// So many a second, in bursts of at most a millisecond's share.
    pub rate: u32,
    /// Which identifiers they carry.
    #[serde(default)]
    pub identifiers: Identifiers,
}

/// The identifiers of a [`Storm`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Identifiers {
    /// Any.
    #[default]
    Random,
    /// That of the last request seen: the worst that another prober can do.
    LastSeen,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_numbers_or_ranges() {
        let hosts = |text: &str| serde_json::from_str::<Hosts>(text).ok();
        assert_eq!(hosts("7"), Some(Hosts { first: 7, last: 7 }));
        assert_eq!(hosts("\"1-10\"").map(Hosts::count), Some(10));
        for wrong in ["0", "\"5-4\"", "\"x\"", "\"1-99999999\"", "[]"] {
            assert_eq!(hosts(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn delays_have_the_mean_and_deviation_that_were_asked_for() {
        let mut random = fastrand::Rng::with_seed(1);
        let n = 100_000;
        for (delay, mean, deviation) in [
            (Delay::Fixed(3.0), 3.0, 0.0),
            (
                Delay::Normal {
                    mean_ms: 5.0,
                    deviation_ms: 1.0,
                },
                5.0,
                1.0,
            ),
            (
                Delay::Uniform {
                    from_ms: 1.0,
                    to_ms: 4.0,
                },
                2.5,
                3.0 / 12f64.sqrt(),
            ),
        ] {
            let drawn: Vec<f64> = (0..n)
                .map(|_| delay.draw(&mut random).as_secs_f64() * 1e3)
                .collect();
            let found = drawn.iter().sum::<f64>() / f64::from(n);
            let square = drawn.iter().map(|x| (x - found).powi(2)).sum::<f64>() / f64::from(n);
            assert!((found - mean).abs() < 0.02, "{delay:?}: mean {found}");
            assert!(
                (square.sqrt() - deviation).abs() < 0.02,
                "{delay:?}: {}",
                square.sqrt()
            );
        }
    }

    #[test]
    fn selectors_pick_the_requests_that_they_name() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut picked = |when: When| -> Vec<u32> {
            (1..=9)
                .filter(|number| when.applies(*number, &mut random))
                .collect()
        };
        assert_eq!(picked(When::Every(3)), [3, 6, 9]);
        assert_eq!(picked(When::Numbers(vec![1, 8])), [1, 8]);
        assert_eq!(picked(When::After(7)), [8, 9]);
        assert_eq!(picked(When::First(2)), [1, 2]);
        assert_eq!(picked(When::Always).len(), 9);
        assert_eq!(picked(When::Ratio(0.0)).len(), 0);
        assert_eq!(picked(When::Ratio(1.0)).len(), 9);
    }

    #[test]
    fn a_typing_mistake_in_a_scenario_is_an_error() {
        let parse = |text: &str| serde_json::from_str::<Scenario>(text).is_err();
        assert!(parse(
            r#"{ "about": "x", "devices": [{ "hosts": 1, "dealy": 3 }] }"#
        ));
        assert!(parse(
            r#"{ "about": "x", "devices": [{ "hosts": 1, "faults": [{ "do": "dorp" }] }] }"#
        ));
    }
}
