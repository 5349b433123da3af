//! The step that compiles the fuzz targets, and the chore that searches with one of them.
//!
//! Compiling them shows that they still fit the parsers. Searching needs a nightly compiler, with whose passes the whole program is
//! instrumented; there is no sanitizer in it, since the parsers have no `unsafe` code.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::log::Log;
use crate::metadata;
use crate::steps::cargo;

/// Each a workspace of its own, without a lock file in the repository.
const DIRECTORIES: [&str; 4] = [
    "crates/pe-config/fuzz",
    "crates/pe-ping/fuzz",
    "crates/pe-probe/fuzz",
    "crates/pe-push/fuzz",
];

/// Inputs, unless told.
const INPUTS: u64 = 1_000_000;

/// What cargo-fuzz instruments with, without its sanitizer.
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Cdebug-assertions -Coverflow-checks -Ccodegen-units=4";

pub(crate) fn step(log: &mut Log) -> Result<(), String> {
    let workspace = metadata::read(&["--no-deps"])?;
    let root = metadata::text(&workspace, "workspace_root");
    let target = metadata::text(&workspace, "target_directory");
    for directory in DIRECTORIES {
        let fuzz = locked(Path::new(root), directory)?;
        log.run(
            cargo("check")
                .args(["--bins", "--target-dir", target])
                .current_dir(fuzz),
        )?;
    }
    Ok(())
}

/// Gives inputs to a target, until there were `count` or one of them breaks something.
pub(crate) fn search(name: &str, count: Option<&str>) -> Result<(), String> {
    let count = match count {
        None => INPUTS,
        Some(text) => text
            .parse()
            .map_err(|_| format!("{text:?} is no number of inputs"))?,
    };
    let workspace = metadata::read(&["--no-deps"])?;
    let root = Path::new(metadata::text(&workspace, "workspace_root"));
    let target = Path::new(metadata::text(&workspace, "target_directory")).join("fuzz");
    let file = format!("fuzz_targets/{name}.rs");
    let mut directories = DIRECTORIES.iter();
    let directory = directories
        .find(|directory| root.join(directory).join(&file).is_file())
        .ok_or(format!("there is no fuzz target {name:?}"))?;
    let triple = host()?;
    let mut build = Command::new("rustup");
    build
        .args(["run", "nightly", "cargo", "build", "--release"])
        .args(["--bin", name, "--target", &triple, "--target-dir"])
        .arg(&target)
        .current_dir(locked(root, directory)?)
        .env("RUSTFLAGS", FLAGS)
        .env_remove("CARGO")
        .env_remove("RUSTUP_TOOLCHAIN");
    run(&mut build)?;
    let corpus = target.join("corpus").join(name);
    fs::create_dir_all(&corpus)
        .map_err(|error| format!("cannot make {}: {error}", corpus.display()))?;
    let mut fuzzer = Command::new(target.join(triple).join("release").join(name));
    fuzzer
        .arg(format!("-runs={count}"))
        .args(["-max_len=4096", "-timeout=60", "-rss_limit_mb=2048"])
        .arg(format!(
            "-artifact_prefix={}/{name}-",
            target.join("corpus").display()
        ))
        .arg(&corpus);
    let seeds = root.join("fixtures/fuzz").join(name);
    if seeds.is_dir() {
        fuzzer.arg(seeds);
    }
    run(&mut fuzzer)
}

/// The directory of a fuzz workspace, with the versions that the repository is locked to, so that only what fuzzing adds is
/// resolved anew.
fn locked(root: &Path, directory: &str) -> Result<PathBuf, String> {
    let fuzz = root.join(directory);
    let lock = fuzz.join("Cargo.lock");
    fs::copy(root.join("Cargo.lock"), &lock)
        .map_err(|error| format!("cannot write {}: {error}", lock.display()))?;
    Ok(fuzz)
}

/// The platform that programs are built for here.
fn host() -> Result<String, String> {
    let output = Command::new("rustc").arg("-vV").output();
    let output = output.map_err(|error| format!("cannot run rustc: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned)
        .ok_or("rustc does not say what it builds for".to_owned())
}

fn run(command: &mut Command) -> Result<(), String> {
    let status = command
        .status()
        .map_err(|error| format!("cannot run {}: {error}", command.get_program().display()))?;
    match status.success() {
        true => Ok(()),
        false => Err(format!(
            "{} failed: {status}",
            command.get_program().display()
        )),
    }
}
