//! The documentation points to things that exist, and its examples are accepted.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use common::{PROGRAM, fixture};

fn root() -> PathBuf {
    fixture("..").canonicalize().unwrap()
}

/// The pages at the root, those of the crates, and all below docs.
fn pages() -> Vec<PathBuf> {
    let below = |directory: &str| fs::read_dir(root().join(directory)).unwrap();
    let crates = ["crates", "bins"].into_iter().flat_map(below);
    let crates = crates.map(|entry| entry.unwrap().path().join("README.md"));
    let mut pages: Vec<PathBuf> = crates.filter(|page| page.exists()).collect();
    let files = below("").map(|entry| entry.unwrap().path());
    pages.extend(files.filter(|path| path.extension().is_some_and(|it| it == "md")));
    let mut directories = vec![root().join("docs")];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                pages.push(path);
            }
        }
    }
    pages
}

/// The targets of a page's links, without code blocks.
fn links(text: &str) -> Vec<String> {
    let mut links = Vec::new();
    let mut code = false;
    for line in text.lines() {
        code ^= line.trim_start().starts_with("```");
        let mut rest = line;
        while !code && let Some((_, after)) = rest.split_once("](") {
            let (target, after) = after.split_once(')').unwrap();
            links.push(target.to_owned());
            rest = after;
        }
    }
    links
}

/// The anchors of a page's headings, as they are made on code hosts.
fn anchors(text: &str) -> Vec<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| {
        let heading = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = heading
            .chars()
            .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(anchor).collect()
}

#[test]
fn links_lead_somewhere() {
    let mut broken = Vec::new();
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        for link in links(&text) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let (path, anchor) = link
                .split_once('#')
                .map_or((link.as_str(), None), |(p, a)| (p, Some(a)));
            let target = if path.is_empty() {
                page.clone()
            } else {
                page.parent().unwrap().join(path)
            };
            let found = target.exists()
                && anchor.is_none_or(|anchor| {
                    fs::read_to_string(&target)
                        .is_ok_and(|text| anchors(&text).iter().any(|a| a == anchor))
                });
            if !found {
                broken.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn whole_files_in_the_guide_are_accepted() {
    let guide = fs::read_to_string(root().join("docs/guide.md")).unwrap();
    let blocks = guide
        .split("```json\n")
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap());
    let files: Vec<&str> = blocks.filter(|block| block.starts_with('{')).collect();
    assert!(files.len() >= 3);
    let directory = tempfile::tempdir().unwrap();
    let configs = directory.path().join("configs");
    fs::create_dir(&configs).unwrap();
    let mut command = Command::new(PROGRAM);
    command.arg("check").arg("--configs").arg(&configs);
    for (number, file) in files.iter().enumerate() {
        if file.contains("\"jobs\"") {
            fs::write(configs.join(format!("{number}.json")), file).unwrap();
        } else {
            let password = directory.path().join("password");
            fs::write(&password, "secret\n").unwrap();
            let push = directory.path().join("push.json");
            let file = file.replace("/etc/pingexporter/password", password.to_str().unwrap());
            fs::write(&push, file).unwrap();
            command.arg("--push-config").arg(push);
        }
    }
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn the_shipped_example_is_accepted() {
    let configs = root().join("examples/configs");
    let output = Command::new(PROGRAM)
        .args(["check", "--configs"])
        .arg(configs)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
