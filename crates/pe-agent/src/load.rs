//! From files to a configuration, with the scrapers and sinks that this agent has.

use pe_config::{Environment, LoadError, Loaded, Overrides, Sources, TargetFiles};
use pe_scrape::{Diagnostic, Diagnostics, ScraperRegistry, Severity, SinkRegistry};
use tracing::warn;

use crate::cli::{self, FileArgs};
use crate::logging::FILTER_VARIABLE;

/// Reads the configuration that the command line names, again and again.
#[derive(Clone)]
pub(crate) struct Loader {
    pub(crate) files: FileArgs,
    pub(crate) scrapers: ScraperRegistry,
    pub(crate) sinks: SinkRegistry,
}

impl Loader {
    /// Reads all files. At a reload `previous` keeps targets files that are out of order as they were.
    ///
    /// # Errors
    /// Every problem of every file.
    pub(crate) fn load(&self, previous: Option<TargetFiles>) -> Result<Loaded, LoadError> {
        let files = &self.files;
        let mut sources = Sources::new(&files.configs, &self.scrapers, &self.sinks);
        sources.push_config.clone_from(&files.push_config);
        sources.previous = previous;
        sources.env = Environment::process()
            .with_others(cli::variables())
            .with_others([FILTER_VARIABLE]);
        sources.overrides = files.set.iter().fold(Overrides::new(), |overrides, set| {
            overrides.set(format!("--set {}", set.key), &set.key, &set.value)
        });
        pe_config::load(&sources)
    }
}

/// Logs what is unwise in a configuration. Notes are for `check`.
pub(crate) fn warn_about(warnings: &Diagnostics) {
    for warning in warnings
        .iter()
        .filter(|found| found.severity == Severity::Warning)
    {
        let Diagnostic { message, hint, .. } = warning;
        warn!(
            location = location(warning),
            problem = message,
            hint,
            "the configuration can be used, but something in it is risky or has no effect"
        );
    }
}

/// `FILE:LINE:COL`, or the name of what is in no file.
fn location(diagnostic: &Diagnostic) -> String {
    let file = diagnostic.file.display();
    match diagnostic.line {
        0 => file.to_string(),
        line => format!("{file}:{line}:{}", diagnostic.col),
    }
}
