//! The client: a thin driver over hyper.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, USER_AGENT};
use hyper::{Method, Request, Response, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use pe_scrape::exposition::{Block, Format, encode};

use crate::outcome::{WORDS, judge};
use crate::{GroupingKey, PushError};

/// A connection is not kept longer than this without use: many proxies drop idle ones after a minute.
const IDLE: Duration = Duration::from_secs(45);

#[cfg(feature = "tls")]
type Connector = hyper_rustls::HttpsConnector<HttpConnector>;
#[cfg(not(feature = "tls"))]
type Connector = HttpConnector;

/// A Pushgateway. Connections are kept and used again; cloning is cheap and shares them.
#[derive(Clone)]
pub struct Pushgateway {
    client: Client<Connector, Full<Bytes>>,
    url: String,
    authorization: Option<HeaderValue>,
    timeout: Duration,
}

impl Pushgateway {
    /// The gateway at `url`, such as `http://host:9091` or `https://proxy/prefix`.
    ///
    /// # Errors
    /// [`PushError::Url`] when that is not an `http` or (with the feature `tls`) `https` URL with a host.
    pub fn new(url: &str) -> Result<Self, PushError> {
        let url = url.trim_end_matches('/');
        check_url(url)?;
        Ok(Self {
            client: Client::builder(TokioExecutor::new())
                .pool_idle_timeout(IDLE)
                .pool_timer(TokioTimer::new())
                .build(connector(url)?),
            url: url.to_owned(),
            authorization: None,
            timeout: Duration::from_secs(10),
        })
    }

    /// Sends user and password with every request (RFC 7617).
    ///
    /// # Errors
    /// [`PushError::Credentials`] when they hold characters that cannot be sent.
    pub fn basic_auth(mut self, user: &str, password: &str) -> Result<Self, PushError> {
        let plain = |text: &str| text.chars().all(|c| !c.is_control());
        if user.contains(':') || !plain(user) || !plain(password) {
            return Err(PushError::Credentials);
        }
        let value = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
        let mut value = HeaderValue::try_from(value).map_err(|_| PushError::Credentials)?;
        value.set_sensitive(true);
        self.authorization = Some(value);
        Ok(self)
    }

    /// How long one request may take, from connecting to the end of the answer. 10 seconds unless set.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The base URL.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Replaces all metrics of a group.
    ///
    /// # Errors
    /// [`PushError`]; see [`PushError::is_retryable`].
    pub async fn put(&self, key: &GroupingKey, blocks: &[Block<'_>]) -> Result<(), PushError> {
        let (body, format) = body(blocks);
        self.send(Method::PUT, key, Some((body, format))).await
    }

    /// Replaces those metrics of a group that have the same name, and keeps the others.
    ///
    /// # Errors
    /// [`PushError`]; see [`PushError::is_retryable`].
    pub async fn post(&self, key: &GroupingKey, blocks: &[Block<'_>]) -> Result<(), PushError> {
        let (body, format) = body(blocks);
        self.send(Method::POST, key, Some((body, format))).await
    }

    /// Deletes a group. That there is none is a success.
    ///
    /// # Errors
    /// [`PushError`]; see [`PushError::is_retryable`].
    pub async fn delete(&self, key: &GroupingKey) -> Result<(), PushError> {
        self.send(Method::DELETE, key, None).await
    }

    async fn send(
        &self,
        method: Method,
        key: &GroupingKey,
        body: Option<(Bytes, Format)>,
    ) -> Result<(), PushError> {
        let path = key.path();
        let uri = Uri::try_from(format!("{}{path}", self.url)).map_err(|error| PushError::Url {
            url: self.url.clone(),
            reason: error.to_string(),
        })?;
        let mut request = Request::new(Full::default());
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        let headers = request.headers_mut();
        headers.insert(
            USER_AGENT,
            HeaderValue::from_static(concat!("PingExporter/", env!("CARGO_PKG_VERSION"))),
        );
        if let Some(authorization) = &self.authorization {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        if let Some((body, format)) = body {
            headers.insert(
                CONTENT_TYPE,
                HeaderValue::from_static(format.content_type()),
            );
            *request.body_mut() = Full::new(body);
        }
        let exchange = async {
            match self.exchange(request.clone(), &path).await {
                // A kept connection that the gateway has closed meanwhile shows only when it is used again. All
                // requests are idempotent, so one more try does no harm.
                Err(PushError::Transport { .. }) => self.exchange(request, &path).await,
                result => result,
            }
        };
        match tokio::time::timeout(self.timeout, exchange).await {
            Ok(result) => result,
            Err(_) => Err(PushError::Timeout {
                url: self.url.clone(),
                after: self.timeout,
            }),
        }
    }

    async fn exchange(&self, request: Request<Full<Bytes>>, path: &str) -> Result<(), PushError> {
        let response = self.client.request(request).await.map_err(|error| {
            let (url, connect) = (self.url.clone(), error.is_connect());
            let source = causes(&error).into();
            if connect {
                PushError::Connect { url, source }
            } else {
                PushError::Transport { url, source }
            }
        })?;
        let status = response.status();
        let words = if status.is_success() {
            Vec::new()
        } else {
            first_words(response).await
        };
        judge(&self.url, path, status, &words)
    }
}

impl fmt::Debug for Pushgateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pushgateway")
            .field("url", &self.url)
            .field("authenticates", &self.authorization.is_some())
            .field("timeout", &self.timeout)
            .finish()
    }
}

/// The beginning of a body, however long it is.
async fn first_words(response: Response<Incoming>) -> Vec<u8> {
    let mut body = Limited::new(response.into_body(), 64 * WORDS);
    let mut words = Vec::new();
    while words.len() < WORDS
        && let Some(Ok(frame)) = body.frame().await
    {
        words.extend_from_slice(frame.data_ref().map(AsRef::as_ref).unwrap_or_default());
    }
    words
}

/// Text is what every gateway and every look-alike reads; native histograms exist only in protobuf.
fn body(blocks: &[Block<'_>]) -> (Bytes, Format) {
    let native = blocks.iter().any(Block::has_native_histograms);
    let format = if native {
        Format::Protobuf
    } else {
        Format::Text
    };
    (encode(blocks, format).into(), format)
}

/// An error and its causes: hyper's own text alone says little more than "client error".
fn causes(error: &(dyn Error + 'static)) -> String {
    let mut causes: Vec<String> = Vec::new();
    let mut next = error.source();
    while let Some(error) = next {
        let text = error.to_string();
        if causes.last().is_none_or(|last| !last.contains(&text)) {
            causes.push(text);
        }
        next = error.source();
    }
    if causes.is_empty() {
        error.to_string()
    } else {
        causes.join(": ")
    }
}

fn check_url(url: &str) -> Result<(), PushError> {
    // Credentials in a URL would end up in logs; they are configured apart.
    let shown = url.rsplit_once('@').map_or(url, |(_, host)| host);
    let bad = |reason: &str| PushError::Url {
        url: shown.to_owned(),
        reason: reason.to_owned(),
    };
    let uri = Uri::try_from(url).map_err(|error| bad(&error.to_string()))?;
    match uri.scheme_str() {
        Some("http") => {}
        Some("https") if cfg!(feature = "tls") => {}
        Some("https") => return Err(bad("https needs the feature \"tls\"")),
        _ => return Err(bad("it must start with http:// or https://")),
    }
    let authority = uri.authority().ok_or_else(|| bad("it has no host"))?;
    if authority.host().is_empty() {
        return Err(bad("it has no host"));
    }
    if authority.as_str().contains('@') {
        return Err(bad("give user and password apart from the URL"));
    }
    if uri.query().is_some() {
        return Err(bad("it must not have a query"));
    }
    Ok(())
}

fn http_connector() -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector.set_keepalive(Some(IDLE));
    connector.enforce_http(false);
    connector
}

/// Certificates are those that the system trusts; `SSL_CERT_FILE` names others (see the crate `rustls-native-certs`).
#[cfg(feature = "tls")]
fn connector(url: &str) -> Result<Connector, PushError> {
    use rustls::{ClientConfig, RootCertStore};
    let bad = |reason: String| PushError::Url {
        url: url.to_owned(),
        reason,
    };
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let builder = hyper_rustls::HttpsConnectorBuilder::new();
    let builder = if url.starts_with("https:") {
        builder
            .with_provider_and_native_roots(provider)
            .map_err(|error| bad(format!("the system's certificates cannot be read: {error}")))?
    } else {
        // A machine without certificates can still push in the clear.
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| bad(error.to_string()))?;
        let config = config.with_root_certificates(RootCertStore::empty());
        builder.with_tls_config(config.with_no_client_auth())
    };
    Ok(builder
        .https_or_http()
        .enable_http1()
        .wrap_connector(http_connector()))
}

#[cfg(not(feature = "tls"))]
fn connector(_url: &str) -> Result<Connector, PushError> {
    Ok(http_connector())
}
