//! How many lines changes of state make. No I/O.
//!
//! A handful of changes is a line each. More of them at once are one line for each state, with a count and the reasons. Over
//! time there are a few lines a minute: what comes while none is left waits, and is then summed up over all groups.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::states::{Change, State, States};

/// Devices of one state that are named at once; more are counted.
const NAMED: usize = 5;
/// Lines that may be written at once,
const MOST_LINES: u32 = 20;
/// and how long it takes until another may be.
const LINE_EVERY: Duration = Duration::from_secs(6);
/// Reasons that a line tells, the most frequent ones.
const REASONS: usize = 3;

/// A line to be written.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    One(Change),
    Many {
        state: State,
        devices: usize,
        /// The group, where all devices are of one; else how many groups they are of.
        group: Option<Arc<str>>,
        groups: Option<usize>,
        /// The most frequent reasons, with how often there was each where there are several.
        reasons: Option<String>,
    },
}

/// Decides when lines are written.
#[derive(Debug)]
pub(super) struct Pace {
    left: u32,
    /// Until when lines were granted.
    granted: Instant,
    /// Whether changes wait for lines.
    is_behind: bool,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            left: MOST_LINES,
            granted: now,
            is_behind: false,
        }
    }

    /// The lines to write now about what is pending in `states`.
    pub(super) fn lines(&mut self, states: &mut States, now: Instant) -> Vec<Line> {
        self.grant(now);
        if states.pending() == 0 {
            self.is_behind = false;
            return Vec::new();
        }
        if self.left == 0 {
            self.is_behind = true;
            return Vec::new();
        }
        let mut by_state: BTreeMap<State, Vec<Change>> = BTreeMap::new();
        for change in states.take() {
            by_state.entry(change.state).or_default().push(change);
        }
        let named: usize = by_state
            .values()
            .map(|changes| match changes.len() {
                few @ ..=NAMED => few,
                _ => 1,
            })
            .sum();
        let may_name = !std::mem::take(&mut self.is_behind) && named <= self.left as usize;
        let mut lines = Vec::new();
        for (state, changes) in by_state {
            match may_name && changes.len() <= NAMED || changes.len() == 1 {
                true => lines.extend(changes.into_iter().map(Line::One)),
                false => lines.push(sum_up(state, &changes)),
            }
        }
        // There may be up to three where one was left.
        self.left = self.left.saturating_sub(lines.len() as u32);
        lines
    }

    fn grant(&mut self, now: Instant) {
        let since = now.saturating_duration_since(self.granted);
        let lines = (since.as_secs() / LINE_EVERY.as_secs()).min(MOST_LINES.into()) as u32;
        self.left = (self.left + lines).min(MOST_LINES);
        self.granted = match self.left {
            MOST_LINES => now,
            _ => self.granted + lines * LINE_EVERY,
        };
    }
}

fn sum_up(state: State, changes: &[Change]) -> Line {
    let mut groups: Vec<&Arc<str>> = changes.iter().map(|change| &change.group).collect();
    // Changes come in the order of groups.
    groups.dedup();
    let (group, count) = match groups[..] {
        [group] => (Some(group.clone()), None),
        _ => (None, Some(groups.len())),
    };
    Line::Many {
        state,
        devices: changes.len(),
        group,
        groups: count,
        reasons: reasons(changes),
    }
}

fn reasons(changes: &[Change]) -> Option<String> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for reason in changes.iter().filter_map(|change| change.reason.as_deref()) {
        *counts.entry(reason).or_default() += 1;
    }
    let mut counts: Vec<(&str, usize)> = counts.into_iter().collect();
    if let [(reason, count)] = counts[..]
        && count == changes.len()
    {
        return Some(reason.to_owned());
    }
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let shown = counts.iter().take(REASONS);
    let shown: Vec<String> = shown
        .map(|(reason, count)| format!("{reason} ({count})"))
        .collect();
    (!shown.is_empty()).then(|| shown.join(", "))
}

#[cfg(test)]
mod tests {
    use super::super::states::tests::{Reports, Row, UP};
    use super::*;

    const DOWN: Row = (0.0, 1.0, f64::NAN);

    struct Log {
        states: States,
        pace: Pace,
        now: Instant,
    }

    impl Log {
        fn new() -> Self {
            let now = Instant::now();
            let (states, pace) = (States::default(), Pace::new(now));
            Self { states, pace, now }
        }

        fn after(&mut self, time: Duration) -> &mut Self {
            self.now += time;
            self
        }

        fn note(&mut self, reports: &Reports, row: impl Fn(usize) -> Row) -> Vec<Line> {
            self.states.note(&reports.report(row));
            self.pace.lines(&mut self.states, self.now)
        }
    }

    fn many(devices: usize, group: Option<&str>, groups: Option<usize>, reasons: &str) -> Line {
        Line::Many {
            state: State::Down,
            devices,
            group: group.map(Into::into),
            groups,
            reasons: Some(reasons.to_owned()),
        }
    }

    #[test]
    fn a_handful_is_named_and_ten_thousand_are_one_line() {
        let (mut log, reports) = (Log::new(), Reports::new("g", 10_000));
        assert_eq!(log.note(&reports, |_| UP), []);
        let lines = log.note(&reports, |device| if device < 5 { DOWN } else { UP });
        assert_eq!(lines.len(), 5);
        assert!(lines.iter().all(|line| matches!(line, Line::One(_))));
        let lines = log.note(&reports, |_| DOWN);
        assert_eq!(lines, [many(9_995, Some("g"), None, "timeout")]);
        assert_eq!(log.note(&reports, |_| DOWN), []);
    }

    #[test]
    fn several_reasons_are_counted() {
        let (mut log, reports) = (Log::new(), Reports::new("g", 10));
        let lines = log.note(&reports, |device| match device {
            0 => (0.0, f64::NAN, 1.0),
            _ => DOWN,
        });
        let expected = many(10, Some("g"), None, "timeout (9), no_route (1)");
        assert_eq!(lines, [expected]);
    }

    #[test]
    fn a_hundred_groups_at_once_are_a_few_lines_and_a_sum() {
        let mut log = Log::new();
        let reports: Vec<Reports> = (0..100)
            .map(|n| Reports::new(format!("g{n:02}").leak(), 100))
            .collect();
        let lines = reports.iter().flat_map(|each| log.note(each, |_| DOWN));
        assert_eq!(lines.count(), MOST_LINES as usize);
        let lines = log.after(LINE_EVERY).note(&reports[0], |_| DOWN);
        assert_eq!(lines, [many(8_000, None, Some(80), "timeout")]);
        assert_eq!(log.after(LINE_EVERY).note(&reports[0], |_| DOWN), []);
    }

    #[test]
    fn a_device_that_flaps_for_an_hour_is_some_lines_a_minute() {
        let (mut log, reports) = (Log::new(), Reports::new("g", 1));
        let mut lines = 0;
        for second in 0..3600 {
            let row = if second % 2 == 0 { DOWN } else { UP };
            lines += log
                .after(Duration::from_secs(1))
                .note(&reports, |_| row)
                .len();
        }
        assert!(lines <= 620, "{lines}");
        // Later, changes are told again.
        let minute = Duration::from_secs(60);
        log.after(minute).note(&reports, |_| UP);
        assert_eq!(log.after(minute).note(&reports, |_| DOWN).len(), 1);
    }
}
