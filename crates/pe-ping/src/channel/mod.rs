//! The sockets of one address family: how probes leave through them and how replies come in.

mod senders;

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use pe_scrape::Family;
use tracing::{debug, warn};

use crate::proto::Nanos;
use crate::proto::corruption::{Corruption, checksum_errors};
use crate::proto::filter::{self, IdBlock};
use crate::proto::icmp;
use crate::proto::inflight::{FLOWS, wire_block};
use crate::sys::{self, Absent, Socket, SocketOptions};
use crate::{OpenError, OpenSocket, SocketKind, SocketRequest};
pub(crate) use senders::Lane;
use senders::{Choice, Senders};

/// How many identifiers an engine with raw sockets uses at most; 65,536 probes can be in flight under each.
pub(crate) const IDENTIFIERS: u16 = FLOWS as u16;

/// Bytes of an ICMP message that fits any link in one piece.
const ATOMIC: usize = 100;

/// The send buffer to ask for, in bytes: room for a few thousand small packets that the kernel has taken and the network
/// has not.
const SEND_BUFFER: usize = 4 << 20;

/// Bytes in the send buffers of a family's raw sockets from which on no further ones are opened: room for some 40,000 small
/// packets.
const SEND_BUFFERS: usize = 32 << 20;

/// The most sockets of a family that are only sent through.
const MOST_SENDERS: usize = 64;

/// The most datagram sockets of a family. Each has its own identifier and receives what is sent back to that.
pub(crate) const MOST_DATAGRAM: usize = 16;

/// How long no further socket is tried after one could not be opened.
const OPEN_AGAIN: Nanos = 1_000_000_000;

/// How the sockets of an engine are to be opened; the same for both families.
#[derive(Clone)]
pub(crate) struct ChannelSettings {
    /// The identifiers of requests, where we choose them.
    pub(crate) ids: IdBlock,
    pub(crate) options: SocketOptions,
    /// Bytes of each request, with its ICMP header.
    pub(crate) message_size: usize,
    /// Bytes of the receive buffer to ask for.
    pub(crate) receive_buffer: usize,
    /// Who opens raw sockets.
    pub(crate) opener: Arc<dyn OpenSocket>,
    /// The only kind of socket to use; `None` for raw sockets where they are permitted, else datagram sockets.
    pub(crate) kind: Option<SocketKind>,
}

impl ChannelSettings {
    /// Whether requests fit any link.
    fn is_atomic(&self) -> bool {
        self.message_size <= ATOMIC
    }

    /// Opens a raw socket that lets nothing in yet.
    fn raw(&self, family: Family, receive_buffer: usize) -> io::Result<Socket> {
        let bytes = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
        let fd = self.opener.open(&SocketRequest {
            family,
            mark: self.options.mark,
            receive_buffer: bytes(receive_buffer),
            send_buffer: bytes(SEND_BUFFER),
        })?;
        Ok(Socket::opened(fd, family))
    }
}

/// The open sockets of one family.
pub(crate) struct Channel {
    settings: ChannelSettings,
    /// The one raw socket, or all datagram sockets.
    pub(crate) receivers: Vec<Receiver>,
    /// Raw sockets for sending only. With `IP_RECVERR` the kernel refuses what finds a full queue instead of dropping
    /// it unsaid; on the receiving socket that option would also bring every ICMP error twice. Datagram sockets receive
    /// what they are sent back, so there are none.
    raw_senders: Vec<Socket>,
    senders: Senders,
    /// When a further socket may be opened.
    open_at: Nanos,
    /// Whether the last one could not be opened.
    is_refused: bool,
    pub(crate) family: Family,
    pub(crate) kind: SocketKind,
    pub(crate) receive_buffer: usize,
    /// What the sockets are to be bound to and this machine does not have. They are not bound then, and not to be used.
    pub(crate) absent: Option<Absent>,
    corruption: Corruption,
}

/// A socket to read replies from.
pub(crate) struct Receiver {
    socket: Socket,
    /// A datagram socket's identifier, which the kernel gave to it.
    port: u16,
    /// The last moment at which nothing was left to read.
    pub(crate) empty_at: Nanos,
    /// How many packets the socket had dropped when that was last looked at.
    drops: u32,
}

/// Packets that a socket has discarded between two looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Discarded {
    /// For want of room in the receive buffer.
    pub(crate) overflow: u32,
    /// For a wrong checksum.
    pub(crate) corrupted: u32,
}

impl Receiver {
    fn new(socket: Socket, port: u16) -> Self {
        Self {
            drops: socket.drops().unwrap_or(0),
            socket,
            port,
            empty_at: 0,
        }
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Whether `drops`, as a received packet tells it, is more than is known.
    #[inline]
    pub(crate) fn has_new_drops(&self, drops: u32) -> bool {
        drops != self.drops
    }
}

impl Channel {
    /// Opens a raw socket, or a datagram socket where raw ones are not permitted.
    pub(crate) fn open(family: Family, settings: &ChannelSettings) -> Result<Self, OpenError> {
        if settings.kind != Some(SocketKind::Datagram) {
            match settings.raw(family, settings.receive_buffer) {
                Ok(socket) => return Self::raw(socket, family, settings),
                Err(error) if settings.kind.is_some() || !is_permission(&error) => {
                    return Err(OpenError::socket(family, error));
                }
                Err(_) => {}
            }
        }
        Self::datagram(family, settings)
    }

    fn raw(socket: Socket, family: Family, settings: &ChannelSettings) -> Result<Self, OpenError> {
        let refused = |name| move |error| OpenError::option(name, error);
        // Types are admitted last, so that nothing foreign gets into the buffer.
        socket
            .filter(&filter::program(family, settings.ids))
            .map_err(refused("SO_ATTACH_FILTER"))?;
        let types = icmp::types_of_interest(family);
        socket.admit_types(types).map_err(refused("ICMP_FILTER"))?;
        let absent = apply(&socket, settings)?;
        socket
            .apply_receive(true)
            .map_err(|(name, error)| OpenError::option(name, error))?;
        let (sender, sender_absent) = sending_socket(family, settings)?;
        let receive_buffer = socket.receive_buffer_size();
        let receiver = Receiver::new(socket, 0);
        let mut channel = Self::new(family, SocketKind::Raw, receiver, settings);
        channel.raw_senders.push(sender);
        channel.receive_buffer = receive_buffer;
        channel.absent = absent.or(sender_absent);
        // The first count is what later ones are compared with.
        channel.look_for_drops(sys::monotonic());
        Ok(channel)
    }

    fn datagram(family: Family, settings: &ChannelSettings) -> Result<Self, OpenError> {
        let (receiver, absent) = datagram_socket(family, settings)?;
        let receive_buffer = receiver.socket.receive_buffer_size();
        let mut channel = Self::new(family, SocketKind::Datagram, receiver, settings);
        channel.receive_buffer = receive_buffer;
        channel.absent = absent;
        Ok(channel)
    }

    fn new(
        family: Family,
        kind: SocketKind,
        receiver: Receiver,
        settings: &ChannelSettings,
    ) -> Self {
        Self {
            settings: settings.clone(),
            receivers: vec![receiver],
            raw_senders: Vec::new(),
            senders: Senders::new(),
            open_at: 0,
            is_refused: false,
            family,
            kind,
            receive_buffer: 0,
            absent: None,
            corruption: Corruption::default(),
        }
    }

    /// The last moment at which nothing was left to read from any of the sockets.
    pub(crate) fn empty_at(&self) -> Nanos {
        let times = self.receivers.iter().map(|receiver| receiver.empty_at);
        times.min().unwrap_or(0)
    }

    /// Says that nothing was left to read at `now`.
    pub(crate) fn set_empty_at(&mut self, now: Nanos) {
        for receiver in &mut self.receivers {
            receiver.empty_at = now;
        }
    }

    /// Asks the sockets what they have discarded since the last look.
    pub(crate) fn look_for_drops(&mut self, now: Nanos) -> Discarded {
        let mut risen: u32 = 0;
        for receiver in &mut self.receivers {
            let drops = receiver.socket.drops().unwrap_or(receiver.drops);
            let more = drops.wrapping_sub(std::mem::replace(&mut receiver.drops, drops));
            risen = risen.saturating_add(more);
        }
        let mut corrupted = 0;
        if self.family.is_v6()
            && self.kind == SocketKind::Raw
            && self.corruption.wants_look(risen, now)
        {
            // This thread, the engine's or the one that opens it, is in the socket's network namespace; the process's
            // first may not be.
            let table = std::fs::read_to_string("/proc/thread-self/net/snmp6");
            let count = table.ok().and_then(|table| checksum_errors(&table));
            corrupted = self.corruption.look(risen, now, count);
        }
        Discarded {
            overflow: risen - corrupted,
            corrupted,
        }
    }

    /// How many probes can be in flight: 65,536 for each identifier that a raw socket may use.
    pub(crate) fn limit(&self) -> usize {
        match self.kind {
            SocketKind::Raw => usize::from(IDENTIFIERS) << 16,
            SocketKind::Datagram => 1 << 16,
        }
    }

    /// The identifier to write into a request of a flow in a block of the table. The kernel writes that of the socket over
    /// it where there is one.
    #[inline]
    pub(crate) fn id(&self, block: u16, flow: u8) -> u16 {
        match self.kind {
            SocketKind::Raw => self.settings.ids.id(wire_block(block, flow)),
            SocketKind::Datagram => 0,
        }
    }

    /// The block of the table that an identifier stands for; `None` if it is not ours. All identifiers of datagram sockets
    /// stand for the first.
    #[inline]
    pub(crate) fn block(&self, id: u16) -> Option<u16> {
        match self.kind {
            SocketKind::Raw => self.settings.ids.position(id),
            SocketKind::Datagram => {
                let mut ports = self.receivers.iter().map(|receiver| receiver.port);
                ports.any(|port| port == id).then_some(0)
            }
        }
    }

    /// The flow under which a probe is kept in the table: identifiers of datagram sockets all stand for the same block.
    #[inline]
    pub(crate) fn flow(&self, wanted: u8) -> u8 {
        match self.kind {
            SocketKind::Raw => wanted,
            SocketKind::Datagram => 0,
        }
    }

    /// The lane of a request of a flow, to a target that was `lost` last time or not.
    #[inline]
    pub(crate) fn lane(&self, flow: u8, lost: bool) -> Lane {
        match (self.kind, flow) {
            (SocketKind::Raw, _) if lost => Lane::Other(0),
            (SocketKind::Raw, _) | (SocketKind::Datagram, 0) => Lane::First,
            (SocketKind::Datagram, flow) => Lane::Other((flow - 1) % (MOST_DATAGRAM as u8 - 1) + 1),
        }
    }

    /// Whether requests of all lanes leave through the same socket.
    #[inline]
    pub(crate) fn has_one_sender(&self) -> bool {
        self.senders.len() == 1
    }

    /// Chooses the socket that a request is to leave through at `now`, and opens it if need be. `None` if none has room.
    #[inline]
    pub(crate) fn choose_sender(&mut self, lane: Lane, now: Nanos) -> Option<usize> {
        loop {
            match self.senders.choose(lane, now) {
                Choice::Socket(at) => return Some(at),
                Choice::Another if self.open_another(now) => {}
                Choice::Another => return self.senders.make_do(now),
            }
        }
    }

    /// Opens a further socket to send through. Returns whether there is one.
    #[cold]
    fn open_another(&mut self, now: Nanos) -> bool {
        let is_enough = match self.kind {
            SocketKind::Raw => {
                let buffers = self.raw_senders.iter().map(Socket::send_buffer_size);
                self.raw_senders.len() >= MOST_SENDERS || buffers.sum::<usize>() >= SEND_BUFFERS
            }
            SocketKind::Datagram => self.receivers.len() >= MOST_DATAGRAM,
        };
        if is_enough || now < self.open_at {
            return false;
        }
        let opened = match self.kind {
            SocketKind::Raw => {
                sending_socket(self.family, &self.settings).map(|(socket, absent)| {
                    absent.is_none().then(|| {
                        self.raw_senders.push(socket);
                        self.senders.add();
                        if self.raw_senders.len() == 2 {
                            // The first one is full of what found no neighbour, and is one of the others from now on.
                            self.raw_senders.swap(0, 1);
                            self.senders.swap_first();
                        }
                    })
                })
            }
            SocketKind::Datagram => {
                datagram_socket(self.family, &self.settings).map(|(mut receiver, absent)| {
                    receiver.empty_at = now;
                    absent.is_none().then(|| {
                        self.receivers.push(receiver);
                        self.senders.add();
                    })
                })
            }
        };
        let family = self.family;
        match opened {
            Ok(Some(())) => {
                self.is_refused = false;
                debug!(
                    %family,
                    sockets = self.senders.len(),
                    "requests leave through a further ICMP socket"
                );
                return true;
            }
            // What it is to be bound to is missing, which is told elsewhere.
            Ok(None) => {}
            // Told when it begins.
            Err(error) if !self.is_refused => {
                self.is_refused = true;
                warn!(
                    %family,
                    error = pe_scrape::with_causes(&error),
                    "a further ICMP socket to send through cannot be opened"
                );
            }
            Err(_) => {}
        }
        self.open_at = now + OPEN_AGAIN;
        false
    }

    fn sending(&self, at: usize) -> &Socket {
        match self.kind {
            SocketKind::Raw => &self.raw_senders[at],
            SocketKind::Datagram => &self.receivers[at].socket,
        }
    }

    /// The socket at `at` of those that requests leave through.
    ///
    /// # Panics
    /// If there is none.
    pub(crate) fn sender(&self, at: usize) -> BorrowedFd<'_> {
        self.sending(at).as_fd()
    }

    /// Leaves the socket at `at`, whose send buffer is full, alone for a while.
    pub(crate) fn rest(&mut self, at: usize, now: Nanos) {
        self.senders.rest(at, now);
    }

    /// The same if its send buffer is full. Returns whether it is.
    pub(crate) fn rest_if_full(&mut self, at: usize, now: Nanos) -> bool {
        let is_full = self.sending(at).is_full();
        if is_full {
            self.rest(at, now);
        }
        is_full
    }

    /// Forgets the ICMP errors that a raw sender has collected, which are read as packets elsewhere. Returns how many
    /// there were.
    pub(crate) fn clear_sender_errors(&self, at: usize) -> usize {
        self.raw_senders.get(at).map_or(0, Socket::clear_errors)
    }
}

fn apply(socket: &Socket, settings: &ChannelSettings) -> Result<Option<Absent>, OpenError> {
    socket
        .apply(&settings.options, settings.is_atomic())
        .map_err(|(name, error)| OpenError::option(name, error))
}

/// Opens a socket that a raw channel sends through.
fn sending_socket(
    family: Family,
    settings: &ChannelSettings,
) -> Result<(Socket, Option<Absent>), OpenError> {
    // Nothing is read from it but its error queue, which may overflow.
    let socket = settings
        .raw(family, 0)
        .map_err(|error| OpenError::socket(family, error))?;
    socket
        .report_errors()
        .map_err(|(name, error)| OpenError::option(name, error))?;
    let absent = apply(&socket, settings)?;
    Ok((socket, absent))
}

/// Opens a datagram socket. The kernel gives it an identifier of its own.
fn datagram_socket(
    family: Family,
    settings: &ChannelSettings,
) -> Result<(Receiver, Option<Absent>), OpenError> {
    let refused = |name| move |error| OpenError::option(name, error);
    let option = |(name, error)| OpenError::option(name, error);
    let socket = Socket::datagram(family).map_err(|error| OpenError::socket(family, error))?;
    socket.report_errors().map_err(option)?;
    if let Some(mark) = settings.options.mark {
        socket.mark(mark).map_err(refused("SO_MARK"))?;
    }
    socket.send_buffer(SEND_BUFFER);
    socket.receive_buffer(settings.receive_buffer);
    // The source address is bound here, and the kernel chooses the port.
    let absent = apply(&socket, settings)?;
    socket.apply_receive(false).map_err(option)?;
    let mut port = socket.port().map_err(refused("getsockname"))?;
    if port == 0 {
        socket.bind_any().map_err(refused("bind"))?;
        port = socket.port().map_err(refused("getsockname"))?;
    }
    Ok((Receiver::new(socket, port), absent))
}

pub(crate) fn is_permission(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EPERM | libc::EACCES))
}
