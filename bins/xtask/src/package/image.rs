//! The container image as an OCI archive, made without a container engine.
//!
//! What is in the archive has Docker's media types ("Image Manifest Version 2, Schema 2"), which all engines take as well: those of
//! OCI have no health check, and podman leaves it out of images that use them.
//!
//! What runs in it, and how, is said by the last stage of the Containerfile, which those build who have an engine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Map, Value, json};

use crate::log::Log;

/// Below the repository.
const CONTAINERFILE: &str = "bins/pingexporter/packaging/Containerfile";
const LOOPBACK: &str = "bins/pingexporter/packaging/etc/loopback.json";

const LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
const CONFIG: &str = "application/vnd.docker.container.image.v1+json";
pub(super) const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// Where the last stage begins.
const LAST_STAGE: &str = "FROM scratch";

/// A machine in the words of an image: `amd64`; `arm` and `v7`.
pub(super) struct Platform {
    pub(super) architecture: &'static str,
    pub(super) variant: Option<&'static str>,
}

/// Makes `NAME.oci.tar` in `packages` of a static program, and says where it is.
pub(super) fn make(
    log: &Log,
    root: &Path,
    program: &Path,
    platform: &Platform,
    name: &str,
    packages: &Path,
) -> Result<PathBuf, String> {
    let containerfile = root.join(CONTAINERFILE);
    let text = fs::read_to_string(&containerfile).map_err(|error| cannot(&containerfile, error))?;
    let config = config(&text)?;
    let directory = packages.join(format!("{name}.oci"));
    let _ = fs::remove_dir_all(&directory);
    let layout = Layout {
        log,
        blobs: directory.join("layout/blobs/sha256"),
    };
    fs::create_dir_all(&layout.blobs).map_err(|error| cannot(&layout.blobs, error))?;

    let files = directory.join("files");
    let configs = files.join("etc/pingexporter/configs");
    fs::create_dir_all(&configs)
        .and_then(|()| fs::create_dir_all(files.join("var/lib/pingexporter")))
        .and_then(|()| fs::copy(program, files.join("pingexporter")))
        .and_then(|_| fs::copy(root.join(LOOPBACK), configs.join("loopback.json")))
        .map_err(|error| cannot(&files, error))?;
    let layer = directory.join("layer.tar");
    let members = ["etc", "pingexporter", "var"];
    archive(log, &files, &layer, &members)?;
    let uncompressed = digest(&layer)?;
    log.run(Command::new("gzip").arg("--no-name").arg(&layer))?;
    let layer = layout.add(&directory.join("layer.tar.gz"), LAYER)?;

    let mut config = json!({
        "architecture": platform.architecture, "os": "linux", "config": config,
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{uncompressed}")]},
    });
    if let Some(variant) = platform.variant {
        config["variant"] = json!(variant);
    }
    let config = layout.add_json(&directory.join("config"), &config, CONFIG)?;
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": config, "layers": [layer],
    });
    let mut manifest = layout.add_json(&directory.join("manifest"), &manifest, MANIFEST)?;
    // By this name engines know it once it is loaded.
    let loaded = concat!("pingexporter:", env!("CARGO_PKG_VERSION"));
    manifest["annotations"] = json!({"org.opencontainers.image.ref.name": loaded});
    let index = json!({"schemaVersion": 2, "manifests": [manifest]});
    let whole = directory.join("layout");
    write(&whole.join("index.json"), &index)?;
    write(
        &whole.join("oci-layout"),
        &json!({"imageLayoutVersion": "1.0.0"}),
    )?;
    let image = packages.join(format!("{name}.oci.tar"));
    archive(log, &whole, &image, &["blobs", "index.json", "oci-layout"])?;
    fs::remove_dir_all(&directory).map_err(|error| cannot(&directory, error))?;
    Ok(image)
}

/// The directory in which files are named by their checksums.
struct Layout<'l> {
    log: &'l Log,
    blobs: PathBuf,
}

impl Layout<'_> {
    /// Moves a file into it, and describes it.
    fn add(&self, file: &Path, kind: &str) -> Result<Value, String> {
        let digest = digest(file)?;
        let size = fs::metadata(file).map_err(|error| cannot(file, error))?;
        self.log
            .run(Command::new("mv").arg(file).arg(self.blobs.join(&digest)))?;
        Ok(json!({
            "mediaType": kind, "digest": format!("sha256:{digest}"), "size": size.len(),
        }))
    }

    fn add_json(&self, file: &Path, value: &Value, kind: &str) -> Result<Value, String> {
        write(file, value)?;
        self.add(file, kind)
    }
}

fn write(file: &Path, value: &Value) -> Result<(), String> {
    fs::write(file, value.to_string()).map_err(|error| cannot(file, error))
}

fn cannot(path: &Path, error: std::io::Error) -> String {
    format!("cannot write or read {}: {error}", path.display())
}

/// An archive that is the same whenever it is made.
fn archive(log: &Log, directory: &Path, file: &Path, members: &[&str]) -> Result<(), String> {
    log.run(
        Command::new("tar")
            .args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner"])
            .args(["--mtime=@0", "--mode=u=rwX,go=rX"])
            .arg("--directory")
            .arg(directory)
            .arg("--create")
            .arg("--file")
            .arg(file)
            .args(members),
    )
}

fn digest(file: &Path) -> Result<String, String> {
    let output = Command::new("sha256sum").arg(file).output();
    let output = output.map_err(|error| format!("cannot run sha256sum: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let digest = text.split(' ').next().filter(|digest| digest.len() == 64);
    digest
        .map(str::to_owned)
        .ok_or(format!("no checksum of {}", file.display()))
}

/// How the image runs, from the last stage of a Containerfile.
fn config(containerfile: &str) -> Result<Value, String> {
    let (_, stage) = containerfile
        .split_once(&format!("\n{LAST_STAGE}\n"))
        .ok_or(format!("{CONTAINERFILE} has no line {LAST_STAGE:?}"))?;
    let mut config = Map::new();
    for line in stage.lines().filter(|line| !line.trim().is_empty()) {
        let strange = || format!("{CONTAINERFILE} has a line that no image is made of: {line}");
        let (instruction, rest) = line.split_once(' ').ok_or_else(strange)?;
        let list = |text: &str| serde_json::from_str::<Vec<String>>(text).map_err(|_| strange());
        let (key, value) = match instruction {
            // The files are ours.
            "COPY" => continue,
            "ENV" => ("Env", json!(rest.split(' ').collect::<Vec<_>>())),
            "EXPOSE" => ("ExposedPorts", json!({format!("{rest}/tcp"): {}})),
            "VOLUME" => ("Volumes", json!({rest: {}})),
            "ENTRYPOINT" => ("Entrypoint", json!(list(rest)?)),
            "CMD" => ("Cmd", json!(list(rest)?)),
            "HEALTHCHECK" => {
                let (options, command) = rest.split_once(" CMD ").ok_or_else(strange)?;
                let mut test = vec!["CMD".to_owned()];
                test.extend(list(command)?);
                let mut check = json!({"Test": test});
                for option in options.split(' ') {
                    let (name, value) = option
                        .strip_prefix("--")
                        .and_then(|option| option.split_once('='))
                        .ok_or_else(strange)?;
                    let seconds = value.strip_suffix('s').and_then(|text| text.parse().ok());
                    let seconds: u64 = seconds.ok_or_else(strange)?;
                    let key = match name {
                        "interval" => "Interval",
                        "timeout" => "Timeout",
                        _ => return Err(strange()),
                    };
                    check[key] = json!(seconds * 1_000_000_000);
                }
                ("Healthcheck", check)
            }
            _ => return Err(strange()),
        };
        config.insert(key.to_owned(), value);
    }
    Ok(Value::Object(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_runs_as_the_containerfile_says() {
        let text = include_str!("../../../pingexporter/packaging/Containerfile");
        let config = config(text).unwrap();
        assert_eq!(config["Entrypoint"], json!(["/pingexporter"]));
        assert_eq!(config["Cmd"], json!(["run"]));
        assert_eq!(
            config["Healthcheck"],
            json!({
                "Test": ["CMD", "/pingexporter", "healthcheck"],
                "Interval": 30_000_000_000_u64, "Timeout": 5_000_000_000_u64,
            })
        );
        assert_eq!(config["Volumes"], json!({"/var/lib/pingexporter": {}}));
        assert_eq!(config["ExposedPorts"], json!({"9516/tcp": {}}));
        assert_eq!(config["Env"].as_array().unwrap().len(), 3);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for line in [
            "USER nobody",
            "CMD run",
            "HEALTHCHECK NONE",
            "HEALTHCHECK --retries=3 CMD [\"/pingexporter\"]",
        ] {
            let error = config(&format!("FROM x\n{LAST_STAGE}\n{line}\n")).unwrap_err();
            assert!(error.contains(line), "{error}");
        }
        assert!(config("FROM x\n").is_err());
    }
}
