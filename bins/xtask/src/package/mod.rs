//! What is released. The Debian package is tried in a container that systemd has booted, the container image by reading it.

mod image;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use self::image::Platform;
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

/// A machine that the static program is made for.
struct Machine {
    /// As in the name of the archive.
    name: &'static str,
    /// As in the image.
    platform: Platform,
    /// As rustup calls it.
    target: &'static str,
    /// The compiler of Debian that makes its code on another machine, and the package that brings it. What the crates have of C needs
    /// no header of a C library, so it does not matter for which one it was built.
    compiler: (&'static str, &'static str),
}

const MACHINES: [Machine; 3] = [
    Machine {
        name: "x86_64",
        platform: Platform {
            architecture: "amd64",
            variant: None,
        },
        target: "x86_64-unknown-linux-musl",
        compiler: ("x86_64-linux-gnu-gcc", "gcc"),
    },
    Machine {
        name: "aarch64",
        platform: Platform {
            architecture: "arm64",
            variant: None,
        },
        target: "aarch64-unknown-linux-musl",
        compiler: ("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu"),
    },
    Machine {
        name: "armv7",
        platform: Platform {
            architecture: "arm",
            variant: Some("v7"),
        },
        target: "armv7-unknown-linux-musleabihf",
        compiler: ("arm-linux-gnueabihf-gcc", "gcc-arm-linux-gnueabihf"),
    },
];

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
    let mut missing = Vec::new();
    for machine in &MACHINES {
        match machine.missing() {
            None => static_program(&log, &places, machine, version, &packages)?,
            Some(what) => missing.push(format!("{}: {what}", machine.name)),
        }
    }
    if missing.len() == MACHINES.len() {
        return Err(format!(
            "no static program can be built\n{}",
            missing.join("\n")
        ));
    }
    let sums = Command::new("sh")
        .args(["-c", "sha256sum *.deb *.tar.gz *.oci.tar | tee SHA256SUMS"])
        .current_dir(&packages)
        .status();
    match sums {
        Ok(status) if status.success() => {}
        other => return Err(format!("cannot write checksums: {other:?}")),
    }
    println!("{}", packages.display());
    for line in missing {
        println!("no static program for {line}");
    }
    Ok(())
}

impl Machine {
    /// The one that this program runs on, if it is known.
    fn this() -> Option<&'static Self> {
        let name = std::env::consts::ARCH;
        MACHINES.iter().find(|machine| machine.name == name)
    }

    /// The C compiler for it, and its package.
    fn compiler(&self) -> (&'static str, &'static str) {
        if self.name == std::env::consts::ARCH {
            ("cc", "gcc")
        } else {
            self.compiler
        }
    }

    /// What has to be installed first.
    fn missing(&self) -> Option<String> {
        let asked = ["--print", "target-libdir", "--target", self.target];
        let output = Command::new("rustc").args(asked).output();
        let library = output.map(|it| String::from_utf8_lossy(&it.stdout).trim().to_owned());
        if !library.is_ok_and(|library| Path::new(&library).is_dir()) {
            return Some(format!("that needs `rustup target add {}`", self.target));
        }
        let (program, package) = self.compiler();
        let is_there = std::env::var_os(self.variable("CC")).is_some() || runs(program);
        (!is_there).then(|| format!("that needs {program} of the Debian package {package}"))
    }

    /// The variable by which the compiler (`CC`) is chosen for this machine.
    fn variable(&self, name: &str) -> String {
        format!("{name}_{}", self.target.replace('-', "_"))
    }

    /// A build of the program for it.
    fn build(&self) -> Command {
        let mut build = cargo("build");
        build.args(SHIPPED).args(["--target", self.target]);
        let linker = format!("{}_LINKER", self.variable("CARGO_TARGET").to_uppercase());
        for variable in [self.variable("CC"), linker] {
            if std::env::var_os(&variable).is_none() {
                build.env(variable, self.compiler().0);
            }
        }
        build
    }
}

/// An archive of the program that needs no library of the system, and an image of it.
fn static_program(
    log: &Log,
    places: &Places,
    machine: &Machine,
    version: &str,
    packages: &Path,
) -> Result<(), String> {
    log.run(&mut machine.build())?;
    let name = format!("pingexporter-{version}-{}-linux-static", machine.name);
    let directory = packages.join(&name);
    let program = places.target.join(machine.target).join("dist/pingexporter");
    image::make(
        log,
        &places.root,
        &program,
        &machine.platform,
        &name,
        packages,
    )?;
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
    let platform = &Machine::this().unwrap_or(&MACHINES[0]).platform;
    let image = image::make(log, &places.root, &program, platform, "test", &packages)?;
    read_image(log, &image)?;
    try_in_container(log, &places, &first, &second)
}

/// Reads an image as a container engine does, checksums included, and looks whether it keeps its health check.
fn read_image(log: &mut Log, image: &Path) -> Result<(), String> {
    if !runs("skopeo") {
        log.notes
            .push("The container image is not read: that needs the package skopeo.".to_owned());
        return Ok(());
    }
    let from = format!("oci-archive:{}", image.display());
    let to = format!("dir:{}", image.with_extension("read").display());
    log.run(Command::new("skopeo").args(["--insecure-policy", "copy", &from, &to]))?;
    let read = image.with_extension("read").join("manifest.json");
    let manifest = fs::read_to_string(&read).unwrap_or_default();
    if !manifest.contains(image::MANIFEST) {
        return Err(format!("{}: of another media type", read.display()));
    }
    Ok(())
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
    let version = env!("CARGO_PKG_VERSION");
    // As Debian names packages, and this machine.
    let machine = Machine::this().map_or(std::env::consts::ARCH, |this| this.platform.architecture);
    let name = format!("pingexporter_{version}-{revision}_{machine}.deb");
    let package = packages.join(name);
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
