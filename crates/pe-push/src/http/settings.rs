//! The keys that every sink with an HTTP client has, and the client that they describe.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use pe_scrape::resolve::Resolve;
use pe_scrape::settings::{Bounds, Kind, Node, Problem, Problems, Setting, Step};
use pe_scrape::{Filter, Remark, Secret, SecretText, Value};

use super::secret::Authentication;
use super::{BaseUrl, Budget, ClientOptions, HttpClient, tls};
use crate::PushError;

/// Headers that are the client's own.
const RESERVED_HEADERS: &[(&str, &str)] = &[
    (
        "authorization",
        "give `username` and `password`, or `bearer_token_file`",
    ),
    (
        "proxy-authorization",
        "write user and password into the proxy's URL",
    ),
    ("host", "it is that of the `url`"),
    ("content-encoding", ""),
    ("content-length", ""),
    ("content-type", ""),
    ("connection", ""),
    ("expect", ""),
    ("keep-alive", ""),
    ("te", ""),
    ("trailer", ""),
    ("transfer-encoding", ""),
    ("upgrade", ""),
    ("x-prometheus-remote-write-version", ""),
];

pe_scrape::settings! {
    /// Whom a client trusts on `https://` connections, and what it shows. Files are read again when they change.
    pub struct TlsSettings("tls") {
        /// File with the certificates to trust in place of the system's, in PEM form: of authorities, or the server's own.
        ca_file: Option<PathBuf>;
        /// File with the certificate that the client shows, in PEM form, with `key_file`.
        cert_file: Option<PathBuf>;
        /// File with the key of that certificate, in PEM form and without a password.
        key_file: Option<PathBuf>;
        /// Name to ask for and to expect in the server's certificate, in place of the URL's host.
        server_name: Option<String>;
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
        }
    }
}

#[cfg(feature = "tls")]
impl TlsSettings {
    pub(super) fn files(&self) -> pe_scrape::tls::TlsFiles {
        pe_scrape::tls::TlsFiles {
            ca_file: self.ca_file.clone(),
            cert_file: self.cert_file.clone(),
            key_file: self.key_file.clone(),
        }
    }
}

/// Headers of requests. Their values may be secrets, and are never shown.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Headers(BTreeMap<String, Secret>);

impl<N: Into<String>, V: Into<Arc<str>>> FromIterator<(N, V)> for Headers {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(headers: I) -> Self {
        let headers = headers.into_iter();
        Self(
            headers
                .map(|(name, value)| (name.into(), Secret::new(value)))
                .collect(),
        )
    }
}

impl Setting for Headers {
    const KIND: Kind = Kind::Texts;
    const OPTIONAL: bool = true;

    fn decode<'v, N: Node<'v>>(node: N, bounds: &Bounds, problems: &mut Problems) -> Option<Self> {
        let texts = BTreeMap::<String, String>::decode(node, bounds, problems)?;
        Some(texts.into_iter().collect())
    }

    fn encode(&self) -> Value {
        let headers = self.0.iter();
        headers
            .map(|(name, value)| (name.clone(), Value::from(value.to_string())))
            .collect()
    }

    fn absent() -> Option<Self> {
        Some(Self::default())
    }
}

impl Headers {
    /// The headers as they are sent; what cannot be sent is reported at its name.
    fn read(&self, problems: &mut Problems) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.0 {
            let lower = name.to_ascii_lowercase();
            if let Some((_, hint)) = RESERVED_HEADERS.iter().find(|(known, _)| *known == lower) {
                let hint = (!hint.is_empty()).then(|| (*hint).to_owned());
                problems.error_at_key(
                    name,
                    format!("the header `{name}` is the client's own"),
                    hint,
                );
                continue;
            }
            match (
                HeaderName::try_from(name),
                HeaderValue::try_from(value.expose()),
            ) {
                (Ok(name), Ok(mut value)) => {
                    value.set_sensitive(true);
                    headers.insert(name, value);
                }
                (Err(_), _) => {
                    let message = format!("`{name}` is not the name of a header");
                    problems.error_at_key(name, message, None);
                }
                (_, Err(_)) => {
                    let message = format!(
                        "the value of the header `{name}` contains what cannot be sent, such as a newline"
                    );
                    problems.within(name.as_str(), |problems| problems.error(message, None));
                }
            }
        }
        headers
    }
}

/// Declares the settings of a sink: its `url`, the keys that all sinks have, and its own.
macro_rules! sink_settings {
    ($(#[doc = $about:literal])+ $vis:vis struct $name:ident { url { $($url:tt)+ } own { $($own:tt)* } }) => {
        pe_scrape::settings! {
            $(#[doc = $about])+
            $vis struct $name("") {
                $($url)+
                /// User for HTTP basic authentication.
                username: Option<String>;
                /// Password for HTTP basic authentication.
                password: Option<pe_scrape::Secret>;
                /// File that holds the password, relative to this file; instead of `password`. Read again when it changes.
                password_file: Option<std::path::PathBuf>, secret_file("password");
                /// File that holds a token, relative to this file; instead of user and password. Read again when it changes.
                bearer_token_file: Option<std::path::PathBuf>;
                /// Further headers of every request, such as `{"X-Scope-OrgID": "tenant"}`.
                headers: $crate::http::Headers;
                /// Certificates for `https://`.
                tls: Option<$crate::http::TlsSettings>;
                /// Series to send, as patterns such as `ping_*`, `{site=plant-*}` or `ping_rtt_*{ip=10.*}`; all others stay here.
                keep: Vec<String>, otherwise("all");
                /// Series to leave out, as patterns like those of `keep`.
                drop: Vec<String>, otherwise("none");
                /// Most bytes of requests a second, heads and bodies, for metered links. What TCP and TLS add comes on top. A request's `timeout` does not count the time that it waits for this.
                max_bytes_per_second: Option<f64>, range(100.0, 1e12), otherwise("no limit");
                /// How long one request may take.
                timeout: std::time::Duration = $crate::http::DEFAULT_TIMEOUT;
                $($own)*
            }
        }

        impl $name {
            /// The keys that all sinks have.
            pub(crate) fn common(&self) -> $crate::http::CommonSettings<'_> {
                $crate::http::CommonSettings {
                    url: &self.url,
                    username: self.username.as_deref(),
                    password: self.password.as_ref(),
                    password_file: self.password_file.as_ref(),
                    bearer_token_file: self.bearer_token_file.as_ref(),
                    headers: &self.headers,
                    tls: self.tls.as_ref(),
                    keep: &self.keep,
                    drop: &self.drop,
                    max_bytes_per_second: self.max_bytes_per_second,
                    timeout: self.timeout,
                }
            }
        }
    };
}
pub(crate) use sink_settings;

/// What the keys that all sinks have say.
pub(crate) struct CommonSettings<'s> {
    pub(crate) url: &'s str,
    pub(crate) username: Option<&'s str>,
    pub(crate) password: Option<&'s Secret>,
    pub(crate) password_file: Option<&'s PathBuf>,
    pub(crate) bearer_token_file: Option<&'s PathBuf>,
    pub(crate) headers: &'s Headers,
    pub(crate) tls: Option<&'s TlsSettings>,
    pub(crate) keep: &'s [String],
    pub(crate) drop: &'s [String],
    pub(crate) max_bytes_per_second: Option<f64>,
    pub(crate) timeout: Duration,
}

impl CommonSettings<'_> {
    /// The client that these settings describe; what is wrong with them is reported, each at its key.
    pub(crate) fn client(
        &self,
        resolver: Arc<dyn Resolve>,
        problems: &mut Problems,
    ) -> Option<HttpClient> {
        let errors = problems.error_count();
        let url = self.read_url(problems);
        let authentication = self.authentication(problems);
        let headers = problems.within("headers", |problems| self.headers.read(problems));
        let tls = self.tls.cloned().unwrap_or_default();
        problems.within("tls", |problems| {
            for (key, reason) in tls::check_files(&tls) {
                problems.within(key, |problems| problems.error(reason, None));
            }
        });
        let options = ClientOptions {
            timeout: self.timeout,
            authentication: authentication?,
            headers,
            tls,
            budget: self
                .max_bytes_per_second
                .map(|rate| Arc::new(Budget::new(rate))),
            resolver,
        };
        let url = url?;
        if problems.error_count() > errors {
            return None;
        }
        let client = HttpClient::new(url, options);
        let refused =
            |error: PushError| problems.within("url", |it| it.error(error.to_string(), None));
        client.map_err(refused).ok()
    }

    /// The series that are sent.
    pub(crate) fn filter(&self, problems: &mut Problems) -> Filter {
        Filter::new(self.keep, self.drop, problems)
    }

    /// Warns where a password can be read on the network.
    pub(crate) fn exposed_credentials(&self) -> Option<Remark> {
        let url = BaseUrl::parse(self.url).ok()?;
        if !url.is_exposed() {
            return None;
        }
        let what = match (self.username, self.bearer_token_file) {
            (Some(_), _) => "user and password travel",
            (None, Some(_)) => "the token travels",
            (None, None) => return None,
        };
        let message = format!("{what} over plain http, where anybody on the way can read them");
        let hint = "use an https:// URL, or a proxy on the loopback address";
        let problem = Problem::error(message).at([Step::from("url")]);
        Some(Remark::new(problem.hint(hint.to_owned())))
    }

    fn read_url(&self, problems: &mut Problems) -> Option<BaseUrl> {
        if self.url.trim().is_empty() {
            return None; // The table's own check tells.
        }
        let refused = |error: PushError| {
            let (message, hint) = match error {
                PushError::Url { url, reason } => (
                    format!("{url:?} is not a URL to push to: {reason}"),
                    Some("it should look like `http://host:9091`".to_owned()),
                ),
                error => (error.to_string(), None),
            };
            problems.within("url", |problems| problems.error(message, hint));
        };
        BaseUrl::parse(self.url).map_err(refused).ok()
    }

    /// User and password come together, and can be sent (RFC 7617, section 2); a token comes alone.
    fn authentication(&self, problems: &mut Problems) -> Option<Authentication> {
        let errors = problems.error_count();
        let mut refuse = |key: &str, message: &str, hint: &str| {
            let hint = (!hint.is_empty()).then(|| hint.to_owned());
            problems.within(key, |problems| problems.error(message, hint));
        };
        let user = self.username;
        let password = self
            .password
            .filter(|password| !password.expose().is_empty());
        if password.is_some() && self.password_file.is_some() {
            refuse(
                "password_file",
                "password and password_file are both given",
                "remove one of them",
            );
        }
        if user.is_some_and(|user| user.contains(':')) {
            let message = "the user contains a colon, which basic authentication forbids";
            refuse("username", message, "");
        }
        let unsound = |text: Option<&str>| text.is_some_and(|it| it.chars().any(char::is_control));
        if unsound(user) {
            let message =
                "the user contains control characters, such as a newline, which cannot be sent";
            refuse("username", message, "");
        }
        if unsound(password.map(Secret::expose)) {
            let message =
                "the password contains control characters, such as a newline, which cannot be sent";
            refuse("password", message, "");
        }
        let has_password = password.is_some() || self.password_file.is_some();
        match (user, has_password) {
            (Some(_), false) => refuse(
                "username",
                "a user is given, but no password",
                "add a password, or remove the user",
            ),
            (None, true) => refuse(
                if password.is_some() {
                    "password"
                } else {
                    "password_file"
                },
                "a password is given, but no user",
                "add a user, or remove the password",
            ),
            _ => {}
        }
        if self.bearer_token_file.is_some() && (user.is_some() || has_password) {
            let message = "a token and a user with a password are both given";
            refuse("bearer_token_file", message, "remove one of them");
        }
        let mut from_file = |key: &str, file: &PathBuf| {
            let text = SecretText::read_file(file.clone());
            text.map_err(|reason| refuse(key, &reason, "")).ok()
        };
        let token = self
            .bearer_token_file
            .map(|file| from_file("bearer_token_file", file));
        let password = match (password, self.password_file) {
            (Some(password), _) => Some(SecretText::Given(password.clone())),
            (None, Some(file)) => from_file("password_file", file),
            (None, None) => None,
        };
        if problems.error_count() > errors {
            return None;
        }
        match (token.flatten(), user, password) {
            (Some(token), ..) => Some(Authentication::Bearer(token)),
            (None, Some(user), Some(password)) => Authentication::basic(user, password).ok(),
            _ => Some(Authentication::None),
        }
    }
}
