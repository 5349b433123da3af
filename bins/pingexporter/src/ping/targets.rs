//! What `pingexporter ping` is to ping: hosts, addresses and subnets.

use std::net::IpAddr;

use ipnet::IpNet;
use pe_scrape::FamilyChoice;

use crate::load::Failure;

/// More targets than this are refused: a slip of the finger in a prefix length should not sweep half the Internet.
const MOST: usize = 1 << 20;

/// One target: what to call it, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// The host name, where one was given.
    pub(crate) host: Option<String>,
    pub(crate) address: IpAddr,
}

impl Target {
    /// `name (address)`, or the address alone.
    pub(crate) fn label(&self) -> String {
        match &self.host {
            Some(host) => format!("{host} ({})", self.address),
            None => self.address.to_string(),
        }
    }
}

/// Expands subnets and resolves names.
pub(crate) async fn expand(words: &[String], family: FamilyChoice) -> Result<Vec<Target>, Failure> {
    let mut targets = Vec::new();
    for word in words {
        if let Ok(address) = word.parse::<IpAddr>() {
            targets.push(Target {
                host: None,
                address,
            });
        } else if word.contains('/') {
            let subnet: IpNet = word.parse().map_err(|_| {
                usage(format!(
                    "{word:?} is not a subnet such as 192.0.2.0/24 or 2001:db8::/120"
                ))
            })?;
            let bits = u32::from(subnet.max_prefix_len() - subnet.prefix_len());
            if bits > MOST.ilog2() {
                return Err(usage(format!(
                    "{word} has more than {MOST} addresses; ping smaller parts of it"
                )));
            }
            targets.extend(subnet.hosts().map(|address| Target {
                host: None,
                address,
            }));
        } else {
            targets.push(resolve(word, family).await?);
        }
        if targets.len() > MOST {
            return Err(usage(format!("these are more than {MOST} targets")));
        }
    }
    targets.retain(|target| family.admits(target.address));
    if targets.is_empty() {
        return Err(usage(
            "no target is left of the wanted address family".to_owned(),
        ));
    }
    Ok(targets)
}

async fn resolve(host: &str, family: FamilyChoice) -> Result<Target, Failure> {
    let failed = |why: String| usage(format!("cannot resolve {host:?}: {why}"));
    let addresses = tokio::net::lookup_host((host, 0))
        .await
        .map_err(|error| failed(error.to_string()))?;
    let address = addresses
        .map(|address| address.ip())
        .find(|address| family.admits(*address));
    let address =
        address.ok_or_else(|| failed("it has no address of the wanted family".to_owned()))?;
    Ok(Target {
        host: Some(host.to_owned()),
        address,
    })
}

fn usage(message: String) -> Failure {
    Failure::Target(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn expand_text(words: &[&str], family: FamilyChoice) -> Result<Vec<String>, String> {
        let words: Vec<String> = words.iter().map(ToString::to_string).collect();
        let targets = expand(&words, family)
            .await
            .map_err(|error| error.to_string())?;
        Ok(targets.iter().map(Target::label).collect())
    }

    #[tokio::test]
    async fn subnets_give_their_hosts_and_bad_words_are_told() {
        let hosts = expand_text(&["127.0.0.8/30", "::1", "127.0.0.1"], FamilyChoice::Any)
            .await
            .unwrap();
        assert_eq!(hosts, ["127.0.0.9", "127.0.0.10", "::1", "127.0.0.1"]);
        let six = expand_text(&["127.0.0.8/30", "::1"], FamilyChoice::V6)
            .await
            .unwrap();
        assert_eq!(six, ["::1"]);
        let slip = expand_text(&["10.0.0.0/8"], FamilyChoice::Any)
            .await
            .unwrap_err();
        assert!(slip.contains("more than 1048576 addresses"), "{slip}");
        let bad = expand_text(&["127.0.0.1/33"], FamilyChoice::Any)
            .await
            .unwrap_err();
        assert!(bad.contains("is not a subnet"), "{bad}");
        let none = expand_text(&["127.0.0.1"], FamilyChoice::V6)
            .await
            .unwrap_err();
        assert!(none.contains("no target is left"), "{none}");
    }
}
