//! From a server's response to a result. No I/O.

use hyper::StatusCode;

use crate::PushError;

/// How many bytes of a server's words are read and repeated.
pub(super) const WORDS: usize = 500;

/// What the status and the first bytes of the body mean for a push to `path` at `url`.
pub(super) fn judge(
    url: &str,
    path: &str,
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
            key: path.to_owned(),
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
    use crate::ResultKind;

    #[test]
    fn statuses_are_told_apart_and_words_are_kept_short() {
        let judge = |status: u16, body: &[u8]| {
            let status = StatusCode::from_u16(status).unwrap();
            judge("http://g", "/metrics/job/a", status, body)
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
