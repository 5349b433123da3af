//! A task that panics is told of, counted, and started again.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;
use pe_scrape::{Counter, panic_message};
use tokio::sync::watch;
use tracing::error;

use crate::schedule::now;

/// The pause before a task that panicked is started again: doubled each time, up to the second value.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// What is known of a task that lives long.
pub(crate) struct Supervised<'a> {
    /// What kind of task it is.
    pub(crate) task: &'static str,
    /// The group that it works for, if it does.
    pub(crate) group: Option<&'a str>,
    /// The sink that it works for, if it does.
    pub(crate) sink: Option<&'a str>,
    pub(crate) restarts: &'a Counter,
    /// Becomes true when it is not to be started again.
    pub(crate) stop: watch::Receiver<bool>,
}

/// Runs what `start` gives until that ends. When it panics, it is started again after a pause; one that ran for longer than
/// the longest pause begins with the shortest.
pub(crate) async fn supervise<F: Future<Output = ()>>(
    mut supervised: Supervised<'_>,
    mut start: impl FnMut() -> F,
) {
    let mut pause = PAUSE.0;
    loop {
        let began = now();
        let run = AssertUnwindSafe(async { start().await });
        let Err(panic) = run.catch_unwind().await else {
            return;
        };
        if now().duration_since(began) > PAUSE.1 {
            pause = PAUSE.0;
        }
        supervised.restarts.add(1);
        error!(
            task = supervised.task,
            group = supervised.group,
            sink = supervised.sink,
            error = panic_message(&*panic),
            pause = ?pause,
            "a task panicked; it is started again after a pause"
        );
        let stop = supervised.stop.wait_for(|stop| *stop);
        if tokio::time::timeout(pause, stop).await.is_ok() {
            return;
        }
        pause = (pause * 2).min(PAUSE.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_task_that_panics_is_started_again_later_and_later() {
        let restarts = Counter::default();
        let (_sender, stop) = watch::channel(false);
        let start = now();
        let mut starts = Vec::new();
        let supervised = Supervised {
            task: "cycle",
            group: Some("plant"),
            sink: None,
            restarts: &restarts,
            stop,
        };
        supervise(supervised, || {
            starts.push(now().duration_since(start).as_secs());
            let run = starts.len();
            async move {
                match run {
                    9 => tokio::time::sleep(Duration::from_secs(100)).await,
                    11 => return,
                    _ => {}
                }
                panic!("as always");
            }
        })
        .await;
        assert_eq!(starts, [0, 1, 3, 7, 15, 31, 63, 123, 183, 284, 286]);
        assert_eq!(restarts.get(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_ends_the_pause() {
        let (sender, stop) = watch::channel(false);
        let restarts = Counter::default();
        let start = now();
        let supervised = Supervised {
            task: "cycle",
            group: Some("plant"),
            sink: None,
            restarts: &restarts,
            stop,
        };
        let run = supervise(supervised, || async { panic!("as always") });
        let stop = async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            sender.send_replace(true);
        };
        tokio::join!(run, stop);
        assert_eq!(now().duration_since(start).as_millis(), 300);
    }
}
