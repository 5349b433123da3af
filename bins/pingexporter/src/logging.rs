//! Log lines, on standard error.

use std::io::{IsTerminal, stderr};

use tracing_subscriber::EnvFilter;

use crate::cli::{LogFormat, LoggingArgs};

/// Starts logging. `PINGEXPORTER_LOG` may hold finer directives, such as `pe_push=debug`.
pub(crate) fn init(args: &LoggingArgs) {
    let level = if args.debug {
        "info,pingexporter=debug,pe_engine=debug,pe_ping=debug,pe_push=debug,pe_web=debug"
    } else {
        "info"
    };
    let filter =
        EnvFilter::try_from_env("PINGEXPORTER_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(stderr)
        .with_target(args.debug)
        .with_ansi(stderr().is_terminal());
    match args.log_format {
        LogFormat::Text => lines.init(),
        LogFormat::Json => lines.json().flatten_event(true).init(),
    }
}
