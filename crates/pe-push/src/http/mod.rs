//! The HTTP client of all sinks: a thin driver over hyper.
//!
//! A request ends within the client's timeout, whatever the peer does, and reads a bounded part of an answer. Every request
//! must be idempotent, since one that fails on a kept connection is sent once more. Which URLs and statuses mean what is
//! decided in `url` and `response`.

mod connector;
mod response;
mod url;

use std::error::Error;
use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, USER_AGENT};
use hyper::{Method, Request, Response};
use hyper_util::client::legacy::{self, Client};
use hyper_util::rt::{TokioExecutor, TokioTimer};

use self::connector::{Connector, IDLE, connector};
use self::response::{WORDS, judge};
pub(crate) use self::url::BaseUrl;
use crate::PushError;

/// How long a request may take unless something else is said.
pub(crate) const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// Most bytes of an answer that are read, in frames of whatever size the peer chooses.
const MAX_ANSWER: usize = 64 * WORDS;

/// A client for one server. Connections are kept and used again; cloning is cheap and shares them.
#[derive(Clone)]
pub(crate) struct HttpClient {
    client: Client<Connector, Full<Bytes>>,
    url: BaseUrl,
    authorization: Option<HeaderValue>,
    timeout: Duration,
}

/// What a request carries.
pub(crate) struct Body {
    pub(crate) content: Bytes,
    pub(crate) content_type: &'static str,
}

impl HttpClient {
    pub(crate) fn new(url: BaseUrl) -> Result<Self, PushError> {
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE)
            .pool_timer(TokioTimer::new())
            .build(connector(&url)?);
        Ok(Self {
            client,
            url,
            authorization: None,
            timeout: DEFAULT_TIMEOUT,
        })
    }

    /// Authenticates as RFC 7617 says.
    pub(crate) fn basic_auth(&mut self, user: &str, password: &str) -> Result<(), PushError> {
        let plain = |text: &str| text.chars().all(|c| !c.is_control());
        if user.contains(':') || !plain(user) || !plain(password) {
            return Err(PushError::Credentials);
        }
        let value = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
        let mut value = HeaderValue::try_from(value).map_err(|_| PushError::Credentials)?;
        value.set_sensitive(true);
        self.authorization = Some(value);
        Ok(())
    }

    pub(crate) fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout;
    }

    pub(crate) fn url(&self) -> &BaseUrl {
        &self.url
    }

    /// Sends a request to a path below the base URL, and waits for the answer.
    ///
    /// A dropped future closes the connection; the server may have taken the request.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<Body>,
    ) -> Result<(), PushError> {
        let request = self.request(method, path, body)?;
        let exchange = async {
            match self.exchange(request.clone(), path).await {
                // A kept connection that the server has closed meanwhile shows only when it is used again.
                Err(PushError::Transport { .. }) => self.exchange(request, path).await,
                result => result,
            }
        };
        match tokio::time::timeout(self.timeout, exchange).await {
            Ok(result) => result,
            Err(_) => Err(PushError::Timeout {
                url: self.url.as_str().to_owned(),
                after: self.timeout,
            }),
        }
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<Body>,
    ) -> Result<Request<Full<Bytes>>, PushError> {
        let mut request = Request::new(Full::default());
        *request.method_mut() = method;
        *request.uri_mut() = self.url.join(path)?;
        let headers = request.headers_mut();
        let agent = concat!("PingExporter/", env!("CARGO_PKG_VERSION"));
        headers.insert(USER_AGENT, HeaderValue::from_static(agent));
        if let Some(authorization) = &self.authorization {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        if let Some(body) = body {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(body.content_type));
            *request.body_mut() = Full::new(body.content);
        }
        Ok(request)
    }

    async fn exchange(&self, request: Request<Full<Bytes>>, path: &str) -> Result<(), PushError> {
        let response = self.client.request(request).await.map_err(|error| {
            let (url, connect) = (self.url.as_str().to_owned(), error.is_connect());
            let source = Cause(error).into();
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
        judge(self.url.as_str(), path, status, &words)
    }
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClient")
            .field("url", &self.url.as_str())
            .field("authenticates", &self.authorization.is_some())
            .field("timeout", &self.timeout)
            .finish()
    }
}

/// The beginning of a body, however long it is.
async fn first_words(response: Response<Incoming>) -> Vec<u8> {
    let mut body = Limited::new(response.into_body(), MAX_ANSWER);
    let mut words = Vec::new();
    while words.len() < WORDS
        && let Some(Ok(frame)) = body.frame().await
    {
        words.extend_from_slice(frame.data_ref().map(AsRef::as_ref).unwrap_or_default());
    }
    words
}

/// A client's error without its outermost level, which says "client error" and little more.
#[derive(Debug)]
struct Cause(legacy::Error);

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.source() {
            Some(cause) => fmt::Display::fmt(cause, f),
            None => fmt::Display::fmt(&self.0, f),
        }
    }
}

impl Error for Cause {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()?.source()
    }
}
