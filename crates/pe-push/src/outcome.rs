//! From a gateway's response to a result.

use hyper::StatusCode;

use crate::PushError;

/// The class of a push's result, the label `result` of `pingexporter_pushes_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ResultKind {
    /// The gateway took it.
    Success,
    /// The gateway refused the metrics.
    Rejected,
    /// The gateway refused user or password.
    Unauthorized,
    /// The gateway could not be connected to, or the connection broke.
    Unreachable,
    /// The gateway did not answer in time.
    Timeout,
    /// The gateway answered with an error of its own.
    GatewayError,
}

impl ResultKind {
    /// All classes.
    pub const ALL: [Self; 6] = [
        Self::Success,
        Self::Rejected,
        Self::Unauthorized,
        Self::Unreachable,
        Self::Timeout,
        Self::GatewayError,
    ];

    /// The label's value.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Rejected => "rejected",
            Self::Unauthorized => "unauthorized",
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
            Self::GatewayError => "gateway_error",
        }
    }
}

/// How much of a gateway's words is read and repeated.
pub(crate) const WORDS: usize = 500;

/// What the status and the first bytes of the body mean for a push of `key` to `url`.
pub(crate) fn judge(
    url: &str,
    key: &str,
    status: StatusCode,
    body: &[u8],
) -> Result<(), PushError> {
    if status.is_success() {
        return Ok(());
    }
    let url = url.to_owned();
    let words = words(body);
    Err(match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => PushError::Unauthorized { url, status },
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
            PushError::Gateway { url, status, words }
        }
        status if status.is_server_error() => PushError::Gateway { url, status, words },
        status => PushError::Rejected {
            url,
            key: key.to_owned(),
            status,
            words,
        },
    })
}

/// The body as one line of text.
fn words(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(WORDS)]);
    let line = text
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| !word.is_empty());
    let line = line.collect::<Vec<_>>().join(" ");
    if line.is_empty() {
        "it gave no reason".to_owned()
    } else {
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_told_apart_and_words_are_kept_short() {
        let judge = |status: u16, body: &[u8]| {
            judge(
                "http://g",
                "/metrics/job/a",
                StatusCode::from_u16(status).unwrap(),
                body,
            )
        };
        assert!(judge(200, b"").is_ok() && judge(202, b"").is_ok());
        let kinds = [400, 401, 403, 404, 429, 500, 503, 301]
            .map(|status| judge(status, b"").unwrap_err().kind());
        use ResultKind::{GatewayError as G, Rejected as R, Unauthorized as U};
        assert_eq!(kinds, [R, U, U, R, G, G, G, R]);
        assert_eq!(
            judge(400, b"text format parsing error\n in line 1\n")
                .unwrap_err()
                .to_string(),
            "http://g refuses the metrics of /metrics/job/a (400 Bad Request): text format parsing error in line 1"
        );
        assert!(judge(500, &[b'x'; 100_000]).unwrap_err().to_string().len() < 600);
    }
}
