//! Each case runs in a process of its own, so that what it uses is its own.

use std::process::{Child, Command, Stdio};

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::resource::{UsageWho, getrusage};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// The first argument of a process that runs one case.
pub(crate) const CASE: &str = "--case";

/// What a case found out.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Measurement {
    /// Requests that were to be sent, and answers that did not come although the device was there.
    pub(crate) pings: u64,
    pub(crate) missing: u64,
    /// User and system time of the process, in seconds, and the time that passed.
    pub(crate) cpu: f64,
    pub(crate) wall: f64,
    /// The most memory that was resident, in bytes.
    pub(crate) peak: u64,
    /// Round-trip times in microseconds.
    pub(crate) rtt: Option<Spread>,
    /// How late the requests left, in microseconds.
    pub(crate) jitter: Option<Spread>,
    /// The case's own further number.
    pub(crate) extra: f64,
}

/// Median and 99th percentile.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) p99: f64,
}

impl Spread {
    /// `None` of nothing.
    pub(crate) fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_unstable_by(f64::total_cmp);
        let at = |share: f64| {
            let last = values.len().checked_sub(1)?;
            values.get((last as f64 * share).round() as usize).copied()
        };
        Some(Self {
            median: at(0.5)?,
            p99: at(0.99)?,
        })
    }
}

impl Measurement {
    /// CPU time for each ping, in microseconds.
    pub(crate) fn cpu_per_ping(&self) -> f64 {
        self.cpu * 1e6 / self.pings as f64
    }

    /// CPU time per time passed.
    pub(crate) fn cpu_share(&self) -> f64 {
        self.cpu / self.wall
    }

    /// Fills in what this process has used since it started.
    pub(crate) fn used_by_this_process(mut self) -> Self {
        self.cpu = cpu(UsageWho::RUSAGE_SELF);
        self.peak = memory("VmHWM");
        self
    }
}

/// User and system time, in seconds.
pub(crate) fn cpu(who: UsageWho) -> f64 {
    let usage = getrusage(who).expect("getrusage(2) knows both");
    [usage.user_time(), usage.system_time()]
        .iter()
        .map(|time| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6)
        .sum()
}

/// The largest of the child processes that have ended, in bytes.
pub(crate) fn peak_of_children() -> u64 {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("getrusage(2) knows it");
    usage.max_rss() as u64 * 1024
}

/// A line of `/proc/self/status` (`VmHWM`, the peak, or `VmRSS`), in bytes.
pub(crate) fn memory(line: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("proc is mounted");
    status
        .lines()
        .find_map(|text| text.strip_prefix(line)?.strip_prefix(':'))
        .and_then(|text| text.trim().strip_suffix(" kB")?.parse::<u64>().ok())
        .expect("proc(5): memory in kB")
        * 1024
}

/// Keeps this process, and what it starts from now on, on one core.
pub(crate) fn pin(core: usize) {
    let mut cores = CpuSet::new();
    cores.set(core).expect("a core's number");
    sched_setaffinity(Pid::from_raw(0), &cores).expect("a core of ours");
}

/// Two different cores, those that have the least to do at the moment; fewer where there are fewer.
pub(crate) fn idle_cores() -> Vec<usize> {
    let ours = sched_getaffinity(Pid::from_raw(0)).expect("our own affinity");
    let before = idle_times();
    std::thread::sleep(std::time::Duration::from_millis(500));
    let mut idle: Vec<(u64, usize)> = idle_times()
        .into_iter()
        .zip(before)
        .enumerate()
        .map(|(core, (now, before))| (now - before, core))
        .filter(|(_, core)| ours.is_set(*core).unwrap_or(false))
        .collect();
    idle.sort_unstable();
    idle.reverse();
    idle.into_iter().take(2).map(|(_, core)| core).collect()
}

/// Idle time of each core so far, in ticks.
fn idle_times() -> Vec<u64> {
    let stat = std::fs::read_to_string("/proc/stat").expect("proc is mounted");
    stat.lines()
        .filter(|line| line.starts_with("cpu") && !line.starts_with("cpu "))
        .filter_map(|line| line.split_whitespace().nth(4)?.parse().ok())
        .collect()
}

fn command(arguments: &[&str]) -> Command {
    let this = std::env::current_exe().expect("the path of this program");
    let mut command = Command::new(this);
    command.arg(CASE).args(arguments).stdin(Stdio::null());
    command
}

/// Runs a case and returns what it found out.
pub(crate) fn run(arguments: &[&str]) -> Measurement {
    let output = command(arguments)
        .stderr(Stdio::inherit())
        .output()
        .expect("this program starts");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "case {arguments:?} failed: {text}");
    serde_json::from_str(text.trim())
        .unwrap_or_else(|error| panic!("case {arguments:?}: {error} in {text:?}"))
}

/// A case that goes on in the background until this value is dropped.
pub(crate) struct Background(Child);

impl Background {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let child = command(arguments).stdout(Stdio::null()).spawn();
        Self(child.expect("this program starts"))
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
