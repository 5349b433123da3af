//! A string that never shows.

use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};

/// What stands in the place of a secret wherever a value is shown.
const REDACTED: &str = "[redacted]";

/// A password or token. `Debug`, `Display` and `Serialize` all show `[redacted]`; the one way to the
/// text is [`Secret::expose`].
///
/// ```
/// let secret = pe_scrape::Secret::new("hunter2");
/// assert_eq!(format!("{secret} {secret:?}"), "[redacted] [redacted]");
/// assert_eq!(secret.expose(), "hunter2");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Wraps `text`.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The secret itself, for the one place that sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(REDACTED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serialised_secret_is_redacted() {
        assert_eq!(
            serde_json::to_string(&Secret::new("s3cret")).unwrap(),
            "\"[redacted]\""
        );
    }
}
