//! A driver that panics is replaced: one fault must not end all measurements. As [`pe_scrape::supervise`] does for tasks, for a
//! thread that has no runtime.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use pe_scrape::{Backoff, panic_message, with_causes};
use tracing::error;

use super::{Driver, Shared};
use crate::OpenError;

/// Runs `driver` until the last handle is gone. After a panic another one is opened, with pauses as [`Backoff`] has them; what was
/// under way ends, and so does what is submitted in a pause.
pub(crate) fn supervise(
    shared: &Arc<Shared>,
    driver: Driver,
    open: impl Fn() -> Result<Driver, OpenError>,
) {
    let _closes_the_queue = shared.guard();
    let mut next = Some(driver);
    let mut backoff = Backoff::default();
    loop {
        let started = Instant::now();
        let run = || next.take().map_or_else(&open, Ok).map(Driver::run);
        let reason = match catch_unwind(AssertUnwindSafe(run)) {
            Ok(Ok(())) => return,
            Ok(Err(error)) => with_causes(&error),
            Err(panic) => panic_message(&*panic).to_owned(),
        };
        let pause = backoff.failed_after(started.elapsed());
        shared.restarts.add(1);
        // Telling of it may panic too.
        let _ = catch_unwind(|| {
            error!(
                reason,
                pause = ?pause,
                "the ICMP thread failed, and is started again"
            );
        });
        if !shared.refuse_for(pause) {
            return;
        }
    }
}
