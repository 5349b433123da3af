//! The shape of the files: every key there is, its type and what it means.
//!
//! These types are never filled. The JSON Schemas are derived from them, and so are the lists of known
//! keys that the parser accepts and takes its hints from, so that the three cannot disagree.
#![expect(dead_code, reason = "only the derived schemas are used")]

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::Value;

/// A `*.json` file of the configuration directory: devices that are measured together in one cycle.
#[derive(JsonSchema)]
#[schemars(title = "PingExporter group of devices", deny_unknown_fields)]
pub(crate) struct GroupFile {
    /// Where the schema of this file is, for editors; not used otherwise.
    #[schemars(rename = "$schema")]
    schema: Option<String>,
    /// Settings of the group.
    conf: Conf,
    /// The devices.
    jobs: Vec<Job>,
}

/// Settings of a group of devices.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(crate) struct Conf {
    /// Name of the group, unique among all files. The `job` of the exporter's own series.
    prom_id: Text,
    /// Time between the starts of two cycles.
    interval: Span,
    /// How long a probe waits for its answer; below `interval`. Default: 1 second, or half of
    /// `interval` where that is shorter.
    timeout: Option<Span>,
    /// Value of `dev_ping` for a device that is down, in milliseconds. Default: `timeout` in
    /// milliseconds.
    value_dev_down: Option<f64>,
    /// Probes for each device and cycle.
    #[schemars(range(min = 1, max = 10000), extend("default" = 1))]
    count: Option<u32>,
    /// Time between two probes of one device within a cycle.
    #[schemars(extend("default" = 1))]
    probe_interval: Option<Span>,
    /// Most addresses that one range or subnet of `jobs` may stand for.
    #[schemars(range(min = 1, max = 16777216), extend("default" = 65536))]
    max_targets: Option<u32>,
    /// Which addresses of a host name to measure.
    #[schemars(extend("default" = "any"))]
    family: Option<FamilyName>,
    /// How fast the probes of a cycle may leave.
    pacer: Option<Pacer>,
    /// Labels for every device of the group.
    labels: Option<Labels>,
    /// What to measure on devices that have no `metrics` of their own.
    #[schemars(extend("default" = ["ping"]))]
    metrics: Option<Metrics>,
    /// Addresses, subnets and ranges that no device of the group may have.
    exclude: Option<Vec<Text>>,
}

/// How fast the probes of a cycle may leave.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(crate) struct Pacer {
    /// Probes a second.
    #[schemars(extend("exclusiveMinimum" = 0))]
    rate: Option<f64>,
    /// Probes that may leave back to back.
    #[schemars(range(min = 1, max = 65536))]
    burst: Option<u32>,
}

/// A device, or several that are alike.
#[derive(JsonSchema)]
#[schemars(
    deny_unknown_fields,
    extend("oneOf" = [{"required": ["job", "ip"]}, {"required": ["targets_files"], "not": {"required": ["ip"]}}])
)]
pub(crate) struct Job {
    /// Name of the device: its `device` label. `{ip}` stands for the address. May be absent beside
    /// `targets_files`, where the address is the name then.
    job: Option<Text>,
    /// Address of the device: IPv4, IPv6 or a host name (a port is dropped), a subnet such as
    /// `10.1.0.0/22`, or a range such as `10.1.0.10-10.1.0.50`.
    ip: Option<Text>,
    /// Prometheus `file_sd` files with devices, in place of `ip`: paths relative to this file, with
    /// `*` and `?` allowed in the file name.
    #[schemars(length(min = 1))]
    targets_files: Option<Vec<Text>>,
    /// Which addresses of a host name to measure.
    family: Option<FamilyName>,
    /// Addresses, subnets and ranges to leave out.
    exclude: Option<Vec<Text>>,
    /// Labels for these devices, over those of `conf`.
    labels: Option<Labels>,
    /// What to measure, instead of what `conf` says.
    metrics: Option<Metrics>,
    /// How long a probe waits for its answer, instead of what `conf` says.
    timeout: Option<Span>,
    /// Probes in each cycle, instead of what `conf` says.
    #[schemars(range(min = 1, max = 10000))]
    count: Option<u32>,
    /// Time between two of these probes, instead of what `conf` says.
    probe_interval: Option<Span>,
}

/// The push configuration: where results are pushed.
#[derive(JsonSchema)]
#[schemars(title = "PingExporter push configuration", deny_unknown_fields)]
pub(crate) struct PushFile {
    /// Where the schema of this file is, for editors; not used otherwise.
    #[schemars(rename = "$schema")]
    schema: Option<String>,
    /// The Pushgateway: a host name, an IPv4 or IPv6 address, or a URL such as
    /// `https://push.example/path`.
    ip_pushgateway: Text,
    /// Port of the Pushgateway. Default: 9091, or the port of the URL.
    port_pushgateway: Option<Port>,
    /// User for HTTP basic authentication.
    username_pushgateway: Option<String>,
    /// Password for HTTP basic authentication.
    pass_pushgateway: Option<String>,
    /// File that holds the password, relative to this file; instead of `pass_pushgateway`.
    pass_pushgateway_file: Option<Text>,
    /// What makes up a group on the Pushgateway: `device` for one group for each device name, `config`
    /// for one group for each configuration file.
    #[schemars(extend("default" = "device"))]
    grouping: Option<GroupingName>,
    /// How long one push may take.
    #[schemars(extend("default" = 10))]
    timeout_pushgateway: Option<Span>,
    /// Pushes that may be under way at one time.
    #[schemars(range(min = 1, max = 1024), extend("default" = 8))]
    max_parallel_pushes: Option<u32>,
}

/// A targets file in Prometheus' `file_sd` form.
#[derive(JsonSchema)]
#[schemars(title = "PingExporter targets file")]
pub(crate) struct TargetsFile(Vec<TargetGroup>);

/// Devices that share labels.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(crate) struct TargetGroup {
    /// Addresses or host names; a port is dropped.
    targets: Vec<Text>,
    /// Labels for these devices. `device` names them; labels that start with `__` are not used.
    labels: Option<BTreeMap<String, String>>,
}

/// A string that is not blank.
struct Text;

impl JsonSchema for Text {
    fn schema_name() -> Cow<'static, str> {
        "text".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": "\\S"})
    }
}

/// A duration.
struct Span;

impl JsonSchema for Span {
    fn schema_name() -> Cow<'static, str> {
        "duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "oneOf": [
                {"type": "number", "exclusiveMinimum": 0, "description": "seconds"},
                {
                    "type": "string",
                    "pattern": "^\\s*[0-9]",
                    "description": "a duration such as \"1.5s\", \"250ms\" or \"1m 30s\"",
                },
            ],
        })
    }
}

/// A TCP port.
struct Port;

impl JsonSchema for Port {
    fn schema_name() -> Cow<'static, str> {
        "port".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "oneOf": [
                {"type": "integer", "minimum": 1, "maximum": 65535},
                {"type": "string", "pattern": "^[0-9]{1,5}$"},
            ],
        })
    }
}

/// The name of an address family.
struct FamilyName;

impl JsonSchema for FamilyName {
    fn schema_name() -> Cow<'static, str> {
        "family".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"enum": ["4", "6", "any", "both", 4, 6]})
    }
}

/// The name of a grouping.
struct GroupingName;

impl JsonSchema for GroupingName {
    fn schema_name() -> Cow<'static, str> {
        "grouping".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "enum": ["device", "config"]})
    }
}

/// Label names and values.
struct Labels;

impl JsonSchema for Labels {
    fn schema_name() -> Cow<'static, str> {
        "labels".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "additionalProperties": {"type": "string"},
            "propertyNames": {
                "pattern": "^(?!__)[a-zA-Z_][a-zA-Z0-9_]*$",
                "not": {"enum": crate::labels::RESERVED},
            },
        })
    }
}

/// A list of scrapers, each with or without settings.
struct Metrics;

impl JsonSchema for Metrics {
    fn schema_name() -> Cow<'static, str> {
        "metrics".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "array",
            "minItems": 1,
            "items": {
                "oneOf": [
                    {"type": "string", "minLength": 1, "description": "name of a scraper"},
                    {
                        "type": "object",
                        "description": "name of a scraper and settings for it",
                        "minProperties": 1,
                        "maxProperties": 1,
                        "additionalProperties": {"type": "object"},
                    },
                ],
            },
        })
    }
}

/// Takes `null` out of the types of optional keys: an optional key may be absent, but not `null`.
pub(crate) fn without_null(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            if let Some(Value::Array(types)) = object.get_mut("type") {
                types.retain(|name| name != "null");
                if let [only] = types.as_slice() {
                    let only = only.clone();
                    object.insert("type".to_owned(), only);
                }
            }
            if let Some(Value::Array(forms)) = object.get_mut("anyOf") {
                forms.retain(|form| form.get("type").is_none_or(|name| name != "null"));
                if let [Value::Object(only)] = forms.as_slice() {
                    let only = only.clone();
                    object.remove("anyOf");
                    for (key, value) in only {
                        object.entry(key).or_insert(value);
                    }
                }
            }
            if let Some(Value::Array(values)) = object.get_mut("enum") {
                values.retain(|value| !value.is_null());
            }
            object.values_mut().for_each(without_null);
        }
        Value::Array(items) => items.iter_mut().for_each(without_null),
        _ => {}
    }
}
