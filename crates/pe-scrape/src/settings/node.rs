//! A tree of values to decode: JSON, or the syntax tree of a file that knows its places.

use serde_json::Value;

/// What a node holds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum View<'v> {
    /// Nothing.
    Null,
    /// `true` or `false`.
    Flag(bool),
    /// A number.
    Number(f64),
    /// Text.
    Text(&'v str),
    /// A list; see [`Node::items`].
    List,
    /// An object; see [`Node::fields`].
    Object,
}

impl View<'_> {
    /// What the value is, as a message says it. Never shows the text of a string.
    #[must_use]
    pub fn describe(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Flag(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::Text(_) => "a string",
            Self::List => "an array",
            Self::Object => "an object",
        }
    }
}

/// A value in a tree of values.
pub trait Node<'v>: Copy {
    /// What the node holds.
    fn view(self) -> View<'v>;

    /// The values of a list; none of anything else.
    fn items(self) -> impl Iterator<Item = Self>;

    /// Keys and values of an object; none of anything else.
    fn fields(self) -> impl Iterator<Item = (&'v str, Self)>;

    /// The value under `key` of an object. Where a key is there twice, the first one's.
    fn get(self, key: &str) -> Option<Self> {
        self.fields()
            .find_map(|(name, value)| (name == key).then_some(value))
    }

    /// The node as JSON.
    fn to_json(self) -> Value;
}

impl<'v> Node<'v> for &'v Value {
    fn view(self) -> View<'v> {
        match self {
            Value::Null => View::Null,
            Value::Bool(flag) => View::Flag(*flag),
            Value::Number(number) => View::Number(number.as_f64().unwrap_or(f64::NAN)),
            Value::String(text) => View::Text(text),
            Value::Array(_) => View::List,
            Value::Object(_) => View::Object,
        }
    }

    fn items(self) -> impl Iterator<Item = Self> {
        self.as_array().into_iter().flatten()
    }

    fn fields(self) -> impl Iterator<Item = (&'v str, Self)> {
        self.as_object()
            .into_iter()
            .flatten()
            .map(|(name, value)| (name.as_str(), value))
    }

    fn get(self, key: &str) -> Option<Self> {
        self.as_object()?.get(key)
    }

    fn to_json(self) -> Value {
        self.clone()
    }
}
