//! The client for the gateway's HTTP API.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::Method;
use pe_scrape::exposition::Block;
use pe_scrape::{FrameBuilder, LabelSet, MetricDescriptor, Secret, SecretText};

use super::GroupingKey;
use super::encoding::Encoded;
use crate::PushError;
use crate::http::{Authentication, BaseUrl, ClientOptions, HttpClient, Request};

pe_scrape::choices! {
    /// How bodies travel.
    pub enum Compression {
        /// With gzip, if they are larger than a packet. A gateway that takes none gets them as they are.
        #[default]
        Gzip = "gzip",
        /// As they are.
        None = "none",
    }
}

/// A Pushgateway. Connections are kept and used again; cloning is cheap and shares them.
///
/// Series travel as text, which servers that imitate a Pushgateway read too, and as protobuf where there are native
/// histograms. A request that fails on a connection that was kept is sent once more on a new one. Redirects are not followed.
/// A gateway may answer long after a request was given up, so what was sent and not answered may have been taken all the same.
///
/// Source: <https://github.com/prometheus/pushgateway#api>.
///
/// # Cancel safety
/// Dropping the future of a request closes its connection. The gateway may have taken the request, or not.
///
/// # Panics
/// Requests panic outside a tokio runtime with time and I/O enabled.
#[derive(Debug, Clone)]
pub struct Pushgateway {
    client: HttpClient,
    compression: Compression,
    /// Whether the gateway has refused a compressed body and taken the same one as it is.
    takes_no_gzip: Arc<AtomicBool>,
}

impl Pushgateway {
    /// The gateway at `url`, such as `http://host:9091` or `https://proxy/prefix`; without a port that of the scheme. Nothing
    /// is sent yet. For `https` the certificates that the system trusts are read.
    ///
    /// # Errors
    /// [`PushError::Url`] when that is not an `http` or (with the feature `tls`) `https` URL with a host, has credentials, a
    /// query or a fragment, or the system's certificates cannot be read.
    pub fn new(url: &str) -> Result<Self, PushError> {
        HttpClient::new(BaseUrl::parse(url)?, ClientOptions::default()).map(Self::from)
    }

    /// Sends user and password with every request, as HTTP basic authentication (RFC 7617, in UTF-8).
    ///
    /// # Errors
    /// [`PushError::Credentials`] when the user holds a colon, or either a control character (RFC 7617, section 2).
    pub fn basic_auth(mut self, user: &str, password: &str) -> Result<Self, PushError> {
        let password = SecretText::Given(Secret::new(password));
        self.client
            .authenticate(Authentication::basic(user, password)?);
        Ok(self)
    }

    /// How long one request may take, from connecting to the end of the answer. 10 seconds unless set.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.client.set_timeout(timeout);
        self
    }

    /// How bodies travel. Compressed unless set.
    #[must_use]
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// The base URL, without slashes at its end.
    #[must_use]
    pub fn url(&self) -> &str {
        self.client.url().as_str()
    }

    /// Pushes one value as a gauge without a HELP text, and keeps the other metrics of the job: what a script has to say
    /// when it is done.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), pe_push::PushError> {
    /// use pe_push::Pushgateway;
    ///
    /// Pushgateway::new("http://127.0.0.1:9091")?.push_value("backup", "backup_bytes", 1.5e9).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`PushError::EmptyJob`], [`PushError::Metric`] when `metric` is not the name of a metric, and those of
    /// [`post`](Self::post).
    pub async fn push_value(&self, job: &str, metric: &str, value: f64) -> Result<(), PushError> {
        let key = GroupingKey::new(job)?;
        let descriptor = MetricDescriptor::gauge(metric.to_owned(), "");
        let frame =
            FrameBuilder::new(&[descriptor]).map_err(|_| PushError::Metric(metric.to_owned()))?;
        let frame = frame.row(LabelSet::empty(), &[value]).build();
        self.post(&key, &[Block::new(&frame)]).await
    }

    /// Replaces all metrics of a push group (`PUT`).
    ///
    /// # Errors
    /// [`PushError`]; see [`PushError::is_retryable`].
    pub async fn put(&self, key: &GroupingKey, blocks: &[Block<'_>]) -> Result<(), PushError> {
        self.send(Method::PUT, key, blocks).await
    }

    /// Replaces those metrics of a push group that have the same name, and keeps the others (`POST`).
    ///
    /// # Errors
    /// [`PushError`]; see [`PushError::is_retryable`].
    pub async fn post(&self, key: &GroupingKey, blocks: &[Block<'_>]) -> Result<(), PushError> {
        self.send(Method::POST, key, blocks).await
    }

    /// Deletes a push group (`DELETE`). That there is none is a success.
    ///
    /// # Errors
    /// [`PushError`]; see [`PushError::is_retryable`].
    pub async fn delete(&self, key: &GroupingKey) -> Result<(), PushError> {
        self.delete_path(&key.path()).await
    }

    async fn send(
        &self,
        method: Method,
        key: &GroupingKey,
        blocks: &[Block<'_>],
    ) -> Result<(), PushError> {
        let compresses =
            self.compression == Compression::Gzip && !self.takes_no_gzip.load(Ordering::Relaxed);
        let encoded = encode(blocks, compresses);
        let request = Request::new(method, key.path());
        let packed = encoded.gzipped().filter(|_| compresses);
        let Some(packed) = packed else {
            return self.client.push(request.body(encoded.plain())).await;
        };
        match self.client.push(request.clone().body(packed)).await {
            Err(PushError::Rejected { status, .. }) if matches!(status.as_u16(), 400 | 415) => {}
            result => return result,
        }
        let result = self.client.push(request.body(encoded.plain())).await;
        // Where the content is at fault, this fails alike.
        if result.is_ok() {
            self.takes_no_gzip.store(true, Ordering::Relaxed);
        }
        result
    }

    /// Deletes the push group at a path.
    pub(super) async fn delete_path(&self, path: &str) -> Result<(), PushError> {
        self.client.push(Request::new(Method::DELETE, path)).await
    }

    /// Asks whether pushes would be taken: that the server is there, lets us in and knows how to delete a push group. The
    /// group that is deleted is nobody's. Where deletions are refused, its readiness decides.
    pub(super) async fn probe(&self) -> Result<(), PushError> {
        let number: u64 = rand::random();
        let nobodys = GroupingKey::new(format!("pingexporter_check_{number:016x}"))?;
        let refused = match self.delete(&nobodys).await {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        let is_of_method = match &refused {
            PushError::Unauthorized { status, .. } | PushError::NoSuchPath { status, .. } => {
                matches!(status.as_u16(), 403 | 405)
            }
            _ => false,
        };
        match is_of_method {
            true => self
                .client
                .push(Request::new(Method::GET, "/-/ready"))
                .await
                .map_err(|_| refused),
            false => Err(refused),
        }
    }
}

impl From<HttpClient> for Pushgateway {
    fn from(client: HttpClient) -> Self {
        Self {
            client,
            compression: Compression::default(),
            takes_no_gzip: Arc::default(),
        }
    }
}

/// Encodes a body. A large one takes its time, which the other tasks of the thread do not wait for where that can be.
fn encode(blocks: &[Block<'_>], is_compressed: bool) -> Encoded {
    let runtime = tokio::runtime::Handle::try_current().map(|handle| handle.runtime_flavor());
    match runtime {
        Ok(tokio::runtime::RuntimeFlavor::MultiThread) => {
            tokio::task::block_in_place(|| Encoded::new(blocks, is_compressed))
        }
        _ => Encoded::new(blocks, is_compressed),
    }
}
