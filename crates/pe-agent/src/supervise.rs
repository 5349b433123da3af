//! Starting parts of the program again when they end.

use std::future::{Future, pending};

use pe_scrape::{TaskFailure, panic_message, supervise};
use tokio::task::{JoinError, JoinSet};
use tracing::error;

use crate::metrics::AgentMetrics;

/// Runs what `start` makes, again and again, and counts the restarts.
///
/// # Cancel safety
/// The part is aborted when the future is dropped.
pub(crate) async fn keep_running<F>(
    task: &'static str,
    metrics: &AgentMetrics,
    mut start: impl FnMut() -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    // Shown from the start.
    let restarts = metrics.restarts.of(task);
    let run = || {
        let mut running = JoinSet::new();
        running.spawn(start());
        async move {
            Err(match running.join_next().await {
                Some(Err(error)) => why(error),
                _ => "it ended by itself".to_owned(),
            })
        }
    };
    let failed = |failure: &TaskFailure<'_>| {
        restarts.add(1);
        error!(
            task,
            error = failure.reason,
            pause = ?failure.pause,
            "a task ended and is started again after a pause"
        );
    };
    supervise(run, failed, pending()).await;
}

/// Why a task ended early, in the words of its panic where it was one.
pub(crate) fn why(error: JoinError) -> String {
    match error.try_into_panic() {
        Ok(panic) => format!("it panicked: {}", panic_message(&*panic)),
        Err(error) => error.to_string(),
    }
}
