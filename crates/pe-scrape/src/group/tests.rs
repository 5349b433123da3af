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
fn the_address_stands_wherever_a_name_has_a_place_for_it() {
    let name = |pattern: &str| {
        let group = Group::builder("plant", SECOND * 10).device(pattern, "10.0.0.1-10.0.0.2");
        let devices = group.build().unwrap().devices;
        devices[0].target.device().to_owned()
    };
    assert_eq!(name("{ip}"), "10.0.0.1");
    assert_eq!(name("rack-{ip}"), "rack-10.0.0.1");
    assert_eq!(name("{ip}{ip} {ip}/x"), "10.0.0.110.0.0.1 10.0.0.1/x");
    assert_eq!(name("{i{ip}p}"), "{i10.0.0.1p}");
    assert_eq!(name("all"), "all");
}

#[test]
fn a_device_in_many_entries_is_told_to_be_repeated() {
    let many = |builder: GroupBuilder| (0..500).fold(builder, |b, _| b.device("a", "10.0.0.1"));
    let group = many(Group::builder("plant", SECOND * 10)).device("b", "10.0.0.1");
    let group = many(group.device("a", "10.0.0.2")).build();
    let told = messages(group);
    assert!(
        told.iter()
            .all(|message| message.contains("`a` at 10.0.0.1")),
        "{told:?}"
    );
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

/// Gives the first device scrapers with other common settings.
fn set_up(group: &mut Group, change: impl FnOnce(&mut ScraperSettings)) {
    let mut common = group.common.clone();
    change(&mut common);
    group.devices[0].scrapers = ScraperConfig::all(&ScraperList::ping(), &common);
}

#[test]
fn what_every_scraper_gets_has_the_bounds_of_a_key() {
    for name in ScraperSettings::KEYS {
        assert!(super::keys::key_of(name).is_some(), "{name}");
    }
}

#[test]
fn what_is_risky_is_told_and_does_not_stop_the_build() {
    let builder = Group::builder("plant", SECOND).device("a", "10.0.0.1");
    let mut group = builder.clone().build().unwrap();
    assert!(group.warnings.is_empty());
    let slow = DeviceEntry::new("b", "10.0.0.2").unwrap().count(5);
    let gone = DeviceEntry::new("c", "10.0.0.3").unwrap();
    let found = |diagnostics: &Diagnostics| -> Vec<String> {
        diagnostics.iter().map(ToString::to_string).collect()
    };

    let overrun = "group \"plant\": warning: a cycle of 5 probes, 1s apart, with a timeout of 500ms takes 4s 500ms, longer \
                   than the interval of 1s\n  hint: use fewer probes, a shorter probe_interval or a longer interval; else \
                   ticks are skipped";
    assert_eq!(found(&group.add(&slow).unwrap()), [overrun]);
    let built = builder.entry(slow).exclude("10.0.0.3").entry(gone);
    let built = built.build().unwrap();
    assert_eq!(built.devices.len(), 2);
    assert_eq!(found(&built.warnings), [overrun]);
    let slow = Group::builder("plant", SECOND).rate(2.0);
    let slow = slow.device("all", "10.1.0.0/29").build().unwrap();
    let message = &slow.warnings.iter().next().unwrap().message;
    assert_eq!(
        message,
        "a cycle of 6 probes every 1s needs 6 probes a second, and the pacer lets 2 out"
    );
    let excluded = Group::builder("plant", SECOND)
        .exclude("10.1.0.0/24")
        .device("all", "10.1.0.0/28");
    let excluded = excluded.build().unwrap();
    let told = "group \"plant\": warning: all addresses of 10.1.0.1-10.1.0.14 are excluded";
    assert_eq!(found(&excluded.warnings), [told]);
    // Whoever checks the group later tells of it too.
    let checked = Checks::new(&ScraperRegistry::new()).group(&excluded);
    assert_eq!(found(&checked), [told]);
}

#[test]
fn a_main_that_fails_prints_words() {
    let refused = Group::builder("", SECOND).build().unwrap_err();
    assert_eq!(format!("{refused:?}"), r#"group "": prom_id: is empty"#);
    let refused = DeviceEntry::new("a", "a b").unwrap_err();
    assert_eq!(format!("{refused:?}"), refused.to_string());
}

#[test]
fn what_was_changed_after_the_build_is_checked_again() {
    let registry = ScraperRegistry::new();
    type Change = fn(&mut Group);
    let changed: [(Change, &str); 12] = [
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
        (
            |g| g.settings.timeout = Some(SECOND),
            "timeout (1s) must be below interval (1s)",
        ),
        (
            |g| g.settings.interval = SECOND * 2,
            "device `a`: its scrapers were set up for an interval of 1s, and that of the group is 2s",
        ),
        (
            |g| set_up(g, |common| common.timeout = SECOND),
            "device `a`: timeout (1s) must be below interval (1s)",
        ),
        (
            |g| set_up(g, |common| common.count = 0),
            "device `a`: count: out of range, expected a whole number from 1 to 10000",
        ),
        (
            |g| set_up(g, |common| common.rate = Some(0.0)),
            "device `a`: rate: must be greater than zero",
        ),
        (
            |g| set_up(g, |common| common.value_dev_down = f64::NAN),
            "device `a`: value_dev_down: not a finite number",
        ),
        (
            |g| g.settings.exclude = vec![parse_exclusion("10.0.0.0/24").unwrap()],
            "device `a`: its address is left out by `exclude`",
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
