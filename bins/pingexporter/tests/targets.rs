//! Targets files (file_sd) that come, change, break and vanish while the program runs.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::process::Command;

use common::{Files, PROGRAM, value};
use pe_testkit::{require, wait};
use serde_json::json;

#[test]
fn a_sweep_becomes_the_devices_of_a_group() {
    require!(Root);
    let group = json!({
        "conf": {"prom_id": "p", "interval": "500ms", "timeout": "200ms"},
        "jobs": [],
    });
    let files = Files::new().group("g.json", &group);
    let file = files.path().join("swept.json");
    let path = file.to_str().unwrap();
    let output = Command::new(PROGRAM)
        .args(["ping", "127.0.9.0/29", "--write-targets", path])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    // What it says to put into a file is what a file takes.
    let told = String::from_utf8(output.stderr).unwrap();
    let entry = &told[told.find('{').unwrap()..=told.rfind('}').unwrap()];
    let mut group = group;
    group["jobs"] = json!([serde_json::from_str::<serde_json::Value>(entry).unwrap()]);
    files.write_group("g.json", &group);
    let once = files.once();
    assert!(once.status.success(), "{once:?}");
    let metrics = String::from_utf8(once.stdout).unwrap();
    assert_eq!(metrics.matches("\nping_up{").count(), 6, "{metrics}");
}

#[test]
fn targets_files_are_followed_and_broken_ones_change_nothing() {
    require!(Root);
    let group = json!({
        "conf": {"prom_id": "p", "interval": "500ms", "timeout": "200ms"},
        "jobs": [
            {"job": "{ip}", "targets_files": ["../targets/*.json"], "metrics": ["ping"]},
            {"job": "fixed", "ip": "127.0.0.1", "metrics": ["ping"]},
        ],
    });
    let files = Files::new().group("g.json", &group);
    let targets = files.path().join("targets");
    fs::create_dir(&targets).unwrap();
    let list = |addresses: &[&str]| {
        json!([{"targets": addresses, "labels": {"site": "north"}}]).to_string()
    };
    let file = targets.join("a.json");
    fs::write(&file, list(&["127.0.0.2", "127.0.0.3"])).unwrap();

    let (agent, address) = files.serve(&[]);
    let metrics =
        || pe_testkit::http::get(address, "/metrics").map_or_else(|_| String::new(), |r| r.text());
    let up = |ip: &str| {
        value(
            &metrics(),
            &format!("ping_up{{exporter=\"p\",device=\"{ip}\",ip=\"{ip}\",site=\"north\"}}"),
        )
    };
    let requests = || {
        value(
            &metrics(),
            "ping_requests_total{exporter=\"p\",device=\"127.0.0.2\"",
        )
        .unwrap_or(0.0)
    };
    wait::until_true("both targets", || {
        up("127.0.0.2") == Some(1.0) && up("127.0.0.3") == Some(1.0)
    });

    // One more file, and a file that is replaced by renaming.
    fs::write(targets.join("b.json"), list(&["127.0.0.4"])).unwrap();
    wait::until_true("the new file's target", || up("127.0.0.4") == Some(1.0));
    fs::write(targets.join("new"), list(&["127.0.0.2", "127.0.0.5"])).unwrap();
    fs::rename(targets.join("new"), &file).unwrap();
    wait::until_true("the replaced file's targets", || {
        up("127.0.0.5") == Some(1.0) && up("127.0.0.3").is_none()
    });

    // Half written, gone, a directory: the targets stay and go on counting.
    let breakages: [(&str, &dyn Fn()); 3] = [
        ("half written", &|| {
            fs::write(&file, "[{\"targets\": [\"127.0.0.2\"").unwrap();
        }),
        ("gone", &|| fs::remove_file(&file).unwrap()),
        ("a directory", &|| fs::create_dir(&file).unwrap()),
    ];
    for (what, breaks) in breakages {
        let (told, before) = (agent.log().matches("a.json").count(), requests());
        breaks();
        wait::until_true(&format!("a word about a file that is {what}"), || {
            agent.log().matches("a.json").count() > told
        });
        wait::until_true("two cycles more", || requests() >= before + 2.0);
        assert_eq!(
            (up("127.0.0.2"), up("127.0.0.5"), up("127.0.0.4")),
            (Some(1.0), Some(1.0), Some(1.0)),
            "{what}"
        );
        assert_eq!(
            value(
                &metrics(),
                "pingexporter_cycle_overruns_total{exporter=\"p\"}"
            ),
            Some(0.0)
        );
    }

    // In order again.
    fs::remove_dir(&file).unwrap();
    fs::write(&file, "[]").unwrap();
    wait::until_true("the targets to go", || {
        up("127.0.0.2").is_none() && up("127.0.0.5").is_none()
    });
    assert_eq!(up("127.0.0.4"), Some(1.0));
    assert!(agent.stop().success());
}
