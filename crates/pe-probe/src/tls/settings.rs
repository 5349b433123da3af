//! What may be set for TLS.

use std::path::PathBuf;

use pe_scrape::settings::{Bounds, Kind, Node, Problems, Setting, View};
use pe_scrape::tls::TlsFiles;
use pe_scrape::{SettingsError, Value};

pe_scrape::settings! {
    /// Whom a probe trusts, and what it shows. Files are read again when they change.
    pub struct TlsSettings("tls") {
        /// File with the certificates to trust in place of the system's, in PEM form: of authorities, or the device's own.
        ca_file: Option<PathBuf>;
        /// File with the certificate that the probe shows, in PEM form, with `key_file`.
        cert_file: Option<PathBuf>;
        /// File with the key of that certificate, in PEM form and without a password.
        key_file: Option<PathBuf>;
        /// Name to ask for and to expect in the device's certificate, in place of the device's host.
        server_name: Option<String>;
        /// Whether the probe fails where the certificate is not trusted, not for the device's name, or not valid now. Its expiry
        /// is measured either way.
        verify: bool = true;
    }
}

impl Default for TlsSettings {
    /// The system's certificates, and nothing to show.
    fn default() -> Self {
        Self {
            ca_file: None,
            cert_file: None,
            key_file: None,
            server_name: None,
            verify: true,
        }
    }
}

impl TlsSettings {
    pub(super) fn files(&self) -> TlsFiles {
        TlsFiles {
            ca_file: self.ca_file.clone(),
            cert_file: self.cert_file.clone(),
            key_file: self.key_file.clone(),
        }
    }

    pub(super) fn check_together(&self) -> Result<(), SettingsError> {
        match self.files().unpaired() {
            Some((_, reason)) => Err(SettingsError::at("tls", reason)),
            None => Ok(()),
        }
    }
}

/// Whether a probe uses TLS: `true`, `false`, or an object of settings.
#[derive(Debug, Clone, PartialEq)]
pub enum TlsChoice {
    /// No.
    Off,
    /// With the default settings.
    Default,
    /// With these settings.
    With(TlsSettings),
}

impl TlsChoice {
    /// The settings, where TLS is used.
    #[must_use]
    pub fn settings(&self) -> Option<TlsSettings> {
        match self {
            Self::Off => None,
            Self::Default => Some(TlsSettings::default()),
            Self::With(settings) => Some(settings.clone()),
        }
    }
}

impl Setting for TlsChoice {
    const KIND: Kind = Kind::Either(&[Kind::Flag, Kind::Object(TlsSettings::TABLE)]);

    fn decode<'v, N: Node<'v>>(node: N, bounds: &Bounds, problems: &mut Problems) -> Option<Self> {
        match node.view() {
            View::Flag(false) => Some(Self::Off),
            View::Flag(true) => Some(Self::Default),
            View::Object => TlsSettings::decode(node, bounds, problems).map(Self::With),
            other => {
                problems.refuse(format_args!(
                    "found {}, expected true, false or an object such as {{\"ca_file\": …}}",
                    other.describe()
                ));
                None
            }
        }
    }

    fn encode(&self) -> Value {
        match self {
            Self::Off => false.into(),
            Self::Default => true.into(),
            Self::With(settings) => settings.encode(),
        }
    }
}
