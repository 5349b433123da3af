//! The keys that only files have, and objects whose keys are known.
//!
//! Everything else that a file may say is declared in pe-scrape, or by a scraper or a sink.

use std::collections::BTreeMap;

use pe_scrape::settings::{Bounds, Key, Kind, Node, Problems, Setting, Table, View, suggestion};
use pe_scrape::{DeviceEntry, GroupSettings, TargetSpec, Value};

use super::{Document, Scope, Syntax};

/// A key of every file but targets files.
pub(crate) const SCHEMA: Key = Key::of::<Option<String>>(
    "$schema",
    &["Where the schema of this file is, for editors; not used otherwise."],
);

/// Keys of a group file.
pub(crate) const GROUP_FILE: &[Key] = &[
    SCHEMA,
    Key::of::<GroupSettings>("conf", &["Settings of the group."]),
    required(Key::of::<Vec<DeviceEntry>>("jobs", &["The devices."])),
];

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

const fn required(mut key: Key) -> Key {
    key.required = true;
    key
}

/// Whether `node`, called `name` in messages, is an object. Reports one that is none, keys that are not among `keys`, and
/// keys that are missing.
pub(crate) fn open(scope: Scope<'_, '_>, node: Syntax<'_>, name: &str, keys: &[Key]) -> bool {
    if node.view() != View::Object {
        let found = node.view().describe();
        scope.error(
            node.start(),
            format!("{name}: found {found}, expected an object"),
            None,
        );
        return false;
    }
    for (key, _) in node.fields() {
        if !keys.iter().any(|known| known.name == key) {
            let offset = node.key_start(key).unwrap_or(node.start());
            let message = format!("unknown key `{key}` in {name}");
            scope.error(offset, message, nearest_key(key, keys));
        }
    }
    for key in keys {
        if key.required && node.get(key.name).is_none() {
            let message = format!("missing key `{}` in {name}", key.name);
            scope.error(node.start(), message, None);
        }
    }
    if let Some(value) = node.get(SCHEMA.name) {
        let mut problems = Problems::default();
        problems.within(SCHEMA.name, |problems| {
            String::decode(value, &Bounds::NONE, problems)
        });
        scope.problems(node, problems.into_vec());
    }
    true
}

/// Puts the directory of `document` before the relative paths among the settings `own`, whose keys are those of `table`.
pub(crate) fn resolve_paths(
    own: &mut serde_json::Map<String, Value>,
    table: &Table,
    document: &Document,
) {
    for key in table.keys {
        match (key.kind, own.get_mut(key.name)) {
            (Kind::Path, Some(Value::String(path))) if !path.trim().is_empty() => {
                *path = document.beside(path).to_string_lossy().into_owned();
            }
            (Kind::Object(table), Some(Value::Object(own))) => resolve_paths(own, table, document),
            (Kind::Either(kinds), Some(Value::Object(own))) => {
                let tables = kinds.iter().filter_map(|kind| match kind {
                    Kind::Object(table) => Some(table),
                    _ => None,
                });
                tables.for_each(|table| resolve_paths(own, table, document));
            }
            _ => {}
        }
    }
}

/// A hint for a key that is not among `keys`.
fn nearest_key(key: &str, keys: &[Key]) -> Option<String> {
    let names: Vec<&str> = keys.iter().map(|key| key.name).collect();
    suggestion(key, names.iter().copied())
}
