//! Accepting connections. Each is served by a task of its own, whose panic ends that connection only.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use pe_engine::EngineHandle;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{debug, error, info, warn};

use crate::routes::answer;

/// Connections served at one time; more wait in the listen queue.
const CONNECTIONS: usize = 256;

/// How long a client may take to send its request's header.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// The pause after a connection could not be accepted. The cause is most likely that no file descriptor is free, and
/// connections that end free some.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Connections can be accepted again when that has worked for so long. While descriptors are short, it works now and then.
const ACCEPT_QUIET: Duration = Duration::from_secs(10);

/// Why the HTTP server cannot run.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WebError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// A listening HTTP server.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
}

impl Server {
    /// Listens on `address`; port 0 takes a free port.
    ///
    /// # Errors
    /// [`WebError::Bind`] when the address is taken or not this machine's.
    pub async fn bind(address: SocketAddr) -> Result<Self, WebError> {
        let failed = |source| WebError::Bind { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address })
    }

    /// The address that is listened on.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Answers requests until `shutdown` completes. Connections that are open then are closed.
    ///
    /// # Cancel safety
    /// Dropping the future closes the listener and all connections.
    pub async fn serve(self, engine: EngineHandle, shutdown: impl Future<Output = ()>) {
        let permits = Arc::new(Semaphore::new(CONNECTIONS));
        let mut connections = JoinSet::new();
        let mut trouble = AcceptTrouble::default();
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            let accept = async {
                let permit = permits.clone().acquire_owned().await.ok();
                (permit, self.listener.accept().await)
            };
            let (permit, accepted) = tokio::select! {
                biased;
                () = &mut shutdown => return,
                Some(ended) = connections.join_next() => {
                    if let Err(error) = ended {
                        error!(%error, "answering a request panicked");
                    }
                    continue;
                }
                accepted = accept => accepted,
            };
            trouble.note(accepted.as_ref().err());
            let Ok((stream, _)) = accepted else {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let engine = engine.clone();
            connections.spawn(async move {
                let service = service_fn(move |request| answer(request, engine.clone()));
                let connection = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEADER_TIMEOUT)
                    .serve_connection(TokioIo::new(stream), service);
                if let Err(error) = connection.await {
                    debug!(%error, "a connection ended early");
                }
                drop(permit);
            });
        }
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
