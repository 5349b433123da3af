//! The list of sinks: names, secrets, paths, and what is in order.
#![allow(clippy::unwrap_used)]

mod common;

use common::{ArchiveSettings, SCRAPERS, SINKS, load_push, push_settings, sources_of, warnings};
use pe_config::{Environment, Loaded, Sources, load};
use pe_scrape::{ScraperRegistry, SinkRegistry};

fn names(loaded: &Loaded) -> Vec<(&str, &str)> {
    let sinks = loaded.config.sinks.iter();
    sinks
        .map(|sink| (&*sink.kind, &*sink.settings.name))
        .collect()
}

#[test]
fn sinks_without_a_name_are_called_by_their_kind() {
    let loaded = load_push(
        r#"{
            "ip_pushgateway": "127.0.0.1",
            "sinks": [
                {"pushgateway": {"url": "http://127.0.0.1:9092"}},
                {"archive": {"url": "a", "name": "pushgateway-2"}},
                {"archive": {"url": "b"}},
                {"pushgateway": {"url": "http://127.0.0.1:9093"}}
            ]
        }"#,
    )
    .unwrap();
    assert_eq!(
        names(&loaded),
        [
            ("pushgateway", "pushgateway"),
            ("pushgateway", "pushgateway-3"),
            ("archive", "pushgateway-2"),
            ("archive", "archive"),
            ("pushgateway", "pushgateway-4"),
        ]
    );
    // The name is the loader's, and no setting of the sink.
    assert_eq!(loaded.config.sinks[2].settings.own.get("name"), None);
}

#[test]
fn a_sink_of_the_list_and_the_keys_of_the_original_say_the_same() {
    let list = load_push(
        r#"{"sinks": [{"pushgateway": {"url": "http://127.0.0.1:9091", "username": "agent",
                                        "password": "12345", "timeout": "3s"}}]}"#,
    );
    let original = load_push(
        r#"{"ip_pushgateway": "127.0.0.1", "username_pushgateway": "agent",
            "pass_pushgateway": "12345", "timeout_pushgateway": "3s"}"#,
    );
    assert_eq!(list.unwrap().config.sinks, original.unwrap().config.sinks);
}

#[test]
fn secrets_come_from_files_and_paths_are_those_of_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    std::fs::create_dir(path("configs")).unwrap();
    let group = r#"{"conf": {"prom_id": "a", "interval": 30}, "jobs": []}"#;
    std::fs::write(path("configs/a.json"), group).unwrap();
    std::fs::write(path("token"), "\u{feff}s3cret \r\n").unwrap();
    let push = r#"{"sinks": [{"archive": {"url": "x", "token_file": "token", "tls": {"ca_file": "ca.pem"}}},
                             {"archive": {"url": "x", "tls": {"ca_file": "/etc/ca.pem"}}}]}"#;
    std::fs::write(path("push.json"), push).unwrap();
    let mut sources = sources_of(path("configs"));
    sources.push_config = Some(path("push.json"));
    let loaded = load(&sources).unwrap();
    let settings =
        |index: usize| -> ArchiveSettings { loaded.config.sinks[index].settings.parse().unwrap() };
    let first = settings(0);
    assert_eq!(first.token.unwrap().expose(), "s3cret ");
    assert_eq!(first.token_file, None);
    assert_eq!(first.tls.unwrap().ca_file, Some(path("ca.pem")));
    assert_eq!(settings(1).tls.unwrap().ca_file, Some("/etc/ca.pem".into()));
    assert!(loaded.watched.files.contains(&path("token")));
    assert!(!format!("{loaded:?}").contains("s3cret"));
}

#[test]
fn every_sink_gets_the_external_labels_with_variables_in_place() {
    let push = r#"{
        "external_labels": {"site": "${SITE}/${SITE}", "host": "${HOSTNAME}", "cost": "5$$", "__replica__": "a", "none": ""},
        "ip_pushgateway": "127.0.0.1",
        "sinks": [{"archive": {"url": "x"}}]
    }"#;
    let load_with = |variables: &[(&str, &str)]| {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("push.json");
        std::fs::write(&path, push).unwrap();
        let mut sources = common::sources("loopback/project1");
        sources.push_config = Some(path);
        sources.env = variables.iter().copied().collect();
        load(&sources).map_err(|error| error.to_string())
    };
    let loaded = load_with(&[("SITE", "north"), ("HOSTNAME", "box")]).unwrap();
    assert_eq!(warnings(&loaded), [""; 0]);
    assert_eq!(names(&loaded).len(), 2);
    for sink in &loaded.config.sinks {
        let labels: Vec<_> = sink.settings.external_labels.iter().collect();
        let labels: Vec<_> = labels
            .iter()
            .map(|(name, value)| (&***name, &***value))
            .collect();
        let expected = [
            ("__replica__", "a"),
            ("cost", "5$"),
            ("host", "box"),
            ("site", "north/north"),
        ];
        assert_eq!(labels, expected);
    }
    // Shells set the variable, service managers do not.
    let system = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    for variables in [&[("SITE", "a")][..], &[("SITE", "a"), ("HOSTNAME", "")]] {
        let loaded = load_with(variables).unwrap();
        let labels = &loaded.config.sinks[0].settings.external_labels;
        assert_eq!(labels.get("host"), Some(system.trim_end()));
    }
    for variables in [&[][..], &[("SITE", "")]] {
        let told = load_with(variables).unwrap_err();
        assert!(
            told.contains(
                ":2:37: external label `site`: the environment variable `SITE` is not set, or empty"
            ),
            "{told}"
        );
    }
}

#[test]
fn an_external_label_that_a_device_carries_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    std::fs::create_dir(path("configs")).unwrap();
    let group = r#"{"conf": {"prom_id": "a", "interval": 30}, "jobs": [
        {"job": "plain", "ip": "127.0.0.1"},
        {"job": "rack", "ip": "127.0.0.2", "labels": {"site": "x"}, "metrics": [{"tcp": {"port": 80}}]}
    ]}"#;
    std::fs::write(path("configs/a.json"), group).unwrap();
    let push = r#"{"external_labels": {"port": "1", "site": "y", "free": "z"}, "sinks": [{"archive": {"url": "x"}}]}"#;
    std::fs::write(path("push.json"), push).unwrap();
    let mut sources = sources_of(path("configs"));
    sources.push_config = Some(path("push.json"));
    let told = load(&sources).unwrap_err().to_string();
    let told = told.replace(&*directory.path().to_string_lossy(), "DIRECTORY");
    insta::assert_snapshot!(told);
}

#[test]
fn an_external_label_that_the_agents_own_series_carry_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    std::fs::create_dir(path("configs")).unwrap();
    let group =
        r#"{"conf": {"prom_id": "a", "interval": 30}, "jobs": [{"job": "d", "ip": "127.0.0.1"}]}"#;
    std::fs::write(path("configs/a.json"), group).unwrap();
    let push = r#"{"external_labels": {"sink": "a", "state": "b", "address": "c", "instance": "d"}, "sinks": [{"archive": {"url": "x"}}]}"#;
    std::fs::write(path("push.json"), push).unwrap();
    let mut sources = sources_of(path("configs"));
    sources.push_config = Some(path("push.json"));
    let told = load(&sources).unwrap_err().to_string();
    for (column, name) in [(22, "sink"), (35, "state"), (49, "address")] {
        let line =
            format!(":1:{column}: external label `{name}`: series of the agent itself carry it\n");
        assert!(told.contains(&line), "{told}");
    }
    assert!(!told.contains("instance"), "{told}");
}

#[test]
fn a_sinks_name_is_short_text() {
    // As JSON spells it.
    let told = |name: &str| {
        let push = format!(r#"{{"sinks": [{{"archive": {{"name": "{name}", "url": "x"}}}}]}}"#);
        load_push(&push).map_or_else(|error| error.to_string(), |_| String::new())
    };
    for good in ["a", "Zentrale/München 2", "..", &"n".repeat(80)] {
        assert_eq!(told(good), "", "{good}");
    }
    for (bad, message) in [
        (
            "n".repeat(81),
            "name: has 81 bytes, and a sink's name may have 80",
        ),
        ("ü".repeat(41), "name: has 82 bytes"),
        (
            r"a\nb".to_owned(),
            r"name: contains the control character '\n'",
        ),
        (
            r"\u0000".to_owned(),
            r"name: contains the control character '\0'",
        ),
        (String::new(), "name: is empty"),
    ] {
        assert!(told(&bad).contains(message), "{}", told(&bad));
    }
}

#[test]
fn the_kinds_of_sinks_are_known_before_the_sinks_are() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("push.json");
    for (text, expected) in [
        (
            r#"{"ip_pushgateway": "x", "sinks": [{"a": {}}, {"b": 7}]}"#,
            &["a", "b"][..],
        ),
        ("\u{feff}{\"sinks\": [{\"a\": {}}]}", &["a"]),
        (r#"{"ip_pushgateway": "x"}"#, &[]),
        (r#"{"sinks": {"a": []}}"#, &[]),
        ("[", &[]),
    ] {
        std::fs::write(&path, text).unwrap();
        assert_eq!(pe_config::sink_kinds(&path), expected, "{text}");
    }
    assert!(pe_config::sink_kinds(directory.path()).is_empty());
}

#[test]
fn variables_reach_the_sink_of_the_original_beside_a_list() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("push.json");
    std::fs::write(&path, r#"{"sinks": [{"archive": {"url": "x"}}]}"#).unwrap();
    let mut sources = common::sources("loopback/project1");
    sources.push_config = Some(path);
    // What only covers settings of a sink that is not there turns none on.
    sources.env = [("PINGEXPORTER_GROUPING", "config")].into_iter().collect();
    assert_eq!(names(&load(&sources).unwrap()), [("archive", "archive")]);
    sources.env = [("PINGEXPORTER_IP_PUSHGATEWAY", "127.0.0.1")]
        .into_iter()
        .collect();
    let loaded = load(&sources).unwrap();
    assert_eq!(
        names(&loaded),
        [("pushgateway", "pushgateway"), ("archive", "archive")]
    );
    assert_eq!(
        push_settings(&loaded.config.sinks[0]).url,
        "http://127.0.0.1:9091"
    );
}

/// Without the sink `pushgateway`, the keys of the original mean nothing.
#[test]
fn a_program_without_a_pushgateway_says_so() {
    let sinks = SinkRegistry::new();
    let mut sources = Sources::new(common::fixture("loopback/project1"), &SCRAPERS, &sinks);
    sources.env = Environment::empty();
    sources.push_config = Some(common::fixture("loopback/push_config.json"));
    insta::assert_snapshot!(load(&sources).unwrap_err());
    assert!(
        Environment::variables(&sinks)
            .iter()
            .all(|name| name.contains("_CONF_"))
    );
    assert!(Environment::variables(&SINKS).contains(&"PINGEXPORTER_GROUPING".to_owned()));
}

#[test]
fn a_program_without_ping_says_so_where_nothing_else_is_measured() {
    let mut scrapers = ScraperRegistry::new();
    scrapers
        .register("echo", |_: &pe_scrape::ScraperSettings| {
            Err(pe_scrape::SettingsError::new("it is never asked"))
        })
        .unwrap();
    let mut sources = Sources::new(common::fixture("loopback/project1"), &scrapers, &SINKS);
    sources.env = Environment::empty();
    // The original's file names `ping` itself.
    let named = load(&sources).unwrap_err().to_string();
    assert!(named.contains("unknown metric `ping`"), "{named}");
    let directory = tempfile::tempdir().unwrap();
    let jobs = r#"{"job": "a", "ip": "127.0.0.1"}, {"job": "b", "ip": "127.0.0.2"}"#;
    let group = format!(r#"{{"conf": {{"prom_id": "a", "interval": 30}}, "jobs": [{jobs}]}}"#);
    std::fs::write(directory.path().join("a.json"), group).unwrap();
    sources.configs_dir = directory.path().into();
    let told = load(&sources).unwrap_err().to_string();
    assert!(
        told.ends_with(
            "a.json:1:53: nothing says what to measure, and this program has no metric `ping`, the default; it has echo\n  \
             hint: set `metrics` in conf or in this job"
        ),
        "{told}"
    );
}

#[test]
fn a_list_of_metrics_in_conf_is_checked_though_no_job_uses_it() {
    let directory = tempfile::tempdir().unwrap();
    let conf = r#"{"prom_id": "a", "interval": 30, "metrics": [{"ping": {"sise": 5}}]}"#;
    let job = r#"{"job": "a", "ip": "127.0.0.1", "metrics": ["ping"]}"#;
    let group = format!(r#"{{"conf": {conf}, "jobs": [{job}]}}"#);
    std::fs::write(directory.path().join("a.json"), group).unwrap();
    let told = load(&sources_of(directory.path())).unwrap_err().to_string();
    assert!(
        told.ends_with(
            "a.json:1:65: metric `ping`: unknown key `sise`\n  hint: did you mean `size`?"
        ),
        "{told}"
    );
}

#[test]
fn devices_that_are_alike_share_their_scrapers() {
    let mut sources = common::sources("good/everything");
    sources.push_config = Some(common::fixture("good/everything/push_config.json"));
    let loaded = load(&sources).unwrap();
    let devices = &loaded.config.groups[0].devices;
    let shares =
        |a: usize, b: usize| std::sync::Arc::ptr_eq(&devices[a].scrapers, &devices[b].scrapers);
    let position = |name: &str| {
        let mut devices = devices.iter();
        devices
            .position(|device| device.target.device() == name)
            .unwrap()
    };
    assert!(shares(position("rack-127.1.0.2"), position("v6")));
    assert!(!shares(position("core"), position("v6")));
}
