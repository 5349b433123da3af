//! A response of a DNS server, with the identifier of the query.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use pe_probe::dns::expected::{Expected, WantedFlag};
use pe_probe::dns::message::{NotOurs, Question, Response};
use regex::Regex;

static QUESTION: LazyLock<Question> = LazyLock::new(|| Question::new("router.test", "A").expect("a name"));

static EXPECTED: LazyLock<Expected> = LazyLock::new(|| Expected {
    rcodes: vec![0],
    flags: vec![WantedFlag::parse("aa").expect("a flag")],
    some: vec![Regex::new("IN A 192").expect("a pattern")],
    every: vec![Regex::new("test").expect("a pattern")],
    none: vec![Regex::new("AAAA").expect("a pattern")],
});

fuzz_target!(|data: &[u8]| {
    let id = u16::from_be_bytes([data.first().copied().unwrap_or(0), data.get(1).copied().unwrap_or(0)]);
    match Response::read(data, &QUESTION, id) {
        Ok(response) => {
            // A record takes eleven bytes at least.
            assert!(response.answers.len() * 11 <= data.len());
            let _ = EXPECTED.check(&response);
            let other = Response::read(data, &QUESTION, id ^ 1);
            assert_eq!(other, Err(NotOurs::Id));
        }
        Err(not_ours) => assert_ne!(not_ours, NotOurs::Id),
    }
});
