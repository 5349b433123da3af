//! Connections: TCP, and TLS with the feature `tls`.

use std::time::Duration;

use hyper_util::client::legacy::connect::HttpConnector;

use super::url::BaseUrl;
use crate::PushError;

/// Time without traffic after which a connection is closed by us, and probed by TCP before: many proxies drop idle
/// connections after a minute.
pub(super) const IDLE: Duration = Duration::from_secs(45);

/// What opens connections.
#[cfg(feature = "tls")]
pub(super) type Connector = hyper_rustls::HttpsConnector<HttpConnector>;
/// What opens connections.
#[cfg(not(feature = "tls"))]
pub(super) type Connector = HttpConnector;

/// Certificates are those that the system trusts; `SSL_CERT_FILE` names others (see the crate `rustls-native-certs`).
#[cfg(feature = "tls")]
pub(super) fn connector(url: &BaseUrl) -> Result<Connector, PushError> {
    use rustls::{ClientConfig, RootCertStore};
    let refused = |reason: String| PushError::Url {
        url: url.as_str().to_owned(),
        reason,
    };
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let builder = hyper_rustls::HttpsConnectorBuilder::new();
    let builder = if url.is_tls() {
        builder
            .with_provider_and_native_roots(provider)
            .map_err(|error| {
                refused(format!("the system's certificates cannot be read: {error}"))
            })?
    } else {
        // A machine without certificates can still push in the clear.
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| refused(error.to_string()))?;
        let config = config.with_root_certificates(RootCertStore::empty());
        builder.with_tls_config(config.with_no_client_auth())
    };
    Ok(builder.https_or_http().enable_http1().wrap_connector(tcp()))
}

#[cfg(not(feature = "tls"))]
#[expect(clippy::unnecessary_wraps, reason = "it can fail with TLS")]
pub(super) fn connector(_url: &BaseUrl) -> Result<Connector, PushError> {
    Ok(tcp())
}

fn tcp() -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector.set_keepalive(Some(IDLE));
    connector.enforce_http(false);
    connector
}
