//! The socket of one address family: how probes leave through it and how replies come in.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use pe_scrape::Family;

use crate::proto::Nanos;
use crate::proto::corruption::{Corruption, checksum_errors};
use crate::proto::filter::{self, IdBlock};
use crate::proto::icmp;
use crate::proto::inflight::{FLOWS, wire_block};
use crate::sys::{self, Absent, Socket, SocketOptions};
use crate::{OpenError, OpenSocket, SocketKind, SocketRequest};

/// How many identifiers an engine with raw sockets uses at most; 65,536 probes can be in flight under each.
pub(crate) const IDENTIFIERS: u16 = FLOWS as u16;

/// Bytes of an ICMP message that fits any link in one piece.
const ATOMIC: usize = 100;

/// The send buffer to ask for, in bytes: room for a few thousand small packets that the kernel has taken and the network
/// has not.
const SEND_BUFFER: usize = 4 << 20;

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

/// An open socket of one family.
pub(crate) struct Channel {
    pub(crate) socket: Socket,
    /// A raw socket for sending only. With `IP_RECVERR` the kernel refuses what finds a full queue instead of dropping
    /// it unsaid; on the receiving socket that option would also bring every ICMP error twice.
    sender: Option<Socket>,
    pub(crate) family: Family,
    pub(crate) kind: SocketKind,
    pub(crate) receive_buffer: usize,
    ids: Identifiers,
    /// What the sockets are to be bound to and this machine does not have. They are not bound then, and not to be used.
    pub(crate) absent: Option<Absent>,
    /// The last moment at which nothing was left to read.
    pub(crate) empty_at: Nanos,
    /// How many packets the socket had dropped when that was last looked at.
    drops: u32,
    corruption: Corruption,
}

/// Packets that a socket has discarded between two looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Discarded {
    /// For want of room in the receive buffer.
    pub(crate) overflow: u32,
    /// For a wrong checksum.
    pub(crate) corrupted: u32,
}

/// Which identifiers are this channel's.
#[derive(Debug, Clone, Copy)]
enum Identifiers {
    /// A block that we chose, for raw sockets.
    Block(IdBlock),
    /// The one that the kernel gave to a datagram socket.
    Port(u16),
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
        let socket = Socket::datagram(family).map_err(|error| OpenError::socket(family, error))?;
        Self::datagram(socket, family, settings)
    }

    fn raw(socket: Socket, family: Family, settings: &ChannelSettings) -> Result<Self, OpenError> {
        let refused = |name| move |error| OpenError::option(name, error);
        // Types are admitted last, so that nothing foreign gets into the buffer.
        socket
            .filter(&filter::program(family, settings.ids))
            .map_err(refused("SO_ATTACH_FILTER"))?;
        let types = icmp::types_of_interest(family);
        socket.admit_types(types).map_err(refused("ICMP_FILTER"))?;
        let receive_buffer = socket.receive_buffer_size();
        let ids = Identifiers::Block(settings.ids);
        let (sender, absent) = sending_socket(family, settings)?;
        let channel = Self::finish(socket, family, ids, settings, receive_buffer)?;
        Ok(Self {
            sender: Some(sender),
            absent: channel.absent.or(absent),
            ..channel
        })
    }

    fn datagram(
        socket: Socket,
        family: Family,
        settings: &ChannelSettings,
    ) -> Result<Self, OpenError> {
        let refused = |name| move |error| OpenError::option(name, error);
        socket
            .report_errors()
            .map_err(|(name, error)| OpenError::option(name, error))?;
        if let Some(mark) = settings.options.mark {
            socket.mark(mark).map_err(refused("SO_MARK"))?;
        }
        socket.send_buffer(SEND_BUFFER);
        let receive_buffer = socket.receive_buffer(settings.receive_buffer);
        // The source address is bound here, and the kernel chooses the port.
        let ids = Identifiers::Port(0);
        let mut channel = Self::finish(socket, family, ids, settings, receive_buffer)?;
        let mut port = channel.socket.port().map_err(refused("getsockname"))?;
        if port == 0 {
            channel.socket.bind_any().map_err(refused("bind"))?;
            port = channel.socket.port().map_err(refused("getsockname"))?;
        }
        channel.ids = Identifiers::Port(port);
        Ok(channel)
    }

    fn finish(
        socket: Socket,
        family: Family,
        ids: Identifiers,
        settings: &ChannelSettings,
        receive_buffer: usize,
    ) -> Result<Self, OpenError> {
        let refused = |(name, error)| OpenError::option(name, error);
        let kind = match ids {
            Identifiers::Block(_) => SocketKind::Raw,
            Identifiers::Port(_) => SocketKind::Datagram,
        };
        let absent = socket
            .apply(&settings.options, settings.is_atomic())
            .map_err(refused)?;
        socket
            .apply_receive(kind == SocketKind::Raw)
            .map_err(refused)?;
        let mut channel = Self {
            drops: socket.drops().unwrap_or(0),
            sender: None,
            socket,
            family,
            kind,
            receive_buffer,
            ids,
            absent,
            empty_at: 0,
            corruption: Corruption::default(),
        };
        // The first count is what later ones are compared with.
        channel.look_for_drops(sys::monotonic());
        Ok(channel)
    }

    /// Whether `drops`, as a received packet tells it, is more than is known.
    #[inline]
    pub(crate) fn has_new_drops(&self, drops: u32) -> bool {
        drops != self.drops
    }

    /// Asks the socket what it has discarded since the last look.
    pub(crate) fn look_for_drops(&mut self, now: Nanos) -> Discarded {
        let drops = self.socket.drops().unwrap_or(self.drops);
        let risen = drops.wrapping_sub(std::mem::replace(&mut self.drops, drops));
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

    /// How many probes can be in flight: 65,536 for each identifier.
    pub(crate) fn limit(&self) -> usize {
        match self.ids {
            Identifiers::Block(_) => usize::from(IDENTIFIERS) << 16,
            Identifiers::Port(_) => 1 << 16,
        }
    }

    /// The identifier of a probe of a flow in a block of the table. A datagram socket has but one.
    #[inline]
    pub(crate) fn id(&self, block: u16, flow: u8) -> u16 {
        match self.ids {
            Identifiers::Block(ids) => ids.id(wire_block(block, flow)),
            Identifiers::Port(port) => port,
        }
    }

    /// The position of an identifier among ours.
    #[inline]
    pub(crate) fn block(&self, id: u16) -> Option<u16> {
        match self.ids {
            Identifiers::Block(ids) => ids.position(id),
            Identifiers::Port(port) => (port == id).then_some(0),
        }
    }

    /// The flow to send with, where another is wanted: a datagram socket has one identifier, and so one flow.
    #[inline]
    pub(crate) fn flow(&self, wanted: u8) -> u8 {
        match self.ids {
            Identifiers::Block(_) => wanted,
            Identifiers::Port(_) => 0,
        }
    }

    /// Where requests are sent.
    pub(crate) fn sender(&self) -> BorrowedFd<'_> {
        self.sender.as_ref().unwrap_or(&self.socket).as_fd()
    }

    /// Forgets the ICMP errors that a sender of its own has collected, which are read as packets elsewhere. Returns how many
    /// there were.
    pub(crate) fn clear_sender_errors(&self) -> usize {
        self.sender.as_ref().map_or(0, Socket::clear_errors)
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Opens the socket that a raw channel sends through.
fn sending_socket(
    family: Family,
    settings: &ChannelSettings,
) -> Result<(Socket, Option<Absent>), OpenError> {
    let refused = |(name, error)| OpenError::option(name, error);
    // Nothing is read from it but its error queue, which may overflow.
    let socket = settings
        .raw(family, 0)
        .map_err(|error| OpenError::socket(family, error))?;
    socket.report_errors().map_err(refused)?;
    let absent = socket
        .apply(&settings.options, settings.is_atomic())
        .map_err(refused)?;
    Ok((socket, absent))
}

pub(crate) fn is_permission(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EPERM | libc::EACCES))
}
