//! The engine: it owns all tasks, carries out orders one after the other, and ends everything in order.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pe_scrape::{CycleReport, Diagnostics, ScraperRegistry, panic_message};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tracing::{debug, error};

use crate::builder::EngineBuilder;
use crate::changes::PlanChanges;
use crate::groups::{GroupTasks, runner};
use crate::handle::{Changed, Command, EngineHandle, Order, change_panicked};
use crate::own;
use crate::plan::Plan;
use crate::prepare::{Prepared, Running, prepare};
use crate::shared::Shared;
use crate::sinks::SinkTasks;
use crate::staleness;
use crate::tasks::{TaskName, keep_running};
use crate::{EngineError, Results};

/// Orders that may wait for the one before.
const WAITING_ORDERS: usize = 4;

/// Runs the cycles of all groups. Made by [`Engine::builder`].
pub struct Engine {
    shared: Arc<Shared>,
    plans: Vec<Arc<Plan>>,
    timing: Timing,
    commands: mpsc::Receiver<Command>,
    handle: EngineHandle,
    alive: Alive,
}

/// The times that the builder sets.
pub(crate) struct Timing {
    /// How long measurements may go on after the shutdown signal, and sinks after that.
    pub(crate) grace: Duration,
    /// How often the agent's own metrics go to the sinks, where that is set.
    pub(crate) own_interval: Option<Duration>,
}

/// Ends subscriptions when the engine is gone, however it ends.
struct Alive(Results);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Engine {
    /// Starts to put an engine together from the scrapers that its groups may name.
    pub fn builder(scrapers: ScraperRegistry) -> EngineBuilder {
        EngineBuilder::new(scrapers)
    }

    pub(crate) fn new(shared: Arc<Shared>, plans: Vec<Arc<Plan>>, timing: Timing) -> Self {
        let (sender, commands) = mpsc::channel(WAITING_ORDERS);
        Self {
            handle: EngineHandle::new(shared.clone(), sender),
            alive: Alive(shared.results.clone()),
            shared,
            plans,
            timing,
            commands,
        }
    }

    /// The latest results, now and while the engine runs.
    #[must_use]
    pub fn results(&self) -> Results {
        self.shared.results.clone()
    }

    /// A handle for results, exposition and changes.
    #[must_use]
    pub fn handle(&self) -> EngineHandle {
        self.handle.clone()
    }

    /// Runs until `shutdown` completes, then finishes or abandons what is running within the grace time and hands
    /// pending results on within another.
    ///
    /// A group or sink whose task panics is logged, counted and started again after a pause.
    ///
    /// # Cancel safety
    /// Dropping the future ends everything at once: measurements under way are lost, and sinks are not flushed.
    ///
    /// # Errors
    /// [`EngineError::Flush`] when the latest results did not arrive at a sink. The engine has stopped in order even then.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), EngineError> {
        let Self {
            shared,
            plans,
            timing,
            mut commands,
            handle,
            alive,
        } = self;
        // Of the handles only those of others keep the engine reachable.
        drop(handle);
        let Timing {
            grace,
            own_interval,
        } = timing;
        let stop = watch::Sender::new(false);
        let sinks = SinkTasks::start(shared.clone(), stop.subscribe(), grace);
        let background = background(&shared, &stop, own_interval);
        let mut groups = GroupTasks::new(shared.clone(), stop, grace);
        groups.start(plans);
        let mut tasks = Tasks { groups, sinks };
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            tokio::select! {
                biased;
                () = &mut shutdown => break,
                () = tasks.groups.revive() => {}
                Some(()) = tasks.sinks.join_next() => {}
                Some(command) = commands.recv() => {
                    let Command { order, reply } = command;
                    if matches!(order, Order::Nothing) {
                        let _ = reply.send(Ok(Changed::default()));
                        continue;
                    }
                    let prepared = tokio::select! {
                        biased;
                        () = &mut shutdown => break,
                        prepared = prepare_order(&shared, &tasks, order) => prepared,
                    };
                    let result = match prepared {
                        Ok(change) => Ok(tasks.apply(&shared, change).await),
                        Err(error) => Err(error),
                    };
                    if reply.send(result).is_err() {
                        debug!("nobody waits for the result of a change any more");
                    }
                }
            }
        }
        drop(commands);
        let Tasks { groups, mut sinks } = tasks;
        groups.stop().await;
        drop(background);
        own::publish(&shared).await;
        let flushed = shared.sinks.flush(grace).await;
        tokio::join!(shared.sinks.close(grace), sinks.left());
        drop(alive);
        flushed.map_err(EngineError::Flush)
    }

    /// Runs one cycle of every group, all at once, and hands the results and the agent's own metrics on. Returns the reports, ordered by group.
    ///
    /// # Cancel safety
    /// As [`run`](Self::run).
    ///
    /// # Errors
    /// [`EngineError::Flush`] with what kept results from arriving where they should go; the results are in [`Results`] all
    /// the same.
    pub async fn once(self) -> Result<Vec<Arc<CycleReport>>, EngineError> {
        let stop = watch::Sender::new(false);
        let grace = self.timing.grace;
        let _sinks = SinkTasks::start(self.shared.clone(), stop.subscribe(), grace);
        let mut running = JoinSet::new();
        for plan in &self.plans {
            running.spawn(runner(&self.shared, plan.clone()).once());
        }
        while let Some(ended) = running.join_next().await {
            if let Err(error) = ended {
                error!(%error, "the cycle of a group panicked; it has no results");
            }
        }
        own::publish(&self.shared).await;
        let flushed = self.shared.sinks.flush(grace).await;
        flushed.map_err(EngineError::Flush)?;
        Ok(self.shared.results.latest())
    }
}

/// Starts what the engine does beside groups and sinks. It ends when the set is dropped.
fn background(
    shared: &Arc<Shared>,
    stop: &watch::Sender<bool>,
    own_interval: Option<Duration>,
) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let (watched, stopped) = (shared.clone(), stop.subscribe());
    tasks.spawn(async move {
        let name = TaskName::of_engine(staleness::TASK);
        let start = || staleness::watch(watched.clone());
        keep_running(name, &watched.metrics, stopped, start).await;
    });
    let (shared, stopped) = (shared.clone(), stop.subscribe());
    tasks.spawn(async move {
        let name = TaskName::of_engine(own::TASK);
        let start = || own::run(shared.clone(), own_interval);
        keep_running(name, &shared.metrics, stopped, start).await;
    });
    tasks
}

/// Everything that runs.
struct Tasks {
    groups: GroupTasks,
    sinks: SinkTasks,
}

/// A change that is ready to be applied.
struct Change {
    prepared: Prepared,
    devices: usize,
    /// What is risky in the group that was added, or added to.
    warnings: Diagnostics,
    is_reload: bool,
}

impl Tasks {
    /// Puts a change in force. Nothing in it can fail.
    async fn apply(&mut self, shared: &Arc<Shared>, change: Change) -> Changed {
        let Prepared {
            config,
            plans,
            sinks,
            warnings,
        } = change.prepared;
        let changes = PlanChanges::between(&self.groups.plans(), plans);
        let summary = changes.summary();
        self.groups.change(&changes).await;
        shared.change_config(config);
        self.sinks.change(sinks, &shared.results);
        self.groups.start(changes.added);
        shared.config_changed.notify_one();
        if change.is_reload {
            shared.reloads.note(true, warnings, &shared.metrics);
        }
        debug!(
            added = summary.added,
            changed = summary.changed,
            unchanged = summary.unchanged,
            removed = summary.removed,
            "the configuration was changed"
        );
        Changed {
            summary,
            devices: change.devices,
            warnings: change.warnings,
        }
    }
}

/// Makes everything that can fail, in a blocking task: factories may take their time, and so do many devices.
async fn prepare_order(
    shared: &Arc<Shared>,
    tasks: &Tasks,
    order: Order,
) -> Result<Change, EngineError> {
    let is_reload = matches!(order, Order::Reload(_));
    let running = Running {
        config: shared.config(),
        plans: tasks.groups.plans(),
        sinks: shared.sinks.all().to_vec(),
    };
    let prepare = {
        let shared = shared.clone();
        move || {
            let applied = order.apply(&running.config)?;
            let (scrapers, sinks) = (&shared.scrapers, &shared.sink_registry);
            let prepared = prepare(applied.config, scrapers, sinks, &running)?;
            let origin = applied.origin.as_deref().map(Path::new);
            let of_group = prepared.warnings.iter();
            let of_group = of_group.filter(|found| Some(&*found.file) == origin);
            let warnings = of_group.cloned().chain(applied.warnings).collect();
            Ok(Change {
                prepared,
                devices: applied.removed,
                warnings,
                is_reload,
            })
        }
    };
    let result = match tokio::task::spawn_blocking(prepare).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => Err(change_panicked(panic_message(&*panic))),
            Err(_) => Err(EngineError::Stopped),
        },
    };
    if let (true, Err(error)) = (is_reload, &result) {
        let diagnostics = error.diagnostics();
        shared.reloads.note(false, diagnostics, &shared.metrics);
    }
    result
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("groups", &self.plans.len())
            .finish_non_exhaustive()
    }
}
