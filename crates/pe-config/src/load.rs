//! Loading a whole configuration.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::catalog::ScraperCatalog;
use crate::config::{Config, GroupConfig, PushConfig};
use crate::diagnostic::{Diagnostic, Diagnostics, Severity};
use crate::document::Document;
use crate::environment::Environment;
use crate::group::{self, Context, Intake, Outcome};
use crate::layers::{Overrides, PUSH_SETTINGS};
use crate::report::{Report, Scope};
use crate::targets_file::TargetFiles;
use crate::watched::Watched;
use crate::{across, push, read};

/// Where a configuration comes from.
pub struct Sources<'a> {
    /// Directory of the group files. Every `*.json` file in it is one; subdirectories and files whose
    /// name starts with a dot are left alone.
    pub configs_dir: PathBuf,
    /// The push configuration, if there is one.
    pub push_config: Option<PathBuf>,
    /// Settings from the command line.
    pub overrides: Overrides,
    /// Settings from environment variables.
    pub env: Environment,
    /// The known scrapers.
    pub scrapers: &'a dyn ScraperCatalog,
    /// At a reload, [`Loaded::target_files`] of the load before: a targets file that has vanished or is
    /// out of order keeps its former content then, with a warning.
    pub previous: Option<TargetFiles>,
}

impl<'a> Sources<'a> {
    /// The group files of `configs_dir` and the environment of this process.
    pub fn new(configs_dir: impl Into<PathBuf>, scrapers: &'a dyn ScraperCatalog) -> Self {
        Self {
            configs_dir: configs_dir.into(),
            push_config: None,
            overrides: Overrides::new(),
            env: Environment::process(),
            scrapers,
            previous: None,
        }
    }
}

/// A configuration that was found in order.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// What is unwise in it or was ignored, sorted by file and position.
    pub warnings: Vec<Diagnostic>,
    /// What to watch for changes.
    pub watched: Watched,
    /// The targets files as they are now; for [`Sources::previous`] of the next load.
    pub target_files: TargetFiles,
}

/// Loads a configuration: reads all files, merges the layers, checks everything. May be called again
/// at any time; nothing is kept between calls but what [`Sources`] holds.
///
/// # Errors
/// Every problem of every file. The configuration that runs, if any, is best left as it is.
pub fn load(sources: &Sources<'_>) -> Result<Loaded, Diagnostics> {
    let report = Report::default();
    sources.env.report_unknown(&report);
    sources.overrides.report_unknown(&report);
    let context = Context {
        env: &sources.env,
        overrides: &sources.overrides,
        scrapers: sources.scrapers,
        previous: sources.previous.as_ref(),
    };
    let mut intake = Intake::default();
    let push = load_push(sources, &context, &report, &mut intake.watched);
    intake.watched.directories.push(sources.configs_dir.clone());
    let documents: Vec<Document> = group_files(sources, &report)
        .iter()
        .filter_map(|path| {
            intake.watched.files.push(path.clone());
            open(path, &report)
        })
        .collect();
    let mut outcomes: Vec<(Scope<'_, '_>, Outcome)> = Vec::with_capacity(documents.len());
    for document in &documents {
        let scope = Scope {
            report: &report,
            document,
        };
        match document.parse() {
            Ok(root) => {
                let outcome = group::read(scope, &root, &context, &mut intake);
                outcomes.push((scope, outcome));
            }
            Err(problem) => report.push(problem),
        }
    }
    across::report_shared_ids(&outcomes);
    if let Some(push) = &push {
        across::warn_many_devices(&outcomes, push, &sources.configs_dir, &report);
        across::warn_shared_devices(&outcomes, push);
    }
    let groups: Vec<GroupConfig> = outcomes
        .into_iter()
        .filter_map(|(_, outcome)| outcome.group)
        .collect();
    let Intake {
        mut watched,
        target_files,
    } = intake;
    watched.tidy();
    let failed = report.errors() > 0;
    let diagnostics = Diagnostics::new(report.into_vec(), watched.clone());
    if failed {
        return Err(diagnostics);
    }
    let config = Config { push, groups };
    Ok(Loaded {
        config,
        warnings: diagnostics.into_vec(),
        watched,
        target_files,
    })
}

/// Reads a file into a document; reports why it cannot be.
fn open(path: &Path, report: &Report) -> Option<Document> {
    let read = read::regular_file(path).map_err(|error| {
        Diagnostic::whole_file(Severity::Error, path, format!("the file {error}"), None)
    });
    read.and_then(|bytes| Document::new(path, bytes))
        .map_err(|problem| report.push(problem))
        .ok()
}

fn load_push(
    sources: &Sources<'_>,
    context: &Context<'_>,
    report: &Report,
    watched: &mut Watched,
) -> Option<PushConfig> {
    let Some(path) = &sources.push_config else {
        let by_env = sources
            .env
            .text(&PUSH_SETTINGS.variable("ip_pushgateway"), report);
        if by_env.is_none() && !sources.overrides.has("push", "ip_pushgateway") {
            return None;
        }
        let document = Document::from_text(Path::new("environment"), String::new());
        let scope = Scope {
            report,
            document: &document,
        };
        return push::read(scope, None, context, &mut watched.files);
    };
    watched.files.push(path.clone());
    let document = open(path, report)?;
    let root = document
        .parse()
        .map_err(|problem| report.push(problem))
        .ok()?;
    push::read(
        Scope {
            report,
            document: &document,
        },
        Some(&root),
        context,
        &mut watched.files,
    )
}

/// The group files, sorted by name.
fn group_files(sources: &Sources<'_>, report: &Report) -> Vec<PathBuf> {
    let directory = &sources.configs_dir;
    let whole = |message: String, hint: Option<&str>| {
        let hint = hint.map(str::to_owned);
        report.push(Diagnostic::whole_file(
            Severity::Error,
            directory,
            message,
            hint,
        ));
    };
    if std::fs::metadata(directory).is_ok_and(|metadata| !metadata.is_dir()) {
        let hint = "give the directory that holds the group files";
        whole("not a directory".to_owned(), Some(hint));
        return Vec::new();
    }
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) => {
            whole(format!("the directory {}", read::explain(&error)), None);
            return Vec::new();
        }
    };
    let mut files = Vec::new();
    for entry in entries {
        match entry {
            Ok(entry) => files.push(entry.path()),
            Err(error) => whole(format!("the directory {}", read::explain(&error)), None),
        }
    }
    files.retain(|path| is_group_file(path) && !is_same(path, sources.push_config.as_deref()));
    if files.is_empty() {
        let hint = "each `*.json` file in it describes a group of devices";
        whole("no *.json file in this directory".to_owned(), Some(hint));
    }
    files.sort();
    files
}

/// Whether the shell's `*.json` would match the name of `path`.
fn is_group_file(path: &Path) -> bool {
    let hidden = path
        .file_name()
        .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    path.extension() == Some(OsStr::new("json")) && !hidden
}

fn is_same(path: &Path, other: Option<&Path>) -> bool {
    let Some(other) = other else { return false };
    match (path.canonicalize(), other.canonicalize()) {
        (Ok(path), Ok(other)) => path == other,
        _ => false,
    }
}
