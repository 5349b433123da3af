//! The receiver, as the sender talks to it.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use hyper::Method;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};

use super::verdict::Verdict;
use super::wire::Protocol;
use crate::http::{Answer, Body, HttpClient, Request, retry_after};
use crate::{PushError, ResultKind};

const VERSION: HeaderName = HeaderName::from_static("x-prometheus-remote-write-version");

/// The receiver at a URL.
#[derive(Debug)]
pub(super) struct Peer {
    client: HttpClient,
}

/// What the receiver answered.
#[derive(Debug)]
pub(super) struct Reply {
    answer: Answer,
    error: Option<PushError>,
}

impl Peer {
    pub(super) fn new(client: HttpClient) -> Self {
        Self { client }
    }

    pub(super) fn url(&self) -> &str {
        self.client.url().as_str()
    }

    /// Sends a request and takes its answer, whatever it is.
    ///
    /// # Cancel safety
    /// The receiver may have taken it.
    pub(super) async fn post(&self, protocol: Protocol, body: Bytes) -> Result<Reply, PushError> {
        let mut body = Body::new(body, protocol.content_type());
        body.content_encoding = Some("snappy");
        let mut request = Request::new(Method::POST, "").body(body);
        let version = HeaderValue::from_static(protocol.version());
        request.headers.insert(VERSION, version);
        let answer = self.client.send(request).await?;
        let error = self.client.judge(&answer, "").err();
        Ok(Reply { answer, error })
    }
}

impl Reply {
    pub(super) fn verdict(&self, protocol: Protocol) -> Verdict {
        let headers = &self.answer.headers;
        let asked: Option<Duration> = retry_after(headers, SystemTime::now());
        Verdict::of(protocol, self.answer.status, headers, asked)
    }

    pub(super) fn headers(&self) -> &HeaderMap {
        &self.answer.headers
    }

    pub(super) fn status(&self) -> u16 {
        self.answer.status.as_u16()
    }

    /// How it is counted.
    pub(super) fn kind(&self) -> ResultKind {
        let error = self.error.as_ref();
        error.map_or(ResultKind::Success, PushError::kind)
    }

    /// What the receiver says against the request.
    pub(super) fn words(&self) -> String {
        self.answer.words()
    }

    /// The answer as an error; `None` for one that is no error by itself.
    pub(super) fn into_error(self) -> Option<PushError> {
        self.error
    }
}
