//! From an address, host name, subnet or range to devices.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use figment::value::Value as Layer;

use crate::config::{Address, Family, JobConfig, Labels, MetricConfig};
use crate::exclusions::Exclusions;
use crate::scalar::{self, Refusal};
use crate::target::TargetSpec;

/// What stands for the address in the name of a device.
pub(crate) const IP_PLACEHOLDER: &str = "{ip}";
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

/// Where a device was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// Index of the targets file; `None` for the group file.
    pub(crate) document: Option<usize>,
    /// Byte offset.
    pub(crate) offset: usize,
}

/// What the devices of one entry have in common.
#[derive(Clone)]
pub(crate) struct Template {
    /// Their name, perhaps with a placeholder.
    pub(crate) job: Arc<str>,
    pub(crate) family: FamilyChoice,
    pub(crate) exclude: Arc<Exclusions>,
    pub(crate) labels: Labels,
    pub(crate) metrics: Arc<[MetricConfig]>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) count: Option<u32>,
    pub(crate) probe_interval: Option<Duration>,
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

/// What became of an address, host name, subnet or range.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Expansion {
    /// Its devices were added.
    Added,
    /// Its devices were added, but for those that were there already.
    Repeated {
        /// Number of devices that were there already.
        count: usize,
        /// The first of them, as messages show it.
        device: String,
        /// Where that was written first.
        first: Place,
    },
    /// None of its addresses may be measured.
    Excluded,
    /// It stands for too many addresses.
    TooMany,
}

/// The devices of one group, each of them once.
pub(crate) struct Devices {
    max_targets: u64,
    /// What no device may be.
    exclude: Exclusions,
    jobs: Vec<JobConfig>,
    /// Where each device was written first.
    seen: HashMap<(Arc<str>, Address), Place>,
}

impl Devices {
    /// No devices yet.
    pub(crate) fn new(max_targets: u64, exclude: Exclusions) -> Self {
        Self {
            max_targets,
            exclude,
            jobs: Vec::new(),
            seen: HashMap::new(),
        }
    }

    /// The devices, in the order in which they were added.
    pub(crate) fn into_jobs(mut self) -> Vec<JobConfig> {
        self.jobs.shrink_to_fit();
        self.jobs
    }

    /// Adds the devices of `spec`, which was written at `place`.
    pub(crate) fn expand(
        &mut self,
        template: &Template,
        spec: TargetSpec,
        place: Place,
    ) -> Expansion {
        let mut result = Expansion::Added;
        match spec {
            TargetSpec::Ip(text, ip) => {
                if !self.exclude.has_address(ip) && !template.exclude.has_address(ip) {
                    self.add(
                        template,
                        &text.into(),
                        Address::Ip(ip),
                        None,
                        place,
                        &mut result,
                    );
                }
            }
            TargetSpec::Host(host) => {
                if !self.exclude.has_host(&host) && !template.exclude.has_host(&host) {
                    self.add_host(template, &host.into(), place, &mut result);
                }
            }
            TargetSpec::Many(interval) => {
                if interval.steps() >= u128::from(self.max_targets) {
                    return Expansion::TooMany;
                }
                let count = usize::try_from(interval.steps()).unwrap_or(0) + 1;
                self.jobs.reserve(count);
                self.seen.reserve(count);
                let mut excluded = true;
                for ip in interval.addresses() {
                    if self.exclude.has_address(ip) || template.exclude.has_address(ip) {
                        continue;
                    }
                    excluded = false;
                    let text: Arc<str> = ip.to_string().into();
                    self.add(template, &text, Address::Ip(ip), None, place, &mut result);
                }
                if excluded {
                    return Expansion::Excluded;
                }
            }
        }
        result
    }

    /// Adds a device with a host name, or two where both families are wanted.
    fn add_host(
        &mut self,
        template: &Template,
        host: &Arc<str>,
        place: Place,
        result: &mut Expansion,
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
            self.add(template, host, address, *label, place, result);
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
        result: &mut Expansion,
    ) {
        let job = template.name(ip);
        match self.seen.entry((job.clone(), address.clone())) {
            Entry::Vacant(entry) => entry.insert(place),
            Entry::Occupied(first) => {
                if let Expansion::Repeated { count, .. } = result {
                    *count += 1;
                } else {
                    let device = format!("`{job}` at {ip}");
                    *result = Expansion::Repeated {
                        count: 1,
                        device,
                        first: *first.get(),
                    };
                }
                return;
            }
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
            probe_interval: template.probe_interval,
        });
    }
}
