//! The syntax tree of a file as a tree of settings.
//!
//! Settings are decoded from the tree itself, and the paths of their problems lead back to offsets in the file.

use std::collections::HashMap;

use jsonc_parser::ast;
use jsonc_parser::common::Ranged;
use pe_scrape::Value;
use pe_scrape::settings::{Node, Step, View};

/// Objects of at most this many keys are compared key by key, which is cheaper for them than a hash map.
const FEW_KEYS: usize = 16;

/// A value of a file.
#[derive(Clone, Copy)]
pub(crate) struct Syntax<'v> {
    value: &'v ast::Value<'v>,
    /// Keys of this object that are not shown; see [`Syntax::without`].
    hidden: &'static [&'static str],
}

impl<'v> Syntax<'v> {
    /// The tree below `value`.
    pub(crate) fn new(value: &'v ast::Value<'v>) -> Self {
        Self { value, hidden: &[] }
    }

    /// The same object without the keys `hidden`, which are read apart.
    pub(crate) fn without(self, hidden: &'static [&'static str]) -> Self {
        Self { hidden, ..self }
    }

    /// Byte offset at which the value starts.
    pub(crate) fn start(self) -> usize {
        self.value.range().start
    }

    /// The value's text in `text`, the text of its document.
    pub(crate) fn source(self, text: &str) -> &str {
        self.value.text(text)
    }

    /// Byte offset of the name of `key`, if the object has it.
    pub(crate) fn key_start(self, key: &str) -> Option<usize> {
        self.property(key)
            .map(|property| property.name.range().start)
    }

    /// The byte offset that `path` leads to: the start of a value, or, `at_key`, of the last key. Where the path leads
    /// nowhere, the start of the last value on the way.
    pub(crate) fn locate(self, path: &[Step], at_key: bool) -> usize {
        let Some((step, rest)) = path.split_first() else {
            return self.start();
        };
        let inner = match step {
            Step::Key(key) => {
                if at_key
                    && rest.is_empty()
                    && let Some(start) = self.key_start(key)
                {
                    return start;
                }
                self.property(key).map(|property| &property.value)
            }
            Step::Index(index) => self
                .value
                .as_array()
                .and_then(|array| array.elements.get(*index)),
        };
        match inner {
            Some(value) => Syntax::new(value).locate(rest, at_key),
            None => self.start(),
        }
    }

    /// Calls `tell` for each key that an object of the tree has again: its name, and where it stands first and again.
    pub(crate) fn each_repeated_key(self, tell: &mut impl FnMut(&str, usize, usize)) {
        match self.value {
            ast::Value::Object(object) => {
                repeated_keys(&object.properties, tell);
                for property in &object.properties {
                    Syntax::new(&property.value).each_repeated_key(tell);
                }
            }
            ast::Value::Array(array) => {
                for value in &array.elements {
                    Syntax::new(value).each_repeated_key(tell);
                }
            }
            _ => {}
        }
    }

    fn property(self, key: &str) -> Option<&'v ast::ObjectProp<'v>> {
        let object = self.value.as_object()?;
        let properties = &object.properties;
        properties
            .iter()
            .find(|property| property.name.as_str() == key)
    }
}

fn repeated_keys(properties: &[ast::ObjectProp<'_>], tell: &mut impl FnMut(&str, usize, usize)) {
    let mut known = HashMap::new();
    for (index, property) in properties.iter().enumerate() {
        let name = property.name.as_str();
        let first = if properties.len() <= FEW_KEYS {
            let mut earlier = properties[..index].iter();
            earlier.find(|earlier| earlier.name.as_str() == name)
        } else {
            let first = *known.entry(name).or_insert(property);
            (!std::ptr::eq(first, property)).then_some(first)
        };
        if let Some(first) = first {
            tell(name, first.name.range().start, property.name.range().start);
        }
    }
}

impl<'v> Node<'v> for Syntax<'v> {
    fn view(self) -> View<'v> {
        match self.value {
            ast::Value::StringLit(literal) => View::Text(&literal.value),
            ast::Value::NumberLit(literal) => {
                View::Number(literal.value.parse().unwrap_or(f64::NAN))
            }
            ast::Value::BooleanLit(literal) => View::Flag(literal.value),
            ast::Value::Object(_) => View::Object,
            ast::Value::Array(_) => View::List,
            ast::Value::NullKeyword(_) => View::Null,
        }
    }

    fn items(self) -> impl Iterator<Item = Self> {
        let array = self.value.as_array();
        let elements = array.into_iter().flat_map(|array| &array.elements);
        elements.map(Self::new)
    }

    fn fields(self) -> impl Iterator<Item = (&'v str, Self)> {
        let object = self.value.as_object();
        let properties = object.into_iter().flat_map(|object| &object.properties);
        let fields =
            properties.map(|property| (property.name.as_str(), Self::new(&property.value)));
        fields.filter(move |(name, _)| !self.hidden.contains(name))
    }

    fn to_json(self) -> Value {
        match self.value {
            ast::Value::StringLit(literal) => Value::String(literal.value.to_string()),
            ast::Value::NumberLit(literal) => {
                serde_json::from_str(literal.value).unwrap_or(Value::Null)
            }
            ast::Value::BooleanLit(literal) => Value::Bool(literal.value),
            ast::Value::NullKeyword(_) => Value::Null,
            ast::Value::Array(_) => self.items().map(Node::to_json).collect(),
            ast::Value::Object(_) => {
                let fields = self.fields();
                fields
                    .map(|(name, value)| (name.to_owned(), value.to_json()))
                    .collect()
            }
        }
    }
}
