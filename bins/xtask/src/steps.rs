//! The steps of `cargo xtask test`, and the report of a run: a line each with its time, and a total.

use std::io::Write;
use std::process::Command;
use std::time::Instant;

use crate::log::Log;
use crate::{arrows, counts, features, fuzz, licences, package, packages, tutorials};

/// One check of the repository.
pub(crate) struct Step {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    run: fn(&mut Log) -> Result<(), String>,
}

/// In the order in which they run: what is quick and what often fails comes first.
pub(crate) const STEPS: &[Step] = &[
    Step {
        name: "format",
        about: "The formatting (cargo fmt)",
        run: |log| log.run(cargo("fmt").args(["--all", "--check"])),
    },
    Step {
        name: "arrows",
        about: "Which of our crates depend on which, compared with the table of ARCHITECTURE.md",
        run: arrows::step,
    },
    Step {
        name: "licences",
        about: "Licences and sources of dependencies as deny.toml has them; LICENSE and README.md of ours",
        run: licences::step,
    },
    Step {
        name: "packages",
        about: "Install the programs that tests talk to (root on Debian; otherwise say what is missing)",
        run: packages::step,
    },
    Step {
        name: "clippy",
        about: "Clippy on everything, warnings denied",
        run: |log| {
            let everything = ["--workspace", "--all-targets", "--locked"];
            log.run(
                cargo("clippy")
                    .args(everything)
                    .args(["--", "-D", "warnings"]),
            )
        },
    },
    Step {
        name: "features",
        about: "Each published crate alone: without features, by default, with each feature, with all",
        run: features::step,
    },
    Step {
        name: "fuzz",
        about: "The fuzz targets compile",
        run: fuzz::step,
    },
    Step {
        name: "tests",
        about: "All tests and doc tests",
        run: counts::step,
    },
    Step {
        name: "tutorials",
        about: "The programs of docs/tutorials, built and run outside of the workspace",
        run: tutorials::step,
    },
    Step {
        name: "service",
        about: "The Debian package, installed, started by systemd in its sandbox, upgraded and removed, in a container",
        run: package::step,
    },
    Step {
        name: "docs",
        about: "The API documentation, warnings denied",
        run: |log| {
            let mut doc = cargo("doc");
            doc.args(["--workspace", "--no-deps", "--locked"]);
            log.run(doc.env("RUSTDOCFLAGS", "-D warnings"))
        },
    },
];

/// The steps of these names; `None` if there are no names, or one that is unknown.
pub(crate) fn named(names: &[&str]) -> Option<Vec<&'static Step>> {
    let find = |name: &&str| STEPS.iter().find(|step| step.name == *name);
    let steps: Option<Vec<_>> = names.iter().map(find).collect();
    steps.filter(|steps| !steps.is_empty())
}

/// Runs steps up to the first that fails.
pub(crate) fn run(steps: &[&Step]) -> Result<(), String> {
    let start = Instant::now();
    let mut conclusions = Vec::new();
    let mut result = Ok(());
    for step in steps {
        let mut log = Log::new(step.name)?;
        result = run_one(step, &mut log);
        conclusions.extend(log.conclusion);
        if result.is_err() {
            break;
        }
    }
    println!("{:<10}{:>8.1} s", "total", start.elapsed().as_secs_f64());
    for conclusion in conclusions {
        println!("{conclusion}");
    }
    result
}

fn run_one(step: &Step, log: &mut Log) -> Result<(), String> {
    let start = Instant::now();
    // Seen while the step runs; its time follows on the same line.
    print!("{:<10}", step.name);
    let _ = std::io::stdout().flush();
    let result = (step.run)(log);
    println!("{:>8.1} s", start.elapsed().as_secs_f64());
    for note in &log.notes {
        println!("{note}");
    }
    result.map_err(|error| {
        let output = log.what_matters();
        if !output.is_empty() {
            println!("\n{output}\n");
        }
        format!("{} failed: {error}", step.name)
    })
}

/// A command of the cargo that runs us, as it would be without us: build scripts that look at what cargo says of the package
/// that runs would run again each time.
pub(crate) fn cargo(subcommand: &str) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&*name);
        }
    }
    command.arg(subcommand);
    command
}
