//! Programs that run, and what they have used.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::load::client::get;

/// Ticks of the clock by which the kernel counts CPU time, a second: `sysconf(_SC_CLK_TCK)` is 100 on all Linux systems.
const TICKS: f64 = 100.0;

/// A running program, which ends with the value.
pub(super) struct Process(Child);

impl Process {
    pub(super) fn start(program: &Path, log: &Path, arguments: &[&str]) -> Result<Self, String> {
        let file = File::create(log).map_err(|error| format!("{}: {error}", log.display()))?;
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .spawn();
        child
            .map(Self)
            .map_err(|error| format!("cannot start {}: {error}", program.display()))
    }

    /// User and system time.
    pub(super) fn cpu_seconds(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap_or_default();
        // The name, in parentheses, may hold spaces.
        let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let ticks = fields.split_whitespace().skip(11).take(2);
        ticks.filter_map(|it| it.parse::<f64>().ok()).sum::<f64>() / TICKS
    }

    /// Most resident memory so far, in units of a million bytes.
    pub(super) fn peak_megabytes(&self) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id()));
        let status = status.unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<f64>().ok());
        kilobytes.unwrap_or(f64::NAN) * 1024.0 / 1e6
    }

    /// Asks it to end, and waits for that.
    pub(super) fn stop(&mut self) {
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

/// What a program prints.
pub(super) fn output(program: &Path, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program).args(arguments).output();
    let output = output.map_err(|error| format!("{}: {error}", program.display()))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// An address on which nobody listens.
pub(super) fn free_address() -> Result<SocketAddr, String> {
    let address = TcpListener::bind("127.0.0.1:0").and_then(|port| port.local_addr());
    address.map_err(|error| error.to_string())
}

/// The sum of the series of a metric on a page of metrics whose beginning this is.
pub(super) fn number(address: SocketAddr, series: &str) -> Result<f64, String> {
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

/// What the figures were measured on.
pub(super) fn processor() -> String {
    let first = |program: &str, arguments: &[&str]| {
        let text = output(Path::new(program), arguments).unwrap_or_default();
        text.lines().next().unwrap_or_default().to_owned()
    };
    format!(
        "{} processors, {}; commit {}; {}; load {}",
        std::thread::available_parallelism().map_or(0, usize::from),
        first("uname", &["-sr"]),
        first("git", &["describe", "--always", "--dirty"]),
        first("dpkg-query", &["-W", "victoria-metrics"]),
        fs::read_to_string("/proc/loadavg")
            .unwrap_or_default()
            .trim(),
    )
}
