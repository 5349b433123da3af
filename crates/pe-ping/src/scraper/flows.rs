//! Which devices are to be asked with another identifier.
//!
//! A middlebox on the way may hold a stale entry for the identifier of our requests, and our own probes keep it alive. So a
//! device that was lost for some cycles is asked as another flow. Only devices that are lost, or were, are remembered.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::Stats;

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
    probed: Instant,
}

impl Flows {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The flows to ask `targets` in; `None` where all are asked in the first.
    pub(super) fn of(&self, targets: &[IpAddr]) -> Option<Arc<[u8]>> {
        let known = self.known();
        if known.devices.values().all(|device| device.flow == 0) {
            return None;
        }
        let flow = |target| known.devices.get(target).map_or(0, |device| device.flow);
        Some(targets.iter().map(flow).collect())
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
                    (device.lost, device.probed) = (0, now);
                    if device.flow == 0 {
                        known.devices.remove(&address);
                    }
                }
            } else if !stats.is_unknown() {
                let device = known.devices.entry(address).or_insert(Device {
                    flow: 0,
                    lost: 0,
                    probed: now,
                });
                device.probed = now;
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
        flows.of(&[DEVICE]).map_or(0, |flows| flows[0])
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
        note(up());
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
