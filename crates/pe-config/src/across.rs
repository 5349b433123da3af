//! What shows only when all files are seen together.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use crate::config::{Grouping, JobConfig, PushConfig};
use crate::diagnostic::{Diagnostic, Severity};
use crate::group::Outcome;
use crate::report::{Report, Scope};

/// Devices of one file above which a group for each device is too much for a Pushgateway: it checks
/// every group again at each push.
const MANY_DEVICES: usize = 500;

/// Reports group names that more than one file has.
pub(crate) fn report_shared_ids(outcomes: &[(Scope<'_, '_>, Outcome)]) {
    let mut first: HashMap<&str, String> = HashMap::new();
    for (scope, outcome) in outcomes {
        let Some((prom_id, at)) = &outcome.prom_id else {
            continue;
        };
        if let Some(place) = first.get(prom_id.as_str()) {
            let message = format!("prom_id `{prom_id}` is already used at {place}");
            let hint = "each file needs a prom_id of its own";
            scope.error_hint(*at, message, hint.to_owned());
        } else {
            first.insert(prom_id, scope.place(*at));
        }
    }
}

/// Warns where a group for each device is too much for a Pushgateway: at a file that is too much by
/// itself, else for all files together.
pub(crate) fn warn_many_devices(
    outcomes: &[(Scope<'_, '_>, Outcome)],
    push: &PushConfig,
    directory: &Path,
    report: &Report,
) {
    if push.grouping != Grouping::Device {
        return;
    }
    let message = |count: usize, of: &str| {
        format!(
            "{count} devices{of} are pushed in a group of their own each; a Pushgateway is slow above {MANY_DEVICES}"
        )
    };
    let hint = "set `\"grouping\": \"config\"` in the push configuration".to_owned();
    let mut all: HashSet<&str> = HashSet::new();
    let mut told = false;
    for (scope, outcome) in outcomes {
        let Some(group) = &outcome.group else {
            continue;
        };
        let names: HashSet<&str> = group.jobs.iter().map(|job| &*job.job).collect();
        if names.len() > MANY_DEVICES {
            scope.warn(outcome.jobs_at, message(names.len(), ""), hint.clone());
            told = true;
        }
        all.extend(names);
    }
    if all.len() > MANY_DEVICES && !told {
        let message = message(all.len(), " of all files together");
        let hint = Some(hint);
        report.push(Diagnostic::whole_file(
            Severity::Warning,
            directory,
            message,
            hint,
        ));
    }
}

/// Warns of devices that two files have, with the same name and address: with a group for each device their
/// series are the same on the Pushgateway.
pub(crate) fn warn_shared_devices(outcomes: &[(Scope<'_, '_>, Outcome)], push: &PushConfig) {
    if push.grouping != Grouping::Device {
        return;
    }
    let mut first: HashMap<(&str, &str), usize> = HashMap::new();
    for (index, (scope, outcome)) in outcomes.iter().enumerate() {
        let Some(group) = &outcome.group else {
            continue;
        };
        // For each other file, how many devices it shares with this one, and one of them.
        let mut shared: BTreeMap<usize, (usize, &JobConfig)> = BTreeMap::new();
        for job in &group.jobs {
            let other = *first.entry((&job.job, &job.ip)).or_insert(index);
            if other != index {
                shared.entry(other).or_insert((0, job)).0 += 1;
            }
        }
        for (other, (count, job)) in shared {
            let (scope_of_other, outcome_of_other) = &outcomes[other];
            let place = scope_of_other.place(outcome_of_other.jobs_at);
            let device = format!("`{}` at {}", job.job, job.ip);
            let message = match count {
                1 => format!("device {device} is also among the jobs at {place}"),
                _ => {
                    format!("{count} devices, such as {device}, are also among the jobs at {place}")
                }
            };
            let hint = "the Pushgateway shows the later result of the two; give one another name, \
                        or set `\"grouping\": \"config\"` in the push configuration";
            scope.warn(outcome.jobs_at, message, hint.to_owned());
        }
    }
}
