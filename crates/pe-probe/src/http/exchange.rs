//! One request on a connection of its own, and its answer within bounds.
//!
//! The connection is driven by whoever waits for the answer, in the same task: it ends when the future is dropped.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use flate2::write::GzDecoder;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_ENCODING, HOST, HeaderMap, HeaderValue, PROXY_AUTHORIZATION};
use hyper::{Method, Request, StatusCode, Version};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::PHASES;
use super::connection::Connection;
use super::place::Place;
use super::proxy::Proxy;
use super::settings::HttpVersion;
use crate::probe::PhaseHandle;
use crate::tls::{TlsClient, handshake_failure};
use crate::{Asked, Failure, Phase, Reason, connect, timed};

/// What is read of an answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Bytes of the body, packed and unpacked.
    pub(crate) max_bytes: usize,
    /// Whether the body is kept.
    pub(crate) keeps_body: bool,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) version: Version,
    pub(crate) headers: HeaderMap,
    /// Unpacked; empty where it is not kept.
    pub(crate) body: Vec<u8>,
    /// Bytes of the body as they came.
    pub(crate) bytes: usize,
    pub(crate) unpacked_bytes: usize,
}

/// A request to be made.
pub(crate) struct Exchange<'a> {
    pub(crate) asked: &'a Asked<'a>,
    /// Where to connect to: the host, or the proxy.
    pub(crate) address: SocketAddr,
    pub(crate) place: &'a Place,
    pub(crate) tls: &'a TlsClient,
    pub(crate) proxy: Option<&'a Proxy>,
    pub(crate) version: HttpVersion,
    pub(crate) method: Method,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
    pub(crate) limits: Limits,
}

/// A connection.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

impl Exchange<'_> {
    /// Connects, asks, and reads the answer. Adds to `took` what each phase took, the phase that failed too.
    pub(crate) async fn run(
        mut self,
        took: &mut [Duration; PHASES.len()],
    ) -> Result<Answer, Failure> {
        let asked = self.asked;
        asked.enter(Phase::Connect);
        let connected = connect(self.address).await.map_err(|mut failure| {
            if self.proxy.is_some() && !failure.reason.is_unknown() {
                failure.reason = Reason::Proxy;
            }
            failure
        })?;
        took[1] += connected.took;
        let mut stream = connected.stream;
        let mut lacks_certificate = false;
        let mut is_two = self.version == HttpVersion::Two;
        let stream: Box<dyn Stream> = if self.place.is_https {
            if let Some(proxy) = self.proxy {
                asked.enter(Phase::Answer);
                proxy.tunnel(&mut stream, self.place).await?;
            }
            let secured = self.tls.secure(asked, stream, &self.place.host).await?;
            took[2] += secured.took;
            lacks_certificate = secured.lacks_certificate;
            is_two |= secured.stream.get_ref().1.alpn_protocol() == Some(b"h2");
            Box::new(secured.stream)
        } else {
            Box::new(stream)
        };
        let request = self.request(is_two)?;
        let talk = Talk {
            is_two,
            is_head: self.method == Method::HEAD,
            limits: self.limits,
            phase: asked.phase_handle(),
            lacks_certificate,
        };
        talk.run(stream, request, took).await
    }

    fn request(&mut self, is_two: bool) -> Result<Request<Full<Bytes>>, Failure> {
        let mut headers = std::mem::take(&mut self.headers);
        let by_proxy = self.proxy.filter(|_| !self.place.is_https);
        if let Some(authorization) = by_proxy.and_then(|proxy| proxy.authorization.as_ref())
            && let Ok(mut value) = HeaderValue::try_from(authorization.expose())
        {
            value.set_sensitive(true);
            headers.insert(PROXY_AUTHORIZATION, value);
        }
        let uri = match is_two || by_proxy.is_some() {
            true => self.place.url(),
            false => self.place.path.clone(),
        };
        if is_two {
            // It stands in `:authority`.
            headers.remove(HOST);
        }
        let body = Full::new(Bytes::from(std::mem::take(&mut self.body)));
        let request = Request::builder().method(self.method.clone()).uri(uri);
        let mut request = request
            .body(body)
            .map_err(|error| Failure::new(Reason::Protocol, error.to_string()))?;
        *request.headers_mut() = headers;
        Ok(request)
    }
}

/// What is said on a connection that is there.
pub(super) struct Talk {
    pub(super) is_two: bool,
    pub(super) is_head: bool,
    pub(super) limits: Limits,
    pub(super) phase: PhaseHandle,
    pub(super) lacks_certificate: bool,
}

impl Talk {
    /// Asks, and reads the answer.
    pub(super) async fn run(
        self,
        stream: Box<dyn Stream>,
        request: Request<Full<Bytes>>,
        took: &mut [Duration; PHASES.len()],
    ) -> Result<Answer, Failure> {
        self.phase.enter(Phase::Answer);
        let first_byte = Arc::new(OnceLock::new());
        let io = TokioIo::new(Heard {
            stream,
            // In HTTP/2 the peer has more to say than answers.
            first_byte: (!self.is_two).then(|| (first_byte.clone(), self.phase.clone())),
        });
        let start = Instant::now();
        let mut connection = Connection::default();
        let failed = |error| failure(&error, self.lacks_certificate);
        let response = timed(connection.ask(io, request, self.is_two)).await;
        let response_at = first_byte.get().copied().unwrap_or(response.at);
        took[3] += response_at.saturating_duration_since(start);
        let response = response.output.map_err(failed)?;
        self.phase.enter(Phase::Transfer);
        let (head, body) = response.into_parts();
        let read = timed(self.read(&head.headers, body, &mut connection)).await;
        took[4] += read.at.saturating_duration_since(response_at);
        let (sink, bytes) = read.output?;
        Ok(Answer {
            status: head.status,
            version: head.version,
            headers: head.headers,
            bytes,
            unpacked_bytes: sink.count,
            body: sink.kept,
        })
    }

    async fn read(
        &self,
        headers: &HeaderMap,
        mut body: Incoming,
        connection: &mut Connection,
    ) -> Result<(Bounded, usize), Failure> {
        let max_bytes = self.limits.max_bytes;
        let too_large = || {
            let message = format!("the body has more than {max_bytes} bytes");
            Failure::new(Reason::TooLarge, message)
        };
        let sink = Bounded {
            kept: Vec::new(),
            count: 0,
            max_bytes,
            keeps: self.limits.keeps_body,
        };
        let encoding = headers.get(CONTENT_ENCODING).map(HeaderValue::as_bytes);
        let mut sink = match encoding {
            Some(b"gzip" | b"x-gzip") if !self.is_head => {
                Sink::Packed(Box::new(GzDecoder::new(sink)))
            }
            _ => Sink::Plain(sink),
        };
        let mut bytes = 0;
        while let Some(frame) = connection.drive(body.frame()).await {
            let frame = frame.map_err(|error| failure(&error, self.lacks_certificate))?;
            let Some(data) = frame.data_ref() else {
                continue;
            };
            bytes += data.len();
            if bytes > max_bytes {
                return Err(too_large());
            }
            sink.write(data, too_large)?;
        }
        sink.finish(too_large).map(|sink| (sink, bytes))
    }
}

/// Takes a body in.
enum Sink {
    Plain(Bounded),
    Packed(Box<GzDecoder<Bounded>>),
}

impl Sink {
    fn write(&mut self, data: &[u8], too_large: impl Fn() -> Failure) -> Result<(), Failure> {
        let written = match self {
            Self::Plain(sink) => sink.write_all(data),
            Self::Packed(decoder) => decoder.write_all(data),
        };
        written.map_err(|error| unpacking(&error, too_large))
    }

    fn finish(self, too_large: impl Fn() -> Failure) -> Result<Bounded, Failure> {
        match self {
            Self::Plain(sink) => Ok(sink),
            Self::Packed(decoder) => (*decoder)
                .finish()
                .map_err(|error| unpacking(&error, too_large)),
        }
    }
}

fn unpacking(error: &io::Error, too_large: impl Fn() -> Failure) -> Failure {
    match error.kind() {
        io::ErrorKind::FileTooLarge => too_large(),
        _ => Failure::new(Reason::Protocol, format!("the body is no gzip: {error}")),
    }
}

/// Bytes up to a number of them.
struct Bounded {
    kept: Vec<u8>,
    count: usize,
    max_bytes: usize,
    keeps: bool,
}

impl Write for Bounded {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.count += data.len();
        if self.count > self.max_bytes {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        if self.keeps {
            self.kept.extend_from_slice(data);
        }
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What an error of a request says.
fn failure(error: &hyper::Error, lacks_certificate: bool) -> Failure {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(inner) = source {
        if let Some(io) = inner.downcast_ref::<io::Error>() {
            let mut failure = handshake_failure(io, lacks_certificate);
            if failure.reason == Reason::TlsHandshake {
                failure.reason = Reason::Closed;
            }
            return failure;
        }
        source = inner.source();
    }
    let reason = if error.is_parse_too_large() {
        Reason::TooLarge
    } else if lacks_certificate {
        Reason::TlsClientCertificate
    } else if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
        Reason::Closed
    } else {
        Reason::Protocol
    };
    let words = pe_scrape::with_causes(error);
    Failure::new(reason, words)
}

/// A connection that notes when the first byte comes.
struct Heard<S> {
    stream: S,
    first_byte: Option<(Arc<OnceLock<Instant>>, PhaseHandle)>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Heard<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before
            && let Some((at, phase)) = self.first_byte.take()
        {
            let _ = at.set(Instant::now());
            phase.enter(Phase::Transfer);
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Heard<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
