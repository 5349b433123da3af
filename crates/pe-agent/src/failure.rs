//! Why the program ends with exit code 1.

use pe_config::LoadError;
use pe_engine::EngineError;
use pe_ping::OpenError;
use pe_scrape::{Diagnostics, RegistryError, with_causes};
use pe_web::WebError;
use thiserror::Error;

use crate::privileges::PrivilegesError;

/// Why the program ends with exit code 1, in words for its user. Libraries name no options, so they are named here.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    /// The files are not in order.
    #[error("{0}")]
    Config(Diagnostics),
    #[error("{0}")]
    Message(String),
    /// The user has been told already, target by target.
    #[error("not all targets answered")]
    Told,
}

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self::Message(message.into())
    }

    /// What could not be done, and why.
    pub(crate) fn cannot(action: &str, error: impl std::fmt::Display) -> Self {
        Self::Message(format!("cannot {action}: {error}"))
    }
}

impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Self {
        Self::Config(error.diagnostics)
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Config(diagnostics) => Self::Config(diagnostics),
            other => Self::Message(with_causes(&other)),
        }
    }
}

impl From<RegistryError> for Failure {
    fn from(error: RegistryError) -> Self {
        Self::Message(with_causes(&error))
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        Self::Message(with_causes(&error))
    }
}

impl From<PrivilegesError> for Failure {
    fn from(error: PrivilegesError) -> Self {
        Self::Message(with_causes(&error))
    }
}

impl From<WebError> for Failure {
    fn from(error: WebError) -> Self {
        Self::Message(match error {
            WebError::Bind { address, source } => format!(
                "cannot listen on {address}: {source}; choose another address with --listen, or none with --listen none"
            ),
            other => format!("{other}; the file is that of --web.config.file"),
        })
    }
}
