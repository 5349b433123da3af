//! Running the program as a user does.
#![allow(clippy::unwrap_used, dead_code, unreachable_pub)]

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output};

use pe_testkit::wait;
use serde_json::{Value, json};
use tempfile::TempDir;

/// The program under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_pingexporter");

/// A file or directory of the repository's fixtures.
pub fn fixture(path: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures")).join(path)
}

/// A directory of configuration files, gone with the value.
pub struct Files(TempDir);

impl Files {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("configs")).unwrap();
        Self(directory)
    }

    /// Writes a group file.
    pub fn group(self, name: &str, group: &Value) -> Self {
        self.write_group(name, group);
        self
    }

    /// Writes or replaces a group file.
    pub fn write_group(&self, name: &str, group: &Value) {
        fs::write(self.configs().join(name), group.to_string()).unwrap();
    }

    /// Writes the push configuration.
    pub fn push(self, push: &Value) -> Self {
        fs::write(self.push_config(), push.to_string()).unwrap();
        self
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn configs(&self) -> PathBuf {
        self.path().join("configs")
    }

    pub fn push_config(&self) -> PathBuf {
        self.path().join("push_config.json")
    }

    /// Starts `run` on these files, without HTTP.
    pub fn run(&self) -> Agent {
        let mut command = pe_testkit::command(PROGRAM);
        command
            .arg("--configs")
            .arg(self.configs())
            .args(["--listen", "none"]);
        if self.push_config().exists() {
            command.arg("--push-config").arg(self.push_config());
        }
        Agent::start(command, self.path())
    }

    /// Starts `run` on these files with HTTP on a free address, and with further arguments.
    pub fn serve(&self, further: &[&str]) -> (Agent, SocketAddr) {
        let address = pe_testkit::free_port().unwrap();
        let mut command = pe_testkit::command(PROGRAM);
        command
            .arg("--configs")
            .arg(self.configs())
            .args(["--listen", &address.to_string()]);
        if self.push_config().exists() {
            command.arg("--push-config").arg(self.push_config());
        }
        command.args(further);
        (Agent::start(command, self.path()), address)
    }

    /// Runs `once` on these files to its end.
    pub fn once(&self) -> Output {
        self.once_command().output().unwrap()
    }

    pub fn once_command(&self) -> Command {
        let mut command = pe_testkit::command(PROGRAM);
        command.arg("once").arg("--configs").arg(self.configs());
        if self.push_config().exists() {
            command.arg("--push-config").arg(self.push_config());
        }
        command
    }
}

/// A group of devices with short times.
pub fn group(prom_id: &str, jobs: &[Value]) -> Value {
    json!({
        "conf": {"prom_id": prom_id, "interval": "500ms", "timeout": "200ms", "value_dev_down": 3000},
        "jobs": jobs,
    })
}

/// A device to ping.
pub fn device(job: &str, ip: &str) -> Value {
    json!({"job": job, "ip": ip, "metrics": ["ping"]})
}

/// A push configuration for a gateway at `url`.
pub fn push_to(url: &str) -> Value {
    json!({"ip_pushgateway": url, "timeout_pushgateway": 2})
}

/// The program while it runs. Killed with the value.
pub struct Agent {
    child: Child,
    log: PathBuf,
}

impl Agent {
    pub fn start(mut command: Command, directory: &Path) -> Self {
        let log = directory.join("agent.log");
        let file = File::create(&log).unwrap();
        command
            .stderr(file.try_clone().unwrap())
            .stdout(file)
            .env_remove("RUST_BACKTRACE");
        Self {
            child: pe_testkit::start(command).unwrap(),
            log,
        }
    }

    /// The process's number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Waits until the log holds `text`. Fails at once if the program has ended without it.
    pub fn await_log(&self, text: &str) {
        wait::until_true(&format!("{text:?} in the log"), || {
            let has_ended = self.has_ended();
            let is_there = self.log().contains(text);
            assert!(
                is_there || !has_ended,
                "it ended without {text:?} in the log"
            );
            is_there
        });
    }

    /// Whether it is a zombie: its end is told to nobody before [`stop`](Self::stop).
    fn has_ended(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.id())).unwrap_or_default();
        let state = stat
            .rsplit(')')
            .next()
            .and_then(|rest| rest.trim_start().chars().next());
        matches!(state, Some('Z') | None)
    }

    pub fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-s", signal, &pid])
                .status()
                .unwrap()
                .success()
        );
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Asks the program to stop and waits until it has.
    pub fn stop(mut self) -> ExitStatus {
        self.signal("TERM");
        self.child.wait().unwrap()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the program's log:\n{}", self.log());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The value of the series with this exact beginning, such as `dev_ping{device="a",`.
pub fn value(metrics: &str, series: &str) -> Option<f64> {
    let line = metrics.lines().find(|line| line.starts_with(series))?;
    line.rsplit(' ').next()?.parse().ok()
}
