//! The release program with loopback devices.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::client::get;
use crate::metadata;

/// How long the first cycle may take to end.
const START: Duration = Duration::from_secs(60);

/// What the agent says of itself.
pub(crate) struct Status {
    pub(crate) up: f64,
    pub(crate) overruns: f64,
    /// The most devices that were down or unknown at one time.
    pub(crate) most_bad: f64,
}

/// A running program, which ends with the value.
pub(crate) struct Agent {
    child: Child,
    address: SocketAddr,
    directory: PathBuf,
    devices: usize,
    interval: Duration,
}

impl Agent {
    pub(crate) fn start(devices: usize, interval: Duration) -> Result<Self, String> {
        let metadata = metadata::read(&["--no-deps"])?;
        let target = PathBuf::from(metadata::text(&metadata, "target_directory"));
        let directory = target.join(format!("load-{}", std::process::id()));
        let configs = directory.join("configs");
        let address = TcpListener::bind("127.0.0.1:0").and_then(|port| port.local_addr());
        let address = address.map_err(|error| error.to_string())?;
        let last = 0x7f01_0000_u32 + devices as u32 - 1;
        let last = std::net::Ipv4Addr::from(last);
        let group = json!({
            "conf": { "prom_id": "plant", "interval": interval.as_secs(), "timeout": 1, "max_targets": devices },
            "jobs": [{ "job": "device-{ip}", "ip": format!("127.1.0.0-{last}"), "metrics": ["ping"] }],
        });
        let log = fs::create_dir_all(&configs)
            .and_then(|()| fs::write(configs.join("plant.json"), group.to_string()))
            .and_then(|()| fs::File::create(directory.join("log")));
        let log = log.map_err(|error| format!("cannot write {}: {error}", directory.display()))?;
        let child = Command::new(target.join("release/pingexporter"))
            .arg("--configs")
            .arg(&configs)
            .args(["--listen", &address.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        let child = child.map_err(|error| format!("cannot start the program: {error}"))?;
        Ok(Self {
            child,
            address,
            directory,
            devices,
            interval,
        })
    }

    pub(crate) fn description(&self) -> String {
        let uname = Command::new("uname").arg("-sr").output();
        let kernel = uname.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
        let commit = Command::new("git")
            .args(["describe", "--always", "--dirty"])
            .output();
        let commit = commit.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
        format!(
            "{} loopback devices each {:?}; {} processors, {}; commit {}; load {}",
            self.devices,
            self.interval,
            thread::available_parallelism().map_or(0, usize::from),
            kernel.unwrap_or_default(),
            commit.unwrap_or_default(),
            fs::read_to_string("/proc/loadavg")
                .unwrap_or_default()
                .trim(),
        )
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until the first cycle has ended.
    pub(crate) fn await_ready(&mut self) -> Result<(), String> {
        let start = Instant::now();
        while start.elapsed() < START {
            if get(self.address, "/-/ready").is_ok_and(|answer| answer.status == 200) {
                return Ok(());
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                let log = fs::read_to_string(self.directory.join("log")).unwrap_or_default();
                return Err(format!("the program ended: {status}\n{log}"));
            }
            thread::sleep(Duration::from_millis(100));
        }
        Err(format!("the program was not ready within {START:?}"))
    }

    pub(crate) fn status(&self) -> Result<Status, String> {
        let status = self.json("/api/v1/status")?;
        let number = |value: &Value| value.as_f64().unwrap_or_default();
        let groups = metadata::list(&status, "groups");
        let history = metadata::list(&status["devices"], "history");
        Ok(Status {
            up: number(&status["devices"]["up"]),
            overruns: groups.map(|group| number(&group["overruns_1h"])).sum(),
            most_bad: history
                .map(|slot| number(&slot["down"]) + number(&slot["unknown"]))
                .fold(0.0, f64::max),
        })
    }

    /// The id of a device.
    pub(crate) fn a_device(&self) -> Result<String, String> {
        let list = self.json("/api/v1/devices?limit=1")?;
        Ok(metadata::text(&list["devices"][0], "id").to_owned())
    }

    fn json(&self, path: &str) -> Result<Value, String> {
        let answer = get(self.address, path)?;
        serde_json::from_slice(&answer.body).map_err(|error| format!("{path}: {error}"))
    }

    pub(crate) fn stop(&mut self) {
        // The directory goes even if the program is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.stop();
    }
}
