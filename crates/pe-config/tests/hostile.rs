//! No bytes make the loader panic, and whatever it accepts keeps its promises.
#![allow(clippy::unwrap_used)]

mod common;

use common::{common, fixture, sources_of};
use pe_config::{Loaded, load};
use proptest::prelude::*;

/// Loads one group file, one targets file and one push configuration with the given bytes.
fn load_bytes(group: &[u8], targets: &[u8], push: &[u8]) -> Option<Loaded> {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    std::fs::create_dir(path("configs")).unwrap();
    std::fs::create_dir(path("configs/targets")).unwrap();
    std::fs::write(path("configs/plant.json"), group).unwrap();
    std::fs::write(path("configs/targets/a.json"), targets).unwrap();
    std::fs::write(path("push.json"), push).unwrap();
    let mut sources = sources_of(path("configs"));
    sources.push_config = Some(path("push.json"));
    match load(&sources) {
        Ok(loaded) => Some(loaded),
        Err(problems) => {
            for problem in &problems.diagnostics {
                assert!(problem.line > 0 && problem.col > 0, "{problem}");
                let hint = problem.hint.as_deref().unwrap_or_default();
                let shown = format!("{}{hint}", problem.message);
                assert!(!shown.contains(char::is_control), "{shown:?}");
            }
            None
        }
    }
}

fn read(name: &str) -> Vec<u8> {
    std::fs::read(fixture("good/everything").join(name)).unwrap()
}

/// What a file is changed with.
#[derive(Debug, Clone)]
enum Change {
    Replace(prop::sample::Index, Vec<u8>),
    Insert(prop::sample::Index, Vec<u8>),
    Cut(prop::sample::Index, usize),
    End(prop::sample::Index),
}

fn change() -> impl Strategy<Value = Change> {
    let token = prop_oneof![
        prop::sample::select(vec![
            "\"",
            "{",
            "}",
            "[",
            "]",
            ",",
            ":",
            "null",
            "true",
            "-1",
            "0",
            "1e999",
            "1e308",
            "9999999999999999999999",
            "\"\"",
            "\"::1\"",
            "\"0.0.0.0/0\"",
            "\"::/0\"",
            "\"a-b\"",
            "\\u0000",
            "\\ud800",
            "\u{feff}",
            "é",
            "//",
            "\"{ip}\"",
            "\"interval\"",
            "\"ip\"",
            "[[[[[[[[",
            "{\"a\":",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 1..4),
    ];
    prop_oneof![
        (any::<prop::sample::Index>(), token.clone())
            .prop_map(|(at, text)| Change::Replace(at, text)),
        (any::<prop::sample::Index>(), token).prop_map(|(at, text)| Change::Insert(at, text)),
        (any::<prop::sample::Index>(), 1usize..30).prop_map(|(at, length)| Change::Cut(at, length)),
        any::<prop::sample::Index>().prop_map(Change::End),
    ]
}

fn changed(mut bytes: Vec<u8>, changes: &[Change]) -> Vec<u8> {
    for change in changes {
        if bytes.is_empty() {
            break;
        }
        match change {
            Change::Replace(at, text) => {
                let at = at.index(bytes.len());
                let end = (at + text.len()).min(bytes.len());
                bytes.splice(at..end, text.iter().copied());
            }
            Change::Insert(at, text) => {
                let at = at.index(bytes.len());
                bytes.splice(at..at, text.iter().copied());
            }
            Change::Cut(at, length) => {
                let at = at.index(bytes.len());
                let end = (at + length).min(bytes.len());
                bytes.drain(at..end);
            }
            Change::End(at) => bytes.truncate(at.index(bytes.len())),
        }
    }
    bytes
}

fn check(loaded: &Loaded) {
    for group in &loaded.config.groups {
        assert!(!group.name().is_empty() && group.common.timeout < group.interval());
        assert!(group.common.value_dev_down.is_finite() && group.common.count > 0);
        for device in &group.devices {
            let target = &device.target;
            assert!(!target.device().is_empty() && !target.ip().is_empty());
            assert!(common(device).timeout < group.interval());
        }
    }
}

proptest! {

    #[test]
    fn changed_files(
        group in prop::collection::vec(change(), 0..4),
        targets in prop::collection::vec(change(), 0..3),
        push in prop::collection::vec(change(), 0..3),
    ) {
        let group = changed(read("plant.json"), &group);
        let targets = changed(read("targets/a.json"), &targets);
        let push = changed(read("push_config.json"), &push);
        if let Some(loaded) = load_bytes(&group, &targets, &push) {
            check(&loaded);
        }
    }

    #[test]
    fn arbitrary_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(load_bytes(&bytes, &bytes, &bytes).is_none());
    }
}

#[test]
fn deep_nesting_is_refused() {
    let deep = "[".repeat(100_000);
    assert!(load_bytes(deep.as_bytes(), b"[]", b"{}").is_none());
    let deep = "{\"a\":".repeat(100_000);
    assert!(load_bytes(deep.as_bytes(), b"[]", b"{}").is_none());
}

/// The fuzzer's seeds; see `fuzz` for the search for more.
#[test]
fn targets_files_of_others_are_read_or_refused_wherever_they_are_cut() {
    let seeds = std::fs::read_dir(fixture("../fuzz/targets")).unwrap();
    for seed in seeds {
        let seed = std::fs::read(seed.unwrap().path()).unwrap();
        (0..=seed.len()).for_each(|end| pe_config::try_targets(&seed[..end]));
    }
}
