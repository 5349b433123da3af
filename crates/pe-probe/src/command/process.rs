//! Running a program: started without a shell, watched, and ended with all that it started.
//!
//! A program has an environment of its own, nothing to read, `/` as its directory, a process group, and no way to gain rights
//! (`PR_SET_NO_NEW_PRIVS`). Whatever becomes of the future that runs it, its group is killed and it is waited for, so that nothing
//! of it stays, not as a zombie either. Only what leaves the group on purpose (`setsid`) goes on.
//!
//! Sources: `prctl(2)`, `waitid(2)`, `setpgid(2)`.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::io::{Errno, retry_on_intr};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use thiserror::Error;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::oneshot;

/// Bytes of standard error that are kept.
const ERRORS_KEPT: usize = 1024;

/// A program and what it is given.
#[derive(Debug, Clone)]
pub(super) struct Program {
    pub(super) path: PathBuf,
    pub(super) arguments: Vec<OsString>,
    pub(super) environment: Vec<(String, String)>,
}

/// How a program ended, and what it wrote.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) status: ExitStatus,
    pub(super) output: Vec<u8>,
    /// The beginning of standard error.
    pub(super) errors: Vec<u8>,
}

/// Why nothing is known of a program's end.
#[derive(Debug, Error)]
pub(super) enum RunError {
    /// It was not started.
    #[error("cannot start it")]
    Start(#[source] io::Error),
    /// It wrote more than it may.
    #[error("its output is larger than {0} bytes")]
    TooLarge(usize),
    /// It could not be watched.
    #[error("cannot watch it")]
    Watch(#[from] io::Error),
}

/// Runs a program until it ends, or has written more than `limit` bytes.
///
/// # Cancel safety
/// Dropping the future kills the program and its process group.
pub(super) async fn run(program: Program, limit: usize) -> Result<Ended, RunError> {
    let Started {
        output,
        errors,
        group: _group,
        mut ended,
    } = start(program).await?;
    let mut output = Pipe::new(output, limit)?;
    let mut errors = Pipe::new(errors, ERRORS_KEPT)?;
    let status = loop {
        tokio::select! {
            status = &mut ended => break status.map_err(|_| gone())??,
            result = output.read(), if output.is_open() => result?,
            result = errors.read(), if errors.is_open() => result?,
        }
        if output.is_overfull {
            return Err(RunError::TooLarge(limit));
        }
    };
    // Others that wrote to its pipes have ended with it.
    output.drain()?;
    errors.drain()?;
    match output.is_overfull {
        true => Err(RunError::TooLarge(limit)),
        false => Ok(Ended {
            status,
            output: output.bytes,
            errors: errors.bytes,
        }),
    }
}

/// A program that runs.
struct Started {
    output: Option<OwnedFd>,
    errors: Option<OwnedFd>,
    /// Ends the program where it has not ended by itself, also where this is on its way to one who is gone.
    group: KillOnDrop,
    ended: oneshot::Receiver<io::Result<ExitStatus>>,
}

fn gone() -> io::Error {
    io::Error::other("the thread that watches it has ended")
}

/// Starts a program from a thread of its own, which waits for its end. That thread can gain no rights, which its child
/// inherits; the caller's threads keep theirs.
async fn start(program: Program) -> Result<Started, RunError> {
    let (tell, told) = oneshot::channel();
    let (tell_end, ended) = oneshot::channel();
    let watch = move || {
        let started = rustix::thread::set_no_new_privs(true)
            .map_err(io::Error::from)
            .and_then(|()| spawn(&program));
        let mut child = match started {
            Ok(child) => child,
            Err(error) => {
                let _ = tell.send(Err(error));
                return;
            }
        };
        let group = Arc::new(Group::of(&child));
        let started = Started {
            output: child.stdout.take().map(OwnedFd::from),
            errors: child.stderr.take().map(OwnedFd::from),
            group: KillOnDrop(group.clone()),
            ended,
        };
        // Where nobody waits any more, it is dropped.
        let _ = tell.send(Ok(started));
        let _ = tell_end.send(group.reap(child));
    };
    std::thread::Builder::new()
        .name("command".to_owned())
        .spawn(watch)
        .map_err(RunError::Start)?;
    let started = told.await.map_err(|_| RunError::Start(gone()))?;
    started.map_err(RunError::Start)
}

fn spawn(program: &Program) -> io::Result<Child> {
    Command::new(&program.path)
        .args(&program.arguments)
        .env_clear()
        .envs(
            program
                .environment
                .iter()
                .map(|(name, value)| (name, value)),
        )
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
}

/// The process group of a program.
struct Group {
    leader: Pid,
    /// Whether the leader is reaped: then its number may be another's.
    is_reaped: Mutex<bool>,
}

impl Group {
    fn of(child: &Child) -> Self {
        Self {
            leader: Pid::from_child(child),
            is_reaped: Mutex::new(false),
        }
    }

    fn kill(&self) {
        let is_reaped = self
            .is_reaped
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if !*is_reaped {
            // Where nobody is left in the group, there is nothing to end.
            let _ = kill_process_group(self.leader, Signal::KILL);
        }
    }

    /// Waits for the end of the leader, ends what is left of its group, and reaps it.
    fn reap(&self, mut child: Child) -> io::Result<ExitStatus> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        let _ = retry_on_intr(|| waitid(WaitId::Pid(self.leader), options));
        self.kill();
        let mut is_reaped = self
            .is_reaped
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *is_reaped = true;
        child.wait()
    }
}

/// Kills a group when it is dropped.
struct KillOnDrop(Arc<Group>);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        self.0.kill();
    }
}

/// The reading end of what a program writes.
struct Pipe {
    end: Option<Receiver>,
    bytes: Vec<u8>,
    limit: usize,
    is_overfull: bool,
}

impl Pipe {
    fn new(end: Option<OwnedFd>, limit: usize) -> io::Result<Self> {
        Ok(Self {
            end: end.map(Receiver::from_owned_fd).transpose()?,
            bytes: Vec::new(),
            limit,
            is_overfull: false,
        })
    }

    fn is_open(&self) -> bool {
        self.end.is_some()
    }

    /// Waits for some bytes, or for the end.
    async fn read(&mut self) -> io::Result<()> {
        let Some(end) = &mut self.end else {
            return Ok(());
        };
        let mut buffer = [0; 4096];
        let length = end.read(&mut buffer).await?;
        self.take(&buffer[..length]);
        Ok(())
    }

    /// Reads what is there already, whatever the runtime knows of it.
    fn drain(&mut self) -> io::Result<()> {
        let mut buffer = [0; 4096];
        // A pipe holds a megabyte at most, unless somebody goes on writing to it.
        for _ in 0..1_048_576 / buffer.len() {
            let Some(end) = &self.end else { break };
            match retry_on_intr(|| rustix::io::read(end.as_fd(), &mut buffer)) {
                Ok(length) => self.take(&buffer[..length]),
                Err(Errno::AGAIN) => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn take(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            self.end = None;
        }
        let room = self.limit - self.bytes.len();
        self.is_overfull |= bytes.len() > room;
        self.bytes
            .extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
}
