//! Chores of the repository: `cargo xtask test` is what has to pass before a change lands.

mod arrows;
mod counts;
mod delivery;
mod deny;
mod exposition;
mod features;
mod fuzz;
mod licences;
mod load;
mod log;
mod metadata;
mod package;
mod packages;
mod program;
mod soak;
mod steps;
mod tutorials;

use std::process::ExitCode;

const HELP: &str = "\
Chores of the PingExporter repository

Usage: cargo xtask <CHORE>...

Chores:
  test      All steps below, in their order, up to the first that fails; then how many tests passed and
            were skipped. Where CI=true, a skipped test is a failure
  package   Build what is released: the Debian package, the static program, a container image of it, and checksums
  delivery [N]
            What queueing and sending the samples of N devices, 10,000 unless told, cost beside vmagent, with goals, and of
            ten times as many from a backlog: some six minutes, on a quiet machine (needs victoria-metrics)
  deny      Run `cargo deny check`, advisories included (needs cargo-deny and a network)
  exposition [N]
            What passing on N pages of node_exporter, 500 unless told, costs beside vmagent and Prometheus as an agent, with
            goals: some five minutes, on a quiet machine (needs prometheus-node-exporter, victoria-metrics and prometheus)
  fuzz TARGET [N]
            N random inputs, 1,000,000 unless told, for the parser of a fuzz target (needs a nightly compiler)
  load [N]  How N devices, 100,000 unless told, are measured and served while clients press on the web server, with
            goals: some four minutes, on a quiet machine (needs wrk)
  soak [N]  N random schedules of crashes and failures against the queue, 100,000 unless told
  help      Print this

Steps, which are chores of their own too:
";

fn main() -> ExitCode {
    let chores: Vec<String> = std::env::args().skip(1).collect();
    let chores: Vec<&str> = chores.iter().map(String::as_str).collect();
    let result = match chores[..] {
        ["test"] => steps::run(&steps::STEPS.iter().collect::<Vec<_>>()),
        ["package"] => package::package(),
        ["delivery"] => delivery::delivery(None),
        ["delivery", devices] => delivery::delivery(Some(devices)),
        ["exposition"] => exposition::exposition(None),
        ["exposition", pages] => exposition::exposition(Some(pages)),
        ["deny"] => deny::deny(),
        ["fuzz", target] if steps::named(&[target]).is_none() => fuzz::search(target, None),
        ["fuzz", target, count] if steps::named(&[target]).is_none() => {
            fuzz::search(target, Some(count))
        }
        ["load"] => load::load(None),
        ["load", devices] => load::load(Some(devices)),
        ["soak"] => soak::soak(None),
        ["soak", count] => soak::soak(Some(count)),
        ["help" | "--help" | "-h"] => {
            print!("{}", help());
            return ExitCode::SUCCESS;
        }
        _ => match steps::named(&chores) {
            Some(steps) => steps::run(&steps),
            None => {
                eprint!("{}", help());
                return ExitCode::from(2);
            }
        },
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}

fn help() -> String {
    let steps = steps::STEPS.iter();
    let lines = steps.map(|step| format!("  {:<9} {}\n", step.name, step.about));
    format!("{HELP}{}", lines.collect::<String>())
}
