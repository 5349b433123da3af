//! The engine inside a program of one's own, configured in code. A device is added and one is removed while it runs, and
//! results are read in three ways.
//!
//! `cargo run -p example-embed-engine` (ICMP needs root or `CAP_NET_RAW`)

use std::error::Error;
use std::time::Duration;

use pe_engine::{DeviceEntry, Engine, Group, ScraperRegistry};
use pe_ping::PingScraperFactory;
use prometheus_client::registry::Registry;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut scrapers = ScraperRegistry::new();
    scrapers.register("ping", PingScraperFactory::default())?;
    let group = Group::builder("office", Duration::from_millis(200))
        .device("router", "127.0.0.1")
        .device("rack-{ip}", "127.0.1.0/29")
        .build()?;
    let engine = Engine::builder(scrapers).group(group).build()?;
    let (handle, results) = (engine.handle(), engine.results());
    let mut finished = results.subscribe();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(engine.run(async {
        let _ = stopped.await;
    }));

    // Cycle by cycle.
    let cycle = finished.next().await.ok_or("the engine has ended")?;
    println!("{} devices, {} up", cycle.device_count, cycle.states.up);

    // One value, by group, device and metric.
    let printer = DeviceEntry::new("printer", "127.0.0.77")?.label("floor", "2");
    handle.add("office", printer).await?;
    handle.remove("office", "router").await?;
    while results.value("office", "printer", "ping_up").is_none() {
        finished.next().await.ok_or("the engine has ended")?;
    }
    for device in ["printer", "router"] {
        let up = results.value("office", device, "ping_up");
        println!("{device} up: {up:?}");
    }
    println!("{} devices", handle.config().device_count());

    // As one more source of a registry of the prometheus-client crate.
    let mut metrics = Registry::default();
    metrics.register_collector(Box::new(results));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &metrics)?;
    print!("{text}");

    drop(stop);
    running.await??;
    Ok(())
}
