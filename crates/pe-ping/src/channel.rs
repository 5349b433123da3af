//! The socket of one address family: how probes leave through it and how replies come in.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use pe_scrape::Family;

use crate::proto::Nanos;
use crate::proto::corruption::{Corruption, checksum_errors};
use crate::proto::filter::{self, IdBlock};
use crate::proto::icmp;
use crate::sys::{self, Socket, SocketOptions};
use crate::{OpenError, SocketKind};

/// How many identifiers an engine with raw sockets uses at most; 65,536 probes can be in flight under each.
pub(crate) const IDENTIFIERS: u16 = 64;

/// An open socket of one family.
pub(crate) struct Channel {
    pub(crate) socket: Socket,
    /// A raw socket for sending only. It asks to be told of full queues (`IP_RECVERR`), which the kernel otherwise keeps
    /// to itself; on the receiving socket that would also bring every ICMP error twice.
    sender: Option<Socket>,
    pub(crate) family: Family,
    pub(crate) kind: SocketKind,
    pub(crate) receive_buffer: usize,
    ids: Identifiers,
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

/// ICMP messages up to this size fit any link in one piece.
const ATOMIC: usize = 100;

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
    pub(crate) fn open(
        family: Family,
        ids: IdBlock,
        options: &SocketOptions,
        message_size: usize,
        receive_buffer: usize,
        force: Option<SocketKind>,
    ) -> Result<Self, OpenError> {
        if force != Some(SocketKind::Datagram) {
            match Socket::raw(family) {
                Ok(socket) => {
                    return Self::raw(socket, family, ids, options, message_size, receive_buffer);
                }
                Err(error) if force.is_some() || !is_permission(&error) => {
                    return Err(OpenError::socket(family, error));
                }
                Err(_) => {}
            }
        }
        let socket = Socket::datagram(family).map_err(|error| OpenError::socket(family, error))?;
        Self::datagram(socket, family, options, message_size, receive_buffer)
    }

    fn raw(
        socket: Socket,
        family: Family,
        ids: IdBlock,
        options: &SocketOptions,
        message_size: usize,
        receive_buffer: usize,
    ) -> Result<Self, OpenError> {
        let refused = |name| move |error| OpenError::option(name, error);
        // The filters come first, so that nothing foreign gets into the buffer.
        let types = icmp::types_of_interest(family);
        socket.admit_types(types).map_err(refused("ICMP_FILTER"))?;
        socket
            .filter(&filter::program(family, ids))
            .map_err(refused("SO_ATTACH_FILTER"))?;
        let mut channel = Self::finish(
            socket,
            family,
            SocketKind::Raw,
            Identifiers::Block(ids),
            options,
            message_size,
            receive_buffer,
        )?;
        channel.sender = Some(Self::sending_socket(family, options, message_size)?);
        Ok(channel)
    }

    fn sending_socket(
        family: Family,
        options: &SocketOptions,
        message_size: usize,
    ) -> Result<Socket, OpenError> {
        let refused = |(name, error)| OpenError::option(name, error);
        let socket = Socket::raw(family).map_err(|error| OpenError::socket(family, error))?;
        socket
            .admit_types(&[])
            .map_err(|error| OpenError::option("ICMP_FILTER", error))?;
        // Nobody reads it; its error queue may overflow.
        socket.receive_buffer(0);
        socket.send_buffer(SEND_BUFFER);
        socket.report_errors().map_err(refused)?;
        socket
            .apply(options, message_size <= ATOMIC)
            .map_err(refused)?;
        Ok(socket)
    }

    fn datagram(
        socket: Socket,
        family: Family,
        options: &SocketOptions,
        message_size: usize,
        receive_buffer: usize,
    ) -> Result<Self, OpenError> {
        let refused = |name| move |error| OpenError::option(name, error);
        socket
            .report_errors()
            .map_err(|(name, error)| OpenError::option(name, error))?;
        let mut channel = Self::finish(
            socket,
            family,
            SocketKind::Datagram,
            Identifiers::Port(0),
            options,
            message_size,
            receive_buffer,
        )?;
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
        kind: SocketKind,
        ids: Identifiers,
        options: &SocketOptions,
        message_size: usize,
        receive_buffer: usize,
    ) -> Result<Self, OpenError> {
        let refused = |(name, error)| OpenError::option(name, error);
        socket
            .apply(options, message_size <= ATOMIC)
            .map_err(refused)?;
        socket
            .apply_receive(kind == SocketKind::Raw)
            .map_err(refused)?;
        let receive_buffer = socket.receive_buffer(receive_buffer);
        socket.send_buffer(SEND_BUFFER);
        let mut channel = Self {
            drops: socket.drops().unwrap_or(0),
            sender: None,
            socket,
            family,
            kind,
            receive_buffer,
            ids,
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

    /// The identifier of a block of the table.
    #[inline]
    pub(crate) fn id(&self, block: u16) -> u16 {
        match self.ids {
            Identifiers::Block(ids) => ids.id(block),
            Identifiers::Port(port) => port,
        }
    }

    /// The block of the table that an identifier stands for.
    #[inline]
    pub(crate) fn block(&self, id: u16) -> Option<u16> {
        match self.ids {
            Identifiers::Block(ids) => ids.position(id),
            Identifiers::Port(port) => (port == id).then_some(0),
        }
    }

    /// Where requests are sent.
    pub(crate) fn sender(&self) -> BorrowedFd<'_> {
        self.sender.as_ref().unwrap_or(&self.socket).as_fd()
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Room for what the kernel has taken but the network has not: a few thousand small packets.
const SEND_BUFFER: usize = 4 << 20;

pub(crate) fn is_permission(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EPERM | libc::EACCES))
}
