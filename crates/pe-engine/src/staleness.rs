//! Results of groups in which nothing is measured any more are withheld: where a scraper panics or hangs for ever, or the
//! task of the group does.
//!
//! A group is stale when nothing was measured in it for three intervals, or three times as long as its settings let a
//! device take, at least for a minute. Its latest report is replaced by one without values, also at the sinks, so that a
//! gateway does not show the last ones for ever. Who reads results gets the same, whether this task runs or not.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep_until;
use tracing::warn;

use crate::schedule::{after, now};
use crate::shared::Shared;

/// What kind of task withholds stale results, in logs and metrics.
pub(crate) const TASK: &str = "staleness";

/// Results go stale no earlier than this after they were measured: a short interval makes a report of every hiccup else.
const SHORTEST: Duration = Duration::from_secs(60);

/// Intervals, or times that a device may take, without a measurement.
const INTERVALS: u32 = 3;

/// How long to sleep at most. A group may come that goes stale earlier than those that were looked at.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);

/// How long after the latest measurement results are stale. `target_timeout` is how long a device may take.
pub(crate) fn stale_after(interval: Duration, target_timeout: Duration) -> Duration {
    let cycle = interval.max(target_timeout);
    cycle.saturating_mul(INTERVALS).max(SHORTEST)
}

/// Tells that the results of a group are withheld from now on.
pub(crate) fn tell(group: &str) {
    warn!(
        group,
        "nothing was measured for too long; the results of the group are withheld"
    );
}

/// Withholds results when they go stale, for ever.
pub(crate) async fn watch(shared: Arc<Shared>) {
    loop {
        let latest = after(now(), LONGEST_SLEEP);
        let next = shared.withhold_stale();
        sleep_until(next.map_or(latest, |next| next.min(latest)).into()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_goes_stale_after_three_intervals_or_a_minute() {
        let seconds = Duration::from_secs;
        for (interval, target_timeout, expected) in [
            (1, 2, 60),
            (20, 2, 60),
            (30, 2, 90),
            (3600, 2, 10_800),
            // A cycle that may take ten intervals.
            (10, 100, 300),
        ] {
            let found = stale_after(seconds(interval), seconds(target_timeout));
            assert_eq!(found, seconds(expected), "{interval} {target_timeout}");
        }
        assert_eq!(stale_after(Duration::MAX, seconds(1)), Duration::MAX);
    }
}
