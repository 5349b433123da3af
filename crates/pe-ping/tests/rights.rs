//! With fewer rights than root: a capability alone, datagram sockets, or nothing but a clear message.

#![allow(clippy::unwrap_used)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use pe_ping::{
    OpenError, Pinger, ProbeError, Reason, SocketHelper, SocketKind, Sweep, packet::Unreachable,
    serve_sockets,
};
use pe_testkit::{Family, Namespace, Scenario, Simnet, in_namespace};

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.unwrap().block_on(future)
}

/// Runs the test `child` of this program as nobody, with what `setpriv` gives it, and returns what it prints.
fn as_nobody(namespace: &Namespace, rights: &[&str]) -> String {
    // Build directories are often closed to others.
    let folder = std::env::temp_dir().join(format!("pe-ping-rights-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let program = folder.join(format!("rights-{}", rights.len()));
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    for path in [&folder, &program] {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let nobody = ["--reuid=65534", "--regid=65534", "--clear-groups"];
    let child = ["--exact", "child", "--ignored", "--nocapture"];
    let program = program.to_str().unwrap();
    let arguments: Vec<&str> = [&nobody[..], rights, &[program], &child].concat();
    let printed = namespace.run("setpriv", &arguments);
    std::fs::remove_file(program).unwrap();
    let marked = printed.lines().find_map(|line| line.split_once("seen: "));
    marked.unwrap_or_else(|| panic!("{printed}")).1.to_owned()
}

#[test]
#[ignore = "is run by the other tests, as another user"]
fn child() {
    let pinger = match Pinger::new() {
        Ok(pinger) => pinger,
        Err(error) => {
            assert!(matches!(error, OpenError::Permission { .. }));
            println!("seen: {error}");
            return;
        }
    };
    for address in [
        IpAddr::from(Ipv4Addr::LOCALHOST),
        Ipv6Addr::LOCALHOST.into(),
    ] {
        block_on(pinger.ping(address)).unwrap();
    }
    println!("seen: {:?}", pinger.sockets()[0].kind);
}

#[test]
fn the_raw_capability_alone_is_enough() {
    pe_testkit::require!(Namespaces, Program("setpriv"));
    in_namespace(|namespace| {
        // Datagram sockets are closed to everybody.
        namespace.sysctl("ipv4.ping_group_range", "1 0");
        let rights = ["--inh-caps=+net_raw", "--ambient-caps=+net_raw"];
        assert_eq!(as_nobody(namespace, &rights), "Raw");
    });
}

#[test]
fn without_rights_datagram_sockets_are_used_where_the_group_may() {
    pe_testkit::require!(Namespaces, Program("setpriv"));
    in_namespace(|namespace| {
        namespace.sysctl("ipv4.ping_group_range", "65534 65534");
        assert_eq!(as_nobody(namespace, &[]), "Datagram");
    });
}

#[test]
fn without_any_right_the_message_says_what_to_grant() {
    pe_testkit::require!(Namespaces, Program("setpriv"));
    in_namespace(|namespace| {
        namespace.sysctl("ipv4.ping_group_range", "1 0");
        let message = as_nobody(namespace, &["--no-new-privs"]);
        for part in [
            "setcap cap_net_raw+ep",
            "ping_group_range",
            "AmbientCapabilities",
        ] {
            assert!(message.contains(part), "{message}");
        }
    });
}

#[test]
fn a_helper_opens_raw_sockets_for_threads_without_any_capability() {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    pe_testkit::require!(Namespaces);
    in_namespace(|namespace| {
        namespace.sysctl("ipv4.ping_group_range", "1 0");
        let flags = SocketFlags::CLOEXEC;
        let pair = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None);
        let (ours, theirs) = pair.unwrap();
        let helper = std::thread::spawn(move || serve_sockets(theirs));
        let program = std::thread::spawn(move || {
            for set in [caps::CapSet::Effective, caps::CapSet::Permitted] {
                caps::clear(None, set).unwrap();
            }
            assert!(matches!(Pinger::new(), Err(OpenError::Permission { .. })));
            let opener = Arc::new(SocketHelper::new(ours).unwrap());
            let pinger = Pinger::builder().mark(7).opener(opener).build().unwrap();
            for address in [
                IpAddr::from(Ipv4Addr::LOCALHOST),
                Ipv6Addr::LOCALHOST.into(),
            ] {
                block_on(pinger.ping(address)).unwrap();
            }
            assert!(pinger.sockets().iter().all(|socket| {
                // What the kernel gives without CAP_NET_ADMIN is far less.
                socket.kind == SocketKind::Raw && socket.receive_buffer >= 32 << 20
            }));
        });
        program.join().unwrap();
        // The helper ends with the last who can ask.
        helper.join().unwrap().unwrap();
    });
}

#[test]
fn datagram_sockets_tell_replies_and_errors() {
    pe_testkit::require!(Tun);
    for family in [Family::V4, Family::V6] {
        in_namespace(|namespace| {
            namespace.sysctl("ipv4.ping_group_range", "0 0");
            let devices = r#"[
                { "hosts": "1-500", "delay": 2 },
                { "hosts": 501, "faults": [{ "do": { "error": { "kind": "unreachable", "code": 3 } } }] },
                { "hosts": 502, "faults": [{ "do": "drop" }] }
            ]"#;
            let scenario = format!(r#"{{ "about": "datagram sockets", "devices": {devices} }}"#);
            let scenario: Scenario = serde_json::from_str(&scenario).unwrap();
            let network = Simnet::start(namespace, &scenario, family);
            let pinger = Pinger::builder()
                .socket_kind(SocketKind::Datagram)
                .timeout(Duration::from_millis(800))
                .build()
                .unwrap();
            let targets: Vec<IpAddr> = (1..=502).map(|host| network.address(host)).collect();
            let unreachable = targets[500];
            let sweep = Sweep::new(targets)
                .count(3)
                .probe_interval(Duration::from_millis(20));
            let result = block_on(pinger.sweep(sweep)).unwrap();
            for stats in &result.stats[..500] {
                assert_eq!((stats.replies(), stats.duplicates()), (3, 0));
                assert_eq!(stats.ttl(), Some(64));
            }
            let errors = |at: usize, reason| result.stats[at].errors(reason);
            let code_3 = match family {
                Family::V4 => Reason::Unreachable,
                Family::V6 => Reason::HostUnreachable,
            };
            assert_eq!(errors(500, code_3), 3);
            assert_eq!(errors(501, Reason::Timeout), 3);
            let outcome = block_on(pinger.ping(unreachable));
            let why = match family {
                Family::V4 => Unreachable::Port,
                Family::V6 => Unreachable::Host,
            };
            assert!(
                matches!(outcome, Err(ProbeError::Unreachable { why: told, .. }) if told == why),
                "{outcome:?}"
            );
        });
    }
}
