use std::time::Duration;

use serde_json::json;

use super::*;
use crate::ScraperRegistry;
use crate::testkit::Yields;

const SECOND: Duration = Duration::from_secs(1);

fn messages(result: Result<Group, Diagnostics>) -> Vec<String> {
    let diagnostics = result.unwrap_err();
    diagnostics
        .iter()
        .map(|diagnostic| diagnostic.message.clone())
        .collect()
}

#[test]
fn a_group_in_code_gets_what_a_file_would_give_it() {
    let group = Group::builder("plant", SECOND * 10)
        .label("site", "north")
        .exclude("10.1.0.3")
        .device("core", "10.0.0.1:80")
        .device("rack-{ip}", "10.1.0.0/29")
        .entry(
            DeviceEntry::new("uplink", "uplink.example")
                .unwrap()
                .family(FamilyChoice::Both)
                .timeout(SECOND / 2)
                .label("tier", "1"),
        )
        .build()
        .unwrap();
    let devices: Vec<_> = group
        .devices
        .iter()
        .map(|device| format!("{:?}", device.target.labels()))
        .collect();
    assert_eq!(devices.len(), 1 + 5 + 2);
    assert_eq!(
        devices[0],
        r#"[device="core", ip="10.0.0.1", site="north"]"#
    );
    assert_eq!(
        devices[7],
        r#"[device="uplink", ip="uplink.example", site="north", tier="1", family="6"]"#
    );
    let settings = |index: usize| &group.devices[index].scrapers[0].settings;
    assert_eq!(settings(0).timeout, SECOND);
    assert_eq!(settings(7).timeout, SECOND / 2);
    assert_eq!(&*group.devices[0].scrapers[0].name, "ping");
    assert_eq!(settings(0).value_dev_down, 1000.0);
}

#[test]
fn what_files_refuse_is_refused_in_code() {
    let builder = || Group::builder("plant", SECOND * 10).device("a", "10.0.0.1");
    for (group, expected) in [
        (Group::builder("", SECOND).build(), "prom_id: is empty"),
        (
            Group::builder("pingexporter", SECOND).build(),
            "prom_id `pingexporter` is taken: the agent's own metrics leave under it",
        ),
        (
            Group::builder("x", Duration::ZERO).build(),
            "interval: must be greater than zero",
        ),
        (
            Group::builder("x", Duration::MAX).build(),
            "interval: longer than 366 days",
        ),
        (
            builder().timeout(SECOND * 10).build(),
            "timeout (10s) must be below interval (10s)",
        ),
        (
            builder().count(0).build(),
            "count: out of range, expected a whole number from 1 to 10000",
        ),
        (
            builder().rate(f64::NAN).build(),
            "pacer.rate: not a finite number",
        ),
        (
            builder().label("job", "x").build(),
            "the label `job` is reserved",
        ),
        (
            builder().device("a", "10.0.0.1").build(),
            "device `a` at 10.0.0.1 is there already",
        ),
        (
            builder().device("m", "224.0.0.1").build(),
            "`224.0.0.1` includes a multicast address",
        ),
        (
            builder().device("all", "10.0.0.0/8").build(),
            "10.0.0.1-10.255.255.254 stands for more than 65536 addresses",
        ),
        (
            builder()
                .entry(DeviceEntry::new("b", "10.0.0.2").unwrap().label("a-b", "x"))
                .build(),
            "`a-b` is not a label name",
        ),
    ] {
        let told = messages(group);
        assert!(
            told.iter().any(|message| message == expected),
            "{expected}: {told:?}"
        );
    }
}

#[test]
fn devices_come_and_go() {
    let mut group = Group::builder("plant", SECOND)
        .device("a", "10.0.0.1")
        .build()
        .unwrap();
    group
        .add(&DeviceEntry::new("b", "10.0.0.2").unwrap())
        .unwrap();
    let again = group.add(&DeviceEntry::new("b", "10.0.0.2").unwrap());
    assert!(again.unwrap_err().to_string().contains("is there already"));
    assert_eq!(group.devices.len(), 2);
    assert_eq!((group.remove("a"), group.remove("a")), (1, 0));
    assert_eq!(group.devices[0].target.device(), "b");
}

fn check(scrapers: &[(&str, Value)]) -> Vec<String> {
    let mut registry = ScraperRegistry::new();
    registry.register("one", Yields::create).unwrap();
    registry.register("two", Yields::create).unwrap();
    let mut entry = DeviceEntry::new("a", "10.0.0.1")
        .unwrap()
        .label("rack", "7");
    for (name, own) in scrapers {
        entry = entry.scraper(*name, own.clone());
    }
    let group = Group::builder("plant", SECOND)
        .entry(entry)
        .build()
        .unwrap();
    let diagnostics = Checks::new(&registry).group(&group);
    diagnostics
        .iter()
        .map(|diagnostic| diagnostic.message.clone())
        .collect()
}

#[test]
fn what_would_blind_a_prometheus_is_refused() {
    let none: [&str; 0] = [];
    assert_eq!(
        check(&[("one", json!({"a": {}})), ("two", json!({"b": {}}))]),
        none
    );
    assert_eq!(
        check(&[("one", json!({"a": {}})), ("two", json!({"a": {}}))]),
        ["metrics `one` and `two` both yield `a` with the same labels"]
    );
    // The same scraper twice, told apart by a label, is one of the uses of settings.
    let probe = |name: &str| json!({"probe_success": {"labels": {"probe": name}}});
    assert_eq!(
        check(&[("one", probe("tcp:22")), ("one", probe("tcp:443"))]),
        none
    );
    assert_eq!(
        check(&[("one", probe("tcp:22")), ("one", probe("tcp:22"))]),
        ["metric `one` is listed twice"]
    );
    // A part of a histogram is a series too.
    assert_eq!(
        check(&[
            ("one", json!({"a": {"type": "histogram"}})),
            ("two", json!({"a_sum": {}}))
        ]),
        ["metrics `one` and `two` both yield `a_sum` with the same labels"]
    );
    assert_eq!(
        check(&[
            ("one", json!({"a": {"labels": {"x": "1"}}})),
            ("two", json!({"a": {"type": "histogram"}}))
        ]),
        ["metric `two` describes `a` with another type, help text or unit than `one` does"]
    );
    assert_eq!(
        check(&[("one", json!({"a": {"labels": {"rack": "1"}}}))]),
        ["device `a`: the metric `one` sets the label `rack` itself"]
    );
    assert_eq!(
        check(&[("one", json!({"a": {"labels": {"device": "1"}}}))]),
        ["metric `one` gives `a` the label `device`, which tells devices apart"]
    );
    for name in [
        "exporter_jobs",
        "pingexporter_x",
        "process_open_fds",
        "push_time_seconds",
    ] {
        assert_eq!(
            check(&[("one", json!({ name: {} }))]),
            [format!(
                "metric `one` yields `{name}`, a name of PingExporter's own"
            )]
        );
    }
    assert_eq!(check(&[("three", Value::Null)]), ["unknown metric `three`"]);
    assert_eq!(
        check(&[("one", json!({"panic": {}}))]),
        ["metric `one`: it panicked: as the settings say"]
    );
}

#[test]
fn what_was_changed_after_the_build_is_checked_again() {
    let registry = ScraperRegistry::new();
    type Change = fn(&mut Group);
    let changed: [(Change, &str); 5] = [
        (|g| g.settings.prom_id.clear(), "prom_id: is empty"),
        (
            |g| g.settings.prom_id = "pingexporter".to_owned(),
            "prom_id `pingexporter` is taken: the agent's own metrics leave under it",
        ),
        (
            |g| g.settings.interval = Duration::ZERO,
            "interval: must be greater than zero",
        ),
        (
            |g| g.settings.labels = [("job", "x")].into_iter().collect(),
            "the label `job` is reserved",
        ),
        (
            |g| g.devices.push(g.devices[0].clone()),
            "device `a` at 10.0.0.1 is there already",
        ),
    ];
    for (change, expected) in changed {
        let group = Group::builder("plant", SECOND).device("a", "10.0.0.1");
        let mut group = group.build().unwrap();
        change(&mut group);
        let found = Checks::new(&registry).group(&group);
        assert!(
            found.iter().any(|problem| problem.message == expected),
            "{expected}: {found}"
        );
    }
}
