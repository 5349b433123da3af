//! The fuzzers' seeds, run through the parsers on every test run; see `fuzz` for the search for more.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use pe_probe::command::plugin::PluginOutput;
use pe_probe::dns::message::{Question, Response};
use pe_probe::sntp::packet::{NoTime, Reply};

fn inputs(target: &str) -> Vec<Vec<u8>> {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/fuzz");
    let entries = fs::read_dir(Path::new(directory).join(target)).unwrap();
    let inputs = entries.map(|entry| fs::read(entry.unwrap().path()).unwrap());
    inputs.collect()
}

/// All beginnings of an input: what is cut anywhere must be refused, not trusted.
fn beginnings(input: &[u8]) -> impl Iterator<Item = &[u8]> {
    (0..input.len()).map(|end| &input[..end])
}

#[test]
fn responses_of_real_servers_are_taken_and_their_beginnings_are_not() {
    let names = [
        "router.test",
        "many.test",
        "nosuch.test",
        "test",
        "_sip._udp.test",
    ];
    let more = ["7.2.0.192.in-addr.arpa"];
    let types = [
        "A", "AAAA", "MX", "TXT", "SOA", "SRV", "CAA", "NAPTR", "PTR", "ANY",
    ];
    let questions: Vec<Question> = names
        .iter()
        .chain(&more)
        .flat_map(|name| types.iter().map(|kind| Question::new(name, kind).unwrap()))
        .chain([Question::new("version.bind", "TXT").unwrap().chaos()])
        .collect();
    for input in inputs("dns") {
        let taken = |bytes: &[u8]| {
            let mut responses = questions.iter();
            responses.find_map(|question| Response::read(bytes, question, 7).ok())
        };
        let whole = taken(&input).unwrap();
        for cut in beginnings(&input) {
            let response = taken(cut);
            assert!(
                response
                    .is_none_or(|response| whole.flags.truncated && response.answers.is_empty())
            );
        }
    }
}

#[test]
fn replies_of_time_servers_are_told_apart() {
    const COOKIE: u64 = 0x0123_4567_89ab_cdef;
    let read = |bytes: &[u8]| Reply::read(bytes, COOKIE).map_err(|(no_time, _)| no_time);
    let inputs = inputs("sntp");
    let good = inputs.iter().filter(|input| read(input).is_ok());
    assert!(good.count() >= 4);
    let kiss = |input: &&Vec<u8>| matches!(read(input), Err(NoTime::Kiss(_)));
    assert_eq!(inputs.iter().filter(kiss).count(), 1);
    for cut in inputs.iter().flat_map(|input| beginnings(&input[..48])) {
        assert_eq!(read(cut), Err(NoTime::Malformed));
    }
}

#[test]
fn output_of_plugins_is_read_to_its_end_or_its_cut() {
    for input in inputs("plugin") {
        let whole = PluginOutput::parse(&input);
        for cut in beginnings(&input) {
            assert!(PluginOutput::parse(cut).pieces.len() <= whole.pieces.len() + 1);
        }
    }
}

#[test]
fn pages_of_metrics_are_taken_again_with_the_same_values_or_refused() {
    for input in inputs("exposition") {
        beginnings(&input).for_each(pe_probe::exposition::try_page);
        pe_probe::exposition::try_page(&input);
    }
}

#[test]
fn answers_over_http_are_taken_or_refused_wherever_they_are_cut() {
    for input in inputs("http") {
        beginnings(&input).for_each(pe_probe::http::try_answer);
        pe_probe::http::try_answer(&input);
    }
}

#[test]
fn dialogues_end_wherever_the_peer_does() {
    for input in inputs("dialogue") {
        beginnings(&input).for_each(pe_probe::tcp::try_dialogue);
        pe_probe::tcp::try_dialogue(&input);
    }
}
