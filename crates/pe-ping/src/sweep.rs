//! Probing many targets together.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::sys;
use crate::{ProbeError, Reply, Stats, SubnetError, subnet};
use pe_scrape::Pacer;

/// A plan to probe many targets, some times each, for [`Pinger::sweep`](crate::Pinger::sweep).
///
/// Probes go round by round: the first probe of each target, then the second of each, and so on. Nothing is allocated
/// for a probe; a target costs its address and its [`Stats`].
#[derive(Debug, Clone)]
pub struct Sweep {
    pub(crate) targets: Arc<[IpAddr]>,
    pub(crate) count: u32,
    pub(crate) probe_interval: Duration,
    pub(crate) timeout: Option<Duration>,
    pub(crate) spread: Duration,
    pub(crate) pacers: Vec<Pacer>,
    pub(crate) deadline: Option<Instant>,
    pub(crate) linger: Duration,
    pub(crate) scopes: Option<Arc<[u32]>>,
    pub(crate) flows: Option<Arc<[u8]>>,
    pub(crate) lost: Option<Arc<[bool]>>,
}

impl Sweep {
    /// Probes each of `targets` once, as fast as the pinger's rate allows. An address may appear more than once.
    ///
    /// Takes vectors, arrays, slices and [`Arc`]s of addresses; what else can be iterated over can be
    /// [collected](Iterator::collect) into a sweep.
    pub fn new(targets: impl Into<Arc<[IpAddr]>>) -> Self {
        Self {
            targets: targets.into(),
            count: 1,
            probe_interval: Duration::from_secs(1),
            timeout: None,
            spread: Duration::ZERO,
            pacers: Vec::new(),
            deadline: None,
            linger: Duration::ZERO,
            scopes: None,
            flows: None,
            lost: None,
        }
    }

    /// Probes each device address of a subnet once: in IPv4, network and broadcast address are left out where the prefix is
    /// shorter than 31 bits (RFC 3021); in IPv6, all addresses are probed.
    ///
    /// ```
    /// let sweep = pe_ping::Sweep::subnet("127.0.0.0/29")?;
    /// assert_eq!(sweep.probes(), 6);
    /// # Ok::<(), pe_ping::SubnetError>(())
    /// ```
    ///
    /// # Errors
    /// [`SubnetError`] when `subnet` is not an address with a prefix length, or has more than 1,048,576 addresses.
    pub fn subnet(subnet: &str) -> Result<Self, SubnetError> {
        subnet::expand(subnet).map(Self::new)
    }

    /// Probes for each target; 1 if not set.
    #[must_use]
    pub fn count(mut self, count: u32) -> Self {
        self.count = count;
        self
    }

    /// The time from one probe of a target to its next; a second if not set. Where the pinger's rate does not allow it,
    /// it becomes longer.
    #[must_use]
    pub fn probe_interval(mut self, interval: Duration) -> Self {
        self.probe_interval = interval;
        self
    }

    /// How long to wait for each reply; the pinger's timeout if not set.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Spreads the probes of one round evenly over this time; not spread if not set.
    #[must_use]
    pub fn spread(mut self, spread: Duration) -> Self {
        self.spread = spread;
        self
    }

    /// Sends no faster than `pacer` allows, which other sweeps may share; not limited if not set.
    ///
    /// With several pacers, all of them must allow each request. One that has waited for another pacer's time may then
    /// leave in addition to a pacer's burst. The pinger's own [rate](crate::PingerBuilder::rate) is kept to in any case.
    #[must_use]
    pub fn pacer(mut self, pacer: Pacer) -> Self {
        self.pacers.push(pacer);
        self
    }

    /// Ends the sweep at this moment: probes without an answer count as timed out, those not sent yet as
    /// [`ProbeError::NotSent`].
    #[must_use]
    pub fn deadline(mut self, deadline: Instant) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// How long the observer of [`Pinger::sweep_with`](crate::Pinger::sweep_with) is still told of duplicates and
    /// late replies after the sweep has ended; not at all if not set.
    #[must_use]
    pub fn linger(mut self, linger: Duration) -> Self {
        self.linger = linger;
        self
    }

    /// The links of link-local IPv6 targets: for each target the [index of an interface](zone_index), or 0 for the pinger's own
    /// [interface](crate::PingerBuilder::interface), which is also what the last ones have where there are fewer.
    #[must_use]
    pub fn scopes(mut self, indices: impl Into<Arc<[u32]>>) -> Self {
        let indices = indices.into();
        self.scopes = (!indices.is_empty()).then_some(indices);
        self
    }

    /// The link of a target; 0 for the pinger's own.
    #[inline]
    pub(crate) fn scope(&self, target: u32) -> u32 {
        let scopes = self.scopes.as_deref();
        scopes.map_or(0, |scopes| {
            scopes.get(target as usize).copied().unwrap_or(0)
        })
    }

    /// The flow that the probes of each target belong to, by number, in the order of the targets; 0 for what is not said.
    ///
    /// Each of the 64 flows has an ICMP identifier of its own; datagram sockets have 16 together, of which one is for flow 0 alone. A
    /// device that is lost because a middlebox on the way holds a stale entry for an identifier answers to another.
    #[must_use]
    pub fn flows(mut self, flows: impl Into<Arc<[u8]>>) -> Self {
        self.flows = Some(flows.into());
        self
    }

    #[inline]
    pub(crate) fn flow(&self, target: u32) -> u8 {
        let flows = self.flows.as_deref();
        flows
            .and_then(|flows| flows.get(target as usize).copied())
            .unwrap_or(0)
    }

    /// Which targets did not answer last time, in the order of the targets; none if not said.
    ///
    /// Where this machine has no room for all requests, since thousands of neighbours do not answer, those to other targets
    /// come first.
    #[must_use]
    pub fn lost(mut self, marks: impl Into<Arc<[bool]>>) -> Self {
        self.lost = Some(marks.into());
        self
    }

    #[inline]
    pub(crate) fn is_lost(&self, target: u32) -> bool {
        let marks = self.lost.as_deref();
        marks
            .and_then(|marks| marks.get(target as usize).copied())
            .unwrap_or(false)
    }

    /// How many probes the sweep sends.
    #[must_use]
    pub fn probes(&self) -> u64 {
        self.targets.len() as u64 * u64::from(self.count)
    }
}

/// Makes a sweep of all addresses, as [`Sweep::new`] does.
impl<A: Into<IpAddr>> FromIterator<A> for Sweep {
    fn from_iter<I: IntoIterator<Item = A>>(targets: I) -> Self {
        Self::new(
            targets
                .into_iter()
                .map(Into::into)
                .collect::<Arc<[IpAddr]>>(),
        )
    }
}

/// The index of the interface that a zone of an IPv6 address names, as in `fe80::1%eth0` or `fe80::1%3`; `None` while there
/// is none of that name.
#[must_use]
pub fn zone_index(zone: &str) -> Option<u32> {
    match zone.parse() {
        Ok(index) => Some(index).filter(|index| *index != 0),
        Err(_) => sys::interface_index(zone),
    }
}

/// Something that happened to a probe of a sweep.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ProbeEvent {
    /// The target's position in the sweep.
    pub target: u32,
    /// Which probe of the target, from 0.
    pub round: u32,
    /// When the request left, since the sweep was handed over; `None` when it did not leave.
    pub sent: Option<Duration>,
    /// What happened.
    pub kind: EventKind,
}

/// What happened to a probe.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum EventKind {
    /// It was answered.
    Reply(Reply),
    /// It ended without an answer.
    Failed(ProbeError),
    /// It was answered again.
    Duplicate(Reply),
    /// It was answered after it had ended.
    Late(Reply),
}

/// What a sweep found out.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct SweepResult {
    /// The targets, as given.
    pub targets: Arc<[IpAddr]>,
    /// What the probes of each target add up to, in the order of the targets.
    pub stats: Vec<Stats>,
    /// From the hand-over of the sweep to the end of its last probe.
    pub elapsed: Duration,
}

impl SweepResult {
    /// Each target with its statistics.
    pub fn iter(&self) -> impl Iterator<Item = (IpAddr, &Stats)> {
        self.targets.iter().copied().zip(&self.stats)
    }

    /// How many targets answered at least once.
    #[must_use]
    pub fn up(&self) -> usize {
        self.stats.iter().filter(|stats| stats.is_up()).count()
    }
}
