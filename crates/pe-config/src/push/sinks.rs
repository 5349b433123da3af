//! `sinks`: a list of objects of one kind of sink and its settings.
//!
//! The loader knows one key of every sink, its `name`, and two kinds of values: the path of a file that holds a secret,
//! whose text takes the secret's place, and paths in general, which are relative to the file that names them.

use std::path::PathBuf;

use pe_scrape::settings::{
    Bounds, Key, Kind, Node, Problem, Problems, Setting, Step, Table, View, suggestion,
};
use pe_scrape::{SinkConfig, SinkRegistry, Value};

use super::{ParsedSink, Settings, Written};
use crate::file::{Document, MOST_SECRET_BYTES, Scope, Syntax, regular_file, resolve_paths};

/// Most bytes of a sink's name. In a file's name each may become three, and file systems take 255 in all.
const MOST_NAME_BYTES: usize = 80;

/// The list.
pub(crate) const SINKS: Key = {
    let mut key = Key::of::<Option<Vec<String>>>(
        "sinks",
        &[
            "Where results go: objects of one kind of sink and its settings, such as",
            "`{\"pushgateway\": {\"url\": \"https://push.example\"}}`.",
        ],
    );
    key.kind = Kind::Sinks;
    key
};

/// The key of every sink that is the loader's own.
pub(crate) const NAME: Key = Key::of::<Option<String>>(
    "name",
    &["Name of the sink, unique among all: the label `sink` of its own metrics."],
)
.otherwise("the kind, then the kind with `-2`, …");

/// Reads the list; reports what is wrong with its shape.
pub(super) fn read<'v, 'c>(
    scope: Scope<'_, '_>,
    list: Syntax<'v>,
    registry: &SinkRegistry,
    files: &mut Vec<PathBuf>,
) -> Vec<ParsedSink<'v, 'c>> {
    if list.view() != View::List {
        let found = list.view().describe();
        let message = format!("sinks: found {found}, expected an array");
        scope.error(list.start(), message, None);
    } else if list.items().next().is_none() {
        let hint = "add a sink, such as {\"pushgateway\": {\"url\": \"https://push.example\"}}";
        scope.error(list.start(), "sinks is empty", hint.to_owned());
    }
    let sinks = list.items();
    sinks
        .filter_map(|entry| read_sink(scope, entry, registry, files))
        .collect()
}

fn read_sink<'v, 'c>(
    scope: Scope<'_, '_>,
    entry: Syntax<'v>,
    registry: &SinkRegistry,
    files: &mut Vec<PathBuf>,
) -> Option<ParsedSink<'v, 'c>> {
    let errors = scope.found.errors();
    let mut fields = entry.fields();
    let (Some((kind, settings)), None) = (fields.next(), fields.next()) else {
        let message = match entry.view() {
            View::Object => "a sink is an object with one key, its kind".to_owned(),
            other => format!("sink: found {}, expected an object", other.describe()),
        };
        let hint = "such as {\"pushgateway\": {\"url\": \"https://push.example\"}}";
        scope.error(entry.start(), message, hint.to_owned());
        return None;
    };
    let names = registry.names();
    if !names.contains(&kind) {
        let at = entry.key_start(kind).unwrap_or(entry.start());
        let hint = suggestion(kind, names.iter().copied());
        scope.error(at, format!("unknown sink `{kind}`"), hint);
        return None;
    }
    if settings.view() != View::Object {
        let found = settings.view().describe();
        let message = format!("settings of sink `{kind}`: found {found}, expected an object");
        scope.error(settings.start(), message, None);
        return None;
    }
    let given_name = settings.get(NAME.name).and_then(|node| {
        let mut problems = Problems::default();
        let name = problems.within(NAME.name, |problems| {
            String::decode(node, &Bounds::NONE, problems)
        });
        scope.problems(settings, problems.into_vec());
        let name = name?;
        if let Some(message) = refuse_name(&name) {
            let hint = "write a short one, such as `central`";
            scope.error(node.start(), message, hint.to_owned());
            return None;
        }
        Some((name, node.start()))
    });
    let mut own = match settings.to_json() {
        Value::Object(own) => own,
        _ => Settings::new(),
    };
    own.remove(NAME.name);
    let mut renamed = Vec::new();
    if let Some(table) = registry.table(kind) {
        let secrets = Secrets {
            table,
            document: scope.document,
            rank: &|_| 0,
        };
        let found = secrets.fetch(&mut own, &[], files);
        scope.problems(settings, found.problems);
        renamed = found.from_files;
        resolve_paths(&mut own, table, scope.document);
    }
    Some(ParsedSink {
        config: SinkConfig::new(kind, kind, Value::Object(own)),
        sound: scope.found.errors() == errors,
        given_name,
        written: Written::Entry(settings),
        names: renamed,
    })
}

/// Why a sink cannot have this name, which is a label's value, part of log lines, and part of a file's name in the state
/// directory.
fn refuse_name(name: &str) -> Option<String> {
    if name.len() > MOST_NAME_BYTES {
        return Some(format!(
            "name: has {} bytes, and a sink's name may have {MOST_NAME_BYTES}",
            name.len()
        ));
    }
    let control = name.chars().find(|c| c.is_control())?;
    Some(format!("name: contains the control character {control:?}"))
}

/// Puts the text of files in the place of the secrets that they hold.
pub(super) struct Secrets<'s> {
    /// The keys of the sink.
    pub(super) table: &'static Table,
    /// The file that names the files.
    pub(super) document: &'s Document,
    /// How high the layer is in which a key was written; 0 for the file.
    pub(super) rank: &'s dyn Fn(&'static str) -> u8,
}

/// What became of the secrets.
#[derive(Default)]
pub(super) struct Fetched {
    /// Secrets that came from files, each with the key that names the file.
    pub(super) from_files: Vec<(&'static str, &'static str)>,
    /// What is wrong; paths are those of the keys as the user wrote them.
    pub(super) problems: Vec<Problem>,
}

impl Secrets<'_> {
    /// Reads the files that `own` names. `names` lists keys that the user wrote under another name. Where a secret and a
    /// file are both given, the one of the higher layer counts. `files` takes up the files.
    pub(super) fn fetch(
        &self,
        own: &mut Settings,
        names: &[(&'static str, &'static str)],
        files: &mut Vec<PathBuf>,
    ) -> Fetched {
        let mut fetched = Fetched::default();
        let written = |name: &'static str| {
            let found = names.iter().find(|(known, _)| *known == name);
            found.map_or(name, |(_, written)| *written)
        };
        for key in self.table.keys {
            let Kind::SecretFile(secret) = key.kind else {
                continue;
            };
            let Some(Value::String(file)) = own.get(key.name) else {
                continue;
            };
            let mut refuse = |message: String, hint: Option<&str>| {
                let problem = Problem::error(message)
                    .at([Step::from(written(key.name))])
                    .hint(hint.map(str::to_owned));
                fetched.problems.push(problem);
            };
            let (of_secret, of_file) = ((self.rank)(secret), (self.rank)(key.name));
            let file = file.clone();
            if own.contains_key(secret) && of_secret >= of_file {
                own.remove(key.name);
                if of_secret == of_file {
                    let (secret, file) = (written(secret), written(key.name));
                    let message = format!("{secret} and {file} are both given");
                    refuse(message, Some("remove one of them"));
                }
                continue;
            }
            if file.trim().is_empty() {
                continue; // The sink's own check tells.
            }
            let path = match of_file {
                0 => self.document.beside(&file),
                _ => PathBuf::from(file),
            };
            own.remove(key.name);
            let text = read_secret(&path);
            let reason = text.as_ref().err();
            if let Some(reason) = reason {
                let message = format!("{}: {}: {reason}", written(key.name), path.display());
                refuse(message, None);
            }
            // Something stands in for what cannot be read, so that the other settings are checked all the same.
            let text = text.unwrap_or_else(|_| "-".to_owned());
            own.insert(secret.to_owned(), text.into());
            fetched.from_files.push((secret, key.name));
            files.push(path);
        }
        fetched
    }
}

/// The secret in a file: its text without a byte order mark and without the newline at the end.
fn read_secret(path: &std::path::Path) -> Result<String, String> {
    let bytes = regular_file(path, MOST_SECRET_BYTES).map_err(|error| error.to_string())?;
    let text = String::from_utf8(bytes).map_err(|_| "not UTF-8 text".to_owned())?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() {
        return Err("the file is empty".to_owned());
    }
    Ok(text.to_owned())
}
