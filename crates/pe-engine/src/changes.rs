//! What differs between the plans that run and those that are wanted. No I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::plan::Plan;

/// What a reload changed, counted in groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ReloadSummary {
    /// Groups that are new.
    pub added: usize,
    /// Groups whose devices or settings are not the same as before.
    pub changed: usize,
    /// Groups that go on undisturbed.
    pub unchanged: usize,
    /// Groups that are gone.
    pub removed: usize,
}

/// What to do to get from the plans that run to those that are wanted.
#[derive(Debug, Default)]
pub(crate) struct PlanChanges {
    pub(crate) added: Vec<Arc<Plan>>,
    pub(crate) changed: Vec<Arc<Plan>>,
    /// Plans that run and go on.
    pub(crate) unchanged: Vec<Arc<Plan>>,
    /// Names of groups.
    pub(crate) removed: Vec<Arc<str>>,
}

impl PlanChanges {
    /// Compares by name; a plan that would make no difference is unchanged.
    pub(crate) fn between(running: &BTreeMap<Arc<str>, Arc<Plan>>, wanted: Vec<Arc<Plan>>) -> Self {
        let mut changes = Self::default();
        let names: BTreeSet<Arc<str>> = wanted.iter().map(|plan| plan.group.clone()).collect();
        let gone = running.keys().filter(|name| !names.contains(*name));
        changes.removed.extend(gone.cloned());
        for plan in wanted {
            match running.get(&plan.group) {
                None => changes.added.push(plan),
                Some(known) if Arc::ptr_eq(known, &plan) || known.same_as(&plan) => {
                    changes.unchanged.push(known.clone());
                }
                Some(_) => changes.changed.push(plan),
            }
        }
        changes
    }

    pub(crate) fn summary(&self) -> ReloadSummary {
        ReloadSummary {
            added: self.added.len(),
            changed: self.changed.len(),
            unchanged: self.unchanged.len(),
            removed: self.removed.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn plan(group: &str, seconds: u64) -> Arc<Plan> {
        Arc::new(Plan {
            group: group.into(),
            interval: Duration::from_secs(seconds),
            pace: None,
            device_count: 0,
            lanes: Vec::new(),
            columns: Vec::new(),
        })
    }

    #[test]
    fn groups_are_compared_by_name_and_by_what_would_run() {
        let running = [plan("goes", 1), plan("same", 1), plan("slower", 1)];
        let running = running
            .into_iter()
            .map(|plan| (plan.group.clone(), plan))
            .collect();
        let wanted = vec![plan("slower", 2), plan("new", 1), plan("same", 1)];
        let changes = PlanChanges::between(&running, wanted);
        let names = |plans: &[Arc<Plan>]| plans.iter().map(|p| p.group.to_string()).collect();
        let found: [Vec<String>; 3] = [
            names(&changes.added),
            names(&changes.changed),
            names(&changes.unchanged),
        ];
        assert_eq!(found, [["new"], ["slower"], ["same"]]);
        assert_eq!(changes.removed, ["goes".into()]);
        assert!(Arc::ptr_eq(&changes.unchanged[0], &running["same"]));
    }
}
