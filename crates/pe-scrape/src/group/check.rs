//! What would make a Prometheus refuse everything, or show nonsense: told before it runs.
//!
//! The same checks serve files, where a problem is told at its line, and groups that are made in code. No I/O; factories
//! are asked what their scrapers yield.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::keys::refuse_long_timeout;
use super::{Device, Exclusions, Group, ScraperConfig, check_address};
use crate::registry::{RegistryError, ScraperRegistry};
use crate::settings::{Bounds, Problem, Problems, Setting, Step, show_duration, suggestion};
use crate::{
    AGENT_JOB, Address, Columns, Diagnostic, Diagnostics, Family, Frame, Label, LabelSet,
    MetricDescriptor, OnlyFamily, Severity, Target,
};

/// What is wrong with a device that was added past the builder, and what to do.
const EXCLUDED: &str = "its address is left out by `exclude`";
const EXCLUDED_HINT: &str = "remove the device, or the entry of `exclude`";

/// Labels that say which device a series is of, and who measured it: no scraper may give them a value.
const IDENTITY_LABELS: &[&str] = &["device", "ip", "job", "exporter"];

/// Keys by which a scraper's series are told from those of another, the first that it has. Where a scraper has a `name` for something
/// else, such as what it asks for, the other is its own.
const TELLING_KEYS: [&str; 2] = ["probe_name", "name"];

/// Whether `name` is the name of a metric that the agent has, or may have, of its own.
#[must_use]
pub fn is_agent_metric(name: &str) -> bool {
    name.starts_with("pingexporter_") || matches!(name, "exporter_duration" | "exporter_jobs")
}

/// Whether no scraper may yield a metric of that name. What is passed on from a device may have the names that its process
/// or a Pushgateway use: its series go by the device's labels.
fn is_reserved_metric(name: &str) -> bool {
    is_agent_metric(name)
        || name.starts_with("process_")
        || matches!(name, "push_time_seconds" | "push_failure_time_seconds")
}

/// Checks the scrapers of devices, each list of them once, and remembers what they yield.
pub struct Checks<'r> {
    registry: &'r ScraperRegistry,
    /// What was learned of each list, by its place in memory. The list is kept, so that no other gets its place.
    lists: HashMap<usize, Known>,
    /// Who yields a metric of that name, and how it is described.
    metrics: HashMap<String, (Arc<str>, MetricDescriptor)>,
}

struct Known {
    _list: Arc<[ScraperConfig]>,
    /// Labels that series carry beside those of the device, with the scraper they come from.
    labels: Vec<(String, Arc<str>)>,
    /// Scrapers that can measure one family only.
    families: Vec<(OnlyFamily, Arc<str>)>,
}

impl<'r> Checks<'r> {
    /// Checks against the scrapers of `registry`.
    #[must_use]
    pub fn new(registry: &'r ScraperRegistry) -> Self {
        Self {
            registry,
            lists: HashMap::new(),
            metrics: HashMap::new(),
        }
    }

    /// The problems of the scrapers of a device: unknown ones, settings that are refused, series that two of them would
    /// share, names that are taken. Each path starts with a position in the list. A list that was checked before has none.
    pub fn scrapers(&mut self, scrapers: &Arc<[ScraperConfig]>) -> Vec<Problem> {
        let place = scrapers.as_ptr() as usize;
        if self.lists.contains_key(&place) {
            return Vec::new();
        }
        let mut problems = Vec::new();
        let mut labels: Vec<(String, Arc<str>)> = Vec::new();
        let mut families = Vec::new();
        // Name and labels of each series, and which scraper yields it.
        let mut series: HashMap<(String, BTreeSet<(String, String)>), usize> = HashMap::new();
        for (index, config) in scrapers.iter().enumerate() {
            let columns = match self.describe(config, index) {
                Ok(columns) => columns,
                Err(found) => {
                    problems.extend(found);
                    continue;
                }
            };
            problems.extend(
                self.names(config, &columns)
                    .map(|problem| at(problem, index)),
            );
            for mut problem in self.registry.review(&config.name, &config.settings) {
                problem
                    .message
                    .insert_str(0, &format!("metric `{}`: ", config.name));
                problems.push(at(problem.warning(), index));
            }
            if let Some(only) = self.registry.only_family(&config.name, &config.settings) {
                families.push((only, config.name.clone()));
            }
            let mut clash = None;
            for descriptor in columns.descriptors() {
                let own = descriptor.labels();
                let own: BTreeSet<_> = own.map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
                for name in descriptor.series_names() {
                    let other = *series.entry((name.clone(), own.clone())).or_insert(index);
                    if other != index {
                        clash = clash.or(Some((other, name)));
                    }
                }
                for (name, _) in descriptor.labels() {
                    if !labels.iter().any(|(known, _)| known == name) {
                        labels.push((name.to_owned(), config.name.clone()));
                    }
                }
            }
            if let Some((other, name)) = clash {
                problems.push(at(self.told_twice(&scrapers[other], config, &name), index));
            }
        }
        let known = Known {
            _list: scrapers.clone(),
            labels,
            families,
        };
        self.lists.insert(place, known);
        problems
    }

    /// A label of a device that some series of its scrapers carry themselves: its name, and the scraper.
    #[must_use]
    pub fn clashing_label<'l>(
        &self,
        labels: impl IntoIterator<Item = &'l str>,
        scrapers: &Arc<[ScraperConfig]>,
    ) -> Option<(&'l str, &Arc<str>)> {
        let known = self.lists.get(&(scrapers.as_ptr() as usize))?;
        labels.into_iter().find_map(|label| {
            let (_, scraper) = known.labels.iter().find(|(name, _)| name == label)?;
            Some((label, scraper))
        })
    }

    /// What is wrong with measuring an address of `family` by `scrapers`, if one of them can measure the other only: a message
    /// and a hint.
    #[must_use]
    pub fn unfit_family(
        &self,
        family: Family,
        scrapers: &Arc<[ScraperConfig]>,
    ) -> Option<(String, String)> {
        let known = self.lists.get(&(scrapers.as_ptr() as usize))?;
        let (only, scraper) = known
            .families
            .iter()
            .find(|(only, _)| only.family != family)?;
        let OnlyFamily {
            family: own, key, ..
        } = only;
        Some((
            format!("`{key}` of metric `{scraper}` is {own}, and the address is {family}"),
            format!("give this device metrics with another `{key}`, or leave `{key}` out"),
        ))
    }

    /// The same for the addresses of a host name of which those of `family` are wanted.
    #[must_use]
    pub fn unfit_family_of_name(
        &self,
        family: Family,
        scrapers: &Arc<[ScraperConfig]>,
    ) -> Option<(String, String)> {
        let known = self.lists.get(&(scrapers.as_ptr() as usize))?;
        let mut families = known.families.iter();
        let (only, scraper) = families.find(|(only, _)| only.family != family && !only.chooses)?;
        let (own, key) = (only.family, only.key);
        Some((
            format!("`{key}` of metric `{scraper}` is {own}, and `family` asks for {family}"),
            format!("leave `family` out, or `{key}`"),
        ))
    }

    /// Every problem of a group, in the group's name: also values that were changed after it was built.
    pub fn group(&mut self, group: &Group) -> Diagnostics {
        let origin = group.origin();
        let mut found: Vec<Diagnostic> = group.warnings.iter().cloned().collect();
        let mut problems = Problems::default();
        group.settings.check(&Bounds::NONE, &mut problems);
        if !problems.has_errors() {
            let _ = group.settings.common(&mut problems);
        }
        // What is only risky was told when the group was built.
        let errors = super::told(&origin, problems).into_iter();
        found.extend(errors.filter(Diagnostic::is_error));
        let excluded: Exclusions = group.settings.exclude.iter().cloned().collect();
        let mut devices = HashSet::with_capacity(group.devices.len());
        let mut lists = HashSet::new();
        for device in &group.devices {
            if !devices.insert(device.target.identity()) {
                let message = super::already_there(&device.target);
                found.push(Diagnostic::named(Severity::Error, &origin, message, None));
            }
            let mut problems = self.scrapers(&device.scrapers);
            if lists.insert(device.scrapers.as_ptr()) {
                problems.extend(unfit_settings(device, group.interval()));
            }
            problems.extend(self.unfit_target(device, &excluded));
            found.extend(super::diagnostics(&origin, problems));
        }
        found.into_iter().collect()
    }

    /// What is wrong with a device as a target of its scrapers.
    fn unfit_target(&self, device: &Device, excluded: &Exclusions) -> Vec<Problem> {
        let (target, mut problems) = (&device.target, Vec::new());
        let mut refuse = |message: String, hint: String| {
            let message = format!("device `{}`: {message}", target.device());
            problems.push(Problem::error(message).hint(hint));
        };
        let labels = target.further_labels().map(Label::name);
        if let Some((label, scraper)) = self.clashing_label(labels, &device.scrapers) {
            refuse(
                format!("the metric `{scraper}` sets the label `{label}` itself"),
                "choose another name".to_owned(),
            );
        }
        let scrapers = &device.scrapers;
        let (literal, unfit) = match target.address() {
            Address::Ip(ip) => (Some(*ip), self.unfit_family(Family::of(*ip), scrapers)),
            Address::Zoned { ip, .. } => {
                let unfit = self.unfit_family(Family::V6, scrapers);
                (Some((*ip).into()), unfit)
            }
            Address::Name { host, family } => {
                if excluded.has_host(host) {
                    refuse(EXCLUDED.to_owned(), EXCLUDED_HINT.to_owned());
                }
                let unfit = family.and_then(|family| self.unfit_family_of_name(family, scrapers));
                (None, unfit)
            }
        };
        if let Some(ip) = literal {
            if let Err(why) = check_address(ip) {
                refuse(
                    format!("its address is {why}"),
                    "only unicast addresses can be measured".to_owned(),
                );
            }
            if excluded.has_address(ip) {
                refuse(EXCLUDED.to_owned(), EXCLUDED_HINT.to_owned());
            }
        }
        if let Some((message, hint)) = unfit {
            refuse(message, hint);
        }
        problems
    }

    fn describe(&self, config: &ScraperConfig, index: usize) -> Result<Arc<Columns>, Vec<Problem>> {
        let error = match self.registry.describe(&config.name, &config.settings) {
            Ok(columns) => return Ok(columns),
            Err(error) => error,
        };
        Err(match error {
            RegistryError::Create { source, .. } => {
                let problems = source.problems().iter().cloned();
                let prefix = format!("metric `{}`: ", config.name);
                problems
                    .map(|mut problem| {
                        problem.message.insert_str(0, &prefix);
                        at(problem, index)
                    })
                    .collect()
            }
            _ => {
                let hint = suggestion(&config.name, self.registry.names());
                let message = format!("unknown metric `{}`", config.name);
                vec![at(Problem::error(message).hint(hint), index)]
            }
        })
    }

    /// That two scrapers of a device would yield the same series.
    fn told_twice(&self, first: &ScraperConfig, second: &ScraperConfig, name: &str) -> Problem {
        let table = self.registry.table(&second.name);
        let keys = TELLING_KEYS.iter();
        let mut keys = keys.filter(|key| table.is_some_and(|table| table.key(key).is_some()));
        let key = keys.next();
        if first.name == second.name {
            let message = format!("metric `{}` is listed twice", first.name);
            let hint = match key {
                Some(key) => format!("give one of them another `{key}`"),
                None => "write it once, with all its settings".to_owned(),
            };
            return Problem::error(message).hint(hint);
        }
        let message = format!(
            "metrics `{}` and `{}` both yield `{name}` with the same labels",
            first.name, second.name
        );
        let hint = match key {
            Some(key) => format!("leave one of them out, or give it another `{key}`"),
            None => {
                "leave one of them out, or give it a label of its own in its settings".to_owned()
            }
        };
        Problem::error(message).hint(hint)
    }

    /// Metrics whose names or labels are taken, or that another scraper describes otherwise.
    fn names(
        &mut self,
        config: &ScraperConfig,
        columns: &Columns,
    ) -> impl Iterator<Item = Problem> + use<> {
        let mut problems = Vec::new();
        let mut refuse = |message: String| {
            let message = format!("metric `{}` {message}", config.name);
            problems.push(Problem::error(message).hint("choose another name".to_owned()));
        };
        for descriptor in columns.descriptors() {
            let name = descriptor.name();
            if is_reserved_metric(name) {
                refuse(format!("yields `{name}`, a name of PingExporter's own"));
            }
            let mut labels = descriptor.labels();
            if let Some((label, _)) = labels.find(|(label, _)| IDENTITY_LABELS.contains(label)) {
                refuse(format!(
                    "gives `{name}` the label `{label}`, which tells devices apart"
                ));
            }
            let (owner, first) = self
                .metrics
                .entry(name.to_owned())
                .or_insert_with(|| (config.name.clone(), descriptor.clone()));
            if !first.agrees_with(descriptor) {
                refuse(format!(
                    "describes `{name}` with another type, help text or unit than `{owner}` does"
                ));
            }
        }
        problems.into_iter()
    }
}

/// What is wrong with the values that the scrapers of a device get, in a group with that interval: they were checked when the
/// group was built, and may have been changed since.
fn unfit_settings(device: &Device, interval: Duration) -> Vec<Problem> {
    let mut problems = Problems::default();
    for ScraperConfig { settings, .. } in &*device.scrapers {
        settings.check(&mut problems);
        let _ = refuse_long_timeout(settings, &mut problems);
        if settings.interval != interval {
            let message = format!(
                "its scrapers were set up for an interval of {}, and that of the group is {}",
                show_duration(settings.interval),
                show_duration(interval)
            );
            problems.error(message, "build the group anew".to_owned());
        }
    }
    let mut problems = problems.into_vec();
    for problem in &mut problems {
        let prefix = format!("device `{}`: ", device.target.device());
        problem.message.insert_str(0, &prefix);
    }
    problems
}

/// A name that no group may have, since the agent's own metrics leave under it.
pub(super) fn refuse_agent_name(name: &str, problems: &mut Problems) -> Option<()> {
    if name != AGENT_JOB {
        return Some(());
    }
    let message = format!("prom_id `{name}` is taken: the agent's own metrics leave under it");
    let hint = "choose another name, so that the two do not replace each other";
    problems.within("prom_id", |problems| {
        problems.error(message, hint.to_owned());
    });
    None
}

/// The problem below the position `index` of a list.
fn at(mut problem: Problem, index: usize) -> Problem {
    problem.path.insert(0, Step::Index(index));
    problem
}

/// Why series that a scraper learned while it ran cannot go out beside those of the others, if they cannot: a name that is
/// taken, by PingExporter or by metrics of `taken`, or labels that are not those of the target.
///
/// Series that are passed on from a device go out beside the others in any case, without the metrics whose names are taken:
/// [`Frame::only_metrics`].
#[must_use]
pub fn refuse_frame(frame: &Frame, target: &Target, taken: &[Arc<Columns>]) -> Option<String> {
    if frame.is_passed_on() {
        return None;
    }
    for descriptor in frame.columns().descriptors() {
        if is_reserved_metric(descriptor.name()) {
            return Some(format!(
                "`{}` is a name of PingExporter's own",
                descriptor.name()
            ));
        }
        let own: Vec<String> = descriptor.series_names().collect();
        let taken = taken.iter().flat_map(|columns| columns.descriptors());
        let mut taken = taken.flat_map(MetricDescriptor::series_names);
        if let Some(name) = taken.find(|name| own.contains(name)) {
            return Some(format!("another scraper yields `{name}`"));
        }
    }
    let carries = |series: &LabelSet| {
        let mut labels = target.labels().iter();
        labels.all(|label| series.get(label.name()) == Some(label.value()))
    };
    (!frame.rows().iter().all(carries))
        .then(|| "a series does not carry the labels of its target".to_owned())
}
