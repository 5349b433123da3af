//! Settings: a key is declared once, and everything else follows from the declaration.
//!
//! [`settings!`](macro@crate::settings) declares a struct and the [`Table`] of its keys in one place: name, type, bounds,
//! default and documentation. From the table come decoding with all problems at once ([`Setting::decode`]), the check
//! of values that were set in code ([`Setting::check`]), environment variables, JSON Schema and the reference page.
//! [`choices!`](crate::choices!) declares a setting that is one of several words.
//!
//! ```
//! use pe_scrape::settings::decode;
//! use std::time::Duration;
//!
//! pe_scrape::settings! {
//!     /// What a configuration may say of a greeting.
//!     pub struct Greeting("") {
//!         /// TCP port to connect to.
//!         port: u16 = 22, range(1.0, 65_535.0);
//!         /// How long to wait.
//!         timeout: Option<Duration>;
//!     }
//! }
//!
//! let greeting: Greeting = decode(&serde_json::json!({"timeout": "1m 30s"}))?;
//! assert_eq!((greeting.port, greeting.timeout), (22, Some(Duration::from_secs(90))));
//!
//! let refused = decode::<Greeting>(&serde_json::json!({"prot": 25})).unwrap_err();
//! assert_eq!(refused.to_string(), "unknown key `prot` (did you mean `port`?)");
//! # Ok::<(), pe_scrape::SettingsError>(())
//! ```

mod duration;
mod key;
mod macros;
mod node;
mod problem;
mod suggest;
mod value;

pub use duration::{DurationError, parse_duration, show_duration};
pub use key::{Bounds, Key, Kind, Table};
pub use node::{Node, View};
pub use problem::{Problem, Problems, SettingsError, Step};
pub use suggest::{nearest, suggestion};
pub use value::{Object, Port, Setting, choose};

use serde_json::Value;

/// Decodes settings; `null` stands for an object without keys.
///
/// # Errors
/// [`SettingsError`] with every problem.
pub fn decode<T: Setting>(value: &Value) -> Result<T, SettingsError> {
    let empty = Value::Object(serde_json::Map::new());
    let value = if value.is_null() { &empty } else { value };
    let mut problems = Problems::default();
    let decoded = T::decode(value, &Bounds::NONE, &mut problems);
    match decoded {
        Some(decoded) if !problems.has_errors() => Ok(decoded),
        _ => Err(problems.into()),
    }
}

#[cfg(test)]
mod tests;
