//! What fuzzers and the tests of their seeds do with bytes of a peer: the whole way from them to what a probe tells.

use std::sync::LazyLock;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use hyper::header::{HeaderValue, LOCATION};
use pe_scrape::settings::decode;
use serde_json::json;

use super::checks::Checks;
use super::exchange::{Answer, Limits, Talk};
use super::place::Place;
use super::proxy::Proxy;
use super::settings::HttpSettings;
use super::{PHASES, last_modified};
use crate::probe::PhaseHandle;
use crate::replay::{Replay, to_its_end};
use crate::{Failure, Phase};

/// Bytes of a body, at the most.
const MAX_BYTES: usize = 2048;

static CHECKS: LazyLock<Checks> = LazyLock::new(|| {
    let settings = json!({"body": "a", "not_body": "(?-u)\\xff$", "json": {"/a": "^ok$", "": "."}});
    let settings: HttpSettings = decode(&settings).expect("these are settings");
    Checks::new(&settings).expect("these go together")
});

/// Takes an answer in, as a probe does. The first byte says how: 1 in HTTP/2, 2 to a HEAD request, 4 keeping the body, 8 from a proxy
/// that is asked for a tunnel first. The second byte is [that](Replay::new) of a peer.
///
/// # Panics
/// When something is not as it always must be.
#[doc(hidden)]
pub fn try_answer(data: &[u8]) {
    let (&how, data) = data.split_first().unwrap_or((&0, &[]));
    let has = |flag: u8| how & flag != 0;
    let place = Place {
        is_https: has(8),
        host: "device.test".to_owned(),
        port: 8080,
        path: "/a/b?c".to_owned(),
    };
    let mut stream = Replay::new(data);
    if has(8) {
        let proxy = Proxy::new("http://user:word@proxy.test").expect("it is a URL");
        if to_its_end(proxy.tunnel(&mut stream, &place)).is_err() {
            return;
        }
        assert!(stream.read().ends_with(b"\r\n\r\n"));
    }
    let method = if has(2) { "HEAD" } else { "GET" };
    let uri = if has(1) {
        place.url()
    } else {
        place.path.clone()
    };
    let request = Request::builder().method(method).uri(uri);
    let request = request.header("x-probe", "a");
    let request = request.body(Full::new(Bytes::new()));
    let talk = Talk {
        is_two: has(1),
        is_head: has(2),
        limits: Limits {
            max_bytes: MAX_BYTES,
            keeps_body: has(4),
        },
        phase: PhaseHandle::new(Phase::Connect),
        lacks_certificate: false,
    };
    let mut took = [Duration::ZERO; PHASES.len()];
    let request = request.expect("it is a request");
    match to_its_end(talk.run(Box::new(stream), request, &mut took)) {
        Ok(answer) => examine(&answer, has(4), &place),
        Err(failure) => examine_failure(&failure),
    }
}

fn examine(answer: &Answer, keeps_body: bool, place: &Place) {
    assert!(answer.bytes <= MAX_BYTES && answer.unpacked_bytes <= MAX_BYTES);
    let kept = if keeps_body { answer.unpacked_bytes } else { 0 };
    assert_eq!(answer.body.len(), kept);
    assert!((100..1000).contains(&answer.status.as_u16()));
    let (values, checked) = CHECKS.run(answer);
    assert_eq!(values.len(), CHECKS.pointers().count());
    assert!(values.iter().flatten().all(|value| value.is_finite()));
    if let Err(failure) = checked {
        examine_failure(&failure);
    }
    if let Some(modified) = last_modified(&answer.headers) {
        assert!(modified.is_finite());
    }
    let next = answer.headers.get(LOCATION);
    let next = next.and_then(|next| next.to_str().ok());
    if let Some(next) = next.and_then(|next| place.follow(next)) {
        // What is sent there is one line.
        assert!(!next.url().contains(['\r', '\n']));
        let _ = HeaderValue::try_from(next.authority());
    }
}

/// A failure says nothing of this machine, which was not asked for anything.
fn examine_failure(failure: &Failure) {
    assert!(!failure.reason.is_unknown(), "{failure}");
    assert!(!failure.message.is_empty());
}
