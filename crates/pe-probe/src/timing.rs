//! When something happened, rather than when its task ran.
//!
//! Hundreds of probes share a task, and one of them may be in a TLS handshake when the answer of another arrives. The runtime's
//! I/O driver wakes a future as soon as the kernel has told it of an event, and that is the moment which counts.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;

/// What a future yielded, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timed<T> {
    /// What it yielded.
    pub output: T,
    /// When the event was known that let it end.
    pub at: Instant,
    /// Whether it ended without waiting for anything.
    pub at_once: bool,
}

/// Runs `future` and tells when the event was known that let it end.
///
/// # Cancel safety
/// As `future`.
pub async fn timed<F: Future>(future: F) -> Timed<F::Output> {
    Stamped {
        stamp: None,
        future,
    }
    .await
}

pin_project_lite::pin_project! {
    struct Stamped<F> {
        stamp: Option<Arc<Stamp>>,
        #[pin]
        future: F,
    }
}

/// Notes when it is woken, and passes that on.
struct Stamp(Mutex<Woken>);

struct Woken {
    at: Option<Instant>,
    waker: Waker,
}

impl Wake for Stamp {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let mut woken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        woken.at.get_or_insert_with(Instant::now);
        woken.waker.wake_by_ref();
    }
}

impl<F: Future> Future for Stamped<F> {
    type Output = Timed<F::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let at_once = this.stamp.is_none();
        let stamp = this.stamp.get_or_insert_with(|| {
            Arc::new(Stamp(Mutex::new(Woken {
                at: None,
                waker: cx.waker().clone(),
            })))
        });
        let at = {
            let mut woken = stamp.0.lock().unwrap_or_else(PoisonError::into_inner);
            woken.waker.clone_from(cx.waker());
            woken.at.take()
        };
        let waker = Waker::from(stamp.clone());
        let output = this.future.poll(&mut Context::from_waker(&waker));
        output.map(|output| Timed {
            output,
            at: at.unwrap_or_else(Instant::now),
            at_once,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn the_time_is_that_of_the_event_and_not_of_the_task() {
        let (send, receive) = tokio::sync::oneshot::channel();
        let mut waiting = Box::pin(timed(receive));
        assert!(futures_util::FutureExt::now_or_never(&mut waiting).is_none());
        send.send(7).unwrap();
        let sent = Instant::now();
        // The task is busy with something else.
        while sent.elapsed() < Duration::from_millis(20) {}
        let timed = waiting.await;
        assert_eq!((timed.output, timed.at_once), (Ok(7), false));
        assert!(timed.at <= sent);
    }

    #[tokio::test]
    async fn what_needs_not_wait_is_told_so() {
        assert!(timed(async { 1 }).await.at_once);
    }
}
