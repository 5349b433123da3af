//! Targets files, at start and at reload.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::{Path, PathBuf};

use common::{common, sources_of, warnings};
use pe_config::{LoadError, Loaded, TargetFiles, load};
use pe_scrape::{Address, Config, Family};

/// A configuration directory that may be changed.
struct Directory {
    root: tempfile::TempDir,
}

impl Directory {
    /// With one group file, which has the jobs of `jobs`.
    fn new(jobs: &str) -> Self {
        let directory = Self {
            root: tempfile::tempdir().unwrap(),
        };
        directory.write(
            "group.json",
            &format!(r#"{{"conf": {{"prom_id": "a", "interval": 30}}, "jobs": {jobs}}}"#),
        );
        directory
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn load(&self, previous: Option<&TargetFiles>) -> Result<Loaded, LoadError> {
        let mut sources = sources_of(self.root.path());
        sources.previous = previous.cloned();
        load(&sources)
    }

    /// Problems without the path of the directory.
    fn shown<'p>(&self, problems: impl IntoIterator<Item = &'p pe_scrape::Diagnostic>) -> String {
        let lines: Vec<String> = problems.into_iter().map(ToString::to_string).collect();
        lines
            .join("\n")
            .replace(&*self.root.path().to_string_lossy(), "DIRECTORY")
    }
}

fn addresses(loaded: &Loaded) -> Vec<&str> {
    loaded.config.groups[0]
        .devices
        .iter()
        .map(|device| device.target.ip())
        .collect()
}

/// Devices of the first configuration that are in the second as they were.
fn unchanged(first: &Config, second: &Config) -> usize {
    let devices = &first.groups[0].devices;
    let now = &second.groups[0].devices;
    devices.iter().filter(|device| now.contains(device)).count()
}

/// Something done to a file.
type Damage<'a> = &'a dyn Fn(&Path);

const FROM_FILES: &str = r#"[{"targets_files": ["sd/*.json"]}]"#;

#[test]
fn a_targets_file_that_goes_wrong_keeps_its_former_content() {
    let directory = Directory::new(FROM_FILES);
    directory.write("sd/a.json", r#"[{"targets": ["127.0.0.1", "127.0.0.2"]}]"#);
    directory.write(
        "sd/b.json",
        r#"[{"targets": ["127.0.0.3"], "labels": {"site": "x"}}]"#,
    );
    let first = directory.load(None).unwrap();
    assert_eq!(addresses(&first), ["127.0.0.1", "127.0.0.2", "127.0.0.3"]);

    let damage: [(&str, Damage<'_>); 6] = [
        ("vanished", &|path| std::fs::remove_file(path).unwrap()),
        ("half written", &|path| {
            std::fs::write(path, "[{\"targets\": [\"127.0.").unwrap();
        }),
        ("emptied", &|path| std::fs::write(path, "").unwrap()),
        ("a directory", &|path| {
            std::fs::remove_file(path).unwrap();
            std::fs::create_dir(path).unwrap();
        }),
        ("not UTF-8", &|path| {
            std::fs::remove_dir(path).unwrap();
            std::fs::write(path, b"\xff").unwrap();
        }),
        ("bad address", &|path| {
            std::fs::write(path, r#"[{"targets": ["127.0.0.999"]}]"#).unwrap();
        }),
    ];
    let mut previous = first.target_files.clone();
    let mut shown = String::new();
    for (what, damage) in damage {
        damage(&directory.path("sd/b.json"));
        assert!(
            directory.load(None).is_err() || what == "vanished",
            "{what}"
        );
        let loaded = directory.load(Some(&previous)).unwrap();
        assert_eq!(unchanged(&first.config, &loaded.config), 3, "{what}");
        assert_eq!(loaded.config.device_count(), 3, "{what}");
        shown.push_str(&format!(
            "{what}:\n{}\n\n",
            directory.shown(&loaded.warnings)
        ));
        previous = loaded.target_files;
    }
    insta::assert_snapshot!(shown);

    directory.write("sd/b.json", r#"[{"targets": ["127.0.0.4"]}]"#);
    let repaired = directory.load(Some(&previous)).unwrap();
    assert_eq!(
        addresses(&repaired),
        ["127.0.0.1", "127.0.0.2", "127.0.0.4"]
    );
    assert_eq!(warnings(&repaired), [""; 0]);
    assert_eq!(unchanged(&first.config, &repaired.config), 2);
}

#[test]
fn a_directory_of_targets_files_that_vanishes_changes_nothing() {
    let directory = Directory::new(FROM_FILES);
    directory.write("sd/a.json", r#"[{"targets": ["127.0.0.1"]}]"#);
    let first = directory.load(None).unwrap();
    std::fs::remove_dir_all(directory.path("sd")).unwrap();
    let second = directory.load(Some(&first.target_files)).unwrap();
    assert_eq!(second.config, first.config);
    assert_eq!(second.warnings.len(), 1);
}

#[test]
fn a_file_that_is_named_no_more_is_forgotten() {
    let directory = Directory::new(FROM_FILES);
    directory.write("sd/a.json", r#"[{"targets": ["127.0.0.1"]}]"#);
    let first = directory.load(None).unwrap();
    directory.write(
        "group.json",
        r#"{"conf": {"prom_id": "a", "interval": 30}, "jobs": []}"#,
    );
    let second = directory.load(Some(&first.target_files)).unwrap();
    assert_eq!(second.config.device_count(), 0);
    assert_eq!(second.target_files.paths().count(), 0);
}

#[test]
fn an_emptied_list_removes_the_devices() {
    let directory = Directory::new(FROM_FILES);
    directory.write("sd/a.json", r#"[{"targets": ["127.0.0.1"]}]"#);
    let first = directory.load(None).unwrap();
    directory.write("sd/a.json", "[]");
    let second = directory.load(Some(&first.target_files)).unwrap();
    assert_eq!(second.config.device_count(), 0);
    assert_eq!(warnings(&second), [""; 0]);
}

#[test]
fn the_fingerprint_tells_of_changes() {
    let directory = Directory::new(FROM_FILES);
    directory.write("sd/a.json", r#"[{"targets": ["127.0.0.1"]}]"#);
    let watched = directory.load(None).unwrap().watched;
    let before = watched.fingerprint();
    assert_eq!(watched.fingerprint(), before);
    directory.write("sd/note.txt", "no targets file");
    assert_eq!(watched.fingerprint(), before);
    directory.write("sd/b.json", "[]");
    let added = watched.fingerprint();
    assert_ne!(added, before);
    directory.write("sd/new", r#"[{"targets": ["127.0.0.2"]}]"#);
    std::fs::rename(directory.path("sd/new"), directory.path("sd/a.json")).unwrap();
    assert_ne!(watched.fingerprint(), added);
}

#[test]
fn a_failed_load_says_what_to_watch() {
    let directory = Directory::new(r#"[{"targets_files": ["sd/a.json"]}]"#);
    let problems = directory.load(None).unwrap_err();
    assert!(
        problems
            .watched
            .files
            .contains(&directory.path("sd/a.json"))
    );
}

#[test]
fn templates_families_and_exclusions_work_for_targets_too() {
    let directory = Directory::new(
        r#"[{"job": "t-{ip}", "targets_files": ["sd/a.json"], "family": "both",
             "exclude": ["127.0.0.0/30", "b.example"], "timeout": 2, "count": 3}]"#,
    );
    directory.write(
        "sd/a.json",
        r#"[{"targets": ["127.0.0.1", "127.0.0.5:80", "a.example:80", "B.example"]}]"#,
    );
    let loaded = directory.load(None).unwrap();
    let found: Vec<_> = loaded.config.groups[0]
        .devices
        .iter()
        .map(|device| &device.target)
        .map(|target| {
            let family = target.labels().get("family");
            (target.device(), target.address().clone(), family)
        })
        .collect();
    let name = |family| Address::Name {
        host: "a.example".into(),
        family: Some(family),
    };
    assert_eq!(
        found,
        [
            ("t-127.0.0.5", Address::Ip([127, 0, 0, 5].into()), None),
            ("t-a.example", name(Family::V4), Some("4")),
            ("t-a.example", name(Family::V6), Some("6")),
        ]
    );
    assert!(
        loaded.config.groups[0]
            .devices
            .iter()
            .all(|device| common(device).count == 3)
    );
}

#[test]
fn a_changed_setting_shows_in_its_device_alone() {
    let jobs = r#"[{"job": "a", "ip": "127.0.0.1"}, {"job": "b", "ip": "127.0.0.2"}]"#;
    let directory = Directory::new(jobs);
    let first = directory.load(None).unwrap().config;
    let jobs = jobs.replace("\"127.0.0.2\"", "\"127.0.0.2\", \"count\": 2");
    let second = Directory::new(&jobs).load(None).unwrap().config;
    let (before, after) = (&first.groups[0].devices, &second.groups[0].devices);
    assert_eq!(before[0], after[0]);
    assert_ne!(before[1], after[1]);
    let identity = |device: &pe_scrape::Device| device.target.identity().0.to_owned();
    assert_eq!(identity(&before[1]), identity(&after[1]));
}

#[test]
fn a_problem_within_a_former_content_is_told_at_its_place() {
    let directory =
        Directory::new(r#"[{"targets_files": ["sd/a.json"], "exclude": ["127.0.0.2"]}]"#);
    let targets = r#"[{"targets": ["127.0.0.1", "127.0.0.1"]}]"#;
    directory.write("sd/a.json", targets);
    let first = directory.load(None).unwrap();
    let again = directory.shown(&first.warnings);
    assert!(
        again.starts_with("DIRECTORY/sd/a.json:1:28: warning: device"),
        "{again}"
    );
    directory.write("sd/a.json", "[");
    let second = directory.load(Some(&first.target_files)).unwrap();
    let shown = directory.shown(&second.warnings);
    assert!(shown.contains(&again), "{shown}");
    assert!(
        shown.contains("the former content of the file stays in use"),
        "{shown}"
    );
}

/// The devices of a targets file with this text, each with its labels.
fn devices_of(name: &str, text: &str) -> Result<Vec<String>, String> {
    let directory =
        Directory::new(r#"[{"targets_files": ["sd/*.json", "sd/*.yml", "sd/*.yaml"]}]"#);
    directory.write(&format!("sd/{name}"), text);
    let loaded = directory
        .load(None)
        .map_err(|error| directory.shown(&error.diagnostics))?;
    let devices = loaded.config.groups[0].devices.iter();
    Ok(devices
        .map(|device| format!("{:?}", device.target.labels()))
        .collect())
}

#[test]
fn a_targets_file_may_be_yaml() {
    let json = r#"[{"targets": ["127.0.0.1:9100", "::1"], "labels": {"rack": "7", "on": "yes", "device": "a"}},
                   {"targets": ["127.0.0.2"], "labels": {"rack": "7", "on": "yes"}}]"#;
    let yaml = "---\n- targets:\n  - 127.0.0.1:9100\n  - '::1'\n  labels: &common\n    rack: 7\n    on: yes\n    device: a\n\
                - targets: [127.0.0.2]\n  labels: {rack: 7, \"on\": 'yes'}\n";
    let expected = devices_of("a.json", json).unwrap();
    assert_eq!(expected.len(), 3);
    for name in ["a.yml", "a.yaml"] {
        assert_eq!(devices_of(name, yaml).unwrap(), expected, "{name}");
        // All JSON is YAML.
        assert_eq!(devices_of(name, json).unwrap(), expected, "{name}");
    }
    // Half a file, which a program has begun to write.
    let told = devices_of("a.yml", "").unwrap_err();
    assert!(told.contains("a.yml:1:1: the file is empty"), "{told}");
}

/// What `promtool check config` says of the same texts.
#[test]
fn null_is_nothing_where_prometheus_takes_it_for_nothing() {
    let plain = devices_of("a.json", r#"[{"targets": ["127.0.0.1"]}]"#);
    for (text, expected) in [
        ("null", Ok(Vec::new())),
        (r#"[{"targets": null, "labels": null}]"#, Ok(Vec::new())),
        (r#"[{"labels": {"a": "b"}}]"#, Ok(Vec::new())),
        (
            r#"[{"targets": ["127.0.0.1"], "labels": null}]"#,
            plain.clone(),
        ),
        (
            r#"[{"targets": ["127.0.0.1"], "labels": {"a": null}}]"#,
            plain,
        ),
    ] {
        assert_eq!(devices_of("a.json", text), expected, "{text}");
        assert_eq!(devices_of("a.yml", text), expected, "{text}");
    }
    for text in ["[null]", r#"[{"targets": ["127.0.0.1", null]}]"#] {
        assert!(devices_of("a.json", text).is_err(), "{text}");
    }
}

#[test]
fn a_file_that_is_too_large_is_refused_unread() {
    let directory = Directory::new(r#"[{"targets_files": ["sd/*.json", "sd/*.yml"]}]"#);
    std::fs::create_dir(directory.path("sd")).unwrap();
    for name in ["huge.json", "sd/a.json", "sd/b.yml"] {
        let file = std::fs::File::create(directory.path(name)).unwrap();
        file.set_len(6 << 40).unwrap();
    }
    let mut sources = sources_of(directory.root.path());
    directory.write(
        "push/push.json",
        r#"{"sinks": [{"archive": {"url": "x", "token_file": "token"}}]}"#,
    );
    let token = std::fs::File::create(directory.path("push/token")).unwrap();
    token.set_len(6 << 40).unwrap();
    sources.push_config = Some(directory.path("push/push.json"));
    let told = directory.shown(&load(&sources).unwrap_err().diagnostics);
    for expected in [
        "huge.json:1:1: the file is larger than 256 MiB",
        "sd/a.json:1:1: the targets file is larger than 256 MiB",
        "sd/b.yml:1:1: the targets file is larger than 256 MiB",
        "push/token: is larger than 64 KiB",
    ] {
        assert!(told.contains(expected), "no {expected} in {told}");
    }
    directory.write("push/push.json", "");
    let push = std::fs::File::create(directory.path("push/push.json")).unwrap();
    push.set_len(6 << 40).unwrap();
    let told = directory.shown(&load(&sources).unwrap_err().diagnostics);
    assert!(told.contains("push.json:1:1: the file is larger"), "{told}");
}
