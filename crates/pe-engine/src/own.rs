//! The agent's own metrics on their way to the sinks: those that `/metrics` shows beside the results of groups.
//!
//! They leave as a report of their own, in which [`CycleReport::is_agent`] is set, at a steady interval, at the end, and when
//! the configuration changes, since a sink may be new.

use std::sync::Arc;
use std::time::Duration;

use pe_scrape::Config;
use tokio::task::spawn_blocking;
use tokio::time::timeout_at;
use tracing::debug;

use crate::schedule::{Ticks, now};
use crate::shared::Shared;

/// What kind of task hands on the agent's own metrics, in logs and metrics.
pub(crate) const TASK: &str = "own_metrics";

/// The shortest interval unless another is set. Reading the metrics of the process alone takes some system calls.
const SHORTEST: Duration = Duration::from_secs(15);

/// The interval where there is no group.
const WITHOUT_GROUPS: Duration = Duration::from_secs(60);

/// That of the group that is measured most often, but no shorter than [`SHORTEST`].
fn interval(config: &Config) -> Duration {
    let intervals = config.groups.iter().map(pe_scrape::Group::interval);
    intervals.min().unwrap_or(WITHOUT_GROUPS).max(SHORTEST)
}

/// Publishes the metrics at each tick, for ever; each `fixed`, if that is given.
pub(crate) async fn run(shared: Arc<Shared>, fixed: Option<Duration>) {
    let current = || fixed.unwrap_or_else(|| interval(&shared.config()));
    let mut ticks = Ticks::new(now(), current());
    loop {
        let next = ticks.next_at().into();
        // A change of the configuration, or the tick.
        let _ = timeout_at(next, shared.config_changed.notified()).await;
        ticks.take(now());
        publish(&shared).await;
        ticks.change_interval(current(), now());
    }
}

/// Publishes the metrics once. They are gathered where waiting does no harm: files are read, and sources asked.
pub(crate) async fn publish(shared: &Arc<Shared>) {
    let shared = shared.clone();
    if let Err(error) = spawn_blocking(move || shared.publish_own()).await {
        debug!(%error, "the agent's own metrics could not be gathered");
    }
}

#[cfg(test)]
mod tests {
    use pe_scrape::Group;

    use super::*;

    #[test]
    fn the_interval_is_the_shortest_of_the_groups_and_at_least_15_seconds() {
        let config = |intervals: &[u64]| {
            let group = |seconds: &u64| {
                let builder = Group::builder(format!("g{seconds}"), Duration::from_secs(*seconds));
                builder.build().unwrap()
            };
            Config::new(intervals.iter().map(group).collect(), Vec::new())
        };
        for (intervals, expected) in [(&[][..], 60), (&[1, 300], 15), (&[300, 30, 3600], 30)] {
            assert_eq!(interval(&config(intervals)).as_secs(), expected);
        }
    }
}
