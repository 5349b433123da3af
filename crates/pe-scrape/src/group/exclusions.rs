//! What is measured on no account.

use std::collections::HashSet;
use std::net::IpAddr;

use super::spec::{Exclusion, Interval};

/// Addresses and host names that are left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exclusions {
    /// Sorted, without overlaps.
    intervals: Vec<Interval>,
    /// In lower case.
    hosts: HashSet<String>,
}

impl Exclusions {
    /// Whether nothing is left out.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.intervals.is_empty() && self.hosts.is_empty()
    }

    /// Whether the address `ip` is left out. An IPv4-mapped address is the IPv4 one.
    pub(crate) fn has_address(&self, ip: IpAddr) -> bool {
        if self.intervals.is_empty() {
            return false;
        }
        let ip = ip.to_canonical();
        let address = Interval::single(ip);
        let after = self
            .intervals
            .partition_point(|interval| *interval <= address);
        // The one that starts before `ip`, or at it with a later end.
        self.intervals[..after]
            .last()
            .is_some_and(|interval| interval.contains(ip))
            || self
                .intervals
                .get(after)
                .is_some_and(|interval| interval.contains(ip))
    }

    /// Whether the host name is left out.
    pub(crate) fn has_host(&self, name: &str) -> bool {
        !self.hosts.is_empty() && self.hosts.contains(&name.to_lowercase())
    }
}

impl FromIterator<Exclusion> for Exclusions {
    fn from_iter<I: IntoIterator<Item = Exclusion>>(entries: I) -> Self {
        let mut exclusions = Self::default();
        for entry in entries {
            match entry {
                Exclusion::Addresses(interval) => exclusions.intervals.push(interval),
                Exclusion::Host(host) => {
                    exclusions.hosts.insert(host.to_lowercase());
                }
            }
        }
        exclusions.intervals.sort();
        exclusions
            .intervals
            .dedup_by(|later, earlier| earlier.absorb(later));
        exclusions
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;
    use crate::group::parse_exclusion;

    #[test]
    fn host_names_match_in_any_case() {
        let exclusions: Exclusions = [Exclusion::Host("Router.example".to_owned())]
            .into_iter()
            .collect();
        assert!(exclusions.has_host("router.EXAMPLE"));
        assert!(!exclusions.has_host("router"));
    }

    proptest! {
        #[test]
        fn merged_intervals_hold_what_the_single_ones_hold(
            ends in prop::collection::vec((any::<u8>(), any::<u8>()), 0..12),
            asked in any::<u8>(),
        ) {
            let ip = |last: u8| IpAddr::V4(Ipv4Addr::new(10, 0, 0, last));
            let asked = ip(asked);
            let intervals: Vec<Interval> =
                ends.iter().filter_map(|(first, last)| Interval::new(ip(*first), ip(*last))).collect();
            let exclusions: Exclusions =
                intervals.iter().map(|interval| Exclusion::Addresses(*interval)).collect();
            let expected = intervals.iter().any(|interval| interval.contains(asked));
            prop_assert_eq!(exclusions.has_address(asked), expected);
        }
    }

    #[test]
    fn families_are_kept_apart() {
        let exclusions: Exclusions = ["0.0.0.0/0", "::5"]
            .iter()
            .map(|text| parse_exclusion(text).unwrap())
            .collect();
        assert!(exclusions.has_address("255.255.255.255".parse().unwrap()));
        assert!(exclusions.has_address("::5".parse().unwrap()));
        assert!(!exclusions.has_address("::4".parse().unwrap()));
    }
}
