//! Debian's dnsmasq as a name server whose answers can be changed.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::process::{Child, Command};

use tempfile::TempDir;

use crate::Namespace;
use crate::server::free_port;
use crate::spawn::{command, start};

/// A real name server on a free loopback port, for the domain `test.`: it knows the names of a hosts file, denies all others
/// of that domain, and asks nobody else. Answers may be kept for a second. Killed when dropped.
///
/// Needs `Program("dnsmasq")`.
#[derive(Debug)]
pub struct NameServer {
    child: Child,
    directory: TempDir,
    address: SocketAddr,
    listen: String,
}

impl NameServer {
    /// Starts one that knows `hosts`, in the form of hosts(5): `127.0.0.5 a.test`. It may take a moment until it answers.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start(hosts: &str) -> Self {
        let begin = || {
            let address = free_port()?;
            Self::begin(hosts, address, "--listen-address=127.0.0.1")
        };
        begin().unwrap_or_else(|error| panic!("no dnsmasq: {error}"))
    }

    /// Starts one inside a namespace, at port 53 of all addresses that an interface has now, link-local ones too.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start_on(_: &Namespace, interface: &str, hosts: &str) -> Self {
        let except = match interface {
            "lo" => "",
            _ => " --except-interface=lo",
        };
        let address = SocketAddr::from(([127, 0, 0, 1], 53));
        Self::begin(hosts, address, &format!("--interface={interface}{except}"))
            .unwrap_or_else(|error| panic!("no dnsmasq: {error}"))
    }

    fn begin(hosts: &str, address: SocketAddr, listen: &str) -> io::Result<Self> {
        let directory = tempfile::tempdir()?;
        fs::write(directory.path().join("hosts"), hosts)?;
        Ok(Self {
            child: spawn(&directory, address, listen)?,
            directory,
            address,
            listen: listen.to_owned(),
        })
    }

    /// Where it listens, on UDP and TCP.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Puts other hosts in place of those it knows. It must be answering already.
    ///
    /// # Panics
    /// If that cannot be written or told.
    pub fn change(&self, hosts: &str) {
        self.write(hosts);
        let pid = self.child.id().to_string();
        let told = Command::new("kill").args(["-s", "HUP", &pid]).status();
        assert!(
            told.is_ok_and(|status| status.success()),
            "dnsmasq cannot be told of new hosts"
        );
    }

    /// Ends it; nobody answers at its address then.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again at the same address, with these hosts.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn restart(&mut self, hosts: &str) {
        self.kill();
        self.write(hosts);
        self.child = spawn(&self.directory, self.address, &self.listen)
            .unwrap_or_else(|error| panic!("no dnsmasq: {error}"));
    }

    fn write(&self, hosts: &str) {
        let file = self.directory.path().join("hosts");
        fs::write(&file, hosts).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    }
}

fn spawn(directory: &TempDir, address: SocketAddr, listen: &str) -> io::Result<Child> {
    let mut dnsmasq = command("dnsmasq");
    dnsmasq
        .args([
            "--keep-in-foreground",
            "--no-resolv",
            "--no-hosts",
            "--bind-interfaces",
            "--user=root",
        ])
        .args(listen.split_whitespace())
        .args(["--local=/test/", "--local-ttl=1", "--conf-file=/dev/null"])
        .args([
            "--dns-forward-max=10000",
            "--log-facility=/dev/null",
            "--pid-file=",
        ])
        .arg(format!("--port={}", address.port()))
        .arg(format!(
            "--addn-hosts={}",
            directory.path().join("hosts").display()
        ));
    start(dnsmasq)
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.kill();
    }
}
