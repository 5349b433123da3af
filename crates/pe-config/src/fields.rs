//! Reading JSON objects with known keys.

use std::collections::HashMap;

use jsonc_parser::ast::{self, Value};
use jsonc_parser::common::Ranged;

use crate::report::Scope;
use crate::schema::Keys;
use crate::suggest;

/// Byte offset where a node starts.
pub(crate) fn start(node: &impl Ranged) -> usize {
    node.range().start
}

/// What a value is, as a message says it.
pub(crate) fn found(value: &Value<'_>) -> &'static str {
    match value {
        Value::StringLit(_) => "a string",
        Value::NumberLit(_) => "a number",
        Value::BooleanLit(_) => "a boolean",
        Value::Object(_) => "an object",
        Value::Array(_) => "an array",
        Value::NullKeyword(_) => "null",
    }
}

/// A JSON object of which all keys are known.
pub(crate) struct Fields<'o, 'a> {
    object: &'o ast::Object<'a>,
    known: &'static Keys,
    name: &'static str,
}

impl<'o, 'a> Fields<'o, 'a> {
    /// Opens `value`, called `name` in messages, and reports unknown and repeated keys.
    pub(crate) fn open(
        scope: Scope<'_, '_>,
        value: &'o Value<'a>,
        name: &'static str,
        known: &'static Keys,
    ) -> Option<Self> {
        let Value::Object(object) = value else {
            let message = format!("{name}: found {}, expected an object", found(value));
            scope.error(start(value), message);
            return None;
        };
        report_repeated(scope, object);
        for property in &object.properties {
            let key = property.name.as_str();
            if !known.iter().any(|name| name == key) {
                let hint = suggest::hint(key, known.iter().map(String::as_str));
                let message = format!("unknown key `{key}` in {name}");
                scope.error_hint(start(&property.name), message, hint);
            }
        }
        Some(Self {
            object,
            known,
            name,
        })
    }

    /// The value of `key`.
    pub(crate) fn get(&self, key: &str) -> Option<&'o Value<'a>> {
        debug_assert!(
            self.known.iter().any(|name| name == key),
            "{key} is not in the schema"
        );
        self.object
            .properties
            .iter()
            .find(|p| p.name.as_str() == key)
            .map(|p| &p.value)
    }

    /// The value of `key`; reports it when it is missing.
    pub(crate) fn require(&self, scope: Scope<'_, '_>, key: &str) -> Option<&'o Value<'a>> {
        let value = self.get(key);
        if value.is_none() {
            scope.error(
                self.start(),
                format!("missing key `{key}` in {}", self.name),
            );
        }
        value
    }

    /// Reports a `$schema` that is no string. It is for editors, and not used otherwise.
    pub(crate) fn check_schema_key(&self, scope: Scope<'_, '_>) {
        if let Some(value) = self.get("$schema")
            && !matches!(value, Value::StringLit(_))
        {
            let message = format!("$schema: found {}, expected a string", found(value));
            scope.error(start(value), message);
        }
    }

    /// Byte offset where the object starts.
    pub(crate) fn start(&self) -> usize {
        start(self.object)
    }
}

/// Reports keys that an object has more than once.
pub(crate) fn report_repeated(scope: Scope<'_, '_>, object: &ast::Object<'_>) {
    let properties = &object.properties;
    // Most objects are small, and comparing all keys is cheaper then than a table of them.
    let first: &dyn Fn(usize) -> Option<usize> = if properties.len() <= 16 {
        &|index| {
            let name = properties[index].name.as_str();
            properties[..index]
                .iter()
                .position(|p| p.name.as_str() == name)
        }
    } else {
        let mut table = HashMap::with_capacity(properties.len());
        for (index, property) in properties.iter().enumerate() {
            table.entry(property.name.as_str()).or_insert(index);
        }
        &move |index| {
            table
                .get(properties[index].name.as_str())
                .copied()
                .filter(|i| *i < index)
        }
    };
    for (index, property) in properties.iter().enumerate() {
        if let Some(first) = first(index) {
            let place = scope.place(start(&properties[first].name));
            let message = format!(
                "key `{}` appears twice, first at {place}",
                property.name.as_str()
            );
            scope.error_hint(
                start(&property.name),
                message,
                "remove one of them".to_owned(),
            );
        }
    }
}

/// A string that is not blank; `name` is what messages call it.
pub(crate) fn text<'v>(scope: Scope<'_, '_>, value: &'v Value<'_>, name: &str) -> Option<&'v str> {
    let Value::StringLit(literal) = value else {
        let message = format!("{name}: found {}, expected a string", found(value));
        scope.error(start(value), message);
        return None;
    };
    if literal.value.trim().is_empty() {
        scope.error(start(value), format!("{name} is empty"));
        return None;
    }
    Some(&literal.value)
}

/// The elements of an array; `name` is what messages call it.
pub(crate) fn list<'v, 'a>(
    scope: Scope<'_, '_>,
    value: &'v Value<'a>,
    name: &str,
) -> Option<&'v [Value<'a>]> {
    let Value::Array(array) = value else {
        let message = format!("{name}: found {}, expected an array", found(value));
        scope.error(start(value), message);
        return None;
    };
    Some(&array.elements)
}

/// `value` as a serde value.
pub(crate) fn to_json(value: &Value<'_>) -> serde_json::Value {
    match value {
        Value::StringLit(literal) => serde_json::Value::String(literal.value.to_string()),
        Value::NumberLit(literal) => {
            serde_json::from_str(literal.value).unwrap_or(serde_json::Value::Null)
        }
        Value::BooleanLit(literal) => serde_json::Value::Bool(literal.value),
        Value::NullKeyword(_) => serde_json::Value::Null,
        Value::Array(array) => array.elements.iter().map(to_json).collect(),
        Value::Object(object) => object
            .properties
            .iter()
            .map(|p| (p.name.as_str().to_owned(), to_json(&p.value)))
            .collect(),
    }
}
