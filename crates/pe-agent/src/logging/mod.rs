//! Log lines, on standard error.

mod queue;

use std::env::var;
use std::io::{self, IsTerminal, Write, stderr};
use std::sync::Arc;

use tracing::{error, warn};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::SubscriberInitExt;

use crate::cli::{LogFormat, LoggingArgs};
use crate::metrics::AgentMetrics;
pub(crate) use queue::Flush;
use queue::Queue;

/// Directives that choose what is logged, such as `info,pe_push=debug`.
pub(crate) const FILTER_VARIABLE: &str = "PINGEXPORTER_LOG";

/// What `--debug` shows: everything of ours and of plug-ins, without the inner life of the libraries below them.
const DEBUG: &str =
    "debug,h2=info,hickory=info,hyper=info,mio=info,notify=info,rustls=info,tokio=info,want=info";

/// Starts logging for the rest of the process. Lines are written by a thread of their own: see [`queue`].
///
/// The returned value writes what is still waiting when it is dropped.
pub(crate) fn start(args: LoggingArgs, metrics: Arc<AgentMetrics>) -> Flush {
    let queue = Queue::start(stderr(), metrics, |dropped| {
        warn!(
            dropped,
            "log lines were dropped, as they could not be written"
        );
    });
    let (filter, mistake) = filter(args.debug);
    let no_color = var("NO_COLOR").is_ok_and(|value| !value.is_empty());
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(LineWriter(queue.clone()))
        // Else it would print its own errors with a macro that panics.
        .log_internal_errors(false)
        .with_target(args.debug)
        .with_ansi(stderr().is_terminal() && !no_color);
    // Fails where this process logs in its own way already, as tests do.
    let _ = match args.log_format {
        LogFormat::Text => lines.finish().try_init(),
        LogFormat::Json => lines.json().flatten_event(true).finish().try_init(),
    };
    std::panic::set_hook(Box::new(|panic| {
        let location = panic.location().map(ToString::to_string);
        let message = panic.payload_as_str().unwrap_or("no message");
        error!(message, location, "a task panicked");
    }));
    if let Some(mistake) = mistake {
        warn!(variable = FILTER_VARIABLE, error = %mistake, "an environment variable was ignored");
    }
    Flush(queue)
}

/// What to log, and what is wrong with the variable that should say so.
fn filter(debug: bool) -> (EnvFilter, Option<String>) {
    let fallback = || EnvFilter::new(if debug { DEBUG } else { "info" });
    match var(FILTER_VARIABLE).ok().filter(|text| !text.is_empty()) {
        None => (fallback(), None),
        Some(text) => match EnvFilter::try_new(text) {
            Ok(filter) => (filter, None),
            Err(error) => (fallback(), Some(error.to_string())),
        },
    }
}

/// Hands each line to the queue. Never fails and never waits.
#[derive(Clone)]
struct LineWriter(Queue);

impl Write for LineWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LineWriter {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
