//! A connection to a host with several addresses, some of which may be silent (RFC 8305).

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use pe_scrape::resolve::{Resolve, ResolveError};
use rustix::net::sockopt;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::connector::IDLE;

/// How long one address has a head start over the next (RFC 8305, section 5).
const HEAD_START: Duration = Duration::from_millis(250);
/// Most addresses that are tried: each costs a socket, and a name with more than a few is a mistake.
const MOST: usize = 16;

/// Why no connection came about.
#[derive(Debug, Error)]
pub(super) enum DialError {
    #[error(transparent)]
    Resolve(ResolveError),
    #[error("{0}")]
    Refused(Refusals),
}

/// What became of each address.
#[derive(Debug)]
pub(super) struct Refusals(Vec<(SocketAddr, io::Error)>);

impl fmt::Display for Refusals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (address, error)) in self.0.iter().enumerate() {
            let separator = if index > 0 { "; " } else { "" };
            write!(f, "{separator}{address}: {error}")?;
        }
        Ok(())
    }
}

/// Connects to the first address of `host` that takes the connection. An address that is silent delays the next by
/// [`HEAD_START`], one that refuses not at all.
///
/// The caller bounds the time.
pub(super) async fn dial(
    host: &str,
    port: u16,
    resolver: &dyn Resolve,
) -> Result<TcpStream, DialError> {
    let mut addresses = match host.parse::<IpAddr>() {
        Ok(address) => vec![address],
        Err(_) => resolver
            .resolve_all(host)
            .await
            .map_err(DialError::Resolve)?,
    };
    interleave(&mut addresses);
    addresses.truncate(MOST);
    let mut waiting = addresses.into_iter();
    let mut running = FuturesUnordered::new();
    let mut refused = Vec::new();
    loop {
        let next = waiting.next();
        let is_last = next.is_none();
        running.extend(next.map(|ip| connect(SocketAddr::new(ip, port))));
        let ended = match is_last {
            true => running.next().await,
            false => match timeout(HEAD_START, running.next()).await {
                Ok(ended) => ended,
                Err(_) => continue,
            },
        };
        match ended {
            Some(Ok(stream)) => return Ok(stream),
            Some(Err(refusal)) => refused.push(refusal),
            None => return Err(DialError::Refused(Refusals(refused))),
        }
    }
}

async fn connect(address: SocketAddr) -> Result<TcpStream, (SocketAddr, io::Error)> {
    let stream = TcpStream::connect(address)
        .await
        .map_err(|error| (address, error))?;
    // Without these a connection still works.
    let _ = stream.set_nodelay(true);
    let _ = sockopt::set_socket_keepalive(&stream, true);
    let _ = sockopt::set_tcp_keepidle(&stream, IDLE);
    Ok(stream)
}

/// Orders addresses so that families take turns, beginning with that of the first (RFC 8305, section 4).
fn interleave(addresses: &mut Vec<IpAddr>) {
    let Some(first) = addresses.first().map(IpAddr::is_ipv4) else {
        return;
    };
    let all = std::mem::take(addresses);
    let (preferred, others): (Vec<_>, Vec<_>) = all
        .into_iter()
        .partition(|address| address.is_ipv4() == first);
    let mut others = others.into_iter();
    for address in preferred {
        addresses.push(address);
        addresses.extend(others.next());
    }
    addresses.extend(others);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_take_turns_beginning_with_the_preferred_one() {
        let sorted = |addresses: &[&str]| {
            let mut addresses: Vec<IpAddr> =
                addresses.iter().map(|it| it.parse().unwrap()).collect();
            interleave(&mut addresses);
            addresses
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
        };
        let mixed = ["::1", "::2", "::3", "127.0.0.1", "127.0.0.2"];
        let turns = ["::1", "127.0.0.1", "::2", "127.0.0.2", "::3"];
        assert_eq!(sorted(&mixed), turns);
        assert_eq!(
            sorted(&["127.0.0.1", "::1", "::2"]),
            ["127.0.0.1", "::1", "::2"]
        );
        assert!(sorted(&[]).is_empty());
    }
}
