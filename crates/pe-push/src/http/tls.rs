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
    use std::collections::HashSet;
    use std::io;
    use std::path::{Path, PathBuf};
    use std::sync::Arc;

    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use rustls::crypto::{CryptoProvider, ring};
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
    use rustls::server::ParsedCertificate;
    use rustls::{
        CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    };
    use thiserror::Error;
    use tokio_rustls::TlsConnector;

    use super::super::connector::BoxIo;
    use super::super::settings::TlsSettings;
    use super::super::url::BaseUrl;
    use super::super::watched::Watched;
    use crate::PushError;

    /// Names a file of certificates to trust instead of the system's.
    const CERT_FILE: &str = "SSL_CERT_FILE";
    /// Names a directory of them.
    const CERT_DIRECTORY: &str = "SSL_CERT_DIR";

    /// What secures connections.
    pub(in super::super) struct Tls {
        config: Arc<Watched<Arc<ClientConfig>>>,
        server_name: Option<String>,
    }

    /// Why a connection could not be secured.
    #[derive(Debug, Error)]
    pub(in super::super) enum TlsError {
        #[error("{0:?} is no name that a certificate can hold")]
        Name(String),
        #[error("{}", handshake(.0))]
        Handshake(io::Error),
    }

    fn handshake(error: &io::Error) -> String {
        let inner = error
            .get_ref()
            .and_then(|it| it.downcast_ref::<rustls::Error>());
        match inner {
            Some(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
                "the server's certificate is signed by nobody who is trusted here; name its authority's certificate, or its own, as trusted".to_owned()
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
            let server_name = settings.server_name.clone();
            let named = [&settings.ca_file, &settings.cert_file, &settings.key_file];
            let mut files: Vec<PathBuf> = named.into_iter().flatten().cloned().collect();
            if settings.ca_file.is_none() {
                files.extend(variable(CERT_FILE));
            }
            let config = Watched::new(files, move || client_config(&settings).map(Arc::new));
            let config = config.map_err(|reason| PushError::Certificates {
                url: url.as_str().to_owned(),
                reason,
            })?;
            Ok(Self {
                config,
                server_name,
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
            let connector = TlsConnector::from(self.config.get().await);
            let stream = connector.connect(name, stream).await;
            Ok(Box::new(stream.map_err(TlsError::Handshake)?))
        }
    }

    /// What is wrong with each of the files, by the name of its key.
    pub(in super::super) fn check_files(settings: &TlsSettings) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        let mut note = |key: &'static str, result: Result<(), String>| {
            problems.extend(result.err().map(|reason| (key, reason)));
        };
        if let Some(file) = &settings.ca_file {
            note("ca_file", certificates(file).map(drop));
        }
        match (&settings.cert_file, &settings.key_file) {
            (Some(certificate), Some(key)) => {
                let certificate = certificates(certificate).map(drop);
                let key = private_key(key).map(drop);
                if certificate.is_ok() && key.is_ok() {
                    note("cert_file", client_config(settings).map(drop));
                }
                note("cert_file", certificate);
                note("key_file", key);
            }
            (Some(_), None) => {
                let reason = "a certificate is given, but no key: add `key_file`";
                note("cert_file", Err(reason.to_owned()));
            }
            (None, Some(_)) => {
                let reason = "a key is given, but no certificate: add `cert_file`";
                note("key_file", Err(reason.to_owned()));
            }
            (None, None) => {}
        }
        problems
    }

    fn client_config(settings: &TlsSettings) -> Result<ClientConfig, String> {
        let provider = Arc::new(ring::default_provider());
        let trusted = match &settings.ca_file {
            Some(file) => certificates(file)?,
            None => environment_certificates()?,
        };
        let verifier = Verifier::new(trusted, provider.clone())?;
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let (Some(certificate), Some(key)) = (&settings.cert_file, &settings.key_file) else {
            return Ok(builder.with_no_client_auth());
        };
        let (chain, secret) = (certificates(certificate)?, private_key(key)?);
        builder
            .with_client_auth_cert(chain, secret)
            .map_err(|error| {
                let (certificate, key) = (certificate.display(), key.display());
                format!(
                    "the certificate {certificate} and the key {key} do not go together: {error}"
                )
            })
    }

    /// The certificates that the environment or the system says are to be trusted.
    fn environment_certificates() -> Result<Vec<CertificateDer<'static>>, String> {
        let (file, directory) = (variable(CERT_FILE), variable(CERT_DIRECTORY));
        if file.is_none() && directory.is_none() {
            let found = rustls_native_certs::load_native_certs();
            return match (found.certs.is_empty(), found.errors.first()) {
                (false, _) => Ok(found.certs),
                (true, Some(error)) => {
                    Err(format!("the system's certificates cannot be read: {error}"))
                }
                (true, None) => Err(format!(
                    "this machine has no certificates to trust: install the package ca-certificates, or name a file in {CERT_FILE}"
                )),
            };
        }
        let mut all = Vec::new();
        if let Some(file) = file {
            let named = certificates(&file).map_err(|reason| format!("{CERT_FILE}: {reason}"))?;
            all.extend(named);
        }
        if let Some(directory) = directory {
            let found = rustls_native_certs::load_certs_from_paths(None, Some(&directory));
            all.extend(found.certs);
        }
        match all.is_empty() {
            false => Ok(all),
            true => Err(format!(
                "{CERT_DIRECTORY} names a directory without certificates"
            )),
        }
    }

    fn variable(name: &str) -> Option<PathBuf> {
        let value = std::env::var_os(name).filter(|value| !value.is_empty());
        value.map(PathBuf::from)
    }

    /// The certificates of a PEM file, at least one.
    fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
        let refused = |reason: String| format!("{}: {reason}", file.display());
        let text = std::fs::read(file).map_err(|error| refused(error.to_string()))?;
        if text.trim_ascii().is_empty() {
            return Err(refused(
                "the file is empty; it should hold certificates in PEM form".to_owned(),
            ));
        }
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
        let found = found.map_err(|error| refused(format!("it is no sound PEM file: {error}")))?;
        if !found.is_empty() {
            return Ok(found);
        }
        let holds = match PrivateKeyDer::from_pem_slice(&text).is_ok() {
            true => "it holds a private key and no certificate; name the certificate's file",
            false => "it holds no certificate in PEM form (BEGIN CERTIFICATE)",
        };
        Err(refused(holds.to_owned()))
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

    /// Checks a chain to a trusted certificate, or that the server's own is one.
    #[derive(Debug)]
    struct Verifier {
        chains: Arc<WebPkiServerVerifier>,
        trusted: HashSet<CertificateDer<'static>>,
    }

    impl Verifier {
        fn new(
            trusted: Vec<CertificateDer<'static>>,
            provider: Arc<CryptoProvider>,
        ) -> Result<Self, String> {
            let mut roots = RootCertStore::empty();
            let (added, _) = roots.add_parsable_certificates(trusted.iter().cloned());
            if added == 0 {
                return Err("none of the trusted certificates can be read".to_owned());
            }
            let chains = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
            Ok(Self {
                chains: chains.build().map_err(|error| error.to_string())?,
                trusted: trusted.into_iter().collect(),
            })
        }
    }

    impl ServerCertVerifier for Verifier {
        fn verify_server_cert(
            &self,
            certificate: &CertificateDer<'_>,
            intermediates: &[CertificateDer<'_>],
            name: &ServerName<'_>,
            ocsp: &[u8],
            now: UnixTime,
        ) -> Result<ServerCertVerified, rustls::Error> {
            let checked =
                self.chains
                    .verify_server_cert(certificate, intermediates, name, ocsp, now);
            match checked {
                // webpki looks at the dates before it comes to either of these.
                Err(rustls::Error::InvalidCertificate(error))
                    if is_of_signer(&error) && self.trusted.contains(certificate) =>
                {
                    let parsed = ParsedCertificate::try_from(certificate)?;
                    rustls::client::verify_server_name(&parsed, name)?;
                    Ok(ServerCertVerified::assertion())
                }
                checked => checked,
            }
        }

        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            self.chains
                .verify_tls12_signature(message, certificate, signature)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            self.chains
                .verify_tls13_signature(message, certificate, signature)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.chains.supported_verify_schemes()
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

    #[cfg(test)]
    mod tests {
        use std::time::Duration;

        use super::*;

        /// A certificate for `localhost` that is an authority, as `openssl req -x509` makes them, and its key.
        fn authority(directory: &Path) -> (PathBuf, PathBuf) {
            let (certificate, key) = (directory.join("cert.pem"), directory.join("key.pem"));
            let made = std::process::Command::new("openssl")
                .args([
                    "req",
                    "-x509",
                    "-nodes",
                    "-days",
                    "2",
                    "-subj",
                    "/CN=localhost",
                ])
                .args(["-addext", "subjectAltName=DNS:localhost", "-newkey", "ec"])
                .args(["-pkeyopt", "ec_paramgen_curve:prime256v1", "-keyout"])
                .arg(&key)
                .arg("-out")
                .arg(&certificate)
                .output()
                .unwrap();
            assert!(made.status.success(), "{made:?}");
            (certificate, key)
        }

        #[test]
        fn a_trusted_authoritys_own_certificate_passes_with_the_right_name_and_date_only() {
            pe_testkit::require!(Program("openssl"));
            let directory = tempfile::tempdir().unwrap();
            let (file, _) = authority(directory.path());
            let certificate = certificates(&file).unwrap().remove(0);
            let provider = Arc::new(ring::default_provider());
            let check = |trusted: &CertificateDer<'static>, name: &str, days: u64| {
                let verifier = Verifier::new(vec![trusted.clone()], provider.clone()).unwrap();
                let name = ServerName::try_from(name.to_owned()).unwrap();
                let now = UnixTime::now().as_secs() + days * 86_400;
                let now = UnixTime::since_unix_epoch(Duration::from_secs(now));
                verifier.verify_server_cert(&certificate, &[], &name, &[], now)
            };
            check(&certificate, "localhost", 0).unwrap();
            let wrong = |days: u64, name: &str| check(&certificate, name, days).unwrap_err();
            assert!(wrong(0, "other").to_string().contains("not valid for name"));
            assert!(wrong(5, "localhost").to_string().contains("expired"));
            let other = tempfile::tempdir().unwrap();
            let (stranger, _) = authority(other.path());
            let stranger = certificates(&stranger).unwrap().remove(0);
            assert!(check(&stranger, "localhost", 0).is_err());
        }

        #[test]
        fn files_that_cannot_be_used_are_told() {
            pe_testkit::require!(Program("openssl"));
            let directory = tempfile::tempdir().unwrap();
            let (certificate, key) = authority(directory.path());
            let empty = directory.path().join("empty");
            std::fs::write(&empty, "\n").unwrap();
            let refused = |file: &Path| certificates(file).unwrap_err();
            assert!(refused(&empty).contains("the file is empty"));
            assert!(refused(&key).contains("a private key and no certificate"));
            assert!(refused(&directory.path().join("missing")).contains("No such file"));
            assert!(
                private_key(&certificate)
                    .unwrap_err()
                    .contains("no private key")
            );
            let other = tempfile::tempdir().unwrap();
            let (_, other_key) = authority(other.path());
            let check = |cert_file: Option<&Path>, key_file: Option<&Path>| {
                let settings = TlsSettings {
                    cert_file: cert_file.map(Path::to_owned),
                    key_file: key_file.map(Path::to_owned),
                    ..TlsSettings::default()
                };
                let problems = check_files(&settings);
                problems
                    .into_iter()
                    .map(|(key, reason)| format!("{key} {reason}"))
                    .collect::<String>()
            };
            assert_eq!(check(Some(&certificate), Some(&key)), "");
            assert!(check(Some(&certificate), None).contains("add `key_file`"));
            assert!(check(None, Some(&key)).contains("add `cert_file`"));
            let strangers = check(Some(&certificate), Some(&other_key));
            assert!(strangers.contains("do not go together"), "{strangers}");
        }
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
