//! A caching DNS resolver for scrapers: [`CachingResolver`] keeps the addresses of host names fresh in the background, so
//! that a cycle never waits for a slow name server while an address is known.
//!
//! It implements the trait [`Resolve`] of `pe-scrape`, and is given to the factories of scrapers that measure host names.
//!
//! ```no_run
//! use pe_resolve::{CachingResolver, Resolve, ResolverSettings};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let resolver = CachingResolver::new(ResolverSettings::default());
//! let address = resolver.resolve("router.example", None).await?;
//! println!("{address}");
//! # Ok(())
//! # }
//! ```
//!
//! Without servers of its own it asks as the system does: hosts file, `/etc/resolv.conf` with its options, and, in a program
//! linked with the GNU C library, that library where `/etc/nsswitch.conf` names more. These files are read again when they
//! change. It must be used within a tokio runtime: lookups run as tasks, at most 64 at a time.

mod caching;
mod dns;
mod entry;
mod route;
mod system;

pub use caching::{CachingResolver, ResolverSettings};
pub use dns::{NameServer, NameServerError};
pub use pe_scrape::resolve::{Resolve, ResolveError};
pub use system::SystemFiles;
