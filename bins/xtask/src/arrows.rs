//! The step that holds the arrows: which of our crates may depend on which.
//!
//! Dependencies of tests are free. Those that are only there with a feature count as all others.

use crate::log::Log;
use crate::metadata::{self, Package};

/// Each crate, and the crates of ours that it may depend on. ARCHITECTURE.md has the same table, with reasons.
const ALLOWED: &[(&str, &[&str])] = &[
    ("pe-scrape", &[]),
    ("pe-resolve", &["pe-scrape"]),
    ("pe-config", &["pe-scrape"]),
    ("pe-engine", &["pe-scrape"]),
    ("pe-ping", &["pe-scrape"]),
    ("pe-probe", &["pe-scrape"]),
    ("pe-push", &["pe-scrape"]),
    ("pe-web", &["pe-scrape", "pe-engine"]),
    (
        "pe-agent",
        &[
            "pe-scrape",
            "pe-resolve",
            "pe-config",
            "pe-engine",
            "pe-ping",
            "pe-probe",
            "pe-push",
            "pe-web",
        ],
    ),
    (
        "pingexporter",
        &["pe-agent", "pe-ping", "pe-probe", "pe-push"],
    ),
    ("pe-testkit", &[]),
    ("xtask", &[]),
];

/// Crates whose name starts with this may depend on every published library, and on each other.
const EXAMPLE: &str = "example-";

pub(crate) fn step(_log: &mut Log) -> Result<(), String> {
    let problems = problems(&metadata::packages()?);
    if problems.is_empty() {
        return Ok(());
    }
    let problems = problems.join("\n");
    Err(format!("\n{problems}\nARCHITECTURE.md tells why"))
}

/// A sentence for each crate that is not in the table, and for each arrow that it does not allow.
///
/// A crate of the table that does not exist is no problem.
fn problems(packages: &[Package]) -> Vec<String> {
    let mut problems = Vec::new();
    for Package { name, needs, .. } in packages {
        let row = ALLOWED.iter().find(|(room, _)| room == name);
        let is_example = name.starts_with(EXAMPLE);
        if row.is_none() && !is_example {
            problems.push(format!(
                "{name} is not in the table of bins/xtask/src/arrows.rs"
            ));
            continue;
        }
        let published = |needed: &str| packages.iter().any(|it| it.name == needed && it.published);
        for needed in needs {
            let allowed = match row {
                Some((_, allowed)) => allowed.contains(&needed.as_str()),
                None => published(needed) || needed.starts_with(EXAMPLE),
            };
            if !allowed {
                problems.push(format!("{name} may not depend on {needed}"));
            }
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// A crate as `cargo metadata` tells of it, with dependencies of one kind.
    fn made_up(name: &str, publish: Value, kind: Value, needs: &[&str]) -> Package {
        let needs: Vec<Value> = needs
            .iter()
            .map(|needed| json!({"name": needed, "kind": kind, "path": format!("/{needed}"), "optional": true}))
            .collect();
        let registry = json!({"name": "serde", "kind": null});
        let dependencies: Vec<Value> = needs.into_iter().chain([registry]).collect();
        metadata::package(&json!({"name": name, "publish": publish, "dependencies": dependencies}))
    }

    fn library(name: &str, needs: &[&str]) -> Package {
        made_up(name, Value::Null, Value::Null, needs)
    }

    fn example(needs: &[&str]) -> Package {
        made_up("example-embed", json!([]), Value::Null, needs)
    }

    #[test]
    fn arrows_of_the_table_are_allowed() {
        let packages = [
            library("pe-scrape", &[]),
            library("pe-engine", &["pe-scrape"]),
            library("pe-web", &["pe-scrape", "pe-engine"]),
            example(&["pe-web", "pe-scrape"]),
        ];
        assert_eq!(problems(&packages), [""; 0]);
    }

    #[test]
    fn an_arrow_that_the_table_does_not_have_is_named() {
        let packages = [library("pe-engine", &["pe-scrape", "pe-push"])];
        assert_eq!(problems(&packages), ["pe-engine may not depend on pe-push"]);
        let packages = [library("pe-scrape", &["pe-config"])];
        assert_eq!(
            problems(&packages),
            ["pe-scrape may not depend on pe-config"]
        );
    }

    #[test]
    fn the_test_kit_is_for_tests_only() {
        let tests = made_up(
            "pe-push",
            Value::Null,
            json!("dev"),
            &["pe-testkit", "pe-config"],
        );
        assert_eq!(problems(&[tests]), [""; 0]);
        let build = made_up("pe-push", Value::Null, json!("build"), &["pe-testkit"]);
        assert_eq!(problems(&[build]), ["pe-push may not depend on pe-testkit"]);
    }

    #[test]
    fn an_example_depends_on_published_crates_and_examples_only() {
        let kit = made_up("pe-testkit", json!([]), Value::Null, &[]);
        let packages = [kit, example(&["pe-testkit", "example-custom-scraper"])];
        assert_eq!(
            problems(&packages),
            ["example-embed may not depend on pe-testkit"]
        );
    }

    #[test]
    fn the_table_is_that_of_the_architecture_page() {
        let page = include_str!("../../../ARCHITECTURE.md");
        let (_, rows) = page
            .split_once("| crate | holds | may depend on |\n")
            .unwrap();
        let told: Vec<(&str, Vec<&str>)> = rows
            .lines()
            .skip(1)
            .take_while(|line| line.starts_with('|'))
            .map(|line| {
                let cells: Vec<&str> = line.split('|').collect();
                let names = |cell: usize| cells[cell].split('`').skip(1).step_by(2);
                (names(1).next().unwrap(), names(3).collect())
            })
            .collect();
        let held: Vec<(&str, Vec<&str>)> = ALLOWED
            .iter()
            .map(|(name, to)| (*name, to.to_vec()))
            .collect();
        assert_eq!(told, held);
    }

    #[test]
    fn a_crate_that_is_not_in_the_table_is_named() {
        let packages = [library("pe-new", &["pe-scrape"])];
        assert_eq!(
            problems(&packages),
            ["pe-new is not in the table of bins/xtask/src/arrows.rs"]
        );
    }
}
