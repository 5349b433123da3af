//! Who opens sockets: this process, or a helper that has the rights for it.
//!
//! Opening a raw socket takes CAP_NET_RAW, and a mark or a receive buffer beyond `net.core.rmem_max` take CAP_NET_ADMIN.
//! Nothing after that does. A program that wants to run without any capability starts a helper process that has them, calls
//! [`serve`] there, and gives a [`SocketHelper`] to its pingers.
//!
//! The two talk over a Unix socket of the kind `SOCK_SEQPACKET` (`unix(7)`): a request is one message of [`REQUEST`] bytes, the
//! answer is one message of [`ANSWER`] bytes, the request's number and the error number, 0 for none, with the socket beside it
//! (`SCM_RIGHTS`). All numbers are in this machine's byte order. An answer that comes when its request was given up is known by its
//! number. A helper does what requests can say and no more, so that whoever takes over the program gains an ICMP socket at most.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use pe_scrape::Family;
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg, sockopt,
};

use crate::sys::Socket;

/// Bytes of a request: family, flags, two of padding, mark, receive buffer, send buffer, number.
const REQUEST: usize = 20;

/// Bytes of an answer: number and error.
const ANSWER: usize = 8;

/// How long a helper may take for one answer: so many times so long. A machine that stands still uses up one of them.
const PATIENCE: (u32, Duration) = (5, Duration::from_secs(1));

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
    peer: Mutex<Peer>,
    /// How often the time for an answer may run out.
    patience: u32,
}

#[derive(Debug)]
struct Peer {
    socket: OwnedFd,
    /// The number of the latest request.
    number: u32,
}

impl SocketHelper {
    /// A helper at the other end of `peer`, a connected Unix socket of the kind `SOCK_SEQPACKET`.
    ///
    /// # Errors
    /// When the time for an answer cannot be bounded.
    pub fn new(peer: OwnedFd) -> io::Result<Self> {
        Self::with_patience(peer, PATIENCE)
    }

    fn with_patience(socket: OwnedFd, (patience, time): (u32, Duration)) -> io::Result<Self> {
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(time))?;
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(time * patience))?;
        let peer = Peer { socket, number: 0 };
        Ok(Self {
            peer: Mutex::new(peer),
            patience,
        })
    }
}

impl OpenSocket for SocketHelper {
    fn open(&self, request: &SocketRequest) -> io::Result<OwnedFd> {
        let mut peer = self.peer.lock().unwrap_or_else(PoisonError::into_inner);
        peer.number = peer.number.wrapping_add(1);
        let bytes = encode(peer.number, request);
        retry_on_intr(|| rustix::net::send(&peer.socket, &bytes, SendFlags::NOSIGNAL))?;
        let mut waited = 0;
        loop {
            match receive(&peer.socket) {
                Ok((number, answer)) if number == peer.number => return answer,
                // To a request that was given up.
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => waited += 1,
                Err(error) => return Err(error),
            }
            if waited == self.patience {
                return Err(late());
            }
        }
    }
}

/// The next answer, with the number of its request.
fn receive(peer: impl AsFd) -> io::Result<(u32, io::Result<OwnedFd>)> {
    let mut bytes = [0; ANSWER];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = retry_on_intr(|| {
        recvmsg(
            &peer,
            &mut [IoSliceMut::new(&mut bytes)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        )
    })?;
    if received.bytes != ANSWER {
        return Err(gone());
    }
    let sockets = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut sockets) => sockets.next(),
        _ => None,
    });
    let socket = sockets.last();
    let answer = match number_at(&bytes, 4).cast_signed() {
        0 => socket.ok_or_else(gone),
        error => Err(io::Error::from_raw_os_error(error)),
    };
    Ok((number_at(&bytes, 0), answer))
}

fn late() -> io::Error {
    let message = "the process that opens sockets has not answered in time";
    io::Error::new(io::ErrorKind::TimedOut, message)
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
        let (number, opened) = match decode(&request[..length]) {
            Some((number, request)) => (number, OwnRights.open(&request)),
            None => (0, Err(Errno::INVAL.into())),
        };
        match answer(&peer, number, opened) {
            Ok(()) => {}
            Err(Errno::PIPE | Errno::CONNRESET) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

fn answer(peer: impl AsFd, number: u32, opened: io::Result<OwnedFd>) -> Result<(), Errno> {
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
    let mut bytes = [0; ANSWER];
    bytes[..4].copy_from_slice(&number.to_ne_bytes());
    bytes[4..].copy_from_slice(&error.to_ne_bytes());
    sendmsg(
        peer,
        &[IoSlice::new(&bytes)],
        &mut control,
        SendFlags::NOSIGNAL,
    )
    .map(drop)
}

fn encode(number: u32, request: &SocketRequest) -> [u8; REQUEST] {
    let mut bytes = [0; REQUEST];
    bytes[0] = if request.family.is_v6() { 6 } else { 4 };
    bytes[1] = request.mark.is_some().into();
    bytes[4..8].copy_from_slice(&request.mark.unwrap_or(0).to_ne_bytes());
    bytes[8..12].copy_from_slice(&request.receive_buffer.to_ne_bytes());
    bytes[12..16].copy_from_slice(&request.send_buffer.to_ne_bytes());
    bytes[16..20].copy_from_slice(&number.to_ne_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Option<(u32, SocketRequest)> {
    let bytes: &[u8; REQUEST] = bytes.try_into().ok()?;
    let family = match bytes[0] {
        4 => Family::V4,
        6 => Family::V6,
        _ => return None,
    };
    if bytes[1] > 1 || bytes[2..4] != [0, 0] {
        return None;
    }
    let request = SocketRequest {
        family,
        mark: (bytes[1] == 1).then(|| number_at(bytes, 4)),
        receive_buffer: number_at(bytes, 8),
        send_buffer: number_at(bytes, 12),
    };
    Some((number_at(bytes, 16), request))
}

fn number_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

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
            if let Some((number, request)) = decode(&bytes) {
                prop_assert_eq!(decode(&encode(number, &request)), Some((number, request)));
            }
        }
    }

    #[test]
    fn requests_arrive_as_they_were_sent() {
        for mark in [None, Some(0), Some(u32::MAX)] {
            let sent = encode(7, &request(mark));
            assert_eq!(decode(&sent), Some((7, request(mark))));
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
    fn an_answer_that_comes_late_is_not_taken_for_one_to_the_next_request() {
        let (ours, theirs) = pair();
        let helper = SocketHelper::with_patience(ours, (2, Duration::from_millis(1))).unwrap();
        let error = helper.open(&request(None)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);

        let take = || {
            let mut bytes = [0; REQUEST];
            rustix::net::recv(&theirs, &mut bytes[..], RecvFlags::empty()).unwrap();
            decode(&bytes).unwrap().0
        };
        let file = || tempfile::tempfile().unwrap();
        let inode = |file: &std::fs::File| file.metadata().unwrap().ino();
        let (late, right) = (file(), file());
        let wanted = inode(&right);
        answer(&theirs, take(), Ok(late.into())).unwrap();
        // The next request will have the next number.
        answer(&theirs, 2, Ok(right.into())).unwrap();
        let opened = helper.open(&request(None)).unwrap();
        assert_eq!(inode(&opened.into()), wanted);
        assert_eq!(take(), 2);
    }

    #[test]
    fn nonsense_is_refused_and_the_helper_goes_on() {
        let (ours, theirs) = pair();
        let helper = std::thread::spawn(move || serve(theirs));
        for nonsense in [&[9_u8; REQUEST][..], &[4], &[4; 100]] {
            rustix::net::send(&ours, nonsense, SendFlags::empty()).unwrap();
            let (number, answer) = receive(&ours).unwrap();
            assert_eq!(number, 0);
            let error = answer.unwrap_err().raw_os_error();
            assert_eq!(error, Some(libc::EINVAL));
        }
        drop(ours);
        helper.join().unwrap().unwrap();
    }
}
