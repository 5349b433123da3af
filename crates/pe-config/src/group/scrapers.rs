//! What is measured on devices: lists of scrapers, each read once and checked once.
//!
//! Devices whose lists have the same text, and whose scrapers get the same settings beside it, share one list in memory.
//! An error in a list is told wherever the list is written, a warning once.

use std::collections::HashMap;
use std::sync::Arc;

use pe_scrape::settings::{Bounds, Node, Problem, Problems, Setting, Step};
use pe_scrape::{
    Checks, ScraperConfig, ScraperList, ScraperRegistry, ScraperSettings, Severity, Value,
};

use super::Conf;
use crate::file::{Scope, Syntax, resolve_paths};

/// The lists of one group file.
pub(super) struct ScraperLists<'s, 'd> {
    scope: Scope<'s, 'd>,
    registry: &'s ScraperRegistry,
    /// The list for devices that have none of their own.
    default: DefaultList,
    /// What scrapers get; `None` when `conf` is at fault.
    common: Option<ScraperSettings>,
    /// Lists by their text.
    read: HashMap<&'d str, ScraperList>,
    checked: HashMap<Combination<'d>, Checked>,
}

/// The text of a list, with what its scrapers get beside their own settings. No text: the list of `conf`.
#[derive(PartialEq, Hash)]
struct Combination<'d>(Option<&'d str>, ScraperSettings);

/// One that is not equal to itself, for a value that is no number, would be checked again.
impl Eq for Combination<'_> {}

/// A list as devices get it.
struct Checked {
    scrapers: Arc<[ScraperConfig]>,
    /// Paths start with a position in the list, and go on within the settings of that scraper.
    errors: Vec<Problem>,
}

/// What is measured where an entry says nothing.
enum DefaultList {
    /// This.
    Usable(ScraperList),
    /// Nothing can be: that was told at `conf`.
    Faulty,
    /// A scraper that the program does not have, which is told once a device needs it.
    Unknown(String),
}

impl<'s, 'd> ScraperLists<'s, 'd> {
    /// Reads and checks the list of `conf`, whether or not a device uses it.
    pub(super) fn new(
        scope: Scope<'s, 'd>,
        conf: &Conf<'_>,
        registry: &'s ScraperRegistry,
        checks: &mut Checks<'_>,
    ) -> Self {
        let mut lists = Self {
            scope,
            registry,
            default: DefaultList::Faulty,
            common: conf.common.clone(),
            read: HashMap::new(),
            checked: HashMap::new(),
        };
        if conf.is_faulty("metrics") {
            return lists;
        }
        let list = match &conf.settings.metrics {
            Some(list) => lists.resolved(list.clone()),
            None => match default_list(registry) {
                Ok(list) => list,
                Err(unknown) => {
                    lists.default = DefaultList::Unknown(unknown);
                    return lists;
                }
            },
        };
        let common = conf.common.clone().unwrap_or_default();
        let written = conf.node.get("metrics");
        let checked = lists.check(&list, &common, checks, |problem| match written {
            Some(node) => scope.problem_at(locate(node, &problem), problem),
            None => scope.problem_at(conf.node.start(), problem),
        });
        if checked.errors.is_empty() {
            lists.default = DefaultList::Usable(list);
            lists
                .checked
                .insert(Combination(None, common.clone()), checked);
        }
        lists
    }

    /// What is measured on the devices of `entry`, whose scrapers get `common`; `None` where an error was reported.
    pub(super) fn of_entry(
        &mut self,
        entry: Syntax<'_>,
        common: Option<&ScraperSettings>,
        checks: &mut Checks<'_>,
    ) -> Option<Arc<[ScraperConfig]>> {
        let stand_in = ScraperSettings::default();
        let common = common.unwrap_or(&stand_in);
        let scope = self.scope;
        let node = entry.get("metrics");
        let source = node.map(|node| node.source(scope.document.text()));
        let combination = Combination(source, common.clone());
        let place = |problem: &Problem| match node {
            Some(node) => locate(node, problem),
            None => entry.start(),
        };
        if let Some(known) = self.checked.get(&combination) {
            for problem in &known.errors {
                scope.problem_at(place(problem), problem.clone());
            }
            return known.errors.is_empty().then(|| known.scrapers.clone());
        }
        let list = match source {
            Some(source) => self.read(entry, source)?,
            None => self.default_of(entry)?,
        };
        let checked = self.check(&list, common, checks, |problem| {
            scope.problem_at(place(&problem), problem);
        });
        let scrapers = checked.errors.is_empty().then(|| checked.scrapers.clone());
        self.checked.insert(combination, checked);
        scrapers
    }

    /// The list with the paths in its settings resolved.
    fn resolved(&self, list: ScraperList) -> ScraperList {
        let mut resolved = ScraperList::default();
        for (name, own) in list.iter() {
            let mut own = own.clone();
            if let (Some(table), Value::Object(own)) = (self.registry.table(name), &mut own) {
                resolve_paths(own, table, self.scope.document);
            }
            resolved.push(name.clone(), own);
        }
        resolved
    }

    /// Puts a list together as devices get it, and checks it; problems go to `tell`.
    fn check(
        &self,
        list: &ScraperList,
        common: &ScraperSettings,
        checks: &mut Checks<'_>,
        mut tell: impl FnMut(Problem),
    ) -> Checked {
        let scrapers = ScraperConfig::all(list, common);
        let mut errors = Vec::new();
        for problem in checks.scrapers(&scrapers) {
            let is_error = problem.severity == Severity::Error;
            // What is unwise depends on the settings of `conf`.
            if is_error || self.common.is_some() {
                tell(problem.clone());
            }
            if is_error {
                errors.push(problem);
            }
        }
        Checked { scrapers, errors }
    }

    /// The list of an entry, which has the text `source`; reports what is wrong with it.
    fn read(&mut self, entry: Syntax<'_>, source: &'d str) -> Option<ScraperList> {
        if let Some(list) = self.read.get(source) {
            return Some(list.clone());
        }
        let node = entry.get("metrics")?;
        let mut problems = Problems::default();
        let list = problems.within("metrics", |problems| {
            ScraperList::decode(node, &Bounds::NONE, problems)
        });
        self.scope.problems(entry, problems.into_vec());
        let list = self.resolved(list?);
        self.read.insert(source, list.clone());
        Some(list)
    }

    /// The list for `entry`, which has none of its own.
    fn default_of(&mut self, entry: Syntax<'_>) -> Option<ScraperList> {
        match std::mem::replace(&mut self.default, DefaultList::Faulty) {
            DefaultList::Usable(list) => {
                self.default = DefaultList::Usable(list.clone());
                Some(list)
            }
            DefaultList::Faulty => None,
            DefaultList::Unknown(message) => {
                let hint = "set `metrics` in conf or in this job";
                self.scope.error(entry.start(), message, hint.to_owned());
                None
            }
        }
    }
}

/// The list where neither a device nor `conf` has one.
///
/// # Errors
/// What to say where the program does not have the scraper.
fn default_list(registry: &ScraperRegistry) -> Result<ScraperList, String> {
    let list = ScraperList::ping();
    let names = registry.names();
    let unknown = list.iter().find(|(name, _)| !names.contains(&&***name));
    let Some(name) = unknown.map(|(name, _)| name.clone()) else {
        return Ok(list);
    };
    let known = match names.as_slice() {
        [] => String::new(),
        names => format!("; it has {}", names.join(", ")),
    };
    Err(format!(
        "nothing says what to measure, and this program has no metric `{name}`, the default{known}"
    ))
}

/// Where a problem of a list of scrapers stands. Within the settings of a scraper its path leaves out the scraper's name,
/// which the file has.
fn locate(list: Syntax<'_>, problem: &Problem) -> usize {
    let mut path = problem.path.clone();
    if let [Step::Index(index), ..] = path[..]
        && let Some(item) = list.items().nth(index)
        && let Some((name, _)) = item.fields().next()
    {
        // A problem of the settings as a whole, such as a missing key, is told in the scraper's name.
        let of_settings = problem.message.starts_with(&format!("metric `{name}`: "));
        if path.len() > 1 || of_settings {
            path.insert(1, Step::from(name));
        }
    }
    list.locate(&path, problem.at_key)
}
