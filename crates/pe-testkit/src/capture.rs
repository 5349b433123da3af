//! The kernel's own times of requests and replies.

use std::collections::HashMap;
use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockProtocol, SockType, recvmsg,
    setsockopt, socket, sockopt,
};
use nix::sys::time::TimeSpec;

/// Bytes of packets that the kernel keeps until they are read: some ten thousand small ones.
const BUFFER: usize = 64 << 20;

/// Records when echo requests leave this thread's network namespace, and when replies come in: times that the kernel takes at the
/// device, however busy the machine is.
///
/// Each packet must pass one device only, and there must be no more than some ten thousand of them.
#[derive(Debug)]
pub struct Capture {
    socket: OwnedFd,
}

impl Capture {
    /// Begins to record.
    ///
    /// # Panics
    /// If this process may not open packet sockets.
    pub fn start() -> Self {
        let open = || {
            let socket = socket(
                AddressFamily::Packet,
                SockType::Datagram,
                SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
                SockProtocol::EthAll,
            )?;
            setsockopt(&socket, sockopt::RcvBufForce, &BUFFER)?;
            setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
            Ok::<_, nix::Error>(socket)
        };
        let socket = open().unwrap_or_else(|error| panic!("cannot capture packets: {error}"));
        Self { socket }
    }

    /// The time from each request to its first reply, in the order in which the requests left; `None` where no reply has come
    /// so far.
    ///
    /// # Panics
    /// If packets cannot be read.
    pub fn round_trips(self) -> Vec<Option<Duration>> {
        let mut trips = Vec::new();
        // Where each identifier and sequence number is in use: the number of the request, and when it left.
        let mut open: HashMap<[u8; 4], (usize, Duration)> = HashMap::new();
        let mut buffer = [0; 128];
        let mut control = nix::cmsg_space!(TimeSpec);
        loop {
            let mut parts = [IoSliceMut::new(&mut buffer)];
            let received = recvmsg::<()>(
                self.socket.as_raw_fd(),
                &mut parts,
                Some(&mut control),
                MsgFlags::empty(),
            );
            let (length, time) = match received {
                Ok(message) => (message.bytes, stamp(&message)),
                Err(nix::Error::EAGAIN) => return trips,
                Err(nix::Error::EINTR | nix::Error::ENETDOWN) => continue,
                Err(error) => panic!("cannot read captured packets: {error}"),
            };
            match echo(&buffer[..length]) {
                Some(Echo::Request(key)) => {
                    open.insert(key, (trips.len(), time));
                    trips.push(None);
                }
                Some(Echo::Reply(key)) => {
                    if let Some((number, left)) = open.remove(&key) {
                        trips[number] = Some(time.saturating_sub(left));
                    }
                }
                None => {}
            }
        }
    }
}

fn stamp(message: &nix::sys::socket::RecvMsg<'_, '_, ()>) -> Duration {
    let mut control = message.cmsgs().expect("room for control messages");
    control
        .find_map(|message| match message {
            ControlMessageOwned::ScmTimestampns(time) => Some(time.into()),
            _ => None,
        })
        .expect("a time stamp")
}

/// An echo packet, with its identifier and sequence number.
enum Echo {
    Request([u8; 4]),
    Reply([u8; 4]),
}

fn echo(packet: &[u8]) -> Option<Echo> {
    let at = match packet.first()? >> 4 {
        4 if packet.get(9)? == &1 => usize::from(packet[0] & 15) * 4,
        6 if packet.get(6)? == &58 => 40,
        _ => return None,
    };
    let key = packet.get(at + 4..at + 8)?.try_into().ok()?;
    match (packet[0] >> 4, packet[at]) {
        (4, 8) | (6, 128) => Some(Echo::Request(key)),
        (4, 0) | (6, 129) => Some(Echo::Reply(key)),
        _ => None,
    }
}
