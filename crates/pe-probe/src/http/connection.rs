//! What keeps a connection going while somebody waits for something on it, in the same task.
//!
//! Both sides of a connection wake each other while they are polled. Told to the runtime, each of these would be one more turn of the
//! whole batch, mostly on another thread; they are noted here, and what was woken is polled again at once.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use futures_util::task::AtomicWaker;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::rt::{Executor, Read, Write};
use hyper::{Request, Response};

/// Bytes of the head of an answer.
const MOST_HEAD: usize = 65_536;

/// How often is polled again at once, before others get their turn.
const ROUNDS: usize = 32;

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What keeps a connection going: polled together with whoever waits for something on it.
#[derive(Default)]
pub(super) struct Connection {
    tasks: FuturesUnordered<Task>,
    new: NewTasks,
    wakes: Arc<Wakes>,
}

/// Tasks that HTTP/2 wants to run, to be taken up by the [`Connection`].
#[derive(Clone, Default)]
struct NewTasks(Arc<Mutex<Vec<Task>>>);

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for NewTasks {
    fn execute(&self, future: F) {
        let mut tasks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.push(Box::pin(future));
    }
}

/// Passes on to the task what wakes a part of it, but for what comes while it is polled.
#[derive(Default)]
struct Wakes {
    task: AtomicWaker,
    is_polled: AtomicBool,
    is_woken: AtomicBool,
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.is_woken.store(true, Ordering::SeqCst);
        // Whoever polls looks again after it has said that it does not.
        if !self.is_polled.load(Ordering::SeqCst) {
            self.task.wake();
        }
    }
}

impl Wakes {
    /// Polls until nothing is woken by it any more.
    fn poll<T>(
        self: &Arc<Self>,
        cx: &Context<'_>,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        self.task.register(cx.waker());
        let waker = Waker::from(self.clone());
        self.is_polled.store(true, Ordering::SeqCst);
        let mut polled = Poll::Pending;
        for _ in 0..ROUNDS {
            self.is_woken.store(false, Ordering::SeqCst);
            polled = poll(&mut Context::from_waker(&waker));
            if polled.is_ready() || !self.is_woken.load(Ordering::SeqCst) {
                break;
            }
        }
        self.is_polled.store(false, Ordering::SeqCst);
        if polled.is_pending() && self.is_woken.load(Ordering::SeqCst) {
            cx.waker().wake_by_ref();
        }
        polled
    }
}

impl Connection {
    /// Sends a request, and returns the head of its answer.
    pub(super) async fn ask(
        &mut self,
        io: impl Read + Write + Send + Unpin + 'static,
        request: Request<Full<Bytes>>,
        is_two: bool,
    ) -> hyper::Result<Response<Incoming>> {
        if is_two {
            let mut builder = http2::Builder::new(self.new.clone());
            builder.max_header_list_size(MOST_HEAD as u32);
            let handshake = builder.handshake(io);
            let (mut sender, connection) = self.drive(handshake).await?;
            self.tasks
                .push(Box::pin(async move { drop(connection.await) }));
            let response = sender.send_request(request);
            return self.drive(response).await;
        }
        let mut builder = http1::Builder::new();
        builder.max_buf_size(MOST_HEAD);
        let (mut sender, connection) = builder.handshake(io).await?;
        self.tasks
            .push(Box::pin(async move { drop(connection.await) }));
        let response = sender.send_request(request);
        self.drive(response).await
    }

    /// Waits for `future` and keeps the connection going meanwhile.
    pub(super) async fn drive<F: Future>(&mut self, future: F) -> F::Output {
        let mut future = std::pin::pin!(future);
        let Self { tasks, new, wakes } = self;
        poll_fn(|cx| {
            wakes.poll(cx, |cx| {
                loop {
                    if let Poll::Ready(output) = future.as_mut().poll(cx) {
                        return Poll::Ready(output);
                    }
                    let mut is_idle = true;
                    while let Poll::Ready(Some(())) = tasks.poll_next_unpin(cx) {
                        is_idle = false;
                    }
                    let mut new = new.0.lock().unwrap_or_else(PoisonError::into_inner);
                    for task in new.drain(..) {
                        tasks.push(task);
                        is_idle = false;
                    }
                    if is_idle {
                        return Poll::Pending;
                    }
                }
            })
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn what_is_woken_while_it_is_polled_costs_the_task_no_turn() {
        let (count, wakes) = (Arc::new(Count::default()), Arc::new(Wakes::default()));
        let waker = Waker::from(count.clone());
        let cx = Context::from_waker(&waker);
        let mut times = 0;
        let mut kept = None;
        let polled = wakes.poll(&cx, |cx| {
            times += 1;
            if times < 5 {
                cx.waker().wake_by_ref();
            }
            kept = Some(cx.waker().clone());
            Poll::<()>::Pending
        });
        assert!(polled.is_pending());
        assert_eq!((times, count.0.load(Ordering::SeqCst)), (5, 0));
        // What comes later does.
        kept.unwrap().wake();
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
        // So does what never ends, so that others get their turn.
        let polled = wakes.poll(&cx, |cx| {
            cx.waker().wake_by_ref();
            Poll::<()>::Pending
        });
        assert!(polled.is_pending());
        assert_eq!(count.0.load(Ordering::SeqCst), 2);
    }
}
