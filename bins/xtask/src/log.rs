//! What the commands of a step print: kept in `target/xtask/STEP.log`, and shown only if the step fails.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The output of one step.
pub(crate) struct Log {
    path: PathBuf,
    /// Lines to show below the step's own, whether it passes or not.
    pub(crate) notes: Vec<String>,
    /// What to show as the last line of the whole run.
    pub(crate) conclusion: Option<String>,
}

impl Log {
    /// An empty log of the step called `step`.
    pub(crate) fn new(step: &str) -> Result<Self, String> {
        // This program is `target/debug/xtask`, wherever the target directory is.
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        let target = program.ancestors().nth(2).ok_or("no target directory")?;
        let path = target.join("xtask").join(format!("{step}.log"));
        fs::create_dir_all(target.join("xtask"))
            .and_then(|()| File::create(&path))
            .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        Ok(Self {
            path,
            notes: Vec::new(),
            conclusion: None,
        })
    }

    /// Runs a command to its end. Fails if it cannot be started or does not succeed.
    pub(crate) fn run(&self, command: &mut Command) -> Result<(), String> {
        let shown = shown(command);
        let cannot = |error| format!("cannot run {shown}: {error}");
        let mut file = OpenOptions::new()
            .append(true)
            .open(&self.path)
            .map_err(cannot)?;
        writeln!(file, "$ {shown}").map_err(cannot)?;
        let status = command
            .stdin(Stdio::null())
            .stderr(file.try_clone().map_err(cannot)?)
            .stdout(file)
            .status()
            .map_err(cannot)?;
        if status.success() {
            Ok(())
        } else {
            Err(format!("{shown}: {status}"))
        }
    }

    /// All that was printed so far.
    pub(crate) fn text(&self) -> String {
        let bytes = fs::read(&self.path).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// What was printed, less what tells only that something went well, and less the call stacks of panics.
    pub(crate) fn what_matters(&self) -> String {
        what_matters(&self.text())
    }
}

/// A command as one would type it.
fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let program = program.file_name().unwrap_or(program.as_os_str());
    let words = std::iter::once(program).chain(command.get_args());
    let words: Vec<_> = words.map(OsStr::to_string_lossy).collect();
    words.join(" ")
}

fn what_matters(text: &str) -> String {
    const NOISE: [&str; 12] = [
        "Compiling ",
        "Checking ",
        "Documenting ",
        "Downloaded ",
        "Finished ",
        "Running ",
        "Doc-tests ",
        "running ",
        "test result: ok",
        "all doctests ran ",
        "stack backtrace:",
        "note: Some details are omitted",
    ];
    let matters = |line: &&str| {
        let line = line.trim();
        !line.is_empty()
            && !line.ends_with(" ... ok")
            && !NOISE.iter().any(|noise| line.starts_with(noise))
            && !is_of_a_call_stack(line)
    };
    let lines = text.lines().filter(matters);
    let mut shown = Vec::new();
    for line in lines {
        // Of a command that printed nothing more, all went well.
        if is_command(line) && shown.last().copied().is_some_and(is_command) {
            shown.pop();
        }
        shown.push(line);
    }
    shown.join("\n")
}

fn is_command(line: &str) -> bool {
    line.starts_with("$ ")
}

/// `12: name::of::function` or `at path:line:column`.
fn is_of_a_call_stack(line: &str) -> bool {
    match line.split_once(' ') {
        Some(("at", place)) => place.contains(':'),
        Some((number, _)) => number
            .strip_suffix(':')
            .is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit())),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_commands_those_that_printed_something_are_shown() {
        let mut command = Command::new("/usr/bin/cargo");
        command.env_remove("HOME").args(["clippy", "--locked"]);
        assert_eq!(shown(&command), "cargo clippy --locked");
        let output = "$ cargo one\n   Compiling a\n$ cargo two\n    Checking b\nerror: c\n";
        assert_eq!(what_matters(output), "$ cargo two\nerror: c");
    }

    #[test]
    fn of_a_run_of_tests_the_failures_matter() {
        let output = "\
   Compiling pe-scrape v0.1.0
     Running unittests src/lib.rs (target/debug/deps/pe_scrape-1)

running 2 tests
test labels::are_sorted ... ok
test labels::are_unique ... FAILED

failures:

---- labels::are_unique stdout ----

thread 'labels::are_unique' panicked at src/labels.rs:8:5:
two of `site`
stack backtrace:
   0: core::panicking::panic_fmt
             at /rustc/library/core/src/panicking.rs:80:14
note: Some details are omitted, run with `RUST_BACKTRACE=full` for a verbose backtrace.

test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s
test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s
";
        let expected = "\
test labels::are_unique ... FAILED
failures:
---- labels::are_unique stdout ----
thread 'labels::are_unique' panicked at src/labels.rs:8:5:
two of `site`
test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s";
        assert_eq!(what_matters(output), expected);
    }
}
