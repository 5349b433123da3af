//! Tests that could not run, as they reported themselves.

use std::fs;
use std::path::PathBuf;

/// The variable that tells tests where to report.
pub(crate) const VARIABLE: &str = "PE_TESTKIT_SKIPS";

/// A fresh report file.
pub(crate) fn report() -> Result<PathBuf, String> {
    let path = std::env::temp_dir().join(format!("pingexporter-skips-{}", std::process::id()));
    fs::write(&path, "").map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    Ok(path)
}

/// Prints every skipped test and how many there were; none may be skipped where `CI=true`.
pub(crate) fn conclude(path: &PathBuf) -> Result<(), String> {
    let skipped = fs::read_to_string(path).unwrap_or_default();
    let _ = fs::remove_file(path);
    let count = skipped.lines().count();
    if count > 0 {
        eprintln!("\nTests that could not run here:\n{skipped}");
    }
    eprintln!("xtask: all checks passed, {count} tests skipped");
    if count > 0 && std::env::var("CI").is_ok_and(|ci| ci == "true") {
        return Err("no test may be skipped where CI=true".into());
    }
    Ok(())
}
