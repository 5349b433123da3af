//! Which devices of two configurations are the same.

use std::collections::HashMap;
use std::sync::Arc;

use crate::config::{Address, Config, Family, GroupConfig, JobConfig};

/// What makes a device the same device after a reload: its group, its name, its address as configured
/// and, for a host name of which both addresses are measured, the family. Unique within a configuration.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceKey {
    /// Name of the group.
    pub prom_id: Arc<str>,
    /// Name of the device.
    pub device: Arc<str>,
    /// Address of the device, as configured.
    pub ip: Arc<str>,
    /// Family of a host name's address; [`Family::Any`] for an address.
    pub family: Family,
}

impl GroupConfig {
    /// The identity of one of the devices of this group.
    pub fn key_of(&self, job: &JobConfig) -> DeviceKey {
        DeviceKey {
            prom_id: self.prom_id.clone(),
            device: job.job.clone(),
            ip: job.ip.clone(),
            family: match job.address {
                Address::Ip(_) => Family::Any,
                Address::Name { family, .. } => family,
            },
        }
    }
}

/// What a reload changes for the devices.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    /// Devices that are new, in the order of the new configuration.
    pub added: Vec<DeviceKey>,
    /// Devices that are gone, in the order of the old configuration.
    pub removed: Vec<DeviceKey>,
    /// Devices of which labels, metrics, timeout or count are not what they were.
    pub changed: Vec<DeviceKey>,
    /// Number of devices that are as they were.
    pub unchanged: usize,
}

/// Compares the devices of two configurations.
///
/// ```
/// # use pe_config::{Config, changes};
/// let nothing = Config { push: None, groups: Vec::new() };
/// assert_eq!(changes(&nothing, &nothing).unchanged, 0);
/// ```
pub fn changes(old: &Config, new: &Config) -> Changes {
    let mut before: HashMap<DeviceKey, &JobConfig> = devices(old).collect();
    let mut changes = Changes::default();
    for (key, job) in devices(new) {
        match before.remove(&key) {
            None => changes.added.push(key),
            Some(former) if former == job => changes.unchanged += 1,
            Some(_) => changes.changed.push(key),
        }
    }
    changes.removed = devices(old)
        .map(|(key, _)| key)
        .filter(|key| before.contains_key(key))
        .collect();
    changes
}

fn devices(config: &Config) -> impl Iterator<Item = (DeviceKey, &JobConfig)> {
    config
        .groups
        .iter()
        .flat_map(|group| group.jobs.iter().map(move |job| (group.key_of(job), job)))
}
