//! The step that runs all tests, and how many passed, failed and were skipped.

use std::fs;

use crate::log::Log;
use crate::steps::cargo;

/// The variable that names the file in which a test that cannot run says why (see pe-testkit).
const SKIPS: &str = "PE_TESTKIT_SKIPS";

pub(crate) fn step(log: &mut Log) -> Result<(), String> {
    let skips = std::env::temp_dir().join(format!("pingexporter-skips-{}", std::process::id()));
    fs::write(&skips, "").map_err(|error| format!("cannot write {}: {error}", skips.display()))?;
    let all = ["--workspace", "--locked", "--no-fail-fast"];
    let result = log.run(cargo("test").args(all).env(SKIPS, &skips));
    let skipped = fs::read_to_string(&skips).unwrap_or_default();
    let _ = fs::remove_file(&skips);

    let counts = Counts::from(&log.text(), &skipped);
    log.notes = counts.skipped.clone();
    log.conclusion = Some(counts.line());
    result?;
    if !counts.skipped.is_empty() && std::env::var("CI").is_ok_and(|ci| ci == "true") {
        return Err("no test may be skipped where CI=true".into());
    }
    Ok(())
}

/// How the tests of a run ended.
#[derive(Debug, PartialEq, Eq)]
struct Counts {
    passed: usize,
    failed: usize,
    /// A line for each test that did not run, with the reason.
    skipped: Vec<String>,
}

impl Counts {
    /// From the output of `cargo test` and the lines that skipped tests reported.
    ///
    /// A test that skips itself returns early, so that the harness takes it for passed. A test that is ignored is
    /// skipped, unless its reason says that others run it ("run by …").
    fn from(output: &str, reported: &str) -> Self {
        let results = output
            .lines()
            .filter_map(|line| line.split_once("test result: ").map(|(_, counts)| counts));
        let sum = |what: &str| {
            results
                .clone()
                .filter_map(|counts| number_before(counts, what))
                .sum::<usize>()
        };
        let reported = reported.lines().map(str::to_owned);
        let ignored = output.lines().filter_map(|line| {
            let (name, reason) = line.strip_prefix("test ")?.split_once(" ... ignored")?;
            (!reason.contains("run by ")).then(|| format!("SKIPPED {name}: ignored{reason}"))
        });
        Self {
            passed: sum(" passed").saturating_sub(reported.clone().count()),
            failed: sum(" failed"),
            skipped: reported.chain(ignored).collect(),
        }
    }

    fn line(&self) -> String {
        let Self {
            passed,
            failed,
            skipped,
        } = self;
        format!(
            "{passed} passed, {failed} failed, {} skipped",
            skipped.len()
        )
    }
}

/// 12 in `ok. 12 passed; 0 failed; …` before ` passed`.
fn number_before(counts: &str, what: &str) -> Option<usize> {
    let (before, _) = counts.split_once(what)?;
    before.rsplit(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_summed_and_skipped_tests_are_not_passed_ones() {
        let output = "\
test pacing::holds_the_rate ... ok
test require::tests::child_that_skips ... ignored, run by another test
test slow ... ignored
test result: ok. 12 passed; 0 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.10s
   Doc-tests pe_scrape
test result: FAILED. 3 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.60s
";
        let counts = Counts::from(
            output,
            "SKIPPED gateway::pushes: needs the program `nginx`\n",
        );
        assert_eq!(counts.line(), "14 passed, 1 failed, 2 skipped");
        assert_eq!(counts.skipped[1], "SKIPPED slow: ignored");
    }

    #[test]
    fn nothing_is_counted_where_nothing_ran() {
        assert_eq!(
            Counts::from("error[E0425]", "").line(),
            "0 passed, 0 failed, 0 skipped"
        );
    }
}
