//! What a probe is, and what it is told.

use std::fmt;
use std::future::Future;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Instant;

use pe_scrape::resolve::Resolve;
use pe_scrape::{Row, ScraperSettings, SettingsError, Target};

use crate::{Failure, ProbeMetrics, ProbeSettings, Reason};

/// Asks one thing of one device.
pub trait Probe: Sized + Send + Sync + 'static {
    /// What may be set.
    type Settings: ProbeSettings;

    /// The label `probe` where none is set: kind and port.
    fn name(settings: &Self::Settings) -> String;

    /// A probe with these settings, whose metrics are added to `metrics`. It measures nothing and opens no socket: `check`
    /// makes one too. `common` are the values of the configuration that hold for all scrapers of a device.
    ///
    /// # Errors
    /// [`SettingsError`] when settings do not go together.
    fn new(
        settings: Self::Settings,
        common: &ScraperSettings,
        metrics: &mut ProbeMetrics,
    ) -> Result<Self, SettingsError>;

    /// Asks. Values go to `asked.row`, those of a probe that fails too. Whether it succeeded, how long it took and why it failed is
    /// written by the caller.
    ///
    /// # Errors
    /// [`Failure`]: the device did not do what it should, or this machine could not ask.
    ///
    /// # Cancel safety
    /// The future is dropped at the deadline, and it may be dropped at any time. The failure is then that of the
    /// [phase](Asked::enter).
    fn probe(&self, asked: &Asked<'_>) -> impl Future<Output = Result<(), Failure>> + Send;

    /// What is unwise about settings that are in order.
    fn review(settings: &Self::Settings) -> Vec<pe_scrape::settings::Problem> {
        let _ = settings;
        Vec::new()
    }
}

/// What a probe is in the middle of, and so what it means when its time is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Phase {
    /// The device's name is looked up.
    Resolve,
    /// A connection is asked for.
    Connect,
    /// A TLS handshake.
    Tls,
    /// An answer is waited for.
    Answer,
    /// An answer has begun.
    Transfer,
    /// Whole lines came, and none of them is what is expected.
    Unexpected,
}

impl Phase {
    const ALL: [Self; 6] = [
        Self::Resolve,
        Self::Connect,
        Self::Tls,
        Self::Answer,
        Self::Transfer,
        Self::Unexpected,
    ];

    /// The failure when time is over.
    pub(crate) fn timeout(self) -> Failure {
        let (reason, message) = match self {
            Self::Resolve => (Reason::DnsUnanswered, "the resolver did not answer in time"),
            Self::Connect => (
                Reason::ConnectTimeout,
                "nobody answered the request for a connection in time",
            ),
            Self::Tls => (Reason::TlsTimeout, "the TLS handshake did not end in time"),
            Self::Answer => (Reason::Timeout, "nothing came back in time"),
            Self::Transfer => (
                Reason::TransferTimeout,
                "the answer began, but did not end in time",
            ),
            Self::Unexpected => (
                Reason::Mismatch,
                "what came in time is not what was expected",
            ),
        };
        Failure::new(reason, message)
    }
}

/// Where the phase of a probe is kept.
#[derive(Debug, Clone)]
pub(crate) struct PhaseHandle(Arc<AtomicU8>);

impl PhaseHandle {
    pub(crate) fn new(phase: Phase) -> Self {
        Self(Arc::new(AtomicU8::new(phase as u8)))
    }

    pub(crate) fn enter(&self, phase: Phase) {
        self.0.store(phase as u8, Ordering::Relaxed);
    }
}

/// A device that is asked.
#[non_exhaustive]
pub struct Asked<'a> {
    /// The device.
    pub target: &'a Target,
    /// Where values go.
    pub row: Row<'a>,
    /// Its address.
    pub address: IpAddr,
    /// The index of its link, for a link-local address; else 0.
    pub scope: u32,
    /// When the probe began, the look-up of the name included.
    pub start: Instant,
    /// When the future is dropped.
    pub deadline: Instant,
    resolver: &'a Arc<dyn Resolve>,
    phase: PhaseHandle,
}

impl fmt::Debug for Asked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asked")
            .field("target", &self.target)
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl<'a> Asked<'a> {
    pub(crate) fn new(
        target: &'a Target,
        row: Row<'a>,
        (address, scope): (IpAddr, u32),
        (start, deadline): (Instant, Instant),
        resolver: &'a Arc<dyn Resolve>,
    ) -> Self {
        Self {
            target,
            row,
            address,
            scope,
            start,
            deadline,
            resolver,
            phase: PhaseHandle::new(Phase::Connect),
        }
    }

    /// A port of the device.
    #[must_use]
    pub fn socket(&self, port: u16) -> SocketAddr {
        match self.address {
            IpAddr::V4(_) => SocketAddr::new(self.address, port),
            IpAddr::V6(ip) => SocketAddrV6::new(ip, port, 0, self.scope).into(),
        }
    }

    /// The device's host as configured, without a zone: what certificates and requests name.
    #[must_use]
    pub fn host(&self) -> String {
        match self.target.address() {
            pe_scrape::Address::Name { host, .. } => host.to_string(),
            _ => self.address.to_string(),
        }
    }

    /// The resolver that all scrapers share, for names other than the device's.
    #[must_use]
    pub fn resolver(&self) -> &Arc<dyn Resolve> {
        self.resolver
    }

    /// Says what the probe is in the middle of. It starts with [`Phase::Connect`].
    pub fn enter(&self, phase: Phase) {
        self.phase.enter(phase);
    }

    /// For what learns of the next phase without knowing the device.
    #[cfg(any(feature = "http", feature = "tcp"))]
    pub(crate) fn phase_handle(&self) -> PhaseHandle {
        self.phase.clone()
    }

    pub(crate) fn phase(&self) -> Phase {
        let phase = usize::from(self.phase.0.load(Ordering::Relaxed));
        Phase::ALL[phase.min(Phase::ALL.len() - 1)]
    }
}
