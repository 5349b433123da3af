//! Reading the entries of `jobs`, and making devices of them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use figment::value::Value as Layer;
use jsonc_parser::ast::Value;

use crate::catalog::CommonSettings;
use crate::config::{Address, Family, JobConfig, Labels, MetricConfig};
use crate::document::Document;
use crate::fields::{self, Fields, start};
use crate::group::{self, Context, Intake, MAX_COUNT};
use crate::report::Scope;
use crate::scalar::{self, Refusal};
use crate::schema::JOB_KEYS;
use crate::target::{self, Exclusion, TargetSpec};
use crate::targets_file::{self, FilePattern};
use crate::{labels, metrics};

/// What stands for the address in the name of a device.
const IP_PLACEHOLDER: &str = "{ip}";
/// The label that tells the two apart where both addresses of a host name are measured.
const FAMILY_LABEL: &str = "family";

/// Which addresses of a host name are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum FamilyChoice {
    V4,
    V6,
    #[default]
    Any,
    /// One of each family, as two devices.
    Both,
}

impl FamilyChoice {
    /// Reads `4`, `6`, `any` or `both`.
    pub(crate) fn parse(value: &Layer) -> Result<Self, Refusal> {
        let text = match value {
            Layer::Num(..) => scalar::number(value, false)?.to_string(),
            _ => scalar::text(value)?,
        };
        match text.trim() {
            "4" => Ok(Self::V4),
            "6" => Ok(Self::V6),
            "any" => Ok(Self::Any),
            "both" => Ok(Self::Both),
            other => Err(Refusal(format!(
                "found `{other}`, expected 4, 6, any or both"
            ))),
        }
    }
}

/// What `conf` says for all jobs.
pub(crate) struct JobDefaults {
    pub(crate) labels: Labels,
    /// `None` when unsound.
    pub(crate) metrics: Option<Arc<[MetricConfig]>>,
    pub(crate) family: FamilyChoice,
    pub(crate) exclude: Vec<Exclusion>,
    pub(crate) max_targets: u64,
    /// `None` when unsound.
    pub(crate) common: Option<CommonSettings>,
}

/// Reads the jobs of one group file, one after the other.
pub(crate) struct JobReader<'s, 'r, 'd, 'c> {
    scope: Scope<'r, 'd>,
    defaults: JobDefaults,
    context: &'s Context<'c>,
    intake: &'s mut Intake,
    jobs: Vec<JobConfig>,
    /// Where each device was written first.
    seen: HashMap<(Arc<str>, Address), Place>,
    /// The targets files that were read; a [`Place`] may be in one of them.
    documents: Vec<Rc<Document>>,
    /// Lists that were read already, by their text: devices that are alike share theirs.
    labels: HashMap<&'d str, Labels>,
    metrics: HashMap<&'d str, Arc<[MetricConfig]>>,
}

/// Where a device was written.
#[derive(Debug, Clone, Copy)]
struct Place {
    /// Index of the targets file; `None` for the group file.
    document: Option<usize>,
    offset: usize,
}

/// An entry of `jobs`, ready to make devices.
#[derive(Clone)]
struct Template {
    job: Arc<str>,
    family: FamilyChoice,
    exclude: Vec<Exclusion>,
    labels: Labels,
    metrics: Arc<[MetricConfig]>,
    timeout: Option<Duration>,
    count: Option<u32>,
}

impl Template {
    /// The name of the device at `ip`.
    fn name(&self, ip: &Arc<str>) -> Arc<str> {
        if &*self.job == IP_PLACEHOLDER {
            ip.clone()
        } else if self.job.contains(IP_PLACEHOLDER) {
            self.job.replace(IP_PLACEHOLDER, ip).into()
        } else {
            self.job.clone()
        }
    }
}

impl<'s, 'r, 'd, 'c> JobReader<'s, 'r, 'd, 'c> {
    /// A reader for the jobs of the file of `scope`.
    pub(crate) fn new(
        scope: Scope<'r, 'd>,
        defaults: JobDefaults,
        context: &'s Context<'c>,
        intake: &'s mut Intake,
    ) -> Self {
        Self {
            scope,
            defaults,
            context,
            intake,
            jobs: Vec::new(),
            seen: HashMap::new(),
            documents: Vec::new(),
            labels: HashMap::new(),
            metrics: HashMap::new(),
        }
    }

    /// The devices.
    pub(crate) fn finish(mut self) -> Vec<JobConfig> {
        self.jobs.shrink_to_fit();
        self.jobs
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
        let timeout = job.get("timeout").and_then(|value| {
            let read = scalar::duration(&to_layer(value));
            self.accept(value, "timeout", read)
                .map(|timeout| (timeout, start(value)))
        });
        let count = job.get("count").and_then(|value| {
            let read = scalar::integer(&to_layer(value), false, 1, MAX_COUNT);
            let count = self.accept(value, "count", read)?;
            Some((u32::try_from(count).ok()?, start(value)))
        });
        let common = self.common(timeout, count);
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
            exclude: exclude.unwrap_or_default(),
            labels,
            metrics,
            timeout: timeout.map(|(timeout, _)| timeout),
            count: count.map(|(count, _)| count),
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
                    template.labels = template.labels.overlaid(labels);
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

    /// The common settings of a job with its own `timeout` and `count`; reports a timeout that is not
    /// below the interval and warns of a cycle that cannot fit.
    fn common(
        &self,
        timeout: Option<(Duration, usize)>,
        count: Option<(u32, usize)>,
    ) -> Option<CommonSettings> {
        let mut common = self.defaults.common?;
        let at = count.map(|(_, at)| at).or(timeout.map(|(_, at)| at));
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

    fn read_metrics(
        &mut self,
        value: Option<&Value<'_>>,
        entry: &Value<'_>,
        common: Option<&CommonSettings>,
    ) -> Option<Arc<[MetricConfig]>> {
        let scope = self.scope;
        let Some(value) = value else {
            let metrics = self.defaults.metrics.clone()?;
            // The list of `conf` was checked with the settings of `conf`.
            if let Some(common) = common.filter(|common| Some(**common) != self.defaults.common) {
                let (at, scrapers) = (start(entry), self.context.scrapers);
                metrics::check_settings(scope, None, at, &metrics, scrapers, common);
            }
            return Some(metrics);
        };
        let source = scope.document.source(value);
        let usual = common.copied() == self.defaults.common;
        if let Some(metrics) = self.metrics.get(source).filter(|_| usual) {
            return Some(metrics.clone());
        }
        let errors = scope.report.errors();
        let metrics = metrics::parse(scope, value, self.context.scrapers)?;
        if let Some(common) = common {
            let (at, scrapers) = (start(value), self.context.scrapers);
            metrics::check_settings(scope, Some(value), at, &metrics, scrapers, common);
        }
        if scope.report.errors() > errors {
            return None;
        }
        let shared = self
            .metrics
            .entry(source)
            .or_insert_with(|| metrics.clone());
        Some(shared.clone())
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
        let mut repeated = Repeated::default();
        match spec {
            TargetSpec::Ip(text, ip) => {
                if !self.excludes(template, |exclusion| exclusion.has_address(ip)) {
                    let address = Address::Ip(ip);
                    self.add(template, &text.into(), address, None, place, &mut repeated);
                }
            }
            TargetSpec::Host(host) => {
                if !self.excludes(template, |exclusion| exclusion.has_host(&host)) {
                    self.add_host(template, &host.into(), place, &mut repeated);
                }
            }
            TargetSpec::Many(interval) => {
                if interval.steps() >= u128::from(self.defaults.max_targets) {
                    let most = self.defaults.max_targets;
                    let message = format!("stands for more than {most} addresses");
                    let hint = "raise `max_targets` in conf if that is meant";
                    self.scope
                        .error_hint(place.offset, message, hint.to_owned());
                    return;
                }
                let count = usize::try_from(interval.steps()).unwrap_or(0) + 1;
                self.jobs.reserve(count);
                self.seen.reserve(count);
                let before = self.jobs.len();
                for ip in interval.addresses() {
                    if self.excludes(template, |exclusion| exclusion.has_address(ip)) {
                        continue;
                    }
                    let text: Arc<str> = ip.to_string().into();
                    self.add(template, &text, Address::Ip(ip), None, place, &mut repeated);
                }
                if self.jobs.len() == before && repeated.count == 0 {
                    self.scope
                        .warn(place.offset, "all its addresses are excluded", None);
                }
            }
        }
        self.warn_repeated(place, &repeated);
    }

    fn excludes(&self, template: &Template, is_excluded: impl Fn(&Exclusion) -> bool) -> bool {
        template
            .exclude
            .iter()
            .chain(&self.defaults.exclude)
            .any(is_excluded)
    }

    /// Adds a device with a host name, or two where both families are wanted.
    fn add_host(
        &mut self,
        template: &Template,
        host: &Arc<str>,
        place: Place,
        repeated: &mut Repeated,
    ) {
        let families: &[(Family, Option<&str>)] = match template.family {
            FamilyChoice::V4 => &[(Family::V4, None)],
            FamilyChoice::V6 => &[(Family::V6, None)],
            FamilyChoice::Any => &[(Family::Any, None)],
            FamilyChoice::Both => &[(Family::V4, Some("4")), (Family::V6, Some("6"))],
        };
        for (family, label) in families {
            let address = Address::Name {
                host: host.clone(),
                family: *family,
            };
            self.add(template, host, address, *label, place, repeated);
        }
    }

    /// Adds a device, unless it is there already.
    fn add(
        &mut self,
        template: &Template,
        ip: &Arc<str>,
        address: Address,
        family: Option<&str>,
        place: Place,
        repeated: &mut Repeated,
    ) {
        let job = template.name(ip);
        match self.seen.entry((job.clone(), address.clone())) {
            Entry::Occupied(first) => {
                repeated.count += 1;
                if repeated.count == 1 {
                    repeated.device = format!("`{job}` at {ip}");
                    repeated.first = Some(*first.get());
                }
                return;
            }
            Entry::Vacant(entry) => entry.insert(place),
        };
        let labels = match family {
            Some(family) => template.labels.overlaid([(FAMILY_LABEL, family)]),
            None => template.labels.clone(),
        };
        self.jobs.push(JobConfig {
            job,
            ip: ip.clone(),
            address,
            labels,
            metrics: template.metrics.clone(),
            timeout: template.timeout,
            count: template.count,
        });
    }

    /// Warns of the devices of one place that were there already.
    fn warn_repeated(&self, place: Place, repeated: &Repeated) {
        let Repeated {
            count,
            device,
            first: Some(first),
        } = repeated
        else {
            return;
        };
        let first = self.scope_of(*first).place(first.offset);
        let message = match count {
            1 => format!("device {device} is already listed at {first}"),
            _ => format!("{count} devices are already listed, such as {device}, at {first}"),
        };
        let hint = "it is measured once, as the first entry says";
        self.scope_of(place)
            .warn(place.offset, message, hint.to_owned());
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

/// Devices of one place that were there already.
#[derive(Default)]
struct Repeated {
    count: usize,
    device: String,
    first: Option<Place>,
}

/// A value of the file in the form in which layered settings are decoded.
fn to_layer(value: &Value<'_>) -> Layer {
    Layer::serialize(fields::to_json(value)).unwrap_or_else(|_| "".into())
}
