//! The step that compiles each published crate alone, with every choice of features that a user would make.
//!
//! In the workspace as a whole a crate gets the features that any other asks for; that it compiles there says
//! nothing of a program that depends on it alone. Clippy stands for `cargo check` here, since it can deny warnings
//! of our crates (what is unused without a feature) without compiling all others anew.

use std::collections::{BTreeMap, BTreeSet};

use crate::log::Log;
use crate::metadata;
use crate::steps::cargo;

pub(crate) fn step(log: &mut Log) -> Result<(), String> {
    for package in metadata::packages()?
        .iter()
        .filter(|package| package.published)
    {
        for features in choices(&package.features) {
            let mut clippy = cargo("clippy");
            clippy.args(["--locked", "--package", &package.name]);
            clippy.args(["--no-default-features", "--features", &features.join(",")]);
            log.run(clippy.args(["--", "-D", "warnings"]))?;
        }
    }
    Ok(())
}

/// No features, the default ones, each alone, and all: without those that turn on the same as an earlier one.
fn choices(features: &BTreeMap<String, Vec<String>>) -> Vec<Vec<&str>> {
    let names = || features.keys().map(String::as_str);
    let default = names().filter(|name| *name == "default").collect();
    let each = names().map(|name| vec![name]);
    let mut done = BTreeSet::new();
    [vec![], default]
        .into_iter()
        .chain(each)
        .chain([names().collect()])
        .filter(|choice| done.insert(turned_on(choice, features)))
        .collect()
}

/// Everything that a choice turns on, through other features too; the name `default` itself turns on nothing.
fn turned_on<'a>(
    choice: &[&'a str],
    features: &'a BTreeMap<String, Vec<String>>,
) -> BTreeSet<&'a str> {
    let mut found = BTreeSet::new();
    let mut open = choice.to_vec();
    while let Some(name) = open.pop() {
        if found.insert(name) {
            open.extend(features.get(name).into_iter().flatten().map(String::as_str));
        }
    }
    found.remove("default");
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn features(rows: &[(&str, &[&str])]) -> BTreeMap<String, Vec<String>> {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        rows.iter()
            .map(|(name, turns_on)| ((*name).to_owned(), owned(turns_on)))
            .collect()
    }

    #[test]
    fn a_crate_without_features_is_checked_once() {
        assert_eq!(choices(&features(&[])), [[""; 0]]);
    }

    #[test]
    fn choices_that_turn_on_the_same_are_checked_once() {
        let features = features(&[("default", &["tls"]), ("tls", &["dep:rustls"])]);
        assert_eq!(choices(&features), [vec![], vec!["default"]]);
    }

    #[test]
    fn each_feature_is_checked_alone_and_then_all_together() {
        let features = features(&[
            ("default", &["a"]),
            ("a", &[]),
            ("b", &["c"]),
            ("c", &["dep:d"]),
        ]);
        let all = vec!["a", "b", "c", "default"];
        assert_eq!(
            choices(&features),
            [vec![], vec!["default"], vec!["b"], vec!["c"], all]
        );
    }
}
