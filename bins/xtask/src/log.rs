//! What the commands of a step print: kept in `target/xtask/STEP.log`, and shown only if the step fails.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// The output of one step.
pub(crate) struct Log {
    path: PathBuf,
    /// Lines to show below the step's own, whether it passes or not.
    pub(crate) notes: Vec<String>,
    /// What to show as the last line of the whole run.
    pub(crate) conclusion: Option<String>,
}

impl Log {
    /// An empty log of the step called `step`.
    pub(crate) fn new(step: &str) -> Result<Self, String> {
        // This program is `target/debug/xtask`, wherever the target directory is.
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        let target = program.ancestors().nth(2).ok_or("no target directory")?;
        let path = target.join("xtask").join(format!("{step}.log"));
        fs::create_dir_all(target.join("xtask"))
            .and_then(|()| File::create(&path))
            .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        Ok(Self {
            path,
            notes: Vec::new(),
            conclusion: None,
        })
    }

    /// Runs a command to its end. Fails if it cannot be started or does not succeed.
    pub(crate) fn run(&self, command: &mut Command) -> Result<(), String> {
        let shown = format!("{command:?}").replace('"', "");
        let cannot = |error| format!("cannot run {shown}: {error}");
        let mut file = OpenOptions::new()
            .append(true)
            .open(&self.path)
            .map_err(cannot)?;
        writeln!(file, "$ {shown}").map_err(cannot)?;
        let status = command
            .stdin(Stdio::null())
            .stderr(file.try_clone().map_err(cannot)?)
            .stdout(file)
            .status()
            .map_err(cannot)?;
        if status.success() {
            Ok(())
        } else {
            Err(format!("{shown}: {status}"))
        }
    }

    /// All that was printed so far.
    pub(crate) fn text(&self) -> String {
        let bytes = fs::read(&self.path).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The same without the lines that tell only that a test passed or a crate was compiled.
    pub(crate) fn what_matters(&self) -> String {
        let text = self.text();
        let matters = |line: &&str| {
            let line = line.trim();
            let noise = ["Compiling ", "Checking ", "Documenting ", "Downloaded "];
            !line.ends_with(" ... ok") && !noise.iter().any(|noise| line.starts_with(noise))
        };
        text.lines().filter(matters).collect::<Vec<_>>().join("\n")
    }
}
