//! Whom to trust, told after the handshake.

use std::sync::Arc;

use pe_scrape::FileBacked;
use pe_scrape::tls::{Trusted, certificates, is_of_signer, provider};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, SignatureScheme};
use x509_cert::Certificate;

use super::certificate::{Chain, parse};
use super::settings::TlsSettings;
use crate::{Failure, Reason};

/// What the files say, read when it is first needed and again when they change.
#[derive(Debug)]
pub(super) struct Trust(Arc<FileBacked<Arc<Loaded>>>);

/// What the files said.
pub(super) struct Loaded {
    pub(super) config: Arc<ClientConfig>,
    /// None where whatever a device shows is good enough.
    trusted: Option<Trusted>,
    roots: Vec<Certificate>,
}

impl Trust {
    pub(super) fn new(settings: &TlsSettings, alpn: Vec<Vec<u8>>) -> Self {
        let settings = settings.clone();
        let files = settings.files().all();
        Self(FileBacked::new(files, move || {
            Loaded::read(&settings, alpn.clone()).map(Arc::new)
        }))
    }

    /// What the files say now, or said when they could last be used.
    ///
    /// # Errors
    /// [`Reason::TlsFiles`] when they could never be used.
    ///
    /// # Cancel safety
    /// What was known before stays.
    pub(super) async fn loaded(&self) -> Result<Arc<Loaded>, Failure> {
        let loaded = self.0.get().await;
        loaded.map_err(|reason| Failure::new(Reason::TlsFiles, reason))
    }
}

impl Loaded {
    fn read(settings: &TlsSettings, alpn: Vec<Vec<u8>>) -> Result<Self, String> {
        let files = settings.files();
        let trusted = match (&files.ca_file, settings.verify) {
            (_, true) => Some(files.trusted()?),
            (Some(file), false) => certificates(file).map(|_| None)?,
            (None, false) => None,
        };
        let mut config = files.config(Arc::new(Later(provider())))?;
        config.alpn_protocols = alpn;
        config.resumption = rustls::client::Resumption::disabled();
        let roots = trusted.iter().flat_map(Trusted::certificates);
        Ok(Self {
            config: Arc::new(config),
            roots: roots.filter_map(|der| parse(der)).collect(),
            trusted,
        })
    }

    /// Checks a chain: that it leads to somebody trusted, is valid now, and is for `name`.
    pub(super) fn verify(&self, chain: &Chain<'_>, name: &ServerName<'_>) -> Result<(), Failure> {
        let Some((own, others)) = chain.raw.split_first() else {
            return Err(Failure::new(
                Reason::TlsHandshake,
                "the device showed no certificate",
            ));
        };
        let Some(trusted) = &self.trusted else {
            return Err(Failure::new(Reason::TlsFiles, "nobody is trusted"));
        };
        let checked = trusted.verify_server_cert(own, others, name, &[], UnixTime::now());
        checked.map(drop).map_err(|error| {
            let reason = match &error {
                rustls::Error::InvalidCertificate(error) => certificate_reason(error),
                _ => Reason::TlsCertificate,
            };
            let reason = match reason {
                Reason::TlsUnknownCa if chain.is_self_signed() => Reason::TlsSelfSigned,
                reason => reason,
            };
            Failure::new(reason, error.to_string())
        })
    }

    /// When the trusted chain expires.
    pub(super) fn expiry(&self, chain: &Chain<'_>) -> Option<f64> {
        chain.expiry_to(self.roots.iter())
    }
}

/// The reason for a certificate that does not pass.
pub(super) fn certificate_reason(error: &CertificateError) -> Reason {
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => Reason::TlsExpired,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            Reason::TlsNotYetValid
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            Reason::TlsWrongName
        }
        // Signed by another authority of the same name, such as a former one of the site.
        CertificateError::BadSignature => Reason::TlsUnknownCa,
        error if is_of_signer(error) => Reason::TlsUnknownCa,
        _ => Reason::TlsCertificate,
    }
}

/// Lets every chain through, to be checked after the handshake. That the peer has the key of its certificate is checked.
#[derive(Debug)]
struct Later(Arc<CryptoProvider>);

impl ServerCertVerifier for Later {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
