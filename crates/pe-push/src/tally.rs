//! What a sink counts, and when it has something to say.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pe_scrape::{ABSENT, Frame, FrameBuilder, LabelSet, MetricDescriptor, Schema, Unit};

use crate::ResultKind;

/// Results of all pushes so far.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pushes: BTreeMap<ResultKind, u64>,
    last_success: Option<SystemTime>,
    last_duration: Duration,
    groups: usize,
    failing: Option<Failing>,
}

#[derive(Debug)]
struct Failing {
    kind: ResultKind,
    since: Instant,
    pushes: u64,
}

/// What is worth a log line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Pushes began to fail, or fail in another way than before.
    Fails,
    /// Pushes arrive again.
    Recovered {
        /// For how long they had not.
        after: Duration,
        /// How many failed meanwhile.
        failed: u64,
    },
}

impl Tally {
    pub(crate) fn count(&mut self, kind: ResultKind) {
        *self.pushes.entry(kind).or_default() += 1;
        if kind == ResultKind::Success {
            self.last_success = Some(SystemTime::now());
        }
    }

    /// Notes how a round of pushes went: how many failed, and how the first of these did.
    pub(crate) fn round(
        &mut self,
        now: Instant,
        duration: Duration,
        groups: usize,
        failed: u64,
        first: Option<ResultKind>,
    ) -> Option<Change> {
        self.last_duration = duration;
        self.groups = groups;
        match (first, &mut self.failing) {
            (Some(kind), Some(failing)) if failing.kind == kind => {
                failing.pushes += failed;
                None
            }
            (Some(kind), failing) => {
                let before = failing.take();
                let since = before.as_ref().map_or(now, |before| before.since);
                let pushes = before.map_or(0, |before| before.pushes) + failed;
                *failing = Some(Failing {
                    kind,
                    since,
                    pushes,
                });
                Some(Change::Fails)
            }
            (None, failing) => failing.take().map(|before| Change::Recovered {
                after: now.duration_since(before.since),
                failed: before.pushes,
            }),
        }
    }

    pub(crate) fn frames(&self) -> Vec<Frame> {
        let (Some(by_result), Some(sink)) = (BY_RESULT.clone(), SINK.clone()) else {
            return Vec::new();
        };
        let mut pushes = FrameBuilder::with_schema(by_result);
        for kind in ResultKind::ALL {
            let labels = LabelSet::new([("result", kind.as_str())]).unwrap_or_default();
            pushes = pushes.row(
                labels,
                &[self.pushes.get(&kind).copied().unwrap_or(0) as f64],
            );
        }
        let success = self.last_success.map_or(ABSENT, |time| {
            time.duration_since(UNIX_EPOCH)
                .unwrap_or_default()
                .as_secs_f64()
        });
        let values = [
            success,
            self.last_duration.as_secs_f64(),
            self.groups as f64,
        ];
        let sink = FrameBuilder::with_schema(sink).row(LabelSet::empty(), &values);
        vec![pushes.build(), sink.build()]
    }
}

static BY_RESULT: LazyLock<Option<Arc<Schema>>> = LazyLock::new(|| {
    Schema::new(&[MetricDescriptor::counter(
        "pingexporter_pushes_total",
        "Requests to the Pushgateway by result",
    )])
    .ok()
});

static SINK: LazyLock<Option<Arc<Schema>>> = LazyLock::new(|| {
    Schema::new(&[
        MetricDescriptor::gauge(
            "pingexporter_push_last_success_timestamp_seconds",
            "When the Pushgateway last took a push",
        )
        .with_unit(Unit::Seconds),
        MetricDescriptor::gauge(
            "pingexporter_push_duration_seconds",
            "How long the latest round of pushes took",
        )
        .with_unit(Unit::Seconds),
        MetricDescriptor::gauge(
            "pingexporter_push_groups",
            "Groups of this exporter on the Pushgateway",
        ),
    ])
    .ok()
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_changes_are_told() {
        let mut tally = Tally::default();
        let start = Instant::now();
        let mut round = |seconds: u64, failed: u64, first: Option<ResultKind>| {
            tally.round(
                start + Duration::from_secs(seconds),
                Duration::ZERO,
                3,
                failed,
                first,
            )
        };
        assert_eq!(round(0, 0, None), None);
        assert_eq!(
            round(1, 3, Some(ResultKind::Unreachable)),
            Some(Change::Fails)
        );
        assert_eq!(round(2, 3, Some(ResultKind::Unreachable)), None);
        assert_eq!(
            round(3, 1, Some(ResultKind::Unauthorized)),
            Some(Change::Fails)
        );
        let recovered = Change::Recovered {
            after: Duration::from_secs(4),
            failed: 7,
        };
        assert_eq!(round(5, 0, None), Some(recovered));
        assert_eq!(round(6, 0, None), None);
    }
}
