//! The floor: what the system calls alone cost.
//!
//! A loop that sends batches of 64 echo requests with `sendmmsg(2)` and takes in the replies with `recvmmsg(2)`, with a
//! kernel filter and receive time stamps, and keeps of each reply only its round-trip time. It has no deadlines, checks
//! no source, and reads the clock twice a batch: less than that is not a prober.
//!
//! The system calls are made directly, since any wrapper would be part of the floor. This is the only `unsafe` code of
//! the benchmarks.

#![allow(unsafe_code)]

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// Packets for one system call.
pub(crate) const BATCH: usize = 64;
const PAYLOAD: usize = 56;
const MESSAGE: usize = 8 + PAYLOAD;
/// An IPv4 header without options, and the message.
const PACKET: usize = 20 + MESSAGE;
const CONTROL: usize = 64;
/// Our identifier. Only one bare loop runs at a time.
const IDENTIFIER: u16 = 0x7045;
/// Somebody else's.
const FOREIGN: u16 = 0x7046;

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Control([u8; CONTROL]);

/// The loop's socket and buffers. The headers point into the other boxes, which is why nothing here is ever moved out.
pub(crate) struct Bare {
    socket: OwnedFd,
    out_headers: Box<[libc::mmsghdr]>,
    _out_vectors: Box<[libc::iovec]>,
    out_names: Box<[libc::sockaddr_in]>,
    out_bytes: Box<[[u8; MESSAGE]]>,
    in_headers: Box<[libc::mmsghdr]>,
    _in_vectors: Box<[libc::iovec]>,
    in_controls: Box<[Control]>,
    in_bytes: Box<[[u8; PACKET + 12]]>,
    /// Send times by probe, in nanoseconds of the wall clock.
    sent: Vec<u64>,
    /// Round-trip times of the answered probes, in nanoseconds.
    pub(crate) rtts: Vec<u64>,
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

fn clock(id: libc::clockid_t) -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is writable, and both clocks that are asked for exist.
    unsafe { libc::clock_gettime(id, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

fn set<T>(
    socket: &OwnedFd,
    level: libc::c_int,
    name: libc::c_int,
    value: &T,
) -> io::Result<libc::c_int> {
    // SAFETY: `value` is a plain value of the size that is passed along, readable for the call.
    check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    })
}

/// A raw socket that takes echo replies with our identifier only.
fn open() -> io::Result<OwnedFd> {
    const ICMP_FILTER: libc::c_int = 1;
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
    // SAFETY: no memory is passed.
    let fd = check(unsafe { libc::socket(libc::AF_INET, kind, libc::IPPROTO_ICMP) })?;
    // SAFETY: `fd` was just made, is open, and nobody else has it.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    set(&socket, libc::SOL_RAW, ICMP_FILTER, &!1_u32)?;
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut program = [
        step(0xb1, 0, 0, 0), // x = length of the IP header
        step(0x48, 0, 0, 4), // a = identifier
        step(0x15, 0, 1, u32::from(IDENTIFIER)),
        step(0x06, 0, 0, u32::from(u16::MAX)),
        step(0x06, 0, 0, 0),
    ];
    let program = libc::sock_fprog {
        len: program.len() as libc::c_ushort,
        filter: program.as_mut_ptr(),
    };
    set(&socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)?;
    set(&socket, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, &1)?;
    // As the engine does for small packets, which spares the kernel the choice of an IP identification.
    set(
        &socket,
        libc::IPPROTO_IP,
        libc::IP_MTU_DISCOVER,
        &libc::IP_PMTUDISC_PROBE,
    )?;
    set(&socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &(16 << 20))?;
    set(&socket, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &(2 << 20))?;
    Ok(socket)
}

fn headers(count: usize) -> Box<[libc::mmsghdr]> {
    // SAFETY: an mmsghdr of zeros is valid: null pointers with lengths of zero.
    (0..count).map(|_| unsafe { std::mem::zeroed() }).collect()
}

fn vectors(buffers: impl Iterator<Item = (*mut u8, usize)>) -> Box<[libc::iovec]> {
    buffers
        .map(|(base, length)| libc::iovec {
            iov_base: base.cast(),
            iov_len: length,
        })
        .collect()
}

impl Bare {
    /// Opens the socket and makes all buffers, for `probes` probes in all.
    pub(crate) fn open(probes: usize) -> io::Result<Self> {
        let mut out_bytes = vec![[0; MESSAGE]; BATCH].into_boxed_slice();
        let mut in_bytes = vec![[0; PACKET + 12]; BATCH].into_boxed_slice();
        let mut in_controls = vec![Control([0; CONTROL]); BATCH].into_boxed_slice();
        // SAFETY: a sockaddr_in of zeros is valid.
        let mut out_names = vec![unsafe { std::mem::zeroed::<libc::sockaddr_in>() }; BATCH];
        let mut out_vectors = vectors(out_bytes.iter_mut().map(|b| (b.as_mut_ptr(), b.len())));
        let mut in_vectors = vectors(in_bytes.iter_mut().map(|b| (b.as_mut_ptr(), b.len())));
        let (mut out_headers, mut in_headers) = (headers(BATCH), headers(BATCH));
        for at in 0..BATCH {
            out_names[at].sin_family = libc::AF_INET as libc::sa_family_t;
            let header = &mut out_headers[at].msg_hdr;
            header.msg_name = (&raw mut out_names[at]).cast();
            header.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
            header.msg_iov = &raw mut out_vectors[at];
            header.msg_iovlen = 1;
            let header = &mut in_headers[at].msg_hdr;
            header.msg_iov = &raw mut in_vectors[at];
            header.msg_iovlen = 1;
            header.msg_control = in_controls[at].0.as_mut_ptr().cast();
        }
        Ok(Self {
            socket: open()?,
            out_headers,
            _out_vectors: out_vectors,
            out_names: out_names.into_boxed_slice(),
            out_bytes,
            in_headers,
            _in_vectors: in_vectors,
            in_controls,
            in_bytes,
            sent: vec![0; probes],
            rtts: Vec::with_capacity(probes),
        })
    }

    fn write(&mut self, at: usize, kind: u8, id: u16, probe: u32, to: Ipv4Addr) {
        let bytes = &mut self.out_bytes[at];
        let sequence = probe as u16;
        bytes[0] = kind;
        bytes[4..6].copy_from_slice(&id.to_be_bytes());
        bytes[6..8].copy_from_slice(&sequence.to_be_bytes());
        bytes[8..12].copy_from_slice(&probe.to_be_bytes());
        let mut sum = u32::from(kind) << 8;
        sum += u32::from(id) + u32::from(sequence) + (probe >> 16) + (probe & 0xffff);
        sum = (sum & 0xffff) + (sum >> 16);
        sum = (sum & 0xffff) + (sum >> 16);
        bytes[2..4].copy_from_slice(&(!(sum as u16)).to_be_bytes());
        self.out_names[at].sin_addr.s_addr = u32::from_ne_bytes(to.octets());
    }

    fn send(&mut self, count: usize) -> io::Result<()> {
        let mut sent = 0;
        while sent < count {
            let left = &mut self.out_headers[sent..count];
            // SAFETY: each header describes a name and bytes in this value's boxes with their true sizes.
            let result = unsafe {
                libc::sendmmsg(
                    self.socket.as_raw_fd(),
                    left.as_mut_ptr(),
                    left.len() as libc::c_uint,
                    0,
                )
            };
            sent += check(result)? as usize;
        }
        Ok(())
    }

    /// Sends one echo request to each of `targets` (64 at most), the first of which is probe number `first`.
    pub(crate) fn request(&mut self, first: usize, targets: &[Ipv4Addr]) -> io::Result<()> {
        for (at, target) in targets.iter().enumerate() {
            self.write(at, 8, IDENTIFIER, (first + at) as u32, *target);
        }
        let before = clock(libc::CLOCK_REALTIME);
        self.send(targets.len())?;
        let span = clock(libc::CLOCK_REALTIME) - before;
        // Each packet has left within its share of the call's time.
        for (at, sent) in self.sent[first..first + targets.len()]
            .iter_mut()
            .enumerate()
        {
            *sent = before + span * (4 * at as u64 + 1) / (4 * targets.len() as u64);
        }
        Ok(())
    }

    /// Sends `count` (64 at most) echo replies that nobody asked for, with somebody else's identifier.
    pub(crate) fn foreign_replies(&mut self, count: usize) -> io::Result<()> {
        for at in 0..count {
            self.write(at, 0, FOREIGN, at as u32, Ipv4Addr::LOCALHOST);
        }
        self.send(count)
    }

    /// Takes what has come, at most 64 replies. Returns how many; 0 when there is nothing.
    pub(crate) fn receive(&mut self) -> io::Result<usize> {
        for header in &mut self.in_headers {
            header.msg_hdr.msg_controllen = CONTROL as _;
        }
        // SAFETY: each header describes buffers in this value's boxes with their true sizes; the timeout may be null.
        let count = unsafe {
            libc::recvmmsg(
                self.socket.as_raw_fd(),
                self.in_headers.as_mut_ptr(),
                BATCH as libc::c_uint,
                libc::MSG_DONTWAIT as _,
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
        for at in 0..count as usize {
            let bytes = &self.in_bytes[at];
            let probe = u32::from_be_bytes([bytes[28], bytes[29], bytes[30], bytes[31]]);
            // The only control message is the time stamp, behind its header of 16 bytes.
            let control = &self.in_controls[at].0;
            let word = |at: usize| {
                let bytes = control[at..at + 8].try_into();
                u64::from_ne_bytes(bytes.expect("eight bytes"))
            };
            let stamp = word(16) * 1_000_000_000 + word(24);
            // Another program may have chosen the same identifier.
            if let Some(sent) = self.sent.get(probe as usize) {
                self.rtts.push(stamp.saturating_sub(*sent));
            }
        }
        Ok(count as usize)
    }

    /// Takes in replies until `wanted` have come in all, or nothing came for a second.
    pub(crate) fn finish(&mut self, wanted: usize) -> io::Result<()> {
        while self.rtts.len() < wanted {
            if self.receive()? == 0 && !self.wait(Duration::from_secs(1)) {
                break;
            }
        }
        Ok(())
    }

    fn wait(&self, time: Duration) -> bool {
        let mut polled = libc::pollfd {
            fd: self.socket.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: `polled` is one pollfd with an open descriptor.
        unsafe { libc::poll(&raw mut polled, 1, time.as_millis() as libc::c_int) > 0 }
    }
}
