//! Accepting connections.

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
use tracing::{debug, warn};

use crate::routes::answer;

/// Connections served at one time; more wait in the listen queue.
const CONNECTIONS: usize = 256;

/// How long a client may take to send its request's header.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// Why the HTTP server cannot run.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WebError {
    /// The address cannot be listened on.
    #[error(
        "cannot listen on {address}: {source}; choose another address with --listen, or none with --listen none"
    )]
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

    /// Answers requests until `shutdown` completes.
    pub async fn serve(self, engine: EngineHandle, shutdown: impl Future<Output = ()>) {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            let accept = async {
                let place = places.clone().acquire_owned().await.ok();
                (place, self.listener.accept().await)
            };
            let (place, accepted) = tokio::select! {
                biased;
                () = &mut shutdown => return,
                accepted = accept => accepted,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of file descriptors, most likely: a pause lets connections end.
                    warn!("cannot accept a connection: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let engine = engine.clone();
            tokio::spawn(async move {
                let service = service_fn(move |request| answer(request, engine.clone()));
                let connection = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEADER_TIMEOUT)
                    .serve_connection(TokioIo::new(stream), service);
                if let Err(error) = connection.await {
                    debug!("a connection ended early: {error}");
                }
                drop(place);
            });
        }
    }
}
