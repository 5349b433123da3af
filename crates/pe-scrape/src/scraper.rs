//! The trait to implement for a new kind of measurement.

use std::error::Error;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_util::{FutureExt, StreamExt};
use thiserror::Error;

use crate::{Frame, MetricDescriptor, Row, Table, Target};

/// Why a target could not be measured.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ScrapeError {
    /// Nothing came back in time.
    #[error("no answer in time")]
    Timeout,
    /// The target's host name has no usable address.
    #[error("cannot resolve {host}: {message}")]
    Dns {
        /// The host name.
        host: String,
        /// What the resolver said.
        message: String,
    },
    /// The target refused, or answered nonsense.
    #[error("{0}")]
    Target(String),
    /// This machine could not measure: no permission, no buffers, no route.
    #[error("cannot measure from this machine: {0}")]
    Local(#[source] Box<dyn Error + Send + Sync>),
}

impl ScrapeError {
    /// A local problem from any error.
    pub fn local(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Local(error.into())
    }
}

/// Measures targets of one kind.
///
/// Implement [`scrape`](Self::scrape) and [`descriptors`](Self::descriptors). Override
/// [`scrape_batch`](Self::scrape_batch) when thousands of targets can be measured together for less.
#[async_trait]
pub trait Scraper: Send + Sync + 'static {
    /// The metrics that [`scrape`](Self::scrape) fills in. Must be the same for the scraper's whole life.
    fn descriptors(&self) -> &[MetricDescriptor];

    /// Measures one target and writes what it saw into `row`. What is not written stays absent.
    ///
    /// A target that is down is a result, not an error: write it into the row. An error means that nothing could be
    /// learned; it is counted and logged. The future is dropped when it takes longer than
    /// [`Batch::target_timeout`], or when the batch's deadline passes.
    async fn scrape(&self, target: &Target, row: Row<'_>) -> Result<(), ScrapeError>;

    /// Measures all targets of a batch.
    ///
    /// By default [`scrape`](Self::scrape) runs for each target, as many at once as [`Batch::concurrency`] allows, until
    /// the deadline. A panic in one target is caught, counted, and leaves the others alone. An error fails the batch as a
    /// whole; errors of single targets go to [`Batch::fail`].
    ///
    /// # Errors
    /// [`ScrapeError`] when no target could be measured at all.
    async fn scrape_batch(&self, batch: &Batch) -> Result<(), ScrapeError> {
        let all = futures_util::stream::iter(0..batch.targets.len()).for_each_concurrent(
            batch.concurrency.max(1),
            |index| async move {
                let scrape = self.scrape(&batch.targets[index], batch.table.row(index));
                let scrape = async {
                    match batch.target_timeout {
                        Some(limit) => tokio::time::timeout(limit, scrape)
                            .await
                            .unwrap_or(Err(ScrapeError::Timeout)),
                        None => scrape.await,
                    }
                };
                match AssertUnwindSafe(scrape).catch_unwind().await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => batch.fail(index, &error),
                    Err(panic) => batch.panicked(index, &*panic),
                }
            },
        );
        if tokio::time::timeout_at(batch.deadline.into(), all)
            .await
            .is_err()
        {
            batch.stats.overdue.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// The scraper's own metrics, named `pingexporter_…`: packets sent, replies dropped. Scrapers that share what they
    /// count should report it once, where they share it.
    fn metrics(&self) -> Vec<Frame> {
        Vec::new()
    }
}

/// The targets of one scraper in one cycle, and the table for what is measured. Cloning is cheap.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Batch {
    /// What to measure.
    pub targets: Arc<[Target]>,
    /// One row for each target.
    pub table: Arc<Table>,
    /// When the results are taken, whether all are there or not.
    pub deadline: Instant,
    /// How many targets to measure at once, at the most, where each costs a task or a connection.
    pub concurrency: usize,
    /// How long the default [`Scraper::scrape_batch`] lets one target take; `None` until the deadline.
    pub target_timeout: Option<Duration>,
    /// What went wrong.
    pub stats: Arc<BatchStats>,
}

impl Batch {
    /// A batch with a concurrency of 64.
    ///
    /// # Panics
    /// When the table does not have one row for each target.
    #[must_use]
    pub fn new(targets: Arc<[Target]>, table: Arc<Table>, deadline: Instant) -> Self {
        assert_eq!(
            targets.len(),
            table.rows(),
            "a batch needs one row for each target"
        );
        Self {
            targets,
            table,
            deadline,
            concurrency: 64,
            target_timeout: None,
            stats: Arc::default(),
        }
    }

    /// Counts an error of the target at `index` and keeps the first one's words.
    pub fn fail(&self, index: usize, error: &ScrapeError) {
        self.stats.errors.fetch_add(1, Ordering::Relaxed);
        self.remember(index, error);
    }

    fn panicked(&self, index: usize, panic: &(dyn std::any::Any + Send)) {
        self.stats.panics.fetch_add(1, Ordering::Relaxed);
        let words = panic
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("no message");
        self.remember(index, &format_args!("the scraper panicked: {words}"));
    }

    fn remember(&self, index: usize, words: &dyn fmt::Display) {
        let mut first = self
            .stats
            .first
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if first.is_none() {
            let target = &self.targets[index];
            *first = Some(format!("{} ({}): {words}", target.device(), target.ip()));
        }
    }
}

/// What went wrong in a batch. Written from any thread.
#[derive(Debug, Default)]
pub struct BatchStats {
    errors: AtomicUsize,
    panics: AtomicUsize,
    overdue: AtomicUsize,
    first: Mutex<Option<String>>,
}

impl BatchStats {
    /// Targets that could not be measured.
    #[must_use]
    pub fn errors(&self) -> usize {
        self.errors.load(Ordering::Relaxed)
    }

    /// Targets whose measurement panicked.
    #[must_use]
    pub fn panics(&self) -> usize {
        self.panics.load(Ordering::Relaxed)
    }

    /// Whether the deadline came before all targets were measured.
    #[must_use]
    pub fn overdue(&self) -> bool {
        self.overdue.load(Ordering::Relaxed) > 0
    }

    /// The first error or panic, with the device it happened at.
    #[must_use]
    pub fn first(&self) -> Option<String> {
        self.first
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Schema;
    use std::net::Ipv4Addr;

    struct Moody([MetricDescriptor; 1]);

    #[async_trait]
    impl Scraper for Moody {
        fn descriptors(&self) -> &[MetricDescriptor] {
            &self.0
        }
        async fn scrape(&self, target: &Target, row: Row<'_>) -> Result<(), ScrapeError> {
            match target.ip() {
                "127.0.0.1" => panic!("moody"),
                "127.0.0.2" => Err(ScrapeError::Timeout),
                "127.0.0.3" => std::future::pending().await,
                _ => {
                    row.set(0, 1.0);
                    Ok(())
                }
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_bad_target_never_spoils_the_others() {
        let moody = Moody([MetricDescriptor::gauge("ok", "")]);
        let targets: Arc<[Target]> = (1..=9)
            .map(|n| Target::from_ip(Ipv4Addr::new(127, 0, 0, n).into()))
            .collect();
        let table = Arc::new(Table::new(Schema::new(moody.descriptors()).unwrap(), 9));
        let deadline = tokio::time::Instant::now().into_std() + Duration::from_secs(3);
        let mut batch = Batch::new(targets, table.clone(), deadline);
        batch.concurrency = 2;
        moody.scrape_batch(&batch).await.unwrap();
        let measured = (0..9)
            .filter(|&row| table.row(row).get(0) == Some(1.0))
            .count();
        assert_eq!(measured, 6);
        assert_eq!((batch.stats.errors(), batch.stats.panics()), (1, 1));
        assert!(batch.stats.overdue());
        assert_eq!(
            batch.stats.first().unwrap(),
            "127.0.0.1 (127.0.0.1): the scraper panicked: moody"
        );
    }
}
