//! `cargo xtask deny`: all checks of deny.toml, by cargo-deny.

use std::process::Stdio;

use crate::steps::cargo;

pub(crate) fn deny() -> Result<(), String> {
    let mut version = cargo("deny");
    let found = version
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !found.is_ok_and(|status| status.success()) {
        return Err("cargo-deny is not installed: cargo install cargo-deny --locked".into());
    }
    match cargo("deny").arg("check").status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("cargo deny check: {status}")),
        Err(error) => Err(format!("cannot run cargo deny: {error}")),
    }
}
