//! A caching DNS resolver for scrapers: [`CachingResolver`] keeps the addresses of host names fresh in the background, so
//! that a cycle never waits for a slow name server while an address is known.
//!
//! It implements the trait [`Resolve`] of `pe-scrape`, and is given to the factories of scrapers that measure host names.
//!
//! ```no_run
//! use pe_resolve::{CachingResolver, Resolve, ResolverSettings};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let resolver = CachingResolver::new(ResolverSettings::default())?;
//! let address = resolver.resolve("router.example", None).await?;
//! println!("{address}");
//! # Ok(())
//! # }
//! ```
//!
//! Without servers of its own it reads `/etc/resolv.conf` and `/etc/hosts` once, when it is made. It must be used within a
//! tokio runtime: lookups run as tasks, at most 64 at a time.

mod caching;
mod entry;

pub use caching::{CachingResolver, ResolverError, ResolverSettings};
pub use pe_scrape::resolve::{Resolve, ResolveError};
