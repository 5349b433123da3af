//! The fuzzers' corpus, run through the parsers on every test run; see `fuzz` for the search for more.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use pe_ping::control::Control;
use pe_ping::packet::{
    CookieKey, EchoTemplate, Message, Recognition, parse_v4, parse_v4_icmp, parse_v6, quote_v4,
    quote_v6, quoted_request,
};

/// The random part of the cookie that the corpus' packets carry.
const SECRET: [u8; 8] = [0x13, 0x57, 0x9b, 0xdf, 0x02, 0x46, 0x8a, 0xce];

fn inputs(target: &str) -> Vec<Vec<u8>> {
    let directory =
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/fuzz")).join(target);
    let inputs: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| fs::read(entry.unwrap().path()).unwrap())
        .collect();
    assert!(!inputs.is_empty());
    inputs
}

/// How many messages are replies to probes of ours, and how many are errors.
fn judge<'a>(messages: impl Iterator<Item = Message<'a>>) -> (usize, usize) {
    let template = EchoTemplate::new(CookieKey::new([0; 16]), 56);
    messages.fold((0, 0), |(ours, errors), message| match message {
        Message::EchoReply { payload, .. } => (
            ours + usize::from(matches!(
                template.recognise(payload, SECRET),
                Recognition::Ours { .. }
            )),
            errors,
        ),
        Message::Error { .. } => (ours, errors + 1),
    })
}

/// Also runs all beginnings of all inputs: what is cut anywhere must be refused, not trusted.
fn beginnings(inputs: &[Vec<u8>]) -> impl Iterator<Item = &[u8]> {
    inputs
        .iter()
        .flat_map(|input| (0..input.len()).map(move |end| &input[..end]))
}

#[test]
fn replies_and_errors_are_told_apart_from_noise() {
    let v4 = inputs("reply_v4");
    let (ours, errors) = judge(
        v4.iter()
            .filter_map(|input| Some(parse_v4(input, false).ok()?.message)),
    );
    assert!(ours >= 3 && errors >= 10, "{ours} {errors}");
    let v6 = inputs("reply_v6");
    let (ours, errors) = judge(v6.iter().filter_map(|input| parse_v6(input, false).ok()));
    assert!(ours >= 2 && errors >= 4, "{ours} {errors}");
    let (ours, _) =
        judge(beginnings(&v4).filter_map(|input| Some(parse_v4(input, false).ok()?.message)));
    assert_eq!(ours, 0, "an IPv4 packet that is cut off is never a reply");
    for input in beginnings(&v4).chain(beginnings(&v6)) {
        for cut in [false, true] {
            let _ = (
                parse_v4(input, cut),
                parse_v4_icmp(input, cut),
                parse_v6(input, cut),
            );
        }
    }
}

#[test]
fn quotes_and_control_messages_of_any_length_are_read_or_refused() {
    let quotes = inputs("quote");
    assert!(
        quotes
            .iter()
            .filter(|input| quote_v4(input).or_else(|| quote_v6(input)).is_some())
            .count()
            >= 5
    );
    for input in beginnings(&quotes) {
        let _ = (
            quote_v4(input),
            quote_v6(input),
            quoted_request(input, [127, 0, 0, 1].into()),
        );
    }
    let control = inputs("control");
    assert!(
        control
            .iter()
            .any(|input| Control::parse(input).stamp.is_some())
    );
    assert!(
        control
            .iter()
            .any(|input| Control::parse(input).error.is_some())
    );
    for input in beginnings(&control) {
        let _ = Control::parse(input);
    }
}
