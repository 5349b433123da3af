//! What `check` warns about, without refusing it.
#![allow(clippy::unwrap_used)]

mod common;

use common::{fixture, load_dir, sources};
use pe_config::{Grouping, Loaded, load};

fn shown(loaded: &Loaded) -> String {
    let lines: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

#[test]
fn no_jobs() {
    insta::assert_snapshot!(shown(&load_dir("warnings/no-jobs").unwrap()));
}

#[test]
fn devices_listed_twice_are_kept_once() {
    let loaded = load_dir("warnings/repeated").unwrap();
    // router, 254 hosts of the subnet, one of the targets file
    assert_eq!(loaded.config.device_count(), 1 + 254 + 1);
    assert!(
        loaded.config.groups[0]
            .jobs
            .iter()
            .all(|job| job.count.is_none())
    );
    insta::assert_snapshot!(shown(&loaded));
}

#[test]
fn a_cycle_longer_than_its_interval() {
    insta::assert_snapshot!(shown(&load_dir("warnings/cycle-does-not-fit").unwrap()));
}

#[test]
fn a_cycle_made_too_long_by_the_settings_of_a_scraper() {
    insta::assert_snapshot!(shown(&load_dir("warnings/cycle-of-scraper").unwrap()));
}

#[test]
fn a_pacer_too_slow_for_the_cycle() {
    insta::assert_snapshot!(shown(&load_dir("warnings/slow-pacer").unwrap()));
}

#[test]
fn many_devices_in_a_group_each() {
    let mut sources = sources("warnings/many-devices");
    assert_eq!(
        load(&sources).unwrap().warnings,
        [],
        "without a Pushgateway there are no groups"
    );
    sources.push_config = Some(fixture("loopback/push_config.json"));
    insta::assert_snapshot!(shown(&load(&sources).unwrap()));

    sources.env = [("PINGEXPORTER_GROUPING", "config")].into_iter().collect();
    let loaded = load(&sources).unwrap();
    assert_eq!(
        loaded.config.push.as_ref().unwrap().grouping,
        Grouping::Config
    );
    assert_eq!(loaded.warnings, []);
}

#[test]
fn many_devices_of_all_files_together() {
    let mut sources = sources("warnings/many-devices-together");
    sources.push_config = Some(fixture("loopback/push_config.json"));
    insta::assert_snapshot!(shown(&load(&sources).unwrap()));
}

#[test]
fn devices_of_two_files_that_are_one_on_the_pushgateway() {
    let mut sources = sources("warnings/shared-devices");
    sources.push_config = Some(fixture("loopback/push_config.json"));
    insta::assert_snapshot!(shown(&load(&sources).unwrap()));

    sources.env = [("PINGEXPORTER_GROUPING", "config")].into_iter().collect();
    assert_eq!(load(&sources).unwrap().warnings, []);
}

#[test]
fn many_devices_of_one_name_are_one_group() {
    let mut sources = sources("warnings/many-devices-one-name");
    sources.push_config = Some(fixture("loopback/push_config.json"));
    assert_eq!(load(&sources).unwrap().warnings, []);
}

#[test]
fn everything_excluded() {
    let loaded = load_dir("warnings/all-excluded").unwrap();
    assert_eq!(loaded.config.device_count(), 1);
    insta::assert_snapshot!(shown(&loaded));
}

#[test]
fn no_targets_file_matches() {
    insta::assert_snapshot!(shown(&load_dir("warnings/no-targets-file").unwrap()));
}

#[test]
fn labels_of_targets_that_are_not_used() {
    let loaded = load_dir("warnings/labels-of-targets").unwrap();
    let jobs = &loaded.config.groups[0].jobs;
    assert_eq!(jobs[0].labels.get("site"), Some("a"));
    assert_eq!((jobs[0].labels.len(), jobs[1].labels.len()), (1, 0));
    insta::assert_snapshot!(shown(&loaded));
}
