//! What is printed of pings: lines for people, or JSON.

use std::io::{self, Write};
use std::time::Duration;

use pe_ping::{EventKind, ProbeEvent, Stats};
use serde_json::{Value, json};

use super::targets::Target;

/// The line for one thing that happened to a probe.
pub(super) fn event(
    out: &mut impl Write,
    target: &Target,
    event: &ProbeEvent,
    as_json: bool,
) -> io::Result<()> {
    if as_json {
        return writeln!(out, "{}", event_json(target, event));
    }
    let label = target.label();
    let sequence = event.round;
    match &event.kind {
        EventKind::Failed(error) => writeln!(out, "no answer from {label}: seq={sequence} {error}"),
        EventKind::Reply(reply) | EventKind::Duplicate(reply) | EventKind::Late(reply) => {
            let ttl = reply
                .ttl
                .map(|ttl| format!(" ttl={ttl}"))
                .unwrap_or_default();
            // The ICMP header counts, as ping(8) does it.
            write!(
                out,
                "{} bytes from {label}: seq={sequence}{ttl} time={} ms",
                reply.payload + 8,
                millis(reply.rtt)
            )?;
            let remark = match event.kind {
                EventKind::Duplicate(_) => " (duplicate)",
                EventKind::Late(_) => " (late)",
                _ if reply.truncated => " (truncated)",
                _ => "",
            };
            writeln!(out, "{remark}")
        }
        other => writeln!(out, "{label}: seq={sequence} {other:?}"),
    }
}

fn event_json(target: &Target, event: &ProbeEvent) -> Value {
    let mut object = json!({
        "event": "reply",
        "target": target.name(),
        "address": target.place(),
        "seq": event.round,
    });
    match &event.kind {
        EventKind::Failed(error) => {
            object["event"] = "failed".into();
            object["reason"] = error.reason().as_str().into();
            object["message"] = error.to_string().into();
        }
        EventKind::Reply(reply) | EventKind::Duplicate(reply) | EventKind::Late(reply) => {
            if matches!(event.kind, EventKind::Duplicate(_)) {
                object["event"] = "duplicate".into();
            } else if matches!(event.kind, EventKind::Late(_)) {
                object["event"] = "late".into();
            }
            object["rtt_seconds"] = reply.rtt.as_secs_f64().into();
            object["ttl"] = reply.ttl.into();
            object["truncated"] = reply.truncated.into();
        }
        _ => {}
    }
    object
}

/// What the probes of one target add up to.
pub(super) fn summary(
    out: &mut impl Write,
    target: &Target,
    stats: &Stats,
    as_json: bool,
) -> io::Result<()> {
    if as_json {
        return writeln!(out, "{}", summary_json(target, stats));
    }
    write!(
        out,
        "{}: {} sent, {} received",
        target.label(),
        stats.sent(),
        stats.replies()
    )?;
    match stats.loss_ratio() {
        Some(loss) => write!(out, ", {:.0}% lost", loss * 100.0)?,
        None => write!(out, ", loss unknown")?,
    }
    if stats.duplicates() > 0 {
        write!(out, ", {} duplicates", stats.duplicates())?;
    }
    if let (Some(best), Some(mean), Some(worst)) = (stats.best(), stats.mean(), stats.worst()) {
        let deviation = stats.std_deviation().unwrap_or_default();
        let [best, mean, worst, deviation] =
            [best, mean, worst, deviation].map(|seconds| millis(Duration::from_secs_f64(seconds)));
        write!(
            out,
            "; RTT best/mean/worst/std deviation {best}/{mean}/{worst}/{deviation} ms"
        )?;
    }
    writeln!(out)
}

fn summary_json(target: &Target, stats: &Stats) -> Value {
    json!({
        "event": "summary",
        "target": target.name(),
        "address": target.place(),
        "up": stats.is_up(),
        "sent": stats.sent(),
        "received": stats.replies(),
        "duplicates": stats.duplicates(),
        "late": stats.late(),
        "loss_ratio": stats.loss_ratio(),
        "rtt_best_seconds": stats.best(),
        "rtt_mean_seconds": stats.mean(),
        "rtt_worst_seconds": stats.worst(),
        "rtt_std_deviation_seconds": stats.std_deviation(),
        "rtt_jitter_seconds": stats.jitter(),
    })
}

/// Milliseconds with microseconds, and nanoseconds where they matter.
fn millis(rtt: Duration) -> String {
    let millis = rtt.as_secs_f64() * 1e3;
    if millis < 1.0 {
        format!("{millis:.4}")
    } else {
        format!("{millis:.3}")
    }
}
