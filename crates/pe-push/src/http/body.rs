//! Bodies of requests: bytes, or pieces that are made while they are sent; slowed down where there is a budget.

use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use super::Budget;

/// Bytes that leave at one time where there is a budget: small enough that a slow link is used evenly.
const PIECE: usize = 4096;

/// What a request carries.
#[derive(Clone)]
pub(crate) struct Body {
    pub(crate) content: Content,
    pub(crate) content_type: &'static str,
    /// The coding of the content, such as `gzip`.
    pub(crate) content_encoding: Option<&'static str>,
}

impl Body {
    /// Bytes without a coding.
    pub(crate) fn new(content: impl Into<Bytes>, content_type: &'static str) -> Self {
        Self {
            content: Content::Whole(content.into()),
            content_type,
            content_encoding: None,
        }
    }
}

/// A body that is made while it is sent.
pub(crate) type StreamedBody = UnsyncBoxBody<Bytes, BoxError>;
type BoxError = Box<dyn Error + Send + Sync>;

/// Content of a body.
#[derive(Clone)]
pub(crate) enum Content {
    /// All of it.
    Whole(Bytes),
    /// Makes it, anew for each try; `length` bytes.
    Streamed {
        make: Arc<dyn Fn() -> StreamedBody + Send + Sync>,
        length: u64,
    },
}

/// How long the requests of one exchange have waited for the budget.
#[derive(Debug, Clone, Default)]
pub(super) struct Paused(Arc<AtomicU64>);

impl Paused {
    pub(super) fn total(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }

    pub(super) fn add(&self, pause: Duration) {
        let nanos = u64::try_from(pause.as_nanos()).unwrap_or(u64::MAX);
        self.0.fetch_add(nanos, Ordering::Relaxed);
    }
}

/// A body on its way.
pub(super) struct Outgoing {
    source: Source,
    /// Taken from the source, and still to be sent.
    rest: Bytes,
    /// A piece that waits for the budget.
    held: Option<(Bytes, Pin<Box<Sleep>>)>,
    budget: Option<Arc<Budget>>,
    paused: Paused,
}

enum Source {
    Whole(Bytes),
    Streamed {
        body: StreamedBody,
        /// Bytes that are still to come out of it.
        left: u64,
    },
}

impl Outgoing {
    pub(super) fn new(
        content: Option<&Content>,
        budget: Option<Arc<Budget>>,
        paused: Paused,
    ) -> Self {
        let source = match content {
            None => Source::Whole(Bytes::new()),
            Some(Content::Whole(bytes)) => Source::Whole(bytes.clone()),
            Some(Content::Streamed { make, length }) => Source::Streamed {
                body: make(),
                left: *length,
            },
        };
        Self {
            source,
            rest: Bytes::new(),
            held: None,
            budget,
            paused,
        }
    }
}

impl Source {
    /// The next bytes, never empty ones.
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, BoxError>>> {
        match self {
            Self::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Whole(bytes) => Poll::Ready(Some(Ok(std::mem::take(bytes)))),
            Self::Streamed { body, left } => loop {
                match ready!(Pin::new(&mut *body).poll_frame(context)) {
                    None => return Poll::Ready(None),
                    Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                    Some(Ok(frame)) => match frame.into_data() {
                        Ok(data) if !data.is_empty() => {
                            *left = left.saturating_sub(data.len() as u64);
                            return Poll::Ready(Some(Ok(data)));
                        }
                        _ => {}
                    },
                }
            },
        }
    }
}

impl HttpBody for Outgoing {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        loop {
            if let Some((piece, pause)) = &mut self.held {
                ready!(pause.as_mut().poll(context));
                let piece = std::mem::take(piece);
                self.held = None;
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            if self.rest.is_empty() {
                match ready!(self.source.poll_next(context)) {
                    Some(Ok(data)) => self.rest = data,
                    Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                    None => return Poll::Ready(None),
                }
            }
            let Some(budget) = &self.budget else {
                let all = std::mem::take(&mut self.rest);
                return Poll::Ready(Some(Ok(Frame::data(all))));
            };
            let (now, length) = (Instant::now(), self.rest.len().min(PIECE));
            let pause = budget.take(now.into_std(), length);
            self.paused.add(pause);
            let piece = self.rest.split_to(length);
            if pause.is_zero() {
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            self.held = Some((piece, Box::pin(sleep_until(now + pause))));
        }
    }

    fn is_end_stream(&self) -> bool {
        let is_empty = self.rest.is_empty() && self.held.is_none();
        is_empty
            && match &self.source {
                Source::Whole(bytes) => bytes.is_empty(),
                Source::Streamed { left, .. } => *left == 0,
            }
    }

    fn size_hint(&self) -> SizeHint {
        let held = self.held.as_ref().map_or(0, |(piece, _)| piece.len());
        let left = match &self.source {
            Source::Whole(bytes) => bytes.len() as u64,
            Source::Streamed { left, .. } => *left,
        };
        SizeHint::with_exact(left + (self.rest.len() + held) as u64)
    }
}
