//! The declaration of a key.

use std::fmt;

use serde_json::Value;

/// The kind of a setting's value.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Kind {
    /// `true` or `false`.
    Flag,
    /// A number, perhaps within [`Bounds`].
    Number,
    /// A whole number within [`Bounds`].
    Integer,
    /// A number of seconds, or text such as `1.5s`, `250ms` or `1m 30s`.
    Duration,
    /// Text that is not blank.
    Text,
    /// Text that is never shown.
    Secret,
    /// The path of a file that holds the value of another key, which is [`Kind::Secret`]; relative to the file that
    /// names it.
    SecretFile(&'static str),
    /// The path of a file, relative to the file that names it.
    Path,
    /// A port, as a number or as text.
    Port,
    /// An IPv4 or IPv6 address.
    Address,
    /// One of these words. Numbers are accepted for words that are digits.
    Choice(&'static [&'static str]),
    /// An object of label names and values.
    Labels,
    /// An object of names and texts.
    Texts,
    /// A list of scrapers: names, or objects of one name and its settings.
    Scrapers,
    /// A list of sinks: objects of one name and its settings.
    Sinks,
    /// A list of values of one kind.
    List(&'static Kind),
    /// An object with the keys of a table.
    Object(&'static Table),
    /// A value of one of several kinds.
    Either(&'static [Kind]),
}

impl Kind {
    /// Whether the value is a single one, which environment variables and flags can hold.
    #[must_use]
    pub const fn is_scalar(&self) -> bool {
        !matches!(
            self,
            Self::Labels
                | Self::Texts
                | Self::Scrapers
                | Self::Sinks
                | Self::List(_)
                | Self::Object(_)
                | Self::Either(_)
        )
    }

    /// What a value of the kind is, as a message says it: `a number`, `one of …`.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Flag => "true or false".to_owned(),
            Self::Number => "a number".to_owned(),
            Self::Integer => "a whole number".to_owned(),
            Self::Duration => super::duration::FORMS.to_owned(),
            Self::Text | Self::Secret => "a string".to_owned(),
            Self::SecretFile(_) | Self::Path => "the path of a file".to_owned(),
            Self::Port => "a whole number from 1 to 65535".to_owned(),
            Self::Address => "an IPv4 or IPv6 address".to_owned(),
            Self::Choice(words) => alternatives(words.iter().map(|word| format!("`{word}`"))),
            Self::Labels | Self::Texts | Self::Object(_) => "an object".to_owned(),
            Self::Scrapers | Self::Sinks | Self::List(_) => "an array".to_owned(),
            Self::Either(kinds) => alternatives(kinds.iter().map(Self::describe)),
        }
    }
}

/// `a, b or c`.
fn alternatives(words: impl Iterator<Item = String>) -> String {
    let mut words: Vec<String> = words.collect();
    let Some(last) = words.pop() else {
        return String::new();
    };
    if words.is_empty() {
        last
    } else {
        format!("{} or {last}", words.join(", "))
    }
}

/// The numbers that a setting accepts. For a duration they are seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bounds {
    /// The least number, inclusive.
    pub min: Option<f64>,
    /// A number that all accepted ones are greater than.
    pub above: Option<f64>,
    /// The greatest number, inclusive.
    pub max: Option<f64>,
}

impl Bounds {
    /// No bounds.
    pub const NONE: Self = Self {
        min: None,
        above: None,
        max: None,
    };

    /// From `min` to `max`, both included.
    #[must_use]
    pub const fn range(min: f64, max: f64) -> Self {
        Self {
            min: Some(min),
            above: None,
            max: Some(max),
        }
    }

    /// Why `number` is refused, if it is; `kind` says what was expected.
    #[must_use]
    pub fn refuse(&self, number: f64, kind: &Kind) -> Option<String> {
        if self.above == Some(0.0) && number <= 0.0 {
            return Some("must be greater than zero".to_owned());
        }
        let below = self.min.is_some_and(|min| number < min)
            || self.above.is_some_and(|above| number <= above);
        let above = self.max.is_some_and(|max| number > max);
        (below || above).then(|| format!("out of range, expected {}", self.describe(kind)))
    }

    /// What is accepted, as a message says it.
    #[must_use]
    pub fn describe(&self, kind: &Kind) -> String {
        let kind = kind.describe();
        match (self.min, self.above, self.max) {
            (Some(min), _, Some(max)) => format!("{kind} from {min} to {max}"),
            (Some(min), _, None) => format!("{kind} of at least {min}"),
            (None, Some(above), _) => format!("{kind} above {above}"),
            (None, None, Some(max)) => format!("{kind} of at most {max}"),
            (None, None, None) => kind,
        }
    }
}

/// One key: its name, and all that is to be known of its value.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct Key {
    /// The name, as it stands in files.
    pub name: &'static str,
    /// The kind of its value.
    pub kind: Kind,
    /// The numbers that are accepted.
    pub bounds: Bounds,
    /// Whether the key must be given.
    pub required: bool,
    /// The value that holds where none is given.
    pub default: Option<fn() -> Value>,
    /// What holds where no value is given, where that is not a fixed value.
    pub otherwise: Option<&'static str>,
    /// Whether only files hold the key, not environment variables and flags.
    pub file_only: bool,
    /// What the key means, a line each.
    pub doc: &'static [&'static str],
}

impl Key {
    /// A key whose kind, bounds and necessity are those of the type `T`.
    #[must_use]
    pub const fn of<T: super::Setting>(name: &'static str, doc: &'static [&'static str]) -> Self {
        Self {
            name,
            kind: T::KIND,
            bounds: T::BOUNDS,
            required: !T::OPTIONAL,
            default: None,
            otherwise: None,
            file_only: false,
            doc,
        }
    }

    /// The key under another name than that of its field.
    #[must_use]
    pub const fn named(mut self, name: &'static str) -> Self {
        self.name = name;
        self
    }

    /// Accepts numbers from `min` to `max` only.
    #[must_use]
    pub const fn range(mut self, min: f64, max: f64) -> Self {
        self.bounds = Bounds::range(min, max);
        self
    }

    /// Accepts numbers greater than `above` only.
    #[must_use]
    pub const fn above(mut self, above: f64) -> Self {
        self.bounds.above = Some(above);
        self
    }

    /// The value that holds where none is given.
    #[must_use]
    pub const fn default(mut self, default: fn() -> Value) -> Self {
        self.default = Some(default);
        self.required = false;
        self
    }

    /// Leaves the key to files: it makes no sense for all of them together.
    #[must_use]
    pub const fn file_only(mut self) -> Self {
        self.file_only = true;
        self
    }

    /// Makes the value the path of a file that holds the secret `key`. What reads configuration files puts the file's
    /// text in the place of `key`.
    #[must_use]
    pub const fn secret_file(mut self, key: &'static str) -> Self {
        self.kind = Kind::SecretFile(key);
        self
    }

    /// Says what holds where no value is given.
    #[must_use]
    pub const fn otherwise(mut self, words: &'static str) -> Self {
        self.otherwise = Some(words);
        self
    }

    /// What the key means, as one paragraph.
    #[must_use]
    pub fn description(&self) -> String {
        paragraph(self.doc)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Key").field(&self.name).finish()
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.kind == other.kind && self.bounds == other.bounds
    }
}

/// The keys that an object may have.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Table {
    /// What messages call the object; may be empty.
    pub name: &'static str,
    /// What the object is, a line each.
    pub doc: &'static [&'static str],
    /// The keys.
    pub keys: &'static [Key],
}

impl Table {
    /// A table of keys. Made by [`settings!`](macro@crate::settings).
    #[must_use]
    pub const fn new(
        name: &'static str,
        doc: &'static [&'static str],
        keys: &'static [Key],
    ) -> Self {
        Self { name, doc, keys }
    }

    /// The key of that name.
    #[must_use]
    pub fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }

    /// ` in NAME`, or nothing for an object without a name.
    #[must_use]
    pub fn place(&self) -> String {
        if self.name.is_empty() {
            String::new()
        } else {
            format!(" in {}", self.name)
        }
    }

    /// What the object is, as one paragraph.
    #[must_use]
    pub fn description(&self) -> String {
        paragraph(self.doc)
    }
}

fn paragraph(lines: &[&str]) -> String {
    let lines: Vec<&str> = lines.iter().map(|line| line.trim()).collect();
    lines.join(" ").trim().to_owned()
}
