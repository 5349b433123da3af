//! The engine's tasks that live long: one that panics is told of, counted, and started again.

use pe_scrape::{TaskFailure, supervise};
use tokio::sync::watch;
use tracing::error;

use crate::metrics::EngineMetrics;
use crate::schedule::stopped;

/// What a task is called in logs, and by its kind in metrics.
#[derive(Clone, Copy)]
pub(crate) struct TaskName<'a> {
    pub(crate) kind: &'static str,
    /// The group that it works for, if it does.
    pub(crate) group: Option<&'a str>,
    /// The sink that it works for, if it does.
    pub(crate) sink: Option<&'a str>,
}

impl TaskName<'_> {
    /// A task of the engine as a whole.
    pub(crate) fn of_engine(kind: &'static str) -> Self {
        Self {
            kind,
            group: None,
            sink: None,
        }
    }
}

/// Runs what `start` gives until that ends, or until `stop` becomes true while it waits to be started again.
pub(crate) async fn keep_running<F: Future<Output = ()>>(
    name: TaskName<'_>,
    metrics: &EngineMetrics,
    stop: watch::Receiver<bool>,
    mut start: impl FnMut() -> F,
) {
    let restarts = metrics.restarts.of(name.kind);
    let start = || {
        let run = start();
        async {
            run.await;
            Ok(())
        }
    };
    let failed = |failure: &TaskFailure<'_>| {
        restarts.add(1);
        error!(
            task = name.kind,
            group = name.group,
            sink = name.sink,
            error = failure.reason,
            pause = ?failure.pause,
            "a task panicked; it is started again after a pause"
        );
    };
    supervise(start, failed, stopped(stop)).await;
}
