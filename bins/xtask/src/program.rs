//! The program that is measured, others beside it, and what they have used.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::load::client::get;
use crate::metadata;
use crate::packages;

/// Ticks of the clock by which the kernel counts CPU time, a second: `sysconf(_SC_CLK_TCK)` is 100 on all Linux systems.
const TICKS: f64 = 100.0;

/// A number of `what` from 1 to `most`, as it was given, else `otherwise`.
pub(crate) fn count(
    given: Option<&str>,
    otherwise: u32,
    most: u32,
    what: &str,
) -> Result<u32, String> {
    let Some(text) = given else {
        return Ok(otherwise);
    };
    let plain = text.replace([',', '_'], "").parse().ok();
    let count = plain.filter(|count| (1..=most).contains(count));
    count.ok_or(format!("{text:?} is no number of {what}"))
}

/// Builds the program as the README does.
pub(crate) fn build() -> Result<(), String> {
    let build = crate::steps::cargo("build")
        .args(["--release", "--locked", "--package", "pingexporter"])
        .status();
    match build {
        Ok(status) if status.success() => Ok(()),
        _ => Err("the program cannot be built".to_owned()),
    }
}

/// Where that is, and a directory of this process for what is measured.
pub(crate) struct Bench {
    pub(crate) program: PathBuf,
    pub(crate) directory: PathBuf,
}

impl Bench {
    /// `name` begins the name of the directory, which is below the target directory and is removed with the value.
    pub(crate) fn new(name: &str) -> Result<Self, String> {
        let metadata = metadata::read(&["--no-deps"])?;
        let target = PathBuf::from(metadata::text(&metadata, "target_directory"));
        Ok(Self {
            program: target.join("release/pingexporter"),
            directory: target.join(format!("{name}-{}", std::process::id())),
        })
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        // What cannot be removed is below the target directory.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Writes a group of so many loopback devices below `here`, and says in which directory.
pub(crate) fn write_group(
    here: &Path,
    devices: u32,
    interval: Duration,
    metrics: &Value,
) -> Result<String, String> {
    let last = Ipv4Addr::from(0x7f01_0000 + devices - 1);
    let group = json!({
        "conf": {"prom_id": "plant", "interval": interval.as_secs(), "timeout": 1, "max_targets": devices},
        "jobs": [{"job": "device-{ip}", "ip": format!("127.1.0.0-{last}"), "metrics": [metrics]}],
    });
    write(&here.join("configs/plant.json"), &group.to_string())?;
    Ok(here.join("configs").display().to_string())
}

/// Writes a file, and the directories above it.
pub(crate) fn write(file: &Path, text: &str) -> Result<(), String> {
    let parent = file.parent().unwrap_or(file);
    fs::create_dir_all(parent)
        .and_then(|()| fs::write(file, text))
        .map_err(|error| format!("cannot write {}: {error}", file.display()))
}

/// A running program, which ends with the value.
pub(crate) struct Process(Child);

impl Process {
    pub(crate) fn start(program: &Path, log: &Path, arguments: &[&str]) -> Result<Self, String> {
        let file = File::create(log).map_err(|error| format!("{}: {error}", log.display()))?;
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .spawn();
        child.map(Self).map_err(|error| {
            let package = packages::package_of(program);
            let package = package.map(|it| format!("; on Debian it is in the package {it}"));
            let package = package.unwrap_or_default();
            format!("cannot start {}: {error}{package}", program.display())
        })
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().ok().flatten()
    }

    /// That it has not ended.
    pub(crate) fn expect_running(&mut self, name: &str) -> Result<(), String> {
        self.ended()
            .map_or(Ok(()), |status| Err(format!("{name} has ended: {status}")))
    }

    /// User and system time.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap_or_default();
        // The name, in parentheses, may hold spaces.
        let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let ticks = fields.split_whitespace().skip(11).take(2);
        ticks.filter_map(|it| it.parse::<f64>().ok()).sum::<f64>() / TICKS
    }

    /// Most resident memory so far, in units of a million bytes.
    pub(crate) fn peak_megabytes(&self) -> f64 {
        memory(self.id(), "VmHWM:").map_or(f64::NAN, |bytes| bytes as f64 / 1e6)
    }

    /// Asks it to end, and waits for that.
    pub(crate) fn stop(&mut self) {
        let id = self.0.id().to_string();
        let told = Command::new("kill").args(["-s", "TERM", &id]).status();
        if !told.is_ok_and(|status| status.success()) {
            // It is gone then, or will be.
            let _ = self.0.kill();
        }
        let _ = self.0.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Bytes of a process's memory, by the name of a line of its `status`.
pub(crate) fn memory(process: u32, line: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let value = status.lines().find_map(|text| text.strip_prefix(line))?;
    let kilobytes: u64 = value.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

/// What a program prints.
pub(crate) fn output(program: &Path, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program).args(arguments).output();
    let output = output.map_err(|error| format!("{}: {error}", program.display()))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// An address on which nobody listens.
pub(crate) fn free_address() -> Result<SocketAddr, String> {
    let address = TcpListener::bind("127.0.0.1:0").and_then(|port| port.local_addr());
    address.map_err(|error| error.to_string())
}

/// The sum of the series of a metric on a page of metrics whose beginning this is.
pub(crate) fn number(address: SocketAddr, series: &str) -> Result<f64, String> {
    let text = String::from_utf8_lossy(&get(address, "/metrics")?.body).into_owned();
    let values = text
        .lines()
        .filter(|line| line.starts_with(series))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    let values: Vec<f64> = values.collect();
    match values.is_empty() {
        true => Err(format!("no {series} at {address}")),
        false => Ok(values.iter().sum()),
    }
}

/// What figures were measured on, with the versions of `peers`, Debian packages.
pub(crate) fn machine(peers: &[&str]) -> String {
    let first = |program: &str, arguments: &[&str]| {
        let text = output(Path::new(program), arguments).unwrap_or_default();
        text.lines().next().unwrap_or_default().to_owned()
    };
    let peers = peers
        .iter()
        .map(|peer| first("dpkg-query", &["-W", peer]) + "; ");
    format!(
        "{} processors, {}; commit {}; {}load {}",
        std::thread::available_parallelism().map_or(0, usize::from),
        first("uname", &["-sr"]),
        first("git", &["describe", "--always", "--dirty"]),
        peers.collect::<String>(),
        fs::read_to_string("/proc/loadavg")
            .unwrap_or_default()
            .trim(),
    )
}
