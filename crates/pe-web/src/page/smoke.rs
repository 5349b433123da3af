//! The smoke graph: for each slot the spread of round-trip times as nested steps, the median as a line in the colour of its
//! loss, and the loss as a bar below. Only the field stretches; labels are text of the page.

use std::fmt::Write;

use maud::{Markup, html};

use super::text;
use crate::view::{HistoryView, SlotView};

/// Units of a slot's width, and heights of the two fields.
const WIDE: f64 = 10.0;
const HIGH: f64 = 250.0;
const LOW: f64 = 46.0;

/// How the round-trip times are drawn.
struct Scale {
    is_log: bool,
    bottom: f64,
    top: f64,
}

impl Scale {
    fn of(slots: &[SlotView], is_log: bool) -> Self {
        let mut highs: Vec<f64> = slots
            .iter()
            .filter_map(|slot| slot.quantiles[4].or(slot.quantiles[5]).or(slot.median))
            .collect();
        highs.sort_by(f64::total_cmp);
        if is_log {
            let all = || slots.iter().flat_map(|slot| slot.quantiles).flatten();
            let (low, high) = (all().reduce(f64::min), all().reduce(f64::max));
            let bottom = step_below(low.unwrap_or(0.001));
            return Self {
                is_log,
                bottom,
                top: step_above(high.unwrap_or(0.01)).max(bottom * 2.0),
            };
        }
        let place = (highs.len() * 98 / 100).min(highs.len().saturating_sub(1));
        let high = highs.get(place).copied().unwrap_or(0.001);
        let size = 10_f64.powf(high.log10().floor());
        let steps = [1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0];
        let step = steps
            .iter()
            .find(|step| **step * size >= high)
            .unwrap_or(&10.0);
        Self {
            is_log,
            bottom: 0.0,
            top: step * size,
        }
    }

    fn y(&self, seconds: f64) -> f64 {
        let share = match self.is_log {
            true => (seconds / self.bottom).ln() / (self.top / self.bottom).ln(),
            false => seconds / self.top,
        };
        HIGH - HIGH * share.clamp(0.0, 1.0)
    }

    fn ticks(&self) -> Vec<f64> {
        if !self.is_log {
            return (0..=4)
                .map(|tick| self.top * f64::from(tick) / 4.0)
                .collect();
        }
        let mut ticks = vec![self.bottom];
        while let Some(last) = ticks.last().copied().filter(|last| *last < self.top * 0.99) {
            ticks.push(step_above(last * 1.01));
        }
        ticks
    }
}

/// The next of 1, 2, 5 × 10ⁿ at or above, and at or below.
fn step_above(value: f64) -> f64 {
    let size = 10_f64.powf(value.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0];
    steps
        .iter()
        .map(|step| step * size)
        .find(|step| *step >= value * 0.999)
        .unwrap_or(10.0 * size)
}

fn step_below(value: f64) -> f64 {
    let size = 10_f64.powf(value.log10().floor());
    let steps = [5.0, 2.0, 1.0];
    steps
        .iter()
        .map(|step| step * size)
        .find(|step| *step <= value * 1.001)
        .unwrap_or(size)
}

/// The class of a loss, 0 to 4.
fn class(loss: f64) -> usize {
    [0.0, 0.05, 0.2, 0.5]
        .iter()
        .filter(|edge| loss > **edge)
        .count()
}

/// A stretch of slots without a line that is at least so wide has its state written in it: per cent of the field.
const ROOM: f64 = 9.0;

/// All slots of the span: before the first one that there is, nothing is known.
fn whole_span(history: &HistoryView) -> Vec<SlotView> {
    let Some(first) = history.slots.first() else {
        return Vec::new();
    };
    let missing = history.length.saturating_sub(history.slots.len());
    let before = (1..=missing).rev().map(|steps| SlotView {
        start: first.start - steps as f64 * first.seconds,
        seconds: first.seconds,
        state: "waiting",
        loss: 0.0,
        median: None,
        quantiles: [None; 6],
        is_best_to_worst: true,
    });
    before.chain(history.slots.iter().cloned()).collect()
}

/// A stretch of slots without a line. Places are per cent of the field.
#[derive(Debug, PartialEq)]
struct Gap {
    start: f64,
    width: f64,
    /// The class of its pattern.
    class: &'static str,
    /// What is written in it, where there is room.
    word: Option<&'static str>,
}

fn gaps(slots: &[SlotView]) -> Vec<Gap> {
    let share = |slots: usize, all: usize| 100.0 * slots as f64 / all as f64;
    let mut gaps = Vec::new();
    let mut first = 0;
    for run in slots.chunk_by(|a, b| a.state == b.state && a.median.is_some() == b.median.is_some())
    {
        let class = match run[0].state {
            "down" => "dn",
            "unknown" => "uk",
            _ => "none",
        };
        let width = share(run.len(), slots.len());
        if run[0].median.is_none() {
            gaps.push(Gap {
                start: share(first, slots.len()),
                width,
                class,
                word: (width >= ROOM).then_some(state(&run[0])),
            });
        }
        first += run.len();
    }
    gaps
}

/// The graph of a device's history.
pub(super) fn graph(name: &str, history: &HistoryView, is_log: bool) -> Markup {
    let slots = &whole_span(history);
    let scale = Scale::of(slots, is_log);
    let width = WIDE * slots.len().max(1) as f64;
    let mut bands = [String::new(), String::new(), String::new()];
    let mut lines: [String; 5] = Default::default();
    let mut bars: [String; 5] = Default::default();
    let gaps = gaps(slots);
    let mut above = Vec::new();
    for (place, slot) in slots.iter().enumerate() {
        let x = place as f64 * WIDE;
        for (band, (low, high)) in bands.iter_mut().zip([(0, 5), (1, 4), (2, 3)]) {
            if let (Some(low), Some(high)) = (slot.quantiles[low], slot.quantiles[high]) {
                let (y, end) = (scale.y(high), scale.y(low));
                let _ = write!(band, "M{x} {y:.1}h{WIDE}V{:.1}h-{WIDE}z", end.max(y + 1.0));
            }
        }
        let kind = class(slot.loss);
        if let Some(median) = slot.median {
            let _ = write!(lines[kind], "M{x} {:.1}h{WIDE}", scale.y(median));
        }
        if slot.loss > 0.0 {
            let height = (slot.loss * LOW).max(2.0);
            let _ = write!(
                bars[kind],
                "M{:.0} {LOW}v-{height:.1}h{:.0}v{height:.1}z",
                x + 1.0,
                WIDE - 2.0
            );
        }
        if !is_log && slot.quantiles[5].is_some_and(|worst| worst > 2.0 * scale.top) {
            above.push(100.0 * (place as f64 + 0.5) / slots.len() as f64);
        }
    }
    // Without a reply no scale says anything.
    let ticks = match slots.iter().any(|slot| slot.median.is_some()) {
        true => scale.ticks(),
        false => Vec::new(),
    };
    let marks = time_marks(slots);
    let label =
        format!("Round-trip time and loss of {name}. The same values are in the table below.");
    html! {
        svg.vh aria-hidden="true" { defs {
            pattern #hd width="7" height="7" patternUnits="userSpaceOnUse" patternTransform="rotate(45)" { path.hd d="M0 0v7" {} }
            pattern #hu width="6" height="6" patternUnits="userSpaceOnUse" { circle.hu cx="3" cy="3" r="1" {} }
            pattern #ho width="8" height="8" patternUnits="userSpaceOnUse" { path.ho d="M0 4h4" {} }
        } }
        div.plot {
            svg.ax width="64" height="344" aria-hidden="true" {
                @for tick in &ticks {
                    text x="58" y=(format!("{:.0}", 16.0 + scale.y(*tick))) { (tick_text(*tick)) }
                }
                text x="58" y="285" { "100" } text x="58" y="322" { "0" }
                text.un transform="translate(12 137)rotate(-90)" { "round-trip time, ms" }
                text.un transform="translate(12 299)rotate(-90)" { "lost, %" }
            }
            svg.pl width="100%" height="344" role="img" aria-label=(label) {
                // Outside of what is stretched, so that patterns keep their form.
                @for gap in &gaps {
                    @let (x, width) = (format!("{:.2}%", gap.start), format!("{:.2}%", gap.width));
                    rect class=(gap.class) x=(x) width=(width) y="12" height=(HIGH) {}
                    @if gap.class == "uk" { rect.uk x=(x) width=(width) y="276" height=(LOW) {} }
                }
                svg y="12" width="100%" height=(HIGH) viewBox=(format!("0 0 {width} {HIGH}")) preserveAspectRatio="none" {
                    @for tick in &ticks { path.gr d=(format!("M0 {:.1}h{width}", scale.y(*tick))) {} }
                    path.s1 d=(bands[0]) {} path.s2 d=(bands[1]) {} path.s3 d=(bands[2]) {}
                    @for (kind, line) in lines.iter().enumerate() {
                        @if !line.is_empty() { path class={ "edge e" (kind) } d=(line) {} path class={ "m l" (kind) } d=(line) {} }
                    }
                }
                svg y="276" width="100%" height=(LOW) viewBox=(format!("0 0 {width} {LOW}")) preserveAspectRatio="none" {
                    path.gr d=(format!("M0 {}h{width}", LOW / 2.0)) {}
                    @for (kind, bar) in bars.iter().enumerate() {
                        @if !bar.is_empty() { path class={ "f l" (kind) } d=(bar) {} }
                    }
                }
                @for x in above { text x=(format!("{x:.2}%")) y="10" { "▴" } }
                line.fr y1="262.5" x2="100%" y2="262.5" {} line.fr y1="322.5" x2="100%" y2="322.5" {}
                @for (x, words) in marks {
                    line.gr x1=(format!("{x:.2}%")) x2=(format!("{x:.2}%")) y1="12" y2="262" {}
                    line.gr x1=(format!("{x:.2}%")) x2=(format!("{x:.2}%")) y1="276" y2="322" {}
                    text x=(format!("{x:.2}%")) y="339" { (words) }
                }
                @if slots.is_empty() { text.sp x="50%" y="140" { "waiting for results" } }
                @for gap in &gaps {
                    @if let Some(word) = gap.word { text.sp x=(format!("{:.2}%", gap.start + gap.width / 2.0)) y="140" { (word) } }
                }
            }
        }
        (key(slots))
        (table(slots))
    }
}

/// The newest slot in words, as the script tells the one that is stepped to.
pub(super) fn reading(history: &HistoryView) -> String {
    let Some(slot) = history.slots.last() else {
        return "No result yet".to_owned();
    };
    let from = text::hour(slot.start);
    if slot.median.is_none() {
        return format!("{from}: {}", state(slot));
    }
    let told = |value| text::milliseconds(value);
    let [low, _, quarter, three_quarters, _, high] = slot.quantiles;
    let middle = match quarter {
        Some(_) => format!(
            "middle half {} to {}, ",
            told(quarter),
            told(three_quarters)
        ),
        None => String::new(),
    };
    format!(
        "{from}: median {} ms, {middle}{} to {}, {} % lost",
        told(slot.median),
        told(low),
        told(high),
        text::percent(Some(slot.loss)),
    )
}

/// The state of a slot without a reply.
fn state(slot: &SlotView) -> &'static str {
    match slot.state {
        "waiting" => "no data",
        state => state,
    }
}

fn tick_text(seconds: f64) -> String {
    let text = format!("{:.4}", seconds * 1e3);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Up to seven times of day, with their places in per cent.
fn time_marks(slots: &[SlotView]) -> Vec<(f64, String)> {
    let (Some(first), Some(last)) = (slots.first(), slots.last()) else {
        return Vec::new();
    };
    let (start, end) = (first.start, last.start + last.seconds);
    let length = end - start;
    let steps = [
        60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0, 10_800.0, 21_600.0, 43_200.0, 86_400.0,
    ];
    let step = steps
        .iter()
        .find(|step| length / **step <= 6.0)
        .unwrap_or(&86_400.0);
    let mut at = (start / step).ceil() * step;
    let mut marks = Vec::new();
    while at < end && marks.len() < 8 {
        let place = 100.0 * (at - start) / length;
        if (4.0..96.0).contains(&place) {
            marks.push((place, text::hour(at)));
        }
        at += step;
    }
    marks
}

fn key(slots: &[SlotView]) -> Markup {
    let box_ = "M0 0h28v14H0z";
    let mut drawn = slots.iter().filter(|slot| slot.median.is_some());
    let outermost = match (
        drawn.clone().any(|slot| slot.is_best_to_worst),
        drawn.any(|slot| !slot.is_best_to_worst),
    ) {
        (true, true) => "2 to 98 %, best to worst of fewer than 50",
        (false, true) => "2 to 98 %",
        _ => "best to worst",
    };
    let has = |place: usize| slots.iter().any(|slot| slot.quantiles[place].is_some());
    html! {
        dl.key {
            dt { "Replies" }
            dd {
                span { svg viewBox="0 0 28 14" aria-hidden="true" { path.s1 d=(box_) {} } (outermost) }
                @if has(1) { span { svg viewBox="0 0 28 14" aria-hidden="true" { path.s1 d=(box_) {} path.s2 d=(box_) {} } "10 to 90 %" } }
                @if has(2) { span { svg viewBox="0 0 28 14" aria-hidden="true" { path.s1 d=(box_) {} path.s2 d=(box_) {} path.s3 d=(box_) {} } "25 to 75 %" } }
                span { "line: median" }
                span { "▴ slowest reply above twice the scale" }
            }
            dt { "Lost" }
            dd {
                @for (kind, words) in ["none", "up to 5 %", "up to 20 %", "up to 50 %", "more"].into_iter().enumerate() {
                    span { svg viewBox="0 0 28 14" aria-hidden="true" { path class={ "m l" (kind) } d="M0 7h28" {} } (words) }
                }
            }
            dt { "No line" }
            dd {
                span { svg viewBox="0 0 28 14" aria-hidden="true" { path.dn d=(box_) {} } "down: asked, no answer" }
                span { svg viewBox="0 0 28 14" aria-hidden="true" { path.uk d=(box_) {} } "unknown: this machine could not ask" }
                span { svg viewBox="0 0 28 14" aria-hidden="true" { path.none d=(box_) {} } "no data: agent not running, or not measured yet" }
            }
        }
    }
}

fn table(slots: &[SlotView]) -> Markup {
    html! {
        details {
            summary { "Values of this graph as a table" }
            div.scroll tabindex="0" role="region" aria-label="Values of the graph" {
                table.n #values {
                    thead { tr {
                        th scope="col" { "From" } th scope="col" { "Lost, %" } th scope="col" { "Best or 2 %, ms" }
                        th scope="col" { "25 %" } th scope="col" { "Median" } th scope="col" { "75 %" }
                        th scope="col" { "Worst or 98 %" }
                    } }
                    tbody { @for slot in slots.iter().rev() {
                        tr {
                            th scope="row" { (text::hour(slot.start)) }
                            @if slot.median.is_some() {
                                td { (text::percent(Some(slot.loss))) }
                                td { (text::milliseconds(slot.quantiles[0])) }
                                td { (text::milliseconds(slot.quantiles[2])) }
                                td { (text::milliseconds(slot.median)) }
                                td { (text::milliseconds(slot.quantiles[3])) }
                                td { (text::milliseconds(slot.quantiles[5])) }
                            } @else {
                                td colspan="6" { (state(slot)) }
                            }
                        }
                    } }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_end_at_round_numbers() {
        assert!(
            (step_above(0.0031) - 0.005).abs() < 1e-9 && (step_below(0.0031) - 0.002).abs() < 1e-9
        );
        let slot = |median: f64| SlotView {
            start: 0.0,
            seconds: 300.0,
            state: "up",
            loss: 0.0,
            median: Some(median),
            quantiles: [Some(median); 6],
            is_best_to_worst: false,
        };
        let history = HistoryView {
            span: "3h",
            basis: "probes",
            length: 10,
            slots: vec![slot(0.002), slot(0.0027)],
        };
        let whole = whole_span(&history);
        assert_eq!((whole.len(), whole[0].start), (10, -2400.0));
        let gap = Gap {
            start: 0.0,
            width: 80.0,
            class: "none",
            word: Some("no data"),
        };
        assert_eq!(gaps(&whole), [gap]);
        let scale = Scale::of(&[slot(0.002), slot(0.0027)], false);
        assert!(
            (scale.top - 0.003).abs() < 1e-9 && scale.y(0.003) < 1e-6 && scale.ticks().len() == 5
        );
        let scale = Scale::of(&[slot(0.0021), slot(0.012)], true);
        assert!((scale.bottom - 0.002).abs() < 1e-9 && (scale.top - 0.02).abs() < 1e-9);
        assert_eq!(scale.ticks().len(), 4);
        assert_eq!(
            [0.0, 0.01, 0.05, 0.06, 0.21, 0.51].map(class),
            [0, 1, 1, 2, 3, 4]
        );
    }
}
