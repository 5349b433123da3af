//! Builds and runs the tutorials of docs/tutorials as a reader would: outside of the workspace, from the page alone.
//!
//! Marks in the pages, which a reader does not see, say what a code block is: `<!-- file: NAME -->` a file, `<!-- run -->` a
//! command, `<!-- expect -->` lines that the command before has to print, each as a part of a line. Dependencies on our crates
//! are those of a published release in the pages; here they are patched with the crates of this checkout.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::log::Log;
use crate::metadata;

/// Pages that others build on come first.
const PAGES: &[&str] = &["embed", "scraper", "agent", "sink"];

/// What a page asks for, in its order.
#[derive(Debug, PartialEq)]
enum Part {
    File(String, String),
    Run(String),
    Expect(Vec<String>),
}

pub(crate) fn step(log: &mut Log) -> Result<(), String> {
    let metadata = metadata::read(&["--no-deps"])?;
    let root = Path::new(metadata::text(&metadata, "workspace_root"));
    let target = Path::new(metadata::text(&metadata, "target_directory"));
    // Below the target directory the pages would be in the workspace.
    let place = std::env::temp_dir().join(format!("pingexporter-tutorials-{}", std::process::id()));
    let lock = fs::read_to_string(root.join("Cargo.lock")).unwrap_or_default();
    let _ = fs::remove_dir_all(&place);
    write(&place.join(".cargo/config.toml"), &patches(&metadata))?;
    for page in PAGES {
        let path = root.join(format!("docs/tutorials/{page}.md"));
        let text = fs::read_to_string(&path)
            .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        let here = place.join(page);
        // The versions of dependencies are those of the workspace.
        write(&here.join("Cargo.lock"), &lock)?;
        let mut output = String::new();
        for part in parts(&text)? {
            match part {
                Part::File(name, text) => write(&here.join(name), &text)?,
                Part::Run(command) => {
                    let before = log.text().len();
                    let mut shell = Command::new("sh");
                    shell.args(["-e", "-c", &command]).current_dir(&here);
                    // With the workspace's debug information, what has the same features is there already.
                    shell.env("CARGO_TARGET_DIR", target);
                    shell.env("CARGO_PROFILE_DEV_DEBUG", "line-tables-only");
                    log.run(&mut shell)?;
                    output = log.text()[before..].to_owned();
                }
                Part::Expect(lines) => {
                    let missing = lines.iter().find(|line| !output.contains(line.as_str()));
                    if let Some(line) = missing {
                        return Err(format!("{page}.md promises {line:?}"));
                    }
                }
            }
        }
    }
    let _ = fs::remove_dir_all(&place);
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    let directory = path.parent().unwrap_or(path);
    fs::create_dir_all(directory)
        .and_then(|()| fs::write(path, text))
        .map_err(|error| format!("cannot write {}: {error}", path.display()))
}

/// A configuration by which cargo takes our crates from this checkout.
fn patches(metadata: &Value) -> String {
    let packages = metadata::list(metadata, "packages").filter(|it| it["publish"].is_null());
    let patches = packages.filter_map(|package| {
        let manifest = Path::new(metadata::text(package, "manifest_path"));
        let directory = manifest.parent()?.display();
        let name = metadata::text(package, "name");
        Some(format!("{name} = {{ path = \"{directory}\" }}\n"))
    });
    format!("[patch.crates-io]\n{}", patches.collect::<String>())
}

fn parts(page: &str) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        let Some(mark) = line
            .strip_prefix("<!-- ")
            .and_then(|mark| mark.strip_suffix(" -->"))
        else {
            continue;
        };
        if !lines.next().is_some_and(|line| line.starts_with("```")) {
            return Err(format!("no code block follows {line}"));
        }
        let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        parts.push(match mark.split_once(": ") {
            Some(("file", name)) => Part::File(name.to_owned(), block.join("\n") + "\n"),
            None if mark == "run" => Part::Run(block.join("\n")),
            None if mark == "expect" => {
                Part::Expect(block.iter().map(ToString::to_string).collect())
            }
            _ => return Err(format!("unknown mark {line}")),
        });
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marked_blocks_are_taken_in_order() {
        let page = "# A\n\n<!-- file: a/b.txt -->\n```text\none\ntwo\n```\n\n```sh\nnot marked\n```\n\
                    <!-- run -->\n```sh\ncat a/b.txt\n```\n<!-- expect -->\n```text\ntwo\n```\n";
        let expected = vec![
            Part::File("a/b.txt".into(), "one\ntwo\n".into()),
            Part::Run("cat a/b.txt".into()),
            Part::Expect(vec!["two".into()]),
        ];
        assert_eq!(parts(page), Ok(expected));
        assert!(parts("<!-- run -->\ntext\n").is_err());
        assert!(parts("<!-- runn -->\n```\n```\n").is_err());
    }
}
