//! The step that compiles the fuzz targets.
//!
//! Running them needs cargo-fuzz and a nightly compiler (see crates/pe-ping/fuzz/README.md); compiling them does
//! not, and shows that they still fit the parsers.

use std::fs;

use crate::log::Log;
use crate::metadata;
use crate::steps::cargo;

/// A workspace of its own, without a lock file in the repository.
const DIRECTORY: &str = "crates/pe-ping/fuzz";

pub(crate) fn step(log: &mut Log) -> Result<(), String> {
    let workspace = metadata::read(&["--no-deps"])?;
    let root = metadata::text(&workspace, "workspace_root");
    let fuzz = format!("{root}/{DIRECTORY}");
    // The versions that the repository is locked to, so that only what fuzzing adds is resolved anew.
    let lock = format!("{fuzz}/Cargo.lock");
    fs::copy(format!("{root}/Cargo.lock"), &lock)
        .map_err(|error| format!("cannot write {lock}: {error}"))?;
    let target = metadata::text(&workspace, "target_directory");
    log.run(
        cargo("check")
            .args(["--bins", "--target-dir", target])
            .current_dir(fuzz),
    )
}
