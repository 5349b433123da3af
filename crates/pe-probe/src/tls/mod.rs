//! TLS over a connection: the handshake, what it agreed on, and whom to trust.
//!
//! The handshake goes through whatever certificate the peer shows, and the chain is checked after it: so what a bad certificate says of
//! itself, such as when it expired, is measured too. Nothing is sent to a peer whose chain does not pass. Handshakes are always whole
//! ones, without tickets of earlier connections.

mod certificate;
mod settings;
mod trust;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pe_scrape::{ColumnsError, Metric, MetricDescriptor};
use rustls::client::ResolvesClientCert;
use rustls::pki_types::ServerName;
use rustls::sign::CertifiedKey;
use rustls::{AlertDescription, ProtocolVersion, SignatureScheme};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::{Asked, Failure, InfoMetric, Phase, ProbeMetrics, Reason, socket_failure, timed};
use certificate::Chain;
pub use settings::{TlsChoice, TlsSettings};
use trust::Trust;

/// What a handshake is measured by.
#[derive(Debug)]
struct TlsMetrics {
    earliest: Metric,
    chain: Metric,
    versions: [(ProtocolVersion, Metric); 2],
    certificate: InfoMetric,
    cipher: InfoMetric,
}

impl TlsMetrics {
    fn new(metrics: &mut ProbeMetrics) -> Result<Self, ColumnsError> {
        let version = |metrics: &mut ProbeMetrics, word: &'static str| {
            let version = MetricDescriptor::gauge(
                "probe_tls_version_info",
                "1, labelled with the version of TLS that was agreed on",
            );
            metrics.add(version.with_label("version", word))
        };
        Ok(Self {
            earliest: metrics.gauge(
                "probe_ssl_earliest_cert_expiry",
                "When the first certificate that the device showed expires, in seconds since the epoch",
            ),
            chain: metrics.gauge(
                "probe_ssl_last_chain_expiry_timestamp_seconds",
                "When the trusted chain expires, in seconds since the epoch",
            ),
            versions: [
                (ProtocolVersion::TLSv1_2, version(metrics, "TLS 1.2")),
                (ProtocolVersion::TLSv1_3, version(metrics, "TLS 1.3")),
            ],
            certificate: metrics.info(
                "probe_ssl_last_chain_info",
                "1, labelled with what the certificate of the device says",
            )?,
            cipher: metrics.info(
                "probe_tls_cipher_info",
                "1, labelled with the cipher suite that was agreed on",
            )?,
        })
    }
}

/// Makes connections secure, and measures that.
#[derive(Debug)]
pub struct TlsClient {
    settings: TlsSettings,
    trust: Trust,
    metrics: TlsMetrics,
}

/// A secure connection, and how long the handshake took.
#[derive(Debug)]
#[non_exhaustive]
pub struct Secured<S> {
    /// The connection.
    pub stream: TlsStream<S>,
    /// From the first byte of the handshake to its last.
    pub took: Duration,
    /// Whether the peer asked for a certificate and got none. It may end the connection for that.
    pub lacks_certificate: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Secured<S> {
    /// Ends a connection on which nothing is said. A peer that wanted a certificate and got none says so only after the handshake where
    /// that is TLS 1.3, and is given some time to do so.
    ///
    /// # Errors
    /// [`Failure`] when it refuses.
    pub async fn end(mut self) -> Result<(), Failure> {
        if !self.lacks_certificate {
            return Ok(());
        }
        let mut byte = [0];
        let refusal = self.stream.read(&mut byte);
        match tokio::time::timeout(refusal_time(self.took), refusal).await {
            Ok(Err(error)) => Err(handshake_failure(&error, true)),
            _ => Ok(()),
        }
    }
}

impl TlsClient {
    /// A client that offers the application protocols of `alpn`, the preferred one first, whose metrics are added to
    /// `metrics`. No file is read.
    ///
    /// # Errors
    /// [`SettingsError`](pe_scrape::SettingsError) when settings do not go together.
    pub fn new(
        settings: TlsSettings,
        alpn: &[&str],
        metrics: &mut ProbeMetrics,
    ) -> Result<Self, pe_scrape::SettingsError> {
        settings.check_together()?;
        let alpn = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Ok(Self {
            trust: Trust::new(&settings, alpn),
            metrics: TlsMetrics::new(metrics)?,
            settings,
        })
    }

    /// Makes a connection to `host` secure, and writes to the row what was agreed on and when certificates expire.
    ///
    /// # Errors
    /// [`Failure`] when the handshake fails or the chain does not pass.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection.
    pub async fn secure<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        asked: &Asked<'_>,
        stream: S,
        host: &str,
    ) -> Result<Secured<S>, Failure> {
        asked.enter(Phase::Tls);
        let loaded = self.trust.loaded().await?;
        let name = self.settings.server_name.as_deref().unwrap_or(host);
        let name = ServerName::try_from(name.to_owned()).map_err(|_| {
            Failure::new(
                Reason::TlsWrongName,
                format!("{name:?} is no name that a certificate can hold"),
            )
        })?;
        let wanted = Arc::new(Wanted {
            inner: loaded.config.client_auth_cert_resolver.clone(),
            is_wanted: AtomicBool::new(false),
        });
        let mut config = (*loaded.config).clone();
        config.client_auth_cert_resolver = wanted.clone();
        let start = Instant::now();
        let connector = TlsConnector::from(Arc::new(config));
        let handshake = timed(connector.connect(name.clone(), stream)).await;
        let took = handshake.at.saturating_duration_since(start);
        let lacks = || wanted.is_wanted.load(Ordering::Relaxed) && !wanted.inner.has_certs();
        let stream = match handshake.output {
            Ok(stream) => stream,
            Err(error) => return Err(handshake_failure(&error, lacks())),
        };
        let (_, session) = stream.get_ref();
        let chain = Chain::new(session.peer_certificates().unwrap_or_default());
        self.show(asked, session, &chain);
        if self.settings.verify {
            loaded.verify(&chain, &name)?;
            if let Some(expiry) = loaded.expiry(&chain) {
                asked.row.set(self.metrics.chain, expiry);
            }
        }
        let lacks_certificate = lacks();
        Ok(Secured {
            stream,
            took,
            lacks_certificate,
        })
    }

    fn show(&self, asked: &Asked<'_>, session: &rustls::ClientConnection, chain: &Chain<'_>) {
        let (row, target) = (asked.row, asked.target);
        if let Some(expiry) = chain.earliest_expiry() {
            row.set(self.metrics.earliest, expiry);
        }
        let version = session.protocol_version();
        for (known, metric) in self.metrics.versions {
            if version == Some(known) {
                row.set(metric, 1.0);
            }
        }
        if let Some(suite) = session.negotiated_cipher_suite() {
            // Named as the standard does: rustls has TLS13_ before those of TLS 1.3.
            let cipher = format!("{:?}", suite.suite()).replacen("TLS13_", "TLS_", 1);
            self.metrics.cipher.show(row, target, [("cipher", cipher)]);
        }
        if let Some(labels) = chain.labels() {
            self.metrics.certificate.show(row, target, labels);
        }
    }
}

/// How long to wait for a peer that wants a certificate to say that it got none: it does so after the handshake where that is TLS 1.3.
fn refusal_time(handshake: Duration) -> Duration {
    (handshake * 4).max(Duration::from_millis(100))
}

/// What an error of a handshake, or of a connection after it, says. `lacks_certificate`: the peer wants one that we do not have.
#[must_use]
pub(crate) fn handshake_failure(error: &std::io::Error, lacks_certificate: bool) -> Failure {
    let inner = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let Some(inner) = inner else {
        let mut failure = socket_failure(error, false);
        if lacks_certificate {
            failure.reason = Reason::TlsClientCertificate;
        } else if matches!(failure.reason, Reason::Closed | Reason::Connection) {
            failure.reason = Reason::TlsHandshake;
        }
        return failure;
    };
    let reason = match inner {
        rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => {
            Reason::TlsClientCertificate
        }
        _ if lacks_certificate => Reason::TlsClientCertificate,
        rustls::Error::InvalidCertificate(error) => trust::certificate_reason(error),
        _ => Reason::TlsHandshake,
    };
    Failure::new(reason, inner.to_string())
}

/// Notes that the peer wants a certificate.
struct Wanted {
    inner: Arc<dyn ResolvesClientCert>,
    is_wanted: AtomicBool,
}

impl fmt::Debug for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wanted").finish_non_exhaustive()
    }
}

impl ResolvesClientCert for Wanted {
    fn resolve(&self, hints: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.is_wanted.store(true, Ordering::Relaxed);
        self.inner.resolve(hints, schemes)
    }

    fn has_certs(&self) -> bool {
        // Else it is not asked, and what the peer wants is not known.
        true
    }
}
