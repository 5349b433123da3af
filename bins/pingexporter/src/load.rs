//! From files to a configuration, with the scrapers that this program knows.

use std::io::{ErrorKind, Write, stdout};

use pe_config::{Environment, Loaded, Sources, TargetFiles};
use pe_engine::{RegistryCatalog, ScraperRegistry};
use pe_ping::PingScraperFactory;
use pe_scrape::resolve::{CachingResolver, ResolverOptions};
use tracing::warn;

use crate::cli::{FileArgs, NameServer};

/// Why the program ends with exit code 1.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The files are not in order.
    #[error("{0}")]
    Config(#[from] pe_config::Diagnostics),
    #[error("pingexporter: {0}")]
    Engine(#[from] pe_engine::EngineError),
    #[error("pingexporter: {0}")]
    Push(#[from] pe_engine::FlushErrors),
    #[error("pingexporter: {0}")]
    Web(#[from] pe_web::WebError),
    #[error("pingexporter: {0}")]
    Registry(#[from] pe_scrape::RegistryError),
    #[error("pingexporter: {0}; name servers can be given with --dns-servers")]
    Resolver(#[from] pe_scrape::resolve::ResolverError),
    #[error("pingexporter: {0}")]
    Ping(#[from] pe_ping::OpenError),
    #[error("pingexporter: {0}")]
    Target(String),
    /// `ping` has said so already, target by target.
    #[error("no target answered")]
    NoAnswer,
    #[error("pingexporter: {action}: {source}")]
    Io {
        action: &'static str,
        source: std::io::Error,
    },
}

/// Prints to standard output. A reader that has seen enough (`… | head`) is no failure.
pub(crate) fn print(text: &[u8]) -> Result<(), Failure> {
    match stdout().lock().write_all(text) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        Err(source) => Err(Failure::Io {
            action: "cannot print",
            source,
        }),
        Ok(()) => Ok(()),
    }
}

/// The scrapers that configuration files may name, and the resolver that they share.
pub(crate) fn registry(
    name_servers: &[NameServer],
) -> Result<(ScraperRegistry, CachingResolver), Failure> {
    let mut options = ResolverOptions::default();
    options.servers = name_servers.iter().map(|server| server.0).collect();
    let resolver = CachingResolver::new(options)?;
    let mut registry = ScraperRegistry::new();
    registry.register("ping", PingScraperFactory::new(resolver.clone()))?;
    Ok((registry, resolver))
}

/// Reads all files. At a reload `previous` keeps targets files that are out of order as they were.
pub(crate) fn load(
    args: &FileArgs,
    registry: &ScraperRegistry,
    previous: Option<TargetFiles>,
) -> Result<Loaded, Failure> {
    let catalog = RegistryCatalog(registry);
    let mut sources = Sources::new(&args.configs, &catalog);
    sources.push_config.clone_from(&args.push_config);
    sources.previous = previous;
    sources.env = Environment::process().with_others(["PINGEXPORTER_DNS_SERVERS"]);
    Ok(pe_config::load(&sources)?)
}

/// Logs what is unwise in a configuration.
pub(crate) fn warn_about(loaded: &Loaded) {
    for warning in &loaded.warnings {
        warn!("{warning}");
    }
}
