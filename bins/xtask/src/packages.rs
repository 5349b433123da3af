//! The real servers and tools that the tests talk to.

use std::env;
use std::path::Path;
use std::process::Command;

use crate::log::Log;

/// A program that tests start, and the Debian package that brings it.
const NEEDED: &[(&str, &str)] = &[
    ("prometheus-pushgateway", "prometheus-pushgateway"),
    ("prometheus", "prometheus"),
    ("promtool", "prometheus"),
    ("nginx", "nginx-light"),
    ("openssl", "openssl"),
    ("curl", "curl"),
    ("chromium", "chromium"),
    ("chromedriver", "chromium-driver"),
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("tcpdump", "tcpdump"),
    ("fping", "fping"),
    ("dnsmasq", "dnsmasq-base"),
    ("setpriv", "util-linux"),
    ("setcap", "libcap2-bin"),
    ("systemd-nspawn", "systemd-container"),
];

/// Installs what is missing, or says what to install.
pub(crate) fn step(log: &mut Log) -> Result<(), String> {
    let mut packages: Vec<&str> = NEEDED
        .iter()
        .filter(|(program, _)| !is_there(program))
        .map(|(_, package)| *package)
        .collect();
    packages.dedup();
    if packages.is_empty() {
        return Ok(());
    }
    let list = packages.join(" ");
    if !is_root() || !is_there("apt-get") {
        log.notes.push(format!(
            "The tests need programs that are not here. On Debian: apt-get install {list}\n\
             Tests that need them are skipped."
        ));
        return Ok(());
    }
    log.run(apt().arg("update"))?;
    log.run(
        apt()
            .args(["install", "--yes", "--no-install-recommends"])
            .args(packages),
    )
}

fn apt() -> Command {
    let mut command = Command::new("apt-get");
    command
        .arg("--quiet")
        .env("DEBIAN_FRONTEND", "noninteractive");
    command
}

fn is_there(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut places: Vec<_> = env::split_paths(&path).collect();
    places.extend(["/usr/sbin", "/sbin"].map(|place| Path::new(place).to_owned()));
    places.iter().any(|place| place.join(program).is_file())
}

fn is_root() -> bool {
    let output = Command::new("id").arg("-u").output();
    output.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}
