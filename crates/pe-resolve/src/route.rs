//! Which of several addresses is used.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// Whether this machine has a route to an address. Nothing is sent: a UDP socket that is connected only looks for the route.
pub(crate) fn has_route(address: IpAddr) -> bool {
    let any: IpAddr = match address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // A port is needed, but nobody is told of it.
    let connected = UdpSocket::bind(SocketAddr::new(any, 0))
        .and_then(|socket| socket.connect(SocketAddr::new(address, 9)));
    // Broadcast and some others are refused for another reason, which is not the route's.
    connected.is_ok()
        || connected.is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
}

/// The address of `found` to use: the one in use as long as it is there, the first one otherwise. One without a route only
/// where no other has one.
pub(crate) fn preferred(
    in_use: Option<IpAddr>,
    found: &[IpAddr],
    has_route: impl Fn(IpAddr) -> bool,
) -> Option<IpAddr> {
    let in_use = in_use.filter(|address| found.contains(address));
    let routed = |address: &IpAddr| has_route(*address);
    in_use
        .filter(routed)
        .or_else(|| found.iter().copied().find(routed))
        .or(in_use)
        .or_else(|| found.first().copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_address_in_use_stays_while_it_is_there_and_has_a_route() {
        let [a, b, c] = ["127.0.0.1", "127.0.0.2", "::1"].map(address);
        let all = |_| true;
        assert_eq!(preferred(None, &[a, b], all), Some(a));
        assert_eq!(preferred(Some(b), &[a, b], all), Some(b));
        assert_eq!(preferred(Some(b), &[a, c], all), Some(a));
        assert_eq!(preferred(Some(a), &[a, c], |x: IpAddr| x == c), Some(c));
        assert_eq!(preferred(Some(b), &[a, b], |_| false), Some(b));
        assert_eq!(preferred(None, &[a, b], |_| false), Some(a));
        assert_eq!(preferred(Some(a), &[], all), None);
    }

    #[test]
    fn loopback_has_a_route() {
        assert!(has_route(address("127.0.0.1")));
    }
}
