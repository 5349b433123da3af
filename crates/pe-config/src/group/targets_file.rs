//! Devices from Prometheus `file_sd` files: which files there are, and what is in one.
//!
//! A file is read and parsed once. At a reload, the content that it had when it was last in order stands in for a file
//! that has vanished or is out of order.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use glob::{MatchOptions, Pattern};
use pe_scrape::settings::{Key, Node, View};
use pe_scrape::{
    Diagnostic, RESERVED_LABELS, Severity, TargetSpec, is_label_name, parse_target,
    refuse_label_name,
};

use crate::file::{DiagnosticsBuilder, Document, MOST_BYTES, Scope, Syntax, explain, regular_file};

/// Keys of an entry of a targets file.
pub(crate) const TARGET_GROUP: &[Key] = &[
    Key::of::<Vec<TargetSpec>>("targets", &["Addresses or host names; a port is dropped."]),
    Key::of::<BTreeMap<String, String>>(
        "labels",
        &[
            "Labels for these devices. `device` names them; labels that start with `__` are not used.",
        ],
    ),
];

/// The label of a target that names the device.
const DEVICE_LABEL: &str = "device";

/// How the names of targets files end, as in Prometheus.
const NAMES: &[&str] = &[".json", ".yml", ".yaml"];

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
    pub(super) fn text(&self, path: &Path) -> Option<&Arc<str>> {
        self.texts.get(path)
    }

    /// Takes up the text of a file; shares it with `previous` where it is still the same.
    pub(super) fn insert(&mut self, path: &Path, text: &str, previous: Option<&Self>) {
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
pub(super) struct FilePattern {
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
    pub(super) fn parse(base: &Path, text: &str) -> Result<Self, String> {
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
        if !NAMES.iter().any(|ending| name.ends_with(ending)) {
            return Err("the name of a targets file ends in `.json`, `.yml` or `.yaml`".to_owned());
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
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The files, sorted: those on the disk and those among `previous`, which may have vanished. A
    /// literal name is always one of them.
    ///
    /// # Errors
    /// The directory cannot be listed, and none of `previous` matches.
    pub(super) fn files(&self, previous: Option<&TargetFiles>) -> std::io::Result<Vec<PathBuf>> {
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
            Err(error) if files.is_empty() => return Err(explain(&error)),
            Err(_) => {}
        }
        Ok(files.into_iter().collect())
    }
}

/// Whether the file at `path` is YAML.
pub(super) fn is_yaml(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension == "yml" || extension == "yaml")
}

/// Reads a targets file. Reports why it cannot be read.
pub(super) fn read(path: &Path, found: &DiagnosticsBuilder) -> Option<Document> {
    let document = regular_file(path, MOST_BYTES)
        .map_err(|error| {
            let message = format!("the targets file {error}");
            Diagnostic::whole_file(Severity::Error, path, message, None)
        })
        .and_then(|bytes| Document::new(path, bytes));
    document.map_err(|problem| found.push(problem)).ok()
}

/// Turns the problems of a file into warnings, since its former content stands in.
pub(super) fn excused(problems: DiagnosticsBuilder) -> impl Iterator<Item = Diagnostic> {
    problems.into_vec().into_iter().map(|mut problem| {
        problem.severity = Severity::Warning;
        problem
            .message
            .push_str("; the former content of the file stays in use");
        problem
    })
}

/// Targets that share labels.
pub(super) struct TargetGroup<'v> {
    /// The targets, each with where it was written.
    pub(super) targets: Vec<(TargetSpec, usize)>,
    /// Name of the devices, where a label gives it.
    pub(super) device: Option<&'v str>,
    /// Labels of the devices.
    pub(super) labels: Vec<(&'v str, &'v str)>,
    /// Where each of them was written.
    pub(super) labels_at: Vec<usize>,
}

/// Reads the groups of a targets file; reports errors, and warns of labels that are not used. As for Prometheus, `null` is
/// nothing: programs in Go write it for an empty list or object.
pub(super) fn read_groups<'v>(scope: Scope<'_, '_>, root: Syntax<'v>) -> Vec<TargetGroup<'v>> {
    let mut unused = BTreeMap::new();
    let groups = match root.view() {
        View::Null => Vec::new(),
        _ => list(scope, root, "the targets file")
            .filter_map(|node| read_group(scope, node, &mut unused))
            .collect(),
    };
    for (name, at) in unused {
        let message = format!("the label `{name}` is set by PingExporter; this one is not used");
        let hint = "rename the label to keep its value; a label `device` names the device";
        scope.warn(at, message, hint.to_owned());
    }
    groups
}

fn read_group<'v>(
    scope: Scope<'_, '_>,
    node: Syntax<'v>,
    unused: &mut BTreeMap<&'v str, usize>,
) -> Option<TargetGroup<'v>> {
    if !scope.expect_object(node, "the target group", TARGET_GROUP) {
        return None;
    }
    let mut group = TargetGroup {
        targets: Vec::new(),
        device: None,
        labels: Vec::new(),
        labels_at: Vec::new(),
    };
    let is_null = |node: &Syntax<'_>| node.view() == View::Null;
    if let Some(targets) = node.get("targets").filter(|node| !is_null(node)) {
        let targets = list(scope, targets, "targets");
        group.targets.reserve_exact(targets.size_hint().0);
        for target in targets {
            if let Some(spec) = read_target(scope, target) {
                group.targets.push((spec, target.start()));
            }
        }
    }
    if let Some(labels) = node.get("labels").filter(|node| !is_null(node)) {
        read_labels(scope, labels, &mut group, unused);
    }
    Some(group)
}

fn read_target(scope: Scope<'_, '_>, node: Syntax<'_>) -> Option<TargetSpec> {
    let text = match node.view() {
        View::Text(text) if text.trim().is_empty() => {
            scope.error(node.start(), "a target is empty", None);
            return None;
        }
        View::Text(text) => text,
        other => {
            let message = format!("a target: found {}, expected a string", other.describe());
            scope.error(node.start(), message, None);
            return None;
        }
    };
    match parse_target(text) {
        Ok(TargetSpec::Many(_)) => {
            let message = format!("`{text}` stands for several addresses");
            let hint = "a target is one address or host name; a subnet or range goes into `ip`";
            scope.error(node.start(), message, hint.to_owned());
            None
        }
        Ok(spec) => Some(spec),
        Err(problem) => {
            scope.error(node.start(), problem.message, problem.hint);
            None
        }
    }
}

fn read_labels<'v>(
    scope: Scope<'_, '_>,
    node: Syntax<'v>,
    group: &mut TargetGroup<'v>,
    unused: &mut BTreeMap<&'v str, usize>,
) {
    if node.view() != View::Object {
        let found = node.view().describe();
        let message = format!("labels: found {found}, expected an object");
        scope.error(node.start(), message, None);
    }
    for (name, value) in node.fields() {
        let at = node.key_start(name).unwrap_or(node.start());
        if value.view() == View::Null {
            continue;
        }
        let View::Text(text) = value.view() else {
            let found = value.view().describe();
            let message = format!("label `{name}`: found {found}, expected a string");
            scope.error(value.start(), message, None);
            continue;
        };
        if name.starts_with("__") {
            // As in Prometheus, these are for service discovery itself.
        } else if name == DEVICE_LABEL {
            if text.trim().is_empty() {
                scope.error(value.start(), "label `device` is empty", None);
            }
            group.device = Some(text);
        } else if RESERVED_LABELS.contains(&name) {
            unused.entry(name).or_insert(at);
        } else if let Some((message, hint)) = refuse_label_name(name) {
            scope.error(at, message, hint);
        } else {
            group.labels.push((name, text));
            group.labels_at.push(at);
        }
    }
}

/// The items of a list, called `name` in messages; reports what is none.
fn list<'v>(
    scope: Scope<'_, '_>,
    node: Syntax<'v>,
    name: &str,
) -> impl Iterator<Item = Syntax<'v>> + use<'v> {
    if node.view() != View::List {
        let found = node.view().describe();
        let message = format!("{name}: found {found}, expected an array");
        scope.error(node.start(), message, None);
    }
    node.items()
}

/// What fuzzers and the tests of their seeds do: reads a targets file, the whole way from its bytes to devices. The first byte says whether it is YAML; the rest is the file.
///
/// # Panics
/// When something is not as it always must be.
#[doc(hidden)]
pub fn try_targets(data: &[u8]) {
    let (kind, bytes) = data.split_first().unwrap_or((&0, &[]));
    let path = match kind % 2 {
        0 => "targets.json",
        _ => "targets.yml",
    };
    let found = DiagnosticsBuilder::default();
    match Document::new(Path::new(path), bytes.to_vec()) {
        Ok(document) => try_document(&document, &found),
        Err(problem) => found.push(problem),
    }
    for problem in found.into_vec() {
        assert!(problem.line > 0 && problem.col > 0, "{problem}");
        let hint = problem.hint.as_deref().unwrap_or_default();
        let shown = format!("{}{hint}", problem.message);
        assert!(!shown.contains(char::is_control), "{shown:?}");
    }
}

fn try_document(document: &Document, found: &DiagnosticsBuilder) {
    let scope = Scope { found, document };
    let root = match is_yaml(document.path()) {
        true => scope.parse_yaml(),
        false => scope.parse(),
    };
    let Some(root) = root else {
        return;
    };
    for group in read_groups(scope, Syntax::new(&root)) {
        assert_eq!(group.labels.len(), group.labels_at.len());
        assert!(group.labels.iter().all(|(name, _)| is_label_name(name)));
        let places = group.targets.iter().map(|(_, at)| at);
        assert!(
            places
                .chain(&group.labels_at)
                .all(|at| *at <= document.text().len())
        );
    }
}
