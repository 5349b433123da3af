//! Layers: defaults < files < environment variables < flags, for every key that holds a single value.
//!
//! Which keys those are, how their variables are called and what their text stands for follows from the tables of keys:
//! every scalar, also within an object, but those that are marked as a matter of files. figment merges the layers and
//! remembers which of them each value came from, so that a problem is told where the value was written. The lowest layer,
//! the defaults, is filled in by whoever decodes the result, from the same tables. Lists and objects of free keys come
//! from files only.

mod given;

use figment::providers::Serialized;
use figment::value::{Dict, Map, Value as Layered};
use figment::{Figment, Metadata, Profile, Provider};
use pe_scrape::settings::{Key, Kind, Problem, Step};
use pe_scrape::{GroupSettings, SinkRegistry, Value};

pub use given::{Environment, Overrides};

use crate::file::DiagnosticsBuilder;
use crate::push;

/// What all variables start with.
const PREFIX: &str = "PINGEXPORTER_";

/// The keys of an object of files that layers above them may set.
pub(crate) struct Section {
    /// What the keys of flags start with: `conf` or `push`.
    name: &'static str,
    scalars: Vec<Scalar>,
    /// Keys that only files have.
    file_only: Vec<String>,
}

/// One key that variables and flags may set.
pub(crate) struct Scalar {
    /// Its keys, from the object on, joined by `.`.
    path: String,
    /// Name of the environment variable.
    variable: String,
    kind: Kind,
}

impl Section {
    /// The keys of `conf`.
    pub(crate) fn conf() -> Self {
        Self::new("conf", "CONF_", GroupSettings::TABLE.keys)
    }

    /// The keys of the push configuration.
    pub(crate) fn push(sinks: &SinkRegistry) -> Self {
        Self::new("push", "", &push::keys(sinks))
    }

    fn new(name: &'static str, infix: &str, keys: &[Key]) -> Self {
        let mut section = Self {
            name,
            scalars: Vec::new(),
            file_only: Vec::new(),
        };
        section.add(infix, "", keys);
        section
    }

    fn add(&mut self, infix: &str, parent: &str, keys: &[Key]) {
        for key in keys {
            let path = match parent {
                "" => key.name.to_owned(),
                parent => format!("{parent}.{}", key.name),
            };
            match key.kind {
                Kind::Object(table) if !key.file_only => self.add(infix, &path, table.keys),
                kind if kind.is_scalar() && !key.file_only => {
                    let name = path.replace('.', "_").to_uppercase();
                    let variable = format!("{PREFIX}{infix}{name}");
                    self.scalars.push(Scalar {
                        path,
                        variable,
                        kind,
                    });
                }
                _ => self.file_only.push(path),
            }
        }
    }

    /// The key for flags and the variable of each scalar.
    pub(crate) fn names(&self) -> impl Iterator<Item = (String, &str)> {
        let scalars = self.scalars.iter();
        scalars.map(|scalar| (format!("{}.{}", self.name, scalar.path), &*scalar.variable))
    }
}

/// The layers above the files, for one section.
pub(crate) struct Layers {
    section: Section,
    variables: Dict,
    flags: Dict,
    /// Paths and flags of `flags`.
    flag_names: Vec<(String, String)>,
}

impl Layers {
    /// Gathers what variables and flags say of the keys of `section`.
    pub(crate) fn new(
        section: Section,
        env: &Environment,
        overrides: &Overrides,
        found: &DiagnosticsBuilder,
    ) -> Self {
        let mut layers = Self {
            section,
            variables: Dict::new(),
            flags: Dict::new(),
            flag_names: Vec::new(),
        };
        for scalar in &layers.section.scalars {
            let Scalar {
                path,
                variable,
                kind,
            } = scalar;
            if let Some(text) = env.text(variable, found) {
                match typed(text, kind) {
                    Ok(value) => insert(&mut layers.variables, path, value),
                    Err(reason) => refuse(found, variable, path, reason),
                }
            }
            if let Some((flag, text)) = overrides.find(layers.section.name, path) {
                layers.flag_names.push((path.clone(), flag.to_owned()));
                match typed(text, kind) {
                    Ok(value) => insert(&mut layers.flags, path, value),
                    Err(reason) => refuse(found, flag, path, reason),
                }
            }
        }
        layers
    }

    /// Whether a variable or a flag sets the key of that name.
    pub(crate) fn set(&self, key: &str) -> bool {
        self.variables.contains_key(key) || self.flags.contains_key(key)
    }

    /// Lays variables and flags over `file`, an object of a file.
    pub(crate) fn over(&self, file: &serde_json::Map<String, Value>) -> Merged<'_> {
        let figment = Figment::new()
            .merge(Serialized::defaults(file))
            .merge(Layer(VARIABLES, &self.variables))
            .merge(Layer(FLAGS, &self.flags));
        let merged = figment.data().unwrap_or_default().remove(&Profile::Default);
        let merged = merged.unwrap_or_default();
        let mut json = serde_json::Map::new();
        for (key, value) in &merged {
            let below = file.get(key);
            // A wrong value in the place of an object is told, not covered by a part of it.
            let covered =
                below.is_some_and(|below| !below.is_object()) && matches!(value, Layered::Dict(..));
            let value = match below {
                Some(below) if covered || !self.set(key) => below.clone(),
                _ => serde_json::to_value(value).unwrap_or_default(),
            };
            json.insert(key.clone(), value);
        }
        let merged = Layered::from(merged);
        Merged {
            layers: self,
            figment,
            merged,
            json,
        }
    }
}

const VARIABLES: &str = "environment";
const FLAGS: &str = "flags";

/// The settings of one object, from all layers.
pub(crate) struct Merged<'l> {
    layers: &'l Layers,
    figment: Figment,
    merged: Layered,
    /// The settings; what no layer says is absent.
    pub(crate) json: serde_json::Map<String, Value>,
}

/// Where a value was written, the lowest layer first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin<'l> {
    /// In the file, or nowhere.
    File,
    /// In the environment variable of this name.
    Variable(&'l str),
    /// On the command line, with this flag.
    Flag(&'l str),
}

impl<'l> Origin<'l> {
    /// The variable or the flag.
    pub(crate) fn name(self) -> Option<&'l str> {
        match self {
            Self::File => None,
            Self::Variable(name) | Self::Flag(name) => Some(name),
        }
    }

    /// How high the layer is.
    pub(crate) fn rank(self) -> u8 {
        match self {
            Self::File => 0,
            Self::Variable(_) => 1,
            Self::Flag(_) => 2,
        }
    }
}

impl<'l> Merged<'l> {
    /// Where the value at the end of `path` was written.
    pub(crate) fn origin(&self, path: &[Step]) -> Origin<'l> {
        let keys = path.iter().map_while(|step| match step {
            Step::Key(key) => Some(key.as_str()),
            Step::Index(_) => None,
        });
        self.origin_of(&keys.collect::<Vec<_>>().join("."))
    }

    /// Where the value of the key `path`, parts joined by `.`, was written.
    pub(crate) fn origin_of(&self, path: &str) -> Origin<'l> {
        let layer = self
            .merged
            .find_ref(path)
            .and_then(|value| self.figment.get_metadata(value.tag()));
        let layers = self.layers;
        let found = match layer.map(|layer| &*layer.name) {
            Some(VARIABLES) => {
                let mut scalars = layers.section.scalars.iter();
                let scalar = scalars.find(|scalar| scalar.path == path);
                scalar.map(|scalar| Origin::Variable(&scalar.variable))
            }
            Some(FLAGS) => {
                let mut names = layers.flag_names.iter();
                let flag = names.find(|(known, _)| known == path);
                flag.map(|(_, flag)| Origin::Flag(flag))
            }
            _ => None,
        };
        found.unwrap_or(Origin::File)
    }
}

fn refuse(found: &DiagnosticsBuilder, name: &str, path: &str, reason: &str) {
    found.push_named(name, Problem::error(format!("{path}: {reason}")));
}

/// What the text of a variable or a flag stands for. Text that is no value of the kind stays text, so that decoding tells.
///
/// # Errors
/// Why the text cannot even be handed on.
fn typed(text: &str, kind: &Kind) -> Result<Layered, &'static str> {
    let plain = text.trim();
    Ok(match kind {
        Kind::Number | Kind::Integer => match (plain.parse::<i64>(), plain.parse::<f64>()) {
            (Ok(number), _) => number.into(),
            (_, Ok(number)) if number.is_finite() => number.into(),
            // JSON has no such number.
            (_, Ok(_)) => return Err("not a finite number"),
            _ => text.into(),
        },
        Kind::Flag => plain.parse::<bool>().map_or(text.into(), Layered::from),
        _ => text.into(),
    })
}

/// Puts `value` under a path of keys joined by `.`.
fn insert(dict: &mut Dict, path: &str, value: Layered) {
    let Some((key, rest)) = path.split_once('.') else {
        dict.insert(path.to_owned(), value);
        return;
    };
    let inner = dict
        .entry(key.to_owned())
        .or_insert_with(|| Layered::from(Dict::new()));
    if let Layered::Dict(_, inner) = inner {
        insert(inner, rest, value);
    }
}

/// One layer above the files, for figment.
struct Layer<'l>(&'static str, &'l Dict);

impl Provider for Layer<'_> {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.0)
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Profile::Default.collect(self.1.clone()))
    }
}
