//! The step that compares licences and sources of all dependencies with deny.toml, and sees that each published
//! crate ships its own LICENSE and README.md.
//!
//! cargo-deny checks more (see `cargo xtask deny`), but takes minutes to install; this runs everywhere.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::log::Log;
use crate::metadata::{self, list, text};

const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

pub(crate) fn step(_log: &mut Log) -> Result<(), String> {
    // Without a platform, crates that only other systems need would be downloaded too.
    let metadata = metadata::read(&["--filter-platform", "x86_64-unknown-linux-gnu"])?;
    let root = Path::new(text(&metadata, "workspace_root"));
    let deny = read(&root.join("deny.toml"))?;
    let licence = read(&root.join("LICENSE"))?;
    let allowed = allowed(&deny);
    let mut problems = Vec::new();
    for package in list(&metadata, "packages") {
        problems.extend(problem(package, &allowed));
        if package["source"].is_null() && package["publish"].is_null() {
            problems.extend(not_shipped(package, &licence));
        }
    }
    if problems.is_empty() {
        Ok(())
    } else {
        Err(problems.join("\n"))
    }
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

/// What a published crate of ours lacks: its package holds only what lies in its own directory.
fn not_shipped(package: &Value, licence: &str) -> Option<String> {
    let directory = Path::new(text(package, "manifest_path")).parent()?;
    if !directory.join("README.md").is_file() {
        return Some(format!("{} has no README.md", directory.display()));
    }
    let copy = directory.join("LICENSE");
    let same = read(&copy).is_ok_and(|text| text == licence);
    (!same).then(|| format!("{} is not a copy of the repository's", copy.display()))
}

/// The list `allow` of the section `licenses`.
fn allowed(deny: &str) -> Vec<&str> {
    let section = deny.split_once("[licenses]").map_or("", |(_, rest)| rest);
    let list = section.split_once("allow = [").map_or("", |(_, rest)| rest);
    let list = list.split_once(']').map_or("", |(list, _)| list);
    list.split('"').skip(1).step_by(2).collect()
}

fn problem(package: &Value, allowed: &[&str]) -> Option<String> {
    let (name, licence, source) = (
        text(package, "name"),
        text(package, "license"),
        &package["source"],
    );
    // Crates of this repository have no source.
    if !source.is_null() && source != CRATES_IO {
        return Some(format!(
            "{name} does not come from crates.io but from {source}"
        ));
    }
    (!holds(licence, allowed))
        .then(|| format!("{name} has the licence {licence:?}, which deny.toml does not allow"))
}

/// Whether an SPDX expression can be met by the allowed licences. `AND` binds closer than `OR`.
fn holds(expression: &str, allowed: &[&str]) -> bool {
    // Older crates write "MIT/Apache-2.0".
    let spaced = expression
        .replace('/', " OR ")
        .replace('(', " ( ")
        .replace(')', " ) ");
    let mut words = spaced.split_whitespace().peekable();
    any(&mut words, allowed) && words.next().is_none()
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn any(words: &mut Words<'_>, allowed: &[&str]) -> bool {
    let mut held = all(words, allowed);
    while words.next_if_eq(&"OR").is_some() {
        held |= all(words, allowed);
    }
    held
}

fn all(words: &mut Words<'_>, allowed: &[&str]) -> bool {
    let mut held = one(words, allowed);
    while words.next_if_eq(&"AND").is_some() {
        held &= one(words, allowed);
    }
    held
}

fn one(words: &mut Words<'_>, allowed: &[&str]) -> bool {
    match words.next() {
        Some("(") => any(words, allowed) & (words.next() == Some(")")),
        Some(licence) => {
            let exception = words.next_if_eq(&"WITH").and_then(|_| words.next());
            let full =
                exception.map_or_else(|| licence.to_owned(), |it| format!("{licence} WITH {it}"));
            allowed.contains(&full.as_str())
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn licence_expressions_are_met_by_what_is_allowed() {
        let allowed = ["MIT", "Apache-2.0", "Unicode-3.0"];
        for good in [
            "MIT",
            "GPL-3.0/MIT",
            "GPL-3.0 OR MIT",
            "(GPL-3.0 OR MIT) AND Unicode-3.0",
            "GPL-3.0 AND ISC OR MIT",
        ] {
            assert!(holds(good, &allowed), "{good}");
        }
        for bad in [
            "",
            "GPL-3.0",
            "MIT AND ISC",
            "Apache-2.0 WITH LLVM-exception",
            "MIT ISC",
            "(MIT",
        ] {
            assert!(!holds(bad, &allowed), "{bad}");
        }
    }

    #[test]
    fn the_allowed_licences_are_those_of_deny_toml() {
        let deny = "[bans]\nallow = [\"x\"]\n[licenses]\nallow = [\n  \"MIT\",\n  \"ISC\",\n]\n";
        assert_eq!(allowed(deny), ["MIT", "ISC"]);
    }

    #[test]
    fn a_crate_from_elsewhere_is_named() {
        let package =
            json!({"name": "fork", "license": "MIT", "source": "git+https://example.org/fork"});
        let problem = problem(&package, &["MIT"]).unwrap();
        assert!(
            problem.starts_with("fork does not come from crates.io"),
            "{problem}"
        );
    }
}
