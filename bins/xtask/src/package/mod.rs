//! What is released. The Debian package is tried in a container that systemd has booted, the container image by reading it.

mod image;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::log::Log;
use crate::metadata;
use crate::steps::cargo;

/// The version of cargo-deb that the package was written for.
const CARGO_DEB: &str = "3.8.0";

/// Where files of the package come from that the program writes itself, below the program's crate.
const GENERATED: &str = "bins/pingexporter/packaging/generated";

/// Those files, and the arguments that print them.
const PAGES: [(&str, &[&str]); 4] = [
    ("pingexporter.1", &["man"]),
    ("pingexporter.bash", &["completions", "bash"]),
    ("_pingexporter", &["completions", "zsh"]),
    ("pingexporter.fish", &["completions", "fish"]),
];

/// Worst exposure that systemd may find in the unit, in tenths.
const EXPOSURE: &str = "20";

/// The machine of the static program, and the variable that says which C compiler is used for it.
const STATIC: &str = "x86_64-unknown-linux-musl";
const STATIC_CC: &str = "CC_x86_64_unknown_linux_musl";

/// What container.sh prints where systemd cannot be booted.
const NO_BOOT: &str = "systemd does not boot here";

/// The directories of the repository.
struct Places {
    root: PathBuf,
    target: PathBuf,
}

impl Places {
    fn new() -> Result<Self, String> {
        let metadata = metadata::read(&["--no-deps"])?;
        let place = |name| PathBuf::from(metadata::text(&metadata, name));
        Ok(Self {
            root: place("workspace_root"),
            target: place("target_directory"),
        })
    }
}

/// How the program is built that is released.
const SHIPPED: [&str; 5] = ["--profile", "dist", "--locked", "--package", "pingexporter"];

/// `cargo xtask package`: what is released, and checksums.
pub(crate) fn package() -> Result<(), String> {
    let places = Places::new()?;
    let log = Log::new("package")?;
    let version = env!("CARGO_PKG_VERSION");
    let changes = fs::read_to_string(places.root.join("CHANGELOG.md")).unwrap_or_default();
    if !changes.contains(&format!("\n## [{version}]")) {
        return Err(format!("CHANGELOG.md has no part for {version}"));
    }
    log.run(cargo("build").args(SHIPPED))?;
    generate(&log, &places, "dist")?;
    let packages = places.target.join("package");
    let _ = fs::remove_dir_all(&packages);
    make(&log, &places, "dist", "1", &packages)?;
    static_program(&log, &places, version, &packages)?;
    let sums = Command::new("sh")
        .args(["-c", "sha256sum *.deb *.tar.gz *.oci.tar | tee SHA256SUMS"])
        .current_dir(&packages)
        .status();
    match sums {
        Ok(status) if status.success() => {}
        other => return Err(format!("cannot write checksums: {other:?}")),
    }
    println!("{}", packages.display());
    Ok(())
}

/// An archive of the program that needs no library of the system, and an image of it.
fn static_program(
    log: &Log,
    places: &Places,
    version: &str,
    packages: &Path,
) -> Result<(), String> {
    let mut build = cargo("build");
    build.args(SHIPPED).args(["--target", STATIC]);
    // What the crates have of C needs no C library's headers of its own.
    if std::env::var_os(STATIC_CC).is_none() && !runs("musl-gcc") {
        build.env(STATIC_CC, "cc");
    }
    log.run(&mut build).map_err(|error| {
        format!("{error}; the static program needs `rustup target add {STATIC}`")
    })?;
    let name = format!("pingexporter-{version}-x86_64-linux-static");
    let directory = packages.join(&name);
    let program = places.target.join(STATIC).join("dist/pingexporter");
    image::make(log, &places.root, &program, "amd64", &name, packages)?;
    let copied = fs::create_dir_all(&directory).and_then(|()| {
        fs::copy(&program, directory.join("pingexporter"))?;
        for file in ["LICENSE", "README.md", "CHANGELOG.md"] {
            fs::copy(places.root.join(file), directory.join(file))?;
        }
        Ok(())
    });
    copied.map_err(|error| format!("cannot write {}: {error}", directory.display()))?;
    log.run(
        Command::new("tar")
            .args(["--owner=0", "--group=0", "--numeric-owner", "-czf"])
            .arg(format!("{name}.tar.gz"))
            .arg(&name)
            .current_dir(packages),
    )?;
    fs::remove_dir_all(&directory).map_err(|error| error.to_string())
}

/// Makes the package twice, with two versions, from the program that the tests use, and tries them.
pub(crate) fn step(log: &mut Log) -> Result<(), String> {
    let places = Places::new()?;
    let unit = places
        .root
        .join("bins/pingexporter/packaging/pingexporter.service");
    let needs = [
        ("systemd-analyze", "systemd"),
        ("systemd-nspawn", "systemd-container"),
    ];
    if let Some((_, package)) = needs.iter().find(|(program, _)| !runs(program)) {
        log.notes.push(format!(
            "The Debian package is not tried: that needs the package {package}."
        ));
        return Ok(());
    }
    log.run(
        Command::new("systemd-analyze")
            .args(["security", "--offline=yes", "--threshold", EXPOSURE])
            .arg(unit),
    )?;
    // With the features of the whole workspace: most of it is there from the tests.
    log.run(cargo("build").args(["--locked", "--workspace", "--bin", "pingexporter"]))?;
    generate(log, &places, "debug")?;
    let packages = places.target.join("package-test");
    let _ = fs::remove_dir_all(&packages);
    let first = make(log, &places, "dev", "1", &packages)?;
    let second = make(log, &places, "dev", "2", &packages)?;
    let program = places.target.join("debug/pingexporter");
    let image = image::make(log, &places.root, &program, "amd64", "test", &packages)?;
    read_image(log, &image)?;
    try_in_container(log, &places, &first, &second)
}

/// Reads an image as a container engine does, checksums included.
fn read_image(log: &mut Log, image: &Path) -> Result<(), String> {
    if !runs("skopeo") {
        log.notes
            .push("The container image is not read: that needs the package skopeo.".to_owned());
        return Ok(());
    }
    let from = format!("oci-archive:{}", image.display());
    let to = format!("dir:{}", image.with_extension("read").display());
    log.run(Command::new("skopeo").args(["--insecure-policy", "copy", &from, &to]))
}

fn runs(program: &str) -> bool {
    let output = Command::new(program).arg("--version").output();
    output.is_ok_and(|output| output.status.success())
}

/// Writes what the program says of itself: its manual page and completions.
fn generate(log: &Log, places: &Places, directory: &str) -> Result<(), String> {
    let program = places.target.join(directory).join("pingexporter");
    let generated = places.root.join(GENERATED);
    fs::create_dir_all(&generated).map_err(|error| error.to_string())?;
    for (name, arguments) in PAGES {
        let output = Command::new(&program)
            .args(arguments)
            .output()
            .map_err(|error| format!("cannot run {}: {error}", program.display()))?;
        if !output.status.success() || output.stdout.is_empty() {
            return Err(format!("pingexporter {arguments:?} printed nothing"));
        }
        fs::write(generated.join(name), output.stdout).map_err(|error| error.to_string())?;
    }
    log.run(Command::new("ls").arg("-l").arg(generated))
}

/// Makes a package of a program that is built already.
fn make(
    log: &Log,
    places: &Places,
    profile: &str,
    revision: &str,
    packages: &Path,
) -> Result<PathBuf, String> {
    fs::create_dir_all(packages).map_err(|error| error.to_string())?;
    let package = packages.join(format!("pingexporter-{revision}.deb"));
    let mut command = Command::new(cargo_deb(log, places)?);
    command
        .args(["--package", "pingexporter", "--no-build", "--locked"])
        .args(["--profile", profile, "--deb-revision", revision])
        .arg("--output")
        .arg(&package)
        .current_dir(&places.root);
    if profile == "dev" {
        command.arg("--no-strip");
    }
    log.run(&mut command)?;
    Ok(package)
}

/// The program cargo-deb, installed below the target directory where it is not there.
fn cargo_deb(log: &Log, places: &Places) -> Result<PathBuf, String> {
    let tools = places.target.join("tools");
    let program = tools.join("bin/cargo-deb");
    if !program.is_file() {
        log.run(
            cargo("install")
                .args(["cargo-deb", "--version", CARGO_DEB, "--locked", "--debug"])
                .arg("--root")
                .arg(&tools)
                .env("CARGO_TARGET_DIR", tools.join("target")),
        )?;
        // Several times as large as the program.
        let _ = fs::remove_dir_all(tools.join("target"));
    }
    Ok(program)
}

fn try_in_container(
    log: &mut Log,
    places: &Places,
    first: &Path,
    second: &Path,
) -> Result<(), String> {
    let directory =
        std::env::temp_dir().join(format!("pingexporter-package-{}", std::process::id()));
    fs::create_dir_all(&directory).map_err(|error| error.to_string())?;
    let scripts = places.root.join("bins/xtask/src/package");
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "sh"])
        .arg(scripts.join("container.sh"))
        .arg(&directory)
        .args([first, second])
        .arg(scripts.join("inside.sh"));
    let result = log.run(&mut command);
    let _ = fs::remove_dir(&directory);
    if result.is_err() && log.text().contains(NO_BOOT) {
        log.notes.push(format!(
            "The Debian package is made, but not installed: {NO_BOOT}."
        ));
        return Ok(());
    }
    result
}
