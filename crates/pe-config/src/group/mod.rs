//! Group files: `conf`, from all layers, and `jobs`.
//!
//! A group comes out only where the whole file is in order. Where something in it is not, the rest is read all the same,
//! with the keys at fault left out, so that everything is told at once.

mod jobs;
mod labels;
mod scrapers;
mod targets_file;

use std::time::Duration;

use pe_scrape::settings::{Bounds, Key, Node, Problem, Problems, Setting, Step, View};
use pe_scrape::{
    Checks, DeviceEntry, Group, GroupSettings, ScraperRegistry, ScraperSettings, Severity, Value,
};

pub(crate) use targets_file::TARGET_GROUP;
pub use targets_file::{TargetFiles, try_targets};

use crate::file::{SCHEMA, Scope, Syntax, Watched};
use crate::layers::{Layers, Merged};
use crate::push;
use jobs::{JobDefaults, JobReader};
use scrapers::ScraperLists;

/// Keys of a group file.
pub(crate) const GROUP_FILE: &[Key] = &[
    SCHEMA,
    Key::of::<GroupSettings>("conf", &["Settings of the group."]),
    required(Key::of::<Vec<DeviceEntry>>("jobs", &["The devices."])),
];

const fn required(mut key: Key) -> Key {
    key.required = true;
    key
}

/// What group files are read with.
pub(crate) struct Context<'c> {
    /// Variables and flags for `conf`.
    pub(crate) conf: &'c Layers,
    /// The known scrapers.
    pub(crate) scrapers: &'c ScraperRegistry,
    /// Targets files as they were when they were last in order.
    pub(crate) previous: Option<&'c TargetFiles>,
}

/// What reading the files brings to light beside the groups.
pub(crate) struct Intake<'c> {
    /// Files and directories that were looked at.
    pub(crate) watched: Watched,
    /// Targets files that were read.
    pub(crate) target_files: TargetFiles,
    /// What is known of the scrapers of all files.
    pub(crate) checks: Checks<'c>,
}

/// What came out of a group file.
pub(crate) struct ParsedGroup {
    /// The name of the group and where it stands, even where the rest of the file is unsound.
    pub(crate) prom_id: Option<(String, usize)>,
    /// Where `jobs` starts.
    pub(crate) jobs_at: usize,
    /// The group; `None` when there was an error in the file.
    pub(crate) group: Option<Group>,
}

/// Reads a group file.
pub(crate) fn read(
    scope: Scope<'_, '_>,
    root: Syntax<'_>,
    context: &Context<'_>,
    intake: &mut Intake<'_>,
) -> ParsedGroup {
    let errors = scope.found.errors();
    let mut parsed = ParsedGroup {
        prom_id: None,
        jobs_at: root.start(),
        group: None,
    };
    if let Some(at) = push::marks(root) {
        let message = "this is a push configuration, not a group of devices";
        let hint = "keep it out of the directory of the group files";
        scope.error(at, message, hint.to_owned());
        return parsed;
    }
    if !scope.expect_object(root, "the file", GROUP_FILE) {
        return parsed;
    }
    let conf = root.get("conf");
    parsed.prom_id = conf.and_then(prom_id);
    let conf = match conf {
        Some(node) => Conf::read(scope, node, context),
        None => Conf::absent(root),
    };
    let Some(jobs) = root.get("jobs") else {
        return parsed;
    };
    parsed.jobs_at = jobs.start();
    if jobs.view() != View::List {
        let found = jobs.view().describe();
        let message = format!("jobs: found {found}, expected an array");
        scope.error(jobs.start(), message, None);
        return parsed;
    }
    if jobs.items().next().is_none() {
        let hint = "add a device, such as {\"job\": \"router\", \"ip\": \"192.168.1.1\"}";
        let message = "jobs is empty: nothing is measured";
        scope.warn(jobs.start(), message, hint.to_owned());
    }
    let lists = ScraperLists::new(scope, &conf, context.scrapers, &mut intake.checks);
    let mut reader = JobReader::new(scope, JobDefaults::of(&conf), lists, context, intake);
    for entry in jobs.items() {
        reader.read(entry);
    }
    let devices = reader.finish();
    if let (Some(common), true) = (conf.common, scope.found.errors() == errors) {
        let file = scope.document.path().to_owned();
        let group = Group::from_parts(file, conf.settings, common, devices);
        if let Some((message, hint)) = group.slow_pacer() {
            scope.warn(parsed.jobs_at, message, hint);
        }
        parsed.group = Some(group);
    }
    parsed
}

/// The name in `conf`, and where it stands.
fn prom_id(conf: Syntax<'_>) -> Option<(String, usize)> {
    let node = conf.get("prom_id")?;
    match node.view() {
        View::Text(text) if !text.trim().is_empty() => Some((text.to_owned(), node.start())),
        _ => None,
    }
}

/// The `conf` of a group file.
struct Conf<'v> {
    /// Where it stands; where it is missing, the file.
    node: Syntax<'v>,
    /// Its settings, from all layers. Where some are at fault, without these.
    settings: GroupSettings,
    /// Keys at fault.
    faulty: Vec<String>,
    /// What scrapers get; `None` when something of it is at fault.
    common: Option<ScraperSettings>,
}

impl<'v> Conf<'v> {
    /// Stands in for a `conf` that is not there, so that the jobs are checked all the same.
    fn absent(root: Syntax<'v>) -> Self {
        Self {
            node: root,
            settings: GroupSettings::new("-".to_owned(), STAND_IN_INTERVAL),
            faulty: Vec::new(),
            common: None,
        }
    }

    fn read(scope: Scope<'_, '_>, node: Syntax<'v>, context: &Context<'_>) -> Self {
        let mut problems = Problems::default();
        let Value::Object(file) = node.to_json() else {
            GroupSettings::decode(node, &Bounds::NONE, &mut problems);
            scope.problems(node, problems.into_vec());
            return Self::absent(node);
        };
        let merged = context.conf.over(&file);
        let written = Value::Object(merged.json.clone());
        let settings = GroupSettings::decode(&written, &Bounds::NONE, &mut problems);
        let common = settings
            .as_ref()
            .and_then(|settings| settings.common(&mut problems));
        let problems = problems.into_vec();
        let faulty = faulty_keys(&problems);
        let settings = settings.unwrap_or_else(|| {
            let mut sound = merged.json.clone();
            sound.retain(|key, _| !faulty.contains(key));
            for (key, value) in [
                ("prom_id", Value::from("-")),
                ("interval", STAND_IN_INTERVAL.as_secs().into()),
            ] {
                sound.entry(key).or_insert(value);
            }
            let settings = GroupSettings::decode(
                &Value::Object(sound),
                &Bounds::NONE,
                &mut Problems::default(),
            );
            settings.unwrap_or_else(|| Self::absent(node).settings)
        });
        for problem in problems {
            tell(scope, node, &merged, problem);
        }
        Self {
            node,
            settings,
            faulty,
            common,
        }
    }

    /// Whether what was written for `key` cannot be used.
    fn is_faulty(&self, key: &str) -> bool {
        self.faulty.iter().any(|faulty| faulty == key)
    }
}

/// The interval that jobs are checked with where the one of `conf` is at fault.
const STAND_IN_INTERVAL: Duration = Duration::from_secs(60);

/// Reports a problem of settings from several layers where the value was written; `node` is the object of the file.
pub(crate) fn tell(scope: Scope<'_, '_>, node: Syntax<'_>, merged: &Merged<'_>, problem: Problem) {
    match merged.origin(&problem.path).name() {
        Some(name) => scope.found.push_named(name, problem),
        None => scope.problem(node, problem),
    }
}

/// The keys of an object that errors are about.
fn faulty_keys(problems: &[Problem]) -> Vec<String> {
    let errors = problems
        .iter()
        .filter(|problem| problem.severity == Severity::Error);
    let keys = errors.filter_map(|problem| match problem.path.first() {
        Some(Step::Key(key)) => Some(key.clone()),
        _ => None,
    });
    keys.collect()
}
