//! The example files of the Python original load unchanged.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use common::{Grouping, common, fixture, push_settings, sources, sources_of, warnings};
use pe_config::load;
use pe_scrape::Address;

#[test]
fn the_readme_example_loads_and_its_repeated_device_is_kept_once() {
    let mut sources = sources("original/readme");
    sources.push_config = Some(fixture("original/push_config.json"));
    let loaded = load(&sources).unwrap();
    let group = &loaded.config.groups[0];
    assert_eq!(group.name(), "Project1");
    assert_eq!(group.interval(), Duration::from_secs(55));
    let [device] = group.devices.as_slice() else {
        panic!("{:?}", group.devices)
    };
    for settings in [&group.common, common(device)] {
        assert_eq!(settings.timeout, Duration::from_secs(3));
        assert_eq!(settings.value_dev_down, 3000.0);
        assert_eq!(
            (settings.count, settings.probe_interval),
            (1, Duration::from_secs(1))
        );
    }
    let target = &device.target;
    assert_eq!(
        (target.device(), target.ip()),
        ("MyDevice01", "192.168.1.57")
    );
    assert_eq!(&*device.scrapers[0].name, "ping");
    insta::assert_snapshot!(warnings(&loaded).join("\n"));
}

#[test]
fn two_devices_that_share_a_job_are_both_kept() {
    let loaded = common::load_dir("original/project1").unwrap();
    let devices = &loaded.config.groups[0].devices;
    let targets = devices.iter().map(|device| &device.target);
    let found: Vec<_> = targets
        .map(|target| (target.device(), target.ip()))
        .collect();
    assert_eq!(
        found,
        [("Device01", "192.168.1.57"), ("Device01", "192.168.1.58")]
    );
    let address = Address::Ip([192, 168, 1, 58].into());
    assert_eq!(devices[1].target.address(), &address);
    assert_eq!(warnings(&loaded), [""; 0]);
}

#[test]
fn the_push_example_loads_and_its_password_never_shows() {
    let mut sources = sources("original/project1");
    sources.push_config = Some(fixture("original/push_config.json"));
    let loaded = load(&sources).unwrap();
    let push = push_settings(&loaded.config.sinks[0]);
    assert_eq!(push.url, "http://100.200.150.250:9091");
    assert_eq!(push.username.as_deref(), Some("user"));
    assert_eq!(push.password.as_ref().unwrap().expose(), "pass");
    assert_eq!(push.grouping, Grouping::Device);
    assert_eq!(push.timeout, Duration::from_secs(10));
    let shown = format!("{loaded:?}");
    assert!(
        shown.contains("password") && !shown.contains("\"pass\""),
        "{shown}"
    );
}

#[test]
fn the_loopback_copies_load_too() {
    for directory in ["loopback/readme", "loopback/project1"] {
        let mut sources = sources(directory);
        sources.push_config = Some(fixture("loopback/push_config.json"));
        let loaded = load(&sources).unwrap();
        assert!(!loaded.config.groups[0].devices.is_empty());
    }
}

#[test]
fn only_json_files_of_the_directory_itself_are_read() {
    let directory = tempfile::tempdir().unwrap();
    let sound = "\u{feff}{\r\n\"conf\": {\"prom_id\": \"a\", \"interval\": 30}, \"jobs\": []}";
    for (name, text) in [
        ("b.json", sound),
        (".hidden.json", "no JSON"),
        ("a.json~", "no JSON"),
        ("a.JSON", "no JSON"),
        ("readme.txt", "no JSON"),
        ("below/c.json", "no JSON"),
    ] {
        let path = directory.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let loaded = load(&sources_of(directory.path())).unwrap();
    let files: Vec<_> = loaded
        .config
        .groups
        .iter()
        .filter_map(|group| group.file.clone())
        .collect();
    assert_eq!(files, [directory.path().join("b.json")]);
    let places: Vec<_> = loaded
        .warnings
        .iter()
        .map(|found| (found.line, found.col))
        .collect();
    assert_eq!(places, [(2, 51)]);
}
