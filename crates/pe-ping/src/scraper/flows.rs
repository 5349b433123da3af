//! Which devices are to be asked with another identifier.
//!
//! A middlebox on the way may hold a stale entry for the identifier of our requests, and our own probes keep it alive. So a
//! device that was lost for some cycles is asked as another flow. Only devices that are lost, or were, are remembered.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::{Stats, Sweep};

/// Lost cycles after which a device is asked as another flow.
const LOST_CYCLES: u8 = 3;

/// Addresses that were not probed for this long are forgotten: longer than any interval in use.
const FORGOTTEN: Duration = Duration::from_secs(6 * 3600);

/// So many addresses are remembered before any is forgotten.
const FEW: usize = 1024;

/// The devices that are lost, or were.
#[derive(Debug, Default)]
pub(super) struct Flows {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    devices: HashMap<IpAddr, Device>,
    /// From this size on, some may be forgotten.
    limit: usize,
}

#[derive(Debug)]
struct Device {
    flow: u8,
    /// Cycles in a row that were lost in this flow.
    lost: u8,
    /// Whether the last cycle that learned anything was lost.
    is_lost: bool,
    probed: Instant,
}

impl Flows {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a sweep ask its targets in their flows, and mark those that were lost last time.
    pub(super) fn apply(&self, sweep: Sweep) -> Sweep {
        let known = self.known();
        if known.devices.is_empty() {
            return sweep;
        }
        let targets = sweep.targets.iter();
        let (flows, lost): (Vec<u8>, Vec<bool>) = targets
            .map(|target| match known.devices.get(target) {
                Some(device) => (device.flow, device.is_lost),
                None => (0, false),
            })
            .unzip();
        sweep.flows(flows).lost(lost)
    }

    /// Notes what a cycle at `now` made of its targets.
    pub(super) fn note<'s>(
        &self,
        results: impl IntoIterator<Item = (IpAddr, &'s Stats)>,
        now: Instant,
    ) {
        let known = &mut *self.known();
        for (address, stats) in results {
            if stats.is_up() {
                if let Some(device) = known.devices.get_mut(&address) {
                    (device.lost, device.is_lost, device.probed) = (0, false, now);
                    if device.flow == 0 {
                        known.devices.remove(&address);
                    }
                }
            } else if !stats.is_unknown() {
                let device = known.devices.entry(address).or_insert(Device {
                    flow: 0,
                    lost: 0,
                    is_lost: true,
                    probed: now,
                });
                (device.is_lost, device.probed) = (true, now);
                device.lost += 1;
                if device.lost == LOST_CYCLES {
                    device.lost = 0;
                    device.flow = device.flow.wrapping_add(1);
                }
            }
        }
        if known.devices.len() > known.limit.max(FEW) {
            let probed = |device: &Device| now.saturating_duration_since(device.probed);
            known.devices.retain(|_, device| probed(device) < FORGOTTEN);
            known.limit = 2 * known.devices.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ProbeError, Reply};

    const DEVICE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));

    fn up() -> Stats {
        let mut stats = Stats::default();
        stats.record(&Ok(Reply {
            rtt: Duration::from_millis(1),
            ttl: None,
            payload: 56,
            truncated: false,
        }));
        stats
    }

    fn flow(flows: &Flows) -> u8 {
        flows.apply(Sweep::new([DEVICE])).flow(0)
    }

    #[test]
    fn a_device_that_stays_lost_changes_its_flow_and_one_that_answers_keeps_it() {
        let flows = Flows::default();
        let note = |stats: Stats| flows.note([(DEVICE, &stats)], Instant::now());
        let lost = || Stats::from(ProbeError::Timeout);
        let mut seen = Vec::new();
        for _ in 0..7 {
            seen.push(flow(&flows));
            note(lost());
        }
        assert_eq!(seen, [0, 0, 0, 1, 1, 1, 2]);
        // Nothing is learned from what could not be asked.
        for _ in 0..9 {
            note(ProbeError::NoRoute.into());
        }
        assert_eq!(flow(&flows), 2);
        let is_marked = || flows.apply(Sweep::new([DEVICE])).is_lost(0);
        assert!(is_marked());
        note(up());
        assert!(!is_marked());
        note(lost());
        note(lost());
        assert_eq!(flow(&flows), 2);
        note(lost());
        assert_eq!(flow(&flows), 3);
    }

    #[test]
    fn devices_that_answer_or_are_no_longer_probed_are_forgotten() {
        let flows = Flows::default();
        let start = Instant::now();
        let lost = Stats::from(ProbeError::Timeout);
        flows.note([(DEVICE, &lost)], start);
        flows.note([(DEVICE, &up())], start);
        assert!(flows.known().devices.is_empty());
        let address = |number: u32| IpAddr::from(number.to_be_bytes());
        flows.note((0..2_000).map(|number| (address(number), &lost)), start);
        assert_eq!(flows.known().devices.len(), 2_000);
        let later = start + FORGOTTEN;
        flows.note(
            (10_000..14_000).map(|number| (address(number), &lost)),
            later,
        );
        assert_eq!(flows.known().devices.len(), 4_000);
    }
}
