//! ICMP sockets and their options.

use std::ffi::CString;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use pe_scrape::Family;
use pnet::packet::ip::IpNextHeaderProtocols::{Icmp, Icmpv6};
use pnet::transport::{TransportChannelType, TransportProtocol, transport_channel};

use crate::proto::filter::Instruction;

/// Errors that are forgotten at one go: more than a small error queue holds.
const MOST_ERRORS: usize = 256;

/// An ICMP socket of one family.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
    family: Family,
}

/// What [`Socket::apply`] sets; see [`PingerBuilder`](crate::PingerBuilder) for the meaning.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct SocketOptions {
    pub(crate) source: Option<IpAddr>,
    pub(crate) interface: Option<String>,
    pub(crate) ttl: Option<u8>,
    pub(crate) dscp: u8,
    pub(crate) dont_fragment: bool,
    pub(crate) mark: Option<u32>,
}

/// What a socket is to be bound to, and this machine does not have for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Absent {
    /// The interface.
    Interface,
    /// The source address.
    Source,
}

impl SocketOptions {
    /// Whether sockets are bound to something that may come and go.
    pub(crate) fn are_bound(&self) -> bool {
        self.interface.is_some() || self.source.is_some()
    }

    /// Looks whether what sockets are bound to is there. Returns the index of the interface, 0 where none is wanted.
    pub(crate) fn look(&self) -> Result<u32, Absent> {
        let index = match &self.interface {
            Some(name) => interface_index(name).ok_or(Absent::Interface)?,
            None => 0,
        };
        let has_source = |source| {
            let bound = Socket::udp(Family::of(source)).and_then(|socket| {
                if let Some(name) = &self.interface {
                    socket.bind_to_interface(name)?;
                }
                socket.bind(source)
            });
            // Other troubles are told when the socket itself is opened.
            bound.map_err(|error| error.raw_os_error()) != Err(Some(libc::EADDRNOTAVAIL))
        };
        if self.source.is_none_or(has_source) {
            Ok(index)
        } else {
            Err(Absent::Source)
        }
    }
}

/// An option that could not be set, by its name in the manual pages.
pub(crate) type Refused = (&'static str, io::Error);

impl From<Socket> for OwnedFd {
    fn from(socket: Socket) -> Self {
        socket.fd
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

impl Socket {
    /// Opens a raw ICMP socket through pnet and takes a descriptor of our own.
    pub(crate) fn raw(family: Family) -> io::Result<Self> {
        let protocol = match family {
            Family::V4 => TransportProtocol::Ipv4(Icmp),
            Family::V6 => TransportProtocol::Ipv6(Icmpv6),
        };
        let (sender, receiver) = transport_channel(0, TransportChannelType::Layer4(protocol))?;
        // pnet's ends share one descriptor that the last of them closes. Ours is a duplicate, which stays open.
        // SAFETY: the descriptor is open, as `sender` is dropped later; no memory is passed.
        let fd = check(unsafe { libc::fcntl(sender.socket.fd, libc::F_DUPFD_CLOEXEC, 3) })?;
        drop((sender, receiver));
        // SAFETY: `fd` was just made, is open, and nobody else has it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { fd, family })
    }

    /// Opens a datagram ICMP socket, which needs no capability where `net.ipv4.ping_group_range` admits our group.
    pub(crate) fn datagram(family: Family) -> io::Result<Self> {
        let (domain, protocol) = match family {
            Family::V4 => (libc::AF_INET, libc::IPPROTO_ICMP),
            Family::V6 => (libc::AF_INET6, libc::IPPROTO_ICMPV6),
        };
        Self::of_datagrams(domain, protocol, family)
    }

    /// Opens a UDP socket, to try what can be bound.
    fn udp(family: Family) -> io::Result<Self> {
        let domain = if family.is_v6() {
            libc::AF_INET6
        } else {
            libc::AF_INET
        };
        Self::of_datagrams(domain, 0, family)
    }

    fn of_datagrams(
        domain: libc::c_int,
        protocol: libc::c_int,
        family: Family,
    ) -> io::Result<Self> {
        let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
        // SAFETY: no memory is passed.
        let fd = check(unsafe { libc::socket(domain, kind, protocol) })?;
        // SAFETY: `fd` was just made, is open, and nobody else has it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { fd, family })
    }

    /// An ICMP socket of that family that somebody else has opened.
    pub(crate) fn opened(fd: OwnedFd, family: Family) -> Self {
        Self { fd, family }
    }

    fn set<T>(&self, level: libc::c_int, name: libc::c_int, value: &T) -> io::Result<()> {
        // SAFETY: `value` is readable for the call in the size that is passed along, and so is what the one value with a
        // pointer inside (see `filter`) points to.
        check(unsafe {
            libc::setsockopt(
                self.fd.as_raw_fd(),
                level,
                name,
                std::ptr::from_ref(value).cast(),
                size_of::<T>() as libc::socklen_t,
            )
        })
        .map(drop)
    }

    fn set_int(
        &self,
        level: libc::c_int,
        option: libc::c_int,
        name: &'static str,
        value: libc::c_int,
    ) -> Result<(), Refused> {
        self.set(level, option, &value)
            .map_err(|error| (name, error))
    }

    /// Sets the firewall mark of what leaves.
    pub(crate) fn mark(&self, mark: u32) -> io::Result<()> {
        self.set(libc::SOL_SOCKET, libc::SO_MARK, &mark)
    }

    /// Sets what the user asked for, the mark apart. `atomic` says that the packets fit any link, so that they need no
    /// identification for fragments (RFC 6864), which takes the kernel some time to make up. Returns what the socket is to
    /// be bound to and this machine does not have; it is not bound then.
    pub(crate) fn apply(
        &self,
        options: &SocketOptions,
        atomic: bool,
    ) -> Result<Option<Absent>, Refused> {
        let tos = libc::c_int::from(options.dscp) << 2;
        if self.family.is_v6() {
            let level = libc::IPPROTO_IPV6;
            if let Some(ttl) = options.ttl {
                self.set_int(
                    level,
                    libc::IPV6_UNICAST_HOPS,
                    "IPV6_UNICAST_HOPS",
                    ttl.into(),
                )?;
            }
            if tos != 0 {
                self.set_int(level, libc::IPV6_TCLASS, "IPV6_TCLASS", tos)?;
            }
            if options.dont_fragment {
                let probe = libc::IPV6_PMTUDISC_PROBE;
                self.set_int(level, libc::IPV6_MTU_DISCOVER, "IPV6_MTU_DISCOVER", probe)?;
                self.set_int(level, libc::IPV6_DONTFRAG, "IPV6_DONTFRAG", 1)?;
            }
        } else {
            let level = libc::IPPROTO_IP;
            if let Some(ttl) = options.ttl {
                self.set_int(level, libc::IP_TTL, "IP_TTL", ttl.into())?;
            }
            if tos != 0 {
                self.set_int(level, libc::IP_TOS, "IP_TOS", tos)?;
            }
            let discover = if options.dont_fragment || atomic {
                libc::IP_PMTUDISC_PROBE
            } else {
                libc::IP_PMTUDISC_DONT
            };
            self.set_int(level, libc::IP_MTU_DISCOVER, "IP_MTU_DISCOVER", discover)?;
        }
        if let Some(interface) = &options.interface {
            match self.bind_to_interface(interface) {
                Err(error) if error.raw_os_error() == Some(libc::ENODEV) => {
                    return Ok(Some(Absent::Interface));
                }
                bound => bound.map_err(|error| ("SO_BINDTODEVICE", error))?,
            }
        }
        match options.source {
            Some(source) if Family::of(source) == self.family => match self.bind(source) {
                Err(error) if error.raw_os_error() == Some(libc::EADDRNOTAVAIL) => {
                    return Ok(Some(Absent::Source));
                }
                bound => bound.map_err(|error| ("bind", error))?,
            },
            _ => {}
        }
        Ok(None)
    }

    /// Asks for receive time stamps and drop counts, and for what the packet's bytes do not tell.
    pub(crate) fn apply_receive(&self, raw: bool) -> Result<(), Refused> {
        self.set_int(libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, "SO_TIMESTAMPNS", 1)?;
        self.set_int(libc::SOL_SOCKET, libc::SO_RXQ_OVFL, "SO_RXQ_OVFL", 1)?;
        if self.family.is_v6() {
            let level = libc::IPPROTO_IPV6;
            self.set_int(level, libc::IPV6_RECVHOPLIMIT, "IPV6_RECVHOPLIMIT", 1)?;
        } else if !raw {
            self.set_int(libc::IPPROTO_IP, libc::IP_RECVTTL, "IP_RECVTTL", 1)?;
        }
        Ok(())
    }

    /// Asks for errors of this socket's packets in its error queue, and for a local queue's drops at the call.
    pub(crate) fn report_errors(&self) -> Result<(), Refused> {
        if self.family.is_v6() {
            self.set_int(libc::IPPROTO_IPV6, libc::IPV6_RECVERR, "IPV6_RECVERR", 1)
        } else {
            self.set_int(libc::IPPROTO_IP, libc::IP_RECVERR, "IP_RECVERR", 1)
        }
    }

    fn bind_to_interface(&self, interface: &str) -> io::Result<()> {
        let name = CString::new(interface)?;
        let bytes = name.as_bytes_with_nul();
        // SAFETY: `bytes` are readable for the call and their length is passed along.
        check(unsafe {
            libc::setsockopt(
                self.fd.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_BINDTODEVICE,
                bytes.as_ptr().cast(),
                bytes.len() as libc::socklen_t,
            )
        })
        .map(drop)
    }

    /// Binds to an address; a datagram socket gets its identifier by that.
    pub(crate) fn bind(&self, address: IpAddr) -> io::Result<()> {
        // SAFETY: a sockaddr_in6 of zeros is valid.
        let mut name: libc::sockaddr_in6 = unsafe { std::mem::zeroed() };
        let length = match address {
            IpAddr::V4(address) => {
                name.sin6_family = libc::AF_INET as libc::sa_family_t;
                // A sockaddr_in has its four octets where a sockaddr_in6 has its flow information.
                name.sin6_flowinfo = u32::from_ne_bytes(address.octets());
                size_of::<libc::sockaddr_in>()
            }
            IpAddr::V6(address) => {
                name.sin6_family = libc::AF_INET6 as libc::sa_family_t;
                name.sin6_addr.s6_addr = address.octets();
                size_of::<libc::sockaddr_in6>()
            }
        };
        // SAFETY: `name` holds an address of the family it names, in the length that is passed along.
        check(unsafe {
            libc::bind(
                self.fd.as_raw_fd(),
                (&raw const name).cast(),
                length as libc::socklen_t,
            )
        })
        .map(drop)
    }

    /// Binds to no address in particular.
    pub(crate) fn bind_any(&self) -> io::Result<()> {
        self.bind(match self.family {
            Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
            Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
        })
    }

    /// The port of the socket's own address: a datagram ICMP socket's identifier.
    pub(crate) fn port(&self) -> io::Result<u16> {
        // SAFETY: a sockaddr_in6 of zeros is valid.
        let mut name: libc::sockaddr_in6 = unsafe { std::mem::zeroed() };
        let mut length = size_of::<libc::sockaddr_in6>() as libc::socklen_t;
        // SAFETY: `name` is writable and as long as `length` says.
        check(unsafe {
            libc::getsockname(self.fd.as_raw_fd(), (&raw mut name).cast(), &raw mut length)
        })?;
        // The port is at the same place in both families' addresses.
        Ok(u16::from_be(name.sin6_port))
    }

    /// Attaches a classic BPF program.
    pub(crate) fn filter(&self, program: &[Instruction]) -> io::Result<()> {
        let mut code: Vec<libc::sock_filter> = program
            .iter()
            .map(|instruction| libc::sock_filter {
                code: instruction.code,
                jt: instruction.if_true,
                jf: instruction.if_false,
                k: instruction.operand,
            })
            .collect();
        let program = libc::sock_fprog {
            len: code.len() as libc::c_ushort,
            filter: code.as_mut_ptr(),
        };
        // The kernel copies the program during the call.
        self.set(libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
    }

    /// Lets a raw socket see only the ICMP types in `types`. Cheaper than a BPF program, and runs before it.
    pub(crate) fn admit_types(&self, types: &[u8]) -> io::Result<()> {
        // A set bit blocks its type.
        let mut blocked = [u32::MAX; 8];
        for &kind in types {
            blocked[usize::from(kind >> 5)] &= !(1 << (kind & 31));
        }
        if self.family.is_v6() {
            const ICMP6_FILTER: libc::c_int = 1;
            self.set(libc::IPPROTO_ICMPV6, ICMP6_FILTER, &blocked)
        } else {
            // ICMP_FILTER knows the first 32 types, and lets all others pass.
            const SOL_RAW: libc::c_int = 255;
            const ICMP_FILTER: libc::c_int = 1;
            self.set(SOL_RAW, ICMP_FILTER, &blocked[0])
        }
    }

    /// Asks for a receive buffer of `bytes` and returns what the socket got.
    ///
    /// The size is in the kernel's own accounting, where a small packet takes about 768 bytes.
    pub(crate) fn receive_buffer(&self, bytes: usize) -> usize {
        let wanted = libc::c_int::try_from(bytes / 2).unwrap_or(libc::c_int::MAX / 2);
        if self
            .set(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &wanted)
            .is_err()
        {
            // Without CAP_NET_ADMIN, net.core.rmem_max caps it. Setting it cannot fail; the caller reads what it got.
            let _ = self.set(libc::SOL_SOCKET, libc::SO_RCVBUF, &wanted);
        }
        self.receive_buffer_size()
    }

    /// How large the receive buffer is.
    pub(crate) fn receive_buffer_size(&self) -> usize {
        self.int(libc::SOL_SOCKET, libc::SO_RCVBUF).unwrap_or(0)
    }

    /// The same for the send buffer.
    pub(crate) fn send_buffer(&self, bytes: usize) {
        let wanted = libc::c_int::try_from(bytes / 2).unwrap_or(libc::c_int::MAX / 2);
        if self
            .set(libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &wanted)
            .is_err()
        {
            let _ = self.set(libc::SOL_SOCKET, libc::SO_SNDBUF, &wanted);
        }
    }

    fn int(&self, level: libc::c_int, name: libc::c_int) -> Option<usize> {
        let mut value: libc::c_int = 0;
        let mut length = size_of::<libc::c_int>() as libc::socklen_t;
        // SAFETY: `value` is writable and as long as `length` says.
        check(unsafe {
            libc::getsockopt(
                self.fd.as_raw_fd(),
                level,
                name,
                (&raw mut value).cast(),
                &raw mut length,
            )
        })
        .ok()?;
        usize::try_from(value).ok()
    }

    /// Forgets the ICMP errors about packets of this socket that have come in, so that the next call does not fail for them.
    /// Returns how many there were.
    pub(crate) fn clear_errors(&self) -> usize {
        let mut cleared = 0;
        while cleared < MOST_ERRORS {
            let mut byte = 0_u8;
            // SAFETY: `byte` is writable for the one byte that is asked for.
            let result = unsafe {
                libc::recv(
                    self.fd.as_raw_fd(),
                    (&raw mut byte).cast(),
                    1,
                    libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT,
                )
            };
            if result < 0 {
                break;
            }
            cleared += 1;
        }
        // Reading it clears it.
        let _ = self.int(libc::SOL_SOCKET, libc::SO_ERROR);
        cleared
    }

    /// How large the send buffer is.
    pub(crate) fn send_buffer_size(&self) -> usize {
        self.int(libc::SOL_SOCKET, libc::SO_SNDBUF).unwrap_or(0)
    }

    /// Whether what the network has not taken yet fills the send buffer.
    pub(crate) fn is_full(&self) -> bool {
        const SK_MEMINFO_WMEM_ALLOC: usize = 2;
        const SK_MEMINFO_SNDBUF: usize = 3;
        self.memory()
            .is_some_and(|memory| memory[SK_MEMINFO_WMEM_ALLOC] >= memory[SK_MEMINFO_SNDBUF])
    }

    /// How many packets the socket has dropped so far, because its buffer was full or (IPv6) their checksum was wrong.
    pub(crate) fn drops(&self) -> Option<u32> {
        const SK_MEMINFO_DROPS: usize = 8;
        Some(self.memory()?[SK_MEMINFO_DROPS])
    }

    /// What the socket holds and has dropped (`SO_MEMINFO`).
    fn memory(&self) -> Option<[u32; 9]> {
        const SO_MEMINFO: libc::c_int = 55;
        let mut info = [0_u32; 9];
        let mut length = size_of_val(&info) as libc::socklen_t;
        // SAFETY: `info` is writable and as long as `length` says.
        check(unsafe {
            libc::getsockopt(
                self.fd.as_raw_fd(),
                libc::SOL_SOCKET,
                SO_MEMINFO,
                info.as_mut_ptr().cast(),
                &raw mut length,
            )
        })
        .ok()?;
        (length as usize == size_of_val(&info)).then_some(info)
    }
}

/// Whether `address` is the broadcast address of a subnet of this machine. Sends nothing.
pub(crate) fn is_broadcast(address: Ipv4Addr) -> bool {
    // Connecting asks for the route only. It is refused alike for a broadcast address and for a prohibited route, unless the
    // socket may broadcast.
    UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).is_ok_and(|socket| {
        socket.connect((address, 9)).is_err()
            && socket.set_broadcast(true).is_ok()
            && socket.connect((address, 9)).is_ok()
    })
}

/// The index of the interface `name`, if there is one.
pub(crate) fn interface_index(name: &str) -> Option<u32> {
    let name = CString::new(name).ok()?;
    // SAFETY: `name` is a string that ends with a zero byte.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    (index != 0).then_some(index)
}
