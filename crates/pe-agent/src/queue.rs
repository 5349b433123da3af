//! What waits to be sent, looked at from outside of the agent that sends it, or dropped.
//!
//! Looking takes no lock and writes nothing, so that it may be done beside a running agent. Dropping needs the lock of the directory.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use humantime::format_rfc3339_seconds;
use pe_push::queue::{
    Directory, QueueError, QueueReport, Verification, drop_all, drop_sink, inspect, verify,
};
use pe_push::{StateDir, queue_directories};
use pe_scrape::{Backlog, with_causes};

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
    for queue in queues {
        match args.action {
            QueueAction::Inspect => text.push_str(&inspected(&queue)),
            QueueAction::Verify => {
                let mut disk = Directory::existing(&queue.path);
                let found = verify(&mut disk).map_err(|error| queue.cannot("read", error))?;
                is_ok &= found.is_ok();
                text.push_str(&verified(&queue, &found));
            }
            QueueAction::Drop => text.push_str(&dropped(&queue, args.sink.as_deref())?),
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

/// A queue in the state directory.
struct Found {
    path: PathBuf,
    report: QueueReport,
    /// What waits for the sinks that were chosen.
    sinks: Vec<(String, Backlog)>,
    /// The sink that it is of, if it is of one alone.
    owner: Option<String>,
}

impl Found {
    fn cannot(&self, action: &str, error: QueueError) -> Failure {
        cannot(action, &self.path, error)
    }

    /// Whose it is, for the beginning of a line.
    fn name(&self) -> String {
        match &self.owner {
            Some(owner) => format!("sink {owner}"),
            None => "all sinks".to_owned(),
        }
    }
}

fn cannot(action: &str, path: &Path, error: QueueError) -> Failure {
    Failure::cannot(
        &format!("{action} the queue in {}", path.display()),
        with_causes(&error),
    )
}

/// The queues of a state directory: all, or those with something of one sink.
fn chosen(directory: &Path, sink: Option<&str>) -> Result<Vec<Found>, Failure> {
    let queues = queue_directories(directory).map_err(|error| {
        let action = format!(
            "read the state directory {} (--state-dir names another)",
            directory.display()
        );
        Failure::cannot(&action, error)
    })?;
    let mut found = Vec::new();
    let mut known = BTreeSet::new();
    for (owner, path) in queues {
        let report = inspect(&mut Directory::existing(&path));
        let report = report.map_err(|error| cannot("read", &path, error))?;
        let mut sinks = report.sinks.clone();
        known.extend(owner.clone());
        known.extend(sinks.iter().map(|(name, _)| name.clone()));
        sinks.retain(|(name, _)| sink.is_none_or(|sink| sink == name));
        let is_chosen = sink.is_none_or(|it| owner.as_deref() == Some(it)) || !sinks.is_empty();
        if is_chosen {
            found.push(Found {
                path,
                report,
                sinks,
                owner,
            });
        }
    }
    let Some(sink) = sink.filter(|_| found.is_empty()) else {
        return Ok(found);
    };
    let known: Vec<String> = known.iter().map(|name| format!("`{name}`")).collect();
    Err(Failure::new(format!(
        "there is no queue of a sink `{sink}` in {}: {}",
        directory.display(),
        match known.is_empty() {
            true => "there is none at all".to_owned(),
            false => format!("there are those of {}", known.join(", ")),
        }
    )))
}

/// Drops a queue, or what waits in it for one sink alone.
fn dropped(queue: &Found, sink: Option<&str>) -> Result<String, Failure> {
    let is_whole = sink.is_none() || queue.report.sinks.len() == queue.sinks.len();
    if is_whole {
        let disk = &mut Directory::existing(&queue.path);
        drop_all(disk).map_err(|error| queue.cannot("drop", error))?;
        // If nothing else is in there.
        let _ = std::fs::remove_dir(&queue.path);
        let segments = &queue.report.segments;
        let samples: u64 = segments.iter().map(|segment| segment.samples).sum();
        return Ok(format!(
            "{}: dropped, with {samples} samples in {}\n",
            match &queue.sinks[..] {
                [(only, _)] => format!("sink {only}"),
                _ => queue.name(),
            },
            count(segments.len(), "file")
        ));
    }
    let mut text = String::new();
    for (name, backlog) in &queue.sinks {
        let disk = Box::new(Directory::existing(&queue.path));
        drop_sink(disk, name).map_err(|error| queue.cannot("drop", error))?;
        text.push_str(&format!(
            "sink {name}: dropped, with {} samples that waited for it\n",
            backlog.samples
        ));
    }
    Ok(text)
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

fn inspected(queue: &Found) -> String {
    let mut text = String::new();
    let report = &queue.report;
    if report.sinks.is_empty() {
        text.push_str(&format!(
            "{}: what was sent is not known; a sink begins with the oldest\n",
            queue.name()
        ));
    }
    for (sink, backlog) in &queue.sinks {
        text.push_str(&format!(
            "sink {sink}: {} samples wait, {} bytes{}\n",
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

fn verified(queue: &Found, found: &Verification) -> String {
    let Verification {
        blocks, samples, ..
    } = found;
    let mut text = format!(
        "{}: {blocks} blocks with {samples} samples can be read\n",
        queue.name()
    );
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
