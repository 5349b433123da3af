//! Devices from Prometheus `file_sd` files: which files there are, and what is in one.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use glob::{MatchOptions, Pattern};
use jsonc_parser::ast::Value;

use crate::diagnostic::{Diagnostic, Severity};
use crate::document::Document;
use crate::fields::{self, Fields, found, start};
use crate::labels;
use crate::read;
use crate::report::{Report, Scope};
use crate::schema::TARGET_KEYS;
use crate::target::{self, TargetSpec};

/// The label of a target that names the device.
const DEVICE_LABEL: &str = "device";

/// How a pattern matches a file name, as the shell does it: `*` matches no leading dot.
const MATCHING: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: true,
};

/// The targets files of a configuration, each with its text as it was when the file was last in order.
/// Given back to the next load as [`Sources::previous`](crate::Sources::previous), they stand in for files
/// that have vanished or are half written. Cheap to clone.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct TargetFiles {
    texts: Arc<BTreeMap<PathBuf, Arc<str>>>,
}

impl TargetFiles {
    /// Paths of the files.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.texts.keys().map(PathBuf::as_path)
    }

    /// The text of the file at `path`.
    pub(crate) fn text(&self, path: &Path) -> Option<&Arc<str>> {
        self.texts.get(path)
    }

    /// Takes up the text of a file; shares it with `previous` where it is still the same.
    pub(crate) fn insert(&mut self, path: &Path, text: &str, previous: Option<&Self>) {
        let former = previous.and_then(|previous| previous.text(path));
        let shared = former.filter(|former| &***former == text).cloned();
        Arc::make_mut(&mut self.texts)
            .insert(path.to_owned(), shared.unwrap_or_else(|| text.into()));
    }
}

impl fmt::Debug for TargetFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.texts.keys()).finish()
    }
}

/// An entry of `targets_files`: a path with perhaps `*`, `?` or `[…]` in the file name.
#[derive(Debug)]
pub(crate) struct FilePattern {
    directory: PathBuf,
    name: String,
    /// `None` when the name is literal.
    pattern: Option<Pattern>,
}

impl FilePattern {
    /// Parses `text`, relative to the directory `base`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn parse(base: &Path, text: &str) -> Result<Self, String> {
        let path = base.join(text);
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default()
            .to_owned();
        let directory = path.parent().map(Path::to_owned).unwrap_or_default();
        let is_wild = |text: &str| text.contains(['*', '?', '[']);
        if text
            .rsplit_once('/')
            .is_some_and(|(parent, _)| is_wild(parent))
        {
            return Err(
                "wildcards are possible in the file name only, not in a directory".to_owned(),
            );
        }
        if !name.ends_with(".json") {
            return Err("the name of a targets file ends in `.json`".to_owned());
        }
        let pattern = match is_wild(&name) {
            true => Some(Pattern::new(&name).map_err(|error| format!("bad pattern: {error}"))?),
            false => None,
        };
        Ok(Self {
            directory,
            name,
            pattern,
        })
    }

    /// Directory in which the files are.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The files, sorted: those on the disk and those among `previous`, which may have vanished. A
    /// literal name is always one of them.
    ///
    /// # Errors
    /// The directory cannot be listed, and none of `previous` matches.
    pub(crate) fn files(&self, previous: Option<&TargetFiles>) -> std::io::Result<Vec<PathBuf>> {
        let Some(pattern) = &self.pattern else {
            return Ok(vec![self.directory.join(&self.name)]);
        };
        let matches = |path: &Path| {
            let name = path.file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| pattern.matches_with(name, MATCHING))
        };
        let mut files: BTreeSet<PathBuf> = previous
            .into_iter()
            .flat_map(TargetFiles::paths)
            .filter(|path| path.parent() == Some(&self.directory) && matches(path))
            .map(Path::to_owned)
            .collect();
        let here = match self.directory.as_os_str().is_empty() {
            true => Path::new("."),
            false => &self.directory,
        };
        match std::fs::read_dir(here) {
            Ok(entries) => files.extend(
                entries
                    .filter_map(|entry| Some(self.directory.join(entry.ok()?.file_name())))
                    .filter(|path| matches(path)),
            ),
            Err(error) if files.is_empty() => return Err(read::explain(&error)),
            Err(_) => {}
        }
        Ok(files.into_iter().collect())
    }
}

/// Opens a targets file: as it is, or, where it is not in order, as it was in `previous`. Reports what is
/// not in order: as a warning where the former content stands in, else as an error.
pub(crate) fn open(
    path: &Path,
    report: &Report,
    previous: Option<&TargetFiles>,
) -> Option<Document> {
    let problems = Report::default();
    let document = read::regular_file(path)
        .map_err(|error| {
            let message = format!("the targets file {error}");
            Diagnostic::whole_file(Severity::Error, path, message, None)
        })
        .and_then(|bytes| Document::new(path, bytes));
    match document {
        Ok(document) => {
            check(&document, &problems);
            if problems.errors() == 0 {
                return Some(document);
            }
        }
        Err(problem) => problems.push(problem),
    }
    let former = previous.and_then(|previous| previous.text(path));
    for mut problem in problems.into_vec() {
        if former.is_some() {
            problem.severity = Severity::Warning;
            problem
                .message
                .push_str("; the former content of the file stays in use");
        }
        report.push(problem);
    }
    former.map(|text| Document::from_text(path, text.to_string()))
}

/// Reports every error of a targets file.
fn check(document: &Document, report: &Report) {
    match document.parse() {
        Ok(root) => {
            let _ = read_groups(Scope { report, document }, &root);
        }
        Err(problem) => report.push(problem),
    }
}

/// Targets that share labels.
pub(crate) struct TargetGroup<'v> {
    /// The targets, each with where it was written.
    pub(crate) targets: Vec<(TargetSpec, usize)>,
    /// Name of the devices, where a label gives it.
    pub(crate) device: Option<&'v str>,
    /// Labels of the devices, each with where it was written.
    pub(crate) labels: Vec<(&'v str, &'v str, usize)>,
}

/// Reads the groups of a targets file; reports errors, and warns of labels that are not used.
pub(crate) fn read_groups<'v>(scope: Scope<'_, '_>, root: &'v Value<'_>) -> Vec<TargetGroup<'v>> {
    let mut unused = BTreeMap::new();
    let groups = fields::list(scope, root, "the targets file")
        .unwrap_or_default()
        .iter()
        .filter_map(|value| read_group(scope, value, &mut unused))
        .collect();
    for (name, at) in unused {
        let message = format!("the label `{name}` is set by PingExporter; this one is not used");
        let hint = "rename the label to keep its value; a label `device` names the device";
        scope.warn(at, message, hint.to_owned());
    }
    groups
}

fn read_group<'v>(
    scope: Scope<'_, '_>,
    value: &'v Value<'_>,
    unused: &mut BTreeMap<&'v str, usize>,
) -> Option<TargetGroup<'v>> {
    let fields = Fields::open(scope, value, "the target group", &TARGET_KEYS)?;
    let mut group = TargetGroup {
        targets: Vec::new(),
        device: None,
        labels: Vec::new(),
    };
    if let Some(targets) = fields.require(scope, "targets") {
        let targets = fields::list(scope, targets, "targets").unwrap_or_default();
        group.targets.reserve_exact(targets.len());
        for target in targets {
            let Some(text) = fields::text(scope, target, "a target") else {
                continue;
            };
            match target::parse(text) {
                Ok(TargetSpec::Many(_)) => {
                    let message = format!("`{text}` stands for several addresses");
                    let hint =
                        "a target is one address or host name; a subnet or range goes into `ip`";
                    scope.error_hint(start(target), message, hint.to_owned());
                }
                Ok(spec) => group.targets.push((spec, start(target))),
                Err(problem) => scope.error_hint(start(target), problem.message, problem.hint),
            }
        }
    }
    let Some(value) = fields.get("labels") else {
        return Some(group);
    };
    let Value::Object(object) = value else {
        let message = format!("labels: found {}, expected an object", found(value));
        scope.error(start(value), message);
        return None;
    };
    fields::report_repeated(scope, object);
    for property in &object.properties {
        let name = property.name.as_str();
        let at = start(&property.name);
        let Value::StringLit(literal) = &property.value else {
            let found = found(&property.value);
            let message = format!("label `{name}`: found {found}, expected a string");
            scope.error(start(&property.value), message);
            continue;
        };
        let text = literal.value.as_ref();
        if name.starts_with("__") {
            // As in Prometheus, these are for service discovery itself.
        } else if name == DEVICE_LABEL {
            if text.trim().is_empty() {
                scope.error(start(&property.value), "label `device` is empty");
            }
            group.device = Some(text);
        } else if labels::RESERVED.contains(&name) {
            unused.entry(name).or_insert(at);
        } else if let Some(message) = labels::refuse_name(name) {
            scope.error_hint(at, message, labels::name_hint(name));
        } else {
            group.labels.push((name, text, at));
        }
    }
    Some(group)
}
