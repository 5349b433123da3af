//! The engine as a [`Scraper`].

mod columns;
mod factory;
mod settings;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_util::stream::{self, FuturesUnordered, StreamExt};
use pe_scrape::{Address, Batch, Frame, MetricDescriptor, Row, ScrapeError, Scraper, Target};

use pe_scrape::resolve::Resolve;

use crate::{EventKind, Pacer, ProbeEvent, Stats, Sweep};
use factory::Group;
pub use factory::PingScraperFactory;
pub use settings::DEFAULT_BUCKETS;
use settings::Settings;

/// How many host names are resolved at once.
const RESOLVING: usize = 64;

/// What a name may take to resolve at least, where the timeout for a reply is shorter.
const RESOLVE_TIME: Duration = Duration::from_secs(2);

/// How long duplicates of a cycle's replies are counted after its end.
const LINGER: Duration = Duration::from_secs(1);

/// Pings devices: `dev_ping`, `ping_up`, loss, RTTs, jitter, errors by reason, and on request a histogram.
///
/// A batch is one [`Sweep`]: no task, timer or channel for each device. Made by a [`PingScraperFactory`].
pub struct PingScraper {
    settings: Settings,
    descriptors: Vec<MetricDescriptor>,
    group: Arc<Group>,
    resolver: Arc<dyn Resolve>,
    /// Tells this scraper from others that share its group.
    life: Arc<()>,
}

impl fmt::Debug for PingScraper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PingScraper")
            .field("settings", &self.settings)
            .field("pinger", &self.group.pinger)
            .finish_non_exhaustive()
    }
}

impl PingScraper {
    fn new(settings: Settings, group: Arc<Group>, resolver: Arc<dyn Resolve>) -> Self {
        Self {
            descriptors: columns::descriptors(settings.histogram.as_ref()),
            settings,
            group,
            resolver,
            life: Arc::new(()),
        }
    }

    fn sweep(&self, targets: Arc<[IpAddr]>, all: usize, deadline: Option<Instant>) -> Sweep {
        let settings = &self.settings;
        let sweep = Sweep::new(targets)
            .count(settings.count)
            .probe_interval(settings.probe_interval)
            .timeout(settings.timeout)
            .pacer(Pacer::new(settings.rate(all), settings.burst))
            .linger(LINGER);
        match deadline {
            Some(deadline) => sweep.deadline(deadline),
            None => sweep,
        }
    }

    /// Probes the rows in `places`, whose addresses are in `targets`, and writes what comes of it.
    async fn measure(
        &self,
        batch: &Batch,
        places: Vec<u32>,
        targets: Vec<IpAddr>,
    ) -> Result<(), ScrapeError> {
        if targets.is_empty() {
            return Ok(());
        }
        let places: Arc<[u32]> = places.into();
        // Time to write the rows, which takes some tenths of a microsecond each.
        let writing = Duration::from_millis(5) + Duration::from_nanos(300) * places.len() as u32;
        let deadline = batch.deadline.checked_sub(writing);
        let sweep = self.sweep(targets.into(), batch.targets.len(), deadline);
        let observer = {
            let (table, places) = (batch.table.clone(), places.clone());
            let histogram = self.settings.histogram.is_some();
            move |event: ProbeEvent| match event.kind {
                EventKind::Reply(reply) if histogram => {
                    let row = table.row(places[event.target as usize] as usize);
                    row.observe(columns::HISTOGRAM, reply.rtt.as_secs_f64());
                }
                EventKind::Duplicate(_) => {
                    let row = table.row(places[event.target as usize] as usize);
                    row.add(columns::DUPLICATES, 1.0);
                }
                _ => {}
            }
        };
        let report = self.group.pinger.sweep_with(sweep, observer).await;
        let report = report.map_err(ScrapeError::local)?;
        for (place, stats) in places.iter().zip(&report.stats) {
            let row = batch.table.row(*place as usize);
            columns::write(row, stats, self.settings.value_dev_down);
        }
        Ok(())
    }

    /// The address of a target, resolved within `limit` if it is a name.
    async fn resolve(&self, target: &Target, limit: Duration) -> Result<IpAddr, ScrapeError> {
        let (host, family) = match target.address() {
            Address::Ip(address) => return Ok(*address),
            Address::Name { host, family } => (host, self.settings.family.unwrap_or(*family)),
        };
        let resolved = tokio::time::timeout(limit, self.resolver.resolve(host, family)).await;
        let message = match resolved {
            Ok(Ok(address)) => return Ok(address),
            Ok(Err(error)) => error.message,
            Err(_) => "the resolver did not answer in time".to_owned(),
        };
        Err(ScrapeError::Dns {
            host: host.to_string(),
            message,
        })
    }

    /// Resolves the names in `places` and probes them, those that are resolved at about the same time together.
    async fn measure_names(&self, batch: &Batch, places: Vec<u32>) -> Result<(), ScrapeError> {
        let left = batch.deadline.saturating_duration_since(Instant::now());
        let limit = self
            .settings
            .timeout
            .max(RESOLVE_TIME)
            .min(left.saturating_sub(self.settings.timeout).max(left / 2));
        let resolving = stream::iter(places)
            .map(|place| async move {
                let target = &batch.targets[place as usize];
                (place, self.resolve(target, limit).await)
            })
            .buffer_unordered(RESOLVING)
            .ready_chunks(1024);
        tokio::pin!(resolving);
        let mut measuring = FuturesUnordered::new();
        let mut failed = Ok(());
        loop {
            tokio::select! {
                Some(result) = measuring.next() => failed = failed.and(result),
                chunk = resolving.next() => {
                    let Some(chunk) = chunk else { break };
                    let mut places = Vec::with_capacity(chunk.len());
                    let mut targets = Vec::with_capacity(chunk.len());
                    for (place, resolved) in chunk {
                        match resolved {
                            Ok(address) => {
                                places.push(place);
                                targets.push(address);
                            }
                            Err(error) => {
                                let row = batch.table.row(place as usize);
                                columns::write_unresolved(row, self.settings.value_dev_down);
                                batch.fail(place as usize, &error);
                            }
                        }
                    }
                    measuring.push(self.measure(batch, places, targets));
                }
            }
        }
        while let Some(result) = measuring.next().await {
            failed = failed.and(result);
        }
        failed
    }
}

#[async_trait]
impl Scraper for PingScraper {
    fn descriptors(&self) -> &[MetricDescriptor] {
        &self.descriptors
    }

    async fn scrape(&self, target: &Target, row: Row<'_>) -> Result<(), ScrapeError> {
        let limit = self.settings.timeout.max(RESOLVE_TIME);
        let address = match self.resolve(target, limit).await {
            Ok(address) => address,
            Err(error) => {
                columns::write_unresolved(row, self.settings.value_dev_down);
                return Err(error);
            }
        };
        let sweep = self.sweep(Arc::new([address]), 1, None);
        // The row cannot be lent to the engine's thread; what it would have been told comes through a list.
        let (tell, told) = std::sync::mpsc::channel();
        let report = self
            .group
            .pinger
            .sweep_with(sweep.linger(Duration::ZERO), move |event| {
                // Nobody listens any more when the scrape was dropped.
                let _ = tell.send(event.kind);
            })
            .await
            .map_err(ScrapeError::local)?;
        for event in told.try_iter() {
            match event {
                EventKind::Reply(reply) if self.settings.histogram.is_some() => {
                    row.observe(columns::HISTOGRAM, reply.rtt.as_secs_f64());
                }
                EventKind::Duplicate(_) => row.add(columns::DUPLICATES, 1.0),
                _ => {}
            }
        }
        let stats = report.stats.first().copied().unwrap_or_else(Stats::default);
        columns::write(row, &stats, self.settings.value_dev_down);
        Ok(())
    }

    async fn scrape_batch(&self, batch: &Batch) -> Result<(), ScrapeError> {
        let mut literal = (Vec::new(), Vec::new());
        let mut names = Vec::new();
        for (place, target) in (0..).zip(batch.targets.iter()) {
            match target.address() {
                Address::Ip(address) => {
                    literal.0.push(place);
                    literal.1.push(*address);
                }
                Address::Name { .. } => names.push(place),
            }
        }
        let (literal, names) = tokio::join!(
            self.measure(batch, literal.0, literal.1),
            self.measure_names(batch, names),
        );
        literal.and(names)
    }

    fn metrics(&self) -> Vec<Frame> {
        self.group.report(&self.life).into_iter().collect()
    }
}
