//! Reading the entries of `jobs`.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use figment::value::Value as Layer;
use jsonc_parser::ast::Value;

use crate::catalog::CommonSettings;
use crate::config::{JobConfig, Labels, MetricConfig};
use crate::devices::{Devices, Expansion, FamilyChoice, IP_PLACEHOLDER, Place, Template};
use crate::document::Document;
use crate::exclusions::Exclusions;
use crate::fields::{self, Fields, start};
use crate::group::{self, Context, Intake, MAX_COUNT};
use crate::interner::Interner;
use crate::report::Scope;
use crate::scalar::{self, Refusal};
use crate::schema::JOB_KEYS;
use crate::target::{self, TargetSpec};
use crate::targets_file::{self, FilePattern};
use crate::{labels, metrics};

/// Most addresses that a range or subnet stands for where `max_targets` is unsound, and told of already.
const CAUTION: u64 = 65_536;

/// What `conf` says for all jobs.
pub(crate) struct JobDefaults {
    pub(crate) labels: Labels,
    /// `None` when unsound.
    pub(crate) metrics: Option<Arc<[MetricConfig]>>,
    pub(crate) family: FamilyChoice,
    pub(crate) exclude: Exclusions,
    /// `None` when unsound.
    pub(crate) max_targets: Option<u64>,
    /// `None` when unsound.
    pub(crate) common: Option<CommonSettings>,
}

/// Reads the jobs of one group file, one after the other.
pub(crate) struct JobReader<'s, 'r, 'd, 'c> {
    scope: Scope<'r, 'd>,
    defaults: JobDefaults,
    context: &'s Context<'c>,
    intake: &'s mut Intake,
    devices: Devices,
    /// The targets files that were read; a [`Place`] may be in one of them.
    documents: Vec<Rc<Document>>,
    /// Lists that were read already, by their text: devices that are alike share theirs.
    labels: HashMap<&'d str, Labels>,
    /// The labels of targets files, so that those that are equal are there once.
    interned: Interner,
    metrics: HashMap<&'d str, Arc<[MetricConfig]>>,
    /// Lists of metrics, by their text, and the timeouts, counts and probe intervals with which they were found in order.
    checked: HashSet<Combination<'d>>,
}

/// A list of metrics, by its text, with a timeout, a count and a probe interval.
type Combination<'d> = (Option<&'d str>, Duration, u32, Duration);

impl<'s, 'r, 'd, 'c> JobReader<'s, 'r, 'd, 'c> {
    /// A reader for the jobs of the file of `scope`.
    pub(crate) fn new(
        scope: Scope<'r, 'd>,
        mut defaults: JobDefaults,
        context: &'s Context<'c>,
        intake: &'s mut Intake,
    ) -> Self {
        let exclude = std::mem::take(&mut defaults.exclude);
        let devices = Devices::new(defaults.max_targets.unwrap_or(CAUTION), exclude);
        Self {
            scope,
            defaults,
            context,
            intake,
            devices,
            documents: Vec::new(),
            labels: HashMap::new(),
            interned: Interner::default(),
            metrics: HashMap::new(),
            checked: HashSet::new(),
        }
    }

    /// The devices.
    pub(crate) fn finish(self) -> Vec<JobConfig> {
        self.devices.into_jobs()
    }

    /// Reads one entry of `jobs`.
    pub(crate) fn read(&mut self, entry: &Value<'_>) {
        let scope = self.scope;
        let Some(job) = Fields::open(scope, entry, "this job", &JOB_KEYS) else {
            return;
        };
        let source = self.read_source(&job);
        let name = match job.get("job") {
            None if job.get("targets_files").is_some() => Some(IP_PLACEHOLDER),
            _ => job
                .require(scope, "job")
                .and_then(|value| fields::text(scope, value, "job")),
        };
        let family = job.get("family").and_then(|value| {
            let read = FamilyChoice::parse(&to_layer(value));
            self.accept(value, "family", read)
                .map(|choice| (choice, start(value)))
        });
        let exclude = job
            .get("exclude")
            .map(|value| group::read_exclude(scope, value));
        let timeout = self.read_duration(&job, "timeout");
        let probe_interval = self.read_duration(&job, "probe_interval");
        let count = job.get("count").and_then(|value| {
            let read = scalar::integer(&to_layer(value), false, 1, MAX_COUNT);
            let count = self.accept(value, "count", read)?;
            Some((u32::try_from(count).ok()?, start(value)))
        });
        let common = self.common(timeout, count, probe_interval);
        let labels = self.read_labels(job.get("labels"));
        let metrics = self.read_metrics(job.get("metrics"), entry, common.as_ref());
        let (Some(name), Some(source), Some(labels), Some(metrics)) =
            (name, source, labels, metrics)
        else {
            return;
        };
        let template = Template {
            job: name.into(),
            family: family.map_or(self.defaults.family, |(choice, _)| choice),
            exclude: exclude.unwrap_or_default().into(),
            labels,
            metrics,
            timeout: timeout.map(|(timeout, _)| timeout),
            count: count.map(|(count, _)| count),
            probe_interval: probe_interval.map(|(interval, _)| interval),
        };
        self.check_scraper_labels(
            scope,
            &template,
            job.get("labels").map_or(start(entry), start),
        );
        match source {
            Source::Spec(spec, at) => {
                self.check_family(&spec, family);
                self.expand(
                    &template,
                    spec,
                    Place {
                        document: None,
                        offset: at,
                    },
                );
            }
            Source::Files(patterns) => {
                let files = self.find_files(&patterns);
                for path in files {
                    self.expand_file(&template, &path);
                }
            }
        }
    }

    /// Where the devices of an entry come from: its `ip` or its `targets_files`.
    fn read_source(&self, job: &Fields<'_, '_>) -> Option<Source> {
        let scope = self.scope;
        let Some(files) = job.get("targets_files") else {
            let value = job.require(scope, "ip")?;
            let text = fields::text(scope, value, "ip")?;
            return match target::parse(text) {
                Ok(spec) => Some(Source::Spec(spec, start(value))),
                Err(problem) => {
                    scope.error_hint(start(value), problem.message, problem.hint);
                    None
                }
            };
        };
        if let Some(ip) = job.get("ip") {
            let hint = "split the job in two";
            scope.error_hint(
                start(ip),
                "ip and targets_files are both given",
                hint.to_owned(),
            );
            return None;
        }
        let elements = fields::list(scope, files, "targets_files")?;
        if elements.is_empty() {
            scope.error(start(files), "targets_files is empty");
            return None;
        }
        let base = scope.document.path().parent().unwrap_or(Path::new(""));
        let mut patterns = Vec::with_capacity(elements.len());
        for element in elements {
            let Some(text) = fields::text(scope, element, "an entry of targets_files") else {
                continue;
            };
            match FilePattern::parse(base, text) {
                Ok(pattern) => patterns.push((pattern, start(element))),
                Err(message) => scope.error(start(element), format!("`{text}`: {message}")),
            }
        }
        Some(Source::Files(patterns))
    }

    /// The files that the patterns, each with its offset, stand for.
    fn find_files(&mut self, patterns: &[(FilePattern, usize)]) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> = Vec::new();
        for (pattern, at) in patterns {
            self.intake
                .watched
                .directories
                .push(pattern.directory().to_owned());
            match pattern.files(self.context.previous) {
                Ok(found) if found.is_empty() => {
                    let hint = "devices appear as soon as a file does";
                    self.scope
                        .warn(*at, "no targets file matches", hint.to_owned());
                }
                Ok(found) => {
                    for path in found {
                        if !files.contains(&path) {
                            files.push(path);
                        }
                    }
                }
                Err(error) => {
                    let directory = pattern.directory().display();
                    self.scope
                        .error(*at, format!("the directory {directory} {error}"));
                }
            }
        }
        self.intake.watched.files.extend(files.iter().cloned());
        files
    }

    /// Makes the devices of a targets file.
    fn expand_file(&mut self, template: &Template, path: &Path) {
        let report = self.scope.report;
        let Some(document) = targets_file::open(path, report, self.context.previous) else {
            return;
        };
        self.intake
            .target_files
            .insert(path, document.text(), self.context.previous);
        let document = Rc::new(document);
        let index = self.documents.len();
        self.documents.push(document.clone());
        if let Ok(root) = document.parse() {
            let scope = Scope {
                report,
                document: &document,
            };
            for group in targets_file::read_groups(scope, &root) {
                let mut template = template.clone();
                if let Some(device) = group.device {
                    template.job = device.into();
                }
                if !group.labels.is_empty() {
                    let labels = group.labels.iter().map(|(name, value, _)| (*name, *value));
                    template.labels = self.interned.overlay(&template.labels, labels);
                    let at = group.labels[0].2;
                    self.check_scraper_labels(scope, &template, at);
                }
                for (spec, offset) in group.targets {
                    self.expand(
                        &template,
                        spec,
                        Place {
                            document: Some(index),
                            offset,
                        },
                    );
                }
            }
        }
    }

    /// Reports labels that the scrapers of a device set themselves.
    fn check_scraper_labels(&self, scope: Scope<'_, '_>, template: &Template, at: usize) {
        if template.labels.is_empty() {
            return;
        }
        for metric in template.metrics.iter() {
            for name in self.context.scrapers.label_names(&metric.scraper) {
                if template.labels.get(&name).is_some() {
                    let message = format!(
                        "the metric `{}` sets the label `{name}` itself",
                        metric.scraper
                    );
                    scope.error_hint(at, message, "choose another name".to_owned());
                }
            }
        }
    }

    /// Reports what was refused of the value of `key`.
    fn accept<T>(&self, value: &Value<'_>, key: &str, read: Result<T, Refusal>) -> Option<T> {
        read.map_err(|Refusal(reason)| self.scope.error(start(value), format!("{key}: {reason}")))
            .ok()
    }

    fn read_duration(&self, job: &Fields<'_, '_>, key: &str) -> Option<(Duration, usize)> {
        let value = job.get(key)?;
        let read = scalar::duration(&to_layer(value));
        let duration = self.accept(value, key, read)?;
        Some((duration, start(value)))
    }

    /// The common settings of a job with its own `timeout`, `count` and `probe_interval`; reports a timeout that is
    /// not below the interval and warns of a cycle that cannot fit.
    fn common(
        &self,
        timeout: Option<(Duration, usize)>,
        count: Option<(u32, usize)>,
        probe_interval: Option<(Duration, usize)>,
    ) -> Option<CommonSettings> {
        let mut common = self.defaults.common?;
        let at = count.map(|(_, at)| at);
        let at = at
            .or(probe_interval.map(|(_, at)| at))
            .or(timeout.map(|(_, at)| at));
        if let Some((timeout, at)) = timeout {
            if timeout >= common.interval {
                let message = format!(
                    "timeout ({}) must be below interval ({})",
                    scalar::show(timeout),
                    scalar::show(common.interval)
                );
                self.scope.error(at, message);
                return None;
            }
            common.timeout = timeout;
        }
        if let Some((count, _)) = count {
            common.count = count;
        }
        if let Some((interval, _)) = probe_interval {
            common.probe_interval = interval;
        }
        if let Some(at) = at
            && let Some((message, hint)) = group::overrun(&common)
        {
            self.scope.warn(at, message, hint);
        }
        Some(common)
    }

    fn read_labels(&mut self, value: Option<&Value<'_>>) -> Option<Labels> {
        let Some(value) = value else {
            return Some(self.defaults.labels.clone());
        };
        let source = self.scope.document.source(value);
        if let Some(labels) = self.labels.get(source) {
            return Some(labels.clone());
        }
        let labels = self
            .defaults
            .labels
            .overlaid(labels::parse(self.scope, value)?);
        self.labels.insert(source, labels.clone());
        Some(labels)
    }

    /// The metrics of a job: those of `value`, or those of `conf`. Their settings are checked once for each
    /// combination with the common settings of a job.
    fn read_metrics(
        &mut self,
        value: Option<&Value<'_>>,
        entry: &Value<'_>,
        common: Option<&CommonSettings>,
    ) -> Option<Arc<[MetricConfig]>> {
        let scope = self.scope;
        let scrapers = self.context.scrapers;
        let source = value.map(|value| scope.document.source(value));
        let metrics = match (value, source) {
            (Some(value), Some(source)) => match self.metrics.get(source) {
                Some(metrics) => metrics.clone(),
                None => {
                    let metrics = metrics::parse(scope, value, scrapers)?;
                    self.metrics.insert(source, metrics.clone());
                    metrics
                }
            },
            _ => self.defaults.metrics.clone()?,
        };
        // The list of `conf` was checked with the settings of `conf`.
        let checked = source.is_none() && common == self.defaults.common.as_ref();
        let Some(common) = common.filter(|_| !checked) else {
            return Some(metrics);
        };
        let combination = (source, common.timeout, common.count, common.probe_interval);
        if !self.checked.contains(&combination) {
            let errors = scope.report.errors();
            let at = value.map_or(start(entry), start);
            metrics::check_settings(scope, value, at, &metrics, scrapers, common);
            if scope.report.errors() > errors {
                return None;
            }
            self.checked.insert(combination);
        }
        Some(metrics)
    }

    /// Reports a `family` of the job that its address does not have.
    fn check_family(&self, spec: &TargetSpec, family: Option<(FamilyChoice, usize)>) {
        let v6 = match spec {
            TargetSpec::Ip(_, ip) => ip.is_ipv6(),
            TargetSpec::Many(interval) => interval.is_v6(),
            TargetSpec::Host(_) => return,
        };
        let Some((choice, at)) = family else { return };
        let (have, fits) = match v6 {
            true => (
                "IPv6",
                choice == FamilyChoice::V6 || choice == FamilyChoice::Any,
            ),
            false => (
                "IPv4",
                choice == FamilyChoice::V4 || choice == FamilyChoice::Any,
            ),
        };
        if !fits {
            let message = format!("family does not fit an address that is {have}");
            let hint = "leave `family` out; it chooses among the addresses of a host name";
            self.scope.error_hint(at, message, hint.to_owned());
        }
    }

    /// Makes the devices of one address, host name, subnet or range, which was written at `place`.
    fn expand(&mut self, template: &Template, spec: TargetSpec, place: Place) {
        let expansion = self.devices.expand(template, spec, place);
        let scope = self.scope_of(place);
        match expansion {
            Expansion::Added => {}
            Expansion::Excluded => scope.warn(place.offset, "all its addresses are excluded", None),
            Expansion::TooMany => {
                let Some(most) = self.defaults.max_targets else {
                    return;
                };
                let message = format!("stands for more than {most} addresses");
                let hint = "raise `max_targets` in conf if that is meant";
                scope.error_hint(place.offset, message, hint.to_owned());
            }
            Expansion::Repeated {
                count,
                device,
                first,
            } => {
                let first = self.scope_of(first).place(first.offset);
                let message = match count {
                    1 => format!("device {device} is already listed at {first}"),
                    _ => {
                        format!("{count} devices are already listed, such as {device}, at {first}")
                    }
                };
                let hint = "it is measured once, as the first entry says";
                scope.warn(place.offset, message, hint.to_owned());
            }
        }
    }

    /// The document of a place.
    fn scope_of(&self, place: Place) -> Scope<'_, '_> {
        let document = place.document.and_then(|index| self.documents.get(index));
        Scope {
            report: self.scope.report,
            document: document.map_or(self.scope.document, |document| &**document),
        }
    }
}

/// Where the devices of an entry come from.
enum Source {
    /// Its `ip`, and where that was written.
    Spec(TargetSpec, usize),
    /// Its `targets_files`, each with where it was written.
    Files(Vec<(FilePattern, usize)>),
}

/// A value of the file in the form in which layered settings are decoded.
fn to_layer(value: &Value<'_>) -> Layer {
    Layer::serialize(fields::to_json(value)).unwrap_or_else(|_| "".into())
}
