//! The caching resolver: a thin driver of entries over hickory.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use hickory_resolver::config::{LookupIpStrategy, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::{Resolver, TokioResolver};
use pe_scrape::resolve::{Resolve, ResolveError};
use pe_scrape::{Family, Frame};
use thiserror::Error;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinHandle;
use tracing::debug;

use crate::entry::{Answer, Bounds, Entry, View};

/// Lookups under way at one time.
const CONCURRENT: usize = 64;

/// How a [`CachingResolver`] works.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ResolverSettings {
    /// Name servers to ask instead of the system's.
    pub servers: Vec<SocketAddr>,
    /// Addresses are asked for again no sooner than this, even where their TTL is shorter. 30 seconds by default.
    pub min_ttl: Duration,
    /// Addresses are asked for again after this, even where their TTL is longer. An hour by default.
    pub max_ttl: Duration,
    /// How soon a lookup that failed, or that found no address, is tried again. 5 seconds by default.
    pub retry: Duration,
    /// How long one name server is waited for. 2 seconds by default; each is asked twice.
    pub timeout: Duration,
}

impl Default for ResolverSettings {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            min_ttl: Duration::from_secs(30),
            max_ttl: Duration::from_secs(3600),
            retry: Duration::from_secs(5),
            timeout: Duration::from_secs(2),
        }
    }
}

/// Why a resolver cannot be set up.
#[derive(Debug, Error)]
#[error("cannot set up name resolution from the system's configuration (/etc/resolv.conf): {0}")]
pub struct ResolverError(#[source] NetError);

/// Resolves names through DNS and the hosts file, and keeps what it learned.
///
/// A name that is in use is asked for again in the background when its TTL is nearly over. Where no name server answers, the
/// last address is used on; where one says that there is no such name or address, that is the result.
///
/// Must be used within a tokio runtime. Cloning is cheap, and clones share what is known.
#[derive(Clone)]
pub struct CachingResolver {
    shared: Arc<Shared>,
    /// Ends with the last clone.
    refresher: Arc<OnceLock<Refresher>>,
}

struct Refresher(JoinHandle<()>);

impl Drop for Refresher {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Shared {
    v4: TokioResolver,
    v6: TokioResolver,
    bounds: Bounds,
    names: Mutex<Names>,
    permits: Semaphore,
    metrics: ResolverMetrics,
}

/// What is known of each name and family.
type Names = HashMap<(Box<str>, Option<Family>), Name>;

struct Name {
    entry: Entry,
    answered: Arc<Notify>,
}

pe_scrape::metrics! {
    /// What all clones of a resolver count together.
    struct ResolverMetrics {
        /// Lookups by result.
        lookups: counters["result"]("pingexporter_dns_lookups_total", "DNS lookups by result"),
        /// Names in the cache.
        entries: gauge("pingexporter_dns_cache_entries", "Host names that are known"),
        /// Uses of an address past its TTL.
        stale: counter(
            "pingexporter_dns_stale_answers_total",
            "Uses of an address past its TTL because no name server answered"
        ),
    }
}

impl CachingResolver {
    /// A resolver with these options. Nothing is asked yet.
    ///
    /// # Errors
    /// [`ResolverError`] when no servers are given and the system's configuration cannot be read.
    pub fn new(options: ResolverSettings) -> Result<Self, ResolverError> {
        let lookup = |strategy| build(&options, strategy).map_err(ResolverError);
        let bounds = Bounds {
            min_ttl: options.min_ttl,
            max_ttl: options.max_ttl.max(options.min_ttl),
            retry: options.retry,
        };
        let metrics = ResolverMetrics::default();
        // All results are shown from the start.
        for result in ["found", "absent", "failed"] {
            metrics.lookups.of(result);
        }
        let shared = Shared {
            v4: lookup(LookupIpStrategy::Ipv4Only)?,
            v6: lookup(LookupIpStrategy::Ipv6Only)?,
            bounds,
            names: Mutex::default(),
            permits: Semaphore::new(CONCURRENT),
            metrics,
        };
        Ok(Self {
            shared: Arc::new(shared),
            refresher: Arc::default(),
        })
    }

    /// Lookups by result, names that are known, and how often an address past its TTL was used:
    /// `pingexporter_dns_…`.
    #[must_use]
    pub fn metrics(&self) -> Vec<Frame> {
        let shared = &self.shared;
        shared.metrics.entries.set(shared.names().len() as f64);
        shared.metrics.frames()
    }
}

#[async_trait]
impl Resolve for CachingResolver {
    async fn resolve(&self, host: &str, family: Option<Family>) -> Result<IpAddr, ResolveError> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return match family.is_none_or(|family| Family::of(address) == family) {
                true => Ok(address),
                false => Err(ResolveError::new(host, "the address is of another family")),
            };
        }
        let shared = &self.shared;
        self.refresher.get_or_init(|| {
            let period = (shared.bounds.min_ttl / 4).min(shared.bounds.retry);
            let period = period.clamp(Duration::from_millis(20), Duration::from_secs(1));
            Refresher(tokio::spawn(refresh(Arc::downgrade(shared), period)))
        });
        loop {
            let now = Instant::now();
            let answered = {
                let mut names = shared.names();
                let name = names.entry((host.into(), family)).or_insert_with(|| Name {
                    entry: Entry::new(now),
                    answered: Arc::default(),
                });
                name.entry.touch(now);
                let look = name.entry.begin_lookup(now);
                let (view, answered) = (name.entry.view(now), name.answered.clone());
                // Registered before the lock is released, so that no answer is missed.
                let mut waiting = Box::pin(answered.notified_owned());
                waiting.as_mut().enable();
                drop(names);
                if look {
                    tokio::spawn(shared.clone().look_up(host.into(), family));
                }
                match view {
                    View::Fresh(address) => return Ok(address),
                    View::Stale(address) => {
                        shared.metrics.stale.add(1);
                        return Ok(address);
                    }
                    View::Absent(message) => return Err(ResolveError::new(host, message)),
                    View::Unknown => waiting,
                }
            };
            answered.await;
        }
    }
}

impl Shared {
    fn names(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn look_up(self: Arc<Self>, host: Box<str>, family: Option<Family>) {
        let _permit = self.permits.acquire().await;
        let answer = match family {
            Some(Family::V4) => ask(&self.v4, &host).await,
            Some(Family::V6) => ask(&self.v6, &host).await,
            None => match ask(&self.v4, &host).await {
                found @ Answer::Found(..) => found,
                other => Answer::of_either(other, ask(&self.v6, &host).await),
            },
        };
        let result = match &answer {
            Answer::Found(..) => "found",
            Answer::Absent(_) => "absent",
            Answer::Failed(_) => "failed",
        };
        self.metrics.lookups.of(result).add(1);
        debug!(%host, ?family, ?answer, "looked up");
        let mut names = self.names();
        if let Some(name) = names.get_mut(&(host, family)) {
            name.entry.take(answer, Instant::now(), &self.bounds);
            name.answered.notify_waiters();
        }
    }
}

/// Keeps names that are in use fresh, for as long as the resolver lives.
async fn refresh(shared: Weak<Shared>, period: Duration) {
    loop {
        tokio::time::sleep(period).await;
        let Some(shared) = shared.upgrade() else {
            return;
        };
        let now = Instant::now();
        let mut due = Vec::new();
        let mut names = shared.names();
        names.retain(|key, name| {
            if name.entry.begin_lookup(now) {
                due.push(key.clone());
            }
            !name.entry.is_forgotten(now)
        });
        drop(names);
        for (host, family) in due {
            tokio::spawn(shared.clone().look_up(host, family));
        }
    }
}

/// Asks for the addresses of one family.
async fn ask(resolver: &TokioResolver, host: &str) -> Answer {
    match resolver.lookup_ip(host).await {
        Ok(found) => {
            let ttl = found
                .valid_until()
                .saturating_duration_since(Instant::now());
            match found.iter().next() {
                Some(address) => Answer::Found(address, ttl),
                None => Answer::Absent("the name has no address".into()),
            }
        }
        Err(error) => classify(&error),
    }
}

/// Whether a name server denied the name, or none could be asked. A malformed answer is no denial.
fn classify(error: &NetError) -> Answer {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(_)) if error.is_nx_domain() => {
            Answer::Absent("there is no such name".into())
        }
        NetError::Dns(DnsError::NoRecordsFound(_)) => {
            Answer::Absent("the name has no address".into())
        }
        error => Answer::Failed(error.to_string()),
    }
}

fn build(
    options: &ResolverSettings,
    strategy: LookupIpStrategy,
) -> Result<TokioResolver, NetError> {
    let mut builder = if options.servers.is_empty() {
        TokioResolver::builder_tokio()?
    } else {
        let servers = options.servers.iter().map(|address| {
            let mut server = NameServerConfig::udp_and_tcp(address.ip());
            for connection in &mut server.connections {
                connection.port = address.port();
            }
            server
        });
        let config = ResolverConfig::from_parts(None, Vec::new(), servers.collect());
        Resolver::builder_with_config(config, TokioRuntimeProvider::default())
    };
    let opts: &mut ResolverOpts = builder.options_mut();
    opts.ip_strategy = strategy;
    opts.timeout = options.timeout;
    opts.attempts = 2;
    // Names are kept here, by rules of our own.
    opts.cache_size = 0;
    builder.build()
}
