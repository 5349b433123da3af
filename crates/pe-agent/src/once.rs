//! Runs one cycle of each group, and prints the results or waits until they are pushed.

use pe_engine::Engine;
use pe_resolve::CachingResolver;
use pe_scrape::exposition::Format;

use crate::failure::Failure;
use crate::load::{Loader, warn_about};
use crate::output;

pub(crate) async fn once(loader: &Loader, resolver: CachingResolver) -> Result<(), Failure> {
    let loaded = loader.load(None)?;
    warn_about(&loaded.warnings);
    let pushes = !loaded.config.sinks.is_empty();
    let engine = Engine::builder(loader.scrapers.clone())
        .config(loaded.config)
        .sinks(loader.sinks.clone())
        .metrics(move || resolver.metrics())
        .build()?;
    let handle = engine.handle();
    // An error where a push was refused.
    engine.once().await?;
    match pushes {
        true => Ok(()),
        false => output::print(&handle.exposition(Format::Text)),
    }
}
