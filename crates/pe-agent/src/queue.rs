//! What waits to be sent, looked at from outside of the agent that sends it, or dropped.
//!
//! Looking takes no lock and writes nothing, so that it may be done beside a running agent. Dropping needs the lock of the directory.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use humantime::format_rfc3339_seconds;
use pe_push::queue::{Directory, QueueError, QueueReport, Verification, drop_all, inspect, verify};
use pe_push::{StateDir, queue_directories};
use pe_scrape::with_causes;

use crate::cli::{QueueAction, QueueArgs};
use crate::failure::Failure;
use crate::output::{count, print};
use crate::state_dir;

pub(crate) fn queue(args: QueueArgs) -> Result<(), Failure> {
    let directory = state_dir::choose_from_environment(args.state_dir, || true)
        .unwrap_or_else(|| PathBuf::from("."));
    let queues = chosen(&directory, args.sink.as_deref())?;
    if queues.is_empty() {
        let text = format!("there is no queue in {}\n", directory.display());
        return print(text.as_bytes());
    }
    let mut is_ok = true;
    let mut text = String::new();
    // Held until all are dropped.
    let _lock = match args.action {
        QueueAction::Drop => Some(lock(&directory)?),
        QueueAction::Inspect | QueueAction::Verify => None,
    };
    for (sink, path) in queues {
        let cannot = |action: &str, error: QueueError| {
            Failure::cannot(
                &format!("{action} the queue in {}", path.display()),
                with_causes(&error),
            )
        };
        let mut disk = Directory::existing(&path);
        match args.action {
            QueueAction::Inspect => {
                let report = inspect(&mut disk).map_err(|error| cannot("read", error))?;
                text.push_str(&inspected(&sink, &report));
            }
            QueueAction::Verify => {
                let found = verify(&mut disk).map_err(|error| cannot("read", error))?;
                is_ok &= found.is_ok();
                text.push_str(&verified(&sink, &found));
            }
            QueueAction::Drop => {
                let report = inspect(&mut disk).map_err(|error| cannot("read", error))?;
                drop_all(&mut disk).map_err(|error| cannot("drop", error))?;
                // Gone with its sink, if nothing else is in there.
                let _ = std::fs::remove_dir(&path);
                let samples: u64 = report.segments.iter().map(|segment| segment.samples).sum();
                text.push_str(&format!(
                    "sink {sink}: dropped, with {samples} samples in {}\n",
                    count(report.segments.len(), "file")
                ));
            }
        }
    }
    print(text.as_bytes())?;
    match is_ok {
        true => Ok(()),
        false => Err(Failure::new(
            "some of the queue is damaged: an agent leaves that out, counts it and sends the rest",
        )),
    }
}

/// The queues of a state directory by sink: all, or one.
fn chosen(directory: &Path, sink: Option<&str>) -> Result<Vec<(String, PathBuf)>, Failure> {
    let mut queues = queue_directories(directory).map_err(|error| {
        let action = format!(
            "read the state directory {} (--state-dir names another)",
            directory.display()
        );
        Failure::cannot(&action, error)
    })?;
    let Some(sink) = sink else { return Ok(queues) };
    let known: Vec<String> = queues.iter().map(|(name, _)| format!("`{name}`")).collect();
    queues.retain(|(name, _)| name == sink);
    if !queues.is_empty() {
        return Ok(queues);
    }
    Err(Failure::new(format!(
        "there is no queue of a sink `{sink}` in {}: {}",
        directory.display(),
        match known.is_empty() {
            true => "there is none at all".to_owned(),
            false => format!("there are those of {}", known.join(", ")),
        }
    )))
}

fn lock(directory: &Path) -> Result<StateDir, Failure> {
    StateDir::open(directory).map_err(|error| match error {
        pe_push::StateError::Held { path, holder } => Failure::new(format!(
            "cannot drop what waits: the state directory {} is in use by {holder}; stop that first",
            path.display()
        )),
        other => Failure::cannot("drop what waits", with_causes(&other)),
    })
}

fn inspected(sink: &str, report: &QueueReport) -> String {
    let mut text = format!("sink {sink}: ");
    if report.sinks.is_empty() {
        text.push_str("what was sent is not known; a sink begins with the oldest\n");
    }
    for (_, backlog) in &report.sinks {
        text.push_str(&format!(
            "{} samples wait, {} bytes{}\n",
            backlog.samples,
            backlog.bytes,
            match backlog.oldest {
                Some(oldest) => format!(", the oldest of {}", time(oldest)),
                None => String::new(),
            }
        ));
    }
    for segment in &report.segments {
        text.push_str(&format!(
            "  {}  {} bytes  {} blocks  {} samples  {} to {}\n",
            segment.name,
            segment.bytes,
            segment.blocks,
            segment.samples,
            time(segment.oldest),
            time(segment.newest),
        ));
    }
    text.push_str(&asides(report.later_versions, report.damaged_cursors));
    text
}

fn verified(sink: &str, found: &Verification) -> String {
    let Verification {
        blocks, samples, ..
    } = found;
    let mut text = format!("sink {sink}: {blocks} blocks with {samples} samples can be read\n");
    if found.damaged_blocks > 0 || found.damages > 0 {
        text.push_str(&format!(
            "  damaged: {} blocks cannot be read, {} places hold no record\n",
            found.damaged_blocks, found.damages
        ));
    }
    if found.torn_bytes > 0 {
        text.push_str(&format!(
            "  {} bytes at ends were being written when an agent stopped, or are just now; that is in order\n",
            found.torn_bytes
        ));
    }
    text.push_str(&asides(found.later_versions, found.damaged_cursors));
    text
}

/// What is seldom there.
fn asides(later_versions: usize, damaged_cursors: usize) -> String {
    let mut text = String::new();
    if later_versions > 0 {
        text.push_str(&format!(
            "  {} of a later version of the program, not looked at\n",
            count(later_versions, "file")
        ));
    }
    match damaged_cursors {
        0 => {}
        1 => text.push_str("  one of the two copies of what was sent is damaged; the other one counts\n"),
        _ => text.push_str("  what was sent is not known, since both copies are damaged; everything is sent again\n"),
    }
    text
}

/// The time in UTC.
fn time(time: SystemTime) -> impl Display {
    format_rfc3339_seconds(time.max(SystemTime::UNIX_EPOCH))
}
