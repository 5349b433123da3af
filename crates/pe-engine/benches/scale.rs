//! How long things take with many groups: `cargo bench -p pe-engine --bench scale`. Exits with 1 when the goal is missed.
//!
//! The scrapers measure nothing: what is told is the engine's own share.
#![allow(clippy::unwrap_used)]

#[path = "../tests/common/mod.rs"]
mod common;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use common::{SECOND, builder};
use pe_engine::{Config, Group};
use pe_scrape::exposition::Format;
use serde_json::json;

fn groups(count: usize, devices: usize) -> Vec<Group> {
    let group = |n| {
        let name = format!("group-{n:04}");
        let builder = Group::builder(name, SECOND * 60).scraper("actor", json!({}));
        let builder = (0..devices).fold(builder, |b, d| b.device(format!("d{d}"), "127.0.0.1"));
        builder.build().unwrap()
    };
    (0..count).map(group).collect()
}

/// Longest time for the text of 2,000 groups.
const GOAL: Duration = Duration::from_millis(300);

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    // Cargo says `--bench` for `cargo bench`. `cargo test --benches` only proves that it builds.
    if !std::env::args().any(|argument| argument == "--bench") {
        return ExitCode::SUCCESS;
    }
    let text = two_thousand_groups_of_five_devices().await;
    one_group_of_a_hundred_thousand_devices().await;
    let reached = text <= GOAL;
    let word = if reached { "PASS" } else { "MISS" };
    println!("{word}: text of 2,000 groups in {text:.1?}, goal at most {GOAL:?}");
    ExitCode::from(u8::from(!reached))
}

/// Returns how long the text of 2,000 groups took.
async fn two_thousand_groups_of_five_devices() -> Duration {
    let mut longest = Duration::ZERO;
    for count in [500, 1000, 2000] {
        let start = Instant::now();
        let engine = builder(groups(count, 5)).build().unwrap();
        println!("{count} groups: built in {:.1?}", start.elapsed());
        let handle = engine.handle();
        let start = Instant::now();
        engine.once().await.unwrap();
        println!("{count} groups: one cycle in {:.1?}", start.elapsed());
        for format in [Format::Text, Format::OpenMetrics, Format::Protobuf] {
            let times: Vec<_> = (0..5)
                .map(|_| {
                    let start = Instant::now();
                    let text = handle.exposition(format);
                    (start.elapsed(), text.len())
                })
                .collect();
            let (best, bytes) = times.iter().min().unwrap();
            if format == Format::Text {
                longest = longest.max(*best);
            }
            println!("{count} groups: {format:?} in {best:.1?}, {bytes} bytes");
        }
    }
    longest
}

async fn one_group_of_a_hundred_thousand_devices() {
    let group = Group::builder("g", SECOND * 60)
        .max_targets(200_000)
        .scraper("actor", json!({}))
        .device("{ip}", "10.0.0.0/15");
    let group = group.build().unwrap();
    let devices = group.devices.len();
    let start = Instant::now();
    let engine = builder([group.clone()]).build().unwrap();
    println!("{devices} devices: built in {:.1?}", start.elapsed());
    let handle = engine.handle();
    let mut finished = engine.results().subscribe();
    let running = tokio::spawn(engine.run(tokio::time::sleep(SECOND * 8)));
    let report = finished.next().await.unwrap();
    println!("{devices} devices: measured in {:.1?}", report.duration);
    let start = Instant::now();
    handle.remove("g", "10.0.0.7").await.unwrap();
    println!("{devices} devices: one removed in {:.1?}", start.elapsed());
    let start = Instant::now();
    finished.next().await.unwrap();
    println!(
        "{devices} devices: published in {:.1?} more",
        start.elapsed()
    );
    let same = Config::new(handle.config().groups.clone(), Vec::new());
    let start = Instant::now();
    handle.reload(same).await.unwrap();
    println!(
        "{devices} devices: the same again in {:.1?}",
        start.elapsed()
    );
    let start = Instant::now();
    let text = handle.exposition(Format::Text);
    println!(
        "{devices} devices: text in {:.1?}, {} bytes",
        start.elapsed(),
        text.len()
    );
    running.await.unwrap().unwrap();
}
