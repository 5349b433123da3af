//! The arguments of a command, in which placeholders stand for what is known of a device. No I/O.
//!
//! Each argument stays one argument whatever its placeholders become: there is no shell, and nothing is split. A value that would
//! make an option of an argument is refused, since names of devices may come from elsewhere than the configuration does.

use thiserror::Error;

/// What placeholders may stand for, beside labels of the device.
#[derive(Debug, Clone, Copy)]
pub struct Values<'a> {
    /// The name of the device: `${device}`.
    pub device: &'a str,
    /// Its address as it is configured: `${ip}`.
    pub ip: &'a str,
    /// The address that was found for it: `${address}`.
    pub address: &'a str,
}

/// Why arguments are none.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ArgumentError {
    /// A placeholder is not closed.
    #[error("a placeholder begins with \"${{\" and has no \"}}\"; \"$$\" is a dollar sign")]
    Open,
    /// A dollar sign stands alone.
    #[error("\"$\" begins a placeholder such as ${{address}}; \"$$\" is a dollar sign")]
    Dollar,
    /// A byte that no argument of a program can have.
    #[error("a NUL character")]
    Nul,
    /// The device has no such label.
    #[error("the device has no label {0:?} for the placeholder ${{{0}}}")]
    NoLabel(String),
    /// The value begins with a dash.
    #[error("${{{0}}} begins with a dash, which would make it an option of the program")]
    Option(String),
}

/// A part of an argument.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Placeholder(String),
}

/// An argument with its placeholders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Argument(Vec<Part>);

impl Argument {
    /// Reads an argument as it is configured.
    ///
    /// # Errors
    /// [`ArgumentError`] for a placeholder that is none.
    pub fn parse(text: &str) -> Result<Self, ArgumentError> {
        let mut parts = Vec::new();
        let (mut plain, mut rest) = (String::new(), text);
        if text.contains('\0') {
            return Err(ArgumentError::Nul);
        }
        while let Some((before, after)) = rest.split_once('$') {
            plain.push_str(before);
            if let Some(after) = after.strip_prefix('$') {
                plain.push('$');
                rest = after;
                continue;
            }
            let named = after.strip_prefix('{').ok_or(ArgumentError::Dollar)?;
            let (name, after) = named.split_once('}').ok_or(ArgumentError::Open)?;
            if !plain.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut plain)));
            }
            parts.push(Part::Placeholder(name.to_owned()));
            rest = after;
        }
        plain.push_str(rest);
        if !plain.is_empty() || parts.is_empty() {
            parts.push(Part::Text(plain));
        }
        Ok(Self(parts))
    }

    /// The argument for a device. `label` knows its labels.
    ///
    /// # Errors
    /// [`ArgumentError`] where a label is not there, or the argument would become an option.
    pub fn fill<'l>(
        &self,
        values: &Values<'_>,
        label: impl Fn(&str) -> Option<&'l str>,
    ) -> Result<String, ArgumentError> {
        let mut filled = String::new();
        for part in &self.0 {
            let name = match part {
                Part::Text(text) => {
                    filled.push_str(text);
                    continue;
                }
                Part::Placeholder(name) => name.as_str(),
            };
            let value = match name {
                "device" => values.device,
                "ip" => values.ip,
                "address" => values.address,
                name => label(name).ok_or_else(|| ArgumentError::NoLabel(name.to_owned()))?,
            };
            if filled.is_empty() && value.starts_with('-') {
                return Err(ArgumentError::Option(name.to_owned()));
            }
            if value.contains('\0') {
                return Err(ArgumentError::Nul);
            }
            filled.push_str(value);
        }
        Ok(filled)
    }

    /// The text of an argument without placeholders.
    #[must_use]
    pub fn fixed(&self) -> Option<&str> {
        match &self.0[..] {
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// Whether it has this placeholder.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.0
            .iter()
            .any(|part| matches!(part, Part::Placeholder(known) if known == name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(text: &str) -> Result<String, ArgumentError> {
        let values = Values {
            device: "-core; rm",
            ip: "router.test",
            address: "192.0.2.1",
        };
        let label = |name: &str| (name == "site").then_some("Plant A");
        Argument::parse(text)?.fill(&values, label)
    }

    #[test]
    fn placeholders_stay_within_their_argument() {
        for (text, filled) in [
            ("-H", "-H"),
            ("", ""),
            ("${address}", "192.0.2.1"),
            (
                "http://${ip}:80/${site}?$$1",
                "http://router.test:80/Plant A?$1",
            ),
            ("--name=${device}", "--name=-core; rm"),
            ("$${address}", "${address}"),
        ] {
            assert_eq!(fill(text).as_deref(), Ok(filled), "{text}");
        }
    }

    #[test]
    fn what_is_no_argument_is_told() {
        let told = |text| fill(text).unwrap_err().to_string();
        assert!(told("${device}").contains("would make it an option"));
        assert!(told("${nosuch}").contains("no label \"nosuch\""));
        assert!(told("${address").contains("has no \"}\""));
        assert!(told("$HOME").contains("\"$$\" is a dollar sign"));
        assert_eq!(told("a\0b"), "a NUL character");
    }

    #[test]
    fn fixed_arguments_are_known() {
        assert_eq!(
            Argument::parse("/bin/true").unwrap().fixed(),
            Some("/bin/true")
        );
        let argument = Argument::parse("/bin/${device}").unwrap();
        assert!(argument.fixed().is_none() && argument.has("device") && !argument.has("ip"));
    }
}
