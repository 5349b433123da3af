//! What certificates say of themselves. They are the peer's: nothing in them is taken for granted.

use std::fmt::Write as _;

use rustls::pki_types::CertificateDer;
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

/// Names of a certificate that are shown at most, and bytes of each label.
const MOST_NAMES: usize = 20;
const LONGEST_LABEL: usize = 512;

/// The certificates that a peer showed, its own first.
pub(super) struct Chain<'a> {
    pub(super) raw: &'a [CertificateDer<'static>],
    parsed: Vec<Option<Certificate>>,
}

impl<'a> Chain<'a> {
    pub(super) fn new(raw: &'a [CertificateDer<'static>]) -> Self {
        let parsed = raw.iter();
        Self {
            raw,
            parsed: parsed.map(|der| parse(der)).collect(),
        }
    }

    /// When the first of all expires, in seconds since the epoch.
    pub(super) fn earliest_expiry(&self) -> Option<f64> {
        let all = self.parsed.iter().flatten();
        all.map(expiry).min_by(f64::total_cmp)
    }

    /// Whether the peer's own certificate is signed by itself, as far as its names tell.
    pub(super) fn is_self_signed(&self) -> bool {
        let own = self.parsed.first().and_then(Option::as_ref);
        own.is_some_and(|own| own.tbs_certificate.issuer == own.tbs_certificate.subject)
    }

    /// When the first on the way from the peer's own to one of `roots` expires.
    pub(super) fn expiry_to<'r>(
        &'r self,
        roots: impl Iterator<Item = &'r Certificate> + Clone,
    ) -> Option<f64> {
        let mut at = self.parsed.first()?.as_ref()?;
        let mut first = expiry(at);
        // A chain has no more links than certificates were shown.
        for _ in 0..=self.parsed.len() {
            let issuer = &at.tbs_certificate.issuer;
            let mut roots = roots.clone();
            if let Some(root) = roots.find(|root| root.tbs_certificate.subject == *issuer) {
                return Some(first.min(expiry(root)));
            }
            let mut shown = self.parsed.iter().flatten();
            let next = shown.find(|next| next.tbs_certificate.subject == *issuer);
            let Some(next) = next.filter(|next| !std::ptr::eq(*next, at)) else {
                break;
            };
            at = next;
            first = first.min(expiry(at));
        }
        Some(first)
    }

    /// Labels of the peer's own certificate.
    pub(super) fn labels(&self) -> Option<Vec<(&'static str, String)>> {
        let own = self.parsed.first()?.as_ref()?;
        let tbs = &own.tbs_certificate;
        let print = ring::digest::digest(&ring::digest::SHA256, self.raw.first()?);
        let labels = [
            ("fingerprint_sha256", hexadecimal(print.as_ref())),
            ("subject", tbs.subject.to_string()),
            ("issuer", tbs.issuer.to_string()),
            ("subjectalternative", names(own)),
            ("serialnumber", hexadecimal(tbs.serial_number.as_bytes())),
        ];
        let labels = labels.into_iter();
        Some(labels.map(|(name, value)| (name, bounded(value))).collect())
    }
}

/// A certificate that can be read.
pub(super) fn parse(der: &[u8]) -> Option<Certificate> {
    Certificate::from_der(der).ok()
}

fn expiry(certificate: &Certificate) -> f64 {
    let until = certificate.tbs_certificate.validity.not_after;
    until.to_unix_duration().as_secs_f64()
}

fn names(certificate: &Certificate) -> String {
    let Ok(Some((_, names))) = certificate.tbs_certificate.get::<SubjectAltName>() else {
        return String::new();
    };
    let names = names.0.iter().filter_map(|name| match name {
        GeneralName::DnsName(name) => Some(name.to_string()),
        GeneralName::IpAddress(bytes) => match bytes.as_bytes() {
            [a, b, c, d] => Some(std::net::Ipv4Addr::new(*a, *b, *c, *d).to_string()),
            bytes => {
                let bytes: [u8; 16] = bytes.try_into().ok()?;
                Some(std::net::Ipv6Addr::from(bytes).to_string())
            }
        },
        _ => None,
    });
    let names: Vec<String> = names.take(MOST_NAMES).collect();
    names.join(",")
}

fn hexadecimal(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn bounded(mut text: String) -> String {
    let mut end = text.len().min(LONGEST_LABEL);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}
