//! What the tests of this crate share: fixtures, and a catalog with two scrapers.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::path::{Path, PathBuf};

use pe_config::{
    CommonSettings, Diagnostics, Environment, Loaded, ScraperCatalog, SettingsProblem, Sources,
    load,
};

/// Knows `ping`, with `count`, `size` and `interface`, and `tcp`, with `port`.
pub(crate) struct Catalog;

impl ScraperCatalog for Catalog {
    fn names(&self) -> Vec<String> {
        vec!["ping".to_owned(), "tcp".to_owned()]
    }

    fn check(
        &self,
        name: &str,
        settings: &serde_json::Value,
        _: &CommonSettings,
    ) -> Result<(), SettingsProblem> {
        let known: &[&str] = match name {
            "ping" => &["count", "size", "interface"],
            _ => &["port"],
        };
        for (key, value) in settings.as_object().into_iter().flatten() {
            if !known.contains(&key.as_str()) && name == "tcp" {
                let message = format!("unknown field `{key}`, expected `port`");
                return Err(SettingsProblem::whole(message));
            }
            if !known.contains(&key.as_str()) {
                return Err(SettingsProblem::at(
                    format!("/{key}"),
                    format!("unknown key `{key}`"),
                ));
            }
            if key == "size" && value.as_u64().is_none_or(|size| size > 65_507) {
                let message = "size: expected a whole number from 0 to 65507";
                return Err(SettingsProblem::at("/size", message));
            }
        }
        if name == "tcp" && settings.get("port").is_none() {
            return Err(SettingsProblem::whole("`port` is required"));
        }
        Ok(())
    }

    fn label_names(&self, name: &str) -> Vec<String> {
        if name == "tcp" {
            vec!["port".to_owned()]
        } else {
            Vec::new()
        }
    }

    fn repeatable(&self, name: &str) -> bool {
        name == "tcp"
    }
}

/// A file or directory under `fixtures/configs`, as a path that is the same on every machine.
pub(crate) fn fixture(path: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    std::env::set_current_dir(root).unwrap();
    Path::new("fixtures/configs").join(path)
}

/// Sources of a fixture, with nothing of the environment.
pub(crate) fn sources(directory: &str) -> Sources<'static> {
    let mut sources = Sources::new(fixture(directory), &Catalog);
    sources.env = Environment::empty();
    sources
}

/// Loads a fixture without a push configuration.
pub(crate) fn load_dir(directory: &str) -> Result<Loaded, Diagnostics> {
    load(&sources(directory))
}
