//! From host names to addresses, for every scraper.
//!
//! A scraper takes any [`Resolve`]. [`SystemResolver`] asks the system each time; the crate `pe-resolve` has one that caches.

use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
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
}

/// A resolver that is shared.
#[async_trait]
impl<R: Resolve + ?Sized> Resolve for Arc<R> {
    async fn resolve(&self, host: &str, family: Option<Family>) -> Result<IpAddr, ResolveError> {
        (**self).resolve(host, family).await
    }
}

/// Why a host name has no address.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
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

#[async_trait]
impl Resolve for SystemResolver {
    async fn resolve(&self, host: &str, family: Option<Family>) -> Result<IpAddr, ResolveError> {
        let found = tokio::net::lookup_host((host, 0))
            .await
            .map_err(|error| ResolveError::new(host, error.to_string()))?;
        let mut others = 0;
        for address in found {
            if family.is_none_or(|family| Family::of(address.ip()) == family) {
                return Ok(address.ip());
            }
            others += 1;
        }
        let message = if others == 0 {
            "the name has no address"
        } else {
            "the name has no address of the wanted family"
        };
        Err(ResolveError::new(host, message))
    }
}
