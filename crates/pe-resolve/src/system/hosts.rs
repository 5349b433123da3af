//! The hosts file, hosts(5). No I/O.

use std::collections::HashMap;
use std::net::IpAddr;

use pe_scrape::Family;

/// The names of a hosts file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Hosts {
    /// In lower case, without a dot at the end.
    names: HashMap<String, Vec<IpAddr>>,
}

impl Hosts {
    /// Reads an address and its names from each line. A comment starts with `#`; what makes no sense is left out, as the
    /// system does.
    pub(crate) fn parse(text: &[u8]) -> Self {
        let mut hosts = Self::default();
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        for line in text.split(|byte| *byte == b'\n') {
            // Bytes that are no text may stand in a comment.
            let line = line.split(|byte| *byte == b'#').next().unwrap_or_default();
            let Ok(line) = std::str::from_utf8(line) else {
                continue;
            };
            let mut words = line.split_ascii_whitespace();
            let Some(Ok(address)) = words.next().map(str::parse::<IpAddr>) else {
                continue;
            };
            for name in words {
                let addresses = hosts.names.entry(key(name)).or_default();
                if !addresses.contains(&address) {
                    addresses.push(address);
                }
            }
        }
        hosts
    }

    /// The addresses of a name, in the order of the file; empty where it is not there.
    pub(crate) fn addresses(&self, host: &str, family: Family) -> Vec<IpAddr> {
        let found = self.names.get(&key(host)).map_or(&[][..], Vec::as_slice);
        let found = found.iter().copied();
        found
            .filter(|address| Family::of(*address) == family)
            .collect()
    }
}

fn key(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(hosts: &Hosts, host: &str, family: Family) -> Vec<String> {
        let addresses = hosts.addresses(host, family);
        addresses.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn all_forms_of_lines_are_read() {
        let text = b"\xef\xbb\xbf127.0.0.1\tlocalhost loopback # this machine\r\n\
            # 127.0.0.2 commented\n\
            \n   ::5   Six.Lab  six\r\n127.0.0.9 six.lab.#x\n127.0.0.3 twice\n127.0.0.4 twice\n127.0.0.3 twice\n\
            127.0.0.7 dev_7.lab\n127.0.0.300 bad\nnonsense\n127.0.0.8\n# \xff\n127.0.0.6 last";
        let hosts = Hosts::parse(text);
        for (host, family, expected) in [
            ("localhost", Family::V4, &["127.0.0.1"][..]),
            ("LOOPBACK", Family::V4, &["127.0.0.1"]),
            ("localhost", Family::V6, &[]),
            ("commented", Family::V4, &[]),
            ("six.lab", Family::V6, &["::5"]),
            ("six.lab.", Family::V4, &["127.0.0.9"]),
            ("twice", Family::V4, &["127.0.0.3", "127.0.0.4"]),
            ("dev_7.lab", Family::V4, &["127.0.0.7"]),
            ("bad", Family::V4, &[]),
            ("last", Family::V4, &["127.0.0.6"]),
        ] {
            assert_eq!(found(&hosts, host, family), expected, "{host}");
        }
    }
}
