//! Whom to trust, and what to show: certificates and keys from files, for those who connect by TLS.
//!
//! Trusted are the certificates of a file, else those of `SSL_CERT_FILE` and `SSL_CERT_DIR`, else those of the system. A
//! peer whose own certificate is among them is trusted too, whoever signed it and even if it is an authority's: its name and
//! its dates are checked all the same.
//!
//! Everything here reads files when it is called. [`FileBacked`](crate::FileBacked) does so again when they change.

use std::collections::HashSet;
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

use crate::file_backed::read_file;

/// Longest file that is read, in bytes: all authorities that a system trusts take some hundred thousand.
const LONGEST: u64 = 16 << 20;

/// Names a file of certificates to trust instead of the system's.
const CERT_FILE: &str = "SSL_CERT_FILE";
/// Names a directory of them.
const CERT_DIRECTORY: &str = "SSL_CERT_DIR";

/// The files of one client, all in PEM form.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificates to trust in place of the system's.
    pub ca_file: Option<PathBuf>,
    /// The certificate that is shown, with `key_file`.
    pub cert_file: Option<PathBuf>,
    /// The key of that certificate.
    pub key_file: Option<PathBuf>,
}

impl TlsFiles {
    /// All files that matter, those that the environment names among them.
    #[must_use]
    pub fn all(&self) -> Vec<PathBuf> {
        let named = [&self.ca_file, &self.cert_file, &self.key_file];
        let mut files: Vec<PathBuf> = named.into_iter().flatten().cloned().collect();
        if self.ca_file.is_none() {
            files.extend(variable(CERT_FILE));
        }
        files
    }

    /// The key of the one of certificate and key that is given without the other, and what is wrong then.
    #[must_use]
    pub fn unpaired(&self) -> Option<(&'static str, &'static str)> {
        match (&self.cert_file, &self.key_file) {
            (Some(_), None) => Some((
                "cert_file",
                "a certificate is given, but no key: add `key_file`",
            )),
            (None, Some(_)) => Some((
                "key_file",
                "a key is given, but no certificate: add `cert_file`",
            )),
            _ => None,
        }
    }

    /// What is wrong with each of the files, by the name of its key.
    #[must_use]
    pub fn check(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        let mut note = |key: &'static str, result: Result<(), String>| {
            problems.extend(result.err().map(|reason| (key, reason)));
        };
        if let Some(file) = &self.ca_file {
            note("ca_file", certificates(file).map(drop));
        }
        if let Some((key, reason)) = self.unpaired() {
            note(key, Err(reason.to_owned()));
        }
        if let (Some(certificate), Some(key)) = (&self.cert_file, &self.key_file) {
            let certificate = certificates(certificate).map(drop);
            let key = private_key(key).map(drop);
            if certificate.is_ok() && key.is_ok() {
                let made = self
                    .trusted()
                    .and_then(|trust| self.config(Arc::new(trust)));
                note("cert_file", made.map(drop));
            }
            note("cert_file", certificate);
            note("key_file", key);
        }
        problems
    }

    /// Whom to trust.
    ///
    /// # Errors
    /// Why the certificates cannot be used.
    pub fn trusted(&self) -> Result<Trusted, String> {
        Trusted::new(match &self.ca_file {
            Some(file) => certificates(file)?,
            None => environment_certificates()?,
        })
    }

    /// The configuration of a client that checks its peers by `verifier`, and shows the certificate.
    ///
    /// # Errors
    /// Why certificate or key cannot be used.
    pub fn config(&self, verifier: Arc<dyn ServerCertVerifier>) -> Result<ClientConfig, String> {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let (Some(certificate), Some(key)) = (&self.cert_file, &self.key_file) else {
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
}

/// The cryptography of all connections.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// Checks a chain to a trusted certificate, or that the server's own is one.
#[derive(Debug)]
pub struct Trusted {
    chains: Arc<WebPkiServerVerifier>,
    trusted: HashSet<CertificateDer<'static>>,
}

impl Trusted {
    /// Trusts these.
    ///
    /// # Errors
    /// Where none of them can be read.
    pub fn new(trusted: Vec<CertificateDer<'static>>) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        let (added, _) = roots.add_parsable_certificates(trusted.iter().cloned());
        if added == 0 {
            return Err("none of the trusted certificates can be read".to_owned());
        }
        let chains = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider());
        Ok(Self {
            chains: chains.build().map_err(|error| error.to_string())?,
            trusted: trusted.into_iter().collect(),
        })
    }

    /// The certificates.
    pub fn certificates(&self) -> impl Iterator<Item = &CertificateDer<'static>> {
        self.trusted.iter()
    }
}

impl ServerCertVerifier for Trusted {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let checked = self
            .chains
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
#[must_use]
pub fn is_of_signer(error: &CertificateError) -> bool {
    match error {
        CertificateError::UnknownIssuer => true,
        CertificateError::Other(other) => {
            let error = other.0.downcast_ref::<webpki::Error>();
            matches!(error, Some(webpki::Error::CaUsedAsEndEntity))
        }
        _ => false,
    }
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
///
/// # Errors
/// Why there are none.
pub fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let refused = |reason: String| format!("{}: {reason}", file.display());
    let text = read_file(file, LONGEST).map_err(refused)?;
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
    let text = read_file(file, LONGEST).map_err(refused)?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|_| {
        refused(
            "it holds no private key in PEM form (BEGIN PRIVATE KEY), without a password"
                .to_owned(),
        )
    })
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
        let check = |trusted: &CertificateDer<'static>, name: &str, days: u64| {
            let verifier = Trusted::new(vec![trusted.clone()]).unwrap();
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
        let pipe = directory.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        assert!(refused(&pipe).contains("not a file"));
        assert!(private_key(&pipe).unwrap_err().contains("not a file"));
        assert!(
            private_key(&certificate)
                .unwrap_err()
                .contains("no private key")
        );
        let other = tempfile::tempdir().unwrap();
        let (_, other_key) = authority(other.path());
        let check = |cert_file: Option<&Path>, key_file: Option<&Path>| {
            let files = TlsFiles {
                cert_file: cert_file.map(Path::to_owned),
                key_file: key_file.map(Path::to_owned),
                ca_file: None,
            };
            let problems = files.check();
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
