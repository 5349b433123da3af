//! What can go wrong with an engine.

use std::sync::Arc;

use pe_scrape::{Diagnostic, Diagnostics, RegistryError, Severity, with_causes};
use thiserror::Error;

/// Why an engine cannot be built, changed or stopped in order. Nothing that runs is changed by a refused configuration.
///
/// `Debug` shows `Display` with all causes, for a `main` that returns a `Result`.
#[derive(Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The configuration has problems.
    #[error("the configuration cannot be used:\n{0}")]
    Config(Diagnostics),
    /// A sink cannot be set up.
    #[error("the sink {name:?} cannot be used")]
    Sink {
        /// The sink's name.
        name: Arc<str>,
        /// What the registry said.
        source: RegistryError,
    },
    /// The latest results did not arrive where they should go.
    #[error("{0}")]
    Flush(FlushErrors),
    /// No group has this name.
    #[error("there is no group named {0:?}")]
    UnknownGroup(String),
    /// The engine has stopped, or was never run.
    #[error("the engine is not running")]
    Stopped,
}

impl EngineError {
    /// The problems of a configuration that was refused, for a page to show; whatever else went wrong as one of them.
    #[must_use]
    pub fn diagnostics(&self) -> Diagnostics {
        let (name, message) = match self {
            Self::Config(diagnostics) => return diagnostics.clone(),
            Self::Sink { name, source } => (format!("sink {name:?}"), with_causes(source)),
            other => ("engine".to_owned(), with_causes(other)),
        };
        [Diagnostic::named(Severity::Error, &name, message, None)]
            .into_iter()
            .collect()
    }
}

pe_scrape::debug_with_causes!(EngineError);

/// What kept results from arriving, a line for each sink.
#[derive(Clone, PartialEq, Eq, Error)]
#[error("{}", .0.join("\n"))]
pub struct FlushErrors(pub(crate) Vec<String>);

pe_scrape::debug_with_causes!(FlushErrors);

impl FlushErrors {
    /// A line for each sink.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use pe_scrape::{SettingsError, SinkConfig, SinkRegistry, SinkSettings};

    use super::*;

    #[test]
    fn main_prints_all_causes_once() {
        let mut registry = SinkRegistry::new();
        let refuse = |_: &SinkSettings| Err(SettingsError::at("url", "is empty"));
        registry.register("far", refuse).unwrap();
        let config = SinkConfig::new("far", "west", serde_json::json!({}));
        let source = registry.create(&config).map(drop).unwrap_err();
        let error = EngineError::Sink {
            name: "west".into(),
            source,
        };
        assert_eq!(
            format!("{error:?}"),
            r#"the sink "west" cannot be used: cannot set up sink "far": is empty"#
        );
        assert_eq!(error.to_string(), r#"the sink "west" cannot be used"#);
        assert_eq!(
            error.diagnostics().to_string(),
            r#"sink "west": cannot set up sink "far": is empty"#
        );
    }
}
