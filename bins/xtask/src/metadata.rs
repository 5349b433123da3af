//! What `cargo metadata` says of our crates and of what they depend on.

use std::collections::BTreeMap;
use std::process::Stdio;

use serde_json::Value;

use crate::steps::cargo;

/// A crate of this repository.
#[derive(Debug, Default)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) published: bool,
    /// Crates of this repository that it depends on to be built: optional ones too, those of its tests not.
    pub(crate) needs: Vec<String>,
    pub(crate) features: BTreeMap<String, Vec<String>>,
}

/// All members of the workspace.
pub(crate) fn packages() -> Result<Vec<Package>, String> {
    Ok(list(&read(&["--no-deps"])?, "packages")
        .map(package)
        .collect())
}

/// The answer of `cargo metadata`.
pub(crate) fn read(arguments: &[&str]) -> Result<Value, String> {
    let mut command = cargo("metadata");
    command
        .args(["--format-version", "1", "--locked"])
        .args(arguments);
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(format!("cargo metadata: {}", output.status));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| format!("cargo metadata: {error}"))
}

/// A member of `value` as text; empty if there is none.
pub(crate) fn text<'a>(value: &'a Value, member: &str) -> &'a str {
    value[member].as_str().unwrap_or_default()
}

/// A member of `value` as a list; empty if there is none.
pub(crate) fn list<'a>(value: &'a Value, member: &str) -> impl Iterator<Item = &'a Value> {
    value[member].as_array().into_iter().flatten()
}

pub(crate) fn package(value: &Value) -> Package {
    let ours = |dependency: &&Value| dependency["path"].is_string() && dependency["kind"] != "dev";
    let features = value["features"].as_object().into_iter().flatten();
    Package {
        name: text(value, "name").to_owned(),
        // A list of registries, empty for `publish = false`, or null for all registries.
        published: value["publish"].is_null(),
        needs: list(value, "dependencies")
            .filter(ours)
            .map(|it| text(it, "name").to_owned())
            .collect(),
        features: features
            .map(|(name, turns_on)| {
                let turns_on = turns_on
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(Value::as_str);
                (name.clone(), turns_on.map(str::to_owned).collect())
            })
            .collect(),
    }
}
