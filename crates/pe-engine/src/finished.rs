//! A subscription to finished cycles.

use std::sync::Arc;

use pe_scrape::CycleReport;

use crate::queue::{Item, ReportQueue};

/// Finished cycles of all groups, from the moment of [`Results::subscribe`](crate::Results::subscribe) on.
///
/// A slow reader delays no cycle: at most 4 reports of each group wait, the oldest one is left out for a fifth.
#[derive(Debug)]
pub struct Finished {
    queue: Arc<ReportQueue>,
}

impl Finished {
    pub(crate) fn new(queue: Arc<ReportQueue>) -> Self {
        Self { queue }
    }

    /// The next finished cycle; `None` once the engine has ended or was dropped, and all reports before that were read.
    ///
    /// # Cancel safety
    /// No report is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<Arc<CycleReport>> {
        loop {
            match self.queue.next().await? {
                Item::Report(report) => return Some(report),
                Item::Retain(_) => {}
            }
        }
    }

    /// How many reports were left out so far since they were not read in time.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.queue.skipped()
    }
}
