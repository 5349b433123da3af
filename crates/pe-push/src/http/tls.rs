//! Whom to trust, and what to show: certificates and keys from files, read again when these change.
//!
//! Trusted are the certificates of `ca_file`, else those of `SSL_CERT_FILE` and `SSL_CERT_DIR`, else those of the system. A
//! server whose own certificate is among them is trusted too, whoever signed it and even if it is an authority's: its name and
//! its dates are checked all the same.

#[cfg(not(feature = "tls"))]
pub(super) use disabled::{Tls, TlsError, check_files};
#[cfg(feature = "tls")]
pub(super) use enabled::{Tls, TlsError, check_files};

#[cfg(feature = "tls")]
mod enabled {
    use std::io;
    use std::sync::Arc;

    use pe_scrape::FileBacked;
    use rustls::pki_types::ServerName;
    use rustls::{CertificateError, ClientConfig};
    use thiserror::Error;
    use tokio_rustls::TlsConnector;

    use super::super::connector::BoxIo;
    use super::super::settings::TlsSettings;
    use super::super::url::BaseUrl;
    use crate::PushError;

    /// What secures connections.
    pub(in super::super) struct Tls {
        config: Arc<FileBacked<Arc<ClientConfig>>>,
        server_name: Option<String>,
    }

    /// Why a connection could not be secured.
    #[derive(Debug, Error)]
    pub(in super::super) enum TlsError {
        #[error("{0:?} is no name that a certificate can hold")]
        Name(String),
        #[error("{}", handshake(.0))]
        Handshake(io::Error),
        #[error("{0}")]
        Files(String),
    }

    fn handshake(error: &io::Error) -> String {
        let inner = error
            .get_ref()
            .and_then(|it| it.downcast_ref::<rustls::Error>());
        match inner {
            Some(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
                "the server's certificate is signed by nobody who is trusted here; name its authority's certificate, or its own, as trusted".to_owned()
            }
            Some(rustls::Error::InvalidCertificate(CertificateError::BadSignature)) => {
                "the server's certificate is signed with another key than that of the authority of that name that is trusted here; name the authority's present certificate as trusted".to_owned()
            }
            Some(rustls::Error::InvalidMessage(_)) => {
                "the server does not speak TLS there; where it is meant to be reached without, the URL begins with http://".to_owned()
            }
            Some(inner) => inner.to_string(),
            None => format!("no TLS connection: {error}"),
        }
    }

    impl Tls {
        /// Reads certificates and keys.
        ///
        /// # Errors
        /// [`PushError::Certificates`].
        pub(in super::super) fn new(
            url: &BaseUrl,
            settings: TlsSettings,
        ) -> Result<Self, PushError> {
            let files = settings.files();
            let config = FileBacked::read(files.all(), move || {
                files.config(Arc::new(files.trusted()?)).map(Arc::new)
            });
            let config = config.map_err(|reason| PushError::Certificates {
                url: url.as_str().to_owned(),
                reason,
            })?;
            Ok(Self {
                config,
                server_name: settings.server_name,
            })
        }

        /// Makes a connection to `host` secure.
        pub(in super::super) async fn secure(
            &self,
            stream: BoxIo,
            host: &str,
        ) -> Result<BoxIo, TlsError> {
            let name = self.server_name.as_deref().unwrap_or(host).to_owned();
            let name = ServerName::try_from(name.clone()).map_err(|_| TlsError::Name(name))?;
            let connector = TlsConnector::from(self.config.get().await.map_err(TlsError::Files)?);
            let stream = connector.connect(name, stream).await;
            Ok(Box::new(stream.map_err(TlsError::Handshake)?))
        }
    }

    /// What is wrong with each of the files, by the name of its key.
    pub(in super::super) fn check_files(settings: &TlsSettings) -> Vec<(&'static str, String)> {
        settings.files().check()
    }
}

#[cfg(not(feature = "tls"))]
mod disabled {
    use std::convert::Infallible;

    use super::super::connector::BoxIo;
    use super::super::settings::TlsSettings;
    use super::super::url::BaseUrl;
    use crate::PushError;

    /// There is none.
    pub(in super::super) enum Tls {}

    /// There is none.
    pub(in super::super) type TlsError = Infallible;

    impl Tls {
        pub(in super::super) fn new(url: &BaseUrl, _: TlsSettings) -> Result<Self, PushError> {
            Err(PushError::Url {
                url: url.as_str().to_owned(),
                reason: "https needs the feature \"tls\" of the crate pe-push".to_owned(),
            })
        }

        pub(in super::super) async fn secure(&self, _: BoxIo, _: &str) -> Result<BoxIo, TlsError> {
            match *self {}
        }
    }

    pub(in super::super) fn check_files(_: &TlsSettings) -> Vec<(&'static str, String)> {
        Vec::new()
    }
}
