//! Where to listen, and listening there.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;
use tokio::net::TcpListener;

/// Connections that the kernel keeps until they are accepted. More than there are places, so that a burst of clients is
/// served late and not refused: where the queue is full, a health check waits for a second until its packet is sent again.
/// This is what Linux allows unless it is set otherwise.
const BACKLOG: i32 = 4096;

/// What the kernel buffers for a client that reads slowly.
const SEND_BUFFER: usize = 256 << 10;

/// An address to listen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenAddress {
    /// All interfaces, IPv6 and IPv4.
    All(u16),
    /// One address of this machine.
    One(SocketAddr),
}

impl ListenAddress {
    /// Whether only programs of this machine can reach it.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        match self {
            Self::All(_) => false,
            Self::One(address) => address.ip().to_canonical().is_loopback(),
        }
    }
}

impl From<SocketAddr> for ListenAddress {
    fn from(address: SocketAddr) -> Self {
        Self::One(address)
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All(port) => write!(f, ":{port}"),
            Self::One(address) => address.fmt(f),
        }
    }
}

/// Why the HTTP server cannot run.
#[derive(Error)]
#[non_exhaustive]
pub enum WebError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Bind {
        /// The address.
        address: ListenAddress,
        /// What the system said.
        source: io::Error,
    },
    /// The web configuration file, or a file it names, cannot be used.
    #[error("{0}")]
    Config(String),
}

pe_scrape::debug_with_causes!(WebError);

/// Listens on `address`; port 0 takes a free port. An IPv4 socket serves all interfaces where the machine has no IPv6.
pub(crate) fn listen(address: ListenAddress) -> Result<TcpListener, WebError> {
    let listener = match address {
        ListenAddress::One(one) => open(one, one.is_ipv6()),
        ListenAddress::All(port) => open((Ipv6Addr::UNSPECIFIED, port).into(), false)
            .or_else(|_| open((Ipv4Addr::UNSPECIFIED, port).into(), false)),
    };
    listener.map_err(|source| WebError::Bind { address, source })
}

fn open(address: SocketAddr, only_v6: bool) -> io::Result<TcpListener> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(only_v6)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}
