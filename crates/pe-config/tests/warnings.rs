//! What `check` warns about, without refusing it.
#![allow(clippy::unwrap_used)]

mod common;

use common::{common, fixture, load_dir, sources};
use pe_config::{Loaded, load};

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
            .devices
            .iter()
            .all(|device| common(device).count == 1)
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
fn a_remark_of_a_sink_about_a_group_is_told_at_its_jobs() {
    let mut sources = sources("warnings/many-devices");
    assert_eq!(
        shown(&load(&sources).unwrap()),
        "",
        "without a Pushgateway there are no remarks"
    );
    sources.push_config = Some(fixture("loopback/push_config.json"));
    insta::assert_snapshot!(shown(&load(&sources).unwrap()));

    sources.env = [("PINGEXPORTER_GROUPING", "config")].into_iter().collect();
    assert_eq!(shown(&load(&sources).unwrap()), "");
}

#[test]
fn a_remark_of_a_sink_about_its_settings_is_told_under_the_name_that_was_written() {
    let mut sources = sources("loopback/project1");
    sources.push_config = Some(fixture("original/push_config.json"));
    insta::assert_snapshot!(shown(&load(&sources).unwrap()));
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
    let devices = &loaded.config.groups[0].devices;
    let labels = |index: usize| devices[index].target.further_labels().count();
    assert_eq!(devices[0].target.labels().get("site"), Some("a"));
    assert_eq!((labels(0), labels(1)), (1, 0));
    insta::assert_snapshot!(shown(&loaded));
}
