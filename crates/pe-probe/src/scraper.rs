//! A probe as a [`Scraper`]: addresses, deadlines, what all probes measure, and how many run at once.
//!
//! A batch is one task. Its probes start spread over the cycle, wait for their peers side by side, and each ends at its own
//! deadline, so that devices that hang hold no others up for longer than that. Dropping a batch closes its connections. Batches
//! that share a pacer keep to its rate together.

use std::fmt;
use std::marker::PhantomData;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use pe_scrape::resolve::{Resolve, SystemResolver};
use pe_scrape::settings::{Kind, Problem, Problems, Setting, Table, show_duration};
use pe_scrape::{
    Address, Batch, Columns, MetricDescriptor, Row, ScrapeError, Scraper, ScraperFactory,
    ScraperSettings, SettingsError, Target,
};
use tokio::sync::Semaphore;
use tracing::debug;

use crate::metrics::CommonMetrics;
use crate::pace::Spread;
use crate::{Asked, Failure, Phase, Probe, ProbeMetrics, ProbeSettings, Reason};

/// Makes the scrapers of a probe. Cloning is cheap.
pub struct ProbeFactory<P> {
    resolver: Arc<dyn Resolve>,
    permits: Arc<Semaphore>,
    probe: PhantomData<fn() -> P>,
}

impl<P: Probe> ProbeFactory<P> {
    /// A factory whose scrapers resolve host names with `resolver`.
    pub fn new(resolver: impl Resolve) -> Self {
        Self::shared(Arc::new(resolver))
    }

    /// A factory whose scrapers resolve host names with a resolver that others use too.
    pub fn shared(resolver: Arc<dyn Resolve>) -> Self {
        Self {
            resolver,
            permits: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)),
            probe: PhantomData,
        }
    }

    /// Lets no more than `probes` run at once, over all scrapers of the factory. The time of one that waits has not begun.
    #[must_use]
    pub fn at_once(mut self, probes: usize) -> Self {
        self.permits = Arc::new(Semaphore::new(probes.clamp(1, Semaphore::MAX_PERMITS)));
        self
    }

    /// Makes a scraper.
    ///
    /// # Errors
    /// [`SettingsError`] when a setting is unknown or makes no sense.
    pub fn scraper(&self, settings: &ScraperSettings) -> Result<ProbeScraper<P>, SettingsError> {
        let inner = Inner::new(settings, self.resolver.clone(), self.permits.clone())?;
        Ok(ProbeScraper(Arc::new(inner)))
    }
}

impl<P: Probe> Default for ProbeFactory<P> {
    fn default() -> Self {
        Self::new(SystemResolver)
    }
}

impl<P> Clone for ProbeFactory<P> {
    fn clone(&self) -> Self {
        Self {
            resolver: self.resolver.clone(),
            permits: self.permits.clone(),
            probe: PhantomData,
        }
    }
}

impl<P> fmt::Debug for ProbeFactory<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProbeFactory").finish_non_exhaustive()
    }
}

impl<P: Probe> ScraperFactory for ProbeFactory<P> {
    fn create(&self, settings: &ScraperSettings) -> Result<Arc<dyn Scraper>, SettingsError> {
        Ok(Arc::new(self.scraper(settings)?))
    }

    fn review(&self, settings: &ScraperSettings) -> Vec<Problem> {
        let own = settings.parse::<P::Settings>();
        own.map_or_else(|_| Vec::new(), |own| P::review(&own))
    }

    fn table(&self) -> Option<&'static Table> {
        match P::Settings::KIND {
            Kind::Object(table) => Some(table),
            _ => None,
        }
    }
}

/// A probe as a scraper. Made by a [`ProbeFactory`].
pub struct ProbeScraper<P>(Arc<Inner<P>>);

impl<P> ProbeScraper<P> {
    /// All metrics of the probe's own: those of its columns, and those whose labels are learned while it runs. Series of devices' own,
    /// as `exposition` passes them on, are not among them.
    pub fn metrics(&self) -> impl Iterator<Item = &MetricDescriptor> {
        self.0.columns.descriptors().iter().chain(&self.0.learned)
    }
}

impl<P> fmt::Debug for ProbeScraper<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProbeScraper").finish_non_exhaustive()
    }
}

struct Inner<P> {
    probe: P,
    columns: Arc<Columns>,
    learned: Vec<MetricDescriptor>,
    metrics: CommonMetrics,
    resolver: Arc<dyn Resolve>,
    permits: Arc<Semaphore>,
    timeout: Duration,
    interval: Duration,
    concurrency: usize,
    unknown_is_down: bool,
}

impl<P: Probe> Inner<P> {
    fn new(
        common: &ScraperSettings,
        resolver: Arc<dyn Resolve>,
        permits: Arc<Semaphore>,
    ) -> Result<Self, SettingsError> {
        let own: P::Settings = common.parse()?;
        let shared = own.common();
        let mut problems = Problems::default();
        if let Some(timeout) = shared.timeout
            && timeout >= common.interval
        {
            let (timeout, interval) = (show_duration(timeout), show_duration(common.interval));
            problems.within("timeout", |problems| {
                problems.refuse(format_args!(
                    "{timeout} must be below interval ({interval})"
                ));
            });
        }
        if problems.has_errors() {
            return Err(problems.into());
        }
        let name = shared.name.clone().unwrap_or_else(|| P::name(&own));
        let mut all = ProbeMetrics::new(&name);
        let metrics = CommonMetrics::new(&mut all, shared.up);
        let probe = P::new(own, common, &mut all)?;
        let (columns, learned) = all.build()?;
        Ok(Self {
            probe,
            metrics,
            columns,
            learned,
            resolver,
            permits,
            timeout: shared.timeout.unwrap_or(common.timeout),
            interval: common.interval,
            concurrency: shared.concurrency as usize,
            unknown_is_down: common.unknown_is_down,
        })
    }

    /// Asks one device, and writes what comes of it.
    async fn ask(&self, target: &Target, row: Row<'_>) -> Result<(), ScrapeError> {
        let start = Instant::now();
        let deadline = start + self.timeout;
        let result = self.ask_until(target, row, start, deadline).await;
        self.metrics
            .ended(row, &result, start.elapsed(), self.unknown_is_down);
        let Err(failure) = result else {
            return Ok(());
        };
        debug!(device = target.device(), ip = target.ip(), %failure, "a probe failed");
        match failure.reason {
            Reason::Dns | Reason::DnsUnanswered | Reason::Excluded => Err(ScrapeError::Dns {
                host: target.ip().to_owned(),
                message: failure.message.into_owned(),
            }),
            reason if reason.is_unknown() => Err(ScrapeError::local(failure)),
            _ => Ok(()),
        }
    }

    async fn ask_until(
        &self,
        target: &Target,
        row: Row<'_>,
        start: Instant,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let located = tokio::time::timeout_at(deadline.into(), self.locate(target)).await;
        let (address, scope) = located.unwrap_or_else(|_| Err(Phase::Resolve.timeout()))?;
        let is_name = matches!(target.address(), Address::Name { .. });
        self.metrics
            .resolved(row, address, is_name.then(|| start.elapsed()));
        let times = (start, deadline);
        let asked = Asked::new(target, row, (address, scope), times, &self.resolver);
        let probing = tokio::time::timeout_at(deadline.into(), self.probe.probe(&asked)).await;
        probing.unwrap_or_else(|_| Err(asked.phase().timeout()))
    }

    /// Where a target is: its address, and the index of its zone.
    async fn locate(&self, target: &Target) -> Result<(IpAddr, u32), Failure> {
        let (address, scope) = match target.address() {
            Address::Ip(address) => (*address, 0),
            Address::Zoned { ip, zone } => (IpAddr::V6(*ip), zone_index(zone)?),
            Address::Name { host, family } => {
                let resolved = self.resolver.resolve(host, *family).await;
                let address = resolved.map_err(|error| {
                    let reason = match error.is_denied {
                        true => Reason::Dns,
                        false => Reason::DnsUnanswered,
                    };
                    Failure::new(reason, error.message)
                })?;
                (address, 0)
            }
        };
        let address = target.check_address(address).map_err(|why| {
            Failure::new(
                Reason::Excluded,
                format!("it has the address {address}, which is not measured: it is {why}"),
            )
        })?;
        Ok((address, scope))
    }
}

/// The index of an interface, by name or number.
fn zone_index(zone: &str) -> Result<u32, Failure> {
    let by_name = || {
        let socket = rustix::net::socket_with(
            rustix::net::AddressFamily::INET6,
            rustix::net::SocketType::DGRAM,
            // A program that is started meanwhile gets it not.
            rustix::net::SocketFlags::CLOEXEC,
            None,
        )
        .ok()?;
        rustix::net::netdevice::name_to_index(socket, zone).ok()
    };
    let index = zone.parse().ok().or_else(by_name);
    index
        .filter(|index| *index != 0)
        .ok_or_else(|| Failure::new(Reason::NoInterface, format!("there is no interface {zone}")))
}

#[async_trait]
impl<P: Probe> Scraper for ProbeScraper<P> {
    fn columns(&self) -> &Arc<Columns> {
        &self.0.columns
    }

    async fn scrape(&self, target: &Target, row: Row<'_>) -> Result<(), ScrapeError> {
        let permit = self.0.permits.acquire().await;
        let _permit = permit.map_err(ScrapeError::local)?;
        self.0.ask(target, row).await
    }

    async fn scrape_batch(&self, batch: &Batch) -> Result<(), ScrapeError> {
        let inner = &self.0;
        let mut batch = batch.clone();
        batch.concurrency = inner.concurrency;
        // Each probe has a deadline of its own.
        batch.target_timeout = None;
        let spread = Spread::new(batch.len(), inner.interval, batch.pacer.clone());
        let spread = SpreadOut {
            inner: inner.clone(),
            spread,
        };
        batch.scrape_each(&spread).await;
        Ok(())
    }
}

/// A probe that waits for its turn in a batch.
struct SpreadOut<P> {
    inner: Arc<Inner<P>>,
    spread: Spread,
}

#[async_trait]
impl<P: Probe> Scraper for SpreadOut<P> {
    fn columns(&self) -> &Arc<Columns> {
        &self.inner.columns
    }

    async fn scrape(&self, target: &Target, row: Row<'_>) -> Result<(), ScrapeError> {
        let permit = self.spread.wait(&self.inner.permits).await;
        let _permit = permit.map_err(ScrapeError::local)?;
        self.inner.ask(target, row).await
    }
}
