//! Where finished cycles go.

use std::error::Error;
use std::sync::Arc;

use async_trait::async_trait;

use crate::{CycleReport, Frame};

/// A place that finished cycles are handed to: a Pushgateway, a remote-write endpoint, a file.
///
/// A sink does its own waiting: [`publish`](Self::publish) must return at once, so that a slow peer never delays a
/// measurement. A sink decides for itself whether it keeps every report or only the latest.
#[async_trait]
pub trait Sink: Send + Sync + 'static {
    /// Takes a finished cycle. Must not block.
    fn publish(&self, report: Arc<CycleReport>);

    /// Tells which groups are in force after a reload. What came from others is to be forgotten, and withdrawn where the
    /// peer keeps it. Must not block.
    fn retain(&self, groups: &[Arc<str>]) {
        let _ = groups;
    }

    /// Hands on whatever is still pending. Called at shutdown and after a single cycle; the engine bounds the time and
    /// drops the future then.
    ///
    /// # Cancel safety
    /// What was not delivered must stay pending when the future is dropped.
    ///
    /// # Errors
    /// What kept the latest results from arriving, if they did not.
    async fn flush(&self) -> Result<(), Box<dyn Error + Send + Sync>> {
        Ok(())
    }

    /// The sink's own metrics, named `pingexporter_…`. The engine adds the sink's name to them, as the label `sink`.
    fn metrics(&self) -> Vec<Frame> {
        Vec::new()
    }
}
