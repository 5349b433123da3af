//! Why something was not pushed, in the gateway's own words where it has some.
//!
//! A message tells its own level; what lies behind it comes through `source()`, and `Debug` shows both.

use std::error::Error;
use std::time::Duration;

use hyper::StatusCode;
use thiserror::Error;

use crate::ResultKind;

/// Why something was not pushed. Messages never hold a password.
///
/// `Display` tells no causes; `Debug`, which a `main` that returns a `Result` prints, does.
#[derive(Error)]
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
    #[error("a push group needs a job: the job of a grouping key must not be empty")]
    EmptyJob,
    /// A label that a grouping key cannot hold.
    #[error(
        "the grouping key cannot hold the label {0:?}: it is not a label name, or is there already"
    )]
    Label(String),
    /// A metric of that name cannot be pushed.
    #[error(
        "{0:?} is not the name of a metric: use letters, digits, '_' and ':', with no digit at the start"
    )]
    Metric(String),
    /// User or password hold characters that HTTP basic authentication cannot carry.
    #[error("the user must not hold a colon, nor user or password a control character")]
    Credentials,
    /// Certificates or keys cannot be read, or are of no use.
    #[error("no secure connection to {url} can be made: {reason}")]
    Certificates {
        /// The server.
        url: String,
        /// What is wrong, with the file's name.
        reason: String,
    },
    /// The proxy that the environment names cannot be used.
    #[error(
        "{variable} names {value:?}, which is no proxy to go through: {reason}; it should look like http://host:3128"
    )]
    Proxy {
        /// The variable.
        variable: &'static str,
        /// Its value without credentials.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No connection: refused, no route, unknown host, TLS.
    #[error("cannot connect to {url} (check the address, and that the server runs there)")]
    Connect {
        /// The gateway.
        url: String,
        /// What the system said.
        source: Box<dyn Error + Send + Sync>,
    },
    /// Connected, but the exchange broke off.
    #[error("the exchange with {url} broke off")]
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
    #[error("{url} refuses access ({status}): {advice}")]
    Unauthorized {
        /// The gateway.
        url: String,
        /// 401 or 403.
        status: StatusCode,
        /// What to check.
        advice: &'static str,
    },
    /// 3xx. Redirects are not followed.
    #[error("{url} redirects elsewhere ({status}){}", redirect(location, instead))]
    Redirected {
        /// The gateway.
        url: String,
        /// The status.
        status: StatusCode,
        /// Where it leads; empty where the answer does not say.
        location: String,
        /// The base URL that it leads to; empty where that cannot be told.
        instead: String,
    },
    /// 404 or 405: nothing that takes pushes is there.
    #[error(
        "{url} takes no pushes{} ({status}): {words}; check that the URL, with its path, is the one to push to",
        below(" at ", path)
    )]
    NoSuchPath {
        /// The gateway.
        url: String,
        /// The path below it, which may be empty.
        path: String,
        /// 404 or 405.
        status: StatusCode,
        /// What the server said.
        words: String,
    },
    /// 413: the body is too large for the server, or for a proxy before it.
    #[error(
        "{url} refuses the body{} as too large ({status}): let the server, or the proxy before it, take larger ones (nginx: client_max_body_size), or send less at a time",
        below(" for ", path)
    )]
    TooLarge {
        /// The gateway.
        url: String,
        /// The path below it, which may be empty.
        path: String,
        /// 413.
        status: StatusCode,
    },
    /// 400 or another answer that says the request is at fault. Pushing the same again is no use.
    #[error("{url} refuses the metrics{} ({status}): {words}", below(" of ", key))]
    Rejected {
        /// The gateway.
        url: String,
        /// The push group's path; empty where there are no push groups.
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
        /// How long it asks to be left alone.
        retry_after: Option<Duration>,
    },
}

/// The path with a word before it, where there is one.
fn below(word: &str, path: &str) -> String {
    match path {
        "" => String::new(),
        path => format!("{word}{path}"),
    }
}

fn redirect(location: &str, instead: &str) -> String {
    let right = "redirects are not followed: give the URL that it should go to, without a redirect";
    match (location, instead) {
        ("", _) => format!(" without saying where; {right}"),
        (location, "") => format!(", to {location}; {right}"),
        (location, instead) => format!(
            ", to {location}; redirects are not followed: if that is the right place, give the URL {instead}"
        ),
    }
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
                | Self::Unauthorized { .. }
                | Self::Gateway { .. }
        )
    }

    /// Whether there was no connection to the host at all, so that other pushes would fail alike.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Connect { .. } | Self::Timeout { .. })
    }

    /// How long the server asks to be left alone (`Retry-After`), at most an hour.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Gateway { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// The class of the failure, as it is counted.
    #[must_use]
    pub fn kind(&self) -> ResultKind {
        match self {
            Self::Connect { .. }
            | Self::Transport { .. }
            | Self::Url { .. }
            | Self::Certificates { .. }
            | Self::Proxy { .. } => ResultKind::Unreachable,
            Self::Timeout { .. } => ResultKind::Timeout,
            Self::Unauthorized { .. } | Self::Credentials => ResultKind::Unauthorized,
            Self::Rejected { .. }
            | Self::Redirected { .. }
            | Self::NoSuchPath { .. }
            | Self::TooLarge { .. }
            | Self::EmptyJob
            | Self::Label(_)
            | Self::Metric(_) => ResultKind::Rejected,
            Self::Gateway { .. } => ResultKind::GatewayError,
        }
    }
}

pe_scrape::debug_with_causes!(PushError);

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn a_message_has_one_level_and_debug_has_all() {
        let error = PushError::Transport {
            url: "http://127.0.0.1:9091".to_owned(),
            source: io::Error::other("reset by peer").into(),
        };
        let message = "the exchange with http://127.0.0.1:9091 broke off";
        assert_eq!(error.to_string(), message);
        assert_eq!(format!("{error:?}"), format!("{message}: reset by peer"));
    }

    #[test]
    fn a_url_that_is_used_as_it_is_has_no_path_in_messages() {
        let (url, path) = ("http://p/write".to_owned(), String::new());
        let status = StatusCode::NOT_FOUND;
        let words = "no".to_owned();
        let gone = PushError::NoSuchPath {
            url: url.clone(),
            path: path.clone(),
            status,
            words: words.clone(),
        };
        let told = gone.to_string();
        assert!(
            told.starts_with("http://p/write takes no pushes (404 Not Found): no; check"),
            "{told}"
        );
        let refused = PushError::Rejected {
            url,
            key: path,
            status: StatusCode::BAD_REQUEST,
            words,
        };
        let told = refused.to_string();
        assert_eq!(
            told,
            "http://p/write refuses the metrics (400 Bad Request): no"
        );
    }
}
