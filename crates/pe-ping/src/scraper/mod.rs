//! The engine as a [`Scraper`]: a batch is one sweep, and rows are written as its probes end.

mod address_info;
mod carrier;
mod columns;
mod factory;
mod flows;
mod settings;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_util::stream::{self, FuturesUnordered, StreamExt};
use pe_scrape::resolve::Resolve;
use pe_scrape::{Address, Batch, Columns, Family, Pacer, Row, ScrapeError, Scraper, Target};

use crate::{EventKind, ProbeEvent, Reason, Stats, Sweep, SweepResult, zone_index};
use address_info::AddressInfo;
use columns::PingColumns;
pub use factory::PingScraperFactory;
use factory::SharedPinger;
use flows::Flows;
use settings::Resolved;
pub use settings::{Histogram, HistogramShape, OneFamily, PingSettings};

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
    settings: Resolved,
    metrics: PingColumns,
    addresses: AddressInfo,
    pinger: Arc<SharedPinger>,
    resolver: Arc<dyn Resolve>,
    flows: Flows,
}

impl fmt::Debug for PingScraper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PingScraper")
            .field("settings", &self.settings)
            .field("pinger", &self.pinger.pinger)
            .finish_non_exhaustive()
    }
}

impl PingScraper {
    fn new(settings: Resolved, pinger: Arc<SharedPinger>, resolver: Arc<dyn Resolve>) -> Self {
        Self {
            metrics: PingColumns::new(settings.histogram.as_ref(), settings.count),
            addresses: AddressInfo::new(),
            settings,
            pinger,
            resolver,
            flows: Flows::default(),
        }
    }

    /// What holds the requests of a batch back: the limit of the cycle, shared with its other scrapers, and the scraper's
    /// own. Where there is neither, one that fits the number of targets.
    fn pacers(&self, batch: &Batch) -> Vec<Pacer> {
        let burst = self.settings.burst;
        let own = self.settings.rate.map(|rate| Pacer::new(rate, burst));
        let mut pacers: Vec<Pacer> = batch.pacer.iter().cloned().chain(own).collect();
        if pacers.is_empty() {
            pacers.push(Pacer::new(self.settings.default_rate(batch.len()), burst));
        }
        pacers
    }

    fn sweep(&self, targets: Arc<[IpAddr]>, pacers: &[Pacer]) -> Sweep {
        let settings = &self.settings;
        let sweep = Sweep::new(targets)
            .count(settings.count)
            .probe_interval(settings.probe_interval)
            .timeout(settings.timeout)
            .linger(LINGER);
        let sweep = self.flows.apply(sweep);
        pacers.iter().cloned().fold(sweep, Sweep::pacer)
    }

    /// Probes the addresses of `targets`, each with the row it is for, and writes what comes of it.
    async fn measure(
        &self,
        batch: &Batch,
        destinations: Destinations,
        pacers: &[Pacer],
    ) -> Result<(), ScrapeError> {
        let Destinations {
            rows,
            addresses,
            scopes,
        } = destinations;
        if rows.is_empty() {
            return Ok(());
        }
        let rows: Arc<[u32]> = rows.into();
        // Time to write the rows, which takes some tenths of a microsecond each.
        let writing = Duration::from_millis(5) + Duration::from_nanos(300) * rows.len() as u32;
        let scopes: Arc<[u32]> = scopes.into();
        let mut sweep = self.sweep(addresses.into(), pacers).scopes(scopes.clone());
        if let Some(deadline) = batch.deadline.checked_sub(writing) {
            sweep = sweep.deadline(deadline);
        }
        let observer = {
            let (table, rows) = (batch.table().clone(), rows.clone());
            let metrics = self.metrics.clone();
            move |event: ProbeEvent| {
                let row = || table.row(rows[event.target as usize] as usize);
                match event.kind {
                    EventKind::Reply(reply) => metrics.reply(row, &reply),
                    EventKind::Duplicate(_) => metrics.duplicate(row()),
                    _ => {}
                }
            }
        };
        let result = self.pinger.pinger.sweep_with(sweep, observer).await;
        let result = self
            .heed_carriers(result.map_err(ScrapeError::local)?, scopes)
            .await?;
        self.flows.note(result.iter(), Instant::now());
        for (row, stats) in rows.iter().zip(&result.stats) {
            let row = *row as usize;
            self.metrics
                .write(batch.row(row), stats, self.settings.down);
            batch.finish(row);
        }
        Ok(())
    }

    /// The result in which targets that were lost behind a link without carrier are unknown.
    async fn heed_carriers(
        &self,
        mut result: SweepResult,
        scopes: Arc<[u32]>,
    ) -> Result<SweepResult, ScrapeError> {
        if !result.stats.iter().any(carrier::is_lost) {
            return Ok(result);
        }
        let socket = self.settings.socket.clone();
        // It asks the kernel for each of them where there is such a link.
        let correct = move || {
            let SweepResult { targets, stats, .. } = &mut result;
            carrier::correct(targets, &scopes, stats, socket.way());
            result
        };
        let corrected = tokio::task::spawn_blocking(correct).await;
        corrected.map_err(ScrapeError::local)
    }

    /// Where a target is: its address, resolved until `until` if it is a name, and the index of its zone.
    async fn locate(&self, target: &Target, until: Instant) -> Result<(IpAddr, u32), Unresolved> {
        let (address, scope) = match target.address() {
            Address::Ip(address) => (*address, 0),
            Address::Zoned { ip, zone } => {
                let error = || Unresolved {
                    reason: Reason::NoInterface,
                    error: ScrapeError::Target(format!("there is no interface {zone}")),
                };
                (IpAddr::V6(*ip), zone_index(zone).ok_or_else(error)?)
            }
            Address::Name { host, family } => {
                let family = self.settings.family.unwrap_or(*family);
                (self.resolve(host, family, until).await?, 0)
            }
        };
        match target.check_address(address) {
            Ok(address) => Ok((address, scope)),
            Err(why) => Err(Unresolved {
                reason: Reason::Excluded,
                error: ScrapeError::NotAllowed {
                    host: target.ip().to_owned(),
                    address,
                    why,
                },
            }),
        }
    }

    /// The address of a name. After `until`, only what is known already.
    async fn resolve(
        &self,
        host: &str,
        family: Option<Family>,
        until: Instant,
    ) -> Result<IpAddr, Unresolved> {
        let family = family.or(self.settings.source_family);
        let resolving = self.resolver.resolve(host, family);
        let resolved = tokio::time::timeout_at(until.into(), resolving).await;
        let (reason, message) = match resolved {
            Ok(Ok(address)) => return Ok(address),
            Ok(Err(error)) if error.is_denied => (Reason::Dns, error.message),
            Ok(Err(error)) => (Reason::DnsUnanswered, error.message),
            Err(_) => (
                Reason::DnsUnanswered,
                "the resolver did not answer in time".to_owned(),
            ),
        };
        let host = host.to_string();
        Err(Unresolved {
            reason,
            error: ScrapeError::Dns { host, message },
        })
    }

    /// Finds the targets of `rows` and probes them, those that are found at about the same time together.
    async fn measure_others(
        &self,
        batch: &Batch,
        rows: Vec<u32>,
        pacers: &[Pacer],
    ) -> Result<(), ScrapeError> {
        let left = batch.deadline.saturating_duration_since(Instant::now());
        let timeout = self
            .settings
            .timeout
            .max(RESOLVE_TIME)
            .min(left.saturating_sub(self.settings.timeout).max(left / 2));
        // One end for all of them, however many there are: what is not known by then comes with a later cycle.
        let until = Instant::now() + timeout;
        let resolving = stream::iter(rows)
            .map(|row| async move {
                let target = batch.target(row as usize);
                (row, self.locate(target, until).await)
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
                    let mut found = Destinations::default();
                    for (row, located) in chunk {
                        match located {
                            Ok((address, scope)) => {
                                self.show(batch.target(row as usize), address, batch.row(row as usize));
                                found.add(row, address, scope);
                            }
                            Err(error) => self.give_up(batch, row as usize, &error),
                        }
                    }
                    measuring.push(self.measure(batch, found, pacers));
                }
            }
        }
        while let Some(result) = measuring.next().await {
            failed = failed.and(result);
        }
        failed
    }

    /// Writes which address a host name has.
    fn show(&self, target: &Target, address: IpAddr, row: Row<'_>) {
        if matches!(target.address(), Address::Name { .. })
            && let Some(frame) = self.addresses.frame(target, address)
        {
            row.add_frame(frame);
        }
    }

    /// Writes that a target could not be asked.
    fn give_up(&self, batch: &Batch, row: usize, unresolved: &Unresolved) {
        let Unresolved { reason, error } = unresolved;
        self.metrics
            .write_unresolved(batch.row(row), *reason, self.settings.down);
        batch.fail(row, error);
    }
}

/// Where the probes of a sweep go.
#[derive(Default)]
struct Destinations {
    rows: Vec<u32>,
    addresses: Vec<IpAddr>,
    /// The links of link-local addresses; those at the end that have none are left out.
    scopes: Vec<u32>,
}

impl Destinations {
    fn add(&mut self, row: u32, address: IpAddr, scope: u32) {
        if scope != 0 {
            self.scopes.resize(self.rows.len(), 0);
            self.scopes.push(scope);
        }
        self.rows.push(row);
        self.addresses.push(address);
    }
}

/// A target that cannot be asked: its name has no address, none that is known, or none that may be measured.
struct Unresolved {
    /// Whether it is known that there is none.
    reason: Reason,
    error: ScrapeError,
}

#[async_trait]
impl Scraper for PingScraper {
    fn columns(&self) -> &Arc<Columns> {
        &self.metrics.columns
    }

    async fn scrape(&self, target: &Target, row: Row<'_>) -> Result<(), ScrapeError> {
        let until = Instant::now() + self.settings.timeout.max(RESOLVE_TIME);
        let (address, scope) = match self.locate(target, until).await {
            Ok(located) => located,
            Err(Unresolved { reason, error }) => {
                self.metrics
                    .write_unresolved(row, reason, self.settings.down);
                return Err(error);
            }
        };
        self.show(target, address, row);
        let sweep = self.sweep(Arc::new([address]), &[]);
        let scopes: Arc<[u32]> = Arc::new([scope]);
        let sweep = sweep.scopes(scopes.clone()).linger(Duration::ZERO);
        // The row cannot be lent to the engine's thread; what it would have been told comes through a list.
        let (tell, told) = std::sync::mpsc::channel();
        let result = self
            .pinger
            .pinger
            .sweep_with(sweep, move |event| {
                // Nobody listens any more when the scrape was dropped.
                let _ = tell.send(event.kind);
            })
            .await
            .map_err(ScrapeError::local)?;
        let result = self.heed_carriers(result, scopes).await?;
        for event in told.try_iter() {
            match event {
                EventKind::Reply(reply) => self.metrics.reply(|| row, &reply),
                EventKind::Duplicate(_) => self.metrics.duplicate(row),
                _ => {}
            }
        }
        self.flows.note(result.iter(), Instant::now());
        let stats = result.stats.first().copied().unwrap_or_else(Stats::default);
        self.metrics.write(row, &stats, self.settings.down);
        Ok(())
    }

    async fn scrape_batch(&self, batch: &Batch) -> Result<(), ScrapeError> {
        let mut literal = Destinations::default();
        let mut others = Vec::new();
        for (row, target) in batch.targets() {
            match target.address() {
                Address::Ip(address) if target.check_address(*address).is_ok() => {
                    literal.add(row as u32, *address, 0);
                }
                _ => {
                    // Names that a silent name server holds up are no reason to measure the others less often.
                    batch.start(row);
                    others.push(row as u32);
                }
            }
        }
        let pacers = self.pacers(batch);
        let (literal, others) = tokio::join!(
            self.measure(batch, literal, &pacers),
            self.measure_others(batch, others, &pacers),
        );
        literal.and(others)
    }
}
