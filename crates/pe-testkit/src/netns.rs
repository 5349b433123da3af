//! Network namespaces: a private network stack for a test.

use std::fs::File;
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::panic::resume_unwind;
use std::process::{Command, Stdio};

use nix::sched::{CloneFlags, unshare};

use crate::require::find_program;
use crate::wait;

/// The network namespace of the thread that opens it.
pub(crate) const SELF: &str = "/proc/thread-self/ns/net";

/// A silent prefix of IPv4: whatever is sent there goes nowhere and nothing comes back.
const SILENT_V4: (&str, [u8; 2]) = ("198.18.0.0/15", [198, 18]);
/// The same of IPv6.
const SILENT_V6: &str = "2001:2::/48";

/// A network namespace made by [`in_namespace`], as the code that runs inside sees it.
///
/// It has the interface `lo`, which is up, and nothing else: no packet leaves it. What is done on
/// the thread that [`in_namespace`] runs, on threads started from there and in child processes started
/// from there, is done inside.
#[derive(Debug)]
pub struct Namespace(());

/// Runs `test` on a new thread in a new network namespace, and returns what it returns.
///
/// The namespace is gone when the last thread, socket or child process in it is. Threads that `test`
/// starts (those of a multi-threaded tokio runtime that is built inside too) are in the namespace as
/// well. Needs `Namespaces`.
///
/// # Panics
/// If `test` panics, or if the namespace cannot be made.
pub fn in_namespace<T: Send>(test: impl FnOnce(&Namespace) -> T + Send) -> T {
    let name = std::thread::current()
        .name()
        .unwrap_or("namespace")
        .to_owned();
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name(name)
            .spawn_scoped(scope, || {
                unshare(CloneFlags::CLONE_NEWNET)
                    .unwrap_or_else(|error| panic!("cannot make a network namespace: {error}"));
                let namespace = Namespace(());
                namespace.ip("link set lo up");
                test(&namespace)
            });
        thread
            .unwrap_or_else(|error| panic!("cannot start a thread: {error}"))
            .join()
            .unwrap_or_else(|panic| resume_unwind(panic))
    })
}

impl Namespace {
    /// Runs `ip` with arguments separated by spaces, such as `"addr add 10.0.0.1/24 dev lo"`.
    ///
    /// # Panics
    /// If it fails; the message holds what it said.
    pub fn ip(&self, arguments: &str) {
        run("ip", &arguments.split_whitespace().collect::<Vec<_>>(), "");
    }

    /// Runs a program inside and returns what it prints.
    ///
    /// # Panics
    /// If it fails; the message holds what it said.
    pub fn run(&self, program: &str, arguments: &[&str]) -> String {
        run(program, arguments, "")
    }

    /// Loads a ruleset, in the language of `nft -f`. Needs `Program("nft")`.
    ///
    /// # Panics
    /// If it is refused; the message holds why.
    pub fn nft(&self, ruleset: &str) {
        run("nft", &["-f", "-"], &format!("{ruleset}\n"));
    }

    /// Sets a network setting of this namespace, such as `"ipv4.ping_group_range"` to `"0 0"`.
    ///
    /// # Panics
    /// If there is none of this name or the value is refused.
    pub fn sysctl(&self, name: &str, value: &str) {
        let file = format!("/proc/sys/net/{}", name.replace('.', "/"));
        std::fs::write(&file, value).unwrap_or_else(|error| panic!("{file} = {value}: {error}"));
    }

    /// Adds an address (`10.0.0.1/24`, `fd00::1/64`) to an interface, and waits until packets to it are
    /// taken in: the kernel gets an IPv6 address ready behind the back of whoever adds it.
    ///
    /// # Panics
    /// If it is refused.
    pub fn add_address(&self, interface: &str, address: &str) {
        let no_dad = if address.contains(':') { " nodad" } else { "" };
        self.ip(&format!("addr add {address} dev {interface}{no_dad}"));
        if !no_dad.is_empty() {
            let own = address.split('/').next().unwrap_or(address);
            let show = ["-6", "route", "show", "table", "local", own];
            wait::until_true("a route to an own address", || {
                run("ip", &show, "").contains(own)
            });
        }
    }

    /// Adds a route, such as `"10.1.0.0/16 dev tun0"` or `"fd00::/64 via fe80::1 dev tun0"`.
    ///
    /// # Panics
    /// If it is refused.
    pub fn add_route(&self, route: &str) {
        self.ip(&format!("route add {route}"));
    }

    /// Adds a pair of connected Ethernet interfaces, both up in this namespace.
    ///
    /// # Panics
    /// If they cannot be made.
    pub fn add_veth(&self, one: &str, other: &str) {
        self.ip(&format!("link add {one} type veth peer name {other}"));
        self.ip(&format!("link set {one} up"));
        self.ip(&format!("link set {other} up"));
    }

    /// An IPv4 address that never answers: what is sent there is delivered nowhere, and neither an
    /// error nor a reply comes back. There are 65,536 of them, by `number`.
    ///
    /// # Panics
    /// If the route cannot be made.
    pub fn silent_v4(&self, number: u16) -> IpAddr {
        self.ip(&format!("route replace {} dev lo", SILENT_V4.0));
        let [a, b] = SILENT_V4.1;
        let [c, d] = number.to_be_bytes();
        IpAddr::from([a, b, c, d])
    }

    /// As [`Namespace::silent_v4`], for IPv6.
    ///
    /// # Panics
    /// If the route cannot be made.
    pub fn silent_v6(&self, number: u16) -> IpAddr {
        self.ip(&format!("-6 route replace {SILENT_V6} dev lo"));
        IpAddr::from([0x2001, 2, 0, 0, 0, 0, 0, number])
    }
}

/// Whether this process may make network namespaces.
pub(crate) fn available() -> bool {
    std::thread::spawn(|| unshare(CloneFlags::CLONE_NEWNET).is_ok())
        .join()
        .unwrap_or(false)
}

/// What tells the namespace of the calling thread from others.
pub(crate) fn identity() -> Option<(u64, u64)> {
    identity_of(&File::open(SELF).ok()?)
}

/// What tells an open namespace file from others.
pub(crate) fn identity_of(namespace: &File) -> Option<(u64, u64)> {
    let metadata = namespace.metadata().ok()?;
    Some((metadata.dev(), metadata.ino()))
}

fn run(program: &str, arguments: &[&str], input: &str) -> String {
    let attempt = || -> io::Result<_> {
        let mut child = Command::new(find_program(program).unwrap_or_else(|| program.into()))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // A program that fails early reads no input; its own message tells more.
            let _ = stdin.write_all(input.as_bytes());
        }
        child.wait_with_output()
    };
    let output = attempt().unwrap_or_else(|error| panic!("{program} {arguments:?}: {error}"));
    assert!(
        output.status.success(),
        "{program} {arguments:?} {input}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    fn ping(address: IpAddr) -> std::process::Output {
        Command::new("fping")
            .args(["-c1", "-t300", &address.to_string()])
            .output()
            .unwrap_or_else(|error| panic!("fping: {error}"))
    }

    #[test]
    fn a_namespace_has_its_own_addresses_and_the_machine_does_not_see_them() {
        crate::require!(Namespaces);
        let outside = identity();
        let inside = in_namespace(|namespace| {
            namespace.add_address("lo", "10.9.8.7/32");
            namespace.add_address("lo", "fd00:9::7/128");
            UdpSocket::bind("10.9.8.7:0").unwrap();
            UdpSocket::bind("[fd00:9::7]:0").unwrap();
            identity()
        });
        assert!(inside.is_some() && inside != outside);
        assert_eq!(identity(), outside);
        assert!(UdpSocket::bind("10.9.8.7:0").is_err());
    }

    #[test]
    fn a_silent_address_says_nothing_at_all() {
        crate::require!(Namespaces, Program("fping"));
        in_namespace(|namespace| {
            assert!(ping(IpAddr::from([127, 0, 0, 1])).status.success());
            for address in [
                namespace.silent_v4(1),
                namespace.silent_v4(u16::MAX),
                namespace.silent_v6(1),
                namespace.silent_v6(u16::MAX),
            ] {
                let output = ping(address);
                assert_eq!(output.status.code(), Some(1), "{address}: {output:?}");
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                assert!(
                    said.contains("xmt/rcv/%loss = 1/0/100%"),
                    "{address}: {said}"
                );
                assert!(!said.contains("ICMP"), "{address}: {said}");
            }
        });
    }

    #[test]
    fn rules_and_settings_hold_inside_only() {
        crate::require!(Namespaces, Program("nft"), Program("fping"));
        in_namespace(|namespace| {
            namespace.nft(
                "table ip t {\n chain c {\n type filter hook input priority 0\n \
                 ip daddr 127.0.0.9 drop\n }\n}",
            );
            namespace.sysctl("ipv4.ping_group_range", "0 0");
            assert!(!ping(IpAddr::from([127, 0, 0, 9])).status.success());
            assert!(ping(IpAddr::from([127, 0, 0, 8])).status.success());
        });
    }

    #[test]
    fn a_server_started_inside_listens_inside_only() {
        crate::require!(Namespaces, Program("prometheus-pushgateway"));
        let gateway = in_namespace(|_| {
            let gateway = crate::Gateway::start();
            assert!(gateway.metrics().contains("pushgateway_build_info"));
            gateway
        });
        assert!(crate::http::get(gateway.address(), "/").is_err());
    }

    #[test]
    #[should_panic(expected = "told outside")]
    fn a_panic_inside_is_told_outside() {
        if !crate::Need::Namespaces.is_met() {
            crate::skip("a_panic_inside_is_told_outside", "needs network namespaces");
            panic!("told outside");
        }
        in_namespace(|_| panic!("told outside"));
    }
}
