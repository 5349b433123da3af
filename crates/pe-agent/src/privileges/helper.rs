//! The helper process: this program again, with one argument that nobody types, and a socket as its standard input.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::Arc;

use caps::{CapSet, Capability, CapsHashSet};
use nix::sys::signal::SigSet;
use pe_ping::{SocketHelper, serve_sockets};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Signal, set_parent_process_death_signal};

use super::limits::Allowed;
use super::{forbid_new_privileges, limits};

/// What tells a helper from a program.
const ARGUMENT: &str = "__open-sockets";

/// What a helper needs to open sockets, mark what they send, and enlarge their buffers.
const NEEDED: [Capability; 2] = [Capability::CAP_NET_RAW, Capability::CAP_NET_ADMIN];

/// A running helper, which ends with this process.
pub(crate) struct Helper {
    pub(crate) opener: Arc<SocketHelper>,
    process: Child,
}

impl Helper {
    /// Starts a helper with the rights of this process.
    pub(super) fn start() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC;
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
        Ok(Self {
            opener: Arc::new(SocketHelper::new(ours)?),
            process,
        })
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
    match stdin().and_then(serve_sockets) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
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
