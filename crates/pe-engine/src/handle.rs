//! Reading from and giving orders to an engine.

use std::io::{self, Write};
use std::sync::Arc;

use pe_scrape::exposition::Format;
use pe_scrape::{Config, DeviceEntry, Diagnostic, Diagnostics, Group, Severity, SinkStatus};
use tokio::sync::{mpsc, oneshot};

use crate::shared::Shared;
use crate::{EngineError, LastReload, ReloadSummary, Results};

/// Reads results from and gives orders to an engine. Cloning is cheap.
///
/// Orders are carried out one after the other by [`Engine::run`](crate::Engine::run), and wait until that is called.
/// Measurements that are under way in groups that an order does not change go on. An order that was given is carried out
/// even when the future that waits for its result is dropped.
#[derive(Clone)]
pub struct EngineHandle {
    shared: Arc<Shared>,
    commands: mpsc::Sender<Command>,
}

/// An order, and where its result goes.
pub(crate) struct Command {
    pub(crate) order: Order,
    pub(crate) reply: oneshot::Sender<Result<Changed, EngineError>>,
}

/// A change of the configuration.
pub(crate) enum Order {
    Reload(Config),
    Add {
        group: String,
        entry: DeviceEntry,
    },
    Remove {
        group: String,
        device: String,
    },
    AddGroup(Group),
    RemoveGroup(String),
    /// None: whoever gives this order wants to know that the engine takes orders.
    Nothing,
}

/// What an order changed.
#[derive(Debug, Default)]
pub(crate) struct Changed {
    pub(crate) summary: ReloadSummary,
    /// Devices that an order to remove some has removed.
    pub(crate) devices: usize,
    /// What is risky in the group that an order has added, or added to.
    pub(crate) warnings: Diagnostics,
}

/// What an order comes to, before it is checked.
#[derive(Debug)]
pub(crate) struct Applied {
    pub(crate) config: Config,
    /// How many devices were removed.
    pub(crate) removed: usize,
    /// What messages call the group that was added, or added to.
    pub(crate) origin: Option<String>,
    /// What is risky in the entry that was added.
    pub(crate) warnings: Diagnostics,
}

impl Order {
    /// The configuration after it.
    pub(crate) fn apply(self, config: &Config) -> Result<Applied, EngineError> {
        let mut applied = Applied {
            config: Config::default(),
            removed: 0,
            origin: None,
            warnings: Diagnostics::default(),
        };
        let mut changed = match self {
            Self::Reload(config) => return Ok(Applied { config, ..applied }),
            _ => config.clone(),
        };
        match self {
            Self::Reload(_) | Self::Nothing => {}
            Self::Add { group, entry } => {
                let group = named(&mut changed, &group)?;
                applied.warnings = group.add(&entry).map_err(EngineError::Config)?;
                applied.origin = Some(group.origin());
            }
            Self::Remove { group, device } => {
                applied.removed = named(&mut changed, &group)?.remove(&device);
            }
            Self::AddGroup(group) => {
                applied.origin = Some(group.origin());
                changed.groups.push(group);
            }
            Self::RemoveGroup(group) => {
                named(&mut changed, &group)?;
                changed.groups.retain(|known| known.name() != group);
            }
        }
        applied.config = changed;
        Ok(applied)
    }
}

fn named<'c>(config: &'c mut Config, name: &str) -> Result<&'c mut Group, EngineError> {
    let mut groups = config.groups.iter_mut();
    let found = groups.find(|group| group.name() == name);
    found.ok_or_else(|| EngineError::UnknownGroup(name.to_owned()))
}

impl EngineHandle {
    pub(crate) fn new(shared: Arc<Shared>, commands: mpsc::Sender<Command>) -> Self {
        Self { shared, commands }
    }

    /// The latest results.
    #[must_use]
    pub fn results(&self) -> Results {
        self.shared.results.clone()
    }

    /// The configuration in force.
    #[must_use]
    pub fn config(&self) -> Arc<Config> {
        self.shared.config()
    }

    /// Replaces the configuration. Devices that stay keep their counters, groups that stay the same are not disturbed, sinks
    /// with the same settings stay, and what is gone is withdrawn from results and sinks. Sinks that were passed to
    /// [`EngineBuilder::sink`](crate::EngineBuilder::sink) stay; groups given to
    /// [`EngineBuilder::group`](crate::EngineBuilder::group) stay only if they are in `config` too.
    ///
    /// # Errors
    /// As [`EngineBuilder::build`](crate::EngineBuilder::build), and [`EngineError::Stopped`]. The configuration before goes
    /// on then.
    pub async fn reload(&self, config: Config) -> Result<ReloadSummary, EngineError> {
        let changed = self.order(Order::Reload(config)).await?;
        Ok(changed.summary)
    }

    /// Notes that a new configuration could not even be read, for
    /// `pingexporter_config_last_reload_successful` and [`last_reload`](Self::last_reload).
    pub fn reload_failed(&self, diagnostics: Diagnostics) {
        let shared = &self.shared;
        shared.reloads.note(false, diagnostics, &shared.metrics);
    }

    /// How the latest [`reload`](Self::reload) went, with the warnings; before the first, the same of the configuration that
    /// the engine was built with.
    #[must_use]
    pub fn last_reload(&self) -> LastReload {
        self.shared.reloads.last()
    }

    /// Adds a device, or several that are alike, to a group. The others are measured on. Returns what is risky in the group
    /// and the entry, or without effect.
    ///
    /// # Errors
    /// [`EngineError::UnknownGroup`]; [`EngineError::Config`] when the entry has problems or the device is there already;
    /// [`EngineError::Stopped`]. Nothing is changed then.
    pub async fn add(&self, group: &str, entry: DeviceEntry) -> Result<Diagnostics, EngineError> {
        let group = group.to_owned();
        let changed = self.order(Order::Add { group, entry }).await?;
        Ok(changed.warnings)
    }

    /// Removes all devices of that name from a group, and returns how many there were. Their results are withdrawn, and the
    /// others are measured on.
    ///
    /// # Errors
    /// [`EngineError::UnknownGroup`] or [`EngineError::Stopped`].
    pub async fn remove(&self, group: &str, device: &str) -> Result<usize, EngineError> {
        let (group, device) = (group.to_owned(), device.to_owned());
        let changed = self.order(Order::Remove { group, device }).await?;
        Ok(changed.devices)
    }

    /// Adds a group of devices. The others go on undisturbed. Returns what is risky in the group, or without effect.
    ///
    /// # Errors
    /// As [`reload`](Self::reload); also when a group of that name is there already.
    pub async fn add_group(&self, group: Group) -> Result<Diagnostics, EngineError> {
        let changed = self.order(Order::AddGroup(group)).await?;
        Ok(changed.warnings)
    }

    /// Removes a group. Its results are withdrawn.
    ///
    /// # Errors
    /// [`EngineError::UnknownGroup`] or [`EngineError::Stopped`].
    pub async fn remove_group(&self, group: &str) -> Result<(), EngineError> {
        let order = Order::RemoveGroup(group.to_owned());
        self.order(order).await.map(drop)
    }

    /// All latest results, labelled with `exporter`, and all metrics of the engine, its scrapers and its sinks. Takes 0.3 µs
    /// a series, so that with many devices it is better called in a blocking task.
    #[must_use]
    pub fn exposition(&self, format: Format) -> Vec<u8> {
        let mut out = Vec::new();
        let written = self.exposition_to(format, &mut out);
        debug_assert!(written.is_ok(), "a vector takes everything");
        out
    }

    /// As [`exposition`](Self::exposition), written in small parts to `out`, so that the whole never lies in memory. The
    /// results that are shown are kept until it returns.
    ///
    /// # Errors
    /// Those of `out`; nothing is written after the first.
    pub fn exposition_to(&self, format: Format, out: &mut dyn Write) -> io::Result<()> {
        self.shared.exposition(format, out)
    }

    /// Whether every group in force has finished a cycle, and none is stale.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let config = self.shared.config();
        let groups = config.groups.iter().map(Group::name);
        self.shared.results.are_fresh(groups)
    }

    /// Waits until the engine has carried out the orders before this one, which shows that it works. For watchdogs: an engine
    /// that measures but hangs otherwise does not answer.
    ///
    /// # Errors
    /// [`EngineError::Stopped`].
    pub async fn answers(&self) -> Result<(), EngineError> {
        self.order(Order::Nothing).await.map(drop)
    }

    /// The sinks in force, those of the configuration with their kind, and how each fares.
    #[must_use]
    pub fn sinks(&self) -> Vec<(Arc<str>, Option<Arc<str>>, SinkStatus)> {
        let sinks = self.shared.sinks.all();
        sinks
            .iter()
            .map(|slot| {
                let kind = slot.config.as_ref().map(|config| config.kind.clone());
                (slot.name.clone(), kind, slot.status())
            })
            .collect()
    }

    async fn order(&self, order: Order) -> Result<Changed, EngineError> {
        let (reply, result) = oneshot::channel();
        let command = Command { order, reply };
        let sent = self.commands.send(command).await;
        sent.map_err(|_| EngineError::Stopped)?;
        result.await.map_err(|_| EngineError::Stopped)?
    }
}

/// The error for a change that died of a panic.
pub(crate) fn change_panicked(words: &str) -> EngineError {
    let message = format!("setting it up panicked: {words}");
    let problem = Diagnostic::named(Severity::Error, "configuration", message, None);
    EngineError::Config([problem].into_iter().collect())
}

impl std::fmt::Debug for EngineHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EngineHandle").finish_non_exhaustive()
    }
}
