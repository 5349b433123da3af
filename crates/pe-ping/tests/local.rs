//! What this machine itself does to probes is told apart from what the network does: no route, a
//! firewall, full queues; and the sockets' options are on the packets that leave.

#![allow(clippy::unwrap_used)]

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use pe_ping::{EventKind, Pinger, PingerBuilder, ProbeError, Reason, Stats, Sweep, SweepResult};
use pe_testkit::{Family, Namespace, Scenario, Simnet, in_namespace};

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

fn scenario(devices: &str) -> Scenario {
    serde_json::from_str(&format!(r#"{{ "about": "local", "devices": {devices} }}"#)).unwrap()
}

fn sweep(pinger: &Pinger, sweep: Sweep) -> SweepResult {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(pinger.sweep(sweep)).unwrap()
}

/// The statistics of one probe to one address.
fn once(builder: PingerBuilder, address: IpAddr) -> Stats {
    let pinger = builder.timeout(Duration::from_millis(500)).build().unwrap();
    sweep(&pinger, Sweep::new([address])).stats[0]
}

/// The packets that a named counter of the nft table `inet t` has counted.
fn counted(namespace: &Namespace, counter: &str) -> u64 {
    let listed = namespace.run("nft", &["list", "counter", "inet", "t", counter]);
    let mut words = listed
        .split_whitespace()
        .skip_while(|word| *word != "packets");
    words.nth(1).unwrap().parse().unwrap()
}

/// Nothing is known of a device whose request did not leave, for this reason.
#[track_caller]
fn assert_unknown(stats: &Stats, reason: Reason) {
    assert_eq!(stats.errors(reason), 1, "{stats:?}");
    assert_eq!((stats.sent(), stats.loss_ratio()), (0, None), "{stats:?}");
    assert!(stats.is_unknown(), "{stats:?}");
}

/// An Ethernet link in the namespace, on which `interface` has an address of 10.5.0.0/16 and fd05::/64, and nobody else
/// answers. Unanswered neighbours are given up quickly.
fn add_link(namespace: &Namespace, interface: &str) {
    namespace.add_veth(interface, "far0");
    namespace.add_address(interface, "10.5.0.1/16");
    namespace.add_address(interface, "fd05::1/64");
    for table in ["arp_cache", "ndisc_cache"] {
        namespace.ip(&format!(
            "ntable change name {table} dev {interface} retrans 50"
        ));
    }
}

#[test]
fn an_address_without_a_route_is_not_a_loss() {
    pe_testkit::require!(Namespaces);
    in_namespace(|namespace| {
        for address in ["10.0.0.1", "fd00::1"] {
            let stats = once(Pinger::builder(), address.parse().unwrap());
            assert_unknown(&stats, Reason::NoRoute);
        }
        // Routes that refuse, and one that went away while the sockets were open.
        for (kind, reason) in [
            ("unreachable", Reason::NoRoute),
            ("prohibit", Reason::PermissionDenied),
        ] {
            for address in ["10.0.0.1", "fd00::1"] {
                namespace.ip(&format!("route add {kind} {address}"));
                let stats = once(Pinger::builder(), address.parse().unwrap());
                assert_unknown(&stats, reason);
                namespace.ip(&format!("route del {kind} {address}"));
            }
        }
        let pinger = Pinger::builder()
            .timeout(Duration::from_millis(200))
            .build()
            .unwrap();
        for address in [namespace.silent_v4(1), namespace.silent_v6(1)] {
            let lost = sweep(&pinger, Sweep::new([address])).stats[0];
            assert_eq!((lost.sent(), lost.is_unknown()), (1, false), "{lost:?}");
        }
        namespace.ip("route del 198.18.0.0/15");
        namespace.ip("-6 route del 2001:2::/48");
        for address in ["198.18.0.1", "2001:2::1"] {
            let address: IpAddr = address.parse().unwrap();
            assert_unknown(
                &sweep(&pinger, Sweep::new([address])).stats[0],
                Reason::NoRoute,
            );
        }
    });
}

#[test]
fn what_the_own_firewall_forbids_is_not_a_loss() {
    pe_testkit::require!(Namespaces, Program("nft"));
    in_namespace(|namespace| {
        namespace.nft(
            "table inet t {\n chain c {\n type filter hook output priority 0\n \
             ip daddr 127.0.0.9 drop\n ip6 daddr fd00::9 drop\n \
             ip daddr 127.0.0.10 reject\n ip6 daddr fd00::10 reject\n }\n}",
        );
        for address in ["fd00::8/128", "fd00::9/128", "fd00::10/128"] {
            namespace.add_address("lo", address);
        }
        for address in ["127.0.0.9", "fd00::9", "127.0.0.10", "fd00::10"] {
            let stats = once(Pinger::builder(), address.parse().unwrap());
            assert_unknown(&stats, Reason::PermissionDenied);
        }
        // The errors that the firewall sends for one are not taken for another's.
        for (forbidden, fine) in [("127.0.0.10", "127.0.0.8"), ("fd00::10", "fd00::8")] {
            let addresses = [forbidden, fine].map(|address| address.parse::<IpAddr>().unwrap());
            let pinger = Pinger::builder().unlimited_rate().build().unwrap();
            let targets: Vec<IpAddr> = addresses.iter().copied().cycle().take(1_000).collect();
            let result = sweep(&pinger, Sweep::new(targets));
            for (address, stats) in result.iter() {
                if address == addresses[1] {
                    assert!(stats.is_up(), "{stats:?}");
                } else {
                    assert_unknown(stats, Reason::PermissionDenied);
                }
            }
        }
    });
}

/// The connection table belongs to the whole machine, so a rule that counts the namespace's own connections takes its place.
#[test]
fn what_finds_a_full_connection_table_is_not_a_loss() {
    pe_testkit::require!(Namespaces, Program("nft"));
    let hooks = [
        ("output", -150),
        ("output", 200),
        ("postrouting", -150),
        ("postrouting", 300),
    ];
    for ((hook, priority), first) in hooks
        .into_iter()
        .flat_map(|hook| ["127.0.1.1", "fd00::1:1"].map(|first| (hook, first)))
    {
        in_namespace(|namespace| {
            namespace.nft(&format!(
                "table inet t {{\n chain c {{\n type filter hook {hook} priority {priority}\n \
                 ct state new ct count over 3 drop\n }}\n}}"
            ));
            let first: IpAddr = first.parse().unwrap();
            let addresses: Vec<IpAddr> = (0..10).map(|n| next(first, n)).collect();
            if first.is_ipv6() {
                for address in &addresses {
                    namespace.add_address("lo", &format!("{address}/128"));
                }
            }
            let timeout = Duration::from_millis(300);
            let pinger = Pinger::builder().timeout(timeout).build().unwrap();
            let result = sweep(&pinger, Sweep::new(addresses));
            for stats in result.stats.iter().filter(|stats| !stats.is_up()) {
                assert_unknown(stats, Reason::PermissionDenied);
            }
            assert!(
                (1..10).contains(&result.up()),
                "{hook} {priority}: {result:?}"
            );
        });
    }
}

/// The `n`-th address after another one.
fn next(address: IpAddr, n: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => (address.to_bits() + u32::from(n)).to_be_bytes().into(),
        IpAddr::V6(address) => (address.to_bits() + u128::from(n)).to_be_bytes().into(),
    }
}

#[test]
fn an_unanswered_neighbour_is_down_and_nobody_elses_trouble() {
    pe_testkit::require!(Namespaces);
    in_namespace(|namespace| {
        add_link(namespace, "near0");
        for (net, fine) in [("10.5.1.", "127.0.0.1"), ("fd05::1:", "::1")] {
            let pinger = Pinger::builder()
                .unlimited_rate()
                .timeout(Duration::from_millis(1_500))
                .build()
                .unwrap();
            // As many as leave room for others in the machine's neighbour table; their errors come all at once.
            let dead = (1..=60_u8).map(|n| format!("{net}{n}").parse::<IpAddr>().unwrap());
            let fine: IpAddr = fine.parse().unwrap();
            let targets: Vec<IpAddr> = dead.flat_map(|dead| [dead, fine]).collect();
            let sweep = self::sweep(
                &pinger,
                Sweep::new(targets)
                    .count(50)
                    .probe_interval(Duration::from_millis(10)),
            );
            let mut told = 0;
            for (address, stats) in sweep.iter() {
                if address == fine {
                    assert_eq!(stats.replies(), 50, "{stats:?}");
                } else {
                    told += stats.errors(Reason::HostUnreachable);
                    assert!(!stats.is_unknown() && !stats.is_up(), "{stats:?}");
                    assert_eq!(stats.sent(), 50, "{stats:?}");
                }
            }
            // The kernel limits how many errors it sends; some come for sure.
            assert!(told > 0);
        }
    });
}

#[test]
fn the_broadcast_address_of_an_own_subnet_is_told_as_such() {
    pe_testkit::require!(Namespaces);
    in_namespace(|namespace| {
        add_link(namespace, "near0");
        let stats = once(Pinger::builder(), [10, 5, 255, 255].into());
        assert_unknown(&stats, Reason::Broadcast);
    });
}

/// `ENOBUFS` for some addresses and not for others, as a full neighbour table gives it. That table belongs to the whole
/// machine, so an egress filter of the link takes its place: its refusal looks the same.
#[test]
fn addresses_that_the_kernel_has_no_room_for_delay_nobody() {
    pe_testkit::require!(Tun, Program("nft"));
    for family in FAMILIES {
        in_namespace(|namespace| {
            let devices = r#"[{ "hosts": "1-6000", "delay": 2 }]"#;
            let network = Simnet::start(namespace, &scenario(devices), family);
            let (word, refused) = match family {
                Family::V4 => ("ip", "10.0.16.0/20"),
                Family::V6 => ("ip6", "fd00:64::1000/116"),
            };
            namespace.nft(&format!(
                "table netdev t {{\n chain c {{\n type filter hook egress device \"sim0\" priority 0\n \
                 {word} daddr {refused} drop\n }}\n}}"
            ));
            let pinger = Pinger::builder().unlimited_rate().build().unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread()
                .build()
                .unwrap();
            let addresses = |hosts: std::ops::Range<u32>| -> Vec<IpAddr> {
                hosts.map(|host| network.address(host)).collect()
            };
            let (dead, fine) = (addresses(0x1000..0x1700), addresses(1..506));
            let timeout = Duration::from_secs(5);
            let cycles = 10;
            let fine = Sweep::new(fine)
                .timeout(timeout)
                .count(cycles)
                .probe_interval(Duration::from_millis(100));
            let other: IpAddr = match family {
                Family::V4 => "::1",
                Family::V6 => "127.0.0.1",
            }
            .parse()
            .unwrap();
            let (dead, fine, other) = runtime.block_on(async {
                tokio::join!(
                    pinger.sweep(Sweep::new(dead).timeout(timeout)),
                    pinger.sweep(fine),
                    pinger.sweep(
                        Sweep::new([other])
                            .count(cycles)
                            .timeout(timeout)
                            .probe_interval(Duration::from_millis(100))
                    ),
                )
            });
            for stats in &dead.unwrap().stats {
                assert_unknown(stats, Reason::NoBuffers);
            }
            for stats in fine.unwrap().stats.iter().chain(&other.unwrap().stats) {
                assert_eq!(stats.replies(), cycles, "{stats:?}");
            }
        });
    }
}

#[test]
fn a_full_queue_to_the_network_is_waited_for_and_never_a_loss() {
    pe_testkit::require!(Tun);
    for family in FAMILIES {
        in_namespace(|namespace| {
            let network =
                Simnet::start(namespace, &scenario(r#"[{ "hosts": "1-20000" }]"#), family);
            // A link of 10 Mbit/s with room for 30 packets.
            let queue = "qdisc replace dev sim0 root tbf rate 10mbit burst 3000 limit 3000";
            namespace.run("tc", &queue.split(' ').collect::<Vec<_>>());
            let pinger = Pinger::builder().unlimited_rate().build().unwrap();
            let targets: Vec<IpAddr> = (1..=20_000).map(|host| network.address(host)).collect();
            let result = sweep(&pinger, Sweep::new(targets));
            let errors = |reason| -> u32 { result.stats.iter().map(|s| s.errors(reason)).sum() };
            let requests = network.truth().requests();
            assert_eq!(
                errors(Reason::Timeout),
                0,
                "{requests} of 20000 came to the network"
            );
            assert_eq!(result.up() as u64, requests);
        });
    }
}

#[test]
fn replies_that_this_machine_drops_are_unknown_and_never_a_loss() {
    pe_testkit::require!(Tun);
    for family in FAMILIES {
        in_namespace(|namespace| {
            let devices =
                r#"[{ "hosts": "1-2000", "delay": 300 }, { "hosts": 2001, "delay": 10 }]"#;
            let network = Simnet::start(namespace, &scenario(devices), family);
            let network = Arc::new(network);
            let builder = Pinger::builder()
                .unlimited_rate()
                .timeout(Duration::from_secs(2));
            let pinger = builder.receive_buffer(1).build().unwrap();
            let targets: Vec<IpAddr> = (1..=2_001).map(|host| network.address(host)).collect();
            let runtime = tokio::runtime::Builder::new_current_thread()
                .build()
                .unwrap();
            let watched = Arc::clone(&network);
            // The engine is held up until all replies have come and found its buffer full.
            let result = runtime.block_on(pinger.sweep_with(Sweep::new(targets), move |event| {
                if event.target == 2_000 && matches!(event.kind, EventKind::Reply(_)) {
                    pe_testkit::wait::until_true("all replies", || {
                        watched.truth().groups[0].replies == 2_000
                    });
                }
            }));
            let result = result.unwrap();
            let drops = pinger.counters().receive_drops;
            assert!(drops > 0);
            let unknown: u32 = result
                .stats
                .iter()
                .map(|stats| stats.errors(Reason::DroppedLocally))
                .sum();
            assert_eq!(u64::from(unknown), drops);
            assert_eq!(result.up() as u64 + drops, 2_001);
            for stats in &result.stats {
                assert_ne!(stats.loss_ratio(), Some(1.0), "{stats:?}");
            }
        });
    }
}

#[test]
fn options_are_on_the_packets_that_leave() {
    pe_testkit::require!(Namespaces, Program("nft"));
    in_namespace(|namespace| {
        namespace.nft(
            "table inet t {\n counter c_ttl { }\n counter c_dscp { }\n counter c_mark { }\n \
             counter c_df { }\n counter c_source { }\n counter c_size { }\n chain c {\n \
             type filter hook output priority 0\n \
             icmp type echo-reply return\n icmpv6 type echo-reply return\n \
             ip ttl 7 counter name c_ttl\n ip6 hoplimit 7 counter name c_ttl\n \
             ip dscp 46 counter name c_dscp\n ip6 dscp 46 counter name c_dscp\n \
             meta mark 77 counter name c_mark\n \
             ip frag-off & 0x4000 != 0 counter name c_df\n \
             ip saddr 127.0.0.5 ip daddr 127.0.0.6 counter name c_source\n \
             ip6 saddr fd00::5 ip6 daddr fd00::6 counter name c_source\n \
             ip length 128 counter name c_size\n ip6 length 108 counter name c_size\n }\n}",
        );
        namespace.add_address("lo", "fd00::5/128");
        namespace.add_address("lo", "fd00::6/128");
        for (from, to) in [("127.0.0.5", "127.0.0.6"), ("fd00::5", "fd00::6")] {
            let to: IpAddr = to.parse().unwrap();
            let check = |counter: &str, builder: PingerBuilder| {
                let before = counted(namespace, counter);
                assert!(once(builder, to).is_up(), "{counter} of {to}");
                assert_eq!(counted(namespace, counter), before + 1, "{counter} of {to}");
            };
            check("c_ttl", Pinger::builder().ttl(7));
            check("c_dscp", Pinger::builder().dscp(46));
            check("c_mark", Pinger::builder().mark(77));
            check("c_source", Pinger::builder().source(from.parse().unwrap()));
            if to.is_ipv4() {
                check("c_df", Pinger::builder().dont_fragment(true));
            }
            check("c_size", Pinger::builder().payload_size(100));
        }
    });
}

#[test]
fn an_interface_is_kept_to() {
    pe_testkit::require!(Tun);
    for family in FAMILIES {
        in_namespace(|namespace| {
            let network = Simnet::start(namespace, &scenario(r#"[{ "hosts": 1 }]"#), family);
            assert!(once(Pinger::builder().interface("sim0"), network.address(1)).is_up());
            let stats = once(Pinger::builder().interface("lo"), network.address(1));
            assert!(!stats.is_up());
            assert_eq!(network.truth().requests(), 1);
        });
    }
}

#[test]
fn a_packet_too_large_for_the_own_link_is_told_as_such() {
    pe_testkit::require!(Tun);
    for family in FAMILIES {
        in_namespace(|namespace| {
            let network = Simnet::start(namespace, &scenario(r#"[{ "hosts": 1 }]"#), family);
            namespace.ip("link set sim0 mtu 1400");
            let builder = Pinger::builder().dont_fragment(true).payload_size(1_400);
            let pinger = builder.timeout(Duration::from_millis(500)).build().unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread()
                .build()
                .unwrap();
            let outcome = runtime.block_on(pinger.ping(network.address(1)));
            assert!(
                matches!(outcome, Err(ProbeError::PacketTooBig { from: None, .. })),
                "{outcome:?}"
            );
            assert_eq!(network.truth().requests(), 0);
        });
    }
}
