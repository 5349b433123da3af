//! Sending and receiving many packets with one system call, in buffers that are allocated once.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Bytes of control messages kept for each received packet: a time stamp, a hop limit, a drop count, and an error with
/// its sender.
const CONTROL: usize = 160;

#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct ControlBuffer([u8; CONTROL]);

/// How many packets a batch holds, and how large they may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    pub(crate) packets: usize,
    pub(crate) packet_size: usize,
}

impl Layout {
    /// Bytes from one packet's buffer to the next: an odd count of cache lines, so that the buffers of a batch do not
    /// crowd into the same sets of the cache.
    fn stride(self) -> usize {
        (self.packet_size.div_ceil(64) | 1) * 64
    }
}

fn empty_header() -> libc::mmsghdr {
    // SAFETY: an mmsghdr of zeros is valid: null pointers with lengths of zero.
    unsafe { std::mem::zeroed() }
}

fn empty_iovec() -> libc::iovec {
    libc::iovec {
        iov_base: std::ptr::null_mut(),
        iov_len: 0,
    }
}

fn empty_name() -> libc::sockaddr_in6 {
    // SAFETY: a sockaddr_in6 of zeros is valid: family AF_UNSPEC and no address.
    unsafe { std::mem::zeroed() }
}

/// Buffers for received packets.
pub(crate) struct ReceiveBatch {
    headers: Box<[libc::mmsghdr]>,
    // The headers point into these, which is why they are kept and never moved out of their boxes.
    _vectors: Box<[libc::iovec]>,
    names: Box<[libc::sockaddr_in6]>,
    controls: Box<[ControlBuffer]>,
    bytes: Box<[u8]>,
    stride: usize,
    packet_size: usize,
    /// How many headers the last call may have changed.
    used: usize,
    /// Whether the headers ask for names.
    named: bool,
}

// SAFETY: the pointers in the headers point into the boxes of the same value, which move with it; they are used through
// this value only, and belong to no thread.
unsafe impl Send for ReceiveBatch {}

/// One received packet.
pub(crate) struct Received<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) control: &'a [u8],
    /// Who sent it, where the socket says so.
    pub(crate) name: Option<IpAddr>,
    /// The link over which it came, where `name` is a link-local address and the socket says so; else 0.
    pub(crate) link: u32,
    /// The end of the packet did not fit the buffer.
    pub(crate) cut: bool,
}

impl ReceiveBatch {
    pub(crate) fn new(layout: Layout) -> Self {
        let (packets, stride) = (layout.packets, layout.stride());
        let mut bytes = vec![0; packets * stride].into_boxed_slice();
        let mut names = vec![empty_name(); packets].into_boxed_slice();
        let mut controls = vec![ControlBuffer([0; CONTROL]); packets].into_boxed_slice();
        let mut vectors = vec![empty_iovec(); packets].into_boxed_slice();
        let mut headers: Box<[_]> = (0..packets).map(|_| empty_header()).collect();
        let (bytes_at, names_at) = (bytes.as_mut_ptr(), names.as_mut_ptr());
        let (controls_at, vectors_at) = (controls.as_mut_ptr(), vectors.as_mut_ptr());
        for (at, header) in headers.iter_mut().enumerate() {
            // SAFETY: `at` is below the number of packets, and each of the boxes has that many elements (or strides).
            unsafe {
                let vector = vectors_at.add(at);
                (*vector).iov_base = bytes_at.add(at * stride).cast();
                (*vector).iov_len = layout.packet_size;
                header.msg_hdr.msg_iov = vector;
                header.msg_hdr.msg_iovlen = 1;
                header.msg_hdr.msg_name = names_at.add(at).cast();
                header.msg_hdr.msg_control = controls_at.add(at).cast();
            }
        }
        Self {
            headers,
            _vectors: vectors,
            names,
            controls,
            bytes,
            stride,
            packet_size: layout.packet_size,
            used: packets,
            named: false,
        }
    }

    /// How many packets one call can take.
    pub(crate) fn capacity(&self) -> usize {
        self.headers.len()
    }

    /// Takes what is there without waiting; 0 when nothing is. `named` asks for the senders' addresses, `flags` may be
    /// `MSG_ERRQUEUE`.
    pub(crate) fn receive(
        &mut self,
        socket: BorrowedFd<'_>,
        named: bool,
        flags: libc::c_int,
    ) -> io::Result<usize> {
        if named != self.named {
            // The last call was another socket's: what it left untouched does not fit this one.
            (self.named, self.used) = (named, self.headers.len());
        }
        for header in &mut self.headers[..self.used] {
            header.msg_hdr.msg_namelen = if named {
                size_of::<libc::sockaddr_in6>() as libc::socklen_t
            } else {
                0
            };
            header.msg_hdr.msg_controllen = CONTROL as _;
            header.msg_hdr.msg_flags = 0;
        }
        self.used = 0;
        // SAFETY: each header describes buffers inside this value's boxes with their true sizes (see `new`; the lengths
        // that the kernel changes were just reset), and the timeout may be null.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                self.headers.len() as libc::c_uint,
                (libc::MSG_DONTWAIT | flags) as _,
                std::ptr::null_mut(),
            )
        };
        if count < 0 {
            let error = io::Error::last_os_error();
            return match error.kind() {
                io::ErrorKind::WouldBlock => Ok(0),
                _ => Err(error),
            };
        }
        self.used = count as usize;
        Ok(self.used)
    }

    /// The packet at `at` of the last call.
    ///
    /// # Panics
    /// When the last call took fewer.
    #[inline]
    pub(crate) fn packet(&self, at: usize) -> Received<'_> {
        let header = &self.headers[..self.used][at];
        let length = (header.msg_len as usize).min(self.packet_size);
        let start = at * self.stride;
        let control = (header.msg_hdr.msg_controllen as usize).min(CONTROL);
        Received {
            bytes: &self.bytes[start..start + length],
            control: &self.controls[at].0[..control],
            name: self.name(at, header.msg_hdr.msg_namelen as usize),
            link: self.names[at].sin6_scope_id,
            cut: header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
        }
    }

    #[inline]
    fn name(&self, at: usize, length: usize) -> Option<IpAddr> {
        let name = &self.names[at];
        match i32::from(name.sin6_family) {
            libc::AF_INET6 if length >= size_of::<libc::sockaddr_in6>() => {
                Some(IpAddr::from(name.sin6_addr.s6_addr))
            }
            libc::AF_INET if length >= size_of::<libc::sockaddr_in>() => {
                // A sockaddr_in has its four octets where a sockaddr_in6 has its flow information.
                Some(IpAddr::from(name.sin6_flowinfo.to_ne_bytes()))
            }
            _ => None,
        }
    }
}

/// Buffers for packets to send.
pub(crate) struct SendBatch {
    headers: Box<[libc::mmsghdr]>,
    // The headers point into this one, which is why it is kept and never moved out of its box.
    _vectors: Box<[libc::iovec]>,
    names: Box<[libc::sockaddr_in6]>,
    bytes: Box<[u8]>,
    stride: usize,
    packet_size: usize,
}

// SAFETY: the pointers in the headers point into the boxes of the same value, which move with it; they are used through
// this value only, and belong to no thread.
unsafe impl Send for SendBatch {}

/// Where a packet goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outgoing {
    pub(crate) destination: IpAddr,
    /// The interface index that an IPv6 link-local address needs; 0 for none.
    pub(crate) scope: u32,
}

impl SendBatch {
    pub(crate) fn new(layout: Layout) -> Self {
        let (packets, stride) = (layout.packets, layout.stride());
        let mut bytes = vec![0; packets * stride].into_boxed_slice();
        let mut names = vec![empty_name(); packets].into_boxed_slice();
        let mut vectors = vec![empty_iovec(); packets].into_boxed_slice();
        let mut headers: Box<[_]> = (0..packets).map(|_| empty_header()).collect();
        let (bytes_at, names_at) = (bytes.as_mut_ptr(), names.as_mut_ptr());
        let vectors_at = vectors.as_mut_ptr();
        for (at, header) in headers.iter_mut().enumerate() {
            // SAFETY: `at` is below the number of packets, and each of the boxes has that many elements (or strides).
            unsafe {
                let vector = vectors_at.add(at);
                (*vector).iov_base = bytes_at.add(at * stride).cast();
                (*vector).iov_len = layout.packet_size;
                header.msg_hdr.msg_iov = vector;
                header.msg_hdr.msg_iovlen = 1;
                header.msg_hdr.msg_name = names_at.add(at).cast();
            }
        }
        Self {
            headers,
            _vectors: vectors,
            names,
            bytes,
            stride,
            packet_size: layout.packet_size,
        }
    }

    /// How many packets one call can send.
    pub(crate) fn capacity(&self) -> usize {
        self.headers.len()
    }

    /// The bytes of the packet at `at`.
    #[inline]
    pub(crate) fn bytes(&mut self, at: usize) -> &mut [u8] {
        let start = at * self.stride;
        &mut self.bytes[start..start + self.packet_size]
    }

    /// Sets where the packet at `at` goes.
    #[inline]
    pub(crate) fn address(&mut self, at: usize, to: Outgoing) {
        let name = &mut self.names[at];
        let length = match to.destination {
            IpAddr::V4(address) => {
                name.sin6_family = libc::AF_INET as libc::sa_family_t;
                name.sin6_port = 0;
                name.sin6_flowinfo = u32::from_ne_bytes(address.octets());
                size_of::<libc::sockaddr_in>()
            }
            IpAddr::V6(address) => {
                name.sin6_family = libc::AF_INET6 as libc::sa_family_t;
                name.sin6_port = 0;
                name.sin6_flowinfo = 0;
                name.sin6_addr.s6_addr = address.octets();
                name.sin6_scope_id = to.scope;
                size_of::<libc::sockaddr_in6>()
            }
        };
        self.headers[at].msg_hdr.msg_namelen = length as libc::socklen_t;
    }

    /// Sends the packets from `from` up to, and without, `to`, without waiting. Returns how many left; an error is about
    /// the packet at `from`, and none left.
    pub(crate) fn send(
        &mut self,
        socket: BorrowedFd<'_>,
        from: usize,
        to: usize,
    ) -> io::Result<usize> {
        let headers = &mut self.headers[from..to];
        // SAFETY: each header describes a name and bytes inside this value's boxes with their true sizes (see `new` and
        // `address`).
        let count = unsafe {
            libc::sendmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                headers.len() as libc::c_uint,
                libc::MSG_DONTWAIT as _,
            )
        };
        if count < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(count as usize)
    }
}
