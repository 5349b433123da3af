//! Chores of the repository: `cargo xtask test`.

mod packages;
mod skips;
mod steps;

use std::process::ExitCode;

const HELP: &str = "\
Chores of the PingExporter repository

Usage: cargo xtask <CHORE>

Chores:
  test   Install what the tests need (as root on Debian; otherwise say what is missing), then check the
         formatting, run clippy with warnings denied, all tests, doc tests, and build the documentation
  deps   Only install what the tests need
  help   Print this
";

fn main() -> ExitCode {
    let chore = std::env::args().nth(1);
    let result = match chore.as_deref() {
        Some("test") => packages::install().and_then(|()| steps::test()),
        Some("deps") => packages::install(),
        Some("help" | "--help" | "-h") => {
            print!("{HELP}");
            Ok(())
        }
        _ => {
            eprint!("{HELP}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}
