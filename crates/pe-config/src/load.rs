//! Loading a whole configuration: which files there are, and what shows only when all of them are seen together.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};

use jsonc_parser::ast;
use pe_scrape::{
    Checks, Config, Diagnostic, Diagnostics, Group, ScraperRegistry, Severity, SinkConfig,
    SinkRegistry,
};

use crate::file::{DiagnosticsBuilder, Document, Scope, Syntax, Watched, explain, read_document};
use crate::group::{self, Intake, ParsedGroup, TargetFiles};
use crate::layers::{Environment, Layers, Overrides, Section};
use crate::push::{self, ParsedSink};

/// Where a configuration comes from.
#[non_exhaustive]
pub struct Sources<'a> {
    /// Directory of the group files. Every `*.json` file in it is one; subdirectories and files whose name starts with a
    /// dot are left alone.
    pub configs_dir: PathBuf,
    /// The push configuration, if there is one.
    pub push_config: Option<PathBuf>,
    /// Settings from the command line.
    pub overrides: Overrides,
    /// Settings from environment variables.
    pub env: Environment,
    /// The scrapers that files may name.
    pub scrapers: &'a ScraperRegistry,
    /// The sinks that the push configuration may name.
    pub sinks: &'a SinkRegistry,
    /// At a reload, [`Loaded::target_files`] of the load before: a targets file that has vanished or is out of order keeps
    /// its former content then, with a warning.
    pub previous: Option<TargetFiles>,
}

impl<'a> Sources<'a> {
    /// The group files of `configs_dir` and the environment of this process.
    pub fn new(
        configs_dir: impl Into<PathBuf>,
        scrapers: &'a ScraperRegistry,
        sinks: &'a SinkRegistry,
    ) -> Self {
        Self {
            configs_dir: configs_dir.into(),
            push_config: None,
            overrides: Overrides::new(),
            env: Environment::process(),
            scrapers,
            sinks,
            previous: None,
        }
    }
}

/// A configuration that was found in order.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Loaded {
    /// The configuration. Groups are in the order of their files' names.
    pub config: Config,
    /// What is unwise in it, was ignored or is good to know, sorted by file and position.
    pub warnings: Diagnostics,
    /// What to watch for changes.
    pub watched: Watched,
    /// The targets files as they are now; for [`Sources::previous`] of the next load.
    pub target_files: TargetFiles,
}

/// Why a configuration cannot be used. Shown as one problem after the other.
#[derive(Clone)]
#[non_exhaustive]
pub struct LoadError {
    /// Every problem of every file, warnings too, sorted by file and position.
    pub diagnostics: Diagnostics,
    /// What to watch for changes.
    pub watched: Watched,
}

pe_scrape::debug_with_causes!(LoadError);

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.diagnostics.fmt(f)
    }
}

impl std::error::Error for LoadError {}

/// Loads a configuration: reads all files, merges the layers, checks everything. May be called again at any time; nothing
/// is kept between calls but what [`Sources`] holds.
///
/// # Errors
/// [`LoadError`] with every problem of every file. The configuration that runs, if any, is best left as it is.
pub fn load(sources: &Sources<'_>) -> Result<Loaded, LoadError> {
    let found = DiagnosticsBuilder::default();
    let (env, overrides) = (&sources.env, &sources.overrides);
    env.report_unknown(sources.sinks, &found);
    overrides.report_unknown(sources.sinks, &found);
    let mut intake = Intake {
        watched: Watched::default(),
        target_files: TargetFiles::default(),
        checks: Checks::new(sources.scrapers),
    };

    let layers = Layers::new(Section::push(sources.sinks), env, overrides, &found);
    let push = PushDocument::open(sources, &layers, &found, &mut intake.watched);
    let root = push.as_ref().and_then(|push| push.parse(&found));
    let mut parsed_push = push::Parsed::default();
    if let Some(push) = push.as_ref().filter(|push| root.is_some() || !push.is_file) {
        let context = push::Context {
            layers: &layers,
            registry: sources.sinks,
            env,
        };
        let root = root.as_ref().map(Syntax::new);
        let files = &mut intake.watched.files;
        parsed_push = push::read(push.scope(&found), root, &context, files);
    }
    let push::Parsed { sinks, external } = parsed_push;

    let layers = Layers::new(Section::conf(), env, overrides, &found);
    let context = group::Context {
        conf: &layers,
        scrapers: sources.scrapers,
        previous: sources.previous.as_ref(),
    };
    let configs_dir = sources.configs_dir.clone();
    intake.watched.directories.push(configs_dir);
    let documents: Vec<Document> = group_files(sources, &found)
        .iter()
        .filter_map(|path| {
            intake.watched.files.push(path.clone());
            read_document(path, &found)
        })
        .collect();
    let mut parsed: Vec<(Scope<'_, '_>, ParsedGroup)> = Vec::with_capacity(documents.len());
    for document in &documents {
        let scope = Scope {
            found: &found,
            document,
        };
        if let Some(root) = scope.parse() {
            let group = group::read(scope, Syntax::new(&root), &context, &mut intake);
            parsed.push((scope, group));
        }
    }
    report_shared_names(&parsed);
    let (places, groups): (Vec<_>, Vec<Group>) = parsed
        .into_iter()
        .filter_map(|(scope, parsed)| Some(((scope, parsed.jobs_at), parsed.group?)))
        .unzip();
    if let Some(push) = &push {
        let scope = push.scope(&found);
        external.refuse_shared(scope, &groups, &intake.checks);
        review(sources.sinks, scope, &sinks, &places, &groups);
    }
    let sinks: Vec<SinkConfig> = sinks.into_iter().map(|sink| sink.config).collect();
    let Intake {
        mut watched,
        target_files,
        ..
    } = intake;
    watched.tidy();
    drop(places);
    let failed = found.errors() > 0;
    let diagnostics = found.build();
    if failed {
        return Err(LoadError {
            diagnostics,
            watched,
        });
    }
    Ok(Loaded {
        config: Config::new(groups, sinks),
        warnings: diagnostics,
        watched,
        target_files,
    })
}

/// The push configuration before it is parsed.
struct PushDocument {
    document: Document,
    /// Whether there is a file; else variables and flags say everything, and the document is empty.
    is_file: bool,
}

impl PushDocument {
    fn open(
        sources: &Sources<'_>,
        layers: &Layers,
        found: &DiagnosticsBuilder,
        watched: &mut Watched,
    ) -> Option<Self> {
        if let Some(path) = &sources.push_config {
            watched.files.push(path.clone());
            let document = read_document(path, found)?;
            return Some(Self {
                document,
                is_file: true,
            });
        }
        let document = || Document::from_text(Path::new("environment"), String::new());
        layers.set(push::HOST.name).then(|| Self {
            document: document(),
            is_file: false,
        })
    }

    fn parse<'d>(&'d self, found: &DiagnosticsBuilder) -> Option<ast::Value<'d>> {
        self.is_file.then(|| self.scope(found).parse()).flatten()
    }

    fn scope<'r, 'd>(&'d self, found: &'r DiagnosticsBuilder) -> Scope<'r, 'd> {
        Scope {
            found,
            document: &self.document,
        }
    }
}

/// Reports group names that more than one file has.
fn report_shared_names(parsed: &[(Scope<'_, '_>, ParsedGroup)]) {
    let mut first: HashMap<&str, String> = HashMap::new();
    for (scope, group) in parsed {
        let Some((name, at)) = &group.prom_id else {
            continue;
        };
        if let Some(location) = first.get(name.as_str()) {
            let message = format!("prom_id `{name}` is already used at {location}");
            let hint = "each file needs a prom_id of its own";
            scope.error(*at, message, hint.to_owned());
        } else {
            first.insert(name, scope.location(*at));
        }
    }
}

/// Warns of what the sinks find unwise, about their settings or at the `jobs` of a group.
fn review(
    registry: &SinkRegistry,
    scope: Scope<'_, '_>,
    sinks: &[ParsedSink<'_, '_>],
    places: &[(Scope<'_, '_>, usize)],
    groups: &[Group],
) {
    for sink in sinks.iter().filter(|sink| sink.sound) {
        for remark in registry.review(&sink.config, groups) {
            match remark.group.and_then(|group| places.get(group)) {
                Some((scope, jobs_at)) => scope.problem_at(*jobs_at, remark.problem),
                None => sink.tell(scope, remark.problem),
            }
        }
    }
}

/// The group files, sorted by name.
fn group_files(sources: &Sources<'_>, found: &DiagnosticsBuilder) -> Vec<PathBuf> {
    let directory = &sources.configs_dir;
    let whole = |message: String, hint: Option<&str>| {
        let hint = hint.map(str::to_owned);
        found.push(Diagnostic::whole_file(
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
            whole(format!("the directory {}", explain(&error)), None);
            return Vec::new();
        }
    };
    let mut files = Vec::new();
    for entry in entries {
        match entry {
            Ok(entry) => files.push(entry.path()),
            Err(error) => whole(format!("the directory {}", explain(&error)), None),
        }
    }
    let push_config = sources.push_config.as_ref();
    let push_config = push_config.and_then(|path| path.canonicalize().ok());
    let is_push_config =
        |path: &Path| push_config.is_some() && path.canonicalize().ok() == push_config;
    files.retain(|path| is_group_file(path) && !is_push_config(path));
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
