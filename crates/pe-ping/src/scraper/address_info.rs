//! Which address a device's host name has now: the series `ping_address_info`.
//!
//! It is a series of its own, so that a new address changes no label of the others. Only devices with host names have it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pe_scrape::{Columns, Frame, FrameBuilder, LabelSet, MetricDescriptor, Target};

/// How long a name that is no longer measured is remembered.
const KEPT: Duration = Duration::from_secs(3600);

/// Names that are remembered before any of them is forgotten.
const FEW: usize = 1024;

/// The frames of all names, made when an address changes, not at each cycle.
pub(super) struct AddressInfo {
    columns: Arc<Columns>,
    known: Mutex<Known>,
}

struct Known {
    frames: HashMap<LabelSet, Shown>,
    /// How many there may be until old ones are looked for.
    limit: usize,
}

struct Shown {
    address: IpAddr,
    frame: Frame,
    used: Instant,
}

impl AddressInfo {
    pub(super) fn new() -> Self {
        let info = MetricDescriptor::gauge(
            "ping_address_info",
            "1, labelled with the address that the host name of the device has now",
        );
        Self {
            columns: Columns::new(&[info]).expect("the name is a literal, and a test builds it"),
            known: Mutex::new(Known {
                frames: HashMap::new(),
                limit: FEW,
            }),
        }
    }

    /// The frame that says where packets to a target go; `None` where the target has a label `address` of its own.
    pub(super) fn frame(&self, target: &Target, address: IpAddr) -> Option<Frame> {
        let now = Instant::now();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shown) = known.frames.get_mut(target.labels())
            && shown.address == address
        {
            shown.used = now;
            return Some(shown.frame.clone());
        }
        let own = target.labels().iter();
        let own = own.map(|label| (Arc::from(label.name()), Arc::from(label.value())));
        let text: Arc<str> = address.to_string().into();
        let labels = LabelSet::new(own.chain([(Arc::from("address"), text)])).ok()?;
        let frame = FrameBuilder::with_columns(self.columns.clone())
            .row(labels, &[1.0])
            .build();
        if known.frames.len() >= known.limit {
            known.frames.retain(|_, shown| now < shown.used + KEPT);
            known.limit = FEW.max(known.frames.len() * 2);
        }
        let shown = Shown {
            address,
            frame: frame.clone(),
            used: now,
        };
        known.frames.insert(target.labels().clone(), shown);
        Some(frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pe_scrape::Address;

    fn target(host: &str, extra: &[(&str, &str)]) -> Target {
        let address = Address::Name {
            host: host.into(),
            family: None,
        };
        let extra = extra.iter();
        let extra = extra.map(|(name, value)| (Arc::from(*name), Arc::from(*value)));
        Target::new("device", host, address, extra).unwrap()
    }

    fn shown(info: &AddressInfo, target: &Target, address: &str) -> Option<String> {
        let frame = info.frame(target, address.parse().unwrap())?;
        assert_eq!(frame.value(0, "ping_address_info"), Some(1.0));
        assert!(pe_scrape::refuse_frame(&frame, target, &[]).is_none());
        frame.rows()[0].get("address").map(ToOwned::to_owned)
    }

    #[test]
    fn the_latest_address_is_shown() {
        let info = AddressInfo::new();
        let router = target("router.test", &[("site", "x")]);
        for address in ["127.0.0.1", "127.0.0.1", "::1", "127.0.0.1"] {
            assert_eq!(shown(&info, &router, address).as_deref(), Some(address));
        }
        let own = target("own.test", &[("address", "x")]);
        assert_eq!(shown(&info, &own, "127.0.0.1"), None);
    }

    #[test]
    fn names_do_not_pile_up() {
        let info = AddressInfo::new();
        for n in 0..FEW * 3 {
            assert!(shown(&info, &target(&format!("n{n}.test"), &[]), "::1").is_some());
        }
        let known = info.known.lock().unwrap();
        assert!(known.limit >= known.frames.len(), "{}", known.limit);
    }
}
