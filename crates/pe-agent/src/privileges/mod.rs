//! Running with no more rights than it takes.
//!
//! Opening sockets is all that takes a capability. Before any thread starts and any file is read, [`separate`] starts a helper
//! process that keeps CAP_NET_RAW (and CAP_NET_ADMIN if it is there) and does nothing but open ICMP sockets; then this process
//! becomes the user that was asked for, gives up every capability, can gain none any more (`PR_SET_NO_NEW_PRIVS`), and may
//! neither write nor execute a file but where it has to (Landlock): below its state directory, and the programs that commands may
//! run, with the loaders and interpreters that these need. What comes later in the life of the program, a restart of
//! the ICMP thread, other options after a reload, an interface that returns, asks the helper.
//!
//! Reading is not limited: Landlock's rules hold inodes, and directories of configurations are swapped for others.
//!
//! Sources: `capabilities(7)`, `landlock(7)`, `prctl(2)`.

mod helper;
mod interpreters;
mod limits;
mod user;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use caps::{CapSet, Capability};
use pe_ping::SocketHelper;
use thiserror::Error;

use limits::Allowed;

pub(crate) use helper::{Helper, is_helper, run as run_helper};
pub(crate) use user::UserName;

/// What a service does with its rights.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    /// Who to become; `None` to stay who it is.
    pub(crate) user: Option<UserName>,
    /// Directories, there yet or not, that are written to.
    pub(crate) writable: Vec<PathBuf>,
    /// Programs, and directories of programs, that are run.
    pub(crate) executable: Vec<PathBuf>,
}

/// What became of the rights.
#[derive(Default)]
pub(crate) struct Separated {
    /// Who opens sockets; `None` where this process had no right to, or keeps it.
    pub(crate) helper: Option<Helper>,
    /// What could not be given up, to be logged.
    pub(crate) kept: Vec<Kept>,
}

impl Separated {
    /// Opens sockets with the helper's rights.
    pub(crate) fn opener(&self) -> Option<Arc<SocketHelper>> {
        self.helper.as_ref().map(|helper| helper.opener.clone())
    }
}

/// A right that could not be given up.
#[derive(Debug)]
pub(crate) struct Kept {
    what: &'static str,
    error: String,
}

impl Kept {
    fn new(what: &'static str, error: impl fmt::Display) -> Self {
        let error = error.to_string();
        Self { what, error }
    }
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.error)
    }
}

/// Why rights could not be separated.
#[derive(Debug, Error)]
pub(crate) enum PrivilegesError {
    #[error("cannot start the helper that opens sockets")]
    Helper(#[source] io::Error),
    #[error("there is no user {0:?}; --user takes a name or a number, with :GROUP if wanted")]
    NoUser(String),
    #[error("there is no group {0:?}; --user takes USER or USER:GROUP")]
    NoGroup(String),
    #[error("cannot become the user {name:?} (--user); only root can")]
    Become {
        name: String,
        #[source]
        source: io::Error,
    },
}

/// Starts the helper and gives up all rights. To be called while the process has one thread.
///
/// # Errors
/// When the helper cannot be started though there is a right to keep, or the user is not there.
pub(crate) fn separate(wanted: &Wanted) -> Result<Separated, PrivilegesError> {
    let has = |capability| caps::has_cap(None, CapSet::Permitted, capability).unwrap_or(false);
    let helper = match has(Capability::CAP_NET_RAW) {
        true => Helper::start().map_err(PrivilegesError::Helper)?,
        false => None,
    };
    let mut kept = Vec::new();
    give_up_bounding(&mut kept);
    if let Some(user) = &wanted.user {
        user.change_to()?;
    }
    give_up_capabilities(&mut kept);
    forbid_new_privileges(&mut kept);
    // Links are followed here as they are when programs are compared with what is allowed.
    let mut executable = wanted.executable.clone();
    executable.extend(interpreters::of(&wanted.executable));
    let allowed = Allowed {
        writable: &wanted.writable,
        executable: &executable,
    };
    if let Err(error) = limits::limit_files(allowed) {
        kept.push(Kept::new("Landlock", error));
    }
    Ok(Separated { helper, kept })
}

/// What later programs could gain; to remove it takes CAP_SETPCAP. Without that, `PR_SET_NO_NEW_PRIVS` does as much.
fn give_up_bounding(kept: &mut Vec<Kept>) {
    if !caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP).unwrap_or(false) {
        return;
    }
    if let Err(error) = caps::clear(None, CapSet::Bounding) {
        kept.push(Kept::new("the bounding set of capabilities", error));
    }
}

fn give_up_capabilities(kept: &mut Vec<Kept>) {
    // A kernel without ambient capabilities has none to give up.
    let _ = caps::clear(None, CapSet::Ambient);
    for (what, set) in [
        ("inheritable capabilities", CapSet::Inheritable),
        ("effective capabilities", CapSet::Effective),
        ("permitted capabilities", CapSet::Permitted),
    ] {
        if let Err(error) = caps::clear(None, set) {
            kept.push(Kept::new(what, error));
        }
    }
}

fn forbid_new_privileges(kept: &mut Vec<Kept>) {
    if let Err(error) = rustix::thread::set_no_new_privs(true) {
        kept.push(Kept::new("no_new_privs", error));
    }
}
