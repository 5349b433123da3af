//! Starting child processes that never outlive the test program.
//!
//! A child asks the kernel (through util-linux's `setpriv`) to be killed when the thread that
//! started it ends. Tests run on threads that end early, so that one long-lived thread starts all
//! children; it enters the caller's network namespace for each.

use std::fs::File;
use std::io;
use std::process::{Child, Command};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, OnceLock, PoisonError};

use nix::sched::{CloneFlags, setns};

use crate::netns;
use crate::require::find_program;

struct Order {
    command: Command,
    namespace: Option<File>,
    answer: Sender<io::Result<Child>>,
}

/// A command for `program` that is killed when this process ends, however it ends.
///
/// Start it with [`start`] only. Without `setpriv` on the machine it is a plain command.
pub fn command(program: &str) -> Command {
    let program = find_program(program).unwrap_or_else(|| program.into());
    match find_program("setpriv") {
        Some(setpriv) => {
            let mut command = Command::new(setpriv);
            command.args(["--pdeathsig", "KILL", "--"]).arg(program);
            command
        }
        None => Command::new(program),
    }
}

/// Starts `command` in the network namespace of the calling thread.
///
/// # Errors
/// Those of [`Command::spawn`] and of entering the namespace.
pub fn start(command: Command) -> io::Result<Child> {
    static STARTER: OnceLock<Mutex<Sender<Order>>> = OnceLock::new();
    let starter = STARTER.get_or_init(|| {
        let (orders, inbox) = channel::<Order>();
        std::thread::Builder::new()
            .name("starter".into())
            .spawn(move || {
                let mut current = netns::identity();
                while let Ok(mut order) = inbox.recv() {
                    let result = order
                        .namespace
                        .take()
                        .map_or(Ok(()), |namespace| enter(&namespace, &mut current))
                        .and_then(|()| order.command.spawn());
                    let _ = order.answer.send(result);
                }
            })
            .unwrap_or_else(|error| {
                panic!("cannot start the thread that starts children: {error}")
            });
        Mutex::new(orders)
    });
    let (answer, result) = channel();
    let order = Order {
        command,
        namespace: File::open(netns::SELF).ok(),
        answer,
    };
    let gone = || io::Error::other("the thread that starts children is gone");
    starter
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .send(order)
        .map_err(|_| gone())?;
    result.recv().map_err(|_| gone())?
}

fn enter(namespace: &File, current: &mut Option<(u64, u64)>) -> io::Result<()> {
    let wanted = netns::identity_of(namespace);
    if wanted != *current {
        setns(namespace, CloneFlags::CLONE_NEWNET)?;
        *current = wanted;
    }
    Ok(())
}
