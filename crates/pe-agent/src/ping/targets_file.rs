//! From a sweep to a targets file: the targets that answered, in the form that configurations read.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use pe_ping::Stats;
use serde_json::json;

use super::targets::Target;
use crate::failure::Failure;
use crate::output::tell;

/// Writes the targets that answered as devices, in place of what the file held. Where nobody answered, the file stays as it is,
/// so that an outage empties no group.
///
/// # Errors
/// When the file cannot be written.
pub(super) fn write_targets(
    file: &Path,
    targets: &[Target],
    stats: &[Stats],
) -> Result<(), Failure> {
    let live: Vec<&Target> = targets
        .iter()
        .zip(stats)
        .filter(|(_, stats)| stats.is_up())
        .map(|(target, _)| target)
        .collect();
    let name = file.display();
    if live.is_empty() {
        tell(format_args!("{name} is not written: nobody answered"));
        return Ok(());
    }
    replace(file, &text(&live))
        .map_err(|error| Failure::cannot(&format!("write the targets to {name}"), error))?;
    // What reads it is an entry of a group file.
    let entry = json!({ "targets_files": [name.to_string()], "metrics": ["ping"] });
    tell(format_args!(
        "{} targets are written to {name}; to measure them, put {entry} into \"jobs\" of a group file",
        live.len()
    ));
    Ok(())
}

/// One target a line, each once, in the form of Prometheus' `file_sd`.
fn text(live: &[&Target]) -> String {
    let mut seen = std::collections::HashSet::new();
    let lines: Vec<String> = live
        .iter()
        .map(|target| target.name())
        .filter(|name| seen.insert(name.clone()))
        .map(|name| format!("      {}", json!(name)))
        .collect();
    format!(
        "[\n  {{\n    \"targets\": [\n{}\n    ]\n  }}\n]\n",
        lines.join(",\n")
    )
}

/// Puts a new file in the place of the old one at once, as an agent may read it at any time.
fn replace(file: &Path, text: &str) -> io::Result<()> {
    let directory = file
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let own = std::process::id();
    let temporary = directory
        .unwrap_or(Path::new("."))
        .join(format!(".targets.{own}.tmp"));
    // One that a former process of this number has left.
    let _ = fs::remove_file(&temporary);
    // Never through a link that somebody has put there.
    let written = fs::File::create_new(&temporary).and_then(|mut out| {
        out.write_all(text.as_bytes())?;
        out.sync_all()?;
        fs::rename(&temporary, file)
    });
    if written.is_err() {
        // What was begun is of no use; the error that counts is the first one.
        let _ = fs::remove_file(&temporary);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;
    use pe_ping::ProbeError;

    fn target(text: &str) -> Target {
        Target {
            host: None,
            address: text.parse().unwrap(),
            zone: None,
        }
    }

    #[test]
    fn a_file_is_replaced_and_an_outage_leaves_it() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("targets.json");
        let named = Target {
            host: Some("router".to_owned()),
            ..target("127.0.0.3")
        };
        let targets = [target("127.0.0.1"), target("127.0.0.2"), named];
        let down = Stats::from(ProbeError::Timeout);
        let mut up = Stats::default();
        up.record(&Ok(pe_ping::Reply {
            rtt: std::time::Duration::from_millis(1),
            ttl: None,
            payload: 56,
            truncated: false,
        }));
        write_targets(&file, &targets, &[up, down, up]).unwrap();
        let text = fs::read_to_string(&file).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value, json!([{"targets": ["127.0.0.1", "router"]}]));
        // A link in the place of the file that is written first leads nowhere.
        let victim = directory.path().join("victim");
        let temporary = format!(".targets.{}.tmp", std::process::id());
        let temporary = directory.path().join(temporary);
        std::os::unix::fs::symlink(&victim, &temporary).unwrap();
        write_targets(&file, &targets, &[up, down, up]).unwrap();
        assert!(!victim.exists() && temporary.symlink_metadata().is_err());
        write_targets(&file, &targets, &[down, down, down]).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), text);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        assert!(write_targets(&directory.path().join("no/file"), &targets, &[up; 3]).is_err());
    }
}
