//! The HTTP client of all sinks: a driver over hyper.
//!
//! A request ends within the client's timeout, whatever the peer does, and reads a bounded part of an answer. Time that it
//! waits for the [`Budget`] does not count. Every request must be idempotent, since one that fails on a kept connection is
//! sent once more. Redirects are told, never followed.
//!
//! [`HttpClient::send`] gives any answer; [`HttpClient::push`] also judges it. `dial` finds a way to the peer through several
//! addresses, `proxy` says which one to go through, `tls` whom to trust, `secret` what to send. Which URLs and answers mean
//! what is decided in `url` and `answer`.

mod answer;
mod body;
mod budget;
mod connector;
mod dial;
mod proxy;
mod secret;
mod settings;
mod tls;
mod url;

use std::error::Error;
use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::header::{
    AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, PROXY_AUTHORIZATION,
    USER_AGENT,
};
use hyper::{Method, Response};
use hyper_util::client::legacy::{self, Client};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use pe_scrape::resolve::{Resolve, SystemResolver};
use tokio::time::{Instant, sleep, sleep_until};

pub(crate) use self::answer::Answer;
use self::answer::WORDS;
#[cfg(feature = "remote-write")]
pub(crate) use self::answer::retry_after;
use self::body::Outgoing;
pub(crate) use self::body::{Body, Content};
pub(crate) use self::budget::Budget;
use self::connector::{Connector, IDLE};
use self::proxy::Proxy;
pub(crate) use self::secret::Authentication;
pub(crate) use self::settings::{CommonSettings, sink_settings};
pub use self::settings::{Headers, TlsSettings};
use self::tls::Tls;
pub(crate) use self::url::BaseUrl;
use crate::PushError;

/// How long a request may take unless something else is said.
pub(crate) const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// Most bytes of an answer that are read, in frames of whatever size the peer chooses.
const MAX_ANSWER: usize = 64 * WORDS;

/// A client for one server. Connections are kept and used again; cloning is cheap and shares them.
#[derive(Clone)]
pub(crate) struct HttpClient {
    client: Client<Connector, Outgoing>,
    url: BaseUrl,
    options: Arc<ClientOptions>,
    /// Where requests go through instead of straight to the server.
    proxy: Option<Arc<Proxy>>,
}

/// How a client connects, and what every request carries.
#[derive(Clone)]
pub(crate) struct ClientOptions {
    /// How long a request may take, from connecting to the end of the answer.
    pub(crate) timeout: Duration,
    pub(crate) authentication: Authentication,
    /// Headers of every request.
    pub(crate) headers: HeaderMap,
    pub(crate) tls: TlsSettings,
    /// Bytes of requests a second.
    pub(crate) budget: Option<Arc<Budget>>,
    pub(crate) resolver: Arc<dyn Resolve>,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            timeout: DEFAULT_TIMEOUT,
            authentication: Authentication::None,
            headers: HeaderMap::new(),
            tls: TlsSettings::default(),
            budget: None,
            resolver: Arc::new(SystemResolver),
        }
    }
}

/// A request to a path below the client's base URL.
#[derive(Clone)]
pub(crate) struct Request {
    pub(crate) method: Method,
    /// Starts with a slash, or is empty for the base URL itself.
    pub(crate) path: String,
    /// Beside those that the client adds by itself.
    pub(crate) headers: HeaderMap,
    pub(crate) body: Option<Body>,
}

impl Request {
    /// A request without headers of its own and without a body.
    pub(crate) fn new(method: Method, path: impl Into<String>) -> Self {
        Self {
            method,
            path: path.into(),
            headers: HeaderMap::new(),
            body: None,
        }
    }

    /// The request with a body.
    pub(crate) fn body(mut self, body: Body) -> Self {
        self.body = Some(body);
        self
    }
}

impl HttpClient {
    /// A client for `url`. Nothing is sent yet; certificates and keys are read.
    pub(crate) fn new(url: BaseUrl, options: ClientOptions) -> Result<Self, PushError> {
        let proxy = Proxy::from_environment(&url)?.map(Arc::new);
        let needs_tls = url.is_tls() || proxy.as_ref().is_some_and(|proxy| proxy.is_tls());
        let tls = match needs_tls {
            true => Some(Arc::new(Tls::new(&url, options.tls.clone())?)),
            false => None,
        };
        let connector = Connector::new(tls, proxy.clone(), options.resolver.clone());
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE)
            .pool_timer(TokioTimer::new())
            .build(connector);
        Ok(Self {
            client,
            url,
            options: Arc::new(options),
            proxy,
        })
    }

    /// Authenticates every request from now on.
    pub(crate) fn authenticate(&mut self, authentication: Authentication) {
        Arc::make_mut(&mut self.options).authentication = authentication;
    }

    pub(crate) fn set_timeout(&mut self, timeout: Duration) {
        Arc::make_mut(&mut self.options).timeout = timeout;
    }

    pub(crate) fn url(&self) -> &BaseUrl {
        &self.url
    }

    /// Sends a request and takes its answer, whatever the status.
    ///
    /// # Errors
    /// Without an answer in time.
    ///
    /// # Cancel safety
    /// A dropped future closes the connection; the server may have taken the request.
    pub(crate) async fn send(&self, request: Request) -> Result<Answer, PushError> {
        let started = Instant::now();
        let paused = body::Paused::default();
        let mut exchange = pin!(async {
            match self.exchange(&request, &paused).await {
                // A kept connection that the server has closed meanwhile shows only when it is used again.
                Err(PushError::Transport { .. }) => self.exchange(&request, &paused).await,
                result => result,
            }
        });
        loop {
            let deadline = started + self.options.timeout + paused.total();
            let mut late = pin!(sleep_until(deadline));
            let ended = poll_fn(|context| match exchange.as_mut().poll(context) {
                Poll::Ready(result) => Poll::Ready(Some(result)),
                Poll::Pending => late.as_mut().poll(context).map(|()| None),
            });
            match ended.await {
                Some(result) => return result,
                None if started + self.options.timeout + paused.total() > deadline => {}
                None => {
                    return Err(PushError::Timeout {
                        url: self.url.as_str().to_owned(),
                        after: self.options.timeout,
                    });
                }
            }
        }
    }

    /// Sends a request; an answer that is no success is an error.
    ///
    /// # Errors
    /// As [`send`](Self::send), and [`Answer::judge`].
    ///
    /// # Cancel safety
    /// As [`send`](Self::send).
    pub(crate) async fn push(&self, request: Request) -> Result<(), PushError> {
        let path = request.path.clone();
        self.judge(&self.send(request).await?, &path)
    }

    /// What an answer to a request for `path` means, as [`Answer::judge`] has it.
    pub(crate) fn judge(&self, answer: &Answer, path: &str) -> Result<(), PushError> {
        let advice = self.options.authentication.advice();
        answer.judge(self.url.as_str(), path, advice)
    }

    async fn exchange(
        &self,
        request: &Request,
        paused: &body::Paused,
    ) -> Result<Answer, PushError> {
        let request = self.outgoing(request, paused).await?;
        if let Some(budget) = &self.options.budget {
            let pause = budget.take(Instant::now().into_std(), head_bytes(&request));
            paused.add(pause);
            sleep(pause).await;
        }
        let response = self.client.request(request).await.map_err(|error| {
            let (url, connect) = (self.url.as_str().to_owned(), error.is_connect());
            let source = Cause(error).into();
            if connect {
                PushError::Connect { url, source }
            } else {
                PushError::Transport { url, source }
            }
        })?;
        let (status, headers) = (response.status(), response.headers().clone());
        let words = if status.is_success() {
            drain(response).await;
            Vec::new()
        } else {
            first_words(response).await
        };
        Ok(Answer {
            status,
            headers,
            words,
        })
    }

    async fn outgoing(
        &self,
        request: &Request,
        paused: &body::Paused,
    ) -> Result<hyper::Request<Outgoing>, PushError> {
        let body = request.body.as_ref();
        let content = body.map(|body| &body.content);
        let budget = self.options.budget.clone();
        let mut out = hyper::Request::new(Outgoing::new(content, budget, paused.clone()));
        *out.method_mut() = request.method.clone();
        *out.uri_mut() = self.url.join(&request.path)?;
        let headers = out.headers_mut();
        headers.extend(self.options.headers.clone());
        headers.extend(request.headers.clone());
        if !headers.contains_key(USER_AGENT) {
            let agent = concat!("PingExporter/", env!("CARGO_PKG_VERSION"));
            headers.insert(USER_AGENT, HeaderValue::from_static(agent));
        }
        if let Some(authorization) = self.options.authentication.header().await? {
            headers.insert(AUTHORIZATION, authorization);
        }
        if !self.url.is_tls()
            && let Some(authorization) = self.proxy.as_ref().and_then(|it| it.authorization())
        {
            headers.insert(PROXY_AUTHORIZATION, authorization.clone());
        }
        if let Some(body) = body {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(body.content_type));
            if let Some(encoding) = body.content_encoding {
                headers.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding));
            }
        }
        Ok(out)
    }
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClient")
            .field("url", &self.url.as_str())
            .field("authenticates", &self.options.authentication.is_some())
            .field("timeout", &self.options.timeout)
            .finish_non_exhaustive()
    }
}

/// About the bytes of a request before its body, with the headers that hyper adds.
fn head_bytes(request: &hyper::Request<Outgoing>) -> usize {
    const LINES: usize = "POST  HTTP/1.1\r\nhost: \r\ncontent-length: 12345\r\n\r\n".len();
    let uri = request.uri();
    let target = uri.path_and_query().map_or(0, |it| it.as_str().len());
    let host = uri.authority().map_or(0, |it| it.as_str().len());
    let headers = request.headers().iter();
    let headers: usize = headers
        .map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len())
        .sum();
    LINES + target + host + headers
}

/// Reads a short body to its end, so that the connection can be used again.
async fn drain(response: Response<Incoming>) {
    let mut body = Limited::new(response.into_body(), MAX_ANSWER);
    while let Some(Ok(_)) = body.frame().await {}
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

impl Cause {
    /// Whether the server speaks something that is not HTTP: another protocol, or TLS.
    fn is_no_http(&self) -> bool {
        let cause = self.0.source().and_then(|it| it.downcast_ref());
        cause.is_some_and(|it: &hyper::Error| it.is_parse())
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.source() {
            Some(cause) if self.is_no_http() => write!(
                f,
                "what it answers is not HTTP ({cause}): check the port, and whether the URL begins with https://"
            ),
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// A client of a server that reads one request, gives `answer` and returns what it read.
    async fn client_of(
        answer: &'static [u8],
        budget: Option<f64>,
    ) -> (HttpClient, tokio::task::JoinHandle<Vec<u8>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut read = Vec::new();
            while !read.ends_with(b"\r\n\r\n") {
                read.push(stream.read_u8().await.unwrap());
            }
            stream.write_all(answer).await.unwrap();
            read
        });
        let options = ClientOptions {
            budget: budget.map(|rate| Arc::new(Budget::new(rate))),
            ..ClientOptions::default()
        };
        let url = BaseUrl::parse(&format!("http://{address}")).unwrap();
        (HttpClient::new(url, options).unwrap(), server)
    }

    #[tokio::test]
    async fn heads_of_requests_count_for_the_budget() {
        let rate = 1000.0;
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        let (client, server) = client_of(answer, Some(rate)).await;
        let mut request = Request::new(Method::POST, "/metrics/job/a");
        request
            .headers
            .insert("x-long", HeaderValue::from_str(&"l".repeat(1000)).unwrap());
        let paused = body::Paused::default();
        client.exchange(&request, &paused).await.unwrap();
        let head = server.await.unwrap().len() as f64;
        // The bytes of one second leave at once.
        let counted = rate + paused.total().as_secs_f64() * rate;
        assert!((counted - head).abs() < 30.0, "{counted} of {head} bytes");
    }

    #[tokio::test]
    async fn a_server_of_another_protocol_is_told_as_such() {
        // The alert with which a server of TLS ends what is none.
        let alert = b"\x15\x03\x01\x00\x02\x02\x46";
        for answer in [&alert[..], b"220 mail.example ESMTP ready and waiting\r\n"] {
            let (client, server) = client_of(answer, None).await;
            let request = Request::new(Method::PUT, "/metrics/job/a");
            let paused = body::Paused::default();
            let error = client.exchange(&request, &paused).await.unwrap_err();
            let told = format!("{error:?}");
            assert!(told.contains("is not HTTP"), "{told}");
            server.await.unwrap();
        }
    }
}
