//! Types that a setting can have.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use super::{Bounds, Key, Kind, Node, Problems, Table, View, duration, nearest, suggestion};
use crate::Secret;

/// A type that a setting can have.
///
/// Implemented for numbers, text, durations and others here, for structs by [`settings!`](macro@crate::settings), and for
/// words by [`choices!`](crate::choices!). `Option` makes a key optional, `Vec` makes it a list.
pub trait Setting: Sized {
    /// The kind of the value.
    const KIND: Kind;
    /// The numbers that the type can hold.
    const BOUNDS: Bounds = Bounds::NONE;
    /// Whether the key may be left out.
    const OPTIONAL: bool = false;

    /// Decodes a value, and reports everything that is wrong with it.
    fn decode<'v, N: Node<'v>>(node: N, bounds: &Bounds, problems: &mut Problems) -> Option<Self>;

    /// The value as JSON. Secrets are not shown.
    fn encode(&self) -> Value;

    /// The value where the key is left out.
    fn absent() -> Option<Self> {
        None
    }

    /// Checks a value that was set in code by the bounds that hold for files.
    fn check(&self, bounds: &Bounds, problems: &mut Problems) {
        let _ = (bounds, problems);
    }
}

/// Reports that something else was found than expected.
fn unexpected(view: View<'_>, expected: impl std::fmt::Display, problems: &mut Problems) {
    problems.refuse(format_args!(
        "found {}, expected {expected}",
        view.describe()
    ));
}

impl Setting for bool {
    const KIND: Kind = Kind::Flag;

    fn decode<'v, N: Node<'v>>(node: N, _: &Bounds, problems: &mut Problems) -> Option<Self> {
        match node.view() {
            View::Flag(flag) => Some(flag),
            other => {
                unexpected(other, Self::KIND.describe(), problems);
                None
            }
        }
    }

    fn encode(&self) -> Value {
        (*self).into()
    }
}

impl Setting for f64 {
    const KIND: Kind = Kind::Number;

    fn decode<'v, N: Node<'v>>(node: N, bounds: &Bounds, problems: &mut Problems) -> Option<Self> {
        let View::Number(number) = node.view() else {
            unexpected(node.view(), Self::KIND.describe(), problems);
            return None;
        };
        let before = problems.error_count();
        number.check(bounds, problems);
        (problems.error_count() == before).then_some(number)
    }

    fn encode(&self) -> Value {
        // Whole numbers are written without a fraction.
        if self.fract() == 0.0 && self.abs() < 9e15 {
            return (*self as i64).into();
        }
        (*self).into()
    }

    fn check(&self, bounds: &Bounds, problems: &mut Problems) {
        if !self.is_finite() {
            problems.refuse("not a finite number");
        } else if let Some(reason) = bounds.refuse(*self, &Self::KIND) {
            problems.refuse(reason);
        }
    }
}

/// A whole number within `bounds`.
fn whole<'v, N: Node<'v>>(node: N, bounds: &Bounds, problems: &mut Problems) -> Option<f64> {
    let expected = || bounds.describe(&Kind::Integer);
    let View::Number(number) = node.view() else {
        unexpected(node.view(), expected(), problems);
        return None;
    };
    if number.fract() != 0.0 {
        problems.refuse(format_args!("found {number}, expected {}", expected()));
        return None;
    }
    if let Some(reason) = bounds.refuse(number, &Kind::Integer) {
        problems.refuse(reason);
        return None;
    }
    Some(number)
}

macro_rules! whole_numbers {
    ($($type:ident),+) => {$(
        impl Setting for $type {
            const KIND: Kind = Kind::Integer;
            const BOUNDS: Bounds = Bounds::range($type::MIN as f64, $type::MAX as f64);

            fn decode<'v, N: Node<'v>>(node: N, bounds: &Bounds, problems: &mut Problems) -> Option<Self> {
                whole(node, bounds, problems).map(|number| number as $type)
            }

            fn encode(&self) -> Value {
                (*self).into()
            }

            fn check(&self, bounds: &Bounds, problems: &mut Problems) {
                if let Some(reason) = bounds.refuse(*self as f64, &Self::KIND) {
                    problems.refuse(reason);
                }
            }
        }
    )+};
}

whole_numbers!(u8, u16, u32, u64, usize);

impl Setting for Duration {
    const KIND: Kind = Kind::Duration;

    fn decode<'v, N: Node<'v>>(node: N, bounds: &Bounds, problems: &mut Problems) -> Option<Self> {
        let read = match node.view() {
            View::Number(seconds) => duration::from_seconds(seconds),
            View::Text(text) => duration::parse_duration(text),
            other => {
                unexpected(other, duration::FORMS, problems);
                return None;
            }
        };
        let reason = match read {
            Ok(duration) => match bounds.refuse(duration.as_secs_f64(), &Self::KIND) {
                None => return Some(duration),
                Some(reason) => reason,
            },
            Err(error) => error.to_string(),
        };
        problems.refuse(reason);
        None
    }

    fn encode(&self) -> Value {
        self.as_secs_f64().encode()
    }

    fn check(&self, bounds: &Bounds, problems: &mut Problems) {
        if let Err(error) = duration::bounded(*self) {
            problems.refuse(error);
        } else if let Some(reason) = bounds.refuse(self.as_secs_f64(), &Self::KIND) {
            problems.refuse(reason);
        }
    }
}

/// Text of any kind; `None` when it was refused.
fn text<'v, N: Node<'v>>(node: N, kind: &Kind, problems: &mut Problems) -> Option<&'v str> {
    match node.view() {
        View::Text(text) => Some(text),
        other => {
            unexpected(other, kind.describe(), problems);
            None
        }
    }
}

fn refuse_blank(text: &str, problems: &mut Problems) -> bool {
    let blank = text.trim().is_empty();
    if blank {
        problems.refuse("is empty");
    }
    blank
}

impl Setting for String {
    const KIND: Kind = Kind::Text;

    fn decode<'v, N: Node<'v>>(node: N, _: &Bounds, problems: &mut Problems) -> Option<Self> {
        let text = text(node, &Self::KIND, problems)?;
        (!refuse_blank(text, problems)).then(|| text.to_owned())
    }

    fn encode(&self) -> Value {
        self.as_str().into()
    }

    fn check(&self, _: &Bounds, problems: &mut Problems) {
        refuse_blank(self, problems);
    }
}

impl Setting for PathBuf {
    const KIND: Kind = Kind::Path;

    fn decode<'v, N: Node<'v>>(node: N, _: &Bounds, problems: &mut Problems) -> Option<Self> {
        let text = text(node, &Self::KIND, problems)?;
        (!refuse_blank(text, problems)).then(|| text.into())
    }

    fn encode(&self) -> Value {
        self.to_string_lossy().into_owned().into()
    }
}

impl Setting for Secret {
    const KIND: Kind = Kind::Secret;

    fn decode<'v, N: Node<'v>>(node: N, _: &Bounds, problems: &mut Problems) -> Option<Self> {
        text(node, &Self::KIND, problems).map(Self::new)
    }

    fn encode(&self) -> Value {
        self.to_string().into()
    }
}

impl Setting for IpAddr {
    const KIND: Kind = Kind::Address;

    fn decode<'v, N: Node<'v>>(node: N, _: &Bounds, problems: &mut Problems) -> Option<Self> {
        let text = text(node, &Self::KIND, problems)?;
        let address = text.trim().parse().ok();
        if address.is_none() {
            problems.refuse(format_args!(
                "found `{text}`, expected {}",
                Self::KIND.describe()
            ));
        }
        address
    }

    fn encode(&self) -> Value {
        self.to_string().into()
    }
}

/// A port, written as a number or as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Port(pub u16);

impl Setting for Port {
    const KIND: Kind = Kind::Port;
    const BOUNDS: Bounds = Bounds::range(1.0, 65_535.0);

    fn decode<'v, N: Node<'v>>(node: N, bounds: &Bounds, problems: &mut Problems) -> Option<Self> {
        let number = match node.view() {
            View::Text(text) => match text.trim().parse::<f64>() {
                Ok(number) => return u16::decode(&Value::from(number), bounds, problems).map(Self),
                Err(_) => None,
            },
            _ => u16::decode(node, bounds, problems).map(Self),
        };
        if number.is_none() && matches!(node.view(), View::Text(_)) {
            unexpected(node.view(), bounds.describe(&Kind::Integer), problems);
        }
        number
    }

    fn encode(&self) -> Value {
        self.0.into()
    }
}

/// Reads one of `words`, where digits may be a number, and returns its position.
pub fn choose<'v, N: Node<'v>>(
    node: N,
    words: &'static [&'static str],
    problems: &mut Problems,
) -> Option<usize> {
    let kind = Kind::Choice(words);
    let given = match node.view() {
        View::Text(text) => text.trim().to_owned(),
        View::Number(number) if words.iter().any(|word| word.parse::<f64>().is_ok()) => {
            number.to_string()
        }
        other => {
            unexpected(other, kind.describe(), problems);
            return None;
        }
    };
    let position = words.iter().position(|word| *word == given);
    if position.is_none() {
        let meant = nearest(&given, words.iter().copied())
            .map_or(String::new(), |name| format!("; did you mean `{name}`?"));
        problems.refuse(format_args!(
            "found `{given}`, expected {}{meant}",
            kind.describe()
        ));
    }
    position
}

impl<T: Setting> Setting for Option<T> {
    const KIND: Kind = T::KIND;
    const BOUNDS: Bounds = T::BOUNDS;
    const OPTIONAL: bool = true;

    fn decode<'v, N: Node<'v>>(node: N, bounds: &Bounds, problems: &mut Problems) -> Option<Self> {
        T::decode(node, bounds, problems).map(Some)
    }

    fn encode(&self) -> Value {
        self.as_ref().map_or(Value::Null, T::encode)
    }

    fn absent() -> Option<Self> {
        Some(None)
    }

    fn check(&self, bounds: &Bounds, problems: &mut Problems) {
        if let Some(value) = self {
            value.check(bounds, problems);
        }
    }
}

impl<T: Setting> Setting for Vec<T> {
    const KIND: Kind = Kind::List(&T::KIND);
    const BOUNDS: Bounds = T::BOUNDS;
    const OPTIONAL: bool = true;

    fn decode<'v, N: Node<'v>>(node: N, bounds: &Bounds, problems: &mut Problems) -> Option<Self> {
        if node.view() != View::List {
            unexpected(node.view(), Self::KIND.describe(), problems);
            return None;
        }
        let decoded: Vec<Option<T>> = node
            .items()
            .enumerate()
            .map(|(index, item)| problems.within(index, |p| T::decode(item, bounds, p)))
            .collect();
        decoded.into_iter().collect()
    }

    fn encode(&self) -> Value {
        self.iter().map(T::encode).collect()
    }

    fn absent() -> Option<Self> {
        Some(Self::new())
    }

    fn check(&self, bounds: &Bounds, problems: &mut Problems) {
        for (index, value) in self.iter().enumerate() {
            problems.within(index, |p| value.check(bounds, p));
        }
    }
}

impl Setting for BTreeMap<String, String> {
    const KIND: Kind = Kind::Texts;
    const OPTIONAL: bool = true;

    fn decode<'v, N: Node<'v>>(node: N, _: &Bounds, problems: &mut Problems) -> Option<Self> {
        if node.view() != View::Object {
            unexpected(node.view(), Self::KIND.describe(), problems);
            return None;
        }
        let fields: Vec<Option<(String, String)>> = node
            .fields()
            .map(|(name, value)| {
                problems.within(name, |p| {
                    Some((name.to_owned(), text(value, &Kind::Text, p)?.to_owned()))
                })
            })
            .collect();
        fields.into_iter().collect()
    }

    fn encode(&self) -> Value {
        self.iter()
            .map(|(name, value)| (name.clone(), Value::from(value.as_str())))
            .collect()
    }

    fn absent() -> Option<Self> {
        Some(Self::new())
    }
}

/// An object whose keys are those of a table. Used by the code that [`settings!`](macro@crate::settings) writes.
#[derive(Debug, Clone, Copy)]
pub struct Object<N> {
    node: N,
    table: &'static Table,
}

impl<'v, N: Node<'v>> Object<N> {
    /// Opens `node`, and reports keys that the table does not have.
    pub fn open(node: N, table: &'static Table, problems: &mut Problems) -> Option<Self> {
        if node.view() != View::Object {
            let found = node.view().describe();
            match table.name {
                "" => problems.refuse(format_args!("found {found}, expected an object")),
                name => {
                    problems.error(format!("{name}: found {found}, expected an object"), None);
                }
            }
            return None;
        }
        for (name, _) in node.fields() {
            if table.key(name).is_none() {
                let message = format!("unknown key `{name}`{}", table.place());
                let hint = suggestion(name, table.keys.iter().map(|key| key.name));
                problems.error_at_key(name, message, hint);
            }
        }
        Some(Self { node, table })
    }

    /// The value of `key`, else `default`, else what the type holds for an absent value. Reports a key that is missing.
    pub fn read<T: Setting>(
        &self,
        key: &Key,
        default: impl FnOnce() -> Option<T>,
        problems: &mut Problems,
    ) -> Option<T> {
        if let Some(node) = self.node.get(key.name) {
            return problems.within(key.name, |p| T::decode(node, &key.bounds, p));
        }
        let value = default().or_else(T::absent);
        if value.is_none() {
            let message = format!("missing key `{}`{}", key.name, self.table.place());
            problems.error(message, None);
        }
        value
    }
}
