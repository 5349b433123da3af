//! What is to be pinged: hosts, addresses, subnets and ranges, as configuration files write them.

use std::net::IpAddr;
use std::sync::Arc;

use futures_util::{StreamExt, stream};
use pe_ping::zone_index;
use pe_scrape::resolve::Resolve;
use pe_scrape::{Family, FamilyChoice, TargetSpec, check_address, parse_target};

use crate::failure::Failure;

/// More targets than this are refused: a slip of the finger in a prefix length should not sweep half the Internet.
const MOST: usize = 1 << 20;

/// Names that are resolved at one time.
const LOOKUPS: usize = 64;

/// One target: what to call it, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// The host name, where one was given.
    pub(super) host: Option<String>,
    pub(super) address: IpAddr,
    /// The link of a link-local address, where it was given, and the index of its interface.
    pub(super) zone: Option<(Arc<str>, u32)>,
}

impl Target {
    /// The address, with its zone.
    pub(super) fn place(&self) -> String {
        match &self.zone {
            Some((zone, _)) => format!("{}%{zone}", self.address),
            None => self.address.to_string(),
        }
    }

    /// What it was called: the host name, or the address.
    pub(super) fn name(&self) -> String {
        self.host.clone().unwrap_or_else(|| self.place())
    }

    /// `name (address)`, or the address alone.
    pub(super) fn label(&self) -> String {
        match &self.host {
            Some(host) => format!("{host} ({})", self.address),
            None => self.place(),
        }
    }

    /// The index of the link's interface; 0 where none was given.
    pub(super) fn scope(&self) -> u32 {
        self.zone.as_ref().map_or(0, |(_, index)| *index)
    }
}

/// The targets that can be pinged, in the order in which they were given, and what is wrong with the others.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Targets {
    pub(super) good: Vec<Target>,
    pub(super) problems: Vec<String>,
}

/// Reads the words of the command line, expands subnets and ranges, and resolves names.
///
/// # Errors
/// When there are more than [`MOST`] targets, or none.
pub(super) async fn expand(
    words: &[String],
    family: FamilyChoice,
    resolver: &dyn Resolve,
) -> Result<Targets, Failure> {
    let mut targets = Targets::default();
    let mut expanded = stream::iter(words)
        .map(|word| expand_word(word, family, resolver))
        .buffered(LOOKUPS);
    while let Some(result) = expanded.next().await {
        match result {
            Ok(more) if targets.good.len() + more.len() > MOST => {
                return Err(Failure::new(format!("these are more than {MOST} targets")));
            }
            Ok(more) => targets.good.extend(more),
            Err(problem) => targets.problems.push(problem),
        }
    }
    let admitted = |target: &Target| family.admits(Family::of(target.address));
    targets.good.retain(admitted);
    if targets.good.is_empty() && targets.problems.is_empty() {
        return Err(Failure::new(
            "no target is left of the wanted address family",
        ));
    }
    Ok(targets)
}

async fn expand_word(
    word: &str,
    family: FamilyChoice,
    resolver: &dyn Resolve,
) -> Result<Vec<Target>, String> {
    let by_address = |address| Target {
        host: None,
        address,
        zone: None,
    };
    match parse_target(word).map_err(|error| error.to_string())? {
        TargetSpec::Zoned(_, ip, zone) => {
            let index = zone_index(&zone);
            let index = index.ok_or_else(|| format!("`{word}`: there is no interface {zone}"))?;
            Ok(vec![Target {
                zone: Some((zone, index)),
                ..by_address(ip.into())
            }])
        }
        TargetSpec::Ip(_, address) => Ok(vec![by_address(address)]),
        TargetSpec::Many(interval) if interval.steps() >= MOST as u128 => Err(format!(
            "`{word}` has more than {MOST} addresses (ping smaller parts of it)"
        )),
        TargetSpec::Many(interval) => Ok(interval.addresses().map(by_address).collect()),
        TargetSpec::Host(host) => {
            let resolved = resolver.resolve(&host, family.only()).await;
            let address = resolved.map_err(|error| error.to_string())?;
            let address = check_address(address)
                .map_err(|why| format!("{host} has the address {address}, which is {why}"))?;
            Ok(vec![Target {
                host: Some(host),
                address,
                zone: None,
            }])
        }
    }
}

#[cfg(test)]
mod tests {
    use pe_scrape::async_trait;
    use pe_scrape::resolve::ResolveError;

    use super::*;

    /// Knows one host.
    struct Hosts;

    #[async_trait]
    impl Resolve for Hosts {
        async fn resolve(
            &self,
            host: &str,
            family: Option<Family>,
        ) -> Result<IpAddr, ResolveError> {
            match host {
                "router" => Ok(match family {
                    Some(Family::V6) => "::1".parse().unwrap(),
                    _ => "127.0.0.9".parse().unwrap(),
                }),
                "everybody" => Ok("224.0.0.1".parse().unwrap()),
                "nowhere" => Ok("::".parse().unwrap()),
                _ => Err(ResolveError::new(host, "there is no such name")),
            }
        }
    }

    async fn expanded(words: &[&str], family: FamilyChoice) -> Result<Targets, String> {
        let words: Vec<String> = words.iter().map(ToString::to_string).collect();
        expand(&words, family, &Hosts)
            .await
            .map_err(|error| error.to_string())
    }

    async fn labels(words: &[&str], family: FamilyChoice) -> Vec<String> {
        let targets = expanded(words, family).await.unwrap();
        assert_eq!(targets.problems, [""; 0]);
        targets.good.iter().map(Target::label).collect()
    }

    #[tokio::test]
    async fn targets_are_written_as_in_files() {
        let words = [
            "127.0.0.8/30",
            "::1",
            "127.0.0.1:80",
            "127.0.0.3-127.0.0.4",
            "router",
            "::1",
        ];
        let expected = [
            "127.0.0.9",
            "127.0.0.10",
            "::1",
            "127.0.0.1",
            "127.0.0.3",
            "127.0.0.4",
            "router (127.0.0.9)",
            "::1",
        ];
        assert_eq!(labels(&words, FamilyChoice::Any).await, expected);
        assert_eq!(
            labels(&["127.0.0.8/30", "::1", "router"], FamilyChoice::V6).await,
            ["::1", "router (::1)"]
        );
    }

    #[tokio::test]
    async fn bad_targets_leave_the_good_ones() {
        let words = [
            "127.0.0.1/33",
            "127.0.0.2",
            "224.0.0.1",
            "0.0.0.0",
            "nobody",
            "10.0.0.0/8",
            "10.0.0.9-10.0.0.1",
            "everybody",
            "nowhere",
            "::ffff:224.0.0.1-::ffff:224.0.0.2",
            "fe80::1%no-such-link",
        ];
        let targets = expanded(&words, FamilyChoice::Any).await.unwrap();
        let good: Vec<String> = targets.good.iter().map(Target::label).collect();
        assert_eq!(good, ["127.0.0.2"]);
        let expected = [
            "is not a subnet",
            "multicast",
            "the unspecified address",
            "cannot resolve nobody: there is no such name",
            "more than 1048576 addresses",
            "its end is below its beginning",
            "224.0.0.1, which is a multicast address",
            "which is the unspecified address",
            "includes a multicast address",
            "there is no interface no-such-link",
        ];
        assert_eq!(targets.problems.len(), expected.len());
        for (problem, expected) in targets.problems.iter().zip(expected) {
            assert!(problem.contains(expected), "{problem}: {expected}");
        }
    }

    #[tokio::test]
    async fn no_target_and_too_many_are_refused() {
        let none = expanded(&["127.0.0.1"], FamilyChoice::V6)
            .await
            .unwrap_err();
        assert!(none.contains("no target is left"), "{none}");
        let many = expanded(&["127.0.0.0/12", "127.16.0.0/12"], FamilyChoice::Any)
            .await
            .unwrap_err();
        assert!(many.contains("more than 1048576 targets"), "{many}");
        let exactly = expanded(
            &["127.0.0.0/12", "127.16.0.1", "127.16.0.2"],
            FamilyChoice::Any,
        );
        assert_eq!(exactly.await.unwrap().good.len(), MOST);
    }
}
