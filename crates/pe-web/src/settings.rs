//! What a server is started with.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use crate::{History, ListenAddress, WebMetrics};

/// Asks whoever owns the configuration to load it again; the result goes to the sender in the message. The text says why it
/// was refused.
pub type ReloadRequests = mpsc::Sender<oneshot::Sender<Result<(), String>>>;

/// Where to listen, and what to serve there.
///
/// ```
/// use pe_web::WebSettings;
///
/// let address: std::net::SocketAddr = "127.0.0.1:9516".parse()?;
/// let settings = WebSettings::from(address);
/// assert_eq!(settings.telemetry_path, "/metrics");
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct WebSettings {
    /// The addresses to listen on.
    pub listen: Vec<ListenAddress>,
    /// The path of the metrics, `/metrics` unless set.
    pub telemetry_path: String,
    /// A file with TLS and passwords, in the format of Prometheus' exporters. None unless set.
    pub config_file: Option<PathBuf>,
    /// Where `POST /-/reload` goes; without it there is no such request. None unless set.
    pub reload: Option<ReloadRequests>,
    /// What happened lately, for the pages and the API; it is a sink of the engine too. None unless set.
    pub history: Option<Arc<History>>,
    /// The directory from which groups are read, and which is watched: pages without devices name it. None unless set.
    pub watched: Option<PathBuf>,
    /// A command that writes a group to start from, for pages without devices. None unless set.
    pub example_command: Option<String>,
    /// What the server counts about itself.
    pub metrics: Arc<WebMetrics>,
}

impl WebSettings {
    /// Serves at these addresses.
    #[must_use]
    pub fn new(listen: impl IntoIterator<Item = ListenAddress>) -> Self {
        Self {
            listen: listen.into_iter().collect(),
            telemetry_path: "/metrics".into(),
            config_file: None,
            reload: None,
            history: None,
            watched: None,
            example_command: None,
            metrics: Arc::default(),
        }
    }
}

impl From<SocketAddr> for WebSettings {
    fn from(address: SocketAddr) -> Self {
        Self::new([address.into()])
    }
}
