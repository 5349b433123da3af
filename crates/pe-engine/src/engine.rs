//! The engine: one task for each cycle, reload and shutdown.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use pe_config::{Config, PushConfig};
use pe_scrape::exposition::{Block, Format, encode};
use pe_scrape::{CycleReport, Frame, ScraperRegistry, Sink};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;
use tracing::{debug, info, warn};

use crate::builder::{EngineBuilder, Options};
use crate::cycle::{Cycle, CycleLinks, Publish};
use crate::metrics::{CycleCounters, ReloadState, engine_frames};
use crate::plan::Plan;
use crate::push::push_sink;
use crate::results::blocks;
use crate::schedule::{now, stagger};
use crate::{EngineError, Results};

/// Metrics of the program, asked for at each exposition.
pub(crate) type FrameSource = Arc<dyn Fn() -> Vec<Frame> + Send + Sync>;

/// Runs the cycles of a configuration. Made by [`Engine::builder`].
pub struct Engine {
    shared: Arc<Shared>,
    plans: Vec<Arc<Plan>>,
    options: Options,
    commands: mpsc::Receiver<Command>,
    handle: EngineHandle,
}

/// Reads results from and gives orders to an engine, running or not. Cloning is cheap.
#[derive(Clone)]
pub struct EngineHandle {
    shared: Arc<Shared>,
    commands: mpsc::Sender<Command>,
}

/// What a reload changed, counted in configurations (files).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReloadSummary {
    /// Configurations that are new.
    pub added: usize,
    /// Configurations whose devices or settings are not the same as before.
    pub changed: usize,
    /// Configurations that go on undisturbed.
    pub unchanged: usize,
    /// Configurations that are gone.
    pub removed: usize,
}

struct Command {
    config: Config,
    reply: oneshot::Sender<Result<ReloadSummary, EngineError>>,
}

struct Shared {
    registry: ScraperRegistry,
    results: Results,
    sinks: Vec<Arc<dyn Sink>>,
    push: Mutex<Option<(PushConfig, Arc<dyn Sink>)>>,
    sources: Vec<FrameSource>,
    counters: Mutex<BTreeMap<Arc<str>, Arc<CycleCounters>>>,
    scrapers: Mutex<Vec<Arc<Plan>>>,
    reloads: ReloadState,
}

struct RunningCycle {
    plan: Arc<Plan>,
    plans: mpsc::UnboundedSender<Arc<Plan>>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Engine {
    /// Starts to put an engine together from a configuration and the scrapers it may name.
    pub fn builder(config: Config, registry: ScraperRegistry) -> EngineBuilder {
        EngineBuilder::new(config, registry)
    }

    pub(crate) fn build(builder: EngineBuilder) -> Result<Self, EngineError> {
        let EngineBuilder {
            config,
            registry,
            sinks,
            sources,
            options,
        } = builder;
        let plans = build_plans(&config, &registry, &[])?;
        let push = config
            .push
            .map(|push| push_sink(&push).map(|sink| (push, sink)))
            .transpose()?;
        let shared = Arc::new(Shared {
            registry,
            results: Results::new(),
            sinks,
            push: Mutex::new(push),
            sources,
            counters: Mutex::default(),
            scrapers: Mutex::new(plans.clone()),
            reloads: ReloadState::default(),
        });
        let (sender, commands) = mpsc::channel(4);
        let handle = EngineHandle {
            shared: shared.clone(),
            commands: sender,
        };
        Ok(Self {
            shared,
            plans,
            options,
            commands,
            handle,
        })
    }

    /// The latest results, now and while the engine runs.
    #[must_use]
    pub fn results(&self) -> Results {
        self.shared.results.clone()
    }

    /// A handle for exposition and reload.
    #[must_use]
    pub fn handle(&self) -> EngineHandle {
        self.handle.clone()
    }

    /// Runs until `shutdown` completes, then finishes or abandons what is running within the grace time and hands
    /// pending results on within another.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) {
        let mut cycles: BTreeMap<Arc<str>, RunningCycle> = BTreeMap::new();
        let plans = std::mem::take(&mut self.plans);
        let count = plans.len();
        for (index, plan) in plans.into_iter().enumerate() {
            let first = now() + stagger(index, count, plan.interval);
            cycles.insert(plan.prom_id.clone(), self.spawn(plan, first));
        }
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            tokio::select! {
                biased;
                () = &mut shutdown => break,
                Some(command) = self.commands.recv() => {
                    let result = self.reload(command.config, &mut cycles).await;
                    self.shared.reloads.note(result.is_ok());
                    if command.reply.send(result).is_err() {
                        debug!("nobody waits for the reload's result any more");
                    }
                }
            }
        }
        self.commands.close();
        for cycle in cycles.values() {
            cycle.stop.send_replace(true);
        }
        for cycle in cycles.into_values() {
            if cycle.task.await.is_err() {
                warn!(config = %cycle.plan.prom_id, "a cycle ended by a panic");
            }
        }
        for error in self.flush().await {
            warn!("{error}");
        }
    }

    /// Runs one cycle of every configuration, all at once, and hands the results on.
    ///
    /// # Errors
    /// What kept results from arriving where they should go; the results are in [`Results`] all the same.
    pub async fn once(self) -> Result<Vec<Arc<CycleReport>>, FlushErrors> {
        let mut running = JoinSet::new();
        for plan in &self.plans {
            running.spawn(self.cycle(plan.clone()).once());
        }
        while running.join_next().await.is_some() {}
        let errors = self.flush().await;
        if errors.is_empty() {
            Ok(self.shared.results.latest())
        } else {
            Err(FlushErrors(errors))
        }
    }

    fn cycle(&self, plan: Arc<Plan>) -> Cycle {
        let counters = {
            let mut all = self
                .shared
                .counters
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            all.entry(plan.prom_id.clone()).or_default().clone()
        };
        let shared = self.shared.clone();
        let publish: Publish = Arc::new(move |report| shared.publish(report));
        Cycle::new(plan, counters, publish, self.options.concurrency)
    }

    fn spawn(&self, plan: Arc<Plan>, first: Instant) -> RunningCycle {
        let (plans, new_plans) = mpsc::unbounded_channel();
        let (stop, stopped) = watch::channel(false);
        let links = CycleLinks {
            plans: new_plans,
            stop: stopped,
            grace: self.options.grace,
        };
        let task = tokio::spawn(self.cycle(plan.clone()).run(first, links));
        RunningCycle {
            plan,
            plans,
            stop,
            task,
        }
    }

    async fn reload(
        &self,
        config: Config,
        cycles: &mut BTreeMap<Arc<str>, RunningCycle>,
    ) -> Result<ReloadSummary, EngineError> {
        // Everything that can fail comes first, so that a bad configuration changes nothing.
        let running: Vec<Arc<Plan>> = cycles.values().map(|cycle| cycle.plan.clone()).collect();
        let plans = build_plans(&config, &self.shared.registry, &running)?;
        let retired = self.shared.change_push(config.push)?;

        let mut summary = ReloadSummary::default();
        let configs: Vec<Arc<str>> = plans.iter().map(|plan| plan.prom_id.clone()).collect();
        let gone: Vec<_> = cycles
            .keys()
            .filter(|config| !configs.contains(config))
            .cloned()
            .collect();
        for cycle in gone.iter().filter_map(|config| cycles.remove(config)) {
            summary.removed += 1;
            cycle.stop.send_replace(true);
            // Its last report must not come after it was forgotten.
            cycle.task.abort();
            let _ = cycle.task.await;
        }
        let added = configs
            .iter()
            .filter(|config| !cycles.contains_key(*config))
            .count();
        let mut keep = Vec::with_capacity(plans.len());
        for plan in plans {
            match cycles.get_mut(&plan.prom_id) {
                Some(cycle) if cycle.plan.same_as(&plan) => {
                    summary.unchanged += 1;
                    keep.push(cycle.plan.clone());
                }
                Some(cycle) => {
                    summary.changed += 1;
                    keep.push(plan.clone());
                    cycle.plan = plan.clone();
                    if cycle.plans.send(plan).is_err() {
                        warn!(config = %cycle.plan.prom_id, "the cycle has ended; it is started again");
                        *cycle = self.spawn(cycle.plan.clone(), now());
                    }
                }
                None => {
                    let first = now() + stagger(summary.added, added, plan.interval);
                    summary.added += 1;
                    keep.push(plan.clone());
                    cycles.insert(plan.prom_id.clone(), self.spawn(plan, first));
                }
            }
        }
        self.shared.retain(&configs, keep);
        if let Some(sink) = retired {
            tokio::spawn(async move {
                if let Err(error) = sink.flush().await {
                    debug!("the last push to the former gateway failed: {error}");
                }
            });
        }
        info!(
            added = summary.added,
            changed = summary.changed,
            unchanged = summary.unchanged,
            removed = summary.removed,
            "the configuration was reloaded"
        );
        Ok(summary)
    }

    async fn flush(&self) -> Vec<String> {
        let mut errors = Vec::new();
        for sink in self.shared.all_sinks() {
            let name = sink.name().to_owned();
            match timeout(self.options.grace, sink.flush()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => errors.push(format!(
                    "{name}: the latest results did not arrive: {error}"
                )),
                Err(_) => errors.push(format!(
                    "{name}: the latest results could not be handed on within {:?}",
                    self.options.grace
                )),
            }
        }
        errors
    }
}

/// What kept results from arriving, one line for each sink.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct FlushErrors(Vec<String>);

impl EngineHandle {
    /// The latest results.
    #[must_use]
    pub fn results(&self) -> Results {
        self.shared.results.clone()
    }

    /// Replaces the configuration. Devices that stay keep their counters, configurations that stay the same are not
    /// disturbed, and what is gone is withdrawn from results and sinks.
    ///
    /// # Errors
    /// [`EngineError`] when the new configuration cannot be run; the old one goes on then.
    pub async fn reload(&self, config: Config) -> Result<ReloadSummary, EngineError> {
        let (reply, result) = oneshot::channel();
        let command = Command { config, reply };
        self.commands
            .send(command)
            .await
            .map_err(|_| EngineError::Stopped)?;
        result.await.map_err(|_| EngineError::Stopped)?
    }

    /// Notes that a new configuration could not even be read, for `pingexporter_config_last_reload_successful`.
    pub fn reload_failed(&self) {
        self.shared.reloads.note(false);
    }

    /// All latest results, labelled with `exporter`, and all metrics of the engine, its sinks and its scrapers.
    #[must_use]
    pub fn exposition(&self, format: Format) -> Vec<u8> {
        let reports = self.shared.results.latest();
        let own = self.shared.own_frames();
        let mut blocks = blocks(&reports);
        blocks.extend(own.iter().map(Block::new));
        encode(&blocks, format)
    }

    /// Whether every configuration has finished a cycle.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let expected = self
            .shared
            .scrapers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len();
        self.shared.results.latest().len() >= expected
    }
}

impl Shared {
    fn publish(&self, report: Arc<CycleReport>) {
        for sink in self.all_sinks() {
            sink.publish(report.clone());
        }
        self.results.store(report);
    }

    fn all_sinks(&self) -> Vec<Arc<dyn Sink>> {
        let push = self.push.lock().unwrap_or_else(PoisonError::into_inner);
        self.sinks
            .iter()
            .cloned()
            .chain(push.iter().map(|(_, sink)| sink.clone()))
            .collect()
    }

    /// Puts another Pushgateway in place when its configuration differs, and returns the former one.
    fn change_push(
        &self,
        config: Option<PushConfig>,
    ) -> Result<Option<Arc<dyn Sink>>, EngineError> {
        let mut push = self.push.lock().unwrap_or_else(PoisonError::into_inner);
        if push.as_ref().map(|(config, _)| config) == config.as_ref() {
            return Ok(None);
        }
        let new = config
            .map(|config| push_sink(&config).map(|sink| (config, sink)))
            .transpose()?;
        let old = std::mem::replace(&mut *push, new);
        if let Some((_, sink)) = &*push {
            self.results
                .latest()
                .into_iter()
                .for_each(|report| sink.publish(report));
        }
        Ok(old.map(|(_, sink)| sink))
    }

    fn retain(&self, configs: &[Arc<str>], plans: Vec<Arc<Plan>>) {
        self.results.retain(configs);
        self.counters
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|config, _| configs.contains(config));
        *self.scrapers.lock().unwrap_or_else(PoisonError::into_inner) = plans;
        for sink in self.all_sinks() {
            sink.retain(configs);
        }
    }

    /// Metrics of the engine, its sinks, its scrapers and the program.
    fn own_frames(&self) -> Vec<Frame> {
        let mut frames = engine_frames(&self.reloads);
        frames.extend(self.all_sinks().iter().flat_map(|sink| sink.metrics()));
        let plans = self
            .scrapers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let scrapers = plans
            .iter()
            .flat_map(|plan| &plan.lanes)
            .map(|lane| &lane.scraper);
        frames.extend(scrapers.flat_map(|scraper| scraper.metrics()));
        frames.extend(self.sources.iter().flat_map(|source| source()));
        frames
    }
}

fn build_plans(
    config: &Config,
    registry: &ScraperRegistry,
    running: &[Arc<Plan>],
) -> Result<Vec<Arc<Plan>>, EngineError> {
    let mut plans: Vec<Arc<Plan>> = Vec::with_capacity(config.groups.len());
    for group in &config.groups {
        if plans.iter().any(|plan| plan.prom_id == group.prom_id) {
            return Err(EngineError::DuplicateConfig(group.prom_id.clone()));
        }
        let before = running.iter().find(|plan| plan.prom_id == group.prom_id);
        plans.push(Arc::new(Plan::build(
            group,
            registry,
            before.map(|plan| &**plan),
        )?));
    }
    Ok(plans)
}
