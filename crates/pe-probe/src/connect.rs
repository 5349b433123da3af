//! Connections, and what their errors say about the device or about this machine.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use tokio::net::{TcpSocket, TcpStream};

use crate::{Failure, Reason, timed};

/// A connection, and how long it took to come about.
#[derive(Debug)]
#[non_exhaustive]
pub struct Connected {
    /// The connection, without Nagle's algorithm.
    pub stream: TcpStream,
    /// From the request to its answer.
    pub took: Duration,
}

/// Connects to `address`. Whoever calls it bounds the time.
///
/// # Errors
/// [`Failure`] with a reason that tells the device's refusal from a failure of this machine.
///
/// # Cancel safety
/// Dropping the future closes the socket.
pub async fn connect(address: SocketAddr) -> Result<Connected, Failure> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    };
    let socket = socket.map_err(|error| socket_failure(&error, true))?;
    let start = Instant::now();
    let connected = timed(socket.connect(address)).await;
    let stream = connected
        .output
        .map_err(|error| socket_failure(&error, connected.at_once))?;
    let took = connected.at.saturating_duration_since(start);
    // Small messages go out at once; where that cannot be set, they go out a little later.
    let _ = stream.set_nodelay(true);
    Ok(Connected { stream, took })
}

/// What an error of a socket says. `at_once`: the call that failed did not wait, so that only this machine can have refused it.
#[must_use]
pub fn socket_failure(error: &io::Error, at_once: bool) -> Failure {
    Failure::new(socket_reason(error, at_once), error.to_string())
}

fn socket_reason(error: &io::Error, at_once: bool) -> Reason {
    match Errno::from_io_error(error) {
        Some(Errno::NETUNREACH | Errno::NETDOWN) if !at_once => Reason::NetworkUnreachable,
        Some(Errno::HOSTUNREACH | Errno::HOSTDOWN) if !at_once => Reason::HostUnreachable,
        Some(
            Errno::NETUNREACH
            | Errno::NETDOWN
            | Errno::HOSTUNREACH
            | Errno::HOSTDOWN
            | Errno::AFNOSUPPORT
            | Errno::NODEV
            | Errno::NXIO,
        ) => Reason::NoRoute,
        Some(Errno::PERM | Errno::ACCESS) => Reason::PermissionDenied,
        Some(Errno::MFILE | Errno::NFILE) => Reason::NoDescriptors,
        Some(Errno::NOBUFS | Errno::NOMEM) => Reason::NoBuffers,
        Some(Errno::ADDRNOTAVAIL | Errno::ADDRINUSE) => Reason::NoSource,
        Some(Errno::CONNREFUSED) => Reason::Refused,
        Some(Errno::CONNRESET | Errno::PIPE | Errno::CONNABORTED) => Reason::Reset,
        Some(Errno::TIMEDOUT) => Reason::ConnectTimeout,
        Some(_) if at_once => Reason::Local,
        _ if error.kind() == ErrorKind::UnexpectedEof => Reason::Closed,
        _ => Reason::Connection,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_this_machine_are_told_from_those_of_the_way() {
        let reason = |errno: Errno, at_once| {
            socket_reason(&io::Error::from_raw_os_error(errno.raw_os_error()), at_once)
        };
        assert_eq!(reason(Errno::HOSTUNREACH, true), Reason::NoRoute);
        assert_eq!(reason(Errno::HOSTUNREACH, false), Reason::HostUnreachable);
        assert_eq!(reason(Errno::MFILE, true), Reason::NoDescriptors);
        assert_eq!(reason(Errno::CONNREFUSED, true), Reason::Refused);
        for unknown in [Errno::MFILE, Errno::NETUNREACH, Errno::PERM, Errno::NOBUFS] {
            assert!(reason(unknown, true).is_unknown(), "{unknown:?}");
        }
    }

    #[tokio::test]
    async fn a_closed_port_refuses_on_both_families() {
        for address in ["127.0.0.1:1", "[::1]:1"] {
            let failure = connect(address.parse().unwrap()).await.unwrap_err();
            assert_eq!(failure.reason, Reason::Refused, "{failure}");
        }
    }
}
