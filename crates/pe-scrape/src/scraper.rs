//! The trait to implement for a new kind of measurement.

use std::error::Error;
use std::fmt;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_util::{FutureExt, StreamExt};
use thiserror::Error;

use crate::group::Unfit;
use crate::{Columns, Pacer, Row, Table, Target, panic_message, with_causes};

/// Why a target could not be measured.
#[derive(Error)]
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
    /// The target's host name has an address that must not be measured.
    #[error("{host} has the address {address}, which is not measured: it is {why}")]
    NotAllowed {
        /// The host name.
        host: String,
        /// Its address.
        address: IpAddr,
        /// Why not.
        why: Unfit,
    },
    /// The target refused, or answered nonsense.
    #[error("{0}")]
    Target(String),
    /// This machine could not measure: no permission, no buffers, no route.
    #[error("cannot measure from this machine")]
    Local(#[source] Box<dyn Error + Send + Sync>),
}

crate::debug_with_causes!(ScrapeError);

impl ScrapeError {
    /// A local problem from any error.
    pub fn local(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Local(error.into())
    }
}

/// Measures targets of one kind.
///
/// Implement [`scrape`](Self::scrape) and [`columns`](Self::columns). Override
/// [`scrape_batch`](Self::scrape_batch) when thousands of targets can be measured together for less.
#[async_trait]
pub trait Scraper: Send + Sync + 'static {
    /// The metrics that [`scrape`](Self::scrape) fills in. Must be the same for the scraper's whole life.
    fn columns(&self) -> &Arc<Columns>;

    /// Measures one target and writes what it saw into `row`. What is not written stays absent.
    ///
    /// A target that is down is a result, not an error: write it into the row. An error means that nothing could be
    /// learned; it is counted and logged. A scraper that learns its metrics while it runs, such as one that passes on a
    /// device's own, hands them on with [`Row::add_frame`].
    ///
    /// # Cancel safety
    /// The future is dropped when it takes longer than [`Batch::target_timeout`], or when the batch's deadline passes. What
    /// it wrote until then is not published.
    async fn scrape(&self, target: &Target, row: Row<'_>) -> Result<(), ScrapeError>;

    /// Measures all targets of a batch.
    ///
    /// By default [`scrape`](Self::scrape) runs for each target: see [`Batch::scrape_each`], which an override may call
    /// too. An override calls [`Batch::finish`] or [`Batch::fail`] for each row as soon as it is written, so that rows
    /// that are done are published at the next tick, even where others are not. When the method returns, all rows count as
    /// done. An error fails the batch as a whole; errors of single targets go to [`Batch::fail`].
    ///
    /// # Cancel safety
    /// The future is dropped a second after the batch's deadline, and when the engine stops.
    ///
    /// # Errors
    /// [`ScrapeError`] when no target could be measured at all.
    async fn scrape_batch(&self, batch: &Batch) -> Result<(), ScrapeError> {
        batch.scrape_each(self).await;
        Ok(())
    }
}

/// The targets of one scraper in one cycle, and the rows for what is measured. Cloning is cheap.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Batch {
    targets: Arc<[Target]>,
    table: Arc<Table>,
    rows: Rows,
    /// When the results are taken, whether all are there or not.
    pub deadline: Instant,
    /// How many targets to measure at once, at the most, where each costs a task or a connection. 64 unless set.
    pub concurrency: usize,
    /// How long [`scrape_each`](Self::scrape_each) lets one target take; `None` until the deadline.
    pub target_timeout: Option<Duration>,
    /// How fast probes may leave in this cycle, over all scrapers that share it; `None` leaves it to the scraper.
    pub pacer: Option<Pacer>,
    progress: Arc<Progress>,
}

/// Which rows are measured.
#[derive(Debug, Clone)]
enum Rows {
    All,
    These(Arc<[u32]>),
}

impl Batch {
    /// A batch of all targets.
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
            progress: Arc::new(Progress::new(targets.len())),
            targets,
            table,
            rows: Rows::All,
            deadline,
            concurrency: 64,
            target_timeout: None,
            pacer: None,
        }
    }

    /// The same for these rows only, in ascending order.
    #[must_use]
    pub fn only(mut self, rows: Arc<[u32]>) -> Self {
        self.rows = Rows::These(rows);
        self
    }

    /// How many targets are measured.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.rows {
            Rows::All => self.targets.len(),
            Rows::These(rows) => rows.len(),
        }
    }

    /// Whether there is nothing to measure.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The targets to measure, each with its row.
    pub fn targets(&self) -> impl Iterator<Item = (usize, &Target)> {
        (0..self.len()).map(|position| {
            let row = match &self.rows {
                Rows::All => position,
                Rows::These(rows) => rows[position] as usize,
            };
            (row, &self.targets[row])
        })
    }

    /// The target of a row.
    ///
    /// # Panics
    /// When there is no such row.
    #[must_use]
    pub fn target(&self, row: usize) -> &Target {
        &self.targets[row]
    }

    /// The row to write.
    ///
    /// # Panics
    /// When there is no such row.
    #[must_use]
    pub fn row(&self, row: usize) -> Row<'_> {
        self.table.row(row)
    }

    /// The table of all rows.
    #[must_use]
    pub fn table(&self) -> &Arc<Table> {
        &self.table
    }

    /// Says that a target is being measured.
    pub fn start(&self, row: usize) {
        self.progress.rows[row].store(STARTED, Ordering::Relaxed);
    }

    /// Says that a row is written. It is published at the next tick, even where others are not done.
    pub fn finish(&self, row: usize) {
        // The writes to the row come first.
        self.progress.rows[row].store(DONE, Ordering::Release);
    }

    /// Says that a row is written as far as it could be, counts an error, and keeps the first one's words.
    pub fn fail(&self, row: usize, error: &ScrapeError) {
        self.progress.errors.fetch_add(1, Ordering::Relaxed);
        self.remember(row, &with_causes(error));
        self.finish(row);
    }

    /// What has come of the batch so far.
    #[must_use]
    pub fn progress(&self) -> &Arc<Progress> {
        &self.progress
    }

    /// Runs [`Scraper::scrape`] for each target, as many at once as [`concurrency`](Self::concurrency) allows, until the
    /// deadline. A panic in one target is caught, counted, and leaves the others alone.
    pub async fn scrape_each<S: Scraper + ?Sized>(&self, scraper: &S) {
        let all = futures_util::stream::iter(self.targets()).for_each_concurrent(
            self.concurrency.max(1),
            |(row, target)| async move {
                self.start(row);
                let scrape = scraper.scrape(target, self.row(row));
                let scrape = async {
                    let Some(timeout) = self.target_timeout else {
                        return scrape.await;
                    };
                    let in_time = tokio::time::timeout(timeout, scrape).await;
                    in_time.unwrap_or_else(|_| {
                        // What it wrote until then is not published.
                        self.row(row).clear_gauges();
                        Err(ScrapeError::Timeout)
                    })
                };
                match AssertUnwindSafe(scrape).catch_unwind().await {
                    Ok(Ok(())) => self.finish(row),
                    Ok(Err(error)) => self.fail(row, &error),
                    Err(panic) => self.panicked(row, &*panic),
                }
            },
        );
        if tokio::time::timeout_at(self.deadline.into(), all)
            .await
            .is_err()
        {
            self.progress.overdue.store(true, Ordering::Relaxed);
        }
    }

    fn panicked(&self, row: usize, panic: &(dyn std::any::Any + Send)) {
        self.progress.panics.fetch_add(1, Ordering::Relaxed);
        let words = panic_message(panic);
        self.row(row).clear_gauges();
        self.remember(row, &format_args!("the scraper panicked: {words}"));
        self.finish(row);
    }

    fn remember(&self, row: usize, words: &dyn fmt::Display) {
        let mut first = self
            .progress
            .first
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if first.is_none() {
            let target = &self.targets[row];
            *first = Some(format!("{} ({}): {words}", target.device(), target.ip()));
        }
    }

    /// The rows of the batch that are not done.
    pub fn unfinished(&self) -> impl Iterator<Item = usize> {
        self.targets()
            .map(|(row, _)| row)
            .filter(|row| !self.progress.is_done(*row))
    }

    /// Whether every row that is not done is being measured, so that none waits for its turn.
    #[must_use]
    pub fn all_started(&self) -> bool {
        self.targets().all(|(row, _)| self.progress.is_started(row))
    }
}

const STARTED: u8 = 1;
const DONE: u8 = 2;

/// How far a batch is, and what went wrong in it. Written from any thread.
#[derive(Debug, Default)]
pub struct Progress {
    rows: Box<[AtomicU8]>,
    errors: AtomicUsize,
    panics: AtomicUsize,
    overdue: AtomicBool,
    first: Mutex<Option<String>>,
}

impl Progress {
    fn new(rows: usize) -> Self {
        Self {
            rows: (0..rows).map(|_| AtomicU8::new(0)).collect(),
            ..Self::default()
        }
    }

    /// Whether a row is written.
    #[must_use]
    pub fn is_done(&self, row: usize) -> bool {
        self.rows[row].load(Ordering::Acquire) == DONE
    }

    fn is_started(&self, row: usize) -> bool {
        self.rows[row].load(Ordering::Relaxed) != 0
    }

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
        self.overdue.load(Ordering::Relaxed)
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
    use crate::Metric;
    use std::net::Ipv4Addr;

    struct Moody {
        columns: Arc<Columns>,
        ok: Metric,
    }

    #[async_trait]
    impl Scraper for Moody {
        fn columns(&self) -> &Arc<Columns> {
            &self.columns
        }
        async fn scrape(&self, target: &Target, row: Row<'_>) -> Result<(), ScrapeError> {
            match target.ip() {
                "127.0.0.1" => panic!("moody"),
                "127.0.0.2" => Err(ScrapeError::Timeout),
                "127.0.0.3" => {
                    row.set(self.ok, 0.0);
                    std::future::pending().await
                }
                _ => {
                    row.set(self.ok, 1.0);
                    Ok(())
                }
            }
        }
    }

    fn moody() -> Moody {
        let mut columns = Columns::builder();
        let ok = columns.gauge("ok", "");
        Moody {
            columns: columns.build().unwrap(),
            ok,
        }
    }

    fn batch(scraper: &Moody, rows: u8) -> Batch {
        let targets: Arc<[Target]> = (1..=rows)
            .map(|n| Target::from_ip(Ipv4Addr::new(127, 0, 0, n).into()))
            .collect();
        let table = Arc::new(Table::new(scraper.columns.clone(), rows.into()));
        let deadline = tokio::time::Instant::now().into_std() + Duration::from_secs(3);
        Batch::new(targets, table, deadline)
    }

    #[tokio::test(start_paused = true)]
    async fn a_failing_target_leaves_other_rows_filled() {
        let moody = moody();
        let mut batch = batch(&moody, 9);
        batch.concurrency = 2;
        moody.scrape_batch(&batch).await.unwrap();
        let measured = (0..9)
            .filter(|&row| batch.row(row).get(moody.ok) == Some(1.0))
            .count();
        assert_eq!(measured, 6);
        let progress = batch.progress();
        assert_eq!((progress.errors(), progress.panics()), (1, 1));
        assert!(progress.overdue());
        assert_eq!(batch.unfinished().collect::<Vec<_>>(), [2]);
        assert_eq!(
            progress.first().unwrap(),
            "127.0.0.1 (127.0.0.1): the scraper panicked: moody"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_written_before_a_timeout_is_cleared() {
        let moody = moody();
        let mut batch = batch(&moody, 3);
        batch.target_timeout = Some(Duration::from_secs(1));
        moody.scrape_batch(&batch).await.unwrap();
        assert!(batch.unfinished().next().is_none());
        assert_eq!(batch.row(2).get(moody.ok), None);
        assert_eq!(batch.progress().errors(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_of_some_rows_measures_no_others() {
        let moody = moody();
        let batch = batch(&moody, 9).only(Arc::new([4, 8]));
        moody.scrape_batch(&batch).await.unwrap();
        let measured: Vec<usize> = (0..9)
            .filter(|&row| batch.row(row).get(moody.ok).is_some())
            .collect();
        assert_eq!(measured, [4, 8]);
        assert!(batch.all_started() && batch.unfinished().next().is_none());
    }
}
