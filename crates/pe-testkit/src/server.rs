//! A server program on a free loopback port: started, awaited, killed, restarted.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::http::{self, Response};
use crate::{spawn, wait};

/// How a server is started on an address; its files belong into the directory, which goes with it.
type Recipe = Box<dyn Fn(SocketAddr, &Path) -> io::Result<Command> + Send + Sync>;

/// A running server program of one's own choice, killed when dropped.
///
/// [`Gateway`](crate::Gateway), [`Nginx`](crate::Nginx) and [`Prometheus`](crate::Prometheus) are
/// made of it; use it directly for any other program that can be told where to listen.
///
/// ```no_run
/// # fn main() -> std::io::Result<()> {
/// use pe_testkit::Server;
///
/// let server = Server::start("victoria-metrics", "/health", |address, directory| {
///     let mut command = pe_testkit::command("victoria-metrics");
///     command.arg(format!("-httpListenAddr={address}"));
///     command.arg(format!("-storageDataPath={}", directory.display()));
///     Ok(command)
/// })?;
/// assert_eq!(server.get("/health")?.status, 200);
/// # Ok(()) }
/// ```
pub struct Server {
    name: &'static str,
    ready_path: &'static str,
    address: SocketAddr,
    directory: TempDir,
    recipe: Recipe,
    child: Option<Child>,
}

impl Server {
    /// Starts a program that listens where `recipe` is told, and waits until it answers
    /// `GET ready_path` with any status below 500.
    ///
    /// `recipe` gives the command for an address and a private directory that is removed with the
    /// server. Should the port be taken by another program at that moment, another one is tried.
    ///
    /// # Errors
    /// The program cannot be started, or ends on its own on several ports; the error holds its log.
    ///
    /// # Panics
    /// If the program runs but does not answer within [`wait::PATIENCE`].
    pub fn start(
        name: &'static str,
        ready_path: &'static str,
        recipe: impl Fn(SocketAddr, &Path) -> io::Result<Command> + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let directory = tempfile::Builder::new().prefix("pe-testkit-").tempdir()?;
        let address = free_port()?;
        let recipe = Box::new(recipe);
        let mut server = Self {
            name,
            ready_path,
            address,
            directory,
            recipe,
            child: None,
        };
        let mut result = Ok(());
        for _ in 0..5 {
            result = server.restart();
            if result.is_ok() {
                break;
            }
            server.address = free_port()?;
        }
        result.map(|()| server)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:port`, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The process, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// The private directory of the server.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// What it has written to standard output and standard error so far, all starts together.
    pub fn log(&self) -> String {
        std::fs::read(self.directory.path().join("log"))
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// `GET path` from it.
    ///
    /// # Errors
    /// Those of the connection.
    pub fn get(&self, path: &str) -> io::Result<Response> {
        http::get(self.address, path)
    }

    /// Kills it (SIGKILL) and waits for its end. The port stays this server's own.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Waits until it has ended, as it was told to. The port stays this server's own.
    ///
    /// # Errors
    /// Those of waiting.
    pub fn await_end(&mut self) -> io::Result<()> {
        match self.child.take() {
            Some(mut child) => child.wait().map(drop),
            None => Ok(()),
        }
    }

    /// Kills it if it runs, then starts it again on the same port and waits until it is ready.
    ///
    /// # Errors
    /// The program cannot be started or ends on its own; the error holds its log.
    ///
    /// # Panics
    /// If the program runs but does not answer within [`wait::PATIENCE`].
    pub fn restart(&mut self) -> io::Result<()> {
        self.kill();
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.directory.path().join("log"))?;
        let mut command = (self.recipe)(self.address, self.directory.path())?;
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let child = spawn::start(command).map_err(|error| {
            io::Error::new(error.kind(), format!("cannot start {}: {error}", self.name))
        })?;
        self.child = Some(child);
        // Somebody else's program on our port would answer as well: only a listener that belongs to
        // our living child counts, and a child that finds its port taken ends soon.
        wait::until(
            &format!("{} at {} to be ready", self.name, self.address),
            || {
                if let Some(Ok(Some(status))) = self.child.as_mut().map(Child::try_wait) {
                    self.child = None;
                    return Some(Err(io::Error::other(format!(
                        "{} ended with {status}: {}",
                        self.name,
                        self.log()
                    ))));
                }
                let answers = || {
                    self.get(self.ready_path)
                        .is_ok_and(|response| response.status < 500)
                };
                (self.listens() && answers()).then_some(Ok(()))
            },
        )
    }

    /// Whether our child holds the listening socket, where /proc can tell.
    fn listens(&self) -> bool {
        let Some(pid) = self.pid() else { return false };
        let Ok(descriptors) = std::fs::read_dir(format!("/proc/{pid}/fd")) else {
            return true;
        };
        let Ok(sockets) = std::fs::read_to_string(format!("/proc/{pid}/net/tcp")) else {
            return true;
        };
        let port = format!(":{:04X}", self.address.port());
        let inodes: Vec<String> = sockets
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>())
            .filter(|fields| fields.len() > 9 && fields[1].ends_with(&port) && fields[3] == "0A")
            .map(|fields| format!("socket:[{}]", fields[9]))
            .collect();
        descriptors
            .flatten()
            .filter_map(|entry| std::fs::read_link(entry.path()).ok())
            .any(|link| {
                inodes
                    .iter()
                    .any(|inode| link.as_os_str() == inode.as_str())
            })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!(
                "--- log of {} at {}:\n{}",
                self.name,
                self.address,
                self.log()
            );
        }
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server")
            .field("name", &self.name)
            .field("address", &self.address)
            .field("pid", &self.pid())
            .finish_non_exhaustive()
    }
}

/// A TCP port on 127.0.0.1 that nobody listens on, and that the kernel gives to nobody who asks for
/// any port for about a minute: a connection to it is left in TIME_WAIT.
///
/// # Errors
/// Those of the sockets.
pub fn free_port() -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let client = TcpStream::connect(address)?;
    let (accepted, _) = listener.accept()?;
    // Who closes first keeps the TIME_WAIT: that must be the end with the port.
    drop(accepted);
    drop(client);
    Ok(address)
}
