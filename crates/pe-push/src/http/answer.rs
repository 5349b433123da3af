//! Answers of servers, and what they mean. No I/O.

use std::time::{Duration, SystemTime};

use hyper::StatusCode;
use hyper::header::{HeaderMap, LOCATION, RETRY_AFTER};

use crate::PushError;

/// How many bytes of a server's words are read and repeated.
pub(super) const WORDS: usize = 500;

/// Longest wait that a server may ask for: it is trusted with an hour, not with a month.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// What a server answered.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// The beginning of the body of an answer that is no success.
    pub(super) words: Vec<u8>,
}

impl Answer {
    /// The beginning of the body of an answer that is no success, as one line of text.
    pub(crate) fn words(&self) -> String {
        let text = String::from_utf8_lossy(&self.words[..self.words.len().min(WORDS)]);
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

    /// What the answer means for a request to `path` below `url`. `advice` says what to check where access is refused.
    pub(crate) fn judge(
        &self,
        url: &str,
        path: &str,
        advice: &'static str,
    ) -> Result<(), PushError> {
        let status = self.status;
        if status.is_success() {
            return Ok(());
        }
        let (url, path, words) = (url.to_owned(), path.to_owned(), self.words());
        Err(match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => PushError::Unauthorized {
                url,
                status,
                advice,
            },
            status if status.is_redirection() => self.redirect(url, &path),
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => PushError::NoSuchPath {
                url,
                path,
                status,
                words,
            },
            StatusCode::PAYLOAD_TOO_LARGE => PushError::TooLarge { url, path, status },
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => self.trouble(url),
            status if status.is_server_error() => self.trouble(url),
            status => PushError::Rejected {
                url,
                key: path,
                status,
                words,
            },
        })
    }

    fn trouble(&self, url: String) -> PushError {
        PushError::Gateway {
            url,
            status: self.status,
            words: self.words(),
            retry_after: retry_after(&self.headers, SystemTime::now()),
        }
    }

    fn redirect(&self, url: String, path: &str) -> PushError {
        let text = |value: &hyper::header::HeaderValue| {
            let text = String::from_utf8_lossy(value.as_bytes()).into_owned();
            text.chars()
                .filter(|c| !c.is_control())
                .take(WORDS)
                .collect()
        };
        let location: String = self.headers.get(LOCATION).map(text).unwrap_or_default();
        // What to write is the target without what we had added.
        let target = location.split(['?', '#']).next().unwrap_or_default();
        let target = target
            .trim_end_matches('/')
            .strip_suffix(path)
            .unwrap_or(target);
        let instead = match target.starts_with("http://") || target.starts_with("https://") {
            true => target.trim_end_matches('/').to_owned(),
            false => String::new(),
        };
        PushError::Redirected {
            url,
            status: self.status,
            location,
            instead,
        }
    }
}

/// How long the server asks to be left alone (RFC 9110, section 10.2.3): at most an hour.
pub(crate) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let until = httpdate::parse_http_date(text).ok()?;
            until.duration_since(now).unwrap_or_default()
        }
    };
    Some(wait.min(LONGEST_WAIT))
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;
    use crate::ResultKind;

    const PATH: &str = "/metrics/job/a";

    fn answer(status: u16, headers: &[(&'static str, &str)], body: &[u8]) -> Answer {
        let header = |(name, value): &(&'static str, &str)| {
            (
                hyper::header::HeaderName::from_static(name),
                HeaderValue::from_str(value).unwrap(),
            )
        };
        Answer {
            status: StatusCode::from_u16(status).unwrap(),
            headers: headers.iter().map(header).collect(),
            words: body.to_vec(),
        }
    }

    fn judge(answer: &Answer) -> Result<(), PushError> {
        answer.judge("http://g", PATH, "check the token")
    }

    #[test]
    fn statuses_are_told_apart_and_words_are_kept_short() {
        let plain = |status: u16| judge(&answer(status, &[], b""));
        assert!(plain(200).is_ok() && plain(202).is_ok());
        let kinds = [400, 401, 403, 404, 405, 413, 429, 500, 503, 301]
            .map(|status| plain(status).unwrap_err().kind());
        use ResultKind::{GatewayError as G, Rejected as R, Unauthorized as U};
        assert_eq!(kinds, [R, U, U, R, R, R, G, G, G, R]);
        let error =
            |status: u16, body: &[u8]| judge(&answer(status, &[], body)).unwrap_err().to_string();
        assert_eq!(
            error(400, b"text format parsing error\n in line 1\n"),
            "http://g refuses the metrics of /metrics/job/a (400 Bad Request): text format parsing error in line 1"
        );
        assert_eq!(
            error(403, b""),
            "http://g refuses access (403 Forbidden): check the token"
        );
        assert!(error(500, &[b'x'; 100_000]).len() < 600);
    }

    #[test]
    fn a_redirect_says_where_it_leads_and_what_to_write() {
        let told = |location: &str| {
            judge(&answer(301, &[("location", location)], b"<html>"))
                .unwrap_err()
                .to_string()
        };
        let start = "http://g redirects elsewhere (301 Moved Permanently)";
        assert_eq!(
            told("https://g.example/push/metrics/job/a"),
            format!(
                "{start}, to https://g.example/push/metrics/job/a; redirects are not followed: if that is the right place, give the URL https://g.example/push"
            )
        );
        assert!(told("/login").ends_with("to /login; redirects are not followed: give the URL that it should go to, without a redirect"));
        let nowhere = judge(&answer(308, &[], b"")).unwrap_err().to_string();
        assert!(nowhere.contains("without saying where"), "{nowhere}");
    }

    #[test]
    fn a_server_may_ask_to_be_left_alone_for_an_hour_at_most() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        let wait = |text: &str| {
            let answer = answer(503, &[("retry-after", text)], b"");
            retry_after(&answer.headers, now).map(|wait| wait.as_secs())
        };
        assert_eq!(wait("120"), Some(120));
        assert_eq!(wait(" 0"), Some(0));
        assert_eq!(wait("Sun, 06 Nov 1994 08:50:07 GMT"), Some(30));
        assert_eq!(wait("Sun, 06 Nov 1994 08:00:00 GMT"), Some(0));
        assert_eq!(wait("99999999999"), Some(3600));
        for odd in ["soon", "-1", "1.5", ""] {
            assert_eq!(wait(odd), None, "{odd}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }
}
