//! From host names to addresses, for every scraper.
//!
//! A scraper takes any [`Resolve`]. [`SystemResolver`] asks the system each time; the crate `pe-resolve` has one that caches.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
use dns_lookup::LookupErrorKind;
use thiserror::Error;

use crate::Family;

/// Resolves host names. Called for many names at once; it is the caller who bounds the time and the concurrency.
#[async_trait]
pub trait Resolve: Send + Sync + 'static {
    /// The address of `host` to use: of the wanted family (`None` for either), the one that the resolver prefers.
    ///
    /// # Errors
    /// [`ResolveError`] when there is none.
    async fn resolve(&self, host: &str, family: Option<Family>) -> Result<IpAddr, ResolveError>;

    /// All addresses of `host`, the preferred one first: for a client that goes on to the next where it cannot connect.
    /// By default the one of [`resolve`](Self::resolve).
    ///
    /// # Errors
    /// [`ResolveError`] when there is none.
    async fn resolve_all(&self, host: &str) -> Result<Vec<IpAddr>, ResolveError> {
        Ok(vec![self.resolve(host, None).await?])
    }
}

/// A resolver that is shared.
#[async_trait]
impl<R: Resolve + ?Sized> Resolve for Arc<R> {
    async fn resolve(&self, host: &str, family: Option<Family>) -> Result<IpAddr, ResolveError> {
        (**self).resolve(host, family).await
    }

    async fn resolve_all(&self, host: &str) -> Result<Vec<IpAddr>, ResolveError> {
        (**self).resolve_all(host).await
    }
}

/// Why a host name has no address.
#[derive(Clone, PartialEq, Eq, Error)]
#[error("cannot resolve {host}: {message}")]
pub struct ResolveError {
    /// The host name.
    pub host: String,
    /// What the resolver said.
    pub message: String,
    /// Whether it is known that the name has no such address: a name server, or the hosts file, said so. Otherwise nobody
    /// has answered yet, and nothing is known of the name.
    pub is_denied: bool,
}

crate::debug_with_causes!(ResolveError);

impl ResolveError {
    /// Nobody could tell the address of `host`.
    pub fn new(host: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            host: host.into(),
            message: message.into(),
            is_denied: false,
        }
    }

    /// It is known that `host` has no such address.
    pub fn denied(host: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            is_denied: true,
            ..Self::new(host, message)
        }
    }
}

/// The system's resolver (`getaddrinfo(3)`): hosts file, DNS and what else is configured, without a cache of our own.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemResolver;

impl SystemResolver {
    /// All addresses of `host`. The calling thread waits, for as long as the system's configuration says.
    ///
    /// # Errors
    /// [`ResolveError`] when there is none.
    pub fn resolve_blocking(&self, host: &str) -> Result<Vec<IpAddr>, ResolveError> {
        let found = dns_lookup::lookup_host(host).map_err(|error| {
            let kind = error.kind();
            let words = io::Error::from(error).to_string();
            match kind {
                LookupErrorKind::NoName | LookupErrorKind::NoData => {
                    ResolveError::denied(host, words)
                }
                _ => ResolveError::new(host, words),
            }
        })?;
        let mut all: Vec<IpAddr> = Vec::new();
        for address in found {
            if !all.contains(&address) {
                all.push(address);
            }
        }
        match all.is_empty() {
            true => Err(ResolveError::denied(host, "the name has no address")),
            false => Ok(all),
        }
    }
}

#[async_trait]
impl Resolve for SystemResolver {
    async fn resolve(&self, host: &str, family: Option<Family>) -> Result<IpAddr, ResolveError> {
        let all = self.resolve_all(host).await?;
        let mut wanted = all
            .into_iter()
            .filter(|address| family.is_none_or(|family| Family::of(*address) == family));
        let none = || ResolveError::denied(host, "the name has no address of the wanted family");
        wanted.next().ok_or_else(none)
    }

    async fn resolve_all(&self, host: &str) -> Result<Vec<IpAddr>, ResolveError> {
        let name = host.to_owned();
        let found = tokio::task::spawn_blocking(move || Self.resolve_blocking(&name)).await;
        found.unwrap_or_else(|error| Err(ResolveError::new(host, error.to_string())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Knows one address of each family for every host.
    struct Fixed;

    #[async_trait]
    impl Resolve for Fixed {
        async fn resolve(
            &self,
            _host: &str,
            family: Option<Family>,
        ) -> Result<IpAddr, ResolveError> {
            Ok(match family {
                Some(Family::V6) => "::1".parse().unwrap(),
                _ => "127.0.0.1".parse().unwrap(),
            })
        }
    }

    #[tokio::test]
    async fn a_resolver_of_single_addresses_gives_its_preferred_one_as_all() {
        let shared: Arc<dyn Resolve> = Arc::new(Fixed);
        let all = shared.resolve_all("router").await.unwrap();
        assert_eq!(all, [IpAddr::from([127, 0, 0, 1])]);
    }

    #[tokio::test]
    async fn the_system_gives_each_address_once() {
        let all = SystemResolver.resolve_all("127.0.0.7").await.unwrap();
        assert_eq!(all, [IpAddr::from([127, 0, 0, 7])]);
        let other = SystemResolver.resolve("127.0.0.7", Some(Family::V6)).await;
        assert!(other.unwrap_err().message.contains("wanted family"));
    }
}
