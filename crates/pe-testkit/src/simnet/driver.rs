//! The thread between the TUN device and the simulated network.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::net::IpAddr;
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use tun_rs::{DeviceBuilder, SyncDevice};

use super::network::{self, Emission, Network};
use super::scenario::{Family, Scenario, Storm};
use super::truth::Truth;
use crate::netns::Namespace;

/// The TUN device's name.
const DEVICE: &str = "sim0";
/// Packets that the device holds while the simulator is busy: more than any test has in flight.
const QUEUE: u32 = 400_000;
/// The largest IP packet.
const MTU: u16 = 65_535;
/// A deadline so close is awaited without sleeping: a sleep may end this late.
const SPIN: Duration = Duration::from_micros(80);

/// A simulated network behind the TUN device `sim0` of a network namespace, with a thread of its own;
/// gone when dropped.
///
/// Host number `n` of the scenario has the addresses `10.0.0.0 + n` and `fd00:64:: + n`. Both families
/// are there at once; the one given at the start is that of [`Simnet::address`] and of the storm.
///
/// ```no_run
/// use pe_testkit::{Family, Scenario, Simnet, in_namespace};
///
/// let scenario: Scenario = serde_json::from_str(r#"{
///     "about": "Two devices, five milliseconds away",
///     "devices": [{ "hosts": "1-2", "delay": 5 }]
/// }"#).expect("a scenario");
/// in_namespace(|namespace| {
///     let network = Simnet::start(namespace, &scenario, Family::V4);
///     let device = network.address(1);
///     // … ping `device` …
///     assert_eq!(network.truth().groups[0].requests, 1);
/// });
/// ```
#[derive(Debug)]
pub struct Simnet {
    family: Family,
    network: Arc<Mutex<Network>>,
    stop: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Simnet {
    /// Makes the device, its addresses and routes in `namespace`, and starts to answer.
    ///
    /// # Panics
    /// If the device cannot be made (one for each namespace), or two groups of the scenario share a host.
    pub fn start(namespace: &Namespace, scenario: &Scenario, family: Family) -> Self {
        let fail = |error: io::Error| -> ! { panic!("cannot make the device {DEVICE}: {error}") };
        let device = DeviceBuilder::new()
            .name(DEVICE)
            .build_sync()
            .unwrap_or_else(|error| fail(error));
        device
            .set_nonblocking(true)
            .unwrap_or_else(|error| fail(error));
        namespace.ip(&format!(
            "link set {DEVICE} mtu {MTU} txqueuelen {QUEUE} up"
        ));
        // Rule sets of the simulator's own making decide what comes back, nothing else does.
        namespace.sysctl("ipv4.conf.all.rp_filter", "0");
        namespace.sysctl(&format!("ipv4.conf.{DEVICE}.rp_filter"), "0");
        namespace.add_address(DEVICE, &format!("{}/8", network::prober(Family::V4)));
        namespace.add_address(DEVICE, &format!("{}/128", network::prober(Family::V6)));
        // Through a gateway, so that the neighbour table holds one entry and not each device.
        namespace.add_route(&format!("fd00:64::/64 via fe80::1 dev {DEVICE} onlink"));

        let network = Arc::new(Mutex::new(Network::new(scenario)));
        let stop = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC);
        let stop = Arc::new(stop.unwrap_or_else(|error| fail(error.into())));
        let driver = Driver {
            device,
            stop: Arc::clone(&stop),
            network: Arc::clone(&network),
            family,
            storm: scenario.storm,
            queue: BinaryHeap::new(),
            order: 0,
        };
        let thread = std::thread::Builder::new()
            .name("simnet".into())
            .spawn(move || driver.run())
            .unwrap_or_else(|error| fail(error));
        Self {
            family,
            network,
            stop,
            thread: Some(thread),
        }
    }

    /// The address of a host number of the scenario.
    pub fn address(&self, host: u32) -> IpAddr {
        network::address(self.family, host)
    }

    /// The prober's own address in this network.
    pub fn prober(&self) -> IpAddr {
        network::prober(self.family)
    }

    /// The router so many hops away, counted from 1: where errors come from.
    pub fn router(&self, hop: u8) -> IpAddr {
        network::router(self.family, hop)
    }

    /// What has happened so far.
    pub fn truth(&self) -> Truth {
        lock(&self.network).truth().clone()
    }
}

impl Drop for Simnet {
    fn drop(&mut self) {
        let _ = rustix::io::write(&*self.stop, &1u64.to_ne_bytes());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
            && !std::thread::panicking()
        {
            panic!("the simulated network has panicked");
        }
    }
}

fn lock(network: &Mutex<Network>) -> MutexGuard<'_, Network> {
    network.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A packet on its way back.
struct Pending {
    due: Instant,
    order: u64,
    arrived: Instant,
    emission: Emission,
}

impl PartialEq for Pending {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Pending {}

impl PartialOrd for Pending {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Pending {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.due, self.order).cmp(&(other.due, other.order))
    }
}

struct Driver {
    device: SyncDevice,
    stop: Arc<OwnedFd>,
    network: Arc<Mutex<Network>>,
    family: Family,
    storm: Option<Storm>,
    queue: BinaryHeap<Reverse<Pending>>,
    order: u64,
}

impl Driver {
    fn run(mut self) {
        // Ends of sleeps to the microsecond, and ahead of other programs, as far as we may.
        let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
        let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), -20);
        let mut buffer = vec![0; usize::from(MTU) + 1];
        let mut replies = Vec::new();
        let storm_start = Instant::now();
        let mut storm_sent: u64 = 0;
        loop {
            let mut idle = self.take_requests(&mut buffer, &mut replies);
            idle &= self.send_due();
            if let Some(storm) = self.storm {
                let due = storm_start.elapsed().as_nanos() as u64 / 1_000 * u64::from(storm.rate)
                    / 1_000_000;
                // What was missed while this thread was not running is not made up for all at once.
                storm_sent = storm_sent.max(due.saturating_sub(u64::from(storm.rate) / 1_000));
                while storm_sent < due {
                    let packet = lock(&self.network).storm_packet(self.family);
                    self.send(&packet, Network::stormed);
                    storm_sent += 1;
                }
            }
            if idle && self.wait() {
                return;
            }
        }
    }

    /// Takes a batch of requests; whether there were none.
    fn take_requests(&mut self, buffer: &mut [u8], replies: &mut Vec<Emission>) -> bool {
        for taken in 0..64 {
            let Ok(length) = self.device.recv(buffer) else {
                return taken == 0;
            };
            let arrived = Instant::now();
            lock(&self.network).take(&buffer[..length], replies);
            for emission in replies.drain(..) {
                let due = arrived + emission.delay;
                self.queue.push(Reverse(Pending {
                    due,
                    order: self.order,
                    arrived,
                    emission,
                }));
                self.order += 1;
            }
        }
        false
    }

    /// Sends a batch of what is due; whether there was nothing.
    fn send_due(&mut self) -> bool {
        for sent in 0..64 {
            let now = Instant::now();
            if self
                .queue
                .peek()
                .is_none_or(|Reverse(first)| first.due > now)
            {
                return sent == 0;
            }
            if let Some(Reverse(Pending {
                arrived, emission, ..
            })) = self.queue.pop()
            {
                self.send(&emission.bytes, |network| {
                    network.gone(&emission, now - arrived);
                });
            }
        }
        false
    }

    fn send(&self, bytes: &[u8], count: impl FnOnce(&mut Network)) {
        let sent = self.device.send(bytes);
        let mut network = lock(&self.network);
        match sent {
            Ok(_) => count(&mut network),
            Err(_) => network.refused(),
        }
    }

    /// Waits for a request or for the next packet to be due; whether the end has come.
    fn wait(&self) -> bool {
        let until = self.queue.peek().map(|Reverse(first)| first.due);
        let until = match (until, self.storm) {
            (_, None) => until,
            (None, Some(_)) => Some(Instant::now() + Duration::from_micros(300)),
            (Some(due), Some(_)) => Some(due.min(Instant::now() + Duration::from_micros(300))),
        };
        let sleep = until.map(|until| {
            let left = until
                .saturating_duration_since(Instant::now())
                .saturating_sub(SPIN);
            Timespec {
                tv_sec: left.as_secs() as i64,
                tv_nsec: i64::from(left.subsec_nanos()),
            }
        });
        let mut ready = [
            PollFd::new(&self.device, PollFlags::IN),
            PollFd::new(&*self.stop, PollFlags::IN),
        ];
        match poll(&mut ready, sleep.as_ref()) {
            Ok(_) => !ready[1].revents().is_empty(),
            Err(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::in_namespace;

    fn scenario(devices: &str) -> Scenario {
        serde_json::from_str(&format!(r#"{{ "about": "test", "devices": {devices} }}"#)).unwrap()
    }

    fn fping(arguments: &[&str], address: IpAddr) -> String {
        let output = Command::new("fping")
            .args(arguments)
            .arg(address.to_string())
            .output();
        let output = output.unwrap();
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }

    #[test]
    fn a_real_prober_sees_what_was_injected() {
        crate::require!(Tun, Program("fping"));
        let scenario = scenario(
            r#"[{ "hosts": "1-2", "delay": 5, "faults": [{ "when": { "every": 3 }, "do": "drop" }] }]"#,
        );
        for family in [Family::V4, Family::V6] {
            in_namespace(|namespace| {
                let network = Simnet::start(namespace, &scenario, family);
                let said = fping(&["-c9", "-p10", "-t200"], network.address(2));
                assert!(said.contains("xmt/rcv/%loss = 9/6/33%"), "{said}");
                let truth = network.truth();
                let group = &truth.groups[0];
                assert_eq!((group.requests, group.replies, group.dropped), (9, 6, 3));
                let delays = group.actual_delays();
                assert!(delays.iter().all(|delay| *delay >= 0.005), "{delays:?}");
                assert_eq!((truth.malformed_requests, truth.refused), (0, 0));

                let said = fping(&["-c1", "-t100"], network.address(3));
                assert!(said.contains("1/0/100%"), "{said}");
                assert_eq!(network.truth().unanswered_requests, 1);
            });
        }
    }

    #[test]
    fn a_real_prober_hears_the_errors() {
        crate::require!(Tun, Program("fping"));
        let scenario = scenario(
            r#"[{ "hosts": 1, "faults": [{ "do": { "error": { "kind": "unreachable", "code": 1 } } }] },
                { "hosts": 2, "hops": 70 }]"#,
        );
        in_namespace(|namespace| {
            let network = Simnet::start(namespace, &scenario, Family::V4);
            let said = fping(&["-c1", "-t200"], network.address(1));
            assert!(
                said.contains("ICMP Host Unreachable from 10.255.0.1"),
                "{said}"
            );
            let said = fping(&["-c1", "-t200", "-H7"], network.address(2));
            assert!(
                said.contains("ICMP Time Exceeded from 10.255.0.7"),
                "{said}"
            );
        });
    }

    #[test]
    fn a_storm_has_the_rate_that_was_asked_for_and_loses_nothing_of_ours() {
        crate::require!(Tun, Program("fping"));
        let mut scenario = scenario(r#"[{ "hosts": 1 }]"#);
        scenario.storm = Some(Storm {
            rate: 20_000,
            ..Storm::default()
        });
        in_namespace(|namespace| {
            let network = Simnet::start(namespace, &scenario, Family::V4);
            let said = fping(&["-c20", "-p10", "-t200"], network.address(1));
            assert!(said.contains("20/20/0%"), "{said}");
            crate::wait::until_true("the storm", || network.truth().storm > 2_000);
        });
    }
}
