//! Which targets of a plan are in the one that follows it. No I/O.

use std::collections::HashSet;

use crate::plan::Plan;

/// For each lane of a plan, which rows are in another plan too: the same device, measured by a scraper of the same name.
#[derive(Debug)]
pub(crate) struct Staying(Vec<Vec<bool>>);

impl Staying {
    pub(crate) fn new(plan: &Plan, next: &Plan) -> Self {
        let lanes = next.lanes.iter();
        let targets = lanes.flat_map(|lane| {
            let targets = lane.targets.iter();
            targets.map(|target| (&*lane.name, target.identity()))
        });
        let next: HashSet<_> = targets.collect();
        let lanes = plan.lanes.iter().map(|lane| {
            let rows = lane.targets.iter();
            rows.map(|target| next.contains(&(&*lane.name, target.identity())))
                .collect()
        });
        Self(lanes.collect())
    }

    /// Whether a row of a lane is in the other plan.
    pub(crate) fn has(&self, lane: usize, row: usize) -> bool {
        self.0[lane][row]
    }
}
