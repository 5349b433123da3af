//! `healthcheck`: asking a running program whether it is healthy, where there is no other program that could (an image that
//! holds nothing else).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use pe_web::ListenAddress;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::cli::Listen;
use crate::failure::Failure;

/// How long the answer may take.
const PATIENCE: Duration = Duration::from_secs(3);

const REQUEST: &[u8] = b"GET /-/healthy HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/// Asks at the first of the addresses that a program listens on, without encryption. One that listens nowhere cannot be asked.
pub(crate) async fn healthcheck(listen: &[Listen]) -> Result<(), Failure> {
    let address = listen.iter().find_map(reachable);
    let Some(address) = address else {
        return Err(Failure::new(
            "the program listens nowhere, so it cannot be asked whether it is healthy",
        ));
    };
    let cannot = |error: std::io::Error| Failure::cannot(&format!("ask {address}"), error);
    match tokio::time::timeout(PATIENCE, ask(address)).await {
        Ok(Ok(true)) => Ok(()),
        Ok(Ok(false)) => Err(Failure::new(format!(
            "{address} says that it is not healthy"
        ))),
        Ok(Err(error)) => Err(cannot(error)),
        Err(_) => Err(cannot(std::io::ErrorKind::TimedOut.into())),
    }
}

/// Where a program that listens there can be reached; what listens on all interfaces can on loopback.
fn reachable(listen: &Listen) -> Option<SocketAddr> {
    let address = match listen {
        Listen::None => return None,
        Listen::On(ListenAddress::All(port)) => (Ipv4Addr::LOCALHOST, *port).into(),
        Listen::On(ListenAddress::One(address)) => *address,
    };
    let ip = match address.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    Some(SocketAddr::new(ip, address.port()))
}

async fn ask(address: SocketAddr) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(REQUEST).await?;
    let mut status = [0; 12];
    stream.read_exact(&mut status).await?;
    Ok(status.starts_with(b"HTTP/1.") && status.ends_with(b" 200"))
}
