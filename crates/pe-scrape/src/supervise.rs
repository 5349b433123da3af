//! Starting a task again that failed. What is counted and logged, and when to stop, is the caller's.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{Either, select};
use tokio::time::{Instant, sleep};

use crate::{Backoff, panic_message};

/// A task that failed and is about to be started again.
#[derive(Debug)]
#[non_exhaustive]
pub struct TaskFailure<'a> {
    /// Why: the words of its panic, or what it ended with.
    pub reason: &'a str,
    /// When it is started again.
    pub pause: Duration,
}

/// Runs what `start` gives until that ends with `Ok`. When it panics or ends with a reason, `failed` is told, and it is
/// started again after a pause as [`Backoff`] has it, unless `stopped` ends first. A run that lasted longer than
/// [`Backoff::LONGEST`] begins with the shortest pause again. A panic of `failed` changes nothing.
///
/// It needs a tokio runtime with its timer.
///
/// # Cancel safety
/// The task ends with the future.
pub async fn supervise<F: Future<Output = Result<(), String>>>(
    mut start: impl FnMut() -> F,
    mut failed: impl FnMut(&TaskFailure<'_>),
    stopped: impl Future<Output = ()>,
) {
    let mut stopped = pin!(stopped);
    let mut backoff = Backoff::default();
    loop {
        let started = Instant::now();
        let run = AssertUnwindSafe(async { start().await });
        let reason = match run.catch_unwind().await {
            Ok(Ok(())) => return,
            Ok(Err(reason)) => reason,
            Err(panic) => panic_message(&*panic).to_owned(),
        };
        let pause = backoff.failed_after(started.elapsed());
        let failure = TaskFailure {
            reason: &reason,
            pause,
        };
        // Telling of it may be what panics, and the panic's hook has told of that.
        let _ = catch_unwind(AssertUnwindSafe(|| failed(&failure)));
        let pause = pin!(sleep(pause));
        if let Either::Left(_) = select(stopped.as_mut(), pause).await {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_task_that_fails_is_started_again_later_and_later_until_it_ends() {
        let began = Instant::now();
        let (mut starts, mut told) = (Vec::new(), Vec::new());
        let start = || {
            starts.push(began.elapsed().as_secs());
            let run = starts.len();
            async move {
                match run {
                    2 => return Err("cannot begin".to_owned()),
                    9 => sleep(Duration::from_secs(100)).await,
                    11 => return Ok(()),
                    _ => {}
                }
                panic!("run {run}");
            }
        };
        let failed = |failure: &TaskFailure<'_>| {
            told.push(format!("{} {:?}", failure.reason, failure.pause));
            panic!("cannot even tell");
        };
        supervise(start, failed, pending()).await;
        assert_eq!(starts, [0, 1, 3, 7, 15, 31, 63, 123, 183, 284, 286]);
        assert_eq!(told.len(), 10);
        assert_eq!(told[..3], ["run 1 1s", "cannot begin 2s", "run 3 4s"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_ends_the_pause() {
        let began = Instant::now();
        let stop = sleep(Duration::from_millis(300));
        supervise(|| async { panic!("as always") }, |_| {}, stop).await;
        assert_eq!(began.elapsed().as_millis(), 300);
    }
}
