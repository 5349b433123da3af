//! What to measure on a device: scrapers and their settings.

use std::sync::Arc;

use jsonc_parser::ast::{self, Value};

use crate::catalog::{CommonSettings, ScraperCatalog};
use crate::config::MetricConfig;
use crate::fields::{self, found, start};
use crate::group;
use crate::report::Scope;
use crate::suggest;

/// Reads a list such as `["ping", {"ping": {"count": 5}}]`. Settings are not checked here, since they
/// are checked together with the common settings of the device; see [`check_settings`].
pub(crate) fn parse(
    scope: Scope<'_, '_>,
    value: &Value<'_>,
    scrapers: &dyn ScraperCatalog,
) -> Option<Arc<[MetricConfig]>> {
    let elements = fields::list(scope, value, "metrics")?;
    if elements.is_empty() {
        let hint = "leave `metrics` out to measure `ping`";
        scope.error_hint(start(value), "metrics is empty", hint.to_owned());
        return None;
    }
    let names = scrapers.names();
    let mut metrics: Vec<MetricConfig> = Vec::with_capacity(elements.len());
    let mut sound = true;
    for element in elements {
        let Some((name, settings)) = entry(scope, element) else {
            sound = false;
            continue;
        };
        if !names.iter().any(|known| known == name) {
            let hint = suggest::hint(name, names.iter().map(String::as_str));
            scope.error_hint(start(element), format!("unknown metric `{name}`"), hint);
            sound = false;
            continue;
        }
        let metric = MetricConfig {
            scraper: name.into(),
            settings,
        };
        let mut earlier = metrics
            .iter()
            .filter(|other| other.scraper == metric.scraper);
        let again = earlier
            .clone()
            .any(|other| other.settings == metric.settings)
            || (earlier.next().is_some() && !scrapers.repeatable(name));
        if again {
            let hint = "write it once, with all its settings";
            let message = format!("metric `{name}` is listed twice");
            scope.error_hint(start(element), message, hint.to_owned());
            sound = false;
        }
        metrics.push(metric);
    }
    sound.then(|| metrics.into())
}

/// Scraper and settings of one element of the list.
fn entry<'v>(scope: Scope<'_, '_>, element: &'v Value<'_>) -> Option<(&'v str, serde_json::Value)> {
    match element {
        Value::StringLit(_) => Some((
            fields::text(scope, element, "metric")?,
            serde_json::Value::Null,
        )),
        Value::Object(object) => {
            let [property] = object.properties.as_slice() else {
                let message = "a metric with settings is an object with one key, its name";
                let hint = "such as {\"ping\": {\"count\": 5}}";
                scope.error_hint(start(element), message, hint.to_owned());
                return None;
            };
            match &property.value {
                Value::Object(settings) => {
                    report_repeated_within(scope, settings);
                    Some((property.name.as_str(), fields::to_json(&property.value)))
                }
                other => {
                    let message = format!(
                        "settings of metric `{}`: found {}, expected an object",
                        property.name.as_str(),
                        found(other)
                    );
                    scope.error(start(other), message);
                    None
                }
            }
        }
        other => {
            let message = format!(
                "metric: found {}, expected a name or an object with settings",
                found(other)
            );
            scope.error(start(other), message);
            None
        }
    }
}

fn report_repeated_within(scope: Scope<'_, '_>, object: &ast::Object<'_>) {
    fields::report_repeated(scope, object);
    for property in &object.properties {
        if let Value::Object(inner) = &property.value {
            report_repeated_within(scope, inner);
        }
    }
}

/// Checks the settings of `metrics`, which were read from `value`, against the catalog. `value` is
/// `None` for a list that was written nowhere; problems are reported at `fallback` then.
pub(crate) fn check_settings(
    scope: Scope<'_, '_>,
    value: Option<&Value<'_>>,
    fallback: usize,
    metrics: &[MetricConfig],
    scrapers: &dyn ScraperCatalog,
    common: &CommonSettings,
) {
    let elements = value
        .and_then(|value| value.as_array())
        .map(|array| &array.elements);
    for (index, metric) in metrics.iter().enumerate() {
        let element = elements.and_then(|elements| elements.get(index));
        let offset = |pointer: &str| {
            element.map_or(fallback, |element| {
                let settings = element
                    .as_object()
                    .and_then(|object| object.properties.first())
                    .map_or(element, |property| &property.value);
                place(settings, pointer)
            })
        };
        if let Err(problem) = scrapers.check(&metric.scraper, &metric.settings, common) {
            let message = format!("metric `{}`: {}", metric.scraper, problem.message);
            let pointer = problem
                .pointer
                .or_else(|| quoted_key(&problem.message, &metric.settings));
            scope.error(offset(pointer.as_deref().unwrap_or("")), message);
        } else if let Some((message, hint)) = overrun_of(&metric.settings, common) {
            scope.warn(offset("/count"), message, hint);
        }
    }
}

/// Pointer to the key of `settings` that `message` quotes, as serde's messages do.
fn quoted_key(message: &str, settings: &serde_json::Value) -> Option<String> {
    let key = message.split('`').nth(1)?;
    settings.get(key)?;
    Some(format!("/{}", key.replace('~', "~0").replace('/', "~1")))
}

/// What to say of a scraper with a `count` of its own by which its cycle is longer than the interval.
fn overrun_of(settings: &serde_json::Value, common: &CommonSettings) -> Option<(String, String)> {
    let count = u32::try_from(settings.get("count")?.as_u64()?).ok()?;
    group::overrun(&CommonSettings { count, ..*common })
}

/// Where the value at a JSON pointer starts; for an unknown key, which is in the file, where the key
/// starts; else the deepest value on the way to it.
fn place(value: &Value<'_>, pointer: &str) -> usize {
    let Some(pointer) = pointer.strip_prefix('/') else {
        return start(value);
    };
    let (token, rest) = match pointer.find('/') {
        Some(end) => pointer.split_at(end),
        None => (pointer, ""),
    };
    let token = token.replace("~1", "/").replace("~0", "~");
    let inner = match value {
        Value::Object(object) => object
            .properties
            .iter()
            .find(|p| p.name.as_str() == token)
            .map(|p| &p.value),
        Value::Array(array) => token
            .parse()
            .ok()
            .and_then(|i: usize| array.elements.get(i)),
        _ => None,
    };
    inner.map_or(start(value), |inner| place(inner, rest))
}
