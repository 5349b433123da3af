//! A peer made of bytes, for fuzzers and for the tests of their seeds: it says them whatever it is told, and ends. No I/O.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How often a future is polled that waits for nothing but a [`Replay`]: what is still not done then never will be.
const MOST_POLLS: usize = 1 << 20;

/// A connection to such a peer.
#[derive(Debug)]
pub(crate) struct Replay {
    said: Vec<u8>,
    at: usize,
    /// Bytes that come at once, at the most.
    chunk: usize,
}

impl Replay {
    /// The first byte says how many bytes come at once; the rest is what the peer says.
    pub(crate) fn new(data: &[u8]) -> Self {
        let (chunk, said) = data.split_first().unwrap_or((&0, &[]));
        Self {
            said: said.to_vec(),
            at: 0,
            chunk: match *chunk {
                0 => usize::MAX,
                chunk => usize::from(chunk),
            },
        }
    }

    /// What has been read.
    pub(crate) fn read(&self) -> &[u8] {
        &self.said[..self.at]
    }
}

impl AsyncRead for Replay {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let left = self.said.len() - self.at;
        let count = left.min(self.chunk).min(buffer.remaining());
        buffer.put_slice(&self.said[self.at..self.at + count]);
        self.at += count;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Replay {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(data.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Runs a future that waits for nothing but a [`Replay`] to its end.
///
/// # Panics
/// When it does not end.
pub(crate) fn to_its_end<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let mut cx = Context::from_waker(Waker::noop());
    for _ in 0..MOST_POLLS {
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return output;
        }
    }
    panic!("the peer has said all it has to say, and somebody still waits");
}
