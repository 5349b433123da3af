//! From a configuration to everything that it needs, before anything that runs is changed.
//!
//! The same checks serve the start and each change. Factories and descriptions that panic are refused like others.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use pe_scrape::{
    Checks, Config, Diagnostic, Diagnostics, Group, ScraperRegistry, Severity, SinkRegistry,
};

use crate::EngineError;
use crate::plan::Plan;
use crate::sinks::SinkSlot;

/// A configuration that is ready to run.
pub(crate) struct Prepared {
    pub(crate) config: Arc<Config>,
    pub(crate) plans: Vec<Arc<Plan>>,
    pub(crate) sinks: Vec<Arc<SinkSlot>>,
    pub(crate) warnings: Diagnostics,
}

/// What runs, parts of which may be used again.
#[derive(Default)]
pub(crate) struct Running {
    pub(crate) config: Arc<Config>,
    pub(crate) plans: BTreeMap<Arc<str>, Arc<Plan>>,
    pub(crate) sinks: Vec<Arc<SinkSlot>>,
}

/// Checks a configuration and sets up what is new in it.
pub(crate) fn prepare(
    config: Config,
    scrapers: &ScraperRegistry,
    sinks: &SinkRegistry,
    running: &Running,
) -> Result<Prepared, EngineError> {
    let found = check(&config, scrapers, running);
    if found.has_errors() {
        return Err(EngineError::Config(found));
    }
    let plans = plans(&config, scrapers, running)?;
    let sinks = slots(&config, sinks, running)?;
    Ok(Prepared {
        config: Arc::new(config),
        plans,
        sinks,
        warnings: found,
    })
}

/// Every problem of a configuration.
fn check(config: &Config, scrapers: &ScraperRegistry, running: &Running) -> Diagnostics {
    let mut found: Vec<Diagnostic> = config.duplicate_groups().into_iter().collect();
    let mut checks = Checks::new(scrapers);
    for group in &config.groups {
        found.extend(checks.group(group));
    }
    let passed_in = running.sinks.iter().filter(|slot| slot.config.is_none());
    let mut names: HashSet<&str> = HashSet::new();
    let all = passed_in
        .map(|slot| &slot.name)
        .chain(config.sinks.iter().map(|sink| &sink.settings.name));
    for name in all {
        if !names.insert(name) {
            let message = format!("the name {name:?} is used by two sinks");
            let hint = "each sink needs a name of its own".to_owned();
            let origin = format!("sink {name:?}");
            let problem = Diagnostic::named(Severity::Error, &origin, message, Some(hint));
            found.push(problem);
        }
    }
    found.into_iter().collect()
}

fn plans(
    config: &Config,
    scrapers: &ScraperRegistry,
    running: &Running,
) -> Result<Vec<Arc<Plan>>, EngineError> {
    let known: HashMap<&str, &Group> = running
        .config
        .groups
        .iter()
        .map(|group| (group.name(), group))
        .collect();
    let mut problems = Vec::new();
    let mut plans = Vec::with_capacity(config.groups.len());
    for group in &config.groups {
        let plan = running.plans.get(group.name());
        if let Some(plan) = plan
            && known.get(group.name()) == Some(&group)
        {
            plans.push(plan.clone());
            continue;
        }
        match Plan::build(group, scrapers, plan.map(|plan| &**plan)) {
            Ok(plan) => plans.push(Arc::new(plan)),
            Err(found) => problems.extend(found),
        }
    }
    if problems.is_empty() {
        return Ok(plans);
    }
    Err(EngineError::Config(problems.into_iter().collect()))
}

/// The sinks of the program and those of the configuration; one with the same settings as before is used again.
fn slots(
    config: &Config,
    registry: &SinkRegistry,
    running: &Running,
) -> Result<Vec<Arc<SinkSlot>>, EngineError> {
    let passed_in = running.sinks.iter().filter(|slot| slot.config.is_none());
    let mut slots: Vec<Arc<SinkSlot>> = passed_in.cloned().collect();
    for sink in &config.sinks {
        let same = |slot: &&Arc<SinkSlot>| slot.config.as_ref() == Some(sink);
        let slot = match running.sinks.iter().find(same) {
            Some(slot) => slot.clone(),
            None => {
                let name = sink.settings.name.clone();
                let made = registry.create(sink).map_err(|source| EngineError::Sink {
                    name: name.clone(),
                    source,
                })?;
                Arc::new(SinkSlot::new(name, Some(sink.clone()), made))
            }
        };
        slots.push(slot);
    }
    Ok(slots)
}
