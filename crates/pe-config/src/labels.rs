//! Configured labels, and the names that they may not have.

use jsonc_parser::ast::Value;

use crate::fields::{self, found, start};
use crate::report::Scope;

/// Label names that our own series carry, sorted: a configured label of that name would clash or be
/// overwritten without a word (the Pushgateway does so with `job`).
pub(crate) const RESERVED: &[&str] = &[
    "device", "exporter", "family", "ip", "job", "le", "quantile", "reason",
];

/// Why `name` cannot be the name of a configured label.
pub(crate) fn refuse_name(name: &str) -> Option<String> {
    if name.is_empty() {
        return Some("a label name cannot be empty".to_owned());
    }
    let mut bytes = name.bytes();
    let first = bytes
        .next()
        .is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    if !first || !bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        return Some(format!("`{name}` is not a label name"));
    }
    if name.starts_with("__") {
        return Some(format!(
            "label names that start with `__`, like `{name}`, are reserved"
        ));
    }
    RESERVED
        .contains(&name)
        .then(|| format!("the label `{name}` is reserved"))
}

/// A hint to go with [`refuse_name`].
pub(crate) fn name_hint(name: &str) -> Option<String> {
    if RESERVED.contains(&name) {
        let text = "it would clash with what the series carry already; choose another name";
        return Some(text.to_owned());
    }
    let plain: String = name
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == '_' {
                c
            } else {
                '_'
            }
        })
        .collect();
    if plain == name || refuse_name(&plain).is_some() {
        let text = "a label name has letters, digits and `_`, and does not start with a digit";
        return (plain != name || name.starts_with(|c: char| c.is_ascii_digit()))
            .then(|| text.to_owned());
    }
    Some(format!(
        "a label name has letters, digits and `_`: write `{plain}`"
    ))
}

/// Reads an object of label names and values.
pub(crate) fn parse<'v>(
    scope: Scope<'_, '_>,
    value: &'v Value<'_>,
) -> Option<Vec<(&'v str, &'v str)>> {
    let Value::Object(object) = value else {
        let message = format!("labels: found {}, expected an object", found(value));
        scope.error(start(value), message);
        return None;
    };
    fields::report_repeated(scope, object);
    let mut labels = Vec::with_capacity(object.properties.len());
    let mut sound = true;
    for property in &object.properties {
        let name = property.name.as_str();
        if let Some(message) = refuse_name(name) {
            scope.error_hint(start(&property.name), message, name_hint(name));
            sound = false;
        }
        match &property.value {
            Value::StringLit(literal) => labels.push((name, literal.value.as_ref())),
            other => {
                let message = format!("label `{name}`: found {}, expected a string", found(other));
                let hint = matches!(other, Value::NumberLit(_) | Value::BooleanLit(_))
                    .then(|| format!("write \"{}\"", scope.document.source(other)));
                scope.error_hint(start(other), message, hint);
                sound = false;
            }
        }
    }
    sound.then_some(labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prometheus_names_pass_and_reserved_ones_do_not() {
        for name in ["site", "_x", "rack_2", "instance"] {
            assert_eq!(refuse_name(name), None, "{name}");
        }
        for name in [
            "", "2nd", "a-b", "a b", "é", "__meta", "device", "job", "le",
        ] {
            assert!(refuse_name(name).is_some(), "{name}");
        }
        assert_eq!(name_hint("a-b").unwrap().rsplit_once('`').unwrap().1, "");
    }
}
