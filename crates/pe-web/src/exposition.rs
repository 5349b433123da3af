//! `/metrics`: the latest results, streamed from their frames.
//!
//! A thread of the blocking pool writes, a piece at a time, and waits while the client has not taken the one before. So a
//! reader costs some pieces of memory and the frames that it started with, however many series there are and however slowly
//! it reads. One thread writes at one time, which leaves the other processor to the measurements.
//!
//! A reader keeps the results that it started with, which newer ones have replaced meanwhile. So that eight slow ones do not
//! keep those of as many cycles, each has its time.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, VARY};
use axum::http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::stream;
use pe_engine::EngineHandle;
use pe_scrape::exposition::{Format, negotiate};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, timeout_at};
use tracing::debug;

use crate::respond;

/// Bytes that are handed to a connection at one time.
const PIECE: usize = 64 << 10;

/// Expositions under way at one time.
const READERS: usize = 8;

/// How long a client may take to read everything. Prometheus waits for 10 s unless it is set otherwise.
const TIME: Duration = Duration::from_secs(30);

/// What bounds expositions. Cloning is cheap.
#[derive(Debug, Clone)]
pub(crate) struct Expositions {
    readers: Arc<Semaphore>,
    writing: Arc<Semaphore>,
}

impl Default for Expositions {
    fn default() -> Self {
        Self {
            readers: Arc::new(Semaphore::new(READERS)),
            writing: Arc::new(Semaphore::new(1)),
        }
    }
}

impl Expositions {
    /// The latest results in the format that the request asks for, or 503 while too many others are read.
    pub(crate) fn respond(
        &self,
        engine: EngineHandle,
        method: &Method,
        headers: &HeaderMap,
    ) -> Response<Body> {
        let format = negotiate(&joined(headers, ACCEPT.as_str()));
        let is_gzip = wants_gzip(&joined(headers, ACCEPT_ENCODING.as_str()));
        let body = if method == Method::HEAD {
            Body::empty()
        } else {
            let Ok(reader) = self.readers.clone().try_acquire_owned() else {
                return respond::busy("too many clients read the metrics at this time\n");
            };
            self.start(engine, format, is_gzip, reader)
        };
        let mut response = Response::new(body);
        *response.status_mut() = StatusCode::OK;
        let headers = response.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static(format.content_type()),
        );
        headers.insert(VARY, HeaderValue::from_static("accept, accept-encoding"));
        if is_gzip {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        response
    }

    fn start(
        &self,
        engine: EngineHandle,
        format: Format,
        is_gzip: bool,
        reader: OwnedSemaphorePermit,
    ) -> Body {
        let (sender, receiver) = mpsc::channel(1);
        let mut pieces = Pieces {
            buffer: Vec::new(),
            sender,
            writing: self.writing.clone(),
            turn: None,
            deadline: Instant::now() + TIME,
            runtime: Handle::current(),
        };
        tokio::task::spawn_blocking(move || {
            let _reader = reader;
            let written = if is_gzip {
                let mut gzip = GzEncoder::new(&mut pieces, Compression::fast());
                engine
                    .exposition_to(format, &mut gzip)
                    .and_then(|()| gzip.finish().map(drop))
            } else {
                engine.exposition_to(format, &mut pieces)
            };
            if let Err(error) = written.and_then(|()| pieces.finish()) {
                debug!(%error, "an exposition was not read to its end");
            }
        });
        Body::from_stream(stream::unfold(Some(receiver), |receiver| async move {
            let mut receiver = receiver?;
            match receiver.recv().await {
                Some(Piece::Bytes(bytes)) => Some((Ok(bytes), Some(receiver))),
                Some(Piece::End) => None,
                // The client must not take a part for the whole.
                None => Some((
                    Err(io::Error::other("the metrics were not read in time")),
                    None,
                )),
            }
        }))
    }
}

enum Piece {
    Bytes(Bytes),
    End,
}

/// Hands what is written on in pieces.
struct Pieces {
    buffer: Vec<u8>,
    sender: mpsc::Sender<Piece>,
    writing: Arc<Semaphore>,
    /// Held while this thread writes, never while it waits for its client.
    turn: Option<OwnedSemaphorePermit>,
    deadline: Instant,
    runtime: Handle,
}

impl Pieces {
    fn send(&mut self, piece: Piece) -> io::Result<()> {
        self.turn = None;
        // A timeout that is over does not keep what can be sent at once from being sent.
        if Instant::now() >= self.deadline {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let sending = timeout_at(self.deadline, self.sender.send(piece));
        match self.runtime.block_on(sending) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(io::ErrorKind::BrokenPipe.into()),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    fn finish(mut self) -> io::Result<()> {
        let rest = std::mem::take(&mut self.buffer);
        if !rest.is_empty() {
            self.send(Piece::Bytes(rest.into()))?;
        }
        self.send(Piece::End)
    }
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.turn.is_none() {
            let turn = self.writing.clone().acquire_owned();
            self.turn = self.runtime.block_on(turn).ok();
        }
        if self.buffer.capacity() == 0 {
            self.buffer.reserve_exact(PIECE);
        }
        let taken = bytes.len().min(PIECE - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..taken]);
        if self.buffer.len() == PIECE {
            let full = std::mem::take(&mut self.buffer);
            self.send(Piece::Bytes(full.into()))?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// All values of a header as one list.
fn joined(headers: &HeaderMap, name: &str) -> String {
    let values = headers.get_all(name).iter();
    let texts: Vec<&str> = values.filter_map(|value| value.to_str().ok()).collect();
    texts.join(",")
}

/// Whether `Accept-Encoding` names gzip with a weight above 0 (RFC 9110, section 12.5.3).
fn wants_gzip(accepted: &str) -> bool {
    accepted.split(',').any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let is_gzip = parts
            .next()
            .is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
        let weight = parts.find_map(|part| part.strip_prefix("q="));
        is_gzip
            && weight.is_none_or(|weight| weight.parse::<f64>().is_ok_and(|weight| weight > 0.0))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_used_when_asked_for() {
        for (accepted, expected) in [
            ("gzip", true),
            ("deflate, GZIP;q=0.5", true),
            ("gzip;q=0", false),
            ("identity", false),
            ("", false),
        ] {
            assert_eq!(wants_gzip(accepted), expected, "{accepted}");
        }
    }
}
