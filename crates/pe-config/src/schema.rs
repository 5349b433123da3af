//! JSON Schemas (draft 2020-12) of the files, made from the tables of keys.
//!
//! A schema accepts what the loader accepts, and refuses what the loader refuses as far as that shows in one value. The
//! settings of registered scrapers and sinks are part of it.

use pe_scrape::settings::{Bounds, Key, Kind, Table};
use pe_scrape::{DeviceEntry, RESERVED_LABELS, ScraperRegistry, SinkRegistry, Value};
use serde_json::{Map, json};

use crate::file::SCHEMA;
use crate::group::{GROUP_FILE, TARGET_GROUP};
use crate::push;

const DRAFT: &str = "https://json-schema.org/draft/2020-12/schema";

/// Whole numbers beyond this have no exact floating-point form, and no bound is told.
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

/// JSON Schema of a group file, a `*.json` file of the configuration directory.
#[must_use]
pub fn group_schema(scrapers: &ScraperRegistry) -> Value {
    let mut schema = object(GROUP_FILE);
    schema["$schema"] = DRAFT.into();
    schema["title"] = "PingExporter group of devices".into();
    schema["description"] =
        "A `*.json` file of the configuration directory: devices that are measured together in one cycle."
            .into();
    schema["$defs"] = json!({ "scrapers": scraper_list(scrapers) });
    sorted(schema)
}

/// JSON Schema of the push configuration.
#[must_use]
pub fn push_schema(sinks: &SinkRegistry) -> Value {
    let mut schema = object(&push::file_keys(sinks));
    schema["$schema"] = DRAFT.into();
    schema["title"] = "PingExporter push configuration".into();
    schema["description"] = "The push configuration: where results are pushed.".into();
    schema["$defs"] = json!({ "sinks": sink_list(sinks) });
    schema["properties"][push::EXTERNAL_LABELS.name]["propertyNames"] = json!({
        "anyOf": [{"const": pe_scrape::REPLICA_LABEL}, label_names()],
    });
    let original = push::keys(sinks);
    let host = push::HOST.name;
    if original.is_empty() {
        schema["required"] = json!([push::SINKS.name]);
        return sorted(schema);
    }
    schema["anyOf"] = json!([{"required": [host]}, {"required": [push::SINKS.name]}]);
    let dependent = original.iter().filter(|key| key.name != host);
    schema["dependentRequired"] = dependent
        .map(|key| (key.name.to_owned(), json!([host])))
        .collect();
    for (written, _) in push::NAMES {
        // As in the original, an empty user or password is none.
        if let Some(Value::Object(key)) = schema["properties"].get_mut(written) {
            key.remove("pattern");
        }
    }
    sorted(schema)
}

/// JSON Schema of a targets file in Prometheus' `file_sd` form.
#[must_use]
pub fn targets_schema() -> Value {
    let mut group = object(TARGET_GROUP);
    group["description"] = "Devices that share labels.".into();
    // Programs in Go write `null` for what is empty.
    group["properties"]["targets"]["type"] = json!(["array", "null"]);
    let labels = &mut group["properties"]["labels"];
    labels["type"] = json!(["object", "null"]);
    labels["additionalProperties"]["type"] = json!(["string", "null"]);
    sorted(json!({
        "$schema": DRAFT,
        "title": "PingExporter targets file",
        "description": "A targets file in Prometheus' `file_sd` form.",
        "type": ["array", "null"],
        "items": group,
    }))
}

/// The JSON Schema of each kind of file: group, push and targets files in this order, each with a name for a file that
/// keeps it.
#[must_use]
pub fn schemas(scrapers: &ScraperRegistry, sinks: &SinkRegistry) -> [(&'static str, Value); 3] {
    [
        ("group.schema.json", group_schema(scrapers)),
        ("push.schema.json", push_schema(sinks)),
        ("targets.schema.json", targets_schema()),
    ]
}

/// An object with these keys and no others.
fn object(keys: &[Key]) -> Value {
    let required: Vec<&str> = keys
        .iter()
        .filter(|key| key.required)
        .map(|key| key.name)
        .collect();
    let properties = keys.iter().map(|key| (key.name.to_owned(), property(key)));
    let properties: Map<String, Value> = properties.collect();
    let mut object = json!({
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
    });
    if !required.is_empty() {
        object["required"] = required.into();
    }
    object
}

fn of_table(table: &'static Table) -> Value {
    let mut schema = object(table.keys);
    schema["description"] = table.description().into();
    if std::ptr::eq(table, DeviceEntry::TABLE) {
        schema["oneOf"] = json!([
            {"required": ["job", "ip"]},
            {"required": ["targets_files"], "not": {"required": ["ip"]}},
        ]);
        schema["properties"]["targets_files"]["minItems"] = 1.into();
    }
    schema
}

/// The value of a key, with what it means.
fn property(key: &Key) -> Value {
    let mut schema = value(&key.kind, &key.bounds);
    let mut description = key.description();
    if let Some(words) = key.otherwise {
        description.push_str(&format!(" Default: {words}."));
    }
    schema["description"] = description.into();
    if let Some(default) = key.default.map(|default| default()) {
        schema["default"] = default;
    }
    if key.name == SCHEMA.name
        && let Value::Object(schema) = &mut schema
    {
        schema.remove("pattern");
    }
    schema
}

fn value(kind: &Kind, bounds: &Bounds) -> Value {
    match kind {
        Kind::Flag => json!({"type": "boolean"}),
        Kind::Number => bounded(json!({"type": "number"}), bounds),
        Kind::Integer => bounded(json!({"type": "integer"}), bounds),
        Kind::Duration => {
            let mut seconds = bounded(json!({"type": "number"}), bounds);
            if bounds.min.is_none() && bounds.above.is_none() {
                seconds["exclusiveMinimum"] = 0.into();
            }
            seconds["description"] = "seconds".into();
            json!({
                "oneOf": [
                    seconds,
                    {
                        "type": "string",
                        "pattern": "^\\s*[0-9]",
                        "description": "a duration such as \"1.5s\", \"250ms\" or \"1m 30s\"",
                    },
                ],
            })
        }
        Kind::Text | Kind::Path | Kind::SecretFile(_) => {
            json!({"type": "string", "pattern": "\\S"})
        }
        Kind::Secret => json!({"type": "string"}),
        Kind::Port => json!({
            "oneOf": [
                bounded(json!({"type": "integer"}), bounds),
                {"type": "string", "pattern": "^\\s*[0-9]{1,5}\\s*$"},
            ],
        }),
        Kind::Address => json!({
            "type": "string",
            "anyOf": [{"format": "ipv4"}, {"format": "ipv6"}],
        }),
        Kind::Choice(words) => {
            let texts = words.iter().map(|word| Value::from(*word));
            let numbers = words
                .iter()
                .filter_map(|word| word.parse::<u64>().ok())
                .map(Value::from);
            json!({"enum": texts.chain(numbers).collect::<Vec<_>>()})
        }
        Kind::Labels => json!({
            "type": "object",
            "additionalProperties": {"type": "string"},
            "propertyNames": label_names(),
        }),
        Kind::Texts => json!({
            "type": "object",
            "additionalProperties": {"type": "string"},
        }),
        Kind::Scrapers => json!({"$ref": "#/$defs/scrapers"}),
        Kind::Sinks => json!({"$ref": "#/$defs/sinks"}),
        Kind::List(kind) => json!({"type": "array", "items": value(kind, bounds)}),
        Kind::Object(table) => of_table(table),
        Kind::Either(kinds) => {
            let kinds: Vec<Value> = kinds.iter().map(|kind| value(kind, bounds)).collect();
            json!({"anyOf": kinds})
        }
        // A kind that is not known here may be anything.
        _ => json!({}),
    }
}

/// Names that a label may be given.
fn label_names() -> Value {
    json!({
        "pattern": "^(?!__)[a-zA-Z_][a-zA-Z0-9_]*$",
        "not": {"enum": RESERVED_LABELS},
    })
}

fn bounded(mut schema: Value, bounds: &Bounds) -> Value {
    for (word, bound) in [
        ("minimum", bounds.min),
        ("exclusiveMinimum", bounds.above),
        ("maximum", bounds.max),
    ] {
        if let Some(bound) = bound.filter(|bound| bound.abs() < MAX_EXACT) {
            schema[word] = match bound.fract() == 0.0 {
                true => (bound as i64).into(),
                false => bound.into(),
            };
        }
    }
    schema
}

/// A list of scrapers: names, and objects of a name and settings.
fn scraper_list(scrapers: &ScraperRegistry) -> Value {
    let names = scrapers.names();
    // A scraper with a key that must be given is not named alone.
    let alone: Vec<&str> = names
        .iter()
        .copied()
        .filter(|name| {
            let table = scrapers.table(name);
            table.is_none_or(|table| !table.keys.iter().any(|key| key.required))
        })
        .collect();
    let settings = names
        .iter()
        .map(|name| ((*name).to_owned(), settings(scrapers.table(name))))
        .collect();
    let mut forms = vec![one_of_these(
        "name of a scraper and settings for it",
        settings,
    )];
    if !alone.is_empty() {
        forms.insert(
            0,
            json!({"enum": alone, "description": "name of a scraper"}),
        );
    }
    json!({"type": "array", "minItems": 1, "items": {"oneOf": forms}})
}

/// A list of sinks: objects of a kind and settings.
fn sink_list(sinks: &SinkRegistry) -> Value {
    let settings = sinks.names().into_iter().map(|name| {
        let mut settings = settings(sinks.table(name));
        settings["properties"][push::NAME.name] = property(&push::NAME);
        (name.to_owned(), settings)
    });
    let sink = one_of_these("kind of a sink and settings for it", settings.collect());
    json!({"type": "array", "minItems": 1, "items": sink})
}

/// The settings of a scraper or sink: any, where they are not declared.
fn settings(table: Option<&'static Table>) -> Value {
    table.map_or_else(|| json!({"type": "object"}), of_table)
}

/// An object with exactly one of these keys.
fn one_of_these(description: &str, keys: Map<String, Value>) -> Value {
    json!({
        "type": "object",
        "description": description,
        "minProperties": 1,
        "maxProperties": 1,
        "properties": keys,
        "additionalProperties": false,
    })
}

/// The schema with the keys of all objects sorted, so that its text is the same whether or not some crate of the build lets
/// serde_json keep the order of insertion.
fn sorted(mut schema: Value) -> Value {
    sort_keys(&mut schema);
    schema
}

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
