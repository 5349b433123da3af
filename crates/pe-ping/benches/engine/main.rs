//! What the engine costs, and whether it loses anything: three tables, each measured in one run.
//!
//! `cargo bench -p pe-ping --bench engine [-- TABLE… [ROUNDS]]`, where TABLE is `throughput`, `steady` or `flight` (all
//! if none is named), and ROUNDS how often each case of the first is run. Needs root and iproute2. Every case runs in a process of
//! its own, and packets go to loopback addresses, or stay in a network namespace made for the case.
//!
//! On loopback, the sender's own core also does the work of the device that answers: what is told here for a ping is
//! the price of both.
//!
//! Exits with 1 when a goal was missed.

#![allow(clippy::unwrap_used)]

mod bare;
mod flight;
mod process;
mod report;
mod steady;
mod throughput;

use std::process::ExitCode;

use pe_testkit::{Need, in_namespace};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments
        .first()
        .is_some_and(|first| first == process::CASE)
    {
        run_case(&arguments[1..]);
        return ExitCode::SUCCESS;
    }
    // Cargo says `--bench` for `cargo bench`. `cargo test --benches` only proves that it builds.
    let wanted = arguments.iter().any(|argument| argument == "--bench");
    if !wanted || !pe_testkit::require_needs("engine", &[Need::Namespaces]) {
        return ExitCode::SUCCESS;
    }
    let named = |table: &str| {
        let tables = ["throughput", "steady", "flight"];
        arguments.iter().any(|argument| argument == table)
            || !arguments
                .iter()
                .any(|argument| tables.contains(&&**argument))
    };
    let rounds = arguments
        .iter()
        .find_map(|argument| argument.parse().ok())
        .unwrap_or(7);
    conditions();
    // What is started here is in the namespace as well.
    let reached = in_namespace(|_| {
        let mut reached = true;
        if named("throughput") {
            reached &= throughput::table(rounds);
        }
        if named("steady") {
            reached &= steady::table();
        }
        if named("flight") {
            reached &= flight::table();
        }
        reached
    });
    println!("\nload at the end: {}", load());
    if reached {
        ExitCode::SUCCESS
    } else {
        println!("not all goals were reached");
        ExitCode::FAILURE
    }
}

fn conditions() {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    println!(
        "{cores} cores, Linux {}, load at the start: {}",
        kernel.trim(),
        load()
    );
}

/// The average load of the last minute.
fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}

fn run_case(arguments: &[String]) {
    let name = arguments.first().map_or("", String::as_str);
    let argument = arguments.get(1).map_or("", String::as_str);
    let core = arguments.get(2).map(String::as_str);
    let measurement = throughput::case(name, argument)
        .or_else(|| steady::case(name, argument, core))
        .or_else(|| flight::case(name))
        .unwrap_or_else(|| panic!("no case is called {name:?}"));
    println!("{}", serde_json::to_string(&measurement).unwrap());
}
