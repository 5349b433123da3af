//! Whom to trust: certificates and keys from files, read again when these change.
//!
//! Trusted are the certificates of `ca_file`, else those that the environment or the system names. A device whose own certificate is
//! among them is trusted too, whoever signed it: its name and its dates are checked all the same.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use tokio::sync::Mutex;
use x509_cert::Certificate;

use super::certificate::{Chain, parse};
use super::settings::TlsSettings;
use crate::{Failure, Reason};

/// How often files are looked at.
const LOOK: Duration = Duration::from_secs(10);

/// What the files held when they were last read.
pub(super) struct Trust {
    settings: TlsSettings,
    alpn: Vec<Vec<u8>>,
    state: Mutex<Option<State>>,
}

struct State {
    looked: Instant,
    stamps: Vec<Stamp>,
    loaded: Result<Arc<Loaded>, String>,
}

/// Length and time of a file; `None` where it is not there.
type Stamp = Option<(u64, Option<SystemTime>)>;

/// What the files held.
pub(super) struct Loaded {
    pub(super) config: Arc<ClientConfig>,
    verifier: Option<Arc<WebPkiServerVerifier>>,
    trusted: HashSet<CertificateDer<'static>>,
    roots: Vec<Certificate>,
}

impl std::fmt::Debug for Trust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trust").finish_non_exhaustive()
    }
}

impl Trust {
    pub(super) fn new(settings: &TlsSettings, alpn: Vec<Vec<u8>>) -> Self {
        Self {
            settings: settings.clone(),
            alpn,
            state: Mutex::new(None),
        }
    }

    /// What the files hold now.
    ///
    /// # Errors
    /// [`Reason::TlsFiles`] when they cannot be used.
    ///
    /// # Cancel safety
    /// What was known before stays.
    pub(super) async fn loaded(&self) -> Result<Arc<Loaded>, Failure> {
        let mut state = self.state.lock().await;
        let is_due = |state: &State| state.looked.elapsed() >= LOOK;
        if state.as_ref().is_none_or(is_due) {
            let (settings, alpn) = (self.settings.clone(), self.alpn.clone());
            let known = state.as_ref().map(|state| state.stamps.clone());
            let look = move || {
                let stamps = stamps(&settings);
                let read = (known.as_ref() != Some(&stamps)).then(|| Loaded::read(&settings, alpn));
                (stamps, read)
            };
            let looked = tokio::task::spawn_blocking(look).await;
            let (stamps, read) =
                looked.map_err(|error| Failure::new(Reason::TlsFiles, error.to_string()))?;
            match (&mut *state, read) {
                (Some(state), None) => state.looked = Instant::now(),
                (_, None) => {}
                (slot, Some(read)) => {
                    *slot = Some(State {
                        looked: Instant::now(),
                        stamps,
                        loaded: read.map(Arc::new),
                    });
                }
            }
        }
        let loaded = state.as_ref().map(|state| state.loaded.clone());
        let loaded = loaded.unwrap_or_else(|| Err("nothing was read".to_owned()));
        loaded.map_err(|reason| Failure::new(Reason::TlsFiles, reason))
    }
}

fn stamps(settings: &TlsSettings) -> Vec<Stamp> {
    let files = [&settings.ca_file, &settings.cert_file, &settings.key_file];
    files
        .into_iter()
        .flatten()
        .map(|file| {
            let found = std::fs::metadata(file).ok()?;
            Some((found.len(), found.modified().ok()))
        })
        .collect()
}

impl Loaded {
    fn read(settings: &TlsSettings, alpn: Vec<Vec<u8>>) -> Result<Self, String> {
        let trusted = match &settings.ca_file {
            Some(file) => certificates(file)?,
            None if settings.verify => system_certificates()?,
            None => Vec::new(),
        };
        let provider = Arc::new(ring::default_provider());
        let mut store = RootCertStore::empty();
        let (added, _) = store.add_parsable_certificates(trusted.iter().cloned());
        if added == 0 && settings.verify {
            return Err("none of the trusted certificates can be read".to_owned());
        }
        let roots = trusted.iter().filter_map(|der| parse(der)).collect();
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Later(provider.clone())));
        let mut config = match (&settings.cert_file, &settings.key_file) {
            (Some(file), Some(key_file)) => {
                let (chain, key) = (certificates(file)?, private_key(key_file)?);
                builder.with_client_auth_cert(chain, key).map_err(|error| {
                    let (file, key_file) = (file.display(), key_file.display());
                    format!(
                        "the certificate {file} and the key {key_file} do not go together: {error}"
                    )
                })?
            }
            _ => builder.with_no_client_auth(),
        };
        config.alpn_protocols = alpn;
        config.resumption = rustls::client::Resumption::disabled();
        let verifier = (!store.is_empty()).then(|| {
            WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider).build()
        });
        Ok(Self {
            config: Arc::new(config),
            verifier: verifier.transpose().map_err(|error| error.to_string())?,
            trusted: trusted.into_iter().collect(),
            roots,
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
        let Some(verifier) = &self.verifier else {
            return Err(Failure::new(Reason::TlsFiles, "nobody is trusted"));
        };
        let checked = verifier.verify_server_cert(own, others, name, &[], UnixTime::now());
        let checked = match checked {
            // webpki looks at the dates before it comes to either of these.
            Err(rustls::Error::InvalidCertificate(error))
                if is_of_signer(&error) && self.trusted.contains(own) =>
            {
                ParsedCertificate::try_from(own)
                    .and_then(|own| rustls::client::verify_server_name(&own, name))
            }
            checked => checked.map(drop),
        };
        checked.map_err(|error| {
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

/// Whether all that is wrong is who signed a certificate, or that it is an authority's.
fn is_of_signer(error: &CertificateError) -> bool {
    match error {
        CertificateError::UnknownIssuer => true,
        CertificateError::Other(other) => {
            let error = other.0.downcast_ref::<webpki::Error>();
            matches!(error, Some(webpki::Error::CaUsedAsEndEntity))
        }
        _ => false,
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

/// The certificates that the environment (`SSL_CERT_FILE`, `SSL_CERT_DIR`) or the system says are to be trusted.
fn system_certificates() -> Result<Vec<CertificateDer<'static>>, String> {
    let found = rustls_native_certs::load_native_certs();
    match (found.certs.is_empty(), found.errors.first()) {
        (false, _) => Ok(found.certs),
        (true, Some(error)) => Err(format!("the system's certificates cannot be read: {error}")),
        (true, None) => Err(
            "this machine has no certificates to trust: install the package ca-certificates"
                .to_owned(),
        ),
    }
}

/// The certificates of a PEM file, at least one.
fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let refused = |reason: String| format!("{}: {reason}", file.display());
    let text = std::fs::read(file).map_err(|error| refused(error.to_string()))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let found = found.map_err(|error| refused(format!("it is no sound PEM file: {error}")))?;
    match found.is_empty() {
        false => Ok(found),
        true => Err(refused(
            "it holds no certificate in PEM form (BEGIN CERTIFICATE)".to_owned(),
        )),
    }
}

fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let refused = |reason: String| format!("{}: {reason}", file.display());
    let text = std::fs::read(file).map_err(|error| refused(error.to_string()))?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|_| {
        refused(
            "it holds no private key in PEM form (BEGIN PRIVATE KEY), without a password"
                .to_owned(),
        )
    })
}
