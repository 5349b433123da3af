//! Log lines, on standard error.

mod queue;

use std::env::var;
use std::io::{self, IsTerminal, Write, stderr};
use std::sync::Arc;

use pe_scrape::printable;
use tracing::{error, warn};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::SubscriberInitExt;

use crate::cli::{LogFormat, LogLevel, LoggingArgs};
use crate::metrics::AgentMetrics;
pub(crate) use queue::Flush;
use queue::Queue;

/// Directives that choose what is logged, such as `info,pe_push=debug`.
pub(crate) const FILTER_VARIABLE: &str = "PINGEXPORTER_LOG";

/// What the level `debug` shows: everything of ours and of plug-ins, without the inner life of the libraries below them.
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
    let level = args.level();
    let (filter, mistake) = filter(level);
    let no_color = var("NO_COLOR").is_ok_and(|value| !value.is_empty());
    let has_colors = stderr().is_terminal() && !no_color;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(LineWriter {
            queue: queue.clone(),
            is_text: args.log_format == LogFormat::Text,
            has_colors,
        })
        // Else it would print its own errors with a macro that panics.
        .log_internal_errors(false)
        .with_target(level == LogLevel::Debug)
        .with_ansi(has_colors);
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
fn filter(level: LogLevel) -> (EnvFilter, Option<String>) {
    let fallback = || {
        EnvFilter::new(match level {
            LogLevel::Debug => DEBUG,
            LogLevel::Info => "info",
            LogLevel::Warn => "warn",
            LogLevel::Error => "error",
        })
    };
    match var(FILTER_VARIABLE).ok().filter(|text| !text.is_empty()) {
        None => (fallback(), None),
        Some(text) => match EnvFilter::try_new(text) {
            Ok(filter) => (filter, None),
            Err(error) => (fallback(), Some(error.to_string())),
        },
    }
}

/// Hands each record to the queue. Never fails and never waits.
#[derive(Clone)]
struct LineWriter {
    queue: Queue,
    /// JSON has escapes of its own.
    is_text: bool,
    has_colors: bool,
}

impl Write for LineWriter {
    fn write(&mut self, record: &[u8]) -> io::Result<usize> {
        match self.is_text {
            true => {
                let text = String::from_utf8_lossy(record);
                self.queue.push(safe(&text, self.has_colors).as_bytes());
            }
            false => self.queue.push(record),
        }
        Ok(record.len())
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

/// A record without what a terminal would act on, except for `colors`. Its further lines are indented, so that no value can
/// pass itself off as a record.
fn safe(record: &str, colors: bool) -> String {
    let mut safe = String::with_capacity(record.len());
    for (number, line) in record.trim_end_matches('\n').split('\n').enumerate() {
        if number > 0 {
            safe.push_str("\n  ");
        }
        let mut rest = line;
        while let Some(at) = rest.find('\u{1b}').filter(|_| colors) {
            let (before, after) = rest.split_at(at);
            safe.push_str(&printable(before));
            let length = color_length(after);
            match length {
                0 => safe.push_str("\\u{1b}"),
                _ => safe.push_str(&after[..length]),
            }
            rest = &after[length.max(1)..];
        }
        safe.push_str(&printable(rest));
    }
    safe.push('\n');
    safe
}

/// How long the sequence at the start of `text` is that sets a colour (ECMA-48, SGR); 0 if it is another one.
fn color_length(text: &str) -> usize {
    let Some(parameters) = text.strip_prefix("\u{1b}[") else {
        return 0;
    };
    let is_parameter = |c: char| c.is_ascii_digit() || c == ';';
    let end = parameters.trim_start_matches(is_parameter);
    match end.starts_with('m') {
        true => text.len() - end.len() + 1,
        false => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_passes_nothing_to_the_terminal_but_colours() {
        let record = "\u{1b}[33m WARN\u{1b}[0m a\u{1b}[2Jb\r\u{9b}c\u{202e}d\n";
        assert_eq!(
            safe(record, true),
            "\u{1b}[33m WARN\u{1b}[0m a\\u{1b}[2Jb\\r\\u{9b}c\\u{202e}d\n"
        );
        assert_eq!(safe("\u{1b}[33mx\n", false), "\\u{1b}[33mx\n");
        assert_eq!(safe("\u{1b}", true), "\\u{1b}\n");
        assert_eq!(
            safe("problem\n2026-01-01 INFO forged\n", true),
            "problem\n  2026-01-01 INFO forged\n"
        );
    }
}
