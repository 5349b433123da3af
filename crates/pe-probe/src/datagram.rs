//! Datagrams to one device and back, with the times of the kernel.
//!
//! The socket is connected, so that the kernel lets through what comes from the device's port alone, and tells of an ICMP
//! message that nobody listens there.
//!
//! The kernel notes times of arrival while any socket of the machine wants them. It begins and ends that in a task of its own, after
//! the call that asked for it; what comes before that has the time at which it is read. So one more socket that wants them stays
//! open, beside those of probes, from the first probe of the process on.

use std::cell::RefCell;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt};
use nix::sys::time::TimeSpec;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use crate::{Failure, Reason, socket_failure};

/// Bytes of the largest datagram.
const LARGEST: usize = 65_535;

/// How long before its deadline a probe ends by itself, so that it can say what it has seen until then.
const LAST_WORD: Duration = Duration::from_millis(10);

/// Keeps the kernel noting times of arrival between probes. Nothing is sent or received by it.
static NOTING: OnceLock<OwnedFd> = OnceLock::new();

thread_local! {
    /// What is received into, one datagram after the other.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; LARGEST]);
}

/// A socket for one device.
#[derive(Debug)]
pub(crate) struct Datagrams(UdpSocket);

/// When a datagram left, by both clocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sent {
    pub(crate) at: Instant,
    #[cfg_attr(not(feature = "sntp"), expect(dead_code))]
    pub(crate) time: SystemTime,
}

/// A datagram, and when the kernel got it.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) bytes: Vec<u8>,
    pub(crate) at: Instant,
}

impl Datagrams {
    /// A socket for what goes to `address` and comes from there.
    pub(crate) async fn new(address: SocketAddr) -> Result<Self, Failure> {
        let any = match address {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        keep_noting();
        let connect = async {
            let socket = UdpSocket::bind((any, 0)).await?;
            // Without it, times are those at which the datagram is read.
            let _ = setsockopt(&socket, sockopt::ReceiveTimestampns, &true);
            socket.connect(address).await?;
            Ok(socket)
        };
        let socket = connect.await;
        socket
            .map(Self)
            .map_err(|error| socket_failure(&error, true))
    }

    /// Sends a datagram.
    pub(crate) async fn send(&self, bytes: &[u8]) -> Result<Sent, Failure> {
        // Buffers that are full for a moment would be waited for here; the time of departure is that of the last try.
        loop {
            let writable = self.0.writable().await;
            writable.map_err(|error| socket_failure(&error, true))?;
            let sent = Sent {
                at: Instant::now(),
                time: SystemTime::now(),
            };
            match self.0.try_send(bytes) {
                Ok(_) => return Ok(sent),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(socket_failure(&error, true)),
            }
        }
    }

    /// Waits for a datagram.
    ///
    /// # Errors
    /// [`Reason::Refused`] where an ICMP message says that nobody listens.
    pub(crate) async fn receive(&self) -> Result<Received, Failure> {
        let received = self
            .0
            .async_io(Interest::READABLE.add(Interest::ERROR), || receive(&self.0))
            .await;
        received.map_err(|error| match socket_failure(&error, false) {
            refused if refused.reason == Reason::Refused => Failure::new(
                Reason::Refused,
                "the device says that nobody listens on the port (ICMP port unreachable)",
            ),
            other => other,
        })
    }
}

/// Opens the socket of [`NOTING`] if it is not there. Where it cannot be opened, the next probe tries again.
fn keep_noting() {
    if NOTING.get().is_none()
        && let Ok(socket) = socket_with(
            AddressFamily::INET,
            SocketType::DGRAM,
            SocketFlags::CLOEXEC,
            None,
        )
        && setsockopt(&socket, sockopt::ReceiveTimestampns, &true).is_ok()
    {
        let _ = NOTING.set(socket);
    }
}

fn receive(socket: &UdpSocket) -> io::Result<Received> {
    let mut control = nix::cmsg_space!(TimeSpec);
    BUFFER.with_borrow_mut(|buffer| {
        let (length, stamp) = {
            let mut parts = [IoSliceMut::new(buffer)];
            let flags = MsgFlags::MSG_DONTWAIT;
            let message = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut control), flags)?;
            let mut controls = message.cmsgs().into_iter().flatten();
            let stamp = controls.find_map(|control| match control {
                ControlMessageOwned::ScmTimestampns(stamp) => Some(Duration::from(stamp)),
                _ => None,
            });
            (message.bytes, stamp)
        };
        let now = Instant::now();
        // A wall clock that is set between the two, which is a matter of microseconds, makes it no later than now.
        let ago = stamp.and_then(|stamp| {
            let since = SystemTime::now()
                .duration_since(SystemTime::UNIX_EPOCH)
                .ok()?;
            since.checked_sub(stamp)
        });
        Ok(Received {
            bytes: buffer[..length].to_vec(),
            at: now.checked_sub(ago.unwrap_or_default()).unwrap_or(now),
        })
    })
}

impl Received {
    /// How long after `sent` it came. A step of the wall clock while it waited to be read changes it by less than `sent` was ago.
    pub(crate) fn since(&self, sent: Sent) -> Duration {
        self.at.saturating_duration_since(sent.at)
    }
}

/// When a probe has to say what it has seen.
pub(crate) fn last_word(deadline: Instant) -> tokio::time::Instant {
    deadline.checked_sub(LAST_WORD).unwrap_or(deadline).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether the time of arrival is known to a probe whose task was busy when the answer came.
    async fn arrival_is_noted(peer: &UdpSocket) -> bool {
        let datagrams = Datagrams::new(peer.local_addr().unwrap()).await.unwrap();
        let sent = datagrams.send(b"ping").await.unwrap();
        let mut buffer = [0; 8];
        let (_, client) = peer.recv_from(&mut buffer).await.unwrap();
        peer.send_to(b"pong", client).await.unwrap();
        let answered = Instant::now();
        // The task is busy with something else.
        while answered.elapsed() < Duration::from_millis(20) {}
        let received = datagrams.receive().await.unwrap();
        assert_eq!(received.bytes, b"pong");
        assert!(received.since(sent) < Duration::from_secs(10));
        received.at <= answered + Duration::from_millis(5)
    }

    #[tokio::test]
    async fn the_time_is_that_of_the_arrival_and_not_of_the_task() {
        let peer = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        // The kernel begins to note times some time after the first socket wants it.
        while !arrival_is_noted(&peer).await {
            assert!(Instant::now() < deadline);
        }
        // From then on it does so for each socket from the start, also where it had the time to end that with the one before.
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_millis(20)).await;
            assert!(arrival_is_noted(&peer).await);
        }
    }
}
