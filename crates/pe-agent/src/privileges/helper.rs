//! The helper process: this program again, with one argument that nobody types, and a socket as its standard input.
//!
//! The program's file may have CAP_NET_RAW (`setcap(8)`, as in the Debian package), and everybody may start it, with a socket of
//! their own. So the first message to a helper shows that whoever asks has the right already: it holds a raw socket, which
//! must be one of the helper's own network namespace. A helper that is shown none ends; one that is shown it says that it is
//! ready.

use std::fs;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use caps::{CapSet, Capability, CapsHashSet};
use nix::sys::signal::SigSet;
use pe_ping::{SocketHelper, serve_sockets};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, ipproto, recvmsg, sendmsg,
    socket_with, socketpair, sockopt,
};
use rustix::process::{Signal, set_parent_process_death_signal};

use super::limits::Allowed;
use super::{forbid_new_privileges, limits};

/// What tells a helper from a program.
const ARGUMENT: &str = "__open-sockets";

/// What a helper needs to open sockets, mark what they send, and enlarge their buffers.
const NEEDED: [Capability; 2] = [Capability::CAP_NET_RAW, Capability::CAP_NET_ADMIN];

/// How long a helper may take until it is ready: so many times so long. It takes milliseconds; a machine that boots may be slow, and one
/// that stands still uses up one of them.
const PATIENCE: (u32, Duration) = (30, Duration::from_secs(1));

/// A running helper, which ends with this process.
pub(crate) struct Helper {
    pub(crate) opener: Arc<SocketHelper>,
    process: Child,
}

impl Helper {
    /// Starts a helper with the rights of this process; `None` where they open no raw socket.
    pub(super) fn start() -> io::Result<Option<Self>> {
        let flags = SocketFlags::CLOEXEC;
        let Some(raw) = raw_socket() else {
            return Ok(None);
        };
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        let process = Command::new("/proc/self/exe")
            .arg0("pingexporter-sockets")
            .arg(ARGUMENT)
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .env_clear()
            .current_dir("/")
            // Signals of the terminal are for the program, which asks for sockets until it has ended.
            .process_group(0)
            .spawn()?;
        show(&ours, &raw)?;
        await_ready(&ours)?;
        Ok(Some(Self {
            opener: Arc::new(SocketHelper::new(ours)?),
            process,
        }))
    }

    /// Waits for the helper's end, which is an accident while this process goes on: the helper ends when nobody can ask it any
    /// more, and this can until then.
    pub(crate) fn wait(mut self) -> io::Result<ExitStatus> {
        self.process.wait()
    }
}

/// Whether this process is a helper. Goes by its own arguments, whatever an embedding program passes on.
pub(crate) fn is_helper() -> bool {
    std::env::args_os()
        .nth(1)
        .is_some_and(|argument| argument == ARGUMENT)
}

/// Opens sockets until the program at the other end of standard input has ended.
pub(crate) fn run() -> ExitCode {
    // Where one of these fails, the helper is as restricted as it can be; it still does nothing but open sockets.
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    let _ = SigSet::all().thread_block();
    let _ = keep_only_what_is_needed();
    forbid_new_privileges(&mut Vec::new());
    let _ = limits::limit_files(Allowed::default());
    let Ok(peer) = stdin() else {
        return ExitCode::FAILURE;
    };
    let may_ask = shown(&peer).is_ok_and(is_raw_here);
    match may_ask && say_ready(&peer).is_ok() && serve_sockets(peer).is_ok() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// A raw socket, if this process may open one.
fn raw_socket() -> Option<OwnedFd> {
    let kinds = [
        (AddressFamily::INET, ipproto::ICMP),
        (AddressFamily::INET6, ipproto::ICMPV6),
    ];
    let mut opened = kinds.into_iter().map(|(family, protocol)| {
        socket_with(
            family,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            Some(protocol),
        )
    });
    opened.find_map(Result::ok)
}

/// Shows the socket to the helper at the other end of `peer`.
fn show(peer: impl AsFd, socket: &OwnedFd) -> io::Result<()> {
    let sockets = [socket.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&sockets));
    let sent = sendmsg(
        peer,
        &[IoSlice::new(&[0])],
        &mut control,
        SendFlags::NOSIGNAL,
    );
    Ok(sent.map(drop)?)
}

/// The socket that is shown in the first message.
fn shown(peer: impl AsFd) -> io::Result<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let mut bytes = [IoSliceMut::new(&mut byte)];
    retry_on_intr(|| recvmsg(&peer, &mut bytes, &mut control, RecvFlags::CMSG_CLOEXEC))?;
    let mut sockets = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut sockets) => sockets.next(),
        _ => None,
    });
    sockets.next().ok_or_else(|| io::ErrorKind::NotFound.into())
}

fn say_ready(peer: impl AsFd) -> io::Result<()> {
    let sent = rustix::net::send(peer, &[0], SendFlags::NOSIGNAL);
    Ok(sent.map(drop)?)
}

/// Waits until the helper at the other end of `peer` says that it is ready.
fn await_ready(peer: impl AsFd) -> io::Result<()> {
    let (patience, time) = PATIENCE;
    sockopt::set_socket_timeout(&peer, sockopt::Timeout::Recv, Some(time))?;
    for _ in 0..patience {
        // Interrupted where the process was stopped and goes on, also by what has no handler: signal(7).
        match retry_on_intr(|| rustix::net::recv(&peer, &mut [0; 1], RecvFlags::empty())) {
            Ok((1, _)) => return Ok(()),
            // A program with a `main` of its own may have done something else with the argument.
            Ok(_) | Err(Errno::CONNRESET) => {
                return Err(io::Error::other(format!(
                    "it has ended at once: it cannot read /proc/self/net/raw, or this program, started again with {ARGUMENT} alone and an empty environment, does not get to `Agent::main`"
                )));
            }
            Err(Errno::AGAIN) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(io::Error::other("it was not ready within 30 s"))
}

/// Whether it is a raw socket of this network namespace: `/proc/net/raw` lists those by their inodes (`proc_pid_net(5)`). One of a
/// namespace that anybody may make shows no right here.
fn is_raw_here(socket: OwnedFd) -> bool {
    // Open, and so in the table, until this returns.
    let socket = fs::File::from(socket);
    let Ok(metadata) = socket.metadata() else {
        return false;
    };
    let inode = metadata.ino().to_string();
    ["raw", "raw6"].iter().any(|kind| {
        let table = fs::read_to_string(format!("/proc/self/net/{kind}")).unwrap_or_default();
        let mut sockets = table.lines().skip(1);
        // sl local remote state queues timer retransmissions uid timeout inode …
        sockets.any(|line| line.split_whitespace().nth(9) == Some(&inode))
    })
}

fn stdin() -> io::Result<OwnedFd> {
    Ok(rustix::io::fcntl_dupfd_cloexec(std::io::stdin(), 3)?)
}

fn keep_only_what_is_needed() -> Result<(), caps::errors::CapsError> {
    let permitted = caps::read(None, CapSet::Permitted)?;
    let keep: CapsHashSet = NEEDED
        .into_iter()
        .filter(|capability| permitted.contains(capability))
        .collect();
    if caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP)? {
        for capability in caps::all() {
            if !keep.contains(&capability) {
                let _ = caps::drop(None, CapSet::Bounding, capability);
            }
        }
    }
    let _ = caps::clear(None, CapSet::Ambient);
    caps::clear(None, CapSet::Inheritable)?;
    // Before the permitted ones: what is effective has to be permitted.
    caps::set(None, CapSet::Effective, &keep)?;
    caps::set(None, CapSet::Permitted, &keep)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    fn pair() -> (OwnedFd, OwnedFd) {
        let flags = SocketFlags::CLOEXEC;
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap()
    }

    #[test]
    fn a_raw_socket_is_told_from_others() {
        for other in [
            OwnedFd::from(UdpSocket::bind("127.0.0.1:0").unwrap()),
            TcpListener::bind("127.0.0.1:0").unwrap().into(),
            fs::File::open("/proc/self/exe").unwrap().into(),
        ] {
            let (ours, theirs) = pair();
            show(&ours, &other).unwrap();
            assert!(!is_raw_here(shown(theirs).unwrap()));
        }
        let (ours, theirs) = pair();
        drop(ours);
        assert!(shown(theirs).is_err());
        pe_testkit::require!(Root);
        let (ours, theirs) = pair();
        show(&ours, &raw_socket().unwrap()).unwrap();
        assert!(is_raw_here(shown(theirs).unwrap()));
    }

    #[test]
    fn a_program_that_does_something_else_is_told_from_a_helper() {
        let (ours, theirs) = pair();
        say_ready(&theirs).unwrap();
        await_ready(&ours).unwrap();
        drop(theirs);
        let error = await_ready(ours).unwrap_err().to_string();
        assert!(error.contains("Agent::main"), "{error}");
    }
}
