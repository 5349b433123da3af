//! A hundred thousand devices take less than 400 bytes each, the labels of their series included.
#![allow(clippy::unwrap_used)]

mod common;

use std::fmt::Write;
use std::path::Path;

use common::sources_of;
use pe_config::{Loaded, load};
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// Bytes that the allocator keeps for itself with each piece of memory, at most, rounding included.
const OVERHEAD: usize = 16;

fn loaded(directory: &Path) -> Loaded {
    load(&sources_of(directory)).unwrap()
}

/// Bytes for each device: what is allocated, and for each string what the allocator adds to it.
fn bytes_for_each(directory: &Path) -> usize {
    let before = ALLOCATOR.current_usage();
    let loaded = loaded(directory);
    let used = ALLOCATOR.current_usage() - before;
    let jobs = &loaded.config.groups[0].devices;
    assert!(jobs.len() >= 100_000, "{}", jobs.len());
    let strings = jobs
        .iter()
        .map(|device| {
            let (name, ip) = (device.target.device(), device.target.ip());
            if std::ptr::eq(name.as_ptr(), ip.as_ptr()) {
                1
            } else {
                2
            }
        })
        .sum::<usize>();
    println!(
        "{} devices, {} bytes each",
        jobs.len(),
        (used + strings * OVERHEAD) / jobs.len()
    );
    (used + strings * OVERHEAD) / jobs.len()
}

/// One test, so that nothing else allocates meanwhile.
#[test]
fn devices_are_small() {
    let directory = tempfile::tempdir().unwrap();
    let group = directory.path().join("plant.json");
    let conf =
        r#""prom_id": "plant", "interval": 30, "max_targets": 200000, "labels": {"site": "north"}"#;

    let job = r#"{"job": "rack-{ip}", "ip": "10.0.0.0/15", "labels": {"tier": "2"}}"#;
    std::fs::write(
        &group,
        format!(r#"{{"conf": {{{conf}}}, "jobs": [{job}]}}"#),
    )
    .unwrap();
    assert!(bytes_for_each(directory.path()) < 400, "subnet");

    let job = r#"{"job": "rack-{ip}", "targets_files": ["sd/*.json"]}"#;
    std::fs::write(
        &group,
        format!(r#"{{"conf": {{{conf}}}, "jobs": [{job}]}}"#),
    )
    .unwrap();
    std::fs::create_dir(directory.path().join("sd")).unwrap();
    let mut targets = String::from("[");
    for group in 0..1000u32 {
        let comma = if group > 0 { "," } else { "" };
        write!(
            targets,
            r#"{comma}{{"labels": {{"rack": "{group}"}}, "targets": ["#
        )
        .unwrap();
        for target in 0..100u32 {
            let comma = if target > 0 { "," } else { "" };
            let ip = std::net::Ipv4Addr::from_bits(0x0a00_0000 + group * 100 + target + 1);
            write!(targets, r#"{comma}"{ip}:9100""#).unwrap();
        }
        targets.push_str("]}");
    }
    targets.push(']');
    std::fs::write(directory.path().join("sd/a.json"), targets).unwrap();
    assert!(bytes_for_each(directory.path()) < 400, "targets file");

    let mut targets = String::from("[");
    for device in 0..100_000u32 {
        let comma = if device > 0 { "," } else { "" };
        let ip = std::net::Ipv4Addr::from_bits(0x0a00_0001 + device);
        let (rack, row) = (device % 1000, device % 10);
        let labels =
            format!(r#"{{"device": "switch-{device}", "rack": "{rack}", "row": "{row}"}}"#);
        write!(
            targets,
            r#"{comma}{{"labels": {labels}, "targets": ["{ip}"]}}"#
        )
        .unwrap();
    }
    targets.push(']');
    std::fs::write(directory.path().join("sd/a.json"), targets).unwrap();
    // The text of the file is kept for reloads, 85 bytes a device.
    assert!(
        bytes_for_each(directory.path()) < 400 + 85,
        "targets file with an entry for each device"
    );

    let mut jobs = String::new();
    for device in 0..100_000u32 {
        let comma = if device > 0 { "," } else { "" };
        let ip = std::net::Ipv4Addr::from_bits(0x0a00_0001 + device);
        write!(
            jobs,
            r#"{comma}{{"job": "device-{device}", "ip": "{ip}", "metrics": ["ping"]}}"#
        )
        .unwrap();
    }
    std::fs::write(
        &group,
        format!(r#"{{"conf": {{{conf}}}, "jobs": [{jobs}]}}"#),
    )
    .unwrap();
    assert!(bytes_for_each(directory.path()) < 400, "one entry each");
}
