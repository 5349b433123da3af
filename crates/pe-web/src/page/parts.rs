//! Pieces that several pages show.

use std::fmt::Write;

use maud::{Markup, PreEscaped, html};

use super::text;
use crate::history::COUNT_SLOTS;
use crate::view::{StatusView, TracePoint};

/// The class that draws a state's shape.
pub(super) fn shape(state: &str) -> &'static str {
    match state {
        "down" | "failing" => "d",
        "unknown" => "q",
        "losing" | "stale" => "l",
        "waiting" | "starting" => "w",
        _ => "u",
    }
}

/// A state: its shape and its word.
pub(super) fn state(word: &str) -> Markup {
    html! { span class={ "st " (shape(word)) } { (word) } }
}

/// The state of the agent and its problems.
pub(super) fn agent_state(status: &StatusView, root: &str) -> Markup {
    let problems = status.problems.len();
    let class = match (problems, status.state) {
        (0, "measuring") => "u",
        (0, other) => shape(other),
        _ => "l",
    };
    let first = status.problems.first().map_or("", |problem| problem.about);
    html! {
        @if problems == 0 {
            span class={ "st " (class) } { (status.state) }
        } @else {
            a class={ "st " (class) } href={ (root) "#" (first) } {
                (status.state) ", " (counted(problems, "problem"))
            }
        }
    }
}

/// How old the newest result is.
pub(super) fn age(status: &StatusView) -> Markup {
    html! {
        @match status.newest_result {
            Some(newest) => {
                "newest result " b data-since=(newest) { (text::duration(status.now - newest)) } " old"
            }
            None => { "no result yet" }
        }
    }
}

/// "1 device", "2 devices".
pub(super) fn counted(number: usize, word: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {word}{plural}", text::count(number))
}

/// The latest cycles of a device: round-trip times as steps, loss as bars, dashes where nothing is known.
pub(super) fn trace(points: &[TracePoint]) -> Markup {
    const STEP: usize = 4;
    let mut times: Vec<f64> = points.iter().filter_map(|point| point.rtt).collect();
    times.sort_by(f64::total_cmp);
    let median = times.get(times.len() / 2).copied().unwrap_or(1.0);
    let most = times.last().copied().unwrap_or(1.0).max(2.0 * median);
    let (mut line, mut bars, mut dashes) = (String::new(), String::new(), String::new());
    let mut is_drawing = false;
    // The newest is at the right.
    let first = 30_usize.saturating_sub(points.len());
    for (place, point) in points.iter().enumerate() {
        let x = (first + place) * STEP;
        match point.rtt {
            Some(rtt) => {
                let y = 14.0 - 12.0 * (rtt / most).min(1.0);
                let go = if is_drawing {
                    format!("V{y:.0}")
                } else {
                    format!("M{x} {y:.0}")
                };
                let _ = write!(line, "{go}h{STEP}");
                is_drawing = true;
            }
            None => is_drawing = false,
        }
        match point.loss {
            Some(loss) if loss > 0.0 => {
                let _ = write!(bars, "M{} 22v-{:.0}", x + 2, (loss * 6.0).max(2.0));
            }
            Some(_) => {}
            None if point.state == "unknown" => {
                let _ = write!(dashes, "M{x}.5 19h3");
            }
            None => {}
        }
    }
    html! {
        svg.tr viewBox="0 0 120 23" aria-hidden="true" {
            @if !line.is_empty() { path d=(line) {} }
            @if !bars.is_empty() { path.b d=(bars) {} }
            @if !dashes.is_empty() { path.x d=(dashes) {} }
        }
    }
}

/// A line of numbers over three hours, and its peak.
pub(super) fn line(values: &[(u64, u32)]) -> Markup {
    let peak = values.iter().max_by_key(|(start, value)| (*value, *start));
    let Some((at, most)) = peak.copied().filter(|(_, most)| *most > 0) else {
        return PreEscaped(String::new());
    };
    // The newest is at the right.
    let before = COUNT_SLOTS.saturating_sub(values.len());
    let mut path = format!("M{} ", before * 4);
    for (place, (_, value)) in values.iter().enumerate() {
        let y = 19.0 - 17.0 * f64::from(*value) / f64::from(most);
        let letter = if place == 0 { "" } else { "V" };
        let _ = write!(path, "{letter}{y:.0}h4");
    }
    html! {
        svg.mini viewBox={ "0 0 " (COUNT_SLOTS * 4) " 20" } preserveAspectRatio="none" aria-hidden="true" {
            path d=(path) {}
        }
        "3 h, peak " (text::count(most as usize)) " at " (text::hour(at as f64))
    }
}
