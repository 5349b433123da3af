//! The push configuration: the sinks that results go to.
//!
//! The keys of the Python original stand for one sink of the kind `pushgateway`; see [`gateway`]. `sinks` lists others.
//! What a sink's settings may be is its factory's to say; a problem with them is told under the name that the user wrote.

mod external_labels;
mod gateway;
mod sinks;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use pe_scrape::settings::{Key, Node, Problem, Step};
use pe_scrape::{RegistryError, SinkConfig, SinkRegistry, Value, with_causes};

pub(crate) use external_labels::{EXTERNAL_LABELS, ExternalLabels};
pub(crate) use gateway::{HOST, NAMES, keys};
pub(crate) use sinks::{NAME, SINKS};

use crate::file::{DiagnosticsBuilder, SCHEMA, Scope, Syntax, read_document};
use crate::group;
use crate::layers::{Environment, Layers, Merged};

/// What messages call the file.
const FILE: &str = "the push configuration";

/// What the push configuration is read with.
pub(crate) struct Context<'c> {
    /// Variables and flags for the keys of the original.
    pub(crate) layers: &'c Layers,
    /// The known sinks.
    pub(crate) registry: &'c SinkRegistry,
    /// Variables that external labels may refer to.
    pub(crate) env: &'c Environment,
}

/// What came out of a push configuration.
#[derive(Default)]
pub(crate) struct Parsed<'v, 'c> {
    /// The sinks, each of which has the external labels.
    pub(crate) sinks: Vec<ParsedSink<'v, 'c>>,
    /// The external labels, for checks that need the groups.
    pub(crate) external: ExternalLabels,
}

/// Where a group file is a push configuration: the first key that only such a file has.
pub(crate) fn marks(root: Syntax<'_>) -> Option<usize> {
    if let Some(at) = root.key_start(HOST.name) {
        return Some(at);
    }
    let is_group = root.get("conf").is_some() || root.get("jobs").is_some();
    root.key_start(SINKS.name).filter(|_| !is_group)
}

/// All keys of the file.
pub(crate) fn file_keys(registry: &SinkRegistry) -> Vec<Key> {
    let mut known = vec![SCHEMA];
    known.extend(keys(registry));
    known.extend([EXTERNAL_LABELS, SINKS]);
    known
}

/// Reads the push configuration. `root` is `None` when there is no file and the layers above hold all of it; `scope` is of
/// an empty document then. `files` takes up the files that were read.
pub(crate) fn read<'v, 'c>(
    scope: Scope<'_, '_>,
    root: Option<Syntax<'v>>,
    context: &Context<'c>,
    files: &mut Vec<PathBuf>,
) -> Parsed<'v, 'c> {
    let mut parsed = Parsed::default();
    let sinks = &mut parsed.sinks;
    let mut list = None;
    if let Some(root) = root {
        if let Some(at) = root.key_start("jobs") {
            let message = "this is a group of devices, not a push configuration";
            let hint = "a push configuration has `ip_pushgateway` or `sinks`";
            scope.error(at, message, hint.to_owned());
            return parsed;
        }
        let mut known = file_keys(context.registry);
        let original = gateway::written(root);
        if keys(context.registry).is_empty() {
            known.extend(gateway::names().map(|name| Key::of::<Option<String>>(name, &[])));
        }
        if !scope.expect_object(root, FILE, &known) {
            return parsed;
        }
        if let Some(node) = root.get(EXTERNAL_LABELS.name) {
            parsed.external = external_labels::read(scope, node, context.env);
        }
        list = root.get(SINKS.name);
        if let (Some(at), true) = (original, keys(context.registry).is_empty()) {
            gateway::refuse(scope, at, context.registry);
        } else if original.is_some() || list.is_none() || context.layers.set(HOST.name) {
            sinks.extend(gateway::read(scope, Some(root), context, files));
        }
    } else {
        sinks.extend(gateway::read(scope, None, context, files));
    }
    if let Some(list) = list {
        sinks.extend(sinks::read(scope, list, context.registry, files));
    }
    assign_names(scope, sinks);
    for sink in sinks {
        let settings = &mut sink.config.settings;
        settings.external_labels.clone_from(&parsed.external.labels);
        sink.check(scope, context.registry);
    }
    parsed
}

/// The kinds of the sinks that the push configuration at `path` lists, as far as it can be read: what must be known before
/// the sinks themselves are. Whatever is wrong with the file is left to [`load`](crate::load).
#[must_use]
pub fn sink_kinds(path: &Path) -> Vec<String> {
    let found = DiagnosticsBuilder::default();
    let Some(document) = read_document(path, &found) else {
        return Vec::new();
    };
    let root = document.parse().ok();
    let sinks = root
        .as_ref()
        .and_then(|root| Syntax::new(root).get(SINKS.name));
    let entries = sinks.into_iter().flat_map(Node::items);
    let kinds = entries.flat_map(Node::fields);
    kinds.map(|(kind, _)| kind.to_owned()).collect()
}

/// Gives each sink without a name one that no other has; reports names that are given twice.
fn assign_names(scope: Scope<'_, '_>, sinks: &mut [ParsedSink<'_, '_>]) {
    let mut given: HashMap<String, usize> = HashMap::new();
    for sink in sinks.iter() {
        let Some((name, at)) = &sink.given_name else {
            continue;
        };
        if let Some(first) = given.get(name) {
            let message = format!(
                "the name `{name}` is already used at {}",
                scope.location(*first)
            );
            scope.error(*at, message, "each sink needs a name of its own".to_owned());
        } else {
            given.insert(name.clone(), *at);
        }
    }
    let mut taken: HashSet<String> = given.into_keys().collect();
    for sink in sinks {
        let kind = sink.config.kind.clone();
        let name = match &sink.given_name {
            Some((name, _)) => name.clone(),
            None => std::iter::once(kind.to_string())
                .chain((2..).map(|number| format!("{kind}-{number}")))
                .find(|name| !taken.contains(name))
                .unwrap_or_default(),
        };
        sink.config.settings.name = name.as_str().into();
        taken.insert(name);
    }
}

/// A sink as it was read, and where its settings were written.
pub(crate) struct ParsedSink<'v, 'c> {
    /// The sink.
    pub(crate) config: SinkConfig,
    /// Whether no error was found in it.
    pub(crate) sound: bool,
    /// The name that the user gave it, and where.
    given_name: Option<(String, usize)>,
    written: Written<'v, 'c>,
    /// Keys of the sink that the user wrote under another name.
    names: Vec<(&'static str, &'static str)>,
}

/// Where the settings of a sink were written.
enum Written<'v, 'c> {
    /// With the keys of the original, in several layers.
    Keys {
        root: Option<Syntax<'v>>,
        merged: Box<Merged<'c>>,
    },
    /// In this object of `sinks`.
    Entry(Syntax<'v>),
}

impl ParsedSink<'_, '_> {
    /// Asks the factory; reports what it refuses.
    fn check(&mut self, scope: Scope<'_, '_>, registry: &SinkRegistry) {
        match registry.check(&self.config) {
            Ok(()) => {}
            Err(RegistryError::Create { source, .. }) => {
                self.sound = false;
                for problem in source.problems() {
                    self.tell(scope, problem.clone());
                }
            }
            Err(error) => {
                self.sound = false;
                self.tell(scope, Problem::error(with_causes(&error)));
            }
        }
    }

    /// Reports a problem of the sink's settings in the words of the file.
    pub(crate) fn tell(&self, scope: Scope<'_, '_>, problem: Problem) {
        let mut problem = renamed(problem, &self.names);
        match &self.written {
            Written::Keys { root, merged } => {
                if problem.path.is_empty() {
                    problem.path = vec![Step::from(HOST.name)];
                }
                tell(scope, *root, merged, problem);
            }
            Written::Entry(settings) => {
                let sink = format!("sink `{}`: ", self.config.settings.name);
                problem.message.insert_str(0, &sink);
                scope.problem(*settings, problem);
            }
        }
    }
}

/// Reports a problem where the value was written; `root` is the file's object, if there is a file.
fn tell(scope: Scope<'_, '_>, root: Option<Syntax<'_>>, merged: &Merged<'_>, problem: Problem) {
    match root {
        Some(root) => group::tell(scope, root, merged, problem),
        None => match merged.origin(&problem.path).name() {
            Some(name) => scope.found.push_named(name, problem),
            None => scope.problem_at(0, problem),
        },
    }
}

/// The problem in the words of the file, where `names` lists keys of the sink that are written otherwise there.
fn renamed(mut problem: Problem, names: &[(&str, &str)]) -> Problem {
    for (name, written) in names.iter().filter(|(name, written)| name != written) {
        let (quoted, better) = (format!("`{name}`"), format!("`{written}`"));
        problem.message = problem.message.replace(&quoted, &better);
        problem.hint = problem.hint.map(|hint| hint.replace(&quoted, &better));
    }
    let Some(Step::Key(key)) = problem.path.first_mut() else {
        return problem;
    };
    let Some((name, written)) = names.iter().find(|(name, _)| name == key) else {
        return problem;
    };
    *key = (*written).to_owned();
    // A message about a key starts with it.
    if let Some(rest) = problem.message.strip_prefix(name)
        && !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_')
    {
        problem.message = format!("{written}{rest}");
    }
    problem
}

/// A JSON object of settings.
type Settings = serde_json::Map<String, Value>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_are_told_under_the_name_that_was_written() {
        let names = [
            ("timeout", "timeout_pushgateway"),
            ("url", "ip_pushgateway"),
        ];
        let problem = Problem::error("timeout: must be below the one of `url`")
            .at([Step::from("timeout")])
            .hint("see `url`".to_owned());
        let renamed = renamed(problem, &names);
        assert_eq!(
            renamed.message,
            "timeout_pushgateway: must be below the one of `ip_pushgateway`"
        );
        assert_eq!(renamed.hint.as_deref(), Some("see `ip_pushgateway`"));
        assert_eq!(renamed.path, [Step::from("timeout_pushgateway")]);
    }
}
