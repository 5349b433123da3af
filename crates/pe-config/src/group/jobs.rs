//! The entries of `jobs`: each becomes a device, or several that are alike.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use pe_scrape::settings::{Bounds, Node, Problem, Problems, Setting, View};
use pe_scrape::{
    Device, DeviceEntry, DeviceList, Exclusions, Expansion, Family, FamilyChoice, IP_PLACEHOLDER,
    ScraperSettings, TargetSpec, Template, Value,
};

use super::labels::DeviceLabels;
use super::scrapers::ScraperLists;
use super::targets_file::{self, FilePattern, TargetGroup};
use super::{Conf, Context, Intake, faulty_keys};
use crate::file::{DiagnosticsBuilder, Document, Scope, Syntax};

/// Keys that many entries say the same of: they are read apart, once for each text.
const SHARED_KEYS: &[&str] = &["labels", "metrics"];

/// What `conf` says for all entries.
pub(super) struct JobDefaults {
    common: Option<ScraperSettings>,
    family: FamilyChoice,
    /// `None` when at fault.
    max_targets: Option<u32>,
    labels: pe_scrape::Labels,
    devices: DeviceList<Location>,
}

impl JobDefaults {
    pub(super) fn of(conf: &Conf<'_>) -> Self {
        let settings = &conf.settings;
        let exclude: Exclusions = settings.exclude.iter().cloned().collect();
        let known = !conf.is_faulty("max_targets");
        Self {
            common: conf.common.clone(),
            family: settings.family,
            max_targets: known.then_some(settings.max_targets),
            labels: settings.labels.clone(),
            devices: DeviceList::new(settings.max_targets.into(), exclude),
        }
    }
}

/// Where a device was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Location {
    /// Position of the targets file; `None` for the group file.
    document: Option<usize>,
    /// Byte offset.
    offset: usize,
}

/// Reads the entries of one group file, one after the other.
pub(super) struct JobReader<'s, 'd, 'c> {
    scope: Scope<'s, 'd>,
    common: Option<ScraperSettings>,
    family: FamilyChoice,
    max_targets: Option<u32>,
    labels: DeviceLabels<'d>,
    lists: ScraperLists<'s, 'd>,
    devices: DeviceList<Location>,
    nothing: Arc<Exclusions>,
    context: &'s Context<'s>,
    intake: &'s mut Intake<'c>,
    /// The targets files that were read; a [`Location`] may be in one of them.
    documents: Vec<Rc<Document>>,
}

impl<'s, 'd, 'c> JobReader<'s, 'd, 'c> {
    /// A reader for the entries of the file of `scope`.
    pub(super) fn new(
        scope: Scope<'s, 'd>,
        defaults: JobDefaults,
        lists: ScraperLists<'s, 'd>,
        context: &'s Context<'s>,
        intake: &'s mut Intake<'c>,
    ) -> Self {
        Self {
            scope,
            common: defaults.common,
            family: defaults.family,
            max_targets: defaults.max_targets,
            labels: DeviceLabels::new(&defaults.labels),
            lists,
            devices: defaults.devices,
            nothing: Arc::default(),
            context,
            intake,
            documents: Vec::new(),
        }
    }

    /// The devices.
    pub(super) fn finish(self) -> Vec<Device> {
        self.devices.into_devices()
    }

    /// Reads one entry.
    pub(super) fn read(&mut self, node: Syntax<'_>) {
        let scope = self.scope;
        let mut problems = Problems::default();
        let shown = node.without(SHARED_KEYS);
        let entry = DeviceEntry::decode(shown, &Bounds::NONE, &mut problems);
        let own = match (&self.common, &entry) {
            (Some(common), Some(entry)) => entry.common(common, &mut problems),
            _ => None,
        };
        let own = own.or_else(|| self.common.clone());
        let problems = problems.into_vec();
        let entry = entry.or_else(|| sound_part(shown, &problems));
        scope.problems(node, problems);
        let Some(entry) = entry else { return };
        let source = self.source(node, &entry);
        let labels = self.labels.of_entry(scope, node);
        let checks = &mut self.intake.checks;
        let scrapers = self.lists.of_entry(node, own.as_ref(), checks);
        let (Some(name), Some(source)) = (name(node, &entry), source) else {
            return;
        };
        let (Some(labels), Some(scrapers)) = (labels, scrapers) else {
            return;
        };
        let template = Template {
            name,
            family: entry.family.unwrap_or(self.family),
            exclude: match entry.exclude.is_empty() {
                true => self.nothing.clone(),
                false => Arc::new(entry.exclude.into_iter().collect()),
            },
            labels,
            scrapers,
        };
        if !template.labels.is_empty() {
            self.refuse_clashing_labels(scope, &template, |label| {
                let own = node
                    .get("labels")
                    .and_then(|labels| labels.key_start(label));
                own.unwrap_or(node.start())
            });
        }
        match source {
            Source::Spec(spec, offset) => {
                self.refuse_unfit_family(node, &spec, entry.family);
                let document = None;
                self.expand(&template, &spec, Location { document, offset });
            }
            Source::Files(patterns) => {
                for path in self.find_files(&patterns) {
                    self.expand_file(&template, &path);
                }
            }
        }
    }

    /// Where the devices of an entry come from: its `ip` or its `targets_files`.
    fn source(&self, node: Syntax<'_>, entry: &DeviceEntry) -> Option<Source> {
        let scope = self.scope;
        if node.get("job").is_none() && node.get("targets_files").is_none() {
            scope.error(node.start(), "missing key `job` in this job", None);
        }
        let Some(files) = node.get("targets_files") else {
            let Some(ip) = node.get("ip") else {
                scope.error(node.start(), "missing key `ip` in this job", None);
                return None;
            };
            return Some(Source::Spec(entry.ip.clone()?, ip.start()));
        };
        if let Some(ip) = node.get("ip") {
            let message = "ip and targets_files are both given";
            scope.error(ip.start(), message, "split the job in two".to_owned());
            return None;
        }
        if files.view() == View::List && files.items().next().is_none() {
            scope.error(files.start(), "targets_files is empty", None);
            return None;
        }
        let base = scope.document.path().parent().unwrap_or(Path::new(""));
        let mut patterns = Vec::new();
        // Read from the file itself, so that one bad pattern hides no other.
        for file in files.items() {
            let View::Text(text) = file.view() else {
                continue;
            };
            if text.trim().is_empty() {
                continue;
            }
            match FilePattern::parse(base, text) {
                Ok(pattern) => patterns.push((pattern, file.start())),
                Err(message) => scope.error(file.start(), format!("`{text}`: {message}"), None),
            }
        }
        Some(Source::Files(patterns))
    }

    /// The files that the patterns, each with its offset, stand for.
    fn find_files(&mut self, patterns: &[(FilePattern, usize)]) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> = Vec::new();
        let scope = self.scope;
        for (pattern, at) in patterns {
            let directory = pattern.directory();
            let watched = &mut self.intake.watched;
            watched.directories.push(directory.to_owned());
            match pattern.files(self.context.previous) {
                Ok(found) if found.is_empty() => {
                    let hint = "devices appear as soon as a file does";
                    scope.warn(*at, "no targets file matches", hint.to_owned());
                }
                Ok(found) => {
                    for path in found {
                        if !files.contains(&path) {
                            files.push(path);
                        }
                    }
                }
                Err(error) => {
                    let message = format!("the directory {} {error}", directory.display());
                    scope.error(*at, message, None);
                }
            }
        }
        self.intake.watched.files.extend(files.iter().cloned());
        files
    }

    /// Makes the devices of a targets file: of what is in it now, or, where that is not in order, of what was in it.
    fn expand_file(&mut self, template: &Template, path: &Path) {
        let found = self.scope.found;
        let now = DiagnosticsBuilder::default();
        if let Some(document) = targets_file::read(path, &now)
            && self.expand_document(template, document, &now)
        {
            return found.extend(now.into_vec());
        }
        let previous = self.context.previous;
        let Some(former) = previous.and_then(|previous| previous.text(path)) else {
            return found.extend(now.into_vec());
        };
        found.extend(targets_file::excused(now));
        let document = Document::from_text(path, former.to_string());
        let former = DiagnosticsBuilder::default();
        self.expand_document(template, document, &former);
        found.extend(former.into_vec());
    }

    /// Makes the devices of a targets file, unless there is an error in it. Problems of the file go to `found`, where there
    /// are no others.
    fn expand_document(
        &mut self,
        template: &Template,
        document: Document,
        found: &DiagnosticsBuilder,
    ) -> bool {
        let document = Rc::new(document);
        let scope = Scope {
            found,
            document: &document,
        };
        let parsed = match targets_file::is_yaml(document.path()) {
            true => scope.parse_yaml(),
            false => scope.parse(),
        };
        let Some(root) = parsed else {
            return false;
        };
        let groups = targets_file::read_groups(scope, Syntax::new(&root));
        if found.errors() > 0 {
            return false;
        }
        self.intake
            .target_files
            .insert(document.path(), document.text(), self.context.previous);
        let index = self.documents.len();
        self.documents.push(document.clone());
        let scope = Scope {
            found: self.scope.found,
            document: &document,
        };
        for group in groups {
            self.expand_group(scope, template, index, group);
        }
        true
    }

    /// Makes the devices of a group of a targets file.
    fn expand_group(
        &mut self,
        scope: Scope<'_, '_>,
        template: &Template,
        document: usize,
        group: TargetGroup<'_>,
    ) {
        let mut template = template.clone();
        if let Some(device) = group.device {
            template.name = device.into();
        }
        if !group.labels.is_empty() {
            template.labels = self.labels.overlay(&template.labels, &group.labels);
            self.refuse_clashing_labels(scope, &template, |label| {
                let mut labels = group.labels.iter().zip(&group.labels_at);
                let own = labels.find(|((name, _), _)| *name == label);
                own.map_or(group.labels_at[0], |(_, at)| *at)
            });
        }
        let document = Some(document);
        for (spec, offset) in group.targets {
            self.expand(&template, &spec, Location { document, offset });
        }
    }

    /// Reports labels that the scrapers of a device set themselves; `at` says where a label was written.
    fn refuse_clashing_labels(
        &self,
        scope: Scope<'_, '_>,
        template: &Template,
        at: impl Fn(&str) -> usize,
    ) {
        for (name, _) in template.labels.iter() {
            let checks = &self.intake.checks;
            if let Some((label, scraper)) = checks.clashing_label([&**name], &template.scrapers) {
                let message = format!("the metric `{scraper}` sets the label `{label}` itself");
                scope.error(at(label), message, "choose another name".to_owned());
            }
        }
    }

    /// Reports a `family` of the entry that its address does not have.
    fn refuse_unfit_family(
        &self,
        node: Syntax<'_>,
        spec: &TargetSpec,
        choice: Option<FamilyChoice>,
    ) {
        let family = match spec {
            TargetSpec::Ip(_, ip) => Family::of(*ip),
            TargetSpec::Zoned(..) => Family::V6,
            TargetSpec::Many(interval) => interval.family(),
            TargetSpec::Host(_) => return,
        };
        let Some(choice) = choice else { return };
        if choice == FamilyChoice::Any || choice.only() == Some(family) {
            return;
        }
        let message = format!("family does not fit an address that is {family}");
        let hint = "leave `family` out; it chooses among the addresses of a host name";
        let at = node.get("family").unwrap_or(node).start();
        self.scope.error(at, message, hint.to_owned());
    }

    /// Makes the devices of one address, host name, subnet or range, which was written at `location`.
    fn expand(&mut self, template: &Template, spec: &TargetSpec, location: Location) {
        let expansion = self.devices.expand(template, spec, location);
        let offset = location.offset;
        let (checks, scrapers) = (&self.intake.checks, &template.scrapers);
        let unfit = match spec {
            TargetSpec::Ip(_, ip) => checks.unfit_family(Family::of(*ip), scrapers),
            TargetSpec::Many(interval) => checks.unfit_family(interval.family(), scrapers),
            TargetSpec::Zoned(..) => checks.unfit_family(Family::V6, scrapers),
            TargetSpec::Host(_) => {
                let wanted = match template.family {
                    FamilyChoice::Any => &[][..],
                    FamilyChoice::V4 => &[Family::V4],
                    FamilyChoice::V6 => &[Family::V6],
                    FamilyChoice::Both => &[Family::V4, Family::V6],
                };
                let mut wanted = wanted.iter();
                wanted.find_map(|family| checks.unfit_family_of_name(*family, scrapers))
            }
        };
        if let Some((message, hint)) = unfit {
            self.scope_of(location).error(offset, message, hint);
        }
        match expansion {
            Expansion::Added => {}
            Expansion::Excluded => {
                let message = "all its addresses are excluded";
                self.scope_of(location).warn(offset, message, None);
            }
            Expansion::TooMany => {
                let Some(most) = self.max_targets else {
                    return;
                };
                let message = format!("stands for more than {most} addresses");
                let hint = "raise `max_targets` in conf if that is meant";
                let scope = self.scope_of(location);
                scope.error(offset, message, hint.to_owned());
            }
            Expansion::Repeated {
                count,
                device,
                first,
            } => {
                let first = self.scope_of(first).location(first.offset);
                let message = match count {
                    1 => format!("device {device} is already listed at {first}"),
                    _ => {
                        format!("{count} devices are already listed, such as {device}, at {first}")
                    }
                };
                let hint = "it is measured once, as the first entry says";
                let scope = self.scope_of(location);
                scope.warn(offset, message, hint.to_owned());
            }
        }
    }

    /// The document of a location.
    fn scope_of(&self, location: Location) -> Scope<'_, '_> {
        let document = location
            .document
            .and_then(|index| self.documents.get(index));
        Scope {
            found: self.scope.found,
            document: document.map_or(self.scope.document, |document| document),
        }
    }
}

/// An entry without the keys at fault.
fn sound_part(node: Syntax<'_>, problems: &[Problem]) -> Option<DeviceEntry> {
    let Value::Object(mut rest) = node.to_json() else {
        return None;
    };
    let faulty = faulty_keys(problems);
    rest.retain(|key, _| !faulty.contains(key));
    DeviceEntry::decode(
        &Value::Object(rest),
        &Bounds::NONE,
        &mut Problems::default(),
    )
}

/// What the devices of an entry are called; `None` where that is at fault.
fn name(node: Syntax<'_>, entry: &DeviceEntry) -> Option<Arc<str>> {
    match (&entry.job, node.get("job")) {
        (Some(name), _) => Some(name.as_str().into()),
        (None, None) if node.get("targets_files").is_some() => Some(IP_PLACEHOLDER.into()),
        _ => None,
    }
}

/// Where the devices of an entry come from.
enum Source {
    /// Its `ip`, and where that was written.
    Spec(TargetSpec, usize),
    /// Its `targets_files`, each with where it was written.
    Files(Vec<(FilePattern, usize)>),
}
