//! Starting a task again that panicked.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;
use pe_scrape::panic_message;
use tokio::time::{Instant, sleep};

use super::Backoff;

/// Runs what `start` gives until that ends by itself. When it panics, `panicked` is told the panic's words, and it is
/// started again after a pause that grows while it panics soon after its start.
pub(crate) async fn supervise<F: Future<Output = ()>>(
    mut start: impl FnMut() -> F,
    mut panicked: impl FnMut(&str),
) {
    let mut backoff = Backoff::default();
    loop {
        let started = Instant::now();
        let run = AssertUnwindSafe(async { start().await });
        let Err(panic) = run.catch_unwind().await else {
            return;
        };
        if started.elapsed() > Backoff::LONGEST {
            backoff.reset();
        }
        backoff.failed();
        // Telling of it may be what panics.
        let told = std::panic::catch_unwind(AssertUnwindSafe(|| panicked(panic_message(&*panic))));
        drop(told);
        sleep(backoff.random_pause().unwrap_or_default()).await;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_task_that_panics_is_started_again_until_it_ends() {
        let starts = Cell::new(0);
        let told = RefCell::new(Vec::new());
        let began = Instant::now();
        let start = || async {
            starts.set(starts.get() + 1);
            assert!(starts.get() > 3, "start {}", starts.get());
        };
        supervise(start, |words| {
            told.borrow_mut().push(words.to_owned());
            panic!("cannot even tell");
        })
        .await;
        assert_eq!(*told.borrow(), ["start 1", "start 2", "start 3"]);
        // 1, 2 and 4 seconds, less up to half of each.
        let pauses = began.elapsed();
        assert!(pauses >= Duration::from_millis(3500) && pauses <= Duration::from_millis(7100));
    }
}
