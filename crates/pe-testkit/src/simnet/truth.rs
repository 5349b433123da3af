//! What really happened in a simulated network, to compare with what a prober says.

use std::time::Duration;

use super::scenario::Hosts;

/// Exact counts of what went through a [`Simnet`](crate::Simnet).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Truth {
    /// By device group, in the order of the scenario.
    pub groups: Vec<GroupTruth>,
    /// Echo requests to addresses that are nobody's.
    pub unanswered_requests: u64,
    /// Echo requests with a wrong checksum or length.
    pub malformed_requests: u64,
    /// Packets from the prober's machine that were no echo requests.
    pub other_packets: u64,
    /// Packets of the storm that went into the prober's machine.
    pub storm: u64,
    /// Packets that the prober's machine would not take.
    pub refused: u64,
}

impl Truth {
    /// All echo requests that came.
    pub fn requests(&self) -> u64 {
        self.unanswered_requests
            + self.malformed_requests
            + self.groups.iter().map(|group| group.requests).sum::<u64>()
    }
}

/// Exact counts of the devices of one group.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupTruth {
    /// Which hosts they are.
    pub hosts: Hosts,
    /// Echo requests that came.
    pub requests: u64,
    /// Requests whose reply was dropped.
    pub dropped: u64,
    /// Requests whose reply is kept for later.
    pub kept: u64,
    /// True replies that went out, each request's first.
    pub replies: u64,
    /// Further copies of them that went out.
    pub duplicates: u64,
    /// Replies that went out with something wrong.
    pub altered: u64,
    /// Kept replies that went out in the end.
    pub stale: u64,
    /// ICMP errors that went out.
    pub errors: u64,
    /// Messages of no meaning that went out.
    pub noise: u64,
    /// The delay of each true reply, in the order in which they went out.
    pub delays: Vec<InjectedDelay>,
}

/// How long a reply was held back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InjectedDelay {
    /// The position of its request among those of the group, from 0.
    pub request: usize,
    /// What the scenario wanted.
    pub planned: Duration,
    /// From the arrival of the request at the simulator to the departure of the reply: never less than
    /// planned, and more on a busy machine.
    pub actual: Duration,
}

impl GroupTruth {
    pub(super) fn new(hosts: Hosts) -> Self {
        Self {
            hosts,
            requests: 0,
            dropped: 0,
            kept: 0,
            replies: 0,
            duplicates: 0,
            altered: 0,
            stale: 0,
            errors: 0,
            noise: 0,
            delays: Vec::new(),
        }
    }

    /// The actual delays in seconds, in the order in which the replies went out.
    pub fn actual_delays(&self) -> Vec<f64> {
        self.delays
            .iter()
            .map(|delay| delay.actual.as_secs_f64())
            .collect()
    }
}
