//! Defaults < file < environment < flags.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use common::{Catalog, fixture, sources};
use pe_config::{Environment, Grouping, Overrides, Sources, load};

#[test]
fn each_layer_covers_the_one_below() {
    let mut sources = sources("loopback/project1");
    let interval = |sources: &Sources<'_>| load(sources).unwrap().config.groups[0].interval;
    assert_eq!(interval(&sources), Duration::from_secs(55));
    sources.env = [("PINGEXPORTER_CONF_INTERVAL", "40")].into_iter().collect();
    assert_eq!(interval(&sources), Duration::from_secs(40));
    sources.overrides = Overrides::new().set("--interval", "conf.interval", "2.5s");
    assert_eq!(interval(&sources), Duration::from_millis(2500));
}

#[test]
fn the_environment_reaches_every_conf_setting() {
    let mut sources = sources("loopback/project1");
    sources.env = [
        ("PINGEXPORTER_CONF_INTERVAL", "1m"),
        ("PINGEXPORTER_CONF_TIMEOUT", "0.5"),
        ("PINGEXPORTER_CONF_VALUE_DEV_DOWN", "-1"),
        ("PINGEXPORTER_CONF_COUNT", "3"),
        ("PINGEXPORTER_CONF_PROBE_INTERVAL", "100ms"),
        ("PINGEXPORTER_CONF_MAX_TARGETS", "10"),
        ("PINGEXPORTER_CONF_FAMILY", "6"),
        ("PINGEXPORTER_CONF_PACER_RATE", "50.5"),
        ("PINGEXPORTER_CONF_PACER_BURST", "9"),
    ]
    .into_iter()
    .collect();
    let loaded = load(&sources).unwrap();
    let group = &loaded.config.groups[0];
    assert_eq!(
        (group.interval, group.timeout),
        (Duration::from_secs(60), Duration::from_millis(500))
    );
    assert_eq!((group.value_dev_down, group.count), (-1.0, 3));
    assert_eq!(group.probe_interval, Duration::from_millis(100));
    assert_eq!((group.pacer.rate, group.pacer.burst), (Some(50.5), Some(9)));
    assert_eq!(loaded.warnings, []);
}

#[test]
fn the_environment_alone_can_turn_pushing_on() {
    let mut sources = sources("loopback/project1");
    assert_eq!(load(&sources).unwrap().config.push, None);
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
    let push = loaded.config.push.unwrap();
    assert_eq!(push.url, "http://[::1]:9091");
    assert_eq!(push.password.unwrap().expose(), "12345");
    assert_eq!(
        (push.grouping, push.max_parallel_pushes),
        (Grouping::Config, 2)
    );
    assert_eq!((push.timeout, push.file), (Duration::from_secs(3), None));
    assert_eq!(loaded.warnings, []);
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
    assert_eq!(
        loaded.config.push.unwrap().password.unwrap().expose(),
        "s3cret"
    );
    assert!(
        loaded.watched.files.contains(&file.into()),
        "{:?}",
        loaded.watched
    );
}

#[test]
fn an_empty_variable_is_not_set() {
    let mut sources = sources("loopback/project1");
    sources.env = [("PINGEXPORTER_CONF_INTERVAL", "")].into_iter().collect();
    assert_eq!(
        load(&sources).unwrap().config.groups[0].interval,
        Duration::from_secs(55)
    );
}

#[test]
fn variables_of_the_program_itself_draw_no_warning() {
    let mut sources = sources("loopback/project1");
    let variables = [("PINGEXPORTER_LISTEN", "x"), ("PINGEXPORTER_SPECIAL", "y")];
    sources.env = variables
        .into_iter()
        .collect::<Environment>()
        .with_others(["PINGEXPORTER_SPECIAL"]);
    assert_eq!(load(&sources).unwrap().warnings, []);
}

/// The URL that a push configuration comes to.
fn url(push: &str) -> String {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("push.json");
    std::fs::write(&path, push).unwrap();
    let mut sources = Sources::new(fixture("loopback/project1"), &Catalog);
    sources.env = Environment::empty();
    sources.push_config = Some(path);
    load(&sources).unwrap().config.push.unwrap().url
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
