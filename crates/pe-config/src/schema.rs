//! JSON Schemas of the files, and the lists of known keys taken from them.

use std::sync::LazyLock;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::Value;

use crate::shape;

/// JSON Schema (draft 2020-12) of a group file, a `*.json` file of the configuration directory.
pub fn group_schema() -> Value {
    schema_of::<shape::GroupFile>()
}

/// JSON Schema (draft 2020-12) of the push configuration.
pub fn push_schema() -> Value {
    schema_of::<shape::PushFile>()
}

/// JSON Schema (draft 2020-12) of a targets file in Prometheus' `file_sd` form.
pub fn targets_schema() -> Value {
    schema_of::<shape::TargetsFile>()
}

/// The JSON Schema of each kind of file: group, push and targets files in this order, each with the
/// name under which it is kept in `docs/schema`.
pub fn schemas() -> [(&'static str, Value); 3] {
    [
        ("group.schema.json", group_schema()),
        ("push.schema.json", push_schema()),
        ("targets.schema.json", targets_schema()),
    ]
}

fn schema_of<T: JsonSchema>() -> Value {
    let settings =
        SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let mut schema = settings
        .into_generator()
        .into_root_schema_for::<T>()
        .to_value();
    shape::without_null(&mut schema);
    sort_keys(&mut schema);
    schema
}

/// Sorts the keys of all objects, so that the text is the same whether or not some crate of the build
/// lets serde_json keep the order of insertion.
fn sort_keys(value: &mut Value) {
    match value {
        Value::Object(object) => {
            let mut keys: Vec<_> = std::mem::take(object).into_iter().collect();
            keys.sort_by(|a, b| a.0.cmp(&b.0));
            keys.iter_mut().for_each(|(_, value)| sort_keys(value));
            object.extend(keys);
        }
        Value::Array(items) => items.iter_mut().for_each(sort_keys),
        _ => {}
    }
}

/// The keys that an object of the files may have, sorted.
pub(crate) type Keys = LazyLock<Vec<String>>;

/// Keys of a group file.
pub(crate) static GROUP_KEYS: Keys = LazyLock::new(keys_of::<shape::GroupFile>);
/// Keys of `conf`.
pub(crate) static CONF_KEYS: Keys = LazyLock::new(keys_of::<shape::Conf>);
/// Keys of `conf.pacer`.
pub(crate) static PACER_KEYS: Keys = LazyLock::new(keys_of::<shape::Pacer>);
/// Keys of an entry of `jobs`.
pub(crate) static JOB_KEYS: Keys = LazyLock::new(keys_of::<shape::Job>);
/// Keys of the push configuration.
pub(crate) static PUSH_KEYS: Keys = LazyLock::new(keys_of::<shape::PushFile>);
/// Keys of an entry of a targets file.
pub(crate) static TARGET_KEYS: Keys = LazyLock::new(keys_of::<shape::TargetGroup>);

fn keys_of<T: JsonSchema>() -> Vec<String> {
    let schema = schema_of::<T>();
    schema["properties"]
        .as_object()
        .map_or_else(Vec::new, |keys| keys.keys().cloned().collect())
}
