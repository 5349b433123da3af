//! Connections: straight to the server or through a proxy, in the clear or with TLS.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use std::{error, fmt, io};

use hyper::Uri;
use hyper::rt::ReadBufCursor;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use pe_scrape::resolve::Resolve;
use tokio::io::{AsyncRead, AsyncWrite};

use super::dial::{DialError, dial};
use super::proxy::{Proxy, ProxyError};
use super::tls::{Tls, TlsError};
use super::url::{host_of, port_of};

/// Time without traffic after which a connection is closed by us, and probed by TCP before: many proxies drop idle
/// connections after a minute.
pub(super) const IDLE: Duration = Duration::from_secs(45);

/// What opens connections.
#[derive(Clone)]
pub(super) struct Connector(Arc<Way>);

/// How to get to a server.
struct Way {
    tls: Option<Arc<Tls>>,
    proxy: Option<Arc<Proxy>>,
    resolver: Arc<dyn Resolve>,
}

impl Connector {
    pub(super) fn new(
        tls: Option<Arc<Tls>>,
        proxy: Option<Arc<Proxy>>,
        resolver: Arc<dyn Resolve>,
    ) -> Self {
        Self(Arc::new(Way {
            tls,
            proxy,
            resolver,
        }))
    }
}

impl tower_service::Service<Uri> for Connector {
    type Response = Stream;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, ConnectError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let way = self.0.clone();
        Box::pin(async move { way.connect(&uri).await })
    }
}

impl Way {
    async fn connect(&self, uri: &Uri) -> Result<Stream, ConnectError> {
        let is_tls = uri.scheme_str() == Some("https");
        let host = host_of(uri);
        let Some(proxy) = &self.proxy else {
            let stream = dial(host, port_of(uri), &*self.resolver).await?;
            return Ok(Stream::new(match is_tls {
                true => self.secure(Box::new(stream), host).await?,
                false => Box::new(stream),
            }));
        };
        let through = |source: ConnectError| ConnectError::Through {
            proxy: proxy.shown().to_owned(),
            source: Box::new(source),
        };
        let stream = self.connect_proxy(proxy).await.map_err(through)?;
        if !is_tls {
            return Ok(Stream {
                is_proxied: true,
                ..Stream::new(stream)
            });
        }
        let tunnel = proxy.tunnel(stream, uri).await;
        let tunnel = tunnel.map_err(|error| through(error.into()))?;
        Ok(Stream::new(self.secure(tunnel, host).await?))
    }

    async fn connect_proxy(&self, proxy: &Proxy) -> Result<BoxIo, ConnectError> {
        let (host, port) = (host_of(proxy.uri()), port_of(proxy.uri()));
        let stream = dial(host, port, &*self.resolver).await?;
        match proxy.is_tls() {
            true => self.secure(Box::new(stream), host).await,
            false => Ok(Box::new(stream)),
        }
    }

    async fn secure(&self, stream: BoxIo, host: &str) -> Result<BoxIo, ConnectError> {
        match &self.tls {
            Some(tls) => Ok(tls.secure(stream, host).await?),
            None => Ok(stream), // A client of a URL or proxy with TLS always has it.
        }
    }
}

/// Why a connection did not come about.
#[derive(Debug)]
pub(super) enum ConnectError {
    Dial(DialError),
    Tls(TlsError),
    Proxy(ProxyError),
    Through {
        proxy: String,
        source: Box<ConnectError>,
    },
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dial(error) => fmt::Display::fmt(error, f),
            Self::Tls(error) => fmt::Display::fmt(error, f),
            Self::Proxy(error) => fmt::Display::fmt(error, f),
            Self::Through { proxy, .. } => {
                write!(f, "the proxy of the environment, {proxy}, was of no use")
            }
        }
    }
}

impl error::Error for ConnectError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Dial(error) => error.source(),
            Self::Tls(error) => error.source(),
            Self::Proxy(error) => error.source(),
            Self::Through { source, .. } => Some(source),
        }
    }
}

impl From<DialError> for ConnectError {
    fn from(error: DialError) -> Self {
        Self::Dial(error)
    }
}

impl From<TlsError> for ConnectError {
    fn from(error: TlsError) -> Self {
        Self::Tls(error)
    }
}

impl From<ProxyError> for ConnectError {
    fn from(error: ProxyError) -> Self {
        Self::Proxy(error)
    }
}

/// Anything that bytes can be read from and written to.
pub(super) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}
pub(super) type BoxIo = Box<dyn Io>;

/// A connection, ready for HTTP.
pub(super) struct Stream {
    io: TokioIo<BoxIo>,
    /// Whether requests on it name the whole URL (RFC 9112, section 3.2.2).
    is_proxied: bool,
}

impl Stream {
    fn new(io: BoxIo) -> Self {
        Self {
            io: TokioIo::new(io),
            is_proxied: false,
        }
    }
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new().proxy(self.is_proxied)
    }
}

impl hyper::rt::Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl hyper::rt::Write for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, slices)
    }
}
