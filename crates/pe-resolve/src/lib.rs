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
//! change.
//!
//! # Permissions
//!
//! None beyond reading these files: it sends to name servers over UDP and TCP.
//!
//! # Runtime
//!
//! tokio, with time and I/O. Lookups run as tasks; one more task, which starts with the first name and ends with the last
//! clone of the resolver, keeps names fresh. The C library is asked on threads for blocking calls.
//!
//! # Defaults and limits
//!
//! | what | value |
//! | --- | --- |
//! | an address is used without asking again | for its TTL, at least 30 seconds and at most an hour, unless set |
//! | a lookup that failed, or found nothing, is tried again | after 5 seconds unless set |
//! | time for an answer of a name server | 2 seconds for those that are given, else as `resolv.conf` says, 1 to 30 seconds |
//! | lookups under way at one time | 64, of which 16 in the C library |
//! | names that nobody asks for | kept fresh for 10 minutes, forgotten after a day |
//! | a system's file | the first 16 MiB |

mod caching;
mod dns;
mod entry;
mod route;
mod system;

pub use caching::{CachingResolver, ResolverSettings};
pub use dns::{NameServer, NameServerError};
pub use pe_scrape::resolve::{Resolve, ResolveError};
pub use system::SystemFiles;
