//! What may be set for `http`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use hyper::Method;
use hyper::header::{ACCEPT_ENCODING, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use pe_scrape::settings::{Port, Problems};
use pe_scrape::{Secret, SettingsError};

use super::checks::StatusChoice;
use crate::tls::TlsChoice;

crate::probe_settings! {
    /// Settings of `http`.
    pub struct HttpSettings {
        /// Port to connect to.
        port: Option<Port>, otherwise("80, with `tls` 443");
        /// Path and query to request.
        path: String = "/".to_owned();
        /// Uses TLS: `true`, or an object.
        tls: TlsChoice = TlsChoice::Off;
        /// Statuses that are as they should be: a number, a class such as `2xx`, a range such as `200-204`, or a list of these.
        status: StatusChoice = StatusChoice::default();
        /// Regular expression that the answer's body must match.
        body: Option<String>;
        /// Regular expression that the answer's body must not match.
        not_body: Option<String>;
        /// Places in a JSON body (RFC 6901, such as `/sensors/0/ok`), each with a regular expression that the value there must
        /// match. Numbers and truth values become `probe_http_json_value`.
        json: BTreeMap<String, String>;
        /// Method of the request.
        method: String = "GET".to_owned();
        /// Further headers of the request.
        headers: BTreeMap<String, String>;
        /// Body of the request.
        request_body: Option<String>;
        /// Host to ask for, in place of the device's.
        host: Option<String>, otherwise("the device's host name or address");
        /// User for basic authentication.
        username: Option<String>;
        /// Password for basic authentication.
        password: Option<Secret>;
        /// File with the password, which is read again when it changes.
        password_file: Option<PathBuf>;
        /// File with a bearer token, which is read again when it changes.
        bearer_token_file: Option<PathBuf>;
        /// Redirects that are followed at most. None is where `status` asks for one.
        redirects: u32 = 5, range(0.0, 20.0);
        /// Follows redirects to other hosts than the device too.
        redirect_elsewhere: bool = false;
        /// Version of HTTP. `any` lets TLS agree on one, and is 1.1 without TLS.
        version: HttpVersion = HttpVersion::Any;
        /// Takes answers that are packed with gzip.
        compression: bool = true;
        /// URL of an HTTP proxy, such as `http://proxy.test:3128`; user and password may stand in it.
        proxy: Option<String>;
        /// Bytes of the answer's body that are read at most, packed or not.
        max_bytes: u32 = 262_144, range(1.0, 67_108_864.0);
    }
}

pe_scrape::choices! {
    /// A version of HTTP.
    pub enum HttpVersion {
        /// What TLS agrees on; 1.1 without TLS.
        #[default]
        Any = "any",
        /// HTTP/1.1.
        One = "1.1",
        /// HTTP/2, without TLS too.
        Two = "2",
    }
}

/// Headers that are the probe's own.
const RESERVED: &[(&str, &str)] = &[
    (
        "authorization",
        "give `username` and `password`, or `bearer_token_file`",
    ),
    ("host", "give `host`"),
    ("accept-encoding", "set `compression`"),
    ("connection", ""),
    ("content-length", ""),
    (
        "proxy-authorization",
        "write user and password into `proxy`",
    ),
    ("te", ""),
    ("transfer-encoding", ""),
    ("upgrade", ""),
];

impl HttpSettings {
    pub(super) fn port_in_use(&self) -> u16 {
        let default = if self.tls.settings().is_some() {
            443
        } else {
            80
        };
        self.port.map_or(default, |port| port.0)
    }

    /// Method and headers of the request, checked, and what else stands in its first lines.
    pub(super) fn head(&self) -> Result<(Method, HeaderMap), SettingsError> {
        let mut problems = Problems::default();
        let method = problems.within("method", |problems| {
            let method = Method::from_bytes(self.method.as_bytes());
            let method = method.ok().filter(|method| *method != Method::CONNECT);
            if method.is_none() {
                problems.refuse("is no method of a request, such as GET");
            }
            method
        });
        let path = format!("http://host{}", self.path);
        if !self.path.starts_with('/') || path.parse::<hyper::Uri>().is_err() {
            problems.within("path", |problems| {
                problems.refuse("must start with `/` and have no blanks");
            });
        }
        if let Some(host) = &self.host
            && (host.contains(['/', '@', ' ', '[']) || !host.is_ascii())
        {
            problems.within("host", |problems| {
                problems.refuse("is no host name or address");
            });
        }
        let mut headers = HeaderMap::new();
        let own = concat!("pingexporter/", env!("CARGO_PKG_VERSION"));
        headers.insert(USER_AGENT, HeaderValue::from_static(own));
        if self.compression {
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
        }
        problems.within("headers", |problems| {
            for (name, value) in &self.headers {
                let lower = name.to_ascii_lowercase();
                if let Some((_, hint)) = RESERVED.iter().find(|(known, _)| *known == lower) {
                    let hint = (!hint.is_empty()).then(|| (*hint).to_owned());
                    let message = format!("the header `{name}` is the probe's own");
                    problems.error_at_key(name, message, hint);
                    continue;
                }
                match (HeaderName::try_from(name), HeaderValue::try_from(value)) {
                    (Ok(name), Ok(value)) => drop(headers.insert(name, value)),
                    _ => problems.error_at_key(
                        name,
                        format!("the header `{name}` cannot be sent"),
                        None,
                    ),
                }
            }
        });
        match method.filter(|_| !problems.has_errors()) {
            Some(method) => Ok((method, headers)),
            None => Err(problems.into()),
        }
    }
}
