//! The real servers and tools that the tests talk to.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::log::Log;
use crate::metadata;

/// A program that tests start, and the Debian package that brings it.
const NEEDED: &[(&str, &str)] = &[
    ("prometheus-pushgateway", "prometheus-pushgateway"),
    ("prometheus-node-exporter", "prometheus-node-exporter"),
    (
        "prometheus-blackbox-exporter",
        "prometheus-blackbox-exporter",
    ),
    ("victoria-metrics", "victoria-metrics"),
    ("vmagent", "victoria-metrics"),
    ("prometheus", "prometheus"),
    ("promtool", "prometheus"),
    ("nginx", "nginx-light"),
    ("dovecot", "dovecot-submissiond"),
    ("doveconf", "dovecot-imapd"),
    ("doveadm", "dovecot-pop3d"),
    ("openssl", "openssl"),
    ("curl", "curl"),
    ("chromium", "chromium"),
    ("chromedriver", "chromium-driver"),
    ("npm", "npm"),
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("tcpdump", "tcpdump"),
    ("fping", "fping"),
    ("dnsmasq", "dnsmasq-base"),
    ("unbound", "unbound"),
    ("setpriv", "util-linux"),
    ("unshare", "util-linux"),
    ("nsenter", "util-linux"),
    ("script", "bsdutils"),
    ("setcap", "libcap2-bin"),
    ("systemd-nspawn", "systemd-container"),
    ("skopeo", "skopeo"),
];

/// Debian packages that are unpacked below the target directory, each into a directory of its name in [`UNPACKED_PLACE`], where the tests
/// run their programs by path. chrony, installed, would take the place of the machine's time service; libfaketime is not to be found by other
/// programs, and of tinyproxy no service is wanted.
const UNPACKED: &[&str] = &["chrony", "libfaketime", "tinyproxy-bin"];
const UNPACKED_PLACE: &str = "tmp";

/// What the tests need of the npm registry, with versions and checksums, and its place below that of the tests' files.
const FROM_NPM: &str = "bins/pingexporter/tests/axe";
const NPM_PLACE: &str = "tmp/axe";

/// A file that tests need and that is no program in `PATH`, and the Debian package that brings it.
const NEEDED_FILES: &[(&str, &str)] = &[
    (
        "/usr/lib/nagios/plugins/check_http",
        "monitoring-plugins-basic",
    ),
    ("/usr/lib/postgresql/15/bin/postgres", "postgresql-15"),
];

/// The Debian package that brings a program.
pub(crate) fn package_of(program: &Path) -> Option<&'static str> {
    let known = NEEDED.iter().find(|(name, _)| Path::new(name) == program);
    known.map(|(_, package)| *package)
}

/// Installs what is missing, or says what to install.
pub(crate) fn step(log: &mut Log) -> Result<(), String> {
    from_debian(log)?;
    unpacked(log)?;
    from_npm(log)
}

/// Unpacks what is not to be installed. A mirror that cannot be reached costs the tests that need it.
fn unpacked(log: &mut Log) -> Result<(), String> {
    let metadata = metadata::read(&["--no-deps"])?;
    let target = PathBuf::from(metadata::text(&metadata, "target_directory"));
    let place = |package: &&str| target.join(UNPACKED_PLACE).join(package);
    let missing: Vec<&str> = UNPACKED
        .iter()
        .copied()
        .filter(|package| !place(package).is_dir())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !is_there("apt-get") || !is_there("dpkg-deb") {
        log.notes.push(format!(
            "Tests that need {} are skipped: that is unpacked from Debian packages.",
            missing.join(", ")
        ));
        return Ok(());
    }
    if is_root() {
        // Lists that are too old are told by the download.
        let _ = log.run(apt().arg("update"));
    }
    for package in missing {
        unpack(log, package, &place(&package))?;
    }
    Ok(())
}

fn unpack(log: &mut Log, package: &str, place: &Path) -> Result<(), String> {
    let cannot_write = |error| format!("cannot write {}: {error}", place.display());
    // The place is there only once it is complete.
    let part = place.with_extension("part");
    let _ = fs::remove_dir_all(&part);
    fs::create_dir_all(&part).map_err(cannot_write)?;
    let script =
        format!("apt-get --quiet download {package} && dpkg-deb --extract {package}_*.deb .");
    let mut unpack = Command::new("sh");
    unpack.args(["-c", &script]).current_dir(&part);
    if let Err(error) = log.run(&mut unpack) {
        log.notes
            .push(format!("Tests that need {package} are skipped: {error}"));
        return Ok(());
    }
    fs::rename(&part, place).map_err(cannot_write)
}

/// Installs what `package-lock.json` names. A registry that cannot be reached costs the tests that need it.
fn from_npm(log: &mut Log) -> Result<(), String> {
    let metadata = metadata::read(&["--no-deps"])?;
    let path = |name| PathBuf::from(metadata::text(&metadata, name));
    let wanted = path("workspace_root").join(FROM_NPM);
    let place = path("target_directory").join(NPM_PLACE);
    let lock = "package-lock.json";
    let read = |path: PathBuf| fs::read(path).unwrap_or_default();
    // Written last, so that it tells that the rest is there.
    if read(place.join("installed")) == read(wanted.join(lock)) {
        return Ok(());
    }
    if !is_there("npm") {
        log.notes.push(
            "The pages are not checked for accessibility: that needs npm, for axe-core.".to_owned(),
        );
        return Ok(());
    }
    let copy = |name: &str| fs::copy(wanted.join(name), place.join(name));
    fs::create_dir_all(&place)
        .and_then(|()| copy("package.json"))
        .and_then(|_| copy(lock))
        .map_err(|error| format!("cannot write {}: {error}", place.display()))?;
    let mut npm = Command::new("npm");
    npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
        .current_dir(&place);
    if let Err(error) = log.run(&mut npm) {
        log.notes.push(format!(
            "The pages are not checked for accessibility, for want of axe-core: {error}"
        ));
        return Ok(());
    }
    fs::copy(wanted.join(lock), place.join("installed"))
        .map(drop)
        .map_err(|error| format!("cannot write {}: {error}", place.display()))
}

fn from_debian(log: &mut Log) -> Result<(), String> {
    let mut packages: Vec<&str> = NEEDED
        .iter()
        .filter(|(program, _)| !is_there(program))
        .map(|(_, package)| *package)
        .collect();
    let files = NEEDED_FILES.iter();
    let missing = files.filter(|(file, _)| !Path::new(file).is_file());
    packages.extend(missing.map(|(_, package)| *package));
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// What stands in quotes behind `before`, in all Rust files below `directory`.
    fn quoted(directory: &Path, before: &str, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                quoted(&path, before, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let behind = text.split(before).skip(1);
                found.extend(behind.filter_map(|text| Some(text.split_once('"')?.0.to_owned())));
            }
        }
    }

    /// A machine that happens to have a program hides that it is missing here.
    #[test]
    fn what_tests_require_is_installed_for_them() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let (mut programs, mut files) = (BTreeSet::new(), BTreeSet::new());
        for directory in ["crates", "bins/pingexporter", "examples"] {
            quoted(&root.join(directory), "Program(\"", &mut programs);
            quoted(&root.join(directory), "File(\"/", &mut files);
        }
        programs.remove("no-such-program-anywhere");
        assert!(programs.contains("nginx") && files.contains("usr/lib/postgresql/15/bin/postgres"));
        let is_missing =
            |list: &[(&str, &str)], wanted: &str| !list.iter().any(|it| it.0 == wanted);
        programs.retain(|program| is_missing(NEEDED, program));
        files.retain(|file| is_missing(NEEDED_FILES, &format!("/{file}")));
        assert!(
            programs.is_empty() && files.is_empty(),
            "{programs:?} {files:?}"
        );
    }
}
