//! Writes files to start from.
//!
//! JSON has no comments: what there is to say about the files is in a text beside them.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::failure::Failure;
use crate::output;

/// A group of devices that can be measured everywhere.
const GROUP: &str = r#"{
  "conf": {
    "prom_id": "office",
    "interval": "10s",
    "timeout": "1s",
    "count": 3,
    "probe_interval": "500ms"
  },
  "jobs": [
    {
      "job": "this machine",
      "ip": "127.0.0.1",
      "metrics": ["ping"],
      "labels": { "room": "lab" }
    },
    {
      "job": "loopback {ip}",
      "ip": "127.0.0.8/30",
      "metrics": ["ping"]
    }
  ]
}
"#;

const PUSH: &str = r#"{
  "ip_pushgateway": "127.0.0.1",
  "port_pushgateway": 9091,
  "grouping": "config",
  "external_labels": { "site": "${HOSTNAME}" }
}
"#;

/// The text, in which `{name}` is the program's, and `{configs}`, `{push}` and `{targets}` are paths.
const README: &str = r#"configs/office.json
  One file is one group of devices that are measured together; add as many as
  there are groups, each with a `prom_id` of its own. `interval` is the time
  between two cycles, `count` how many probes each device gets in one. `job` is
  a device's name; `ip` is an address, a host name, a subnet (192.0.2.0/24) or a
  range (192.0.2.10-192.0.2.50), whose devices are named by `{ip}`. `labels` go
  to all series of the device. The devices of this example answer everywhere:
  put yours in their place. Changes are noticed while the program runs.

push_config.json
  Where results go: a Pushgateway at this address. Only read with --push-config.
  `external_labels` keep this site's results apart from those of other sites; put
  a name of your own in the place of `${HOSTNAME}` if you like.

Check the files:
  {name} check --configs {configs} --push-config {push}

Measure, and see the results on http://127.0.0.1:9516/:
  {name} --configs {configs}

Push them too:
  {name} --configs {configs} --push-config {push}

Turn the devices of a network that answer into a targets file:
  {name} ping 192.0.2.0/24 --write-targets {targets}
and name it in a group file, in place of an address:
  { "targets_files": ["../targets.json"], "metrics": ["ping"] }

All keys: docs/configuration.md of the project, or `{name} schema` for editors.
"#;

/// Writes the files into `directory`, and prints what to do next. `name` is the program's.
///
/// # Errors
/// When one of them is there already: then none is written.
pub(crate) fn init(directory: &Path, name: &str) -> Result<(), Failure> {
    let (configs, push) = (
        directory.join("configs"),
        directory.join("push_config.json"),
    );
    let shown = |path: &PathBuf| quoted(&path.display().to_string());
    let readme = README
        .replace("{name}", name)
        .replace("{configs}", &shown(&configs))
        .replace("{push}", &shown(&push))
        .replace("{targets}", &shown(&directory.join("targets.json")));
    let files = [
        (configs.join("office.json"), GROUP),
        (push, PUSH),
        (directory.join("README.txt"), &readme),
    ];
    if let Some((there, _)) = files
        .iter()
        .find(|(path, _)| path.symlink_metadata().is_ok())
    {
        return Err(Failure::new(format!(
            "{} is there already, and nothing is overwritten: choose another directory",
            there.display()
        )));
    }
    let cannot =
        |path: &PathBuf, error| Failure::cannot(&format!("write {}", path.display()), error);
    fs::create_dir_all(&configs).map_err(|error| cannot(&configs, error))?;
    for (path, text) in &files {
        // Not over a file that has come meanwhile.
        let file = fs::File::create_new(path);
        file.and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(|error| cannot(path, error))?;
    }
    let written = files
        .iter()
        .map(|(path, _)| format!("wrote {}\n", path.display()));
    let written: String = written.collect();
    let next = format!(
        "{written}\nnext, measure and see the results on http://127.0.0.1:9516/:\n  {name} --configs {}\n",
        shown(&configs)
    );
    output::print(next.as_bytes())
}

/// The word as a shell takes it.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+,:@%".contains(c);
    match word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_overwritten_and_then_nothing_is_written() {
        for there in ["configs/office.json", "push_config.json", "README.txt"] {
            let directory = tempfile::tempdir().unwrap();
            fs::create_dir(directory.path().join("configs")).unwrap();
            fs::write(directory.path().join(there), "mine").unwrap();
            let error = init(directory.path(), "agent").unwrap_err().to_string();
            assert!(error.contains(there), "{error}");
            let text = fs::read_to_string(directory.path().join(there)).unwrap();
            assert_eq!(text, "mine");
            let count = |path: &Path| fs::read_dir(path).unwrap().count();
            let files = count(directory.path()) - 1 + count(&directory.path().join("configs"));
            assert_eq!(files, 1, "{there}");
        }
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        fs::write(&file, "").unwrap();
        let error = init(&file, "agent").unwrap_err().to_string();
        assert!(
            error.starts_with("cannot write ") && error.contains("file/configs"),
            "{error}"
        );
    }

    #[test]
    fn the_next_command_can_be_pasted() {
        assert_eq!(quoted("a/b-1"), "a/b-1");
        assert_eq!(quoted("my site's"), r"'my site'\''s'");
    }
}
