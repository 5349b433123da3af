//! What can go wrong with a push, in the gateway's own words where it has some.

use std::error::Error;
use std::time::Duration;

use hyper::StatusCode;
use thiserror::Error;

use crate::ResultKind;

/// Why something was not pushed. Messages never hold a user's password.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PushError {
    /// The gateway's URL cannot be used.
    #[error(
        "{url:?} is not the URL of a Pushgateway: {reason}; it should look like http://host:9091"
    )]
    Url {
        /// The URL as given, without credentials.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The gateway accepts no empty job.
    #[error("a group needs a job: the job of a grouping key must not be empty")]
    EmptyJob,
    /// A label that a grouping key cannot hold.
    #[error(
        "the grouping key cannot hold the label {0:?}: it is not a label name, or is there already"
    )]
    Label(String),
    /// User or password hold characters that HTTP basic authentication cannot carry.
    #[error("the user name must not hold a colon, nor user or password a control character")]
    Credentials,
    /// No connection: refused, no route, unknown host, TLS.
    #[error(
        "cannot connect to {url}: {source}; is the Pushgateway running, and is the address right?"
    )]
    Connect {
        /// The gateway.
        url: String,
        /// What the system said, from the outermost cause to the innermost.
        source: Box<dyn Error + Send + Sync>,
    },
    /// Connected, but the exchange broke off.
    #[error("the exchange with {url} broke off: {source}")]
    Transport {
        /// The gateway.
        url: String,
        /// What happened.
        source: Box<dyn Error + Send + Sync>,
    },
    /// No whole answer in time.
    #[error("{url} did not answer within {after:?}")]
    Timeout {
        /// The gateway.
        url: String,
        /// How long was waited.
        after: Duration,
    },
    /// 401 or 403.
    #[error(
        "{url} refuses user or password ({status}): check username_pushgateway and pass_pushgateway"
    )]
    Unauthorized {
        /// The gateway.
        url: String,
        /// 401 or 403.
        status: StatusCode,
    },
    /// 400 or another answer that says the request is at fault. Pushing the same again is no use.
    #[error("{url} refuses the metrics of {key} ({status}): {words}")]
    Rejected {
        /// The gateway.
        url: String,
        /// The group's path.
        key: String,
        /// The status.
        status: StatusCode,
        /// What the gateway said, cut after some hundred characters.
        words: String,
    },
    /// 5xx, 408 or 429: the gateway is in trouble.
    #[error("{url} failed ({status}): {words}")]
    Gateway {
        /// The gateway.
        url: String,
        /// The status.
        status: StatusCode,
        /// What the gateway said, cut after some hundred characters.
        words: String,
    },
}

impl PushError {
    /// Whether the same push may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::Connect { .. }
                | Self::Transport { .. }
                | Self::Timeout { .. }
                | Self::Gateway { .. }
                | Self::Unauthorized { .. }
        )
    }

    /// Whether the gateway as a whole is out of reach, so that other pushes would fail alike.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        matches!(
            self,
            Self::Connect { .. }
                | Self::Transport { .. }
                | Self::Timeout { .. }
                | Self::Unauthorized { .. }
        )
    }

    /// The class of the failure, as it is counted.
    #[must_use]
    pub fn kind(&self) -> ResultKind {
        match self {
            Self::Connect { .. } | Self::Transport { .. } | Self::Url { .. } => {
                ResultKind::Unreachable
            }
            Self::Timeout { .. } => ResultKind::Timeout,
            Self::Unauthorized { .. } | Self::Credentials => ResultKind::Unauthorized,
            Self::Rejected { .. } | Self::EmptyJob | Self::Label(_) => ResultKind::Rejected,
            Self::Gateway { .. } => ResultKind::GatewayError,
        }
    }
}
