//! The step that compiles the fuzz targets.
//!
//! Running them needs cargo-fuzz and a nightly compiler (see the README.md beside them); compiling them does
//! not, and shows that they still fit the parsers.

use std::fs;

use crate::log::Log;
use crate::metadata;
use crate::steps::cargo;

/// Each a workspace of its own, without a lock file in the repository.
const DIRECTORIES: [&str; 3] = [
    "crates/pe-ping/fuzz",
    "crates/pe-probe/fuzz",
    "crates/pe-push/fuzz",
];

pub(crate) fn step(log: &mut Log) -> Result<(), String> {
    let workspace = metadata::read(&["--no-deps"])?;
    let root = metadata::text(&workspace, "workspace_root");
    let target = metadata::text(&workspace, "target_directory");
    for directory in DIRECTORIES {
        let fuzz = format!("{root}/{directory}");
        // The versions that the repository is locked to, so that only what fuzzing adds is resolved anew.
        let lock = format!("{fuzz}/Cargo.lock");
        fs::copy(format!("{root}/Cargo.lock"), &lock)
            .map_err(|error| format!("cannot write {lock}: {error}"))?;
        log.run(
            cargo("check")
                .args(["--bins", "--target-dir", target])
                .current_dir(fuzz),
        )?;
    }
    Ok(())
}
