//! hickory's sockets, with the zone of a link-local name server.
//!
//! hickory knows a name server by its address alone, so the scope is put in where packets leave.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use hickory_resolver::net::runtime::{
    DnsUdpSocket, RuntimeProvider, TokioHandle, TokioRuntimeProvider, TokioTime,
};
use tokio::io::ReadBuf;
use tokio::net::UdpSocket;

use super::address::{NameServer, scoped};

/// Opens the sockets for the questions to one name server.
#[derive(Clone)]
pub(super) struct Transport {
    tokio: TokioRuntimeProvider,
    server: NameServer,
}

impl Transport {
    pub(super) fn new(server: NameServer) -> Self {
        Self {
            tokio: TokioRuntimeProvider::default(),
            server,
        }
    }
}

type Opening<T> = Pin<Box<dyn Send + Future<Output = io::Result<T>>>>;

impl RuntimeProvider for Transport {
    type Handle = TokioHandle;
    type Timer = TokioTime;
    type Udp = ConnectedSocket;
    type Tcp = <TokioRuntimeProvider as RuntimeProvider>::Tcp;

    fn create_handle(&self) -> Self::Handle {
        self.tokio.create_handle()
    }

    fn connect_tcp(
        &self,
        server: SocketAddr,
        bind: Option<SocketAddr>,
        timeout: Option<Duration>,
    ) -> Opening<Self::Tcp> {
        match self.server.scope() {
            Ok(scope) => self.tokio.connect_tcp(scoped(server, scope), bind, timeout),
            Err(error) => Box::pin(async { Err(error) }),
        }
    }

    fn bind_udp(&self, local: SocketAddr, server: SocketAddr) -> Opening<Self::Udp> {
        let scope = self.server.scope();
        Box::pin(async move {
            let socket = UdpSocket::bind(local).await?;
            socket.connect(scoped(server, scope?)).await?;
            Ok(ConnectedSocket { socket, server })
        })
    }
}

/// A socket for one name server. Since it is connected, a server that does not run is known at once, and nobody else is
/// heard.
pub(super) struct ConnectedSocket {
    socket: UdpSocket,
    server: SocketAddr,
}

#[async_trait]
impl DnsUdpSocket for ConnectedSocket {
    type Time = TokioTime;

    fn poll_recv_from(
        &self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<(usize, SocketAddr)>> {
        let mut buffer = ReadBuf::new(buffer);
        let received = self.socket.poll_recv(cx, &mut buffer);
        received.map_ok(|()| (buffer.filled().len(), self.server))
    }

    /// Unlike [`UdpSocket::poll_recv`], this wakes up for an error too (tokio's issue 8000).
    async fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        Ok((self.socket.recv(buffer).await?, self.server))
    }

    fn poll_send_to(
        &self,
        cx: &mut Context<'_>,
        bytes: &[u8],
        _: SocketAddr,
    ) -> Poll<io::Result<usize>> {
        self.socket.poll_send(cx, bytes)
    }
}
