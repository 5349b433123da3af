//! The engine inside a program of one's own: it runs for a few seconds, then its results are read in two ways.
//!
//! `cargo run -p example-embed-engine -- examples/configs`

use std::error::Error;
use std::time::Duration;

use pe_config::Sources;
use pe_engine::{Engine, RegistryCatalog, ScraperRegistry};
use pe_ping::PingScraperFactory;
use prometheus_client::registry::Registry;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::args()
        .nth(1)
        .ok_or("usage: example-embed-engine DIR")?;
    let mut registry = ScraperRegistry::new();
    registry.register("ping", PingScraperFactory::default())?;
    let loaded = pe_config::load(&Sources::new(directory, &RegistryCatalog(&registry)))?;
    let engine = Engine::builder(loaded.config, registry).build()?;

    // Results can be read at any time, here or in another task; this program stops after the first cycle.
    let results = engine.results();
    let mut finished = results.subscribe();
    engine
        .run(async move {
            let _ = tokio::time::timeout(Duration::from_secs(10), finished.changed()).await;
        })
        .await;

    for report in results.latest() {
        println!(
            "{}: {} devices in {:?}",
            report.config, report.jobs, report.duration
        );
        for frame in &report.devices {
            for (row, labels) in frame.rows().iter().enumerate() {
                let rtt = frame.value(row, "dev_ping").unwrap_or(f64::NAN);
                println!(
                    "  {}: {rtt:.3} ms",
                    labels.get("device").unwrap_or_default()
                );
            }
        }
    }

    // A program that exposes metrics with the prometheus-client crate adds the results to its registry.
    let mut metrics = Registry::default();
    metrics.register_collector(Box::new(results));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &metrics)?;
    println!("{text}");
    Ok(())
}
