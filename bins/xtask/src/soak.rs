//! `cargo xtask soak`: many random schedules of crashes and failures against the queue.

use std::process::Command;

use crate::steps::cargo;

/// How many, unless told: some five minutes on two cores.
const SCHEDULES: u64 = 100_000;

/// Runs so many schedules. Their seeds follow those of `cargo test`; `QUEUE_SOAK_FIRST` says where to begin instead.
pub(crate) fn soak(count: Option<&str>) -> Result<(), String> {
    let count = match count {
        None => SCHEDULES,
        Some(text) => {
            let plain: String = text.chars().filter(|c| *c != '_' && *c != ',').collect();
            let parsed = plain.parse();
            parsed.map_err(|error| format!("{text:?} is no number of schedules: {error}"))?
        }
    };
    let mut test: Command = cargo("test");
    test.args([
        "--locked",
        "--config",
        "profile.test.package.pe-push.opt-level=2",
    ]);
    test.args(["--package", "pe-push", "--features", "remote-write"]);
    test.args([
        "--test",
        "queue_model",
        "soak",
        "--",
        "--ignored",
        "--nocapture",
    ]);
    let status = test.env("QUEUE_SOAK", count.to_string()).status();
    let status = status.map_err(|error| format!("cannot run cargo: {error}"))?;
    if status.success() {
        Ok(())
    } else {
        Err("a schedule broke a promise; its seed is above, and is to become a test".to_owned())
    }
}
