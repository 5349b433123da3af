//! What an answer means for the request that it answers. No I/O.
//!
//! | answer | to 1.0 | to 2.0 |
//! | --- | --- | --- |
//! | 2xx | sent | sent; without any `X-Prometheus-Remote-Write-…-Written` header it was not understood: again as 1.0 |
//! | 415 | dropped | again as 1.0 |
//! | 400 | split, since a Prometheus rolls a whole request back for one sample | dropped, since some of it may be written |
//! | 408, 413 | again in smaller requests | again in smaller requests |
//! | 429, 5xx | again, later | again, later |
//! | 3xx, 401, 403, 404, 405, 407 | kept until the receiver takes an empty request | likewise |
//! | any other 4xx | dropped | dropped |
//!
//! Nothing is sent again unchanged after a 4xx other than 429. The answers of the last row but one are not about the samples:
//! address or credentials are wrong, and will be mended or not. So is a 400 or another 4xx that an empty request gets too, in the same words.
//!
//! Sources: <https://prometheus.io/docs/specs/prw/remote_write_spec/#retries--backoff> and
//! <https://prometheus.io/docs/specs/prw/remote_write_spec_2_0/#response>.

use std::time::{Duration, SystemTime};

use hyper::StatusCode;
use hyper::header::{DATE, HeaderMap};

use super::wire::Protocol;

/// What 2.0 wants to be said of a request that was taken.
const WRITTEN: [&str; 3] = [
    "x-prometheus-remote-write-samples-written",
    "x-prometheus-remote-write-histograms-written",
    "x-prometheus-remote-write-exemplars-written",
];

/// What to do with a request that was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The receiver has it.
    Sent,
    /// Again after a pause, at least as long as the receiver wants.
    Retry(Option<Duration>),
    /// In two parts, to find out which one is refused.
    Split,
    /// In smaller requests.
    Smaller,
    /// As 1.0.
    FallBack,
    /// Not now: nothing is taken here.
    Closed,
    /// Never again.
    Drop,
}

impl Verdict {
    pub(crate) fn of(
        protocol: Protocol,
        status: StatusCode,
        headers: &HeaderMap,
        retry_after: Option<Duration>,
    ) -> Self {
        let is_v2 = protocol == Protocol::V2;
        match status.as_u16() {
            200..=299 => {
                let is_told = WRITTEN.iter().any(|name| headers.contains_key(*name));
                if is_v2 && !is_told {
                    Self::FallBack
                } else {
                    Self::Sent
                }
            }
            415 if is_v2 => Self::FallBack,
            400 if !is_v2 => Self::Split,
            408 | 413 => Self::Smaller,
            429 | 500..=599 => Self::Retry(retry_after),
            300..=399 | 401 | 403 | 404 | 405 | 407 => Self::Closed,
            _ => Self::Drop,
        }
    }
}

/// The receiver's clock, by the header `Date` of an answer, which has whole seconds.
pub(crate) fn receiver_time(headers: &HeaderMap) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(
        protocol: Protocol,
        status: u16,
        headers: &[(&'static str, &'static str)],
    ) -> Verdict {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().unwrap());
        }
        let wait = map
            .contains_key("retry-after")
            .then_some(Duration::from_secs(7));
        Verdict::of(protocol, StatusCode::from_u16(status).unwrap(), &map, wait)
    }

    #[test]
    fn only_429_and_5xx_are_sent_again() {
        for protocol in [Protocol::V1, Protocol::V2] {
            for status in 300..600 {
                let again = matches!(verdict(protocol, status, &[]), Verdict::Retry(_));
                assert_eq!(again, status == 429 || status >= 500, "{status}");
            }
            let asked = verdict(protocol, 503, &[("retry-after", "7")]);
            assert_eq!(asked, Verdict::Retry(Some(Duration::from_secs(7))));
        }
    }

    #[test]
    fn a_bad_request_is_split_in_1_and_never_sent_again_in_2() {
        assert_eq!(verdict(Protocol::V1, 400, &[]), Verdict::Split);
        assert_eq!(verdict(Protocol::V2, 400, &[]), Verdict::Drop);
    }

    #[test]
    fn a_receiver_that_does_not_say_what_it_wrote_does_not_speak_2() {
        assert_eq!(verdict(Protocol::V1, 204, &[]), Verdict::Sent);
        assert_eq!(verdict(Protocol::V2, 204, &[]), Verdict::FallBack);
        assert_eq!(verdict(Protocol::V2, 415, &[]), Verdict::FallBack);
        assert_eq!(verdict(Protocol::V1, 415, &[]), Verdict::Drop);
        for header in WRITTEN {
            assert_eq!(verdict(Protocol::V2, 200, &[(header, "0")]), Verdict::Sent);
        }
    }

    #[test]
    fn the_receivers_clock_is_read() {
        let mut headers = HeaderMap::new();
        assert_eq!(receiver_time(&headers), None);
        headers.insert("date", "Sun, 06 Nov 1994 08:49:37 GMT".parse().unwrap());
        let expected = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        assert_eq!(receiver_time(&headers), Some(expected));
    }
}
