//! Who opens sockets: this process, or a helper that has the rights for it.
//!
//! Opening a raw socket takes CAP_NET_RAW, and a mark or a receive buffer beyond `net.core.rmem_max` take CAP_NET_ADMIN.
//! Nothing after that does. A program that wants to run without any capability starts a helper process that has them, calls
//! [`serve`] there, and gives a [`SocketHelper`] to its pingers.
//!
//! The two talk over a Unix socket of the kind `SOCK_SEQPACKET` (`unix(7)`): a request is one message of [`REQUEST`] bytes, the
//! answer is one message of 4 bytes, the error number in this machine's byte order, 0 for none, with the socket beside it
//! (`SCM_RIGHTS`). A helper does what requests can say and no more, so that whoever takes over the program gains an ICMP
//! socket at most.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use pe_scrape::Family;
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg, sockopt,
};

use crate::sys::Socket;

/// Bytes of a request: family, flags, two of padding, mark, receive buffer, send buffer.
const REQUEST: usize = 16;

/// How long a helper may take for one answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// The socket that is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct SocketRequest {
    /// For ICMP or ICMPv6.
    pub family: Family,
    /// The firewall mark of what leaves through it (`SO_MARK`).
    pub mark: Option<u32>,
    /// Bytes of the receive buffer, in the kernel's accounting; what the kernel does not give is done without.
    pub receive_buffer: u32,
    /// The same for the send buffer.
    pub send_buffer: u32,
}

/// Opens raw ICMP sockets.
pub trait OpenSocket: Send + Sync + 'static {
    /// Opens a raw socket as `request` says, which lets no packet in yet: all types are blocked by `ICMP_FILTER` (`raw(7)`,
    /// RFC 3542 section 3.2).
    ///
    /// # Errors
    /// What the kernel says, or that nobody is there to ask.
    fn open(&self, request: &SocketRequest) -> io::Result<OwnedFd>;
}

/// Opens sockets with the rights of the calling thread.
#[derive(Debug, Clone, Copy, Default)]
pub struct OwnRights;

impl OpenSocket for OwnRights {
    fn open(&self, request: &SocketRequest) -> io::Result<OwnedFd> {
        let socket = Socket::raw(request.family)?;
        socket.admit_types(&[])?;
        if let Some(mark) = request.mark {
            socket.mark(mark)?;
        }
        socket.receive_buffer(request.receive_buffer as usize);
        socket.send_buffer(request.send_buffer as usize);
        Ok(socket.into())
    }
}

/// Has sockets opened by another process, in which [`serve`] runs.
#[derive(Debug)]
pub struct SocketHelper {
    /// Held for a request and its answer.
    peer: Mutex<OwnedFd>,
}

impl SocketHelper {
    /// A helper at the other end of `peer`, a connected Unix socket of the kind `SOCK_SEQPACKET`.
    ///
    /// # Errors
    /// When the time for an answer cannot be bounded.
    pub fn new(peer: OwnedFd) -> io::Result<Self> {
        sockopt::set_socket_timeout(&peer, sockopt::Timeout::Recv, Some(PATIENCE))?;
        sockopt::set_socket_timeout(&peer, sockopt::Timeout::Send, Some(PATIENCE))?;
        Ok(Self {
            peer: Mutex::new(peer),
        })
    }
}

impl OpenSocket for SocketHelper {
    fn open(&self, request: &SocketRequest) -> io::Result<OwnedFd> {
        let peer = self.peer.lock().unwrap_or_else(PoisonError::into_inner);
        rustix::net::send(&*peer, &encode(request), SendFlags::NOSIGNAL)?;
        let mut answer = [0; 4];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = recvmsg(
            &*peer,
            &mut [IoSliceMut::new(&mut answer)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        )?;
        if received.bytes != answer.len() {
            return Err(gone());
        }
        match i32::from_ne_bytes(answer) {
            0 => {}
            error => return Err(io::Error::from_raw_os_error(error)),
        }
        let sockets = control.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut sockets) => sockets.next(),
            _ => None,
        });
        sockets.last().ok_or_else(gone)
    }
}

fn gone() -> io::Error {
    let message = "the process that opens sockets has ended";
    io::Error::new(io::ErrorKind::BrokenPipe, message)
}

/// Opens sockets for the [`SocketHelper`] at the other end of `peer`, until that is gone. A request that makes no sense is
/// answered with `EINVAL`.
///
/// # Errors
/// When the socket fails.
pub fn serve(peer: impl AsFd) -> io::Result<()> {
    let mut request = [0; REQUEST + 1];
    loop {
        let length = match rustix::net::recv(&peer, &mut request, RecvFlags::empty()) {
            Ok((0, _)) => return Ok(()),
            Ok((length, _)) => length,
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        };
        let opened = match decode(&request[..length]) {
            Some(request) => OwnRights.open(&request),
            None => Err(Errno::INVAL.into()),
        };
        match answer(&peer, opened) {
            Ok(()) => {}
            Err(Errno::PIPE | Errno::CONNRESET) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

fn answer(peer: impl AsFd, opened: io::Result<OwnedFd>) -> Result<(), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let sockets;
    let error = match &opened {
        Ok(socket) => {
            sockets = [socket.as_fd()];
            control.push(SendAncillaryMessage::ScmRights(&sockets));
            0
        }
        Err(error) => error.raw_os_error().unwrap_or(libc::EIO),
    };
    let bytes = error.to_ne_bytes();
    sendmsg(
        peer,
        &[IoSlice::new(&bytes)],
        &mut control,
        SendFlags::NOSIGNAL,
    )
    .map(drop)
}

fn encode(request: &SocketRequest) -> [u8; REQUEST] {
    let mut bytes = [0; REQUEST];
    bytes[0] = if request.family.is_v6() { 6 } else { 4 };
    bytes[1] = request.mark.is_some().into();
    bytes[4..8].copy_from_slice(&request.mark.unwrap_or(0).to_ne_bytes());
    bytes[8..12].copy_from_slice(&request.receive_buffer.to_ne_bytes());
    bytes[12..16].copy_from_slice(&request.send_buffer.to_ne_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Option<SocketRequest> {
    let bytes: &[u8; REQUEST] = bytes.try_into().ok()?;
    let number = |at: usize| {
        let bytes = [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
        u32::from_ne_bytes(bytes)
    };
    let family = match bytes[0] {
        4 => Family::V4,
        6 => Family::V6,
        _ => return None,
    };
    if bytes[1] > 1 || bytes[2..4] != [0, 0] {
        return None;
    }
    Some(SocketRequest {
        family,
        mark: (bytes[1] == 1).then(|| number(4)),
        receive_buffer: number(8),
        send_buffer: number(12),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    use super::*;

    fn pair() -> (OwnedFd, OwnedFd) {
        let flags = SocketFlags::CLOEXEC;
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap()
    }

    fn request(mark: Option<u32>) -> SocketRequest {
        SocketRequest {
            family: Family::V6,
            mark,
            receive_buffer: 1 << 20,
            send_buffer: 4096,
        }
    }

    proptest! {
        #[test]
        fn any_message_is_a_request_or_none(bytes in prop::collection::vec(any::<u8>(), 0..20)) {
            if let Some(request) = decode(&bytes) {
                prop_assert_eq!(decode(&encode(&request)), Some(request));
            }
        }
    }

    #[test]
    fn requests_arrive_as_they_were_sent() {
        for mark in [None, Some(0), Some(u32::MAX)] {
            assert_eq!(decode(&encode(&request(mark))), Some(request(mark)));
        }
    }

    #[test]
    fn a_helper_that_is_gone_is_told_and_one_without_a_program_ends() {
        let (ours, theirs) = pair();
        drop(theirs);
        let error = SocketHelper::new(ours).unwrap().open(&request(None));
        assert!(error.is_err());
        let (ours, theirs) = pair();
        drop(ours);
        serve(theirs).unwrap();
    }

    #[test]
    fn nonsense_is_refused_and_the_helper_goes_on() {
        let (ours, theirs) = pair();
        let helper = std::thread::spawn(move || serve(theirs));
        for nonsense in [&[9_u8; REQUEST][..], &[4], &[4; 100]] {
            rustix::net::send(&ours, nonsense, SendFlags::empty()).unwrap();
            let mut answer = [0; 8];
            let (length, _) =
                rustix::net::recv(&ours, &mut answer[..], RecvFlags::empty()).unwrap();
            assert_eq!(answer[..length], libc::EINVAL.to_ne_bytes());
        }
        drop(ours);
        helper.join().unwrap().unwrap();
    }
}
