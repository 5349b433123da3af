//! Defaults < file < environment < flags.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use common::{Grouping, SINKS, fixture, load_push, push_settings, sources, warnings};
use pe_config::{Environment, Overrides, load};
use pe_scrape::FamilyChoice;

#[test]
fn each_layer_covers_the_one_below() {
    let mut sources = sources("loopback/project1");
    let interval =
        |sources: &pe_config::Sources<'_>| load(sources).unwrap().config.groups[0].interval();
    assert_eq!(interval(&sources), Duration::from_secs(55));
    sources.env = [("PINGEXPORTER_CONF_INTERVAL", "40")].into_iter().collect();
    assert_eq!(interval(&sources), Duration::from_secs(40));
    sources.overrides = Overrides::new().set("--interval", "conf.interval", "2.5s");
    assert_eq!(interval(&sources), Duration::from_millis(2500));
}

/// A value for each setting of `conf`, as text.
const CONF: [(&str, &str); 10] = [
    ("interval", "1m"),
    ("timeout", "0.5"),
    ("value_dev_down", "-1"),
    ("unknown_is_down", "true"),
    ("count", "3"),
    ("probe_interval", "100ms"),
    ("max_targets", "10"),
    ("family", "6"),
    ("pacer.rate", "50.5"),
    ("pacer.burst", "9"),
];

fn check_conf(sources: &pe_config::Sources<'_>) {
    let loaded = load(sources).unwrap();
    let group = &loaded.config.groups[0];
    assert_eq!(
        (group.interval(), group.common.timeout),
        (Duration::from_secs(60), Duration::from_millis(500))
    );
    assert_eq!((group.common.value_dev_down, group.common.count), (-1.0, 3));
    assert!(group.common.unknown_is_down);
    assert_eq!(group.common.probe_interval, Duration::from_millis(100));
    assert_eq!(
        (group.common.rate, group.common.burst),
        (Some(50.5), Some(9))
    );
    assert!(group.common.unknown_is_down);
    assert_eq!(group.settings.max_targets, 10);
    assert_eq!(group.settings.family, FamilyChoice::V6);
    assert_eq!(warnings(&loaded), [""; 0]);
}

#[test]
fn the_environment_reaches_every_conf_setting() {
    let mut sources = sources("loopback/project1");
    let variable =
        |key: &str| format!("PINGEXPORTER_CONF_{}", key.replace('.', "_").to_uppercase());
    sources.env = CONF
        .map(|(key, text)| (variable(key), text))
        .into_iter()
        .collect();
    let names = Environment::variables(&SINKS);
    for (key, _) in CONF {
        assert!(names.contains(&variable(key)), "{key}");
    }
    let of_conf = names.iter().filter(|name| name.contains("_CONF_")).count();
    assert_eq!(of_conf, CONF.len(), "{names:?}");
    check_conf(&sources);
}

#[test]
fn flags_reach_every_conf_setting() {
    let mut sources = sources("loopback/project1");
    for (key, text) in CONF {
        sources.overrides =
            sources
                .overrides
                .set(format!("--set conf.{key}"), format!("conf.{key}"), text);
    }
    check_conf(&sources);
}

#[test]
fn a_nested_setting_of_a_layer_leaves_its_neighbours_in_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let conf = r#"{"prom_id": "a", "interval": 30, "pacer": {"rate": 100, "burst": 7}}"#;
    let group = format!(r#"{{"conf": {conf}, "jobs": [{{"job": "a", "ip": "127.0.0.1"}}]}}"#);
    std::fs::write(directory.path().join("a.json"), group).unwrap();
    let mut sources = common::sources_of(directory.path());
    sources.env = [("PINGEXPORTER_CONF_PACER_RATE", "50")]
        .into_iter()
        .collect();
    let common = &load(&sources).unwrap().config.groups[0].common;
    assert_eq!((common.rate, common.burst), (Some(50.0), Some(7)));
}

#[test]
fn a_wrong_value_in_the_place_of_an_object_is_told_whatever_other_layers_say() {
    let mut sources = sources("bad/group/pacer-wrong-type");
    sources.env = [("PINGEXPORTER_CONF_PACER_RATE", "50")]
        .into_iter()
        .collect();
    let told = load(&sources).unwrap_err().to_string();
    assert!(
        told.contains("plant.json:5:14: pacer: found a number, expected an object"),
        "{told}"
    );
}

#[test]
fn the_environment_alone_can_turn_pushing_on() {
    let mut sources = sources("loopback/project1");
    assert_eq!(load(&sources).unwrap().config.sinks, []);
    sources.env = [
        ("PINGEXPORTER_IP_PUSHGATEWAY", "::1"),
        ("PINGEXPORTER_USERNAME_PUSHGATEWAY", "agent"),
        ("PINGEXPORTER_PASS_PUSHGATEWAY", "12345"),
        ("PINGEXPORTER_GROUPING", "config"),
        ("PINGEXPORTER_MAX_PARALLEL_PUSHES", "2"),
        ("PINGEXPORTER_TIMEOUT_PUSHGATEWAY", "3"),
    ]
    .into_iter()
    .collect();
    let loaded = load(&sources).unwrap();
    let [sink] = loaded.config.sinks.as_slice() else {
        panic!("{:?}", loaded.config.sinks)
    };
    assert_eq!(
        (&*sink.kind, &*sink.settings.name),
        ("pushgateway", "pushgateway")
    );
    let push = push_settings(sink);
    assert_eq!(push.url, "http://[::1]:9091");
    assert_eq!(push.password.unwrap().expose(), "12345");
    assert_eq!(
        (push.grouping, push.max_parallel_pushes),
        (Grouping::Config, 2)
    );
    assert_eq!(push.timeout, Duration::from_secs(3));
    assert_eq!(
        warnings(&loaded),
        ["PINGEXPORTER_IP_PUSHGATEWAY: warning: user and password travel over plain http"]
    );
}

#[test]
fn a_password_file_of_the_environment_covers_the_password_of_the_file() {
    let mut sources = sources("loopback/project1");
    sources.push_config = Some(fixture("loopback/push_config.json"));
    let file = "fixtures/configs/good/password.txt";
    sources.env = [("PINGEXPORTER_PASS_PUSHGATEWAY_FILE", file)]
        .into_iter()
        .collect();
    let loaded = load(&sources).unwrap();
    let push = push_settings(&loaded.config.sinks[0]);
    assert_eq!(push.password.unwrap().expose(), "s3cret");
    assert_eq!(push.password_file, None);
    assert!(
        loaded.watched.files.contains(&file.into()),
        "{:?}",
        loaded.watched
    );
}

#[test]
fn a_password_of_a_flag_covers_the_file_of_the_environment() {
    let mut sources = sources("loopback/project1");
    sources.push_config = Some(fixture("loopback/push_config.json"));
    sources.env = [("PINGEXPORTER_PASS_PUSHGATEWAY_FILE", "no-such-file")]
        .into_iter()
        .collect();
    sources.overrides = Overrides::new().set("--set", "push.pass_pushgateway", "of the flag");
    assert!(!format!("{:?}", sources.overrides).contains("of the flag"));
    let loaded = load(&sources).unwrap();
    let push = push_settings(&loaded.config.sinks[0]);
    assert_eq!(push.password.unwrap().expose(), "of the flag");
}

#[test]
fn an_empty_variable_is_not_set() {
    let mut sources = sources("loopback/project1");
    let empty = [
        ("PINGEXPORTER_CONF_INTERVAL", ""),
        ("PINGEXPORTER_OF_OLD", ""),
    ];
    sources.env = empty.into_iter().collect();
    let loaded = load(&sources).unwrap();
    assert_eq!(loaded.config.groups[0].interval(), Duration::from_secs(55));
    assert_eq!(warnings(&loaded), [""; 0]);
}

#[test]
fn variables_of_the_program_itself_draw_no_warning() {
    let mut sources = sources("loopback/project1");
    let variables = [("PINGEXPORTER_LISTEN", "x"), ("PINGEXPORTER_SPECIAL", "y")];
    let env: Environment = variables.into_iter().collect();
    sources.env = env.clone().with_others(["PINGEXPORTER_SPECIAL"]);
    assert_eq!(
        warnings(&load(&sources).unwrap()),
        ["PINGEXPORTER_LISTEN: warning: unknown environment variable, ignored"]
    );
    sources.env = env.with_others(["PINGEXPORTER_SPECIAL", "PINGEXPORTER_LISTEN"]);
    assert_eq!(warnings(&load(&sources).unwrap()), [""; 0]);
}

#[test]
fn an_empty_user_or_password_counts_as_none() {
    for push in [
        r#"{"ip_pushgateway": "a", "username_pushgateway": "", "pass_pushgateway": ""}"#,
        r#"{"ip_pushgateway": "a", "pass_pushgateway_file": ""}"#,
    ] {
        let loaded = load_push(push).unwrap();
        let push = push_settings(&loaded.config.sinks[0]);
        assert_eq!((push.username, push.password), (None, None));
    }
}

/// The URL that a push configuration comes to.
fn url(push: &str) -> String {
    push_settings(&load_push(push).unwrap().config.sinks[0]).url
}

#[test]
fn the_pushgateway_may_be_written_in_many_ways() {
    for (ip, port, expected) in [
        ("127.0.0.1", "\"9092\"", "http://127.0.0.1:9092"),
        ("127.0.0.1", "9092", "http://127.0.0.1:9092"),
        ("push.example", "9091", "http://push.example:9091"),
        ("push.example:9092", "null", "http://push.example:9092"),
        ("::1", "9091", "http://[::1]:9091"),
        ("[::1]", "9091", "http://[::1]:9091"),
        ("[::1]:9092", "null", "http://[::1]:9092"),
        ("http://push.example", "null", "http://push.example"),
        (
            "https://push.example/a/b/",
            "null",
            "https://push.example/a/b",
        ),
        (
            "https://push.example/a",
            "8443",
            "https://push.example:8443/a",
        ),
        ("http://[::1]:9091/", "9091", "http://[::1]:9091"),
        ("127.0.0.1", "80", "http://127.0.0.1"),
        ("127.0.0.1", "null", "http://127.0.0.1:9091"),
    ] {
        let port = match port {
            "null" => String::new(),
            port => format!(", \"port_pushgateway\": {port}"),
        };
        assert_eq!(
            url(&format!("{{\"ip_pushgateway\": \"{ip}\"{port}}}")),
            expected
        );
    }
}
