//! The tasks that run groups: started, changed, stopped, and started again when they die.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tracing::error;

use crate::changes::PlanChanges;
use crate::plan::Plan;
use crate::runner::{GroupRunner, Publish, RunnerLinks};
use crate::schedule::{now, stagger};
use crate::shared::Shared;
use crate::tasks::{TaskName, keep_running};

/// What kind of task runs a group, in logs and metrics.
const TASK: &str = "cycle";

/// The tasks of all groups. They end when this is dropped.
pub(crate) struct GroupTasks {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
    groups: BTreeMap<Arc<str>, GroupTask>,
    stop: watch::Sender<bool>,
    grace: Duration,
}

struct GroupTask {
    plans: watch::Sender<Arc<Plan>>,
    task: AbortHandle,
}

impl GroupTasks {
    pub(crate) fn new(shared: Arc<Shared>, stop: watch::Sender<bool>, grace: Duration) -> Self {
        Self {
            shared,
            tasks: JoinSet::new(),
            groups: BTreeMap::new(),
            stop,
            grace,
        }
    }

    /// The plans in force.
    pub(crate) fn plans(&self) -> BTreeMap<Arc<str>, Arc<Plan>> {
        let groups = self.groups.iter();
        groups
            .map(|(name, group)| (name.clone(), group.plans.borrow().clone()))
            .collect()
    }

    /// Starts groups, spread evenly.
    pub(crate) fn start(&mut self, plans: Vec<Arc<Plan>>) {
        let count = plans.len();
        for (index, plan) in plans.into_iter().enumerate() {
            let first = now() + stagger(index, count, plan.interval);
            self.spawn(plan, first);
        }
    }

    /// Ends groups that are gone, and hands changed plans on; groups that are new are left to [`start`](Self::start).
    pub(crate) async fn change(&mut self, changes: &PlanChanges) {
        for group in &changes.removed {
            self.remove(group).await;
        }
        for plan in &changes.changed {
            if let Some(group) = self.groups.get(&plan.group) {
                group.plans.send_replace(plan.clone());
            }
        }
    }

    /// Waits until the task of a group has died, and starts it again. Pends while there is none.
    pub(crate) async fn revive(&mut self) {
        match self.tasks.join_next_with_id().await {
            Some(ended) => self.died(ended),
            None => std::future::pending().await,
        }
    }

    /// Lets all groups finish what they do within the grace time.
    pub(crate) async fn stop(mut self) {
        self.stop.send_replace(true);
        while self.tasks.join_next().await.is_some() {}
    }

    fn spawn(&mut self, plan: Arc<Plan>, first: Instant) {
        let group = plan.group.clone();
        let plans = watch::Sender::new(plan);
        let task = self.task(group.clone(), &plans, first);
        self.groups.insert(group, GroupTask { plans, task });
    }

    fn task(
        &mut self,
        group: Arc<str>,
        plans: &watch::Sender<Arc<Plan>>,
        first: Instant,
    ) -> AbortHandle {
        let shared = self.shared.clone();
        let links = RunnerLinks {
            plans: plans.subscribe(),
            stop: self.stop.subscribe(),
            grace: self.grace,
        };
        self.tasks.spawn(async move {
            let name = TaskName {
                kind: TASK,
                group: Some(&group),
                sink: None,
            };
            let mut first = Some(first);
            keep_running(name, &shared.metrics, links.stop.clone(), || {
                let mut links = links.clone();
                let plan = links.plans.borrow_and_update().clone();
                let runner = runner(&shared, plan);
                runner.run(first.take().unwrap_or_else(now), links)
            })
            .await;
        })
    }

    /// Ends a group at once. When this returns, it publishes nothing any more.
    async fn remove(&mut self, group: &Arc<str>) {
        let Some(removed) = self.groups.remove(group) else {
            return;
        };
        removed.task.abort();
        while let Some(ended) = self.tasks.join_next_with_id().await {
            let id = task_id(&ended);
            if id == removed.task.id() {
                return;
            }
            self.died(ended);
        }
    }

    /// Starts the group again whose task has ended, though nobody has told it to.
    fn died(&mut self, ended: Result<(Id, ()), JoinError>) {
        let id = task_id(&ended);
        let died = self.groups.iter().find(|(_, group)| group.task.id() == id);
        let Some((name, plans)) = died.map(|(name, group)| (name.clone(), group.plans.clone()))
        else {
            return;
        };
        error!(
            group = &*name,
            "the task of a group ended; it is started again"
        );
        self.shared.metrics.restarts.of(TASK).add(1);
        let task = self.task(name.clone(), &plans, now());
        self.groups.insert(name, GroupTask { plans, task });
    }
}

/// A runner whose reports go where all go.
pub(crate) fn runner(shared: &Arc<Shared>, plan: Arc<Plan>) -> GroupRunner {
    let metrics = shared.group_metrics(&plan.group);
    let publish: Publish = {
        let (shared, metrics) = (shared.clone(), metrics.clone());
        Arc::new(move |report, stale_at| shared.publish(report, stale_at, &metrics))
    };
    GroupRunner::new(plan, metrics, publish)
}

fn task_id(ended: &Result<(Id, ()), JoinError>) -> Id {
    match ended {
        Ok((id, ())) => *id,
        Err(error) => error.id(),
    }
}
