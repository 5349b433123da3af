//! From reports to blocks, once for all sinks that share a queue. No I/O; takes every time as an argument.
//!
//! An engine hands each report to each sink, in tasks that do not wait for each other. Whoever comes first with a report has it
//! made into blocks; the others find it known. Each brings its reports in order, so that they are taken in in order too.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use pe_scrape::{AGENT_JOB, CycleReport, Labels};

use super::blocks::BlockMaker;
use super::selection::Selection;
use super::stale::StaleTracker;
use crate::SampleBlock;
use crate::clocks::Now;

/// A sink that is new takes nothing that was measured before it, and is new for so long.
const NEW_FOR: Duration = Duration::from_secs(5);

/// Reports that are remembered before it is looked for those that nobody holds any more.
const FEW_REPORTS: usize = 64;

/// What is stored of a report.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Content {
    pub(super) external_labels: Labels,
    pub(super) selection: Selection,
}

/// Makes blocks of reports.
#[derive(Debug)]
pub(super) struct Feed {
    maker: Option<BlockMaker>,
    host: Arc<str>,
    pub(super) tracker: StaleTracker,
    /// Reports that were taken in, by their addresses. These stay theirs as long as they are remembered.
    known: HashMap<usize, Weak<CycleReport>>,
    /// How many there may be before some are forgotten.
    most_known: usize,
}

impl Feed {
    pub(super) fn new(host: &str) -> Self {
        Self {
            maker: None,
            host: host.into(),
            tracker: StaleTracker::default(),
            known: HashMap::new(),
            most_known: FEW_REPORTS,
        }
    }

    /// The clocks from before anything is measured.
    pub(super) fn start(&mut self, content: &Content, now: Now) {
        self.maker.get_or_insert_with(|| {
            let external = content.external_labels.clone();
            BlockMaker::new(external, &self.host, content.selection.clone()).since(now)
        });
    }

    /// The blocks of a report, with markers; none if it is known, or from before the sink that brings it.
    pub(super) fn take(
        &mut self,
        report: &Arc<CycleReport>,
        content: Content,
        sink_created: SystemTime,
        now: Now,
    ) -> Vec<SampleBlock> {
        if is_from_before(report, sink_created, now.wall) || !self.note(report) {
            return Vec::new();
        }
        self.start(&content, now);
        let Some(maker) = &mut self.maker else {
            return Vec::new();
        };
        let Content {
            external_labels,
            selection,
        } = content;
        maker.adapt(&external_labels, &self.host, selection);
        let blocks = maker.make(report, now);
        self.tracker.track(report, blocks, now)
    }

    /// Forgets the groups that are not in force; the markers of their series.
    pub(super) fn retain(&mut self, groups: &[Arc<str>], now: Now) -> Vec<SampleBlock> {
        let is_wanted = |group: &str| group == AGENT_JOB || groups.iter().any(|it| &**it == group);
        if let Some(maker) = &mut self.maker {
            maker.retain(is_wanted);
        }
        self.tracker.retain(is_wanted, now)
    }

    /// Remembers a report; whether it is new.
    fn note(&mut self, report: &Arc<CycleReport>) -> bool {
        if self.known.len() >= self.most_known {
            self.known.retain(|_, report| report.strong_count() > 0);
            self.most_known = FEW_REPORTS.max(2 * self.known.len());
        }
        let address = Arc::as_ptr(report).addr();
        self.known.insert(address, Arc::downgrade(report)).is_none()
    }
}

/// Whether a report was made before a sink. An engine hands a new sink what it knows; the sink before it had that.
fn is_from_before(report: &CycleReport, created: SystemTime, now: SystemTime) -> bool {
    let age = now.duration_since(created).unwrap_or(NEW_FOR);
    age < NEW_FOR && report.started < created
}

#[cfg(test)]
mod tests {
    use pe_scrape::{FrameBuilder, LabelSet, MetricDescriptor};

    use super::*;
    use crate::remote_write::testing::{now, report, series};

    fn content() -> Content {
        Content {
            external_labels: Labels::default(),
            selection: Selection::default(),
        }
    }

    fn cycle(value: f64) -> Arc<CycleReport> {
        let device = LabelSet::new([("device", "x")]).unwrap();
        let frame = FrameBuilder::new(&[MetricDescriptor::gauge("up", "Up")]).unwrap();
        let frame = frame.time(SystemTime::UNIX_EPOCH).row(device, &[value]);
        Arc::new(report("plant", [frame.build()]))
    }

    #[test]
    fn each_report_is_taken_in_once_however_many_sinks_bring_it() {
        let mut feed = Feed::new("host");
        let mut take = |report: &Arc<CycleReport>| {
            let blocks = feed.take(report, content(), SystemTime::UNIX_EPOCH, now(1_000_000));
            (series(&blocks).len(), feed.known.len())
        };
        let reports: Vec<_> = (0..3).map(|value| cycle(f64::from(value))).collect();
        let taken: Vec<usize> = reports.iter().map(|report| take(report).0).collect();
        assert_eq!(taken, [1, 0, 0], "the frames have equal times");
        assert_eq!(take(&reports[0]), (0, 3));
        drop(reports);
        // What nobody holds is forgotten, and no later report is taken for it.
        let mut most = 0;
        for value in 0..500 {
            most = most.max(take(&cycle(f64::from(value))).1);
        }
        assert!(most <= FEW_REPORTS, "{most} are remembered");
    }

    #[test]
    fn a_new_sink_takes_nothing_from_before_it_and_leaves_it_to_others() {
        let mut feed = Feed::new("host");
        let report = cycle(1.0);
        let now = now(1_000);
        assert!(feed.take(&report, content(), now.wall, now).is_empty());
        let by_another = feed.take(&report, content(), SystemTime::UNIX_EPOCH, now);
        assert_eq!(by_another.len(), 1);
    }
}
