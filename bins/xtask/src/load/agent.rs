//! The release program with loopback devices.

use std::fs;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::client::get;
use crate::metadata;
use crate::program::{Bench, Process, free_address, machine, write_group};

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
    // Ends before its directory goes.
    process: Process,
    address: SocketAddr,
    devices: u32,
    interval: Duration,
    bench: Bench,
}

impl Agent {
    pub(crate) fn start(devices: u32, interval: Duration) -> Result<Self, String> {
        let bench = Bench::new("load")?;
        let address = free_address()?;
        let configs = write_group(&bench.directory, devices, interval, &json!("ping"))?;
        let process = Process::start(
            &bench.program,
            &bench.directory.join("log"),
            &["--configs", &configs, "--listen", &address.to_string()],
        )?;
        Ok(Self {
            process,
            address,
            devices,
            interval,
            bench,
        })
    }

    pub(crate) fn description(&self) -> String {
        let Self {
            devices, interval, ..
        } = self;
        format!(
            "{devices} loopback devices each {interval:?}; {}",
            machine(&[])
        )
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Waits until the first cycle has ended.
    pub(crate) fn await_ready(&mut self) -> Result<(), String> {
        let start = Instant::now();
        while start.elapsed() < START {
            if get(self.address, "/-/ready").is_ok_and(|answer| answer.status == 200) {
                return Ok(());
            }
            if let Some(status) = self.process.ended() {
                let log = self.bench.directory.join("log");
                let log = fs::read_to_string(log).unwrap_or_default();
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
}
