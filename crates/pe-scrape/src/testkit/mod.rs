//! Checks for any scraper, for the tests of the crate that holds it, and a scraper for the tests of others. Behind the
//! feature `testkit`.

mod yields;

use std::sync::Arc;
use std::time::{Duration, Instant};

pub use yields::Yields;

use crate::{Batch, Frame, Scraper, ScraperFactory, ScraperSettings, Table, Target};

/// How much later than its deadline a batch may return: the engine's own margin.
const MARGIN: Duration = Duration::from_secs(1);

/// Measures `targets` once with `scraper`, and returns what a cycle would publish.
///
/// # Panics
/// When the batch fails as a whole.
pub async fn measure(scraper: &dyn Scraper, targets: Vec<Target>, within: Duration) -> Frame {
    let (batch, result) = run(scraper, targets.into(), within).await;
    result.expect("the batch was measured");
    freeze(&batch)
}

async fn run(
    scraper: &dyn Scraper,
    targets: Arc<[Target]>,
    within: Duration,
) -> (Batch, Result<(), crate::ScrapeError>) {
    let table = Arc::new(Table::new(scraper.columns().clone(), targets.len()));
    let now = tokio::time::Instant::now().into_std();
    let batch = Batch::new(targets, table, now + within);
    let result = scraper.scrape_batch(&batch).await;
    (batch, result)
}

fn freeze(batch: &Batch) -> Frame {
    let rows = batch.targets().map(|(_, target)| target.labels().clone());
    Frame::freeze(batch.table(), rows.collect(), std::time::SystemTime::now())
}

/// Checks what an engine relies on, with real `targets`: some that answer, and some that never do.
///
/// - The columns are the same each time they are asked for, before and after a measurement, and the same as the factory
///   describes them.
/// - A batch writes the rows of its own targets, and no others.
/// - A batch returns by its deadline, whoever does not answer.
/// - A measurement that is dropped halfway leaves a scraper that works.
///
/// # Panics
/// With what is wrong, when something is.
pub async fn check(factory: &dyn ScraperFactory, settings: &ScraperSettings, targets: Vec<Target>) {
    let scraper = factory
        .create(settings)
        .expect("the factory makes a scraper of these settings");
    let described = factory
        .describe(settings)
        .expect("the factory describes a scraper of these settings");
    let columns = scraper.columns().clone();
    assert_eq!(
        described, columns,
        "the factory describes other columns than the scraper has"
    );
    let targets: Arc<[Target]> = targets.into();
    let within = settings.longest_cycle() + MARGIN;

    let started = Instant::now();
    let (batch, result) = run(&*scraper, targets.clone(), within).await;
    result.expect("the batch was measured");
    assert!(
        started.elapsed() <= within + MARGIN,
        "a batch took {:?}, and had to be done in {within:?}",
        started.elapsed()
    );
    assert!(
        Arc::ptr_eq(scraper.columns(), &columns) || *scraper.columns() == columns,
        "the columns changed while the scraper measured"
    );
    assert_eq!(
        freeze(&batch).rows().len(),
        targets.len(),
        "a row for each target"
    );

    // Only the last target: the rows of the others stay as they are.
    if targets.len() > 1 {
        let table = Arc::new(Table::new(columns.clone(), targets.len()));
        let empty = Frame::freeze(&table, rows(&targets), std::time::UNIX_EPOCH);
        let deadline = tokio::time::Instant::now().into_std() + within;
        let last = targets.len() as u32 - 1;
        let batch = Batch::new(targets.clone(), table.clone(), deadline).only(Arc::new([last]));
        let _ = scraper.scrape_batch(&batch).await;
        let frame = Frame::freeze(&table, rows(&targets), std::time::UNIX_EPOCH);
        for row in 0..targets.len() - 1 {
            for metric in 0..columns.descriptors().len() {
                assert!(
                    frame.cell(row, metric) == empty.cell(row, metric),
                    "a batch of one target wrote into the row of another: {}",
                    columns.descriptors()[metric].name()
                );
            }
        }
    }

    // Dropped as soon as it waits for the first time, and measured again.
    let halfway = run(&*scraper, targets.clone(), within);
    let _ = tokio::time::timeout(Duration::ZERO, halfway).await;
    let (_, again) = run(&*scraper, targets, within).await;
    again.expect("a batch after one that was dropped");
}

fn rows(targets: &[Target]) -> Arc<[crate::LabelSet]> {
    targets
        .iter()
        .map(|target| target.labels().clone())
        .collect()
}
