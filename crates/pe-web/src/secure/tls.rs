//! TLS settings from keys and the files they name.

use std::sync::Arc;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};

use super::file::TlsKeys;

/// What `keys` ask for; `files` are the contents of certificate, key and clients' authorities.
pub(super) fn acceptor(keys: &TlsKeys, files: &[Vec<u8>]) -> Result<TlsAcceptor, String> {
    let (Some(cert_file), Some(key_file), [cert, key, authorities]) =
        (&keys.cert_file, &keys.key_file, files)
    else {
        return Err("tls_server_config needs cert_file and key_file".into());
    };
    let chain = certificates(cert).map_err(|error| format!("{}: {error}", cert_file.display()))?;
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|error| format!("{}: no private key: {error}", key_file.display()))?;
    let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&versions(keys)?)
        .map_err(|error| error.to_string())?;
    let verifier = verifier(keys, authorities)?;
    let builder = match verifier {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|error| {
        let (cert, key) = (cert_file.display(), key_file.display());
        format!("{cert} and {key} cannot be used together: {error}")
    })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let chain = chain.map_err(|error| error.to_string())?;
    match chain.is_empty() {
        true => Err("holds no certificate".into()),
        false => Ok(chain),
    }
}

/// Versions are written as in the exporters of Prometheus.
fn versions(keys: &TlsKeys) -> Result<Vec<&'static SupportedProtocolVersion>, String> {
    let number = |name: &str, text: &Option<String>, otherwise| match text.as_deref() {
        None => Ok(otherwise),
        Some("TLS12") => Ok(12),
        Some("TLS13") => Ok(13),
        Some(other) => Err(format!(
            "tls_server_config: {name} is {other:?}; TLS12 and TLS13 are there"
        )),
    };
    let lowest = number("min_version", &keys.min_version, 12)?;
    let highest = number("max_version", &keys.max_version, 13)?;
    let versions = [(12, &TLS12), (13, &TLS13)].into_iter();
    let wanted: Vec<_> = versions
        .filter(|(version, _)| (lowest..=highest).contains(version))
        .map(|(_, version)| version)
        .collect();
    match wanted.is_empty() {
        true => Err("tls_server_config: min_version is above max_version".into()),
        false => Ok(wanted),
    }
}

fn verifier(
    keys: &TlsKeys,
    authorities: &[u8],
) -> Result<Option<Arc<dyn ClientCertVerifier>>, String> {
    let wanted = keys.client_auth_type.as_deref().unwrap_or_default();
    let may_be_missing = match wanted {
        "" | "NoClientCert" if keys.client_ca_file.is_some() => {
            return Err(
                "tls_server_config: client_ca_file has no effect without client_auth_type".into(),
            );
        }
        "" | "NoClientCert" => return Ok(None),
        "RequireAndVerifyClientCert" => false,
        "VerifyClientCertIfGiven" => true,
        other => {
            return Err(format!(
                "tls_server_config: client_auth_type is {other:?}; NoClientCert, VerifyClientCertIfGiven and \
                 RequireAndVerifyClientCert are there"
            ));
        }
    };
    let Some(file) = &keys.client_ca_file else {
        return Err(format!("tls_server_config: {wanted} needs client_ca_file"));
    };
    let told = |error: String| format!("{}: {error}", file.display());
    let mut roots = RootCertStore::empty();
    for certificate in certificates(authorities).map_err(told)? {
        roots
            .add(certificate)
            .map_err(|error| told(error.to_string()))?;
    }
    let builder =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::new(default_provider()));
    let builder = match may_be_missing {
        true => builder.allow_unauthenticated(),
        false => builder,
    };
    let verifier = builder.build().map_err(|error| told(error.to_string()))?;
    Ok(Some(verifier))
}
