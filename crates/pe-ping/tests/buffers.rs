//! Thousands of neighbours that do not answer fill the kernel's send buffers for seconds, which is nobody else's trouble.

#![allow(clippy::unwrap_used)]

use std::fmt::Write;
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use pe_ping::{
    OpenSocket, OwnRights, Pinger, PingerBuilder, Reason, SocketKind, SocketRequest, Stats, Sweep,
};
use pe_testkit::{Family, Namespace, Scenario, Simnet, in_namespace};

/// Runs a test for both families at once.
fn for_both(test: impl Fn(Family) + Sync) {
    std::thread::scope(|scope| {
        for family in [Family::V4, Family::V6] {
            let test = &test;
            scope.spawn(move || test(family));
        }
    });
}

/// Opens sockets with send buffers as small as this, as without CAP_NET_ADMIN, and so many that are only sent through.
struct Small {
    bytes: u32,
    senders: AtomicU32,
}

fn small(bytes: u32, senders: u32) -> Arc<Small> {
    let senders = AtomicU32::new(senders);
    Arc::new(Small { bytes, senders })
}

impl OpenSocket for Small {
    fn open(&self, request: &SocketRequest) -> io::Result<OwnedFd> {
        let mut request = *request;
        request.send_buffer = self.bytes;
        if request.receive_buffer == 0 {
            let left = self.senders.load(Ordering::Relaxed);
            if left == 0 {
                return Err(io::Error::from_raw_os_error(libc::EMFILE));
            }
            self.senders.store(left - 1, Ordering::Relaxed);
        }
        OwnRights.open(&request)
    }
}

/// What `net.core.wmem_max` gave on most kernels so far.
const USUAL: u32 = 425_984;

/// Neighbours on an Ethernet link on which nobody answers. The neighbour table belongs to the whole machine and has room for
/// a thousand; entries that are said to come from elsewhere do not count.
fn dead_neighbours(namespace: &Namespace, family: Family, count: u32) -> Vec<IpAddr> {
    namespace.add_veth("near0", "far0");
    namespace.add_address("near0", "10.5.0.1/16");
    namespace.add_address("near0", "fd05::1/64");
    let address = |number: u32| match family {
        Family::V4 => IpAddr::from((0x0a05_0100 + number).to_be_bytes()),
        Family::V6 => IpAddr::from([0xfd05, 0, 0, 0, 0, 0, 1, number as u16]),
    };
    let addresses: Vec<IpAddr> = (0..count).map(address).collect();
    let mut batch = String::new();
    for address in &addresses {
        writeln!(batch, "neigh add {address} dev near0 nud none extern_learn").unwrap();
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, batch).unwrap();
    namespace.run("ip", &["-batch", file.path().to_str().unwrap()]);
    addresses
}

/// Probes `dead` in some cycles, and beside each `fine`. Returns the statistics of the last cycle's dead ones.
fn cycles(pinger: &Pinger, dead: &[IpAddr], fine: &[IpAddr], marked: bool) -> Vec<Stats> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let rounds = 10;
    let mut last = Vec::new();
    for cycle in 0..2 {
        let sweep = Sweep::new(dead).lost(vec![marked || cycle > 0; dead.len()]);
        let others = Sweep::new(fine)
            .count(rounds)
            .probe_interval(Duration::from_millis(100));
        let (dead, fine) =
            runtime.block_on(async { tokio::join!(pinger.sweep(sweep), pinger.sweep(others)) });
        for stats in &fine.unwrap().stats {
            assert_eq!(stats.replies(), rounds, "cycle {cycle}: {stats:?}");
        }
        last = dead.unwrap().stats;
        assert!(!last.iter().any(Stats::is_up));
    }
    last
}

fn run(family: Family, builder: PingerBuilder, dead: u32, marked: bool) -> Vec<Stats> {
    in_namespace(|namespace| {
        namespace.sysctl("ipv4.ping_group_range", "0 0");
        let devices = r#"{ "about": "beside", "devices": [{ "hosts": "1-506", "delay": 2 }] }"#;
        let scenario: Scenario = serde_json::from_str(devices).unwrap();
        let network = Simnet::start(namespace, &scenario, family);
        let fine: Vec<IpAddr> = (1..=506).map(|host| network.address(host)).collect();
        let dead = dead_neighbours(namespace, family, dead);
        let pinger = builder.unlimited_rate().build().unwrap();
        cycles(&pinger, &dead, &fine, marked)
    })
}

#[test]
fn thousands_of_dead_neighbours_are_down_and_delay_nobody() {
    pe_testkit::require!(Tun);
    for_both(|family| {
        let builder = Pinger::builder().opener(small(USUAL, u32::MAX));
        for stats in run(family, builder, 5_120, false) {
            assert!(!stats.is_unknown(), "{stats:?}");
        }
    });
}

#[test]
fn dead_neighbours_for_which_there_is_no_room_are_unknown_and_delay_nobody() {
    pe_testkit::require!(Tun);
    // Few small sockets, or as many as may be.
    for senders in [4, u32::MAX] {
        for_both(|family| {
            let builder = Pinger::builder().opener(small(16 << 10, senders));
            let dead = run(family, builder, 6_000, true);
            let unknown = dead.iter().filter(|stats| stats.is_unknown());
            for stats in unknown.clone() {
                assert_eq!(stats.errors(Reason::NoBuffers), 1, "{stats:?}");
            }
            assert!(unknown.count() > 0);
        });
    }
}

#[test]
fn datagram_sockets_have_room_for_dead_neighbours_too() {
    pe_testkit::require!(Tun);
    for_both(|family| {
        let builder = Pinger::builder().socket_kind(SocketKind::Datagram);
        run(family, builder, 12_000, false);
    });
}
