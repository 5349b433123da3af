//! Scrapers that ask a device's services.
//!
//! A [`Probe`] asks one thing of one device. [`ProbeFactory`] makes a scraper of it: the name's address, the deadline, what
//! all probes measure, and how many run at once are the same for all of them.
//!
//! ```
//! use pe_scrape::ScraperRegistry;
//!
//! let mut registry = ScraperRegistry::new();
//! # #[cfg(feature = "tcp")]
//! registry.register("tcp", pe_probe::TcpFactory::default())?;
//! # Ok::<(), pe_scrape::RegistryError>(())
//! ```
//!
//! # A probe of one's own
//!
//! Its settings are declared with [`probe_settings!`], which adds the keys that all probes have.
//!
//! ```
//! use pe_probe::{Asked, Failure, Probe, ProbeFactory, ProbeMetrics, connect};
//! use pe_scrape::{ScraperSettings, SettingsError};
//!
//! pe_probe::probe_settings! {
//!     /// Settings of `open`.
//!     pub struct OpenSettings {
//!         /// Port that must be open.
//!         port: u16, range(1.0, 65_535.0);
//!     }
//! }
//!
//! struct Open(u16);
//!
//! impl Probe for Open {
//!     type Settings = OpenSettings;
//!
//!     fn name(settings: &OpenSettings) -> String {
//!         format!("open:{}", settings.port)
//!     }
//!     fn new(settings: OpenSettings, _: &ScraperSettings, _: &mut ProbeMetrics) -> Result<Self, SettingsError> {
//!         Ok(Self(settings.port))
//!     }
//!     async fn probe(&self, asked: &Asked<'_>) -> Result<(), Failure> {
//!         connect(asked.socket(self.0)).await.map(drop)
//!     }
//! }
//!
//! let factory = ProbeFactory::<Open>::default();
//! ```
//!
//! # Up, down and unknown
//!
//! A device is down when it was asked and did not do what it should; `probe_success` is 0 then. It is unknown when this machine
//! could not ask: no route, no descriptor, no address known. `probe_success` is absent then. Either way `probe_errors_total` has the
//! [reason](Reason).
//!
//! # Permissions
//!
//! None: TCP and UDP from unprivileged ports. Each probe takes a descriptor while it runs. `command` runs programs as the user
//! of the process, and none unless [`CommandFactory::allow`](https://docs.rs/pe-probe/latest/pe_probe/struct.CommandFactory.html#method.allow) names them.
//!
//! # Runtime
//!
//! tokio, with time and I/O. All probes of a scraper run within the one task of its batch.
//!
//! # Features
//!
//! `command`, `dns`, `exposition`, `http`, `sntp`, `tcp` and `udp`, a probe each, all on by default; `tls` comes with those that can use it.
//!
//! # Defaults and limits
//!
//! | what | value |
//! | --- | --- |
//! | time for a probe, the look-up of the name included | that of the device ([`ScraperSettings::timeout`](pe_scrape::ScraperSettings)) unless set |
//! | probes of a scraper at one time | 256 unless set, 1 to 10,000; programs 32 |
//! | pace | evenly over half of the interval, unless the configuration sets a rate |
//! | what is read of an answer | bounded for each probe: see the settings of each |

#[cfg(feature = "command")]
pub mod command;
mod connect;
#[cfg(any(feature = "dns", feature = "sntp", feature = "udp"))]
mod datagram;
#[cfg(feature = "dns")]
pub mod dns;
#[cfg(feature = "exposition")]
pub mod exposition;
#[cfg(feature = "http")]
pub mod http;
mod metrics;
mod pace;
#[cfg(any(feature = "command", feature = "exposition"))]
pub mod pages;
mod probe;
mod reason;
#[cfg(any(feature = "http", feature = "tcp"))]
mod replay;
mod scraper;
mod settings;
#[cfg(feature = "sntp")]
pub mod sntp;
#[cfg(feature = "tcp")]
pub mod tcp;
mod timing;
#[cfg(feature = "tls")]
pub mod tls;
#[cfg(feature = "udp")]
pub mod udp;

#[cfg(feature = "command")]
pub use command::CommandFactory;
pub use connect::{Connected, connect, socket_failure};
#[cfg(feature = "dns")]
pub use dns::DnsFactory;
#[cfg(feature = "exposition")]
pub use exposition::ExpositionFactory;
#[cfg(feature = "http")]
pub use http::HttpFactory;
pub use metrics::{InfoMetric, ProbeMetrics};
pub use probe::{Asked, Phase, Probe};
pub use reason::{Failure, Reason};
pub use scraper::{ProbeFactory, ProbeScraper};
pub use settings::{CommonSettings, ProbeSettings};
#[cfg(feature = "sntp")]
pub use sntp::SntpFactory;
#[cfg(feature = "tcp")]
pub use tcp::TcpFactory;
pub use timing::{Timed, timed};
#[cfg(feature = "udp")]
pub use udp::UdpFactory;
