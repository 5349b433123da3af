//! Interfaces and source addresses that come and go while the engine runs.

#![allow(clippy::unwrap_used)]

use std::net::IpAddr;
use std::time::Duration;

use pe_ping::{Pinger, PingerBuilder, Reason, SocketKind, Stats, Sweep};
use pe_testkit::{Family, Scenario, Simnet, in_namespace, wait};

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// One device that answers.
fn scenario() -> Scenario {
    serde_json::from_str(r#"{ "about": "binding", "devices": [{ "hosts": 1 }] }"#).unwrap()
}

/// The statistics of one probe.
fn probe(pinger: &Pinger, address: IpAddr) -> Stats {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let sweep = Sweep::new([address]).timeout(Duration::from_millis(300));
    runtime.block_on(pinger.sweep(sweep)).unwrap().stats[0]
}

fn becomes_up(pinger: &Pinger, address: IpAddr) {
    wait::until_true("a reply", || probe(pinger, address).is_up());
}

fn becomes_unknown(pinger: &Pinger, address: IpAddr, reason: Reason) {
    wait::until_true(reason.as_str(), || {
        let stats = probe(pinger, address);
        stats.is_unknown() && stats.errors(reason) == 1
    });
}

fn pinger(builder: PingerBuilder, kind: SocketKind) -> Pinger {
    let pinger = builder.socket_kind(kind).build().unwrap();
    assert!(pinger.sockets().iter().all(|socket| socket.kind == kind));
    pinger
}

#[test]
fn an_interface_that_appears_later_and_is_made_again_is_taken_up() {
    pe_testkit::require!(Tun);
    for kind in [SocketKind::Raw, SocketKind::Datagram] {
        for family in FAMILIES {
            in_namespace(|namespace| {
                namespace.sysctl("ipv4.ping_group_range", "0 0");
                let loopback: IpAddr = match family {
                    Family::V4 => "127.0.0.1",
                    Family::V6 => "::1",
                }
                .parse()
                .unwrap();
                let bound = pinger(Pinger::builder().interface("sim0"), kind);
                becomes_unknown(&bound, loopback, Reason::NoInterface);
                for _ in 0..2 {
                    let network = Simnet::start(namespace, &scenario(), family);
                    let address = network.address(1);
                    becomes_up(&bound, address);
                    drop(network);
                    wait::until_true("the interface to be gone", || {
                        !namespace.run("ip", &["link"]).contains("sim0")
                    });
                    becomes_unknown(&bound, address, Reason::NoInterface);
                }
            });
        }
    }
}

#[test]
fn a_source_address_that_appears_later_and_again_is_taken_up() {
    pe_testkit::require!(Namespaces);
    for kind in [SocketKind::Raw, SocketKind::Datagram] {
        for address in ["10.77.0.1/32", "fd77::1/128"] {
            in_namespace(|namespace| {
                namespace.sysctl("ipv4.ping_group_range", "0 0");
                let source: IpAddr = address.split('/').next().unwrap().parse().unwrap();
                let other: IpAddr = if source.is_ipv4() { "127.0.0.1" } else { "::1" }
                    .parse()
                    .unwrap();
                let bound = pinger(Pinger::builder().source(source), kind);
                becomes_unknown(&bound, other, Reason::NoSource);
                for _ in 0..2 {
                    namespace.add_address("lo", address);
                    becomes_up(&bound, source);
                    namespace.ip(&format!("addr del {address} dev lo"));
                    becomes_unknown(&bound, other, Reason::NoSource);
                }
            });
        }
    }
}

#[test]
fn others_are_measured_while_an_interface_is_missing() {
    pe_testkit::require!(Namespaces);
    in_namespace(|_| {
        let bound = Pinger::builder().interface("nowhere0").build().unwrap();
        let free = Pinger::builder().build().unwrap();
        for address in ["127.0.0.1", "::1"] {
            let address = address.parse().unwrap();
            assert_eq!(probe(&bound, address).errors(Reason::NoInterface), 1);
            assert!(probe(&free, address).is_up());
        }
    });
}
