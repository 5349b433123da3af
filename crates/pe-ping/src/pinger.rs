//! Opening an engine, and handing probes to it.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pe_scrape::Family;
use pe_scrape::Pacer;
use thiserror::Error;
use tokio::sync::oneshot;

use crate::channel::{self, Channel, ChannelSettings, IDENTIFIERS};
use crate::driver::{self, Binding, Driver, PingCommand, Shared, SweepCommand};
use crate::packet::{CookieKey, EchoTemplate, MAX_PAYLOAD};
use crate::proto::filter::IdBlock;
use crate::proto::{Nanos, nanos};
use crate::sys::{self, SocketOptions};
use crate::{Counters, OpenSocket, Outcome, OwnRights, ProbeError, ProbeEvent, Sweep, SweepResult};

/// Sends ICMP echo requests (RFC 792, RFC 4443) and matches what comes back.
///
/// One pinger has one socket for each address family and one thread, however many probes are in flight. Cloning is
/// cheap, and clones share all of it; the thread ends and the sockets are closed with the last clone.
#[derive(Clone)]
pub struct Pinger {
    handle: Arc<Handle>,
}

struct Handle {
    shared: Arc<Shared>,
    timeout: Duration,
    sockets: Vec<SocketInfo>,
    payload: usize,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl fmt::Debug for Pinger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pinger")
            .field("timeout", &self.handle.timeout)
            .field("payload", &self.handle.payload)
            .field("sockets", &self.handle.sockets)
            .finish_non_exhaustive()
    }
}

/// The kind of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SocketKind {
    /// A raw socket, which needs CAP_NET_RAW.
    Raw,
    /// A datagram ICMP socket, for which the group must be in `net.ipv4.ping_group_range`.
    Datagram,
}

/// An open socket, as [`Pinger::sockets`] tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct SocketInfo {
    /// Whose packets it sends and receives.
    pub family: Family,
    /// Its kind.
    pub kind: SocketKind,
    /// The size of its receive buffer, in the kernel's accounting: a small packet takes 768 bytes or more.
    pub receive_buffer: usize,
}

/// Why an engine cannot be opened.
#[derive(Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Neither raw nor datagram ICMP sockets are permitted.
    #[error(
        "no permission to open an ICMP socket. Grant one of: \
         `setcap cap_net_raw+ep` on the program's file; CAP_NET_RAW to the service \
         (systemd: AmbientCapabilities=CAP_NET_RAW, containers: --cap-add=NET_RAW); \
         or unprivileged ICMP sockets for its group: sysctl net.ipv4.ping_group_range=\"GID GID\""
    )]
    Permission {
        /// What the kernel said.
        source: io::Error,
    },
    /// Opening a socket failed for another reason.
    #[error("cannot open an {family} ICMP socket")]
    Socket {
        /// The family of the socket.
        family: Family,
        /// What the kernel said.
        source: io::Error,
    },
    /// A socket option was refused.
    #[error("cannot set {name}{}", hint(name))]
    Option {
        /// The option, by its name in the manual pages.
        name: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// A value makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// The thread or its event descriptor could not be made.
    #[error("cannot start the ping engine")]
    Start(#[source] io::Error),
}

pe_scrape::debug_with_causes!(OpenError);

fn hint(option: &str) -> &'static str {
    match option {
        "SO_MARK" => " (a firewall mark needs CAP_NET_ADMIN, or CAP_NET_RAW since Linux 5.17)",
        _ => "",
    }
}

impl OpenError {
    pub(crate) fn socket(family: Family, source: io::Error) -> Self {
        if channel::is_permission(&source) {
            Self::Permission { source }
        } else {
            Self::Socket { family, source }
        }
    }

    /// Whether a family whose socket cannot be opened is done without, as one that this machine does not have: not where descriptors, memory or
    /// the answer of a helper are missing just now.
    fn leaves_family_out(&self) -> bool {
        let (Self::Permission { source } | Self::Socket { source, .. }) = self else {
            return false;
        };
        let is_short = matches!(
            source.raw_os_error(),
            Some(libc::ENFILE | libc::EMFILE | libc::ENOMEM | libc::ENOBUFS | libc::EAGAIN)
        );
        // The helper's.
        let is_unanswered = matches!(
            source.kind(),
            io::ErrorKind::TimedOut | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
        );
        !is_short && !is_unanswered
    }

    pub(crate) fn option(name: &'static str, source: io::Error) -> Self {
        Self::Option { name, source }
    }
}

/// Settings of a [`Pinger`]. All of them hold for the sockets, so they cost nothing for a packet; probes that need
/// others need another pinger.
#[derive(Clone)]
pub struct PingerBuilder {
    options: SocketOptions,
    opener: Arc<dyn OpenSocket>,
    payload: usize,
    timeout: Duration,
    rate: Option<f64>,
    burst: u32,
    receive_buffer: usize,
    kind: Option<SocketKind>,
    families: [bool; 2],
}

impl Default for PingerBuilder {
    fn default() -> Self {
        Self {
            options: SocketOptions::default(),
            opener: Arc::new(OwnRights),
            payload: 56,
            timeout: Duration::from_secs(1),
            rate: Some(Self::DEFAULT_RATE),
            burst: 64,
            receive_buffer: 32 << 20,
            kind: None,
            families: [true; 2],
        }
    }
}

impl fmt::Debug for PingerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PingerBuilder")
            .field("options", &self.options)
            .field("payload", &self.payload)
            .field("timeout", &self.timeout)
            .field("rate", &self.rate)
            .field("burst", &self.burst)
            .field("receive_buffer", &self.receive_buffer)
            .field("kind", &self.kind)
            .field("families", &self.families)
            .finish_non_exhaustive()
    }
}

impl PingerBuilder {
    /// Requests a second at most, unless told otherwise: about 8 Mbit/s of requests with the default payload.
    pub const DEFAULT_RATE: f64 = 10_000.0;

    /// Sends from this address, and with its family only. While it is not this machine's, probes end with
    /// [`ProbeError::NoSource`].
    #[must_use]
    pub fn source(mut self, source: IpAddr) -> Self {
        self.options.source = Some(source);
        self
    }

    /// Sends and receives through this interface only (`SO_BINDTODEVICE`). While there is none of this name, probes end with
    /// [`ProbeError::NoInterface`]. One that is made later, or again, is used within some tenths of a second.
    #[must_use]
    pub fn interface(mut self, name: impl Into<String>) -> Self {
        self.options.interface = Some(name.into());
        self
    }

    /// The TTL or hop limit of requests, from 1; the system's default if not set.
    #[must_use]
    pub fn ttl(mut self, ttl: u8) -> Self {
        self.options.ttl = Some(ttl);
        self
    }

    /// The Differentiated Services code point of requests, 0 to 63 (RFC 2474); 0 if not set.
    #[must_use]
    pub fn dscp(mut self, dscp: u8) -> Self {
        self.options.dscp = dscp;
        self
    }

    /// Forbids fragmentation: a request that is too large for a link ends with
    /// [`ProbeError::PacketTooBig`]. The kernel's memory of path MTUs is not used, each request goes out to try.
    #[must_use]
    pub fn dont_fragment(mut self, dont: bool) -> Self {
        self.options.dont_fragment = dont;
        self
    }

    /// The firewall mark of requests (`SO_MARK`), for policy routing.
    #[must_use]
    pub fn mark(mut self, mark: u32) -> Self {
        self.options.mark = Some(mark);
        self
    }

    /// Bytes of each request's payload, 0 to 65,507; 56 if not set. Below 12, replies carry no count by which a late
    /// one can be told from one to a later probe of the same sequence number.
    #[must_use]
    pub fn payload_size(mut self, bytes: usize) -> Self {
        self.payload = bytes;
        self
    }

    /// How long to wait for a reply where no other time is given; a second if not set.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Requests a second at most, over everything that this pinger does; [`DEFAULT_RATE`](Self::DEFAULT_RATE) if not
    /// set.
    #[must_use]
    pub fn rate(mut self, per_second: f64) -> Self {
        self.rate = Some(per_second);
        self
    }

    /// Requests leave as fast as this machine can send them and take in the replies.
    #[must_use]
    pub fn unlimited_rate(mut self) -> Self {
        self.rate = None;
        self
    }

    /// How many requests may leave back to back after a pause, where the rate is limited; 64 if not set.
    #[must_use]
    pub fn burst(mut self, packets: u32) -> Self {
        self.burst = packets;
        self
    }

    /// The receive buffer to ask for, in the kernel's accounting (a small packet takes 768 bytes or more); 32 MiB if not
    /// set. Without CAP_NET_ADMIN the kernel gives at most twice `net.core.rmem_max`. Memory is used only for what waits.
    #[must_use]
    pub fn receive_buffer(mut self, bytes: usize) -> Self {
        self.receive_buffer = bytes;
        self
    }

    /// Uses this kind of socket only. If not set, raw sockets are used where permitted, else datagram sockets.
    #[must_use]
    pub fn socket_kind(mut self, kind: SocketKind) -> Self {
        self.kind = Some(kind);
        self
    }

    /// Has raw sockets opened by somebody else, such as a [`SocketHelper`](crate::SocketHelper); by the calling thread if not
    /// set.
    #[must_use]
    pub fn opener(mut self, opener: Arc<dyn OpenSocket>) -> Self {
        self.opener = opener;
        self
    }

    /// Whether to open the IPv4 socket; yes if not set.
    #[must_use]
    pub fn ipv4(mut self, wanted: bool) -> Self {
        self.families[Family::V4 as usize] = wanted;
        self
    }

    /// Whether to open the IPv6 socket; yes if not set.
    #[must_use]
    pub fn ipv6(mut self, wanted: bool) -> Self {
        self.families[Family::V6 as usize] = wanted;
        self
    }

    fn check(&self) -> Result<(), OpenError> {
        let invalid = |message: String| Err(OpenError::Invalid(message));
        if self.payload > MAX_PAYLOAD {
            return invalid(format!(
                "payload size {} is above the {MAX_PAYLOAD} bytes that fit an IPv4 packet",
                self.payload
            ));
        }
        if self.options.dscp > 63 {
            return invalid(format!("DSCP {} is above 63", self.options.dscp));
        }
        if self.options.ttl == Some(0) {
            return invalid("a TTL of 0 reaches nobody".into());
        }
        if self.rate.is_some_and(|rate| rate.is_nan() || rate <= 0.0) {
            return invalid("the rate must be above 0".into());
        }
        Ok(())
    }

    /// Opens the sockets, on the calling thread and so in its network namespace, and starts the engine's thread.
    ///
    /// A family that the machine does not have is left out; probes to its addresses end with
    /// [`ProbeError::NoSocket`].
    ///
    /// # Errors
    /// [`OpenError`] when no socket can be opened, an option is refused, or a value makes no sense.
    pub fn build(self) -> Result<Pinger, OpenError> {
        self.check()?;
        let shared = Shared::new().map_err(OpenError::Start)?;
        let (driver, sockets) = self.open(&shared)?;
        let handle = Handle {
            shared: shared.clone(),
            timeout: self.timeout,
            sockets,
            payload: self.payload,
        };
        let run = move || {
            let open = || self.open(&shared).map(|(driver, _)| driver);
            driver::supervise(&shared, driver, open);
        };
        std::thread::Builder::new()
            .name("icmp".into())
            .spawn(run)
            .map_err(OpenError::Start)?;
        Ok(Pinger {
            handle: Arc::new(handle),
        })
    }

    /// Opens the sockets. Identifiers and cookies are new each time, so that no reply to a former driver's request is taken for one of
    /// this one's.
    fn open(&self, shared: &Arc<Shared>) -> Result<(Driver, Vec<SocketInfo>), OpenError> {
        let ids = IdBlock::around(rand::random(), IDENTIFIERS);
        let cookies = CookieKey::new(rand::random());
        let template = EchoTemplate::new(cookies, self.payload);
        let settings = ChannelSettings {
            ids,
            options: self.options.clone(),
            opener: self.opener.clone(),
            message_size: template.message_size(),
            receive_buffer: self.receive_buffer,
            kind: self.kind,
        };
        // Before the sockets are opened, so that a change in between is seen as one.
        let binding = Binding::new(settings.clone());
        let mut channels = Vec::with_capacity(2);
        let mut refused = None;
        for family in Family::ALL {
            let wanted = self.families[family as usize];
            let source_fits = self
                .options
                .source
                .is_none_or(|source| Family::of(source) == family);
            if !wanted || !source_fits {
                continue;
            }
            match Channel::open(family, &settings) {
                Ok(channel) => channels.push(channel),
                Err(error) if error.leaves_family_out() => refused = refused.or(Some(error)),
                Err(error) => return Err(error),
            }
        }
        if channels.is_empty() {
            return Err(refused
                .unwrap_or_else(|| OpenError::Invalid("neither IPv4 nor IPv6 is wanted".into())));
        }
        let sockets = channels
            .iter()
            .map(|channel| SocketInfo {
                family: channel.family,
                kind: channel.kind,
                receive_buffer: channel.receive_buffer,
            })
            .collect();
        let driver = Driver::new(
            shared.clone(),
            channels,
            driver::DriverSettings {
                template,
                binding,
                pacer: self.rate.map(|rate| Pacer::new(rate, self.burst)),
            },
        );
        Ok((driver, sockets))
    }
}

impl Pinger {
    /// Opens an engine with the default settings.
    ///
    /// # Errors
    /// As [`PingerBuilder::build`].
    pub fn new() -> Result<Self, OpenError> {
        PingerBuilder::default().build()
    }

    /// Settings for another one.
    #[must_use]
    pub fn builder() -> PingerBuilder {
        PingerBuilder::default()
    }

    /// Pings `address` once and waits for the answer, at most as long as the pinger's timeout.
    ///
    /// Any number of pings may be under way at once, to the same address too.
    ///
    /// # Errors
    /// [`ProbeError`]: why there is no reply.
    ///
    /// # Cancel safety
    /// Dropping the future abandons the ping. A request that has not left is not sent any more. For one that has, the engine
    /// keeps 64 bytes until its reply or its timeout, and counts the reply; nobody is told.
    pub async fn ping(&self, address: impl Into<IpAddr>) -> Outcome {
        let (done, outcome) = oneshot::channel();
        self.handle.shared.submit_ping(PingCommand {
            destination: address.into().to_canonical(),
            timeout: nanos(self.handle.timeout),
            done,
        });
        outcome.await.unwrap_or(Err(ProbeError::Closed))
    }

    /// Probes many targets together and returns what each one's probes add up to.
    ///
    /// # Errors
    /// [`Closed`] when the engine's thread panicked. It is started again within a second or more, and later sweeps succeed.
    ///
    /// # Cancel safety
    /// Dropping the future ends the sweep: no further request of it leaves once the engine's thread has noticed, which it
    /// does before it sends again. For requests that have left, the engine keeps 64 bytes each until the reply or the
    /// timeout. The results so far are lost, and a [`Pacer`] may lose the time of up to 64 requests.
    pub async fn sweep(&self, sweep: Sweep) -> Result<SweepResult, Closed> {
        self.run_sweep(sweep, None).await
    }

    /// The same, with a function that is told of each probe's end as it happens.
    ///
    /// The function is called on the engine's thread, which waits for it: it should be quick. If it panics, the sweep
    /// ends with [`Closed`]; others are not harmed.
    ///
    /// # Errors
    /// As [`sweep`](Self::sweep); [`Closed`] also when the function panics.
    ///
    /// # Cancel safety
    /// As [`sweep`](Self::sweep). The function is dropped on the engine's thread when that notices, and may be called until
    /// then.
    pub async fn sweep_with(
        &self,
        sweep: Sweep,
        observer: impl FnMut(ProbeEvent) + Send + 'static,
    ) -> Result<SweepResult, Closed> {
        self.run_sweep(sweep, Some(Box::new(observer))).await
    }

    async fn run_sweep(
        &self,
        sweep: Sweep,
        observer: Option<Box<dyn FnMut(ProbeEvent) + Send>>,
    ) -> Result<SweepResult, Closed> {
        let (done, result) = oneshot::channel();
        let timeout = sweep.timeout.unwrap_or(self.handle.timeout);
        let start = sys::monotonic();
        let deadline = sweep.deadline.map_or(Nanos::MAX, |deadline| {
            start.saturating_add(nanos(deadline.saturating_duration_since(Instant::now())))
        });
        self.handle.shared.submit_sweep(SweepCommand {
            sweep,
            timeout: nanos(timeout),
            start,
            deadline,
            observer,
            done,
        });
        result.await.map_err(|_| Closed)
    }

    /// How often the engine's thread was started again after a panic.
    pub(crate) fn restarts(&self) -> u64 {
        self.handle.shared.restarts.get()
    }

    /// What the engine has counted so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.handle.shared.counters.snapshot()
    }

    /// The sockets that are open.
    #[must_use]
    pub fn sockets(&self) -> &[SocketInfo] {
        &self.handle.sockets
    }

    /// Bytes of each request's payload.
    #[must_use]
    pub fn payload_size(&self) -> usize {
        self.handle.payload
    }
}

/// The engine's thread panicked while this was under way, or has not been started again since.
#[derive(Clone, Copy, PartialEq, Eq, Error)]
#[error("the ICMP thread failed")]
pub struct Closed;

pe_scrape::debug_with_causes!(Closed);

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;

    #[tokio::test]
    async fn a_thread_that_panics_is_started_again() {
        pe_testkit::require!(Root);
        let pinger = Pinger::new().unwrap();
        let localhost = IpAddr::from([127, 0, 0, 1]);
        pinger.ping(localhost).await.unwrap();
        assert_eq!(pinger.restarts(), 0);

        pinger.handle.shared.panics.store(true, Ordering::SeqCst);
        let outcome = pinger.ping(localhost).await;
        assert_eq!(outcome.unwrap_err(), ProbeError::Closed);
        let again = async { while pinger.ping(localhost).await.is_err() {} };
        let waited = tokio::time::timeout(pe_testkit::wait::PATIENCE, again).await;
        waited.expect("it answers again");
        assert_eq!(pinger.restarts(), 1);

        let queue = Arc::downgrade(&pinger.handle.shared);
        drop(pinger);
        pe_testkit::wait::until_true("the thread's end", || queue.strong_count() == 0);
    }

    #[test]
    fn no_family_is_done_without_for_a_shortage() {
        let left_out = |number| {
            let error = io::Error::from_raw_os_error(number);
            OpenError::socket(Family::V6, error).leaves_family_out()
        };
        assert!(left_out(libc::EAFNOSUPPORT) && left_out(libc::EPROTONOSUPPORT));
        assert!(!left_out(libc::ENFILE) && !left_out(libc::ENOMEM) && !left_out(libc::EAGAIN));
        let late = io::Error::from(io::ErrorKind::TimedOut);
        assert!(!OpenError::socket(Family::V6, late).leaves_family_out());
    }
}
