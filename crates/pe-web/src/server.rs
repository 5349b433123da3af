//! Accepting connections. Each is served by a task of its own, whose panic ends that connection only.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use pe_engine::EngineHandle;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinSet, yield_now};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_rustls::TlsAcceptor;
use tracing::{debug, error, info, warn};

use crate::app::App;
use crate::connections::{Connections, Place, Places};
use crate::listen::listen;
use crate::metrics::ACCEPT_FAILED;
use crate::secure::Secure;
use crate::stream::TimedStream;
use crate::{WebError, WebSettings};

/// The pause after a connection could not be accepted. The cause is most likely that no file descriptor is free, and
/// connections that end free some.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long a connection that was told to close takes to give its descriptor back.
const ROOM_PAUSE: Duration = Duration::from_millis(1);

/// Connections can be accepted again when that has worked for so long. While descriptors are short, it works now and then.
const ACCEPT_QUIET: Duration = Duration::from_secs(10);

/// How many connections may be accepted of which it is not known yet whether anything has come, and how many may be left to end
/// that were told to close: small, so that what has come is read before the place is needed by others.
const UNREAD: usize = 16;

/// How often connections are looked at whose time may be over.
const SWEEP: Duration = Duration::from_secs(1);

/// The longest header of a request, and what a connection holds for a client that reads slowly beside the piece that is
/// being sent.
const BUFFER: usize = 32 << 10;

/// A listening HTTP server.
pub struct Server {
    listeners: Vec<TcpListener>,
    addresses: Vec<SocketAddr>,
    settings: WebSettings,
    secure: Arc<Secure>,
}

impl Server {
    /// Listens on the addresses of `settings`; port 0 takes a free port. An address is enough where nothing else is to be
    /// set.
    ///
    /// # Errors
    /// [`WebError::Bind`] when an address is taken or not this machine's, [`WebError::Config`] when the web configuration
    /// is not in order.
    pub async fn bind(settings: impl Into<WebSettings>) -> Result<Self, WebError> {
        let settings = settings.into();
        let file = settings.config_file.clone();
        let secure = tokio::task::spawn_blocking(|| Secure::load(file));
        let secure = secure.await.map_err(|error| {
            WebError::Config(format!("cannot read the web configuration: {error}"))
        })?;
        let mut listeners = Vec::new();
        let mut addresses = Vec::new();
        for &address in &settings.listen {
            let listener = listen(address)?;
            let local = listener.local_addr();
            addresses.push(local.map_err(|source| WebError::Bind { address, source })?);
            listeners.push(listener);
        }
        Ok(Self {
            listeners,
            addresses,
            settings,
            secure: Arc::new(secure?),
        })
    }

    /// The addresses that are listened on.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The first address that is listened on.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// Whether requests need a password.
    #[must_use]
    pub fn asks_for_password(&self) -> bool {
        self.secure.current().asks_for_password()
    }

    /// Whether connections are encrypted.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.secure.current().tls().is_some()
    }

    /// Answers requests until `shutdown` completes. Connections that are open then are closed.
    ///
    /// # Cancel safety
    /// Dropping the future closes the listeners and all connections.
    pub async fn serve(self, engine: EngineHandle, shutdown: impl Future<Output = ()>) {
        let Self {
            listeners,
            addresses,
            settings,
            secure,
        } = self;
        let metrics = settings.metrics.clone();
        let places = Places::of_process();
        let app = App::new(engine, settings, addresses, secure.clone()).requests(places.requests());
        let connections = Connections::new(places, metrics.clone());
        let mut tasks = JoinSet::new();
        let mut trouble = AcceptTrouble::default();
        let mut sweep = interval(SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut shutdown = std::pin::pin!(shutdown);
        let mut follow_files = std::pin::pin!(secure.follow_files());
        let unread = Arc::new(Semaphore::new(UNREAD));
        let mut first = 0;
        loop {
            let accepted = tokio::select! {
                biased;
                () = &mut shutdown => return,
                Some(ended) = tasks.join_next() => {
                    if let Err(error) = ended {
                        error!(%error, "answering a request panicked");
                    }
                    continue;
                }
                _ = sweep.tick() => {
                    connections.close_overdue(Instant::now());
                    continue;
                }
                () = &mut follow_files => continue,
                accepted = accept(&listeners, first, &unread), if tasks.len() < places.open + UNREAD => accepted,
            };
            // Each listener is the first to be asked in its turn.
            first = first.wrapping_add(1);
            trouble.note(accepted.as_ref().err());
            let Ok((stream, unread)) = accepted else {
                metrics.connections.refused.of(ACCEPT_FAILED).add(1);
                let pause = match connections.make_room() {
                    true => ROOM_PAUSE,
                    false => ACCEPT_PAUSE,
                };
                tokio::time::sleep(pause).await;
                continue;
            };
            metrics.connections.accepted.add(1);
            let Some(place) = connections.open(Instant::now()) else {
                debug!("a connection was refused: all others are busy");
                continue;
            };
            let (app, tls) = (app.clone(), secure.current().tls().cloned());
            tasks.spawn(serve_connection(app, Arc::new(place), stream, tls, unread));
        }
    }
}

/// The next connection of any listener, asking the one at `first` (modulo their number) before the others, once it may be
/// unread.
async fn accept(
    listeners: &[TcpListener],
    first: usize,
    unread: &Arc<Semaphore>,
) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let unread = unread.clone().acquire_owned().await;
    let unread = unread.map_err(io::Error::other)?;
    poll_fn(|cx| {
        for offset in 0..listeners.len() {
            let listener = &listeners[(first.wrapping_add(offset)) % listeners.len()];
            if let Poll::Ready(accepted) = listener.poll_accept(cx) {
                return Poll::Ready(accepted.map(|(stream, _)| stream));
            }
        }
        Poll::Pending
    })
    .await
    .map(|stream| (stream, unread))
}

/// Serves a connection until it ends or has to give its place away.
async fn serve_connection(
    app: App,
    place: Arc<Place>,
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    unread: OwnedSemaphorePermit,
) {
    let closed = place.clone();
    let serve = async {
        let mut byte = [0];
        let first = tokio::select! {
            biased;
            first = stream.peek(&mut byte) => Some(first),
            // The runtime has asked the kernel for what has come when this goes on.
            () = yield_now() => None,
        };
        drop(unread);
        let first = match first {
            Some(first) => first,
            None => stream.peek(&mut byte).await,
        };
        if !first.is_ok_and(|bytes| bytes > 0) {
            return;
        }
        if !place.spoke() {
            debug!("a connection was refused: all others are busy");
            return;
        }
        // What only talking connections need is not part of those that say nothing.
        Box::pin(serve_stream(app, place, stream, tls)).await;
    };
    tokio::select! {
        () = serve => {}
        () = closed.closed() => debug!("a connection was closed: its time is over, or its place was needed"),
    }
}

async fn serve_stream(app: App, place: Arc<Place>, stream: TcpStream, tls: Option<TlsAcceptor>) {
    // Responses are written in large pieces, so that waiting for more gains nothing.
    let _ = stream.set_nodelay(true);
    match tls {
        Some(tls) => match tls.accept(stream).await {
            Ok(stream) => serve_http(app, place, stream).await,
            Err(error) => debug!(%error, "a TLS handshake failed"),
        },
        None => serve_http(app, place, stream).await,
    }
}

async fn serve_http<S>(app: App, place: Arc<Place>, stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let service = service_fn(move |request| {
        let (app, place) = (app.clone(), place.clone());
        async move { Ok::<_, Infallible>(app.answer(place, request).await) }
    });
    let connection = http1::Builder::new()
        .max_buf_size(BUFFER)
        .max_headers(64)
        .serve_connection(TokioIo::new(TimedStream::new(stream)), service);
    if let Err(error) = connection.await {
        debug!(%error, "a connection ended early");
    }
}

/// Connections that could not be accepted, told when that begins and when it ends.
#[derive(Debug, Default)]
struct AcceptTrouble {
    failed: u64,
    latest: Option<Instant>,
}

impl AcceptTrouble {
    fn note(&mut self, error: Option<&io::Error>) {
        if let Some(error) = error {
            if self.failed == 0 {
                warn!(%error, "cannot accept connections");
            }
            self.failed += 1;
            self.latest = Some(Instant::now());
        } else if self
            .latest
            .is_some_and(|latest| latest.elapsed() >= ACCEPT_QUIET)
        {
            info!(failed = self.failed, "connections are accepted again");
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn trouble_is_over_when_it_has_not_come_back_for_a_while() {
        let mut trouble = AcceptTrouble::default();
        let error = io::Error::other("no descriptor is free");
        for _ in 0..50 {
            trouble.note(Some(&error));
            tokio::time::advance(ACCEPT_PAUSE).await;
            trouble.note(None);
        }
        assert_eq!(trouble.failed, 50);
        tokio::time::advance(ACCEPT_QUIET).await;
        trouble.note(None);
        assert_eq!(trouble.failed, 0);
    }
}
