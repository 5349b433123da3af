//! What is measured.

use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::sync::{Arc, LazyLock};

use crate::group::{Exclusions, Unfit, check_address};
use crate::{Address, Label, LabelError, LabelSet, Labels};

/// One device to measure: where it is, and the labels of its series. Cloning is cheap.
///
/// The labels always start with `device` (the name given to it) and `ip` (the address as configured).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    address: Address,
    labels: LabelSet,
    /// What a host name must not resolve to, for the whole group and for the device; `None` where nothing is left out.
    exclude: Option<Arc<[Arc<Exclusions>; 2]>>,
}

impl Hash for Target {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // Equal targets have equal hashes; what is left out need not tell them apart.
        self.address.hash(state);
        self.labels.hash(state);
    }
}

static DEVICE: LazyLock<Arc<str>> = LazyLock::new(|| "device".into());
static IP: LazyLock<Arc<str>> = LazyLock::new(|| "ip".into());
static FAMILY: LazyLock<Arc<str>> = LazyLock::new(|| "family".into());

impl Target {
    /// A target whose series carry `device` and `ip`, followed by `extra`.
    ///
    /// `ip` is the address as the user wrote it, which for a host name differs from where packets go.
    ///
    /// # Errors
    /// [`LabelError`] when `extra` holds a name that Prometheus refuses, `device`, `ip`, or the same name twice.
    pub fn new(
        device: impl Into<Arc<str>>,
        ip: impl Into<Arc<str>>,
        address: Address,
        extra: impl IntoIterator<Item = (Arc<str>, Arc<str>)>,
    ) -> Result<Self, LabelError> {
        let own = [(DEVICE.clone(), device.into()), (IP.clone(), ip.into())];
        let extra = extra.into_iter();
        let labels = match extra.size_hint() {
            (_, Some(0)) => LabelSet::known(own),
            _ => LabelSet::new(own.into_iter().chain(extra))?,
        };
        Ok(Self {
            address,
            labels,
            exclude: None,
        })
    }

    /// A target known by its address alone: the address is also its name. For ad-hoc use.
    #[must_use]
    pub fn from_ip(address: IpAddr) -> Self {
        let text: Arc<str> = address.to_string().into();
        Self::new(text.clone(), text, Address::Ip(address), [])
            .expect("device and ip are valid, distinct label names")
    }

    /// A device with configured labels, and perhaps with one that tells it from its other address family.
    pub(crate) fn configured(
        name: Arc<str>,
        ip: Arc<str>,
        address: Address,
        labels: &Labels,
        family: Option<&'static str>,
    ) -> Result<Self, LabelError> {
        let configured = labels.iter();
        let configured = configured.map(|(name, value)| (name.clone(), value.clone()));
        let family = family.map(|word| (FAMILY.clone(), word.into()));
        Self::new(name, ip, address, configured.chain(family))
    }

    /// Sets what its host name must not resolve to.
    pub(crate) fn exclude(&mut self, exclude: [Arc<Exclusions>; 2]) {
        let is_needed = exclude.iter().any(|exclusions| !exclusions.is_empty());
        self.exclude = is_needed.then(|| Arc::new(exclude));
    }

    /// Checks the address that its host name has now, before anything is sent there. Returns it in canonical form: what an
    /// IPv6 address maps is IPv4.
    ///
    /// # Errors
    /// [`Unfit`] when it is not the address of one device, or is left out by the configuration.
    pub fn check_address(&self, ip: IpAddr) -> Result<IpAddr, Unfit> {
        let ip = check_address(ip)?;
        let mut exclude = self.exclude.iter().flat_map(|exclude| exclude.iter());
        match exclude.any(|exclusions| exclusions.has_address(ip)) {
            true => Err(Unfit::Excluded),
            false => Ok(ip),
        }
    }

    /// What makes it the same device after a reload: its name, its address as configured and, for a host name of which
    /// both addresses are measured, the family.
    #[must_use]
    pub fn identity(&self) -> (&str, &str, Option<&str>) {
        (self.device(), self.ip(), self.labels.get("family"))
    }

    /// Labels beside `device` and `ip`.
    pub fn further_labels(&self) -> impl Iterator<Item = &Label> {
        self.labels.iter().skip(2)
    }

    /// Where the target is.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The labels of all its series.
    #[must_use]
    pub fn labels(&self) -> &LabelSet {
        &self.labels
    }

    /// The name given to the device, the value of the label `device`.
    #[must_use]
    pub fn device(&self) -> &str {
        self.labels.get("device").unwrap_or_default()
    }

    /// The address as configured, the value of the label `ip`.
    #[must_use]
    pub fn ip(&self) -> &str {
        self.labels.get("ip").unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_and_ip_come_first_and_cannot_be_overridden() {
        let address = Address::Ip([127, 0, 0, 1].into());
        let target = Target::new(
            "Plant A/1",
            "127.0.0.1",
            address.clone(),
            [("site".into(), "x".into())],
        )
        .unwrap();
        assert_eq!((target.device(), target.ip()), ("Plant A/1", "127.0.0.1"));
        let names: Vec<_> = target
            .labels()
            .iter()
            .map(|label| label.name().to_owned())
            .collect();
        assert_eq!(names, ["device", "ip", "site"]);
        let clash = Target::new("a", "127.0.0.1", address, [("ip".into(), "x".into())]);
        assert_eq!(clash, Err(LabelError::Duplicate("ip".into())));
    }
}
