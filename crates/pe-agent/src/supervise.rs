//! Starting parts of the program again when they end.

use std::future::Future;
use std::time::{Duration, Instant};

use pe_scrape::panic_message;
use tokio::task::{JoinError, JoinSet};
use tracing::error;

use crate::metrics::AgentMetrics;

/// The first pause before a part is started again.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Runs what `start` makes, again and again, and counts the restarts. The pauses between double while it ends soon after its
/// start.
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
    let mut pause = FIRST_PAUSE;
    loop {
        let mut running = JoinSet::new();
        running.spawn(start());
        let started = Instant::now();
        let ended = running.join_next().await;
        if started.elapsed() > LONGEST_PAUSE {
            pause = FIRST_PAUSE;
        }
        let reason = match ended {
            Some(Err(error)) => why(error),
            _ => "it ended by itself".to_owned(),
        };
        error!(
            task,
            error = reason,
            pause_seconds = pause.as_secs(),
            "a task ended and is started again after a pause"
        );
        tokio::time::sleep(pause).await;
        restarts.add(1);
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Why a task ended early, in the words of its panic where it was one.
pub(crate) fn why(error: JoinError) -> String {
    match error.try_into_panic() {
        Ok(panic) => format!("it panicked: {}", panic_message(&*panic)),
        Err(error) => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_part_that_panics_is_started_again_with_growing_pauses() {
        let starts = Arc::new(AtomicU32::new(0));
        let (counted, metrics) = (starts.clone(), AgentMetrics::default());
        let part = keep_running("test", &metrics, move || {
            let counted = counted.clone();
            async move {
                counted.fetch_add(1, Ordering::SeqCst);
                panic!("as always");
            }
        });
        // Started at 0, 1, 3, 7 and 15 seconds.
        let _ = tokio::time::timeout(Duration::from_secs(16), part).await;
        assert_eq!(starts.load(Ordering::SeqCst), 5);
        assert_eq!(metrics.restarts.of("test").get(), 4);
    }
}
