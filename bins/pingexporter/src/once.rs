//! `pingexporter once`

use pe_engine::Engine;
use pe_scrape::exposition::Format;

use crate::cli::FileArgs;
use crate::load::{self, Failure};

pub(crate) async fn once(args: &FileArgs) -> Result<(), Failure> {
    let (registry, resolver) = load::registry(&args.dns_servers)?;
    let loaded = load::load(args, &registry, None)?;
    load::warn_about(&loaded);
    let pushes = loaded.config.push.is_some();
    let engine = Engine::builder(loaded.config, registry)
        .metrics(move || resolver.metrics())
        .build()?;
    let handle = engine.handle();
    engine.once().await?;
    if pushes {
        return Ok(());
    }
    load::print(&handle.exposition(Format::Text))
}
