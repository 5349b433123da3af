//! From an address, host name, subnet or range to devices.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;

use hashbrown::HashTable;

use super::exclusions::Exclusions;
use super::{Device, ScraperConfig, TargetSpec};
use crate::{Address, Family, FamilyChoice, Labels, Target};

/// What stands for the address in the name of a device.
pub const IP_PLACEHOLDER: &str = "{ip}";

/// What the devices of one entry have in common.
#[derive(Debug, Clone)]
pub struct Template {
    /// Their name, perhaps with [`IP_PLACEHOLDER`] in it.
    pub name: Arc<str>,
    /// Which addresses of a host name are measured.
    pub family: FamilyChoice,
    /// What they may not be.
    pub exclude: Arc<Exclusions>,
    /// Their labels, beside `device` and `ip`.
    pub labels: Labels,
    /// What is measured there.
    pub scrapers: Arc<[ScraperConfig]>,
}

impl Template {
    /// The name of the device at `ip`.
    fn name(&self, ip: &Arc<str>) -> Arc<str> {
        let Some((before, mut behind)) = self.name.split_once(IP_PLACEHOLDER) else {
            return self.name.clone();
        };
        if before.is_empty() && behind.is_empty() {
            return ip.clone();
        }
        let mut name = [before, &**ip].concat();
        while let Some((before, rest)) = behind.split_once(IP_PLACEHOLDER) {
            name.extend([before, &**ip]);
            behind = rest;
        }
        name.push_str(behind);
        name.into()
    }
}

/// What became of an address, host name, subnet or range.
#[derive(Debug, PartialEq, Eq)]
pub enum Expansion<P> {
    /// Its devices were added.
    Added,
    /// Its devices were added, but for those that were there already.
    Repeated {
        /// How many were there already.
        count: usize,
        /// The first of them, as messages show it.
        device: String,
        /// Where that was written first.
        first: P,
    },
    /// None of its addresses may be measured.
    Excluded,
    /// It stands for too many addresses.
    TooMany,
}

/// The devices of one group, each of them once. `P` is a place, for messages.
#[derive(Debug)]
pub struct DeviceList<P> {
    max_targets: u64,
    exclude: Arc<Exclusions>,
    devices: Vec<Device>,
    /// Where each of them was written.
    places: Vec<P>,
    /// By name and address, which stand in `devices` only: a table of keys of its own would cost more than these.
    known: HashTable<Known>,
    hashes: RandomState,
}

#[derive(Debug)]
struct Known {
    /// Of name and address.
    hash: u64,
    /// Position in `devices`.
    at: usize,
}

impl<P: Copy> DeviceList<P> {
    /// No devices yet. A subnet or range may stand for `max_targets` addresses, and none may be one of `exclude`.
    #[must_use]
    pub fn new(max_targets: u64, exclude: Exclusions) -> Self {
        Self {
            max_targets,
            exclude: Arc::new(exclude),
            devices: Vec::new(),
            places: Vec::new(),
            known: HashTable::new(),
            hashes: RandomState::new(),
        }
    }

    /// The devices, in the order in which they were added.
    #[must_use]
    pub fn into_devices(mut self) -> Vec<Device> {
        self.devices.shrink_to_fit();
        self.devices
    }

    /// Adds the devices of `spec`, which was written at `place`.
    pub fn expand(&mut self, template: &Template, spec: &TargetSpec, place: P) -> Expansion<P> {
        let mut result = Expansion::Added;
        match spec {
            TargetSpec::Ip(text, ip) => {
                if !self.exclude.has_address(*ip) && !template.exclude.has_address(*ip) {
                    let text = text.as_str().into();
                    self.add(template, &text, Address::Ip(*ip), None, place, &mut result);
                }
            }
            TargetSpec::Zoned(text, ip, zone) => {
                let address = IpAddr::V6(*ip);
                if !self.exclude.has_address(address) && !template.exclude.has_address(address) {
                    let text = text.as_str().into();
                    let address = Address::Zoned {
                        ip: *ip,
                        zone: zone.clone(),
                    };
                    self.add(template, &text, address, None, place, &mut result);
                }
            }
            TargetSpec::Host(host) => {
                if !self.exclude.has_host(host) && !template.exclude.has_host(host) {
                    self.add_host(template, &host.as_str().into(), place, &mut result);
                }
            }
            TargetSpec::Many(interval) => {
                if interval.steps() >= u128::from(self.max_targets) {
                    return Expansion::TooMany;
                }
                let count = usize::try_from(interval.steps()).unwrap_or(0) + 1;
                self.devices.reserve(count);
                self.places.reserve(count);
                self.known.reserve(count, |known| known.hash);
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
        place: P,
        result: &mut Expansion<P>,
    ) {
        let families: &[(Option<Family>, Option<&'static str>)] = match template.family {
            FamilyChoice::Both => &[(Some(Family::V4), Some("4")), (Some(Family::V6), Some("6"))],
            choice => &[(choice.only(), None)],
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
        family: Option<&'static str>,
        place: P,
        result: &mut Expansion<P>,
    ) {
        let name = template.name(ip);
        let hash = self.hashes.hash_one((&*name, &address));
        let first = self.known.find(hash, |known| {
            let target = &self.devices[known.at].target;
            *target.address() == address && target.device() == &*name
        });
        if let Some(first) = first {
            if let Expansion::Repeated { count, .. } = result {
                *count += 1;
            } else {
                *result = Expansion::Repeated {
                    count: 1,
                    device: format!("`{name}` at {ip}"),
                    first: self.places[first.at],
                };
            }
            return;
        }
        // Labels were checked when they were read; a name that cannot be one was reported then.
        let is_name = matches!(address, Address::Name { .. });
        let target = Target::configured(name, ip.clone(), address, &template.labels, family);
        if let Ok(mut target) = target {
            if is_name {
                // A literal address was checked above; a name may come to mean any address.
                target.exclude([&self.exclude, &template.exclude].map(Arc::clone));
            }
            let known = Known {
                hash,
                at: self.devices.len(),
            };
            self.known.insert_unique(hash, known, |known| known.hash);
            self.places.push(place);
            self.devices.push(Device {
                target,
                scrapers: template.scrapers.clone(),
            });
        }
    }
}
