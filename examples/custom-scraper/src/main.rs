//! Runs one cycle of a configuration directory that may use `ping` and `greeting`, and prints the results.
//!
//! `cargo run -p example-custom-scraper -- examples/custom-scraper/configs`

use std::error::Error;

use pe_config::Sources;
use pe_engine::{Engine, RegistryCatalog, ScraperRegistry};
use pe_ping::PingScraperFactory;
use pe_scrape::exposition::Format;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::args()
        .nth(1)
        .ok_or("usage: example-custom-scraper DIR")?;
    let mut registry = ScraperRegistry::new();
    registry.register("ping", PingScraperFactory::default())?;
    registry.register("greeting", example_custom_scraper::factory)?;

    let loaded = pe_config::load(&Sources::new(directory, &RegistryCatalog(&registry)))?;
    let engine = Engine::builder(loaded.config, registry).build()?;
    let handle = engine.handle();
    engine.once().await?;
    print!(
        "{}",
        String::from_utf8_lossy(&handle.exposition(Format::Text))
    );
    Ok(())
}
