//! Reading one group file.

use std::sync::Arc;
use std::time::Duration;

use figment::value::Value as Layer;
use jsonc_parser::ast::Value;

use crate::catalog::{CommonSettings, ScraperCatalog};
use crate::config::{GroupConfig, Labels, MetricConfig, PacerConfig};
use crate::devices::FamilyChoice;
use crate::environment::Environment;
use crate::exclusions::Exclusions;
use crate::fields::{self, Fields, start};
use crate::jobs::{JobDefaults, JobReader};
use crate::layers::{CONF_SETTINGS, Layered, Overrides};
use crate::report::Scope;
use crate::scalar::{self, Refusal};
use crate::schema::{CONF_KEYS, GROUP_KEYS, PACER_KEYS};
use crate::settings::SettingReader;
use crate::targets_file::TargetFiles;
use crate::watched::Watched;
use crate::{labels, metrics, target};

/// Most probes a cycle may have for a device.
pub(crate) const MAX_COUNT: u64 = 10_000;
/// Most addresses that `max_targets` may allow.
const MAX_TARGETS: u64 = 1 << 24;
/// What is measured where nothing else is said.
const DEFAULT_METRIC: &str = "ping";
/// Where `timeout` is not given.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(1);

/// What all files are read with.
pub(crate) struct Context<'c> {
    /// The environment layer.
    pub(crate) env: &'c Environment,
    /// The flags layer.
    pub(crate) overrides: &'c Overrides,
    /// The known scrapers.
    pub(crate) scrapers: &'c dyn ScraperCatalog,
    /// Targets files as they were when they were last in order.
    pub(crate) previous: Option<&'c TargetFiles>,
}

/// What reading the files brings to light beside the configuration.
#[derive(Default)]
pub(crate) struct Intake {
    /// Files and directories that were looked at.
    pub(crate) watched: Watched,
    /// Targets files that were read.
    pub(crate) target_files: TargetFiles,
}

/// What came out of a group file.
pub(crate) struct Outcome {
    /// The name of the group and where it stands, even where the rest of the file is unsound.
    pub(crate) prom_id: Option<(String, usize)>,
    /// Where `jobs` starts.
    pub(crate) jobs_at: usize,
    /// The group; `None` when there was an error in the file.
    pub(crate) group: Option<GroupConfig>,
}

/// Reads a group file.
pub(crate) fn read(
    scope: Scope<'_, '_>,
    root: &Value<'_>,
    context: &Context<'_>,
    intake: &mut Intake,
) -> Outcome {
    let errors = scope.report.errors();
    let mut outcome = Outcome {
        prom_id: None,
        jobs_at: start(root),
        group: None,
    };
    if let Some(at) = key_of(root, "ip_pushgateway") {
        let message = "this is a push configuration, not a group of devices";
        let hint = "keep it out of this directory and give it with --push-config";
        scope.error_hint(at, message, hint.to_owned());
        return outcome;
    }
    let Some(file) = Fields::open(scope, root, "the file", &GROUP_KEYS) else {
        return outcome;
    };
    file.check_schema_key(scope);
    let conf = file
        .require(scope, "conf")
        .and_then(|conf| Fields::open(scope, conf, "conf", &CONF_KEYS).map(|f| (conf, f)))
        .map(|(value, fields)| read_conf(scope, value, &fields, context, &mut outcome));
    let Some(jobs) = file.require(scope, "jobs") else {
        return outcome;
    };
    outcome.jobs_at = start(jobs);
    let Some(entries) = fields::list(scope, jobs, "jobs") else {
        return outcome;
    };
    if entries.is_empty() {
        let hint = "add a device, such as {\"job\": \"router\", \"ip\": \"192.168.1.1\"}";
        scope.warn(
            start(jobs),
            "jobs is empty: nothing is measured",
            hint.to_owned(),
        );
    }
    let conf = conf.unwrap_or_else(Conf::unsound);
    let defaults = JobDefaults {
        labels: conf.labels.clone(),
        metrics: conf.metrics.clone(),
        family: conf.family,
        exclude: conf.exclude,
        max_targets: conf.max_targets,
        common: conf.common,
    };
    let mut reader = JobReader::new(scope, defaults, context, intake);
    for entry in entries {
        reader.read(entry);
    }
    let jobs = reader.finish();
    if scope.report.errors() > errors {
        return outcome;
    }
    if let (Some((prom_id, _)), Some(common)) = (&outcome.prom_id, conf.common) {
        let group = GroupConfig {
            file: scope.document.path().to_owned(),
            prom_id: prom_id.as_str().into(),
            interval: common.interval,
            timeout: common.timeout,
            value_dev_down: common.value_dev_down,
            count: common.count,
            probe_interval: common.probe_interval,
            pacer: conf.pacer,
            labels: conf.labels,
            jobs,
        };
        warn_slow_pacer(scope, outcome.jobs_at, &group);
        outcome.group = Some(group);
    }
    outcome
}

/// Where the key `key` of an object stands.
pub(crate) fn key_of(root: &Value<'_>, key: &str) -> Option<usize> {
    let property = root
        .as_object()?
        .properties
        .iter()
        .find(|p| p.name.as_str() == key)?;
    Some(start(&property.name))
}

/// Warns where the pacer cannot let the probes of a cycle out within the interval.
fn warn_slow_pacer(scope: Scope<'_, '_>, at: usize, group: &GroupConfig) {
    let Some(rate) = group.pacer.rate else { return };
    let probes: u64 = group
        .jobs
        .iter()
        .map(|job| u64::from(group.count_of(job)))
        .sum();
    let needed = probes as f64 / group.interval.as_secs_f64();
    if needed > rate {
        let message = format!(
            "a cycle of {probes} probes every {} needs {needed:.0} probes a second, and the pacer lets {rate} out",
            scalar::show(group.interval)
        );
        let hint = "raise `pacer.rate`, or use fewer probes or a longer interval";
        scope.warn(at, message, hint.to_owned());
    }
}

/// The `conf` of a group.
struct Conf {
    /// `None` when one of them is unsound.
    common: Option<CommonSettings>,
    pacer: PacerConfig,
    labels: Labels,
    metrics: Option<Arc<[MetricConfig]>>,
    family: FamilyChoice,
    exclude: Exclusions,
    /// `None` when unsound.
    max_targets: Option<u64>,
}

impl Conf {
    /// Stands in for a `conf` that cannot be read, so that the jobs are checked all the same.
    fn unsound() -> Self {
        Self {
            common: None,
            pacer: PacerConfig::default(),
            labels: Labels::default(),
            metrics: None,
            family: FamilyChoice::Any,
            exclude: Exclusions::default(),
            max_targets: None,
        }
    }
}

fn read_conf(
    scope: Scope<'_, '_>,
    value: &Value<'_>,
    conf: &Fields<'_, '_>,
    context: &Context<'_>,
    outcome: &mut Outcome,
) -> Conf {
    outcome.prom_id = conf.require(scope, "prom_id").and_then(|value| {
        fields::text(scope, value, "prom_id").map(|text| (text.to_owned(), start(value)))
    });
    if let Some(pacer) = conf.get("pacer") {
        let _ = Fields::open(scope, pacer, "pacer", &PACER_KEYS);
    }
    let layered = Layered::merge(
        CONF_SETTINGS,
        value.as_object(),
        context.env,
        context.overrides,
        scope.report,
    );
    let settings = SettingReader::new(scope, layered, conf.start());
    let mut result = Conf::unsound();
    result.pacer = PacerConfig {
        rate: settings.read("pacer.rate", |value, text| {
            match scalar::number(value, text)? {
                rate if rate > 0.0 => Ok(rate),
                _ => Err(Refusal("must be greater than zero".to_owned())),
            }
        }),
        burst: settings
            .read("pacer.burst", |value, text| {
                scalar::integer(value, text, 1, 65_536)
            })
            .and_then(|burst| u32::try_from(burst).ok()),
    };
    result.common = read_common(&settings, result.pacer);
    result.max_targets = settings.read("max_targets", |value, text| {
        scalar::integer(value, text, 1, MAX_TARGETS)
    });
    result.family = settings
        .read("family", |value, _| FamilyChoice::parse(value))
        .unwrap_or_default();
    if let Some(value) = conf.get("labels")
        && let Some(labels) = labels::parse(scope, value)
    {
        result.labels = Labels::default().overlaid(labels);
    }
    result.metrics = match conf.get("metrics") {
        Some(value) => {
            let metrics = metrics::parse(scope, value, context.scrapers);
            if let (Some(metrics), Some(common)) = (&metrics, &result.common) {
                let (at, scrapers) = (start(value), context.scrapers);
                metrics::check_settings(scope, Some(value), at, metrics, scrapers, common);
            }
            metrics
        }
        None => Some(default_metrics()),
    };
    if let Some(value) = conf.get("exclude") {
        result.exclude = read_exclude(scope, value);
    }
    result
}

/// The list of metrics of a device for which none is configured.
fn default_metrics() -> Arc<[MetricConfig]> {
    [MetricConfig {
        scraper: DEFAULT_METRIC.into(),
        settings: serde_json::Value::Null,
    }]
    .into()
}

/// The settings that every scraper gets; `None` when one of them is unsound.
fn read_common(settings: &SettingReader<'_, '_>, pacer: PacerConfig) -> Option<CommonSettings> {
    settings.require("interval", "conf");
    let duration = |value: &Layer, _: bool| scalar::duration(value);
    let interval = settings.read("interval", duration);
    let timeout = settings.read("timeout", duration);
    let value_dev_down = settings.read("value_dev_down", scalar::number);
    let count = settings
        .read("count", |value, text| {
            scalar::integer(value, text, 1, MAX_COUNT)
        })
        .and_then(|count| u32::try_from(count).ok());
    let probe_interval = settings.read("probe_interval", duration);
    let interval = interval?;
    let default_timeout = DEFAULT_TIMEOUT.min(interval / 2);
    let timeout = if settings.has("timeout") {
        timeout?
    } else {
        default_timeout
    };
    if timeout >= interval {
        let message = format!(
            "timeout ({}) must be below interval ({})",
            scalar::show(timeout),
            scalar::show(interval)
        );
        let hint = "a cycle starts every interval and has to end before the next one";
        settings.error("timeout", message, Some(hint));
        return None;
    }
    let value_dev_down = if settings.has("value_dev_down") {
        value_dev_down?
    } else {
        timeout.as_secs_f64() * 1000.0
    };
    let common = CommonSettings {
        interval,
        timeout,
        value_dev_down,
        count: count?,
        probe_interval: probe_interval?,
        rate: pacer.rate,
        burst: pacer.burst,
    };
    if let Some((message, hint)) = overrun(&common) {
        let key = if settings.is_written("count") {
            "count"
        } else {
            "probe_interval"
        };
        settings.warn(key, message, &hint);
    }
    Some(common)
}

/// What to say of a cycle that is longer than its interval: the last probe leaves after
/// (count − 1) × probe_interval and may take `timeout` to be answered.
pub(crate) fn overrun(common: &CommonSettings) -> Option<(String, String)> {
    let cycle = common
        .probe_interval
        .checked_mul(common.count.saturating_sub(1))
        .and_then(|probes| probes.checked_add(common.timeout))
        .unwrap_or(Duration::MAX);
    if cycle <= common.interval {
        return None;
    }
    let message = format!(
        "a cycle of {} probes, {} apart, with a timeout of {} takes {}, longer than the interval of {}",
        common.count,
        scalar::show(common.probe_interval),
        scalar::show(common.timeout),
        scalar::show(cycle),
        scalar::show(common.interval),
    );
    let hint =
        "use fewer probes, a shorter probe_interval or a longer interval; else ticks are skipped";
    Some((message, hint.to_owned()))
}

/// Reads a list of exclusions.
pub(crate) fn read_exclude(scope: Scope<'_, '_>, value: &Value<'_>) -> Exclusions {
    let mut exclusions = Vec::new();
    for element in fields::list(scope, value, "exclude").unwrap_or_default() {
        let Some(text) = fields::text(scope, element, "an entry of exclude") else {
            continue;
        };
        match target::parse_exclusion(text) {
            Ok(exclusion) => exclusions.push(exclusion),
            Err(problem) => scope.error_hint(start(element), problem.message, problem.hint),
        }
    }
    exclusions.into_iter().collect()
}
